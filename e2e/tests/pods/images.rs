//! What pods take from their images, and what keeps the images.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::restart::kill_server;
use crate::{code, create, output_of, ready};

pub(crate) const CASES: [Case; 1] = [("an image's user, directory, volumes and command", defaults)];

/// The image that is made here.
const OWN: &str = "xebec.local/defaults:1";

fn defaults(cluster: &Cluster) -> Result<()> {
    let archive = cluster.path("defaults.tar");
    make_image(cluster, &archive, OWN)?;
    cluster.xebec(&["image", "import", &archive.display().to_string()])?;
    let container = json!({
        "name": "main", "image": OWN, "securityContext": {"readOnlyRootFilesystem": true},
    });
    let text = output_of(cluster, "image-defaults", json!({"containers": [container]}))?;
    let want =
        "web 1234 4321\n/srv/app\nfrom the image\nwritten\ntouch: /srv/app/x: Read-only file system\nblue\n";
    ensure!(text == want, "{text:?} is not {want:?}");
    let named = json!({"name": "main", "image": OWN, "securityContext": {"runAsNonRoot": true}});
    create(cluster, "image-user", json!({"containers": [named]}))?;
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    crate::field(cluster, "image-user", reason, "CreateContainerConfigError")?;
    let status = crate::status(cluster, "image-user", "main")?;
    ensure!(status.to_string().contains("non-numeric user (web)"), "{status}");
    Ok(())
}

/// The layers of an image that a container runs stay when the image is removed, even for a server that has only found
/// the container.
pub(crate) fn held_layers(cluster: &Cluster) -> Result<()> {
    const HELD: &str = "xebec.local/held:1";
    let archive = cluster.path("held.tar");
    make_image(cluster, &archive, HELD)?;
    let bring_and_remove = || -> Result<()> {
        cluster.xebec(&["image", "import", &archive.display().to_string()])?;
        cluster.xebec(&["image", "rm", HELD]).map(drop)
    };
    cluster.xebec(&["image", "import", &archive.display().to_string()])?;
    let container = json!({"name": "main", "image": HELD, "args": ["sleep 1000"]});
    create(cluster, "held", json!({"containers": [container]}))?;
    ready(cluster, "held")?;
    cluster.xebec(&["image", "rm", HELD])?;
    let read = |path: &str| cluster.kubectl(&["exec", "held", "--", "cat", path]);
    ensure!(read("/data/f")? == "from the image\n", "a file of the image is gone");
    kill_server(cluster)?;
    eventually(PATIENCE, || read("/etc/hostname"))?;
    bring_and_remove()?;
    ensure!(read("/srv/app/later")? == "another file\n", "a file of the image is gone after a restart");
    Ok(())
}

/// The image of the other cases with one more layer and a configuration of its own.
fn make_image(cluster: &Cluster, archive: &Path, name: &str) -> Result<()> {
    let dir = archive.with_extension("image");
    let layer = archive.with_extension("layer");
    for made in [dir.clone(), layer.join("etc"), layer.join("srv/app"), layer.join("data")] {
        std::fs::create_dir_all(made)?;
    }
    let tar = |arguments: &[&str], directory: &Path| -> Result<()> {
        code(Command::new("tar").arg("-C").arg(directory).args(arguments), 0).map(drop)
    };
    tar(&["-xf", &cluster.path("image.tar").display().to_string()], &dir)?;
    let passwd = "root:x:0:0:root:/:/bin/sh\nweb:x:1234:4321::/srv/app:/bin/sh\n";
    std::fs::write(layer.join("etc/passwd"), passwd)?;
    std::fs::write(layer.join("data/f"), "from the image\n")?;
    std::fs::write(layer.join("srv/app/later"), "another file\n")?;
    std::fs::write(layer.join("etc/name"), name)?;
    let packed = archive.with_extension("packed").display().to_string();
    tar(&["--owner=1234", "--group=4321", "-cf", &packed, "etc", "srv", "data"], &layer)?;
    let (layer, size) = put(&dir, &std::fs::read(&packed)?)?;

    let mut index: Value = serde_json::from_slice(&std::fs::read(dir.join("index.json"))?)?;
    let mut manifest = blob(&dir, &index["manifests"][0]["digest"])?;
    let mut config = blob(&dir, &manifest["config"]["digest"])?;
    let script = "echo $(id -un) $(id -u) $(id -g); pwd; cat /data/f; echo written > /data/g && cat /data/g; \
                  touch /srv/app/x 2>&1; echo $COLOUR";
    config["config"] = json!({
        "User": "web", "WorkingDir": "/srv/app", "Volumes": {"/data": {}}, "Entrypoint": ["sh", "-c"], "Cmd": [script],
        "Env": ["PATH=/bin", "COLOUR=blue"],
    });
    if let Some(layers) = config["rootfs"]["diff_ids"].as_array_mut() {
        layers.push(layer.clone().into());
    }
    if let Some(layers) = manifest["layers"].as_array_mut() {
        let kind = layers[0]["mediaType"].clone();
        layers.push(json!({"mediaType": kind, "digest": layer, "size": size}));
    }
    let (digest, size) = put(&dir, config.to_string().as_bytes())?;
    manifest["config"]["digest"] = digest.into();
    manifest["config"]["size"] = size.into();
    let (digest, size) = put(&dir, manifest.to_string().as_bytes())?;
    let entry = &mut index["manifests"][0];
    entry["digest"] = digest.into();
    entry["size"] = size.into();
    entry["annotations"] = json!({"io.containerd.image.name": name});
    std::fs::write(dir.join("index.json"), index.to_string())?;
    tar(&["-cf", &archive.display().to_string(), "oci-layout", "index.json", "blobs"], &dir)
}

fn blob(dir: &Path, digest: &Value) -> Result<Value> {
    let name = digest.as_str().context("a digest")?.replace(':', "/");
    Ok(serde_json::from_slice(&std::fs::read(dir.join("blobs").join(name))?)?)
}

/// Adds a blob; its digest and size.
fn put(dir: &Path, bytes: &[u8]) -> Result<(String, usize)> {
    let fresh = dir.join("fresh");
    std::fs::write(&fresh, bytes)?;
    let sum = code(Command::new("sha256sum").arg(&fresh), 0)?;
    let hex = sum.split_whitespace().next().context("a sum")?;
    std::fs::rename(&fresh, dir.join("blobs/sha256").join(hex))?;
    Ok((format!("sha256:{hex}"), bytes.len()))
}

//! The demonstration's image: Debian's static busybox with a link per applet, as an OCI archive.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

const BUSYBOX: &str = "/bin/busybox";

/// Writes the archive of an image called `name`.
///
/// # Errors
/// Busybox is missing, or the archive cannot be written.
pub(crate) fn write(path: &Path, name: &str) -> Result<()> {
    let layer = layer()?;
    let diff = digest(&layer);
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff]}
    }))?;
    let blob =
        |media: &str, bytes: &[u8]| json!({"mediaType": media, "digest": digest(bytes), "size": bytes.len()});
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)]
    }))?;
    let mut entry = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;
    let mut archive =
        Builder::new(fs::File::create(path).with_context(|| format!("writing {}", path.display()))?);
    file(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    file(&mut archive, "index.json", &index, 0o644)?;
    for bytes in [&config, &manifest, &layer] {
        file(&mut archive, &format!("blobs/{}", digest(bytes).replace(':', "/")), bytes, 0o644)?;
    }
    archive.finish()?;
    Ok(())
}

fn layer() -> Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX}"))?;
    let applets = Command::new(BUSYBOX).arg("--list").output().context("asking busybox for its applets")?;
    let applets = String::from_utf8(applets.stdout).context("the names of busybox's applets")?;
    let mut tar = Builder::new(Vec::new());
    for (name, mode) in [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("www", 0o755)] {
        append(&mut tar, name, EntryType::Directory, &[], mode)?;
    }
    file(&mut tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644)?;
    file(&mut tar, "bin/busybox", &busybox, 0o755)?;
    for applet in applets.lines().filter(|a| *a != "busybox") {
        let mut header = header(EntryType::Symlink, 0, 0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

fn header(kind: EntryType, size: usize, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

fn append<W: std::io::Write>(
    tar: &mut Builder<W>,
    name: &str,
    kind: EntryType,
    bytes: &[u8],
    mode: u32,
) -> Result<()> {
    Ok(tar.append_data(&mut header(kind, bytes.len(), mode), name, bytes)?)
}

fn file<W: std::io::Write>(tar: &mut Builder<W>, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    append(tar, name, EntryType::Regular, bytes, mode)
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

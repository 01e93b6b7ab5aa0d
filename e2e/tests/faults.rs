//! What can go wrong on a machine: each says what it is, and loses nothing.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xebec_e2e::load::Target;
use xebec_e2e::registry::Registry;
use xebec_e2e::{Case, Cluster, PATIENCE, eventually, is_root, succeed};

const CASES: [Case; 9] = [
    ("a second cluster on the same data or port is refused", taken),
    ("data of a newer version is refused", newer_data),
    ("a user without subordinate ids is told what to do", no_subordinate_ids),
    ("a corrupt archive is refused", corrupt_archive),
    ("a tampered blob is refused", tampered_blob),
    ("a pull ends when nobody waits for it", abandoned_pull),
    ("an absent image keeps a pod waiting with a reason", absent_image),
    ("kill -9 under load loses no acknowledged write, 20 times", killed_under_load),
    ("a full disk loses nothing, and is survived", full_disk),
];

/// How often the cluster is killed.
const KILLS: u64 = 20;

fn main() -> ExitCode {
    xebec_e2e::run(&CASES)
}

/// What `xebec` says when it fails; it must.
fn refused(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let outcome = cluster.xebec(arguments);
    Ok(format!("{:#}", outcome.err().with_context(|| format!("{arguments:?} succeeds"))?))
}

fn taken(cluster: &Cluster) -> Result<()> {
    let text = refused(cluster, &["up", "--detach", "--bind", "127.0.0.1:0"])?;
    ensure!(text.contains("a cluster runs in") && text.contains("xebec down"), "{text}");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    cluster.xebec(&["down"])?;
    let text = refused(cluster, &["up", "--detach", "--bind", &address])?;
    ensure!(text.contains(&address) && text.contains("--bind"), "{text}");
    cluster.start()
}

fn newer_data(cluster: &Cluster) -> Result<()> {
    cluster.xebec(&["down"])?;
    let file = cluster.data().join("version");
    let before = fs::read_to_string(&file)?;
    fs::write(&file, "999\n")?;
    let text = refused(cluster, &["up", "--detach"]);
    fs::write(&file, before)?;
    let text = text?;
    ensure!(text.contains("newer Xebec") && text.contains("update Xebec"), "{text}");
    cluster.start()
}

fn no_subordinate_ids(cluster: &Cluster) -> Result<()> {
    if !is_root()? {
        println!("        (not root: no user can be made for this)");
        return Ok(());
    }
    let user = "xebec-test-bare";
    if !fs::read_to_string("/etc/passwd")?.contains(&format!("{user}:")) {
        succeed(Command::new("useradd").args(["--system", "--create-home", user]))?;
    }
    let mut command = Command::new("runuser");
    command.args(["-u", user, "--"]).arg(cluster.path("xebec")).args(["up", "--detach", "--data-dir"]);
    let output = command.arg(format!("/tmp/{user}")).current_dir("/").output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "a user without subordinate ids runs a cluster");
    ensure!(text.contains("/etc/subuid") && text.contains("add them with"), "{text}");
    Ok(())
}

fn corrupt_archive(cluster: &Cluster) -> Result<()> {
    let whole = fs::read(cluster.path("image.tar"))?;
    let broken = cluster.path("broken.tar");
    let listed = cluster.xebec(&["image", "ls"])?;
    for bytes in [&whole[..whole.len() / 2], b"this is no archive".as_slice(), &[]] {
        fs::write(&broken, bytes)?;
        let text = refused(cluster, &["image", "import", &broken.display().to_string()])?;
        ensure!(text.contains("broken.tar"), "{text}");
    }
    ensure!(cluster.xebec(&["image", "ls"])? == listed, "a part of a broken archive is kept");
    Ok(())
}

fn tampered_blob(cluster: &Cluster) -> Result<()> {
    let registry = Registry::start(cluster)?;
    let image = registry.push(&cluster.path("image.tar"), "team/tampered:1")?;
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")]);
    let manifest: serde_json::Value = serde_json::from_str(&succeed(&mut inspect)?)?;
    let layer = manifest["layers"][0]["digest"].as_str().context("a layer")?;
    let blob = registry.blob(layer);
    let mut bytes = fs::read(&blob)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes)?;
    let text = refused(cluster, &["image", "pull", &image])?;
    ensure!(text.contains("content mismatch") && text.contains(layer), "{text}");
    ensure!(!cluster.xebec(&["image", "ls"])?.contains("tampered"), "a tampered image is kept");
    Ok(())
}

/// The registry never answers; it sees the connection end soon after the client has gone.
fn abandoned_pull(cluster: &Cluster) -> Result<()> {
    let registry = TcpListener::bind("127.0.0.1:0")?;
    registry.set_nonblocking(true)?;
    let mut client = UnixStream::connect(cluster.data().join("run/control.sock"))?;
    writeln!(client, r#"{{"op":"pull_image","image":"{}/slow:1"}}"#, registry.local_addr()?)?;
    let (mut pull, _) = eventually(PATIENCE, || Ok(registry.accept()?))?;
    pull.set_nonblocking(false)?;
    pull.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; 4096];
    ensure!(pull.read(&mut request)? > 0, "nothing is asked");
    drop(client);
    ensure!(pull.read(&mut request).context("the pull goes on")? == 0, "more is asked");
    Ok(())
}

fn absent_image(cluster: &Cluster) -> Result<()> {
    let registry = Registry::start(cluster)?;
    let image = format!("{}/team/absent:1", registry.address());
    cluster.kubectl(&["run", "absent", "--image", &image])?;
    eventually(PATIENCE, || {
        let waiting =
            cluster.get(&["pod", "absent"])?["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let reason = waiting["reason"].as_str().unwrap_or_default();
        ensure!(matches!(reason, "ErrImagePull" | "ImagePullBackOff"), "{waiting}");
        ensure!(waiting["message"].as_str().is_some_and(|m| m.contains("team/absent:1")), "{waiting}");
        Ok(())
    })?;
    cluster.kubectl(&["delete", "pod", "absent", "--now"]).map(drop)
}

/// Kills the server, or with it everything, at moments spread over the writing of a journal.
fn killed_under_load(cluster: &Cluster) -> Result<()> {
    let target = Target::of(cluster)?;
    let mut acknowledged = HashSet::new();
    for round in 0..KILLS {
        let victim = if round % 2 == 0 { "server" } else { "keeper" };
        let victim = cluster.status()?["pids"][victim].as_u64().context("a process id")?;
        let load = {
            let target = target.clone();
            std::thread::spawn(move || -> Result<Vec<String>> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(target.create_until_broken("default", &format!("kill-{round}"), 16))
            })
        };
        std::thread::sleep(Duration::from_millis(60 + round * 37 % 200));
        succeed(Command::new("kill").args(["-9", &victim.to_string()]))?;
        let Ok(names) = load.join() else { bail!("the load panics") };
        acknowledged.extend(names?);
        cluster.xebec(&["down"])?;
        cluster.start()?;
        let list = cluster.kubectl(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let stored: HashSet<&str> = list.split_ascii_whitespace().collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !stored.contains(name.as_str())).collect();
        ensure!(
            lost.is_empty(),
            "{} of {} are lost in round {round}: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
    }
    ensure!(acknowledged.len() > 1000, "only {} writes were acknowledged", acknowledged.len());
    cluster.kubectl(&["delete", "configmaps", "--all", "--wait=false"]).map(drop)
}

/// A small file system, unmounted with this value.
struct Disk<'a>(&'a Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new("umount").args(["--lazy"]).arg(self.0)) {
            eprintln!("the small disk stays mounted: {error:#}");
        }
    }
}

fn full_disk(_: &Cluster) -> Result<()> {
    if !is_root()? {
        println!("        (not root: no small disk can be mounted for this)");
        return Ok(());
    }
    let dir = tempfile::Builder::new().prefix("xebec-disk-").tempdir_in("/var/tmp")?;
    succeed(
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m,mode=755", "xebec-test"]).arg(dir.path()),
    )?;
    let _disk = Disk(dir.path());
    let small = Cluster::up_on(Some(dir.path().join("data")))?;
    let filler = dir.path().join("filler");
    fs::write(&filler, vec![0; 40 << 20])?;
    let value = dir.path().join("value");
    fs::write(&value, "v".repeat(900_000))?;
    let value = format!("--from-file=a={}", value.display());
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let name = format!("big-{}", acknowledged.len());
        match small.kubectl(&["create", "configmap", &name, &value]) {
            Ok(_) => acknowledged.push(name),
            Err(error) => break format!("{error:#}"),
        }
        ensure!(acknowledged.len() < 2_000, "the disk does not fill up");
    };
    ensure!(refusal.contains("no space") || refusal.contains("disk is full"), "{refusal}\n{}", small.log());
    // Reading goes on; and with room again, so does writing.
    small.kubectl(&["get", "configmaps"])?;
    fs::remove_file(&filler)?;
    eventually(PATIENCE, || small.kubectl(&["create", "configmap", "after"]))?;
    small.xebec(&["down"])?;
    small.start()?;
    let list = small.kubectl(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])?;
    for name in acknowledged.iter().map(String::as_str).chain(["after"]) {
        ensure!(list.split_ascii_whitespace().any(|n| n == name), "{name} is lost");
    }
    drop(small);
    Ok(())
}

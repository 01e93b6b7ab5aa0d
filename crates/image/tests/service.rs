//! The facade as the node uses it: from an archive to a mounted root, through crashes and a full disk.

mod support;

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use xebec_image::archive::{Builder, LayerBuilder, Source};
use xebec_image::compress::Compression;
use xebec_image::images::Removed;
use xebec_image::progress::Silent;
use xebec_image::{Digest, ImageService, Reference, ServiceConfig};

/// Tells the crashing child where its store is.
const CRASH_VARIABLE: &str = "XEBEC_IMAGE_CRASH_DIR";

#[test]
fn in_a_user_namespace() {
    support::run_ignored_tests_in_user_namespace();
}

#[test]
fn as_root_of_the_host() {
    support::run_ignored_tests_as_root();
}

/// An image of two layers; the lower one is the same for all.
fn archive(name: &str) -> Vec<u8> {
    let base = LayerBuilder::new()
        .directory("bin", 0o755)
        .file("bin/busybox", 0o755, &fs::read("/bin/busybox").expect("the package busybox-static is needed"))
        .symlink("bin/sh", "busybox");
    let top = LayerBuilder::new().file("etc/name", 0o644, name.as_bytes());
    let mut archive = Vec::new();
    Builder::new()
        .name(name)
        .layer(base.build(Compression::Gzip))
        .layer(top.build(Compression::Zstd))
        .entrypoint(["/bin/sh"])
        .write(&mut archive)
        .expect("memory");
    archive
}

fn source(archive: Vec<u8>) -> Source {
    Source::Reader(Box::new(Cursor::new(archive)))
}

async fn open(dir: &Path) -> ImageService {
    ImageService::open(ServiceConfig::new(dir.join("images"))).await.expect("opens")
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).expect("there").count()
}

#[tokio::test]
#[ignore = "runs as root of a namespace"]
async fn an_image_becomes_a_root_that_runs() {
    let dir = support::temp_dir();
    let service = open(dir.path()).await;
    let record = service.import(source(archive("hello")), None).await.expect("imported").remove(0);
    let rootfs = service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("unpacked");
    assert_eq!(rootfs.lowerdirs.len(), 2);
    assert_eq!(rootfs.defaults.entrypoint, ["/bin/sh"]);
    let root = dir.path().join("root");
    for sub in ["root", "upper", "work"] {
        fs::create_dir(dir.path().join(sub)).expect("made");
    }
    let lower: Vec<String> = rootfs.lowerdirs.iter().map(|path| path.display().to_string()).collect();
    let options = format!(
        "userxattr,lowerdir={},upperdir={}/upper,workdir={}/work",
        lower.join(":"),
        dir.path().display(),
        dir.path().display()
    );
    let options = std::ffi::CString::new(options).expect("no NUL");
    mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str()).expect("mounted");
    let output = Command::new("chroot")
        .arg(&root)
        .args([
            "/bin/sh",
            "-c",
            "busybox cat /etc/name && echo new > /etc/new && busybox stat -c %u:%g /etc/name",
        ])
        .output()
        .expect("chroot runs");
    unmount(&root, UnmountFlags::empty()).expect("unmounted");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello1:1\n", "{output:?}");
    assert_eq!(fs::read_to_string(dir.path().join("upper/etc/new")).expect("copied up"), "new\n");
    assert!(!rootfs.lowerdirs[0].join("etc/new").exists(), "the snapshot is untouched");
}

#[tokio::test]
#[ignore = "runs as root of a namespace"]
async fn what_is_used_is_not_pruned() {
    let dir = support::temp_dir();
    let service = open(dir.path()).await;
    let (snapshots, blobs) = (dir.path().join("images/snapshots"), dir.path().join("images/blobs/sha256"));
    for name in ["one", "two"] {
        let record = service.import(source(archive(name)), None).await.expect("imported").remove(0);
        service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("unpacked");
    }
    assert_eq!((count(&snapshots), count(&blobs)), (3, 7), "the base is shared");
    let record = service.resolve("two").expect("here");
    let rootfs = service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("unpacked");
    let chain = rootfs.chain.clone();
    assert!(matches!(service.remove("two").await, Ok(Removed::Image(_))));
    let pruned = service.prune().await.expect("pruned");
    assert_eq!((pruned.snapshots.count, pruned.blobs.count), (0, 3), "a container still runs from it");
    drop(rootfs);
    // As after a restart, when only the container's record tells what it uses.
    let held = service.hold(&chain);
    assert_eq!(service.prune().await.expect("pruned").snapshots.count, 0);
    drop(held);
    assert_eq!(service.prune().await.expect("pruned").snapshots.count, 1);
    assert!(matches!(service.remove("one").await, Ok(Removed::Image(_))));
    let pruned = service.prune().await.expect("pruned");
    assert_eq!((pruned.snapshots.count, pruned.blobs.count), (2, 4));
    assert_eq!((count(&snapshots), count(&blobs)), (0, 0));
}

#[tokio::test]
#[ignore = "runs as root of a namespace"]
async fn a_damaged_layer_is_repaired_by_importing_again() {
    let dir = support::temp_dir();
    let service = open(dir.path()).await;
    let record = service.import(source(archive("hello")), None).await.expect("imported").remove(0);
    let name = Reference::parse("hello").expect("a name");
    let blobs = dir.path().join("images/blobs/sha256");
    let largest = fs::read_dir(&blobs).expect("there").map(|entry| entry.expect("an entry").path());
    let largest = largest.max_by_key(|path| fs::metadata(path).expect("there").len()).expect("some");
    let mut bytes = fs::read(&largest).expect("there");
    bytes[1_000] ^= 1;
    fs::write(&largest, bytes).expect("tampered");
    let error = service.ensure_snapshot(&record, Arc::new(Silent)).await.expect_err("damaged").to_string();
    assert!(error.starts_with("cannot unpack hello:latest: stored content sha256:"), "{error}");
    let error = service.ensure_snapshot(&record, Arc::new(Silent)).await.expect_err("gone").to_string();
    assert!(error.contains("is not in the image store; pull or import the image again"), "{error}");
    service.import(source(archive("hello")), None).await.expect("imported");
    let record = service.get(&name).expect("here");
    service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("unpacked");
}

#[tokio::test]
#[ignore = "runs as root of a namespace"]
async fn a_full_disk_is_said_and_loses_nothing() {
    let dir = support::temp_dir();
    let small = dir.path().join("small");
    fs::create_dir(&small).expect("made");
    mount("tmpfs", &small, "tmpfs", MountFlags::empty(), Some(c"size=6m")).expect("mounted");
    {
        let service = open(&small).await;
        let record = service.import(source(archive("fits")), None).await.expect("imported").remove(0);
        let filler = small.join("filler");
        fs::write(&filler, vec![1; 4_600 << 10]).expect("written");
        let error = service.import(source(archive("more")), None).await.expect_err("full").to_string();
        assert!(error.contains("No space left on device"), "{error}");
        let error = service.ensure_snapshot(&record, Arc::new(Silent)).await.expect_err("full").to_string();
        assert!(error.contains("cannot unpack fits:latest") && error.contains("No space left"), "{error}");
        assert_eq!(count(&small.join("images/tmp")), 0);
        assert_eq!(count(&small.join("images/snapshots")), 0);
        assert_eq!(service.list().len(), 1);
        fs::remove_file(filler).expect("removed");
        service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("there is room now");
    }
    unmount(&small, UnmountFlags::empty()).expect("unmounted");
}

#[tokio::test]
#[ignore = "runs as root of a namespace"]
async fn a_killed_process_leaves_only_what_the_next_one_sweeps() {
    let dir = support::temp_dir();
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().expect("the test program"))
            .args(["--ignored", "--exact", "a_process_that_is_killed"])
            .env(CRASH_VARIABLE, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        tokio::time::sleep(Duration::from_millis(40 + round * 53)).await;
        child.kill().expect("a child of ours");
        child.wait().expect("it ends");
        let service = open(dir.path()).await;
        assert_eq!(count(&dir.path().join("images/tmp")), 0);
        for entry in fs::read_dir(dir.path().join("images/blobs/sha256")).expect("there") {
            let path = entry.expect("an entry").path();
            let digest = Digest::sha256(&fs::read(&path).expect("readable"));
            assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(digest.hex()));
        }
        for record in service.list() {
            let rootfs = service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("complete");
            let name = fs::read_to_string(rootfs.lowerdirs[0].join("etc/name")).expect("whole");
            assert!(service.resolve(&name).is_ok_and(|named| named.id == record.id), "{name}");
            let busybox = fs::metadata(rootfs.lowerdirs[1].join("bin/busybox")).expect("whole").len();
            assert_eq!(busybox, fs::metadata("/bin/busybox").expect("there").len());
        }
    }
}

/// Not a test: imports, unpacks, removes and prunes until it is killed.
#[tokio::test]
#[ignore = "runs as root of a namespace"]
async fn a_process_that_is_killed() {
    let Some(dir) = std::env::var_os(CRASH_VARIABLE) else { return };
    let service = open(Path::new(&dir)).await;
    for round in 0.. {
        let name = format!("image-{}", round % 3);
        let record = service.import(source(archive(&name)), None).await.expect("imported").remove(0);
        service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("unpacked");
        if round % 2 == 1 {
            service.remove(&name).await.expect("removed");
            service.prune().await.expect("pruned");
        }
    }
}

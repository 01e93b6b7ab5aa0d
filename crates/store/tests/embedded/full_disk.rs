//! A disk without room: commits fail with the reason, reads go on, nothing acknowledged is lost, and writing resumes
//! when there is room, without a restart.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xebec_store::{
    CommitError, Embedded, Health, Prefix, Revision, Scope, StorageFault, Store, Txn, Value, WatchError,
};

use super::{busy_engine, child, child_directory, contents, key, put, try_open};

/// Ignores the signal for too large files, as the write's error is wanted instead; programs inherit that.
const IGNORE_XFSZ: [&str; 3] = ["sh", "-c", r#"trap "" XFSZ; exec "$0" "$@""#];
/// A user namespace in which a small file system can be mounted without being root.
const SMALL_DISK: [&str; 6] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    // The words that follow are the shell's.
    "-c",
];

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_file_size_limit_is_survived() {
    let directory = tempfile::tempdir().expect("directory");
    let status = child(&IGNORE_XFSZ, "full_disk::child_hits_a_file_size_limit", directory.path()).status();
    assert!(status.expect("run").success());
}

#[test]
#[ignore = "a child process of a_file_size_limit_is_survived"]
fn child_hits_a_file_size_limit() {
    let Some(directory) = child_directory() else { return };
    let whole = getrlimit(Resource::Fsize);
    run(&directory, |full| {
        let current = if full { Some(2 << 20) } else { whole.current };
        setrlimit(Resource::Fsize, Rlimit { current, ..whole }).expect("limit");
    });
}

#[test]
fn a_full_file_system_is_survived() {
    let probe = Command::new(SMALL_DISK[0]).args(&SMALL_DISK[1..4]).arg("true").status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine allows no user namespace");
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let mut wrapper = SMALL_DISK.to_vec();
    wrapper.push(r#"mount -t tmpfs -o size=24m none "$STORE_TEST_DIRECTORY" && exec "$0" "$@""#);
    let status = child(&wrapper, "full_disk::child_fills_its_file_system", directory.path()).status();
    assert!(status.expect("run").success());
}

#[test]
#[ignore = "a child process of a_full_file_system_is_survived"]
fn child_fills_its_file_system() {
    let Some(directory) = child_directory() else { return };
    let ballast = directory.join("ballast");
    run(&directory.join("store"), |full| {
        if full {
            take_all_but_a_little(&ballast);
        } else {
            fs::remove_file(&ballast).expect("room");
        }
    });
}

/// Fills the file system with one file, and leaves less than the store is about to write.
fn take_all_but_a_little(ballast: &Path) {
    let mut file = File::create(ballast).expect("ballast");
    let mut taken = 0;
    while let Ok(more) = file.write(&[b'x'; 65_536]) {
        taken += more as u64;
    }
    file.set_len(taken - (512 << 10)).expect("a little");
}

/// The story, told twice: `set_full(true)` takes the room away, `set_full(false)` gives it back.
fn run(directory: &Path, mut set_full: impl FnMut(bool)) {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let written = runtime.block_on(async {
        let store = try_open(directory, busy_engine()).expect("open");
        let first = put(&store, "/f/before", value(0, 0)).await;
        for round in 0..2 {
            set_full(true);
            let error = fill(&store, round).await;
            assert_read_only(&store, &error, first).await;
            set_full(false);
            resume(&store, round).await;
        }
        let written = (store.current_revision(), contents(&store.snapshot()));
        store.shutdown().await;
        written
    });
    let store = try_open(directory, busy_engine()).expect("open again");
    assert_eq!(store.current_revision(), written.0);
    assert!(contents(&store.snapshot()) == written.1, "the disk has what was acknowledged, and nothing else");
}

/// In one round much larger than the engine's buffer, so that a failed write is torn; in the other smaller, so that
/// the engine completes it while it is closed.
fn value(round: usize, number: usize) -> Value {
    let length = if round == 0 { 30_000 } else { 1_000 };
    Value::revised(vec![b'a' + (number % 26) as u8; length], 5)
}

/// Writes until it fails; the keys are overwritten in turns.
async fn fill(store: &Embedded, round: usize) -> CommitError {
    for number in 0..4_000 {
        let txn = Txn::default()
            .put(key(&format!("/f/{round}/{}", number % 40)), value(round, number))
            .put(key("/f/last"), Value::opaque(format!("{round} {number}")));
        match store.commit(txn).await {
            Ok(done) => {
                let last = done.events[1].record().bytes();
                assert_eq!(last, format!("{round} {number}"));
            }
            Err(error) => return error,
        }
    }
    panic!("the disk never got full");
}

async fn assert_read_only(store: &Embedded, error: &CommitError, first: Revision) {
    let CommitError::Storage { fault, .. } = error else { panic!("not a storage error: {error:?}") };
    assert!(matches!(fault, StorageFault::OutOfSpace | StorageFault::Engine), "{error:?}");
    assert!(matches!(store.health(), Health::ReadOnly { .. }));
    let before = contents(&store.snapshot());
    let again = store.commit(Txn::default().put(key("/f/refused"), value(0, 1))).await;
    assert!(matches!(again, Err(CommitError::Storage { .. })), "{again:?}");
    assert!(contents(&store.snapshot()) == before, "a failed commit is not visible");
    assert_eq!(store.snapshot().get(&key("/f/before")).map(|record| record.mod_revision()), Some(first));

    let mut watch = store.watch(Scope::Prefix(Prefix::all()), store.current_revision()).expect("watch");
    assert_eq!(watch.try_next().map(|batch| batch.is_none()), Ok::<_, WatchError>(true));
}

/// Waits until commits work again.
async fn resume(store: &Embedded, round: usize) {
    let before = contents(&store.snapshot());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.commit(Txn::default().put(key(&format!("/f/after{round}")), value(round, 0))).await {
            Ok(_) => break,
            Err(CommitError::Storage { .. }) => {
                assert!(Instant::now() < deadline, "writing should resume: {:?}", store.health());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(store.health(), Health::Writable);
    let mut after = contents(&store.snapshot());
    after.retain(|(key, ..)| !key.starts_with(&format!("/f/after{round}")));
    assert!(after == before, "resuming changes nothing");
}

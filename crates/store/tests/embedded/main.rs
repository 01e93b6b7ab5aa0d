//! The embedded backend on real files: the contract, restarts, crashes, a full disk.

mod contract;
mod crash;
mod durability;
mod full_disk;
mod torn;

use std::path::{Path, PathBuf};
use std::process::Command;

use xebec_store::limits::Limits;
use xebec_store::{Embedded, EmbeddedOptions, Key, OpenError, Revision, Snapshot, Store, Txn, Value};

/// The directory that a child process works in.
const CHILD_DIRECTORY: &str = "STORE_TEST_DIRECTORY";

fn key(path: &str) -> Key {
    Key::new(path).expect("key")
}

fn open(directory: &Path) -> Embedded {
    try_open(directory, Limits::default()).expect("open")
}

fn try_open(directory: &Path, limits: Limits) -> Result<Embedded, OpenError> {
    Embedded::open(directory, EmbeddedOptions { limits, ..EmbeddedOptions::default() })
}

/// Limits under which the engine flushes and compacts all the time.
fn busy_engine() -> Limits {
    let mut limits = Limits::default();
    limits.disk.flush_bytes = 256 * 1024;
    limits
}

async fn put(store: &Embedded, path: &str, value: Value) -> Revision {
    store.commit(Txn::default().put(key(path), value)).await.expect("commit").revision
}

/// Everything in a snapshot, to compare two of them.
fn contents(snapshot: &Snapshot) -> Vec<(String, Revision, Revision, Vec<u8>)> {
    let all = xebec_store::Prefix::all();
    let records = snapshot.range(&all, None);
    let describe = |record: &std::sync::Arc<xebec_store::Record>| {
        let key = record.key().to_string();
        (key, record.create_revision(), record.mod_revision(), record.as_slice().to_vec())
    };
    records.map(describe).collect()
}

/// This test binary again, to run only the ignored test `name`, which works in `directory`. `wrapper` is a program
/// with arguments that runs it.
fn child(wrapper: &[&str], name: &str, directory: &Path) -> Command {
    let binary = std::env::current_exe().expect("the test's own path").into_os_string();
    let mut words: Vec<_> = wrapper.iter().map(std::ffi::OsString::from).collect();
    words.push(binary);
    words.extend(["--ignored", "--exact", "--nocapture", "--test-threads=1", name].map(Into::into));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(CHILD_DIRECTORY, directory);
    command
}

/// In a child: the directory to work in; none when the test was not started by [`child`].
fn child_directory() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIRECTORY).map(PathBuf::from)
}

/// Pseudo-random numbers from a seed, the same on every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

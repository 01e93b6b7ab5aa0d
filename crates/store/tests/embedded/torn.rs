//! Power loss: the journal ends somewhere inside what was being written. What opens is a whole number of commits.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use xebec_store::{Prefix, Store, Txn, Value};

use super::{Random, key, open};

const COMMITS: u64 = 60;
const KEYS: u64 = 5;

fn filler(count: u64) -> Vec<u8> {
    format!("{count:08}").repeat(40 + (count % 7) as usize * 120).into_bytes()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

/// Where the journal's contents end: it is preallocated with zeros.
fn written(journal: &Path) -> u64 {
    let bytes = fs::read(journal).expect("journal");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Everything from `offset` on is lost. What follows in the file, up to `length`, is the preallocation's zeros.
fn cut(journal: &Path, offset: u64, length: u64) {
    let file = OpenOptions::new().write(true).open(journal).expect("journal");
    file.set_len(offset).expect("cut");
    file.set_len(length).expect("zeros");
}

#[tokio::test]
async fn a_cut_journal_opens_at_a_commit() {
    let original = tempfile::tempdir().expect("directory");
    let store = open(original.path());
    let first = store.current_revision().get() + 1;
    for count in 0..COMMITS {
        let add = |txn: Txn, number| txn.put(key(&format!("/torn/{number}")), Value::opaque(filler(count)));
        store.commit((0..KEYS).fold(Txn::default(), add)).await.expect("commit");
    }
    drop(store);
    let end = written(&original.path().join("data/0.jnl"));
    let mut random = Random(0x5EED_0002);
    let mut survivors = Vec::new();
    for round in 0..24 {
        let directory = tempfile::tempdir().expect("directory");
        copy(original.path(), directory.path());
        let offset = 600 + random.below(end - 600);
        let length = if round % 2 == 0 { offset } else { 64 << 20 };
        cut(&directory.path().join("data/0.jnl"), offset, length);
        let store = open(directory.path());
        let revision = store.current_revision().get();
        let snapshot = store.snapshot();
        let expected = if revision < first { 0 } else { KEYS };
        assert_eq!(snapshot.count(&Prefix::all()) as u64, expected);
        for record in snapshot.range(&Prefix::all(), None) {
            assert_eq!(record.mod_revision().get(), revision, "a torn transaction");
            assert!(record.as_slice() == filler(revision - first), "a torn value");
        }
        // What is written behind the cut is not lost in turn.
        store.commit(Txn::default().put(key("/torn/new"), Value::opaque("new"))).await.expect("commit");
        drop(store);
        let store = open(directory.path());
        assert_eq!(store.current_revision().get(), revision + 1);
        assert!(store.snapshot().get(&key("/torn/new")).is_some());
        survivors.push(revision);
    }
    survivors.sort_unstable();
    survivors.dedup();
    assert!(survivors.len() > 10, "the cuts should differ: {survivors:?}");
}

/// A page in the middle of the last commit is lost, what follows it is not: pages reach a disk in any order.
#[tokio::test]
async fn a_hole_in_the_last_commit_only_loses_that() {
    let original = tempfile::tempdir().expect("directory");
    let store = open(original.path());
    let journal = Path::new("data/0.jnl");
    store.commit(Txn::create(key("/kept"), Value::opaque(filler(1)))).await.expect("commit");
    let start = written(&original.path().join(journal));
    store.commit(Txn::create(key("/lost"), Value::opaque(vec![b'x'; 100_000]))).await.expect("commit");
    drop(store);
    let path = original.path().join(journal);
    let mut file = File::options().write(true).open(&path).expect("journal");
    file.seek(SeekFrom::Start(start + 40_960)).expect("seek");
    file.write_all(&[0; 4_096]).expect("hole");
    drop(file);
    let store = open(original.path());
    assert!(store.snapshot().get(&key("/kept")).is_some());
    assert!(store.snapshot().get(&key("/lost")).is_none());
}

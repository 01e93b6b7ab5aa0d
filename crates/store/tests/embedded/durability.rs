//! What a restart finds.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use xebec_store::limits::Limits;
use xebec_store::{
    AesGcmSealer, Condition, DirectoryError, Embedded, EmbeddedOptions, Encryption, Health, LoadError,
    OpenError, Revision, Scope, SealError, SealKeyId, Store, StoreError, Txn, Value,
};

use super::{busy_engine, contents, key, open, put, try_open};

#[tokio::test]
async fn a_restart_changes_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path());
    assert_eq!(store.current_revision(), Revision::FIRST);
    put(&store, "/a/1", Value::revised("<>", 1)).await;
    put(&store, "/a/2", Value::opaque("two")).await;
    put(&store, "/a/1", Value::revised("[]", 1)).await;
    let end = store.commit(Txn::default().delete(key("/a/2"))).await.expect("delete").revision;
    let before = contents(&store.snapshot());
    store.shutdown().await;
    drop(store);

    for _ in 0..3 {
        let store = open(directory.path());
        assert_eq!(store.current_revision(), end, "also when the last commit left no record");
        assert_eq!(contents(&store.snapshot()), before);
        assert_eq!(store.health(), Health::Writable);
    }
    let store = open(directory.path());
    let record = store.snapshot().get(&key("/a/1")).cloned().expect("the record");
    assert_eq!(record.bytes(), format!("[{}]", record.mod_revision()));
    let deleted = store.commit(Txn::default().delete(key("/a/1"))).await.expect("delete");
    assert_eq!(deleted.revision.get(), end.get() + 1);
    assert_eq!(
        deleted.events[0].record().bytes(),
        format!("[{}]", deleted.revision),
        "the place is remembered"
    );
}

#[tokio::test]
async fn a_restart_forgets_history_and_says_so() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path());
    let old = put(&store, "/r/core/pods/a", Value::opaque("")).await;
    let now = put(&store, "/r/core/pods/b", Value::opaque("")).await;
    drop(store);
    let store = open(directory.path());
    let compacted = StoreError::Compacted { requested: old, oldest: now };
    assert_eq!(store.snapshot_at(old).err(), Some(compacted.clone()));
    let scope = Scope::Key(key("/r/core/pods/a"));
    assert_eq!(store.watch(scope.clone(), old).err(), Some(compacted));
    store.watch(scope, now).expect("nothing was missed since the newest commit");
}

/// Far more than the journal holds: flushes, compactions and journal rotations in between.
#[tokio::test]
async fn tables_and_journal_together_hold_everything() {
    let directory = tempfile::tempdir().expect("directory");
    let store = try_open(directory.path(), busy_engine()).expect("open");
    for round in 0..160_u32 {
        let value = Value::revised(vec![b'a' + (round % 26) as u8; 40_000], 7);
        let mut txn = (0..15).fold(Txn::default(), |txn, number| {
            txn.put(key(&format!("/t/{:03}", (round * 7 + number * 31) % 300)), value.clone())
        });
        let doomed = key(&format!("/t/{:03}", (round * 13 + 300 - 1) % 300));
        if store.snapshot().get(&doomed).is_some() && txn.ops.iter().all(|op| *op.key() != doomed) {
            txn = txn.when(Condition::Exists(doomed.clone())).delete(doomed);
        }
        store.commit(txn).await.expect("commit");
    }
    let (before, end) = (contents(&store.snapshot()), store.current_revision());
    drop(store);
    let tables = fs::read_dir(directory.path().join("data/keyspaces/1/tables")).expect("tables").count();
    assert!(tables > 0, "the engine never flushed");
    let store = try_open(directory.path(), busy_engine()).expect("open");
    assert_eq!(store.current_revision(), end);
    assert!(contents(&store.snapshot()) == before, "records changed over the restart");
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path());
    let second = try_open(directory.path(), Limits::default());
    assert!(matches!(second.err(), Some(OpenError::Directory(DirectoryError::Locked { .. }))));
    drop(store);
    open(directory.path());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("directory");
    drop(open(directory.path()));
    let format = directory.path().join("format");
    assert_eq!(fs::read_to_string(&format).expect("format"), "xebec-store 1\n");
    fs::write(&format, "xebec-store 2\n").expect("format");
    let error = try_open(directory.path(), Limits::default()).err();
    assert!(matches!(error, Some(OpenError::Directory(DirectoryError::Newer { found: 2, .. }))), "{error:?}");
    fs::write(&format, "xebec-store 1\n").expect("format");
    open(directory.path());
}

#[test]
fn missing_files_are_an_error_not_a_fresh_store() {
    let directory = tempfile::tempdir().expect("directory");
    drop(open(directory.path()));
    fs::remove_dir_all(directory.path().join("data")).expect("remove");
    let error = try_open(directory.path(), Limits::default()).err();
    assert!(matches!(error, Some(OpenError::Load(LoadError::NoRevision { .. }))), "{error:?}");
}

const OLD: (SealKeyId, [u8; 32]) = (SealKeyId(1), [1; 32]);
const NEW: (SealKeyId, [u8; 32]) = (SealKeyId(2), [2; 32]);

fn sealed(sealer: AesGcmSealer, below: &'static str) -> EmbeddedOptions {
    let covers = Arc::new(move |key: &xebec_store::Key| key.as_str().starts_with(below));
    let encryption = Encryption { sealer: Arc::new(sealer), covers };
    EmbeddedOptions { encryption: Some(encryption), ..EmbeddedOptions::default() }
}

fn on_disk(directory: &Path, needle: &[u8]) -> bool {
    fs::read_dir(directory).expect("list").map(|entry| entry.expect("entry").path()).any(|path| {
        if path.is_dir() {
            on_disk(&path, needle)
        } else {
            let bytes = fs::read(&path).expect("read");
            bytes.windows(needle.len()).any(|window| window == needle)
        }
    })
}

#[tokio::test]
async fn sealed_values_are_not_on_the_disk() {
    let directory = tempfile::tempdir().expect("directory");
    let options = || sealed(AesGcmSealer::new(OLD.0, &OLD.1), "/secret/");
    let store = Embedded::open(directory.path(), options()).expect("open");
    put(&store, "/secret/a", Value::revised(r#"{"rv":"","d":"hunter2hunter2"}"#, 7)).await;
    put(&store, "/plain/a", Value::opaque("nothing to hide here")).await;
    let before = contents(&store.snapshot());
    drop(store);
    assert!(on_disk(directory.path(), b"nothing to hide here"), "the search works");
    assert!(!on_disk(directory.path(), b"hunter2hunter2"));

    let store = Embedded::open(directory.path(), options()).expect("open");
    assert_eq!(contents(&store.snapshot()), before);
    drop(store);
    let error = try_open(directory.path(), Limits::default()).err();
    assert!(matches!(error, Some(OpenError::Load(LoadError::Sealed { .. }))), "{error:?}");
    let error = Embedded::open(directory.path(), sealed(AesGcmSealer::new(OLD.0, &NEW.1), "/")).err();
    let tampered = |error: &SealError| matches!(error, SealError::Tampered { .. });
    assert!(matches!(&error, Some(OpenError::Load(LoadError::Seal(inner))) if tampered(inner)), "{error:?}");
}

#[tokio::test]
async fn the_encryption_key_and_its_coverage_may_change() {
    let directory = tempfile::tempdir().expect("directory");
    let store =
        Embedded::open(directory.path(), sealed(AesGcmSealer::new(OLD.0, &OLD.1), "/a/")).expect("open");
    put(&store, "/a/1", Value::opaque("sealed with the old key")).await;
    put(&store, "/b/1", Value::opaque("written in the clear")).await;
    drop(store);
    let both = || AesGcmSealer::new(NEW.0, &NEW.1).with_older(OLD.0, &OLD.1);
    let store = Embedded::open(directory.path(), sealed(both(), "/")).expect("open");
    for path in ["/a/1", "/b/1"] {
        let bytes = store.snapshot().get(&key(path)).expect("the record").bytes();
        put(&store, path, Value::opaque(bytes)).await;
    }
    let before = contents(&store.snapshot());
    drop(store);
    let store =
        Embedded::open(directory.path(), sealed(AesGcmSealer::new(NEW.0, &NEW.1), "/")).expect("open");
    assert_eq!(contents(&store.snapshot()), before, "rewritten values need only the new key");
}

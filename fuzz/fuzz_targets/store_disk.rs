//! Bytes from the store's disk: records, journals, sealed values.
#![no_main]

use std::cell::OnceCell;
use std::fs;

use tempfile::TempDir;
use xebec_fuzz::target;
use xebec_store::{AesGcmSealer, Embedded, EmbeddedOptions, Key, Op, SealKeyId, Sealer, Store, Txn, Value, fuzzing};

thread_local! {
    static DIR: OnceCell<TempDir> = const { OnceCell::new() };
}

/// A journal as the store writes it, with five commits.
fn journal() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(directory.path(), EmbeddedOptions::default()).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for number in 0..5 {
        let key = Key::new(format!("/k/{number}")).expect("a key");
        let txn = Txn { ops: vec![Op::Put(key, Value::revised(b"{}".to_vec(), 1))], ..Txn::default() };
        runtime.block_on(store.commit(txn)).expect("a commit");
    }
    drop(store);
    let mut found = Vec::new();
    let mut directories = vec![directory.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jnl") {
                found = fs::read(path).expect("a journal");
            }
        }
    }
    let end = found.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    found.truncate(end);
    found
}

fn seeds() -> Vec<Vec<u8>> {
    let journal = journal();
    assert!(!journal.is_empty(), "the store has a journal");
    let mut damaged = journal.clone();
    damaged[journal.len() / 2] ^= 1;
    let record = [&[0][..], &3_u64.to_le_bytes(), &12_u64.to_le_bytes(), &1_u32.to_le_bytes(), &[2], b"a12b"].concat();
    let sealer = AesGcmSealer::new(SealKeyId(1), &[7; 32]);
    let sealed = sealer.seal(&Key::new("/a").expect("a key"), b"secret").expect("sealed");
    let torn = journal[..journal.len() - 9].to_vec();
    [(b'J', journal), (b'J', damaged), (b'J', torn), (b'R', record), (b'S', sealed)]
        .map(|(kind, bytes)| [&[kind][..], &bytes].concat())
        .to_vec()
}

target!("store_disk", seeds(), |data| {
    match data.split_first() {
        Some((b'J', bytes)) => DIR.with(|dir| {
            let dir = dir.get_or_init(|| tempfile::tempdir().expect("a directory"));
            fuzzing::journal(dir.path(), bytes);
        }),
        Some((b'S', bytes)) => {
            let sealer = AesGcmSealer::new(SealKeyId(1), &[7; 32]);
            let key = Key::new("/a").expect("a key");
            if let Ok(opened) = sealer.open(&key, bytes) {
                assert_eq!(opened, b"secret");
            }
        }
        Some((_, bytes)) => fuzzing::record(bytes),
        None => {}
    }
});

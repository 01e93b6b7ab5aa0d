use std::io::Read;

use super::*;

fn open(dir: &tempfile::TempDir) -> ContentStore {
    ContentStore::open(&dir.path().join("images"), Limits::default()).expect("the store opens")
}

fn expect(digest: Option<Digest>, size: Option<u64>) -> Expected {
    Expected { digest, size, limit: "layer_bytes", max: 1_000 }
}

fn files_in(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn writes_and_reads_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let digest = Digest::sha256(b"hello");
    let put = store.put(b"hello", expect(Some(digest.clone()), Some(5))).expect("stored");
    assert_eq!(put.digest(), &digest);
    assert_eq!(store.put(b"hello", expect(None, None)).expect("stored again").into_digest(), digest);
    assert!(store.contains(&digest, 5).expect("readable"));
    assert_eq!(store.read(&digest, "manifest_bytes", 10).expect("verified").bytes(), "hello".as_bytes());
    let sha512 = Digest::parse(&format!("sha512:{}", "0".repeat(128))).expect("well formed");
    assert!(matches!(store.open_blob(&sha512), Err(StoreError::Missing { .. })));
    assert_eq!(files_in(&store.root().join("tmp")), [""; 0]);
}

#[test]
fn refuses_what_was_not_asked_for_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let digest = Digest::sha256(b"hello");
    let check = |bytes: &[u8], expected: Expected, text: &str| {
        let error = store.put(bytes, expected).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    };
    let wanted = |size| expect(Some(digest.clone()), size);
    check(
        b"hallo",
        wanted(Some(5)),
        "the bytes received hash to sha256:d3751d33f9cd5049c4af2b462735457e4d3baf130bcbb87f389e349fbaeb20b9",
    );
    check(b"hell", wanted(Some(5)), "expected 5 bytes, got 4");
    check(b"hello!", wanted(Some(5)), "expected 5 bytes, got 6");
    check(b"hello!", wanted(None), "content mismatch");
    check(b"hello", wanted(Some(1_001)), "`layer_bytes` of 1000");
    check(&[0; 1_001], expect(None, None), "`layer_bytes` of 1000");
    assert_eq!(files_in(&store.root().join("tmp")), [""; 0]);
    assert_eq!(files_in(&store.root().join("blobs/sha256")), [""; 0]);
}

#[test]
fn a_damaged_blob_is_found_and_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let digest = store.put(b"hello", expect(None, None)).expect("stored").into_digest();
    fs::write(store.blob_path(&digest), "hallo").expect("tampered");
    assert!(store.contains(&digest, 5).expect("same size"), "sizes alone do not tell");
    let mut streamed = store.open_blob(&digest).expect("opens");
    let mut first = [0; 2];
    streamed.read_exact(&mut first).expect("reads");
    assert!(matches!(streamed.finish(), Err(StoreError::Corrupt { .. })));
    assert!(matches!(store.open_blob(&digest), Err(StoreError::Missing { .. })));

    store.put(b"hello", expect(None, None)).expect("stored");
    fs::write(store.blob_path(&digest), "hallo").expect("tampered");
    let error = store.read(&digest, "manifest_bytes", 10).expect_err("damaged").to_string();
    assert!(error.contains("pull or import the image again"), "{error}");

    store.put(b"hello", expect(None, None)).expect("stored");
    fs::write(store.blob_path(&digest), "hell").expect("cut");
    assert!(!store.contains(&digest, 5).expect("readable"));
    assert_eq!(store.size(&digest).expect("readable"), None);
}

#[test]
fn a_wrong_size_takes_no_sound_blob_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let digest = store.put(b"hello", expect(None, None)).expect("stored").into_digest();
    for size in [0, 4, 6, u64::MAX] {
        let error = store.contains(&digest, size).expect_err("it has another size").to_string();
        assert!(error.ends_with(&format!("expected {size} bytes, got 5")), "{error}");
    }
    assert!(store.contains(&digest, 5).expect("readable"));
}

#[test]
fn documents_are_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let digest = store.put(b"hello", expect(None, None)).expect("stored").into_digest();
    let error = store.read(&digest, "manifest_bytes", 4).expect_err("too large").to_string();
    assert!(error.contains("`manifest_bytes` of 4"), "{error}");
}

#[test]
fn one_process_at_a_time_and_the_next_sweeps() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let root = store.root().to_owned();
    let second = ContentStore::open(&root, Limits::default()).expect_err("locked");
    assert!(matches!(second, StoreError::Locked { .. }));
    let digest = store.put(b"hello", expect(None, None)).expect("stored").into_digest();
    drop(store);
    fs::create_dir_all(root.join("tmp/unpack-1/a/b")).expect("made");
    fs::write(root.join("tmp/blob-7"), "half").expect("made");
    std::os::unix::fs::symlink("/", root.join("tmp/link")).expect("made");
    let store = open(&dir);
    assert_eq!(files_in(&root.join("tmp")), [""; 0]);
    assert!(store.contains(&digest, 5).expect("readable"));
}

#[test]
fn temporary_things_vanish_with_their_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let temp = store.temp_dir("unpack").expect("made");
    fs::write(temp.path().join("file"), "x").expect("written");
    let mut writer = store.writer(expect(None, None)).expect("opened");
    writer.append(b"half").expect("written");
    assert_eq!(files_in(&store.root().join("tmp")).len(), 2);
    drop((temp, writer));
    assert_eq!(files_in(&store.root().join("tmp")), [""; 0]);
}

#[test]
fn prune_keeps_references_and_leases() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let put = |text: &str| store.put(text.as_bytes(), expect(None, None)).expect("stored").into_digest();
    let (kept, leased, late, gone) = (put("kept"), put("leased"), put("late"), put("gone"));
    fs::write(store.root().join("blobs/sha256/stray"), "12345").expect("written");
    let lease = store.lease(&leased);
    let late_lease = store.lease(&late);
    let pruned = store
        .prune(|| {
            // An operation ends while references are being read: its blob may be referenced by now.
            drop(late_lease);
            Ok::<_, StoreError>(BTreeSet::from([kept.clone()]))
        })
        .expect("pruned");
    assert_eq!(pruned, Pruned { count: 2, bytes: 9 });
    let present = |digest: &Digest| store.size(digest).expect("readable").is_some();
    assert_eq!([&kept, &leased, &late, &gone].map(present), [true, true, true, false]);
    drop(lease);
    let keep = || Ok::<_, StoreError>(BTreeSet::from([kept.clone()]));
    assert_eq!(store.prune(keep).expect("pruned").count, 2);
    assert!(present(&kept));
}

//! What fuzzing checks of bytes from the disk; part of no other build.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::journal::mend;
use crate::frame::Header;
use crate::{Key, Record};

/// Reads `frame` as a record, whose header is written as it was read.
///
/// # Panics
/// It does not.
pub fn record(frame: &[u8]) {
    let Ok(header) = Header::decode(frame) else { return };
    let mut written = Vec::new();
    header.encode(&mut written);
    assert_eq!(Header::decode(&written), Ok(header.clone()));
    if header.sealed {
        return;
    }
    let key = Key::new("/k").expect("it is a key");
    if let Ok(record) = Record::from_frame(key, Bytes::copy_from_slice(frame)) {
        let deleted = record.deleted_at(record.mod_revision());
        assert_eq!(deleted.as_slice(), record.as_slice());
    }
}

/// Mends `journal` as the only one of `directory`; mending again changes nothing.
///
/// # Panics
/// The directory cannot be used.
pub fn journal(directory: &Path, journal: &[u8]) {
    let path = directory.join("0.jnl");
    fs::write(&path, journal).expect("a journal can be written");
    let first = mend(directory).map_err(|error| error.to_string());
    let kept = fs::read(&path).expect("the journal is there");
    assert!(journal.starts_with(&kept), "mending only cuts");
    assert!(first.is_ok() || kept.len() == journal.len(), "evidence is left alone");
    assert_eq!(mend(directory).map_err(|error| error.to_string()), first);
    assert_eq!(fs::read(&path).expect("the journal is there"), kept);
}

//! What fuzzing checks of bytes from etcd; part of no other build.

use std::sync::Arc;

use bytes::BytesMut;
use imbl::OrdMap;

use super::messages::{RangeFound, TxnDone, WatchSaid, status_version};
use super::mirror::{Codec, Load, Mirror};
use super::names::Names;
use super::rpc::take_message;
use super::value;
use crate::{Key, Revision, Snapshot};

/// Takes messages out of a stream, and each as every answer that it could be.
///
/// # Panics
/// It does not.
pub fn stream(bytes: &[u8]) {
    let names = Names::new(Key::new("/x").expect("it is a key"));
    let codec = Arc::new(Codec { names, encryption: None });
    let mut mirror = Mirror::new(codec.clone(), Snapshot::new(Revision::new(5), OrdMap::new()));
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(message)) = take_message(&mut buffer) {
        if let Ok(said) = WatchSaid::decode(&message) {
            let mut last = Revision::ZERO;
            for step in mirror.take(&said) {
                assert!(step.revision() > last, "revisions rise");
                last = step.revision();
            }
        }
        if let Ok(found) = RangeFound::decode(&message) {
            let mut load = Load::default();
            if load.add(&codec, &found.found).is_ok() {
                assert!(load.finish(found.revision).len() <= found.found.len());
            }
        }
        std::hint::black_box((TxnDone::decode(&message).is_ok(), status_version(&message).is_ok()));
    }
}

/// Reads a value, which is written as it was read.
///
/// # Panics
/// It does not.
pub fn value(bytes: &[u8]) {
    let key = Key::new("/k").expect("it is a key");
    if let Ok(value) = value::decode(None, &key, bytes) {
        let stored = value::encode(None, &key, &value).expect("nothing is sealed");
        assert_eq!(stored.pieces().concat(), bytes);
    }
}

//! A key's current state, and the value that a caller wants to put there.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::{FrameError, HEADER_BYTES, Header, TextSpan};
use crate::memo::Memo;
use crate::{Key, Revision};

/// What a put writes.
///
/// An object holds its own revision, which nobody knows before the commit: `revision_at` says where the store
/// inserts the decimal text of it. `{"resourceVersion":""}` with `revision_at: Some(20)` becomes
/// `{"resourceVersion":"7"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes without the revision's text.
    pub bytes: Bytes,
    /// Offset into `bytes`, at most their length.
    pub revision_at: Option<usize>,
}

impl Value {
    /// A value that does not hold its revision.
    pub fn opaque(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), revision_at: None }
    }

    /// A value that gets its revision's text at `offset`.
    pub fn revised(bytes: impl Into<Bytes>, offset: usize) -> Self {
        Self { bytes: bytes.into(), revision_at: Some(offset) }
    }
}

/// The state of a key at a revision. Never changes; shared as `Arc<Record>`.
#[derive(Debug)]
pub struct Record {
    key: Key,
    header: Header,
    frame: Bytes,
    memo: Memo,
}

impl Record {
    /// The record that writing `value` to `key` makes.
    pub(crate) fn new(key: Key, create_revision: Revision, mod_revision: Revision, value: &Value) -> Self {
        let (before, after) = match value.revision_at {
            Some(at) => (&value.bytes[..at], Some(&value.bytes[at..])),
            None => (&value.bytes[..], None),
        };
        Self::splice(key, create_revision, mod_revision, before, after)
    }

    /// The record that ends this one: its value as it was, but at the revision of the deletion.
    pub(crate) fn deleted_at(&self, revision: Revision) -> Self {
        let value = self.as_slice();
        let (before, after) = match self.header.text {
            Some(TextSpan { offset, length }) => {
                let start = offset as usize;
                (&value[..start], Some(&value[start + usize::from(length)..]))
            }
            None => (value, None),
        };
        Self::splice(self.key.clone(), self.create_revision(), revision, before, after)
    }

    /// The record that `frame` from the disk holds; its value is not sealed.
    pub(crate) fn from_frame(key: Key, frame: Bytes) -> Result<Self, FrameError> {
        let header = Header::decode(&frame)?;
        debug_assert!(!header.sealed, "the disk opens what is sealed");
        header.check_text(&frame[HEADER_BYTES..])?;
        Ok(Self { key, header, frame, memo: Memo::default() })
    }

    /// Joins header and value; the revision's text goes between `before` and `after` when there is an `after`.
    fn splice(
        key: Key,
        create_revision: Revision,
        mod_revision: Revision,
        before: &[u8],
        after: Option<&[u8]>,
    ) -> Self {
        let digits = after.map(|_| mod_revision.to_string()).unwrap_or_default();
        let after = after.unwrap_or_default();
        let text = (!digits.is_empty()).then(|| TextSpan {
            offset: u32::try_from(before.len()).expect("a value is smaller than MAX_VALUE_BYTES"),
            length: u8::try_from(digits.len()).expect("a u64 has at most 20 digits"),
        });
        let header = Header { create_revision, mod_revision, text, sealed: false };
        let mut frame = Vec::with_capacity(HEADER_BYTES + before.len() + digits.len() + after.len());
        header.encode(&mut frame);
        frame.extend_from_slice(before);
        frame.extend_from_slice(digits.as_bytes());
        frame.extend_from_slice(after);
        Self { key, header, frame: frame.into(), memo: Memo::default() }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The revision of the put that made the key after it was absent.
    #[must_use]
    pub fn create_revision(&self) -> Revision {
        self.header.create_revision
    }

    /// The revision of the last put; in a [`crate::EventKind::Deleted`] event, that of the deletion.
    #[must_use]
    pub fn mod_revision(&self) -> Revision {
        self.header.mod_revision
    }

    /// The value, its revision's text included. Shares the record's buffer.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.frame.slice(HEADER_BYTES..)
    }

    /// The value, borrowed.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.frame[HEADER_BYTES..]
    }

    /// What the layer above derives from the value: made by `init` on first use, then kept with the record.
    ///
    /// # Panics
    /// When it was made with another type. The slot is one; a layer that keeps several things puts them in one type.
    pub fn memo<T: Any + Send + Sync>(&self, init: impl FnOnce(&Self) -> T) -> &T {
        self.memo.get_or_init(|| init(self))
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Header and value as they are written to disk.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// Memory that this record holds, estimated.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Arc<Self>>() + size_of::<Self>() + self.key.as_str().len() + self.frame.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Record, Value};
    use crate::{Key, Revision};

    fn record(value: &Value, revision: u64) -> Record {
        Record::new(Key::new("/a").expect("key"), Revision::new(5), Revision::new(revision), value)
    }

    #[test]
    fn the_revision_becomes_part_of_the_value() {
        for (bytes, at, want) in [
            ("", None, ""),
            ("{}", None, "{}"),
            (r#"{"rv":""}"#, Some(7), r#"{"rv":"12"}"#),
            ("x", Some(0), "12x"),
            ("x", Some(1), "x12"),
            ("", Some(0), "12"),
        ] {
            let record = record(&Value { bytes: bytes.into(), revision_at: at }, 12);
            assert_eq!(record.as_slice(), want.as_bytes());
            assert_eq!(record.bytes(), want.as_bytes());

            let loaded = Record::from_frame(record.key().clone(), record.frame().clone()).expect("frame");
            assert_eq!(loaded.as_slice(), want.as_bytes());
            assert_eq!(
                (loaded.create_revision(), loaded.mod_revision()),
                (Revision::new(5), Revision::new(12))
            );

            let deleted = loaded.deleted_at(Revision::new(1_000));
            assert_eq!(deleted.as_slice(), want.replace("12", "1000").as_bytes());
            assert_eq!(deleted.create_revision(), Revision::new(5));
            assert_eq!(deleted.mod_revision(), Revision::new(1_000));
        }
    }

    #[test]
    fn a_memo_sees_the_record() {
        let record = record(&Value::opaque("abc"), 9);
        assert_eq!(record.memo(|record| record.as_slice().len()), &3);
        assert_eq!(record.memo::<usize>(|_| unreachable!("made once")), &3);
    }
}

//! The messages of etcd's API, version 3.4 and later, that the store speaks; of each, the fields that it needs.
//!
//! Field numbers are those of etcd's `rpc.proto` and `kv.proto`.

use super::wire::{Reader, WireError, Writer};
use crate::Revision;

/// A range of keys, or one.
#[derive(Clone, Debug, Default)]
pub(super) struct Range<'a> {
    pub(super) key: &'a [u8],
    /// Empty for one key.
    pub(super) end: &'a [u8],
    /// Zero for all.
    pub(super) limit: u64,
    /// Zero for the newest state.
    pub(super) revision: Revision,
    pub(super) count_only: bool,
}

impl Range<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.key.len() + self.end.len() + 40);
        self.write(&mut writer);
        writer.into_bytes()
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.bytes(1, &[self.key]);
        if !self.end.is_empty() {
            writer.bytes(2, &[self.end]);
        }
        writer.number(3, self.limit);
        writer.number(4, self.revision.get());
        writer.flag(9, self.count_only);
    }
}

/// A key and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyValue<'a> {
    pub(super) key: &'a [u8],
    pub(super) create_revision: Revision,
    pub(super) mod_revision: Revision,
    pub(super) value: &'a [u8],
}

impl<'a> KeyValue<'a> {
    fn decode(mut reader: Reader<'a>) -> Result<Self, WireError> {
        let mut found = Self::default();
        while let Some(field) = reader.next()? {
            match field.number {
                1 => found.key = field.bytes()?,
                2 => found.create_revision = Revision::new(field.number()?),
                3 => found.mod_revision = Revision::new(field.number()?),
                5 => found.value = field.bytes()?,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// What a range holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeFound<'a> {
    /// The store's revision when it was read.
    pub(super) revision: Revision,
    pub(super) found: Vec<KeyValue<'a>>,
    /// Whether the limit cut it off.
    pub(super) more: bool,
}

impl<'a> RangeFound<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        Self::read(Reader::new(bytes))
    }

    fn read(mut reader: Reader<'a>) -> Result<Self, WireError> {
        let mut response = Self::default();
        while let Some(field) = reader.next()? {
            match field.number {
                1 => response.revision = header_revision(field.message()?)?,
                2 => response.found.push(KeyValue::decode(field.message()?)?),
                3 => response.more = field.flag()?,
                _ => {}
            }
        }
        Ok(response)
    }
}

fn header_revision(mut reader: Reader<'_>) -> Result<Revision, WireError> {
    let mut revision = Revision::ZERO;
    while let Some(field) = reader.next()? {
        if field.number == 3 {
            revision = Revision::new(field.number()?);
        }
    }
    Ok(revision)
}

/// What must hold of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Absent,
    Exists,
    ModifiedAt(Revision),
    /// What no key ever does.
    Never,
}

impl Compare {
    pub(super) fn write(self, writer: &mut Writer, key: &[&[u8]]) {
        const EQUAL: u64 = 0;
        const GREATER: u64 = 1;
        const LESS: u64 = 2;
        const CREATED: u64 = 1;
        const MODIFIED: u64 = 2;
        let (result, target, union, revision) = match self {
            Self::Absent => (EQUAL, CREATED, 5, 0),
            Self::Exists => (GREATER, CREATED, 5, 0),
            Self::ModifiedAt(revision) => (EQUAL, MODIFIED, 6, revision.get()),
            Self::Never => (LESS, MODIFIED, 6, 0),
        };
        writer.number(1, result);
        writer.number(2, target);
        writer.bytes(3, key);
        writer.number(union, revision);
    }
}

/// The answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TxnDone<'a> {
    pub(super) revision: Revision,
    pub(super) succeeded: bool,
    /// What the ranges in it found, in their order.
    pub(super) ranges: Vec<RangeFound<'a>>,
}

impl<'a> TxnDone<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut response = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => response.revision = header_revision(field.message()?)?,
                2 => response.succeeded = field.flag()?,
                3 => {
                    let mut operation = field.message()?;
                    while let Some(field) = operation.next()? {
                        if field.number == 1 {
                            response.ranges.push(RangeFound::read(field.message()?)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(response)
    }
}

/// The request for a compaction.
pub(super) fn compaction(revision: Revision) -> Vec<u8> {
    let mut writer = Writer::new(16);
    writer.number(1, revision.get());
    writer.into_bytes()
}

/// The request for events of a range from a revision on.
pub(super) fn watch(key: &[u8], end: &[u8], start: Revision) -> Vec<u8> {
    let mut writer = Writer::new(key.len() + end.len() + 40);
    writer.message(1, |create| {
        create.bytes(1, &[key]);
        create.bytes(2, &[end]);
        create.number(3, start.get());
        create.flag(4, true); // notices of progress
        create.flag(8, true); // large answers in fragments
    });
    writer.into_bytes()
}

/// The request to be told how far a watch is.
pub(super) fn watch_progress() -> Vec<u8> {
    let mut writer = Writer::new(8);
    writer.message(3, |_| ());
    writer.into_bytes()
}

/// What a watch says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WatchSaid<'a> {
    pub(super) revision: Revision,
    /// It has begun.
    pub(super) created: bool,
    /// It has ended.
    pub(super) canceled: bool,
    /// When it ended since the past is gone: the oldest revision that is left.
    pub(super) compacted: Revision,
    pub(super) reason: String,
    /// The last revision's events may go on in the next message.
    pub(super) fragment: bool,
    pub(super) events: Vec<Change<'a>>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    pub(super) deleted: bool,
    /// Of a deletion only the key and the revision at which it happened.
    pub(super) key_value: KeyValue<'a>,
}

impl<'a> WatchSaid<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut said = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => said.revision = header_revision(field.message()?)?,
                3 => said.created = field.flag()?,
                4 => said.canceled = field.flag()?,
                5 => said.compacted = Revision::new(field.number()?),
                6 => said.reason = field.text()?,
                7 => said.fragment = field.flag()?,
                11 => said.events.push(Change::decode(field.message()?)?),
                _ => {}
            }
        }
        Ok(said)
    }
}

impl<'a> Change<'a> {
    fn decode(mut reader: Reader<'a>) -> Result<Self, WireError> {
        let mut change = Self { deleted: false, key_value: KeyValue::default() };
        while let Some(field) = reader.next()? {
            match field.number {
                1 => change.deleted = field.flag()?,
                2 => change.key_value = KeyValue::decode(field.message()?)?,
                _ => {}
            }
        }
        Ok(change)
    }
}

/// The version of an etcd server, as its status tells it.
pub(super) fn status_version(bytes: &[u8]) -> Result<String, WireError> {
    let mut version = String::new();
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next()? {
        if field.number == 2 {
            version = field.text()?;
        }
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::{Change, KeyValue, RangeFound, TxnDone, WatchSaid, Writer, status_version};
    use crate::Revision;

    fn message(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.into_bytes()
    }

    fn header(writer: &mut Writer, revision: u64) {
        writer.message(1, |header| {
            header.number(1, u64::MAX);
            header.number(3, revision);
        });
    }

    fn key_value(writer: &mut Writer, field: u64, key: &str, value: &str) {
        writer.message(field, |kv| {
            kv.bytes(1, &[key.as_bytes()]);
            kv.number(2, 3);
            kv.number(3, 9);
            kv.number(4, 2);
            kv.bytes(5, &[value.as_bytes()]);
        });
    }

    fn expected<'a>(key: &'a str, value: &'a str) -> KeyValue<'a> {
        KeyValue {
            key: key.as_bytes(),
            create_revision: Revision::new(3),
            mod_revision: Revision::new(9),
            value: value.as_bytes(),
        }
    }

    #[test]
    fn ranges_are_read() {
        let bytes = message(|range| {
            header(range, 12);
            key_value(range, 2, "/a", "x");
            key_value(range, 2, "/b", "");
            range.number(3, 1);
            range.number(4, 7);
        });
        let found = RangeFound {
            revision: Revision::new(12),
            found: vec![expected("/a", "x"), expected("/b", "")],
            more: true,
        };
        assert_eq!(RangeFound::decode(&bytes), Ok(found.clone()));
        let bytes = message(|txn| {
            header(txn, 13);
            txn.message(3, |put| put.message(2, |_| ()));
            txn.message(3, |range| range.bytes(1, &[&bytes]));
        });
        let done = TxnDone { revision: Revision::new(13), succeeded: false, ranges: vec![found] };
        assert_eq!(TxnDone::decode(&bytes), Ok(done));
    }

    #[test]
    fn watches_are_read() {
        let bytes = message(|watch| {
            header(watch, 12);
            watch.number(7, 1);
            watch.message(11, |event| key_value(event, 2, "/a", "x"));
            watch.message(11, |event| {
                event.number(1, 1);
                key_value(event, 2, "/b", "");
            });
        });
        let events = vec![
            Change { deleted: false, key_value: expected("/a", "x") },
            Change { deleted: true, key_value: expected("/b", "") },
        ];
        let said = WatchSaid { revision: Revision::new(12), fragment: true, events, ..WatchSaid::default() };
        assert_eq!(WatchSaid::decode(&bytes), Ok(said));
        let bytes = message(|watch| {
            watch.number(4, 1);
            watch.number(5, 40);
            watch.bytes(6, &[b"gone"]);
        });
        let said = WatchSaid::decode(&bytes).expect("a message");
        assert_eq!((said.canceled, said.compacted.get(), &*said.reason), (true, 40, "gone"));
        assert_eq!(status_version(&message(|status| status.bytes(2, &[b"3.4.23"]))).as_deref(), Ok("3.4.23"));
    }
}

//! Transactions: conditions on keys and operations that happen together or not at all.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::limits::{MAX_TXN_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES};
use crate::{Event, Key, Record, Revision, Value};

/// What must hold for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent(Key),
    /// The key exists, at whatever revision.
    Exists(Key),
    /// The key was last modified at this revision.
    At(Key, Revision),
}

impl Condition {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Exists(key) | Self::At(key, _) => key,
        }
    }

    pub(crate) fn holds(&self, current: Option<&Arc<Record>>) -> bool {
        match self {
            Self::Absent(_) => current.is_none(),
            Self::Exists(_) => current.is_some(),
            Self::At(_, revision) => current.is_some_and(|record| record.mod_revision() == *revision),
        }
    }
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates or replaces the record.
    Put(Key, Value),
    /// Removes the record. An absent key is a [`Conflict`]: every commit changes something.
    Delete(Key),
}

impl Op {
    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.as_str().len() + value.bytes.len(),
            Self::Delete(key) => key.as_str().len(),
        }
    }
}

/// Conditions and operations, committed atomically at one revision. Each key has at most one operation.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// All happen, in this order; at least one.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Puts a key that must be absent.
    #[must_use]
    pub fn create(key: Key, value: Value) -> Self {
        Self::default().when(Condition::Absent(key.clone())).put(key, value)
    }

    /// Puts a key that must be at `revision`.
    #[must_use]
    pub fn update(key: Key, revision: Revision, value: Value) -> Self {
        Self::default().when(Condition::At(key.clone(), revision)).put(key, value)
    }

    /// Deletes a key that must be at `revision`.
    #[must_use]
    pub fn delete_at(key: Key, revision: Revision) -> Self {
        Self::default().when(Condition::At(key.clone(), revision)).delete(key)
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: Key, value: Value) -> Self {
        self.ops.push(Op::Put(key, value));
        self
    }

    /// Adds a deletion.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.ops.push(Op::Delete(key));
        self
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.ops.iter().map(Op::bytes).sum()
    }

    /// Checks everything that does not depend on the store's state.
    pub(crate) fn check(&self) -> Result<(), TxnError> {
        let parts = self.ops.len().max(self.conditions.len());
        if self.ops.is_empty() {
            return Err(TxnError::Empty);
        }
        if parts > MAX_TXN_OPS {
            return Err(TxnError::TooManyOps { count: parts });
        }
        let mut keys = HashSet::with_capacity(self.ops.len());
        for op in &self.ops {
            if !keys.insert(op.key()) {
                return Err(TxnError::DuplicateKey { key: op.key().clone() });
            }
            if let Op::Put(key, value) = op {
                check_value(key, value)?;
            }
        }
        if self.bytes() > MAX_TXN_BYTES {
            return Err(TxnError::TooLarge { bytes: self.bytes() });
        }
        Ok(())
    }
}

fn check_value(key: &Key, value: &Value) -> Result<(), TxnError> {
    let bytes = value.bytes.len();
    if bytes > MAX_VALUE_BYTES {
        return Err(TxnError::ValueTooLarge { key: key.clone(), bytes });
    }
    match value.revision_at {
        Some(offset) if offset > bytes => Err(TxnError::RevisionOffset { key: key.clone(), offset, bytes }),
        Some(_) | None => Ok(()),
    }
}

/// Why a transaction can never be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// It has no operation.
    #[error("a transaction needs at least one operation")]
    Empty,
    /// It has more operations, or more conditions, than [`MAX_TXN_OPS`].
    #[error("{count} operations are more than the limit of {limit} in a transaction", limit = MAX_TXN_OPS)]
    TooManyOps {
        /// How many it has.
        count: usize,
    },
    /// Two operations on one key.
    #[error("a transaction changes {key} twice")]
    DuplicateKey {
        /// The key.
        key: Key,
    },
    /// A value is larger than [`MAX_VALUE_BYTES`].
    #[error("the value of {key} has {bytes} bytes, more than the limit of {limit}", limit = MAX_VALUE_BYTES)]
    ValueTooLarge {
        /// Its key.
        key: Key,
        /// Its size.
        bytes: usize,
    },
    /// All together is larger than [`MAX_TXN_BYTES`].
    #[error("a transaction of {bytes} bytes is larger than the limit of {limit}", limit = MAX_TXN_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// etcd takes no request as large.
    #[error(
        "a transaction of {bytes} bytes is larger than etcd takes; its limit is 1.5 MiB unless it was started with \
         --max-request-bytes"
    )]
    LargerThanEtcdTakes {
        /// Its size.
        bytes: usize,
    },
    /// etcd takes no transaction of as many operations.
    #[error(
        "a transaction of {count} operations has more than etcd takes; its limit is 128 unless it was started with \
         --max-txn-ops"
    )]
    MoreThanEtcdTakes {
        /// How many it has.
        count: usize,
    },
    /// The revision's text would stand behind the value's end.
    #[error("the value of {key} has {bytes} bytes and cannot take its revision at {offset}")]
    RevisionOffset {
        /// The key.
        key: Key,
        /// The offset asked for.
        offset: usize,
        /// The value's size.
        bytes: usize,
    },
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its revision.
    pub revision: Revision,
    /// One event per operation, in their order.
    pub events: Vec<Arc<Event>>,
}

/// A condition that did not hold. Nothing was changed.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The first condition that failed.
    pub expected: Condition,
    /// What the key holds instead.
    pub current: Option<Arc<Record>>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expected {
            Condition::Absent(key) => write!(out, "{key} already exists"),
            Condition::Exists(key) => write!(out, "{key} does not exist"),
            Condition::At(key, wanted) => match &self.current {
                Some(record) => write!(out, "{key} is at revision {}, not {wanted}", record.mod_revision()),
                None => write!(out, "{key} does not exist, expected at revision {wanted}"),
            },
        }
    }
}

impl Error for Conflict {}

/// Why a commit did not happen, or may not have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The transaction breaks a rule or a limit.
    #[error(transparent)]
    Invalid(#[from] TxnError),
    /// The disk did not take it. It was not acknowledged and nobody has seen it; when the store goes on it is as if
    /// it never was, only when the process dies before may it turn out to be there. Everything acknowledged is safe,
    /// and reads go on.
    #[error("the store cannot write: {fault}")]
    Storage {
        /// What is known about the fault, and what to do.
        fault: StorageFault,
        /// The disk's error.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The answer did not come, or cannot be shown yet.
    #[error("it is not known whether the write has happened, look before trying again: {reason}")]
    Unknown {
        /// What was seen of it, in words.
        reason: String,
    },
    /// The writer ended before it answered. Whether the transaction happened shows after a restart.
    #[error("the store ended before it answered; the transaction may have happened")]
    Unanswered,
    /// The store was shut down before it took the transaction.
    #[error("the store is shut down")]
    Closed,
}

/// What is known about a disk that refuses writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageFault {
    /// No room, a quota or a file size limit. Writing resumes by itself.
    #[error("no space left for the data directory; free some, writing then resumes by itself")]
    OutOfSpace,
    /// The disk failed, or the engine's background work did, most often because the disk was full. The files are
    /// opened again on later writes, at most once a second; writing resumes when that works.
    #[error("the disk or the storage engine failed; check the disk, writing is tried again")]
    Engine,
    /// etcd cannot be reached, or has no leader. Nothing was sent.
    #[error("etcd cannot be reached, or has no leader; writing resumes by itself when it is back")]
    Unreachable,
    /// etcd refuses what it was asked for. Nothing was written.
    #[error("etcd refuses to write")]
    Refused,
    /// A value could not be encrypted. Nothing was written; other transactions are not affected.
    #[error("a value could not be encrypted")]
    Seal,
}

#[cfg(test)]
mod tests {
    use super::{Condition, Txn, TxnError};
    use crate::limits::{MAX_TXN_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES};
    use crate::{Key, Value};

    fn key(number: usize) -> Key {
        Key::new(format!("/k/{number:04}")).expect("key")
    }

    fn puts(count: usize, bytes: usize) -> Txn {
        let value = Value::opaque(vec![b'x'; bytes]);
        (0..count).fold(Txn::default(), |txn, number| txn.put(key(number), value.clone()))
    }

    #[test]
    fn limits_are_checked_before_anything_is_queued() {
        let offset = Value::revised("ab", 3);
        for (txn, want) in [
            (puts(1, 0), Ok(())),
            (puts(MAX_TXN_OPS, 10), Ok(())),
            (puts(1, MAX_VALUE_BYTES), Ok(())),
            (Txn::default(), Err(TxnError::Empty)),
            (Txn::default().when(Condition::Exists(key(0))), Err(TxnError::Empty)),
            (puts(MAX_TXN_OPS + 1, 0), Err(TxnError::TooManyOps { count: MAX_TXN_OPS + 1 })),
            (
                (0..=MAX_TXN_OPS).fold(puts(1, 0), |txn, number| txn.when(Condition::Exists(key(number)))),
                Err(TxnError::TooManyOps { count: MAX_TXN_OPS + 1 }),
            ),
            (puts(1, 0).delete(key(0)), Err(TxnError::DuplicateKey { key: key(0) })),
            (
                puts(1, MAX_VALUE_BYTES + 1),
                Err(TxnError::ValueTooLarge { key: key(0), bytes: MAX_VALUE_BYTES + 1 }),
            ),
            (
                puts(2, MAX_TXN_BYTES / 2),
                Err(TxnError::TooLarge { bytes: MAX_TXN_BYTES + 2 * "/k/0000".len() }),
            ),
            (
                Txn::default().put(key(0), offset),
                Err(TxnError::RevisionOffset { key: key(0), offset: 3, bytes: 2 }),
            ),
        ] {
            assert_eq!(txn.check(), want);
        }
    }
}

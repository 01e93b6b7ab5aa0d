//! What a commit did to one key.

use std::any::Any;
use std::sync::Arc;

use crate::memo::Memo;
use crate::{Key, Record, Revision};

/// How a key changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was absent.
    Created,
    /// The key was present, also when the value stayed the same.
    Modified,
    /// The key is absent now.
    Deleted,
}

/// One change of one key. Exists once, shared by all watchers.
#[derive(Debug)]
pub struct Event {
    record: Arc<Record>,
    previous: Option<Arc<Record>>,
    kind: EventKind,
    memo: Memo,
}

impl Event {
    pub(crate) fn put(record: Arc<Record>, previous: Option<Arc<Record>>) -> Self {
        let kind = if previous.is_some() { EventKind::Modified } else { EventKind::Created };
        Self { record, previous, kind, memo: Memo::default() }
    }

    pub(crate) fn delete(previous: Arc<Record>, revision: Revision) -> Self {
        let record = Arc::new(previous.deleted_at(revision));
        Self { record, previous: Some(previous), kind: EventKind::Deleted, memo: Memo::default() }
    }

    /// How the key changed.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.record.key()
    }

    /// The commit that did it. All events of a transaction have the same.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.record.mod_revision()
    }

    /// The key's state after the change. Of a deletion: the last value, with the deletion's revision in it.
    #[must_use]
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The key's state before the change; none when it was created.
    #[must_use]
    pub fn previous(&self) -> Option<&Arc<Record>> {
        self.previous.as_ref()
    }

    /// What the layer above derives from the event, its encoding for the wire for example: made by `init` on first
    /// use, then shared by all watchers.
    ///
    /// # Panics
    /// When it was made with another type, see [`Record::memo`].
    pub fn memo<T: Any + Send + Sync>(&self, init: impl FnOnce(&Self) -> T) -> &T {
        self.memo.get_or_init(|| init(self))
    }

    /// The record that the key has now.
    pub(crate) fn live(&self) -> Option<&Arc<Record>> {
        (self.kind != EventKind::Deleted).then_some(&self.record)
    }

    /// Memory that this event holds, estimated.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>() + self.record.cost() + self.previous.as_ref().map_or(0, |record| record.cost())
    }
}

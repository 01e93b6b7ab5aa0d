//! The store that is in memory only: nothing of it survives the process, nothing is on disk, and it has no thread.
//!
//! For clusters that live as long as a test. A commit is decided, published and announced in the caller's turn: what the
//! other backends do while they wait for a disk has nothing to wait for here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use imbl::OrdMap;

use crate::limits::Limits;
use crate::live::Live;
use crate::stage::Stage;
use crate::{
    BoxFuture, CommitError, Committed, Health, Revision, Scope, Snapshot, Store, StoreError, Txn, Watch,
};

/// A store that is forgotten when it is dropped. Of [`Limits`], those of history and watches count.
pub struct Memory {
    live: Live,
    /// Held while a transaction is decided and published, so that this happens in one order.
    turn: Mutex<Turn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Open,
    Closed,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let empty = Snapshot::new(Revision::FIRST, OrdMap::new());
        Self { live: Live::new(empty, limits, Instant::now()), turn: Mutex::new(Turn::Open) }
    }

    fn apply(&self, txn: &Txn) -> Result<Committed, CommitError> {
        txn.check()?;
        let turn = self.turn();
        if *turn == Turn::Closed {
            return Err(CommitError::Closed);
        }
        let mut stage = Stage::new(self.live.snapshot(), None);
        let committed = stage.apply(txn)?;
        let (steps, now) = (stage.into_steps(), Instant::now());
        self.live.advance(&steps, now);
        self.live.announce(&steps, now);
        Ok(committed)
    }

    fn close(&self) {
        *self.turn() = Turn::Closed;
        self.live.close();
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // It only says whether the store is open, which no panic can leave half said.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn snapshot(&self) -> Snapshot {
        self.live.snapshot()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, StoreError> {
        self.live.snapshot_at(revision)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move { self.apply(&txn) })
    }

    fn watch(&self, scope: Scope, after: Revision) -> Result<Watch, StoreError> {
        self.live.watch(scope, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.live.compact(before, Instant::now()) })
    }

    fn health(&self) -> Health {
        match *self.turn() {
            Turn::Open => Health::Writable,
            Turn::Closed => Health::Closed,
        }
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.close() })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.close();
    }
}

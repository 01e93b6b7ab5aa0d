//! The contract that every backend keeps. The suite in `contract` checks it.

use std::pin::Pin;

use crate::{CommitError, Committed, Revision, Scope, Snapshot, StorageFault, Txn, Watch};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Revisioned keys and bytes. Used as `Arc<dyn Store>`.
///
/// Guarantees, of every backend:
/// - A transaction happens entirely or not at all, at one revision, greater than every revision before it.
/// - When `commit` has answered, the transaction survives the death of the process and of the machine; in
///   [`Memory`](crate::Memory), which nothing survives, it survives its caller.
/// - No reader and no watcher sees a transaction that could still be lost.
/// - A snapshot taken after `commit` has answered contains the transaction.
/// - All watches deliver the events that they share in one order, that of the revisions, each exactly once.
pub trait Store: Send + Sync {
    /// The newest committed state.
    fn snapshot(&self) -> Snapshot;

    /// The state at exactly `revision`.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when it is not kept any more, [`StoreError::Future`] when it does not exist yet.
    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, StoreError>;

    /// A state that contains all that was committed before the call, by whomever. [`Self::snapshot`] has this already
    /// when nobody else commits.
    fn newest(&self) -> CatchUp<'_> {
        CatchUp::Done(self.snapshot())
    }

    /// A state at `revision` or later. One that does not come within a few seconds is not waited for: then the answer is an
    /// older one.
    fn reaching(&self, revision: Revision) -> CatchUp<'_> {
        let _ = revision;
        CatchUp::Done(self.snapshot())
    }

    /// Whether others commit too, so that [`Self::snapshot`] may lack what they have been told of.
    fn is_shared(&self) -> bool {
        false
    }

    /// The revision of the newest committed state.
    fn current_revision(&self) -> Revision {
        self.snapshot().revision()
    }

    /// Commits `txn`; answers when it is durable. Waits while the queue is full. Dropping the future does not undo a
    /// transaction that is already queued.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// Delivers every event of `scope` with a revision greater than `after`, which may be in the future.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when events after `after` are gone: list again and watch from there.
    fn watch(&self, scope: Scope, after: Revision) -> Result<Watch, StoreError>;

    /// Forgets states and events older than the state at `before`, which itself stays readable. Never forgets the
    /// newest state. Compacting twice to the same revision is the same as once.
    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether commits are expected to work.
    fn health(&self) -> Health;

    /// Refuses new commits, answers the queued ones, ends all watches, releases the files. Reads go on working.
    /// Calling it again waits for the same end.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// A state that is there, or has to be waited for.
#[expect(missing_debug_implementations, reason = "a future shows nothing")]
pub enum CatchUp<'a> {
    /// It is there.
    Done(Snapshot),
    /// It comes.
    Wait(BoxFuture<'a, Result<Snapshot, StoreError>>),
}

impl CatchUp<'_> {
    /// The state.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], [`StoreError::Closed`].
    pub async fn get(self) -> Result<Snapshot, StoreError> {
        match self {
            Self::Done(snapshot) => Ok(snapshot),
            Self::Wait(state) => state.await,
        }
    }
}

/// Whether a store takes commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// The disk, or etcd, takes no writes; reads and watches of what is known work.
    ReadOnly {
        /// What is known about it.
        fault: StorageFault,
        /// The error in words.
        reason: String,
    },
    /// It was shut down.
    Closed,
}

/// Why a read or a watch is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The past that was asked for is forgotten.
    #[error("revision {requested} is compacted, the oldest one is {oldest}; list again")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that would have worked at that moment.
        oldest: Revision,
    },
    /// Nobody has written that revision yet.
    #[error("revision {requested} is newer than the current one, {current}")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// Too many watches are open.
    #[error("{limit} watches are open, the limit; close some or try again later")]
    TooManyWatches {
        /// The limit.
        limit: usize,
    },
    /// Nobody can say what the newest state is.
    #[error("the newest state cannot be had from etcd: {reason}; try again")]
    Unreachable {
        /// The error in words.
        reason: String,
    },
    /// The store was shut down.
    #[error("the store is shut down")]
    Closed,
}

//! The store in this process: all live state in memory, every commit in a journal on disk.
//!
//! One thread, the writer, owns the write path. While it waits for the disk, transactions queue up; it takes all that
//! wait as one group, which costs one sync. Callers wait in the queue, which is bounded by count and bytes.

mod directory;
mod disk;
#[cfg(fuzzing)]
pub mod fuzzing;
mod journal;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use self::directory::{Contents, Directory};
use self::disk::Disk;
use self::writer::{Pending, Request, SharedHealth, Writer};
use crate::limits::Limits;
use crate::live::Live;
use crate::room::Room;
use crate::stage::Changes;
use crate::{
    BoxFuture, CommitError, Committed, Encryption, Health, Revision, Scope, Snapshot, Store, StoreError, Txn,
    Watch,
};

pub use self::directory::DirectoryError;
pub use self::disk::LoadError;
pub use self::journal::JournalError;

/// What a caller may choose.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedOptions {
    /// Bounds.
    pub limits: Limits,
    /// Encryption at rest. Without it, values lie on disk as they are.
    pub encryption: Option<Encryption>,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The files in it cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A fresh store could not be written.
    #[error("cannot write a fresh store: {reason}")]
    Create {
        /// The disk's error in words.
        reason: String,
    },
    /// The system gave no thread.
    #[error("cannot start the store's writer thread")]
    Thread(#[source] io::Error),
}

/// A store in a directory of its own, used by one process at a time.
///
/// Dropping it does what [`Store::shutdown`] does, but blocks meanwhile.
pub struct Embedded {
    live: Arc<Live>,
    health: SharedHealth,
    /// None once dropping began.
    queue: Option<mpsc::Sender<Request>>,
    room: Room,
    /// Closed when the writer has ended and the directory is free.
    ended: watch::Receiver<()>,
    /// Whether the writer was asked to end.
    asked: AtomicBool,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in `directory`, or makes one when there is nothing. Blocks: reads everything that is live.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the directory.
    pub fn open(directory: &Path, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let EmbeddedOptions { limits, encryption } = options;
        let directory = Directory::acquire(directory)?;
        let contents = directory.inspect()?;
        let mut disk = Disk::open(directory.data(), encryption, limits.disk.clone())?;
        if contents == Contents::Fresh {
            let written = disk.write(&Changes::new(), Revision::FIRST);
            written.map_err(|error| OpenError::Create { reason: error.reason() })?;
            directory.mark_formatted()?;
        }
        let live = Arc::new(Live::new(disk.load()?, &limits, Instant::now()));
        let health = SharedHealth::new();
        let txns = limits.queue.txns.max(1);
        let room = Room::new(&limits.queue);
        let (queue, requests) = mpsc::channel(txns);
        let (end, ended) = watch::channel(());
        let writer = Writer::new(requests, disk, live.clone(), health.clone(), limits.queue);
        let run = move || {
            writer.run();
            drop(directory);
            drop(end);
        };
        let thread =
            thread::Builder::new().name("store-writer".to_owned()).spawn(run).map_err(OpenError::Thread)?;
        Ok(Self {
            live,
            health,
            queue: Some(queue),
            room,
            ended,
            asked: AtomicBool::new(false),
            thread: Some(thread),
        })
    }

    async fn enqueue(&self, txn: Txn) -> Result<Committed, CommitError> {
        txn.check()?;
        let queue = self.queue.as_ref().ok_or(CommitError::Closed)?;
        let room = self.room.take(&txn).await?;
        let (answer, committed) = oneshot::channel();
        let request = Request::Commit(Pending { txn, answer, room });
        queue.send(request).await.map_err(|_| CommitError::Closed)?;
        committed.await.unwrap_or(Err(CommitError::Unanswered))
    }
}

impl Store for Embedded {
    fn snapshot(&self) -> Snapshot {
        self.live.snapshot()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, StoreError> {
        self.live.snapshot_at(revision)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.enqueue(txn))
    }

    fn watch(&self, scope: Scope, after: Revision) -> Result<Watch, StoreError> {
        self.live.watch(scope, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.live.compact(before, Instant::now()) })
    }

    fn health(&self) -> Health {
        self.health.get()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.asked.store(true, Ordering::Relaxed);
            if let Some(queue) = &self.queue {
                // Refused when the writer has ended already.
                drop(queue.send(Request::Close).await);
            }
            // Nothing is ever sent: this returns when the writer has ended.
            while self.ended.clone().changed().await.is_ok() {}
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue = None;
        if self.asked.load(Ordering::Relaxed) && self.ended.has_changed().is_ok() {
            // Whoever asked for the end has given up waiting for the disk. What was acknowledged is on it.
            tracing::error!("the store's files are not closed yet, and left as they are");
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

//! Reads of the newest state, whoever wrote it.
//!
//! A reader asks etcd for its revision, and waits until the mirror has it. Readers that come while a question is under way
//! share the next one: an answer counts for whoever asked before it was sent. When nobody asks, the question is put all the
//! same from time to time, to know whether etcd answers.
//!
//! etcd's revision also rises with keys of others, of which the watch tells nothing. Then the watch is asked how far it is;
//! where that cannot be relied upon, a key of our own is put, which the watch does tell of.
//!
//! A revision that is older than what is known here ends the store: etcd is not what it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::messages::{Range, RangeFound};
use super::rpc::{EtcdError, in_words};
use super::shared::{PUT, READ, Shared};
use super::wire::Writer;
use crate::{Revision, Snapshot, StoreError};

/// How many readers may wait for one answer.
pub(super) const READERS: usize = 4_096;
/// How often etcd is asked when no reader does.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long a state that has been committed may take to be mirrored.
const MIRRORED: Duration = Duration::from_secs(5);
/// How long the watch may take to come to a revision by itself, and how often it is then moved on.
const BY_ITSELF: Duration = Duration::from_millis(5);
const MOVE_EVERY: Duration = Duration::from_millis(50);

/// A reader that waits for etcd's revision; why there is none, in words.
pub(super) type Reader = oneshot::Sender<Result<Revision, String>>;

/// The state that contains all that was committed before the call.
pub(super) async fn newest(shared: &Shared, readers: &mpsc::Sender<Reader>) -> Result<Snapshot, StoreError> {
    let (answer, revision) = oneshot::channel();
    readers.send(answer).await.map_err(|_| StoreError::Closed)?;
    let revision = revision.await.map_err(|_| StoreError::Closed)?;
    let revision = revision.map_err(|reason| StoreError::Unreachable { reason })?;
    if !shared.wait_for(revision, MIRRORED).await {
        let reason = format!("its changes up to revision {revision} have not come within {MIRRORED:?}");
        return Err(StoreError::Unreachable { reason });
    }
    Ok(shared.live.snapshot())
}

/// Answers readers until the store is shut down.
pub(super) async fn answer(shared: Arc<Shared>, mut readers: mpsc::Receiver<Reader>) {
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            first = timeout(CHECK_EVERY, readers.recv_many(&mut waiting, READERS)) => {
                if matches!(first, Ok(0)) {
                    return;
                }
            }
        }
        let known = *shared.reached.borrow();
        let revision = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            revision = current(&shared) => revision.map_err(|error| in_words(&error)),
        };
        if let Ok(now) = revision
            && now < known
        {
            // Who waits is told that the store has ended.
            return shared.has_gone_back(now, known);
        }
        if let Err(reason) = &revision {
            shared.is_slow(Some(reason.clone()));
        } else {
            shared.is_slow(None);
        }
        for reader in waiting.drain(..) {
            // A reader that has gone does not want the answer.
            drop(reader.send(revision.clone()));
        }
    }
}

/// etcd's revision, confirmed by a majority of its members.
async fn current(shared: &Shared) -> Result<Revision, EtcdError> {
    let range = Range { key: &shared.codec.names.identity, count_only: true, ..Range::default() };
    Ok(RangeFound::decode(&shared.range(&range).await?)?.revision)
}

/// Moves the watch on to revisions that somebody waits for, until the store is shut down.
pub(super) async fn move_on(shared: Arc<Shared>) {
    let mut wanted = shared.wanted.subscribe();
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
        }
        let revision = *wanted.borrow_and_update();
        let mut pause = BY_ITSELF;
        while !shared.wait(pause, |reached| reached >= revision).await && !shared.is_closed() {
            pause = MOVE_EVERY;
            if shared.tells_progress() {
                shared.ask.notify_one();
            } else if let Err(error) = pass(&shared).await {
                tracing::debug!(error = in_words(&error), "etcd is not moved on");
            }
        }
    }
}

async fn pass(shared: &Shared) -> Result<(), EtcdError> {
    let mut put = Writer::default();
    put.bytes(1, &[&shared.codec.names.passed]);
    shared.client.call(PUT, &put.into_bytes(), READ).await.map(drop)
}

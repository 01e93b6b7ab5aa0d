//! What the parts of an etcd store share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::commit::Handover;
use super::messages::Range;
use super::mirror::Codec;
use super::rpc::{Client, EtcdError};
use crate::limits::Limits;
use crate::live::{Live, Step};
use crate::{Health, Revision, Snapshot, StorageFault};

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
pub(super) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// How long etcd may take to answer a read, or a small write of our own.
pub(super) const READ: Duration = Duration::from_secs(5);

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) codec: Arc<Codec>,
    pub(super) live: Live,
    pub(super) limits: Limits,
    pub(super) handover: Handover,
    /// The revision of what can be read.
    pub(super) reached: watch::Sender<Revision>,
    /// A revision that somebody waits for, and that the watch may not come to by itself.
    pub(super) wanted: watch::Sender<Revision>,
    /// The watch is to ask how far it is.
    pub(super) ask: Notify,
    pub(super) shutdown: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why the mirror does not follow at present.
    lost: Option<String>,
    /// Why etcd does not say what its revision is.
    slow: Option<String>,
    /// etcd's database is full.
    full: Option<String>,
    /// Whether what etcd says of a watch's progress can be relied upon.
    tells_progress: bool,
    closed: bool,
}

impl Shared {
    pub(super) fn new(client: Client, codec: Arc<Codec>, snapshot: Snapshot, limits: Limits) -> Self {
        let revision = snapshot.revision();
        Self {
            client,
            codec,
            live: Live::new(snapshot, &limits, Instant::now()),
            limits,
            handover: Handover::default(),
            reached: watch::Sender::new(revision),
            wanted: watch::Sender::new(revision),
            ask: Notify::new(),
            shutdown: CancellationToken::new(),
            state: Mutex::default(),
        }
    }

    /// Lets everybody see what has happened.
    pub(super) fn publish(&self, steps: &[Step]) {
        let Some(last) = steps.last() else { return };
        let now = Instant::now();
        self.live.advance(steps, now);
        self.handover.offer(steps);
        self.reached.send_replace(last.revision());
        self.live.announce(steps, now);
    }

    /// Puts a state that was read anew in the place of all that was known.
    pub(super) fn reset(&self, snapshot: Snapshot) {
        let revision = snapshot.revision();
        self.live.reset(snapshot, &self.limits, Instant::now());
        self.reached.send_replace(revision);
    }

    /// Waits until `is_enough` of what can be read, but not longer than `within`; whether it is.
    pub(super) async fn wait(&self, within: Duration, is_enough: impl Fn(Revision) -> bool + Send) -> bool {
        let mut reached = self.reached.subscribe();
        let seen = reached.wait_for(|revision| is_enough(*revision));
        tokio::time::timeout(within, seen).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Waits for `revision`, to which the watch may have to be moved.
    pub(super) async fn wait_for(&self, revision: Revision, within: Duration) -> bool {
        if *self.reached.borrow() >= revision {
            return true;
        }
        self.wanted.send_if_modified(|wanted| {
            let more = *wanted < revision;
            *wanted = (*wanted).max(revision);
            more
        });
        self.wait(within, |reached| reached >= revision).await
    }

    pub(super) async fn range(&self, range: &Range<'_>) -> Result<Bytes, EtcdError> {
        self.client.call(RANGE, &range.encode(), READ).await
    }

    pub(super) fn health(&self) -> Health {
        let state = self.lock();
        let read_only = |fault, reason: &String| Health::ReadOnly { fault, reason: reason.clone() };
        match (state.lost.as_ref().or(state.slow.as_ref()), &state.full) {
            _ if state.closed => Health::Closed,
            (Some(reason), _) => read_only(StorageFault::Unreachable, reason),
            (None, Some(reason)) => read_only(StorageFault::OutOfSpace, reason),
            (None, None) => Health::Writable,
        }
    }

    pub(super) fn is_lost(&self, reason: String) {
        let mut state = self.lock();
        if state.lost.is_none() {
            tracing::warn!(reason, "etcd does not answer; what is known can be read on");
        }
        state.lost = Some(reason);
    }

    pub(super) fn is_found(&self, tells_progress: bool) {
        let mut state = self.lock();
        state.tells_progress = tells_progress;
        if state.lost.take().is_some() {
            tracing::info!("etcd answers again");
        }
    }

    pub(super) fn is_slow(&self, reason: Option<String>) {
        let mut state = self.lock();
        if state.slow.is_some() != reason.is_some() {
            tracing::warn!(slow = reason.is_some(), "whether etcd confirms reads has changed");
        }
        state.slow = reason;
    }

    pub(super) fn is_full(&self, reason: Option<String>) {
        let mut state = self.lock();
        if state.full.is_some() != reason.is_some() {
            tracing::warn!(full = reason.is_some(), "whether etcd's database has room has changed");
        }
        state.full = reason;
    }

    pub(super) fn tells_progress(&self) -> bool {
        self.lock().tells_progress
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Ends the store when etcd does not have what it had: it was restored from a backup, or is another one. What is known
    /// here, and what clients know, is of no use then; whoever opens the store again reads it anew.
    pub(super) fn has_gone_back(&self, now: Revision, known: Revision) {
        tracing::error!(%now, %known, "etcd has gone back to an older revision: the store ends, to be opened anew");
        self.close();
        self.shutdown.cancel();
        self.live.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

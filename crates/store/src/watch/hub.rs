//! The fan-out: from one publisher to all watchers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::Waker;
use std::time::Instant;

use super::partition::Partition;
use super::scope::{Scope, partition_of};
use super::slot::Slot;
use super::{Subscription, Watch};
use crate::limits::WatchLimits;
use crate::{Event, Revision, StoreError};

/// All partitions of a store. Only its publisher, one thread at a time, appends.
#[derive(Debug)]
pub(crate) struct Hub {
    partitions: RwLock<Partitions>,
    /// Holds every event: for scopes that spread over partitions, and keys too short to have one.
    whole: Arc<Partition>,
    /// Everything up to this revision is in the logs and marked in the slots.
    published: AtomicU64,
    watches: AtomicUsize,
    next_id: AtomicU64,
    limits: WatchLimits,
}

#[derive(Debug)]
struct Partitions {
    by_path: HashMap<Box<str>, Arc<Partition>>,
    /// What a partition that is made now can be sure of: it misses nothing after this revision.
    complete_after: Revision,
    closed: bool,
}

impl Hub {
    /// A hub of a store that is at `revision`: of what happened before nothing is known.
    pub(crate) fn new(revision: Revision, limits: WatchLimits) -> Self {
        Self {
            partitions: RwLock::new(Partitions {
                by_path: HashMap::new(),
                complete_after: revision,
                closed: false,
            }),
            whole: Arc::new(Partition::new("/", revision)),
            published: AtomicU64::new(revision.get()),
            watches: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
            limits,
        }
    }

    pub(crate) fn limits(&self) -> &WatchLimits {
        &self.limits
    }

    pub(crate) fn published(&self) -> Revision {
        Revision::new(self.published.load(Ordering::Acquire))
    }

    /// Adds the events of transactions, in order, then wakes whom they touch.
    pub(crate) fn publish<'a>(&self, txns: impl Iterator<Item = (Revision, &'a [Arc<Event>])>, now: Instant) {
        let mut wakers = Vec::new();
        let mut dropped = Vec::new();
        for (revision, events) in txns {
            self.append(events, now, &mut wakers, &mut dropped);
            self.published.store(revision.get(), Ordering::Release);
        }
        self.trim_all(&mut dropped);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn append(
        &self,
        events: &[Arc<Event>],
        now: Instant,
        wakers: &mut Vec<Waker>,
        dropped: &mut Vec<Arc<Event>>,
    ) {
        let mut paths: Vec<_> =
            events.iter().filter_map(|event| partition_of(event.key().as_str())).collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let partition = self.partition(path);
            let own = events.iter().filter(|event| partition_of(event.key().as_str()) == Some(path));
            partition.append(own, now, wakers);
            partition.trim(&self.limits, now, dropped);
        }
        self.whole.append(events.iter(), now, wakers);
        self.whole.trim(&self.limits, now, dropped);
    }

    /// Takes from the largest log until all together are within the limit.
    fn trim_all(&self, dropped: &mut Vec<Arc<Event>>) {
        let partitions = self.read();
        let logs = || partitions.by_path.values().chain([&self.whole]);
        let mut bytes: usize = logs().map(|partition| partition.read().log.bytes()).sum();
        while bytes > self.limits.log_bytes {
            let largest = logs().max_by_key(|partition| partition.read().log.bytes());
            let Some(event) = largest.and_then(|partition| partition.write().log.pop()) else { return };
            bytes -= event.cost();
            dropped.push(event);
        }
    }

    /// Opens a watch.
    pub(crate) fn subscribe(self: &Arc<Self>, scope: Scope, after: Revision) -> Result<Watch, StoreError> {
        let partition = match scope.partition() {
            Some(path) => self.partition(path),
            None => self.whole.clone(),
        };
        let admission = Admission::take(self)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot::default());
        let next = {
            let mut state = partition.write();
            let complete_after = state.log.complete_after();
            if after < complete_after {
                return Err(StoreError::Compacted { requested: after, oldest: complete_after });
            }
            let next = state.log.position_after(after);
            if next < state.log.end() {
                slot.mark(next);
            }
            partition.register(&mut state, &scope, id, slot.clone());
            next
        };
        // After registering: a close that came earlier did not reach the slot.
        let subscription = Subscription { admission, partition, scope, id, slot };
        if self.read().closed {
            return Err(StoreError::Closed);
        }
        Ok(Watch::new(subscription, next, after))
    }

    /// Forgets the events up to `revision`, and the partitions that nobody uses any more.
    pub(crate) fn compact(&self, revision: Revision, now: Instant) {
        let mut dropped = Vec::new();
        let mut unused = Vec::new();
        let mut partitions = self.write();
        for partition in partitions.by_path.values().chain([&self.whole]) {
            let mut state = partition.write();
            state.log.drop_until(revision, &mut dropped);
            state.log.trim(&self.limits, now, &mut dropped);
        }
        let Partitions { by_path, complete_after, closed: _ } = &mut *partitions;
        *complete_after = revision.max(*complete_after);
        by_path.retain(|_, partition| {
            // The map's lock is held, so nobody else can get a partition that only the map holds.
            let keep = Arc::strong_count(partition) > 1 || !partition.read().is_unused();
            if !keep {
                *complete_after = partition.read().log.complete_after().max(*complete_after);
                unused.push(partition.clone());
            }
            keep
        });
    }

    /// Ends all watches, when they have delivered what is pending.
    pub(crate) fn close(&self) {
        let mut wakers = Vec::new();
        {
            let mut partitions = self.write();
            partitions.closed = true;
            for partition in partitions.by_path.values().chain([&self.whole]) {
                partition.close(&mut wakers);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn partition(&self, path: &str) -> Arc<Partition> {
        if let Some(partition) = self.read().by_path.get(path) {
            return partition.clone();
        }
        let mut partitions = self.write();
        let complete_after = partitions.complete_after;
        let made = || Arc::new(Partition::new(path, complete_after));
        partitions.by_path.entry(path.into()).or_insert_with(made).clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Partitions> {
        self.partitions.read().expect("nothing panics while it holds the partitions")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Partitions> {
        self.partitions.write().expect("nothing panics while it holds the partitions")
    }
}

/// One of the watches that the limit allows; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Admission(Arc<Hub>);

impl Admission {
    fn take(hub: &Arc<Hub>) -> Result<Self, StoreError> {
        let limit = hub.limits.watches;
        let more = |open| (open < limit).then_some(open + 1);
        match hub.watches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self(hub.clone())),
            Err(_) => Err(StoreError::TooManyWatches { limit }),
        }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

//! The fan-out: from one publisher to all watchers.

use std::cmp::Reverse;
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

/// Which part of the limit on all logs is made free when it is reached.
const TRIM_PART: usize = 16;

/// All partitions of a store. Only its publisher, one thread at a time, appends.
#[derive(Debug)]
pub(crate) struct Hub {
    partitions: RwLock<Partitions>,
    /// Holds every event: for scopes that spread over partitions, and keys too short to have one.
    whole: Arc<Partition>,
    /// Everything up to this revision is in the logs and marked in the slots.
    published: AtomicU64,
    /// Bytes of all logs together.
    bytes: AtomicUsize,
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
            bytes: AtomicUsize::new(0),
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
        self.discount(&dropped);
        if self.bytes.load(Ordering::Relaxed) > self.limits.log_bytes {
            self.trim_all();
        }
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
            let own = || events.iter().filter(|event| partition_of(event.key().as_str()) == Some(path));
            self.count(own());
            partition.append(own(), now, wakers);
            partition.trim(&self.limits, now, dropped);
        }
        self.count(events.iter());
        self.whole.append(events.iter(), now, wakers);
        self.whole.trim(&self.limits, now, dropped);
    }

    /// Takes from the largest log until all together are well within the limit: this looks at every log, and is not to
    /// be done on each commit.
    fn trim_all(&self) {
        let partitions = self.read();
        let logs = || partitions.by_path.values().chain([&self.whole]);
        let enough = self.limits.log_bytes - self.limits.log_bytes / TRIM_PART;
        loop {
            let mut excess = self.bytes.load(Ordering::Relaxed).saturating_sub(enough);
            let mut sizes: Vec<_> = logs().map(|log| (log.read().log.bytes(), log)).collect();
            sizes.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
            let [(largest, log), rest @ ..] = &sizes[..] else { return };
            let second = rest.first().map_or(0, |(bytes, _)| *bytes);
            if excess == 0 || *largest == 0 {
                return;
            }
            let mut dropped = Vec::new();
            {
                let mut state = log.write();
                while excess > 0 && (dropped.is_empty() || state.log.bytes() >= second) {
                    let Some(event) = state.log.pop() else { break };
                    excess = excess.saturating_sub(event.cost());
                    dropped.push(event);
                }
            }
            self.discount(&dropped);
        }
    }

    fn count<'a>(&self, events: impl Iterator<Item = &'a Arc<Event>>) {
        self.bytes.fetch_add(events.map(|event| event.cost()).sum(), Ordering::Relaxed);
    }

    fn discount(&self, dropped: &[Arc<Event>]) {
        self.bytes.fetch_sub(dropped.iter().map(|event| event.cost()).sum(), Ordering::Relaxed);
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
        self.discount(&dropped);
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
        by_path.shrink_to_fit();
    }

    /// Forgets everything up to `revision`, and tells every watcher that it has missed something.
    pub(crate) fn reset(&self, revision: Revision) {
        let (mut wakers, mut dropped) = (Vec::new(), Vec::new());
        {
            let mut partitions = self.write();
            partitions.complete_after = revision.max(partitions.complete_after);
            for partition in partitions.by_path.values().chain([&self.whole]) {
                partition.reset(revision, &mut wakers, &mut dropped);
            }
            self.published.store(revision.get(), Ordering::Release);
        }
        self.discount(&dropped);
        wakers.into_iter().for_each(Waker::wake);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use super::{Hub, TRIM_PART};
    use crate::limits::WatchLimits;
    use crate::{Event, Key, Prefix, Record, Revision, Scope, Value, WatchError};

    fn publish(hub: &Hub, path: &str, revision: u64, bytes: usize, now: Instant) {
        let (key, revision) = (Key::new(path).expect("key"), Revision::new(revision));
        let record = Record::new(key, revision, revision, &Value::opaque(vec![b'x'; bytes]));
        let event = Arc::new(Event::put(Arc::new(record), None));
        hub.publish([(revision, &[event][..])].into_iter(), now);
    }

    /// What the logs hold, counted, and what the hub says.
    fn bytes(hub: &Hub) -> (usize, usize) {
        let partitions = hub.read();
        let logs = partitions.by_path.values().chain([&hub.whole]);
        (logs.map(|log| log.read().log.bytes()).sum(), hub.bytes.load(Ordering::Relaxed))
    }

    #[test]
    fn the_bytes_of_all_logs_are_known_and_bounded() {
        let limits = WatchLimits { log_bytes: 200_000, log_events: 300, ..WatchLimits::default() };
        let hub = Hub::new(Revision::FIRST, limits.clone());
        let now = Instant::now();
        for number in 2..1_000_u64 {
            let path = format!("/r/core/{}/x", if number % 7 == 0 { "small" } else { "large" });
            publish(&hub, &path, number, 100 + (number as usize * 37) % 900, now);
            let (held, known) = bytes(&hub);
            assert_eq!(held, known, "after {number}");
            assert!(known <= limits.log_bytes, "{known} after {number}");
        }
        assert!(
            bytes(&hub).1 >= limits.log_bytes - limits.log_bytes / TRIM_PART - 4_000,
            "no more is dropped"
        );
        let small = hub.partition("/r/core/small/");
        assert!(
            small.read().log.complete_after() < hub.partition("/r/core/large/").read().log.complete_after()
        );
        hub.compact(Revision::new(990), now);
        let (held, known) = bytes(&hub);
        assert!(held == known && known > 0, "{held} held, {known} known");
        hub.compact(Revision::new(999), now);
        assert_eq!(bytes(&hub), (0, 0));
    }

    #[test]
    fn after_a_reset_all_watchers_list_again() {
        let hub = Arc::new(Hub::new(Revision::FIRST, WatchLimits::default()));
        let now = Instant::now();
        let scopes = ["/", "/r/core/pods/", "/r/core/pods/a/", "/r/core/nodes/"];
        let open = |path: &str, after: u64| {
            hub.subscribe(Scope::Prefix(Prefix::new(path).expect("prefix")), Revision::new(after))
        };
        publish(&hub, "/r/core/pods/a/x", 2, 10, now);
        let mut watches: Vec<_> = scopes.map(|path| open(path, 1).expect("watch")).into();
        assert_eq!(watches[1].try_next().expect("alive").map(|batch| batch.events.len()), Some(1));
        hub.reset(Revision::new(10));
        for watch in &mut watches {
            assert!(matches!(watch.try_next(), Err(WatchError::TooSlow { .. })), "{}", watch.scope());
        }
        assert_eq!(bytes(&hub), (0, 0));
        for path in scopes {
            open(path, 9).expect_err("before the reset");
        }
        let mut watches = scopes.map(|path| open(path, 10).expect("from the new list"));
        publish(&hub, "/r/core/pods/a/x", 11, 10, now);
        for watch in &mut watches {
            let seen = watch.try_next().expect("alive").map_or(0, |batch| batch.events.len());
            assert_eq!(seen, usize::from(watch.scope().to_string() != "/r/core/nodes/"), "{}", watch.scope());
        }
    }

    #[test]
    fn what_nobody_uses_is_forgotten_and_comes_back() {
        let hub = Arc::new(Hub::new(Revision::FIRST, WatchLimits::default()));
        let now = Instant::now();
        for number in 2..100 {
            publish(&hub, &format!("/r/core/kind-{number}/x"), number, 10, now);
        }
        let watched = Scope::Prefix(Prefix::new("/r/core/kind-50/").expect("prefix"));
        let watch = hub.subscribe(watched, Revision::new(99)).expect("watch");
        assert_eq!(hub.read().by_path.len(), 98);
        hub.compact(Revision::new(90), now);
        assert_eq!(hub.read().by_path.len(), 10, "91 to 99, and the one that is watched");
        // Age alone is enough.
        hub.compact(Revision::new(90), now + WatchLimits::default().age + Duration::from_secs(1));
        assert_eq!(hub.read().by_path.len(), 1);
        drop(watch);
        hub.compact(Revision::new(90), now);
        let partitions = hub.read();
        assert_eq!((partitions.by_path.len(), partitions.by_path.capacity()), (0, 0));
        drop(partitions);
        publish(&hub, "/r/core/kind-7/x", 100, 10, now);
        assert_eq!(hub.partition("/r/core/kind-7/").read().log.end(), 1);
    }
}

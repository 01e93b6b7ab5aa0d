//! The ring of recent states: the newest one, and old ones for exact-revision reads.
//!
//! Revisions may pass without a change, as those of others on a shared etcd do: a state holds until the next one.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits::HistoryLimits;
use crate::{Revision, Snapshot, StoreError};

/// What an old state costs beyond replaced records: the map nodes that a commit copies, about four levels.
const COPIED_NODES_BYTES: usize = 2_048;

/// States by revision, oldest first: each holds from its revision until that of the next.
#[derive(Debug)]
pub(crate) struct History {
    ring: VecDeque<State>,
    bytes: usize,
    limits: HistoryLimits,
    /// Until here the newest state holds.
    current: Revision,
    /// What is older is forgotten, whatever the ring still holds of it.
    floor: Revision,
}

/// A state that left the ring. The caller drops it outside the lock: it may free many nodes.
pub(crate) type Forgotten = Vec<Snapshot>;

#[derive(Debug)]
struct State {
    snapshot: Snapshot,
    /// What keeping the state *before* this one costs.
    cost: usize,
    at: Instant,
}

impl History {
    pub(crate) fn new(snapshot: Snapshot, limits: HistoryLimits, now: Instant) -> Self {
        let current = snapshot.revision();
        let ring = VecDeque::from([State { snapshot, cost: 0, at: now }]);
        Self { ring, bytes: 0, limits, current, floor: current }
    }

    pub(crate) fn newest(&self) -> Snapshot {
        self.ring.back().expect("the newest state is never forgotten").snapshot.clone().seen_at(self.current)
    }

    fn oldest(&self) -> Revision {
        let first = self.ring.front().expect("the newest state is never forgotten").snapshot.revision();
        first.max(self.floor)
    }

    pub(crate) fn at(&self, revision: Revision) -> Result<Snapshot, StoreError> {
        let (oldest, current) = (self.oldest(), self.current);
        if revision < oldest {
            return Err(StoreError::Compacted { requested: revision, oldest });
        }
        if revision > current {
            return Err(StoreError::Future { requested: revision, current });
        }
        let later = self.ring.partition_point(|state| state.snapshot.revision() <= revision);
        Ok(self.ring[later - 1].snapshot.clone().seen_at(revision))
    }

    /// Makes `snapshot` the newest state; `replaced_bytes` is what only older states still hold.
    pub(crate) fn push(&mut self, snapshot: Snapshot, replaced_bytes: usize, now: Instant) {
        debug_assert!(snapshot.revision() > self.current);
        self.current = snapshot.revision();
        let cost = COPIED_NODES_BYTES + replaced_bytes;
        self.bytes += cost;
        self.ring.push_back(State { snapshot, cost, at: now });
    }

    /// Nothing has changed up to `revision`.
    pub(crate) fn pass(&mut self, revision: Revision) {
        self.current = self.current.max(revision);
    }

    /// Applies the limits.
    pub(crate) fn trim(&mut self, now: Instant) -> Forgotten {
        let mut forgotten = Vec::new();
        while self.ring.len() > 1 && self.over_limits(now) {
            forgotten.extend(self.pop());
        }
        forgotten
    }

    /// A state is needed while it was the newest one at some moment within the age limit: until its successor is
    /// older than that.
    fn over_limits(&self, now: Instant) -> bool {
        let expired = |state: &State| now.saturating_duration_since(state.at) > self.limits.age;
        self.ring.len() > self.limits.revisions
            || self.bytes > self.limits.bytes
            || self.ring.get(1).is_some_and(expired)
    }

    /// Forgets the states before `before`.
    pub(crate) fn compact(&mut self, before: Revision) -> Result<Forgotten, StoreError> {
        if before > self.current {
            return Err(StoreError::Future { requested: before, current: self.current });
        }
        let mut forgotten = Vec::new();
        while self.ring.get(1).is_some_and(|next| next.snapshot.revision() <= before) {
            forgotten.extend(self.pop());
        }
        self.floor = self.floor.max(before);
        Ok(forgotten)
    }

    fn pop(&mut self) -> Option<Snapshot> {
        let popped = self.ring.pop_front()?;
        self.bytes -= self.ring.front_mut().map_or(0, |successor| std::mem::take(&mut successor.cost));
        Some(popped.snapshot)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use imbl::OrdMap;

    use super::{COPIED_NODES_BYTES, History};
    use crate::limits::HistoryLimits;
    use crate::{Key, Record, Revision, Snapshot, StoreError, Value};

    fn state(revision: u64) -> Snapshot {
        Snapshot::new(Revision::new(revision), OrdMap::new())
    }

    /// Revisions 5..=14, one per second, each replacing 1,000 bytes.
    fn history(limits: HistoryLimits) -> (History, Instant) {
        let start = Instant::now();
        let mut now = start;
        let mut history = History::new(state(5), limits, now);
        for revision in 6..=14 {
            now += Duration::from_secs(1);
            history.push(state(revision), 1_000, now);
            history.trim(now);
        }
        (history, now)
    }

    fn check(history: &History, oldest: u64) {
        for revision in oldest..=14 {
            assert_eq!(history.at(Revision::new(revision)).map(|state| state.revision().get()), Ok(revision));
        }
        for revision in 0..oldest {
            let error =
                StoreError::Compacted { requested: Revision::new(revision), oldest: Revision::new(oldest) };
            assert_eq!(history.at(Revision::new(revision)).err(), Some(error));
        }
        let future = StoreError::Future { requested: Revision::new(15), current: Revision::new(14) };
        assert_eq!(history.at(Revision::new(15)).err(), Some(future));
        assert_eq!(history.newest().revision(), Revision::new(14));
    }

    #[test]
    fn the_tightest_limit_counts() {
        let wide = HistoryLimits::default;
        for (limits, oldest) in [
            (wide(), 5),
            (HistoryLimits { revisions: 4, ..wide() }, 11),
            (HistoryLimits { revisions: 1, ..wide() }, 14),
            (HistoryLimits { revisions: 0, ..wide() }, 14),
            (HistoryLimits { bytes: 3 * (COPIED_NODES_BYTES + 1_000), ..wide() }, 11),
            (HistoryLimits { bytes: 0, ..wide() }, 14),
            (HistoryLimits { age: Duration::from_secs(3), ..wide() }, 10),
            (HistoryLimits { age: Duration::ZERO, ..wide() }, 13),
        ] {
            check(&history(limits).0, oldest);
        }
    }

    #[test]
    fn idle_states_expire_but_never_the_newest() {
        let (mut history, now) = history(HistoryLimits::default());
        assert_eq!(history.trim(now).len(), 0);
        history.trim(now + Duration::from_secs(3_600));
        check(&history, 14);
        assert_eq!(history.bytes, 0);
    }

    #[test]
    fn compaction_keeps_the_state_that_it_names() {
        let (mut history, _) = history(HistoryLimits::default());
        for (before, oldest) in [(0, 5), (5, 5), (9, 9), (9, 9), (7, 9), (14, 14)] {
            history.compact(Revision::new(before)).expect("compact");
            check(&history, oldest);
        }
        let error = StoreError::Future { requested: Revision::new(15), current: Revision::new(14) };
        assert_eq!(history.compact(Revision::new(15)).err(), Some(error));
    }

    #[test]
    fn a_state_holds_until_the_next() {
        let now = Instant::now();
        let records = |count: u64| (0..count).map(record).collect::<OrdMap<_, _>>();
        let mut history =
            History::new(Snapshot::new(Revision::new(5), records(0)), HistoryLimits::default(), now);
        history.pass(Revision::new(7));
        history.push(Snapshot::new(Revision::new(9), records(1)), 0, now);
        history.push(Snapshot::new(Revision::new(12), records(2)), 0, now);
        history.pass(Revision::new(20));
        history.pass(Revision::new(15));
        let seen = |history: &History, revision: u64| {
            history.at(Revision::new(revision)).map(|state| (state.revision().get(), state.len()))
        };
        for (revision, len) in [(5, 0), (8, 0), (9, 1), (11, 1), (12, 2), (20, 2)] {
            assert_eq!(seen(&history, revision), Ok((revision, len)));
        }
        assert!(seen(&history, 21).is_err() && seen(&history, 4).is_err());
        assert_eq!(history.newest().revision().get(), 20);
        history.compact(Revision::new(10)).expect("compact");
        let error = StoreError::Compacted { requested: Revision::new(9), oldest: Revision::new(10) };
        assert_eq!(seen(&history, 9), Err(error));
        assert_eq!(seen(&history, 10), Ok((10, 1)));
    }

    fn record(number: u64) -> (Key, Arc<Record>) {
        let key = Key::new(format!("/k/{number}")).expect("key");
        (key.clone(), Arc::new(Record::new(key, Revision::FIRST, Revision::FIRST, &Value::opaque(""))))
    }
}

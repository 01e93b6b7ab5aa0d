//! A keyed work queue: each key is queued at most once and worked on by one worker at a time.
//!
//! ```text
//!            add                    next                      done
//!  (absent) ─────▶ queued ──────────────▶ running ──────────────────▶ (absent)
//!      ▲ │                                 │   ▲
//!      │ │ add_after                   add │   │ next
//!      │ ▼                                 ▼   │
//!     delayed ── due ──▶ queued      running, dirty ── done ──▶ queued
//! ```
//!
//! First in, first out. The number of keys is bounded by the number of objects that they stand for.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::rng::Rng;

/// Waiting times that double with each failure in a row.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The longest.
    pub limit: Duration,
}

impl Backoff {
    /// How long to wait after `failures` failures in a row: between three quarters of the doubled time and all of
    /// it, so that what failed together does not come back together.
    pub fn delay(&self, failures: u32, rng: &Rng) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(factor).min(self.limit);
        let quarter = u64::try_from(full.as_micros() / 4).unwrap_or(u64::MAX);
        full - Duration::from_micros(rng.below(quarter.saturating_add(1)))
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct WorkQueue<T> {
    state: Mutex<State<T>>,
    /// Wakes the one task that waits in [`WorkQueue::next`].
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    ready: VecDeque<T>,
    /// Keys in `ready`, and keys added while running.
    dirty: HashSet<T>,
    running: HashSet<T>,
    delayed: BTreeSet<(Instant, u64)>,
    /// The key behind each entry of `delayed`, by its number.
    delayed_keys: HashMap<u64, T>,
    /// The entry of each delayed key.
    due: HashMap<T, (Instant, u64)>,
    next_number: u64,
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            running: HashSet::new(),
            delayed: BTreeSet::new(),
            delayed_keys: HashMap::new(),
            due: HashMap::new(),
            next_number: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    /// Asks for a look at `key` as soon as a worker is free.
    pub fn add(&self, key: T) {
        self.lock().enqueue(key);
        self.changed.notify_one();
    }

    /// Asks for a look at each of `keys`.
    pub fn extend(&self, keys: impl IntoIterator<Item = T>) {
        keys.into_iter().for_each(|key| self.add(key));
    }

    /// Asks for a look at `key` after `delay`, or earlier if it is already due earlier.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        // Far beyond any deadline of an object; keeps the addition from overflowing.
        let at = Instant::now() + delay.min(Duration::from_secs(365 * 24 * 3600));
        self.lock().delay(key, at);
        self.changed.notify_one();
    }

    /// Brings delayed keys forward: the clock that their delays are meant by was moved.
    pub fn forward(&self, by: Duration) {
        self.lock().forward(by);
        self.changed.notify_one();
    }

    /// Takes the next key, waiting for one. The caller must hand it back with [`WorkQueue::done`]. One task waits
    /// at a time; dropping the future loses nothing.
    pub async fn next(&self) -> T {
        loop {
            let changed = self.changed.notified();
            let due = {
                let mut state = self.lock();
                state.release_due(Instant::now());
                if let Some(key) = state.take() {
                    return key;
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match due {
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Ends the work on `key`; it is queued again if it was added meanwhile.
    pub fn done(&self, key: &T) {
        let mut state = self.lock();
        state.running.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// How many keys wait for a worker now.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key waits for a worker now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn enqueue(&mut self, key: T) {
        if !self.dirty.insert(key.clone()) {
            return;
        }
        if !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn delay(&mut self, key: T, at: Instant) {
        if let Some(entry) = self.due.get(&key).copied() {
            if entry.0 <= at {
                return;
            }
            self.delayed.remove(&entry);
            self.delayed_keys.remove(&entry.1);
        }
        let entry = (at, self.next_number);
        self.next_number += 1;
        self.delayed.insert(entry);
        self.delayed_keys.insert(entry.1, key.clone());
        self.due.insert(key, entry);
    }

    fn forward(&mut self, by: Duration) {
        // An instant before the machine's first is as due as any.
        let earlier = |at: Instant| at.checked_sub(by).unwrap_or_else(Instant::now);
        self.delayed = self.delayed.iter().map(|(at, number)| (earlier(*at), *number)).collect();
        self.due.values_mut().for_each(|(at, _)| *at = earlier(*at));
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first().copied()
            && entry.0 <= now
        {
            self.delayed.remove(&entry);
            let key = self.delayed_keys.remove(&entry.1).expect("each delayed entry has its key");
            self.due.remove(&key);
            self.enqueue(key);
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn now_ready(queue: &WorkQueue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_worked_on_by_one() {
        let queue = WorkQueue::default();
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        assert_eq!(queue.len(), 2);
        assert_eq!(now_ready(&queue), Some("a"));
        queue.add("a");
        assert_eq!(now_ready(&queue), Some("b"), "a key that is worked on waits");
        assert_eq!(now_ready(&queue), None);
        queue.done(&"a");
        assert_eq!(now_ready(&queue), Some("a"), "what was added meanwhile comes back");
        queue.done(&"a");
        assert_eq!(now_ready(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_keys_come_when_due_and_the_earliest_wins() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        let seconds = Duration::from_secs;
        queue.add_after("late", seconds(9));
        queue.add_after("twice", seconds(7));
        queue.add_after("twice", seconds(3));
        queue.add_after("twice", seconds(5));
        queue.add_after("now", Duration::ZERO);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let key = queue.next().await;
            queue.done(&key);
            seen.push((key, start.elapsed().as_secs()));
        }
        assert_eq!(seen, [("now", 0), ("twice", 3), ("late", 9)]);
        tokio::time::advance(seconds(60)).await;
        assert_eq!(now_ready(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_moved_brings_delayed_keys_forward() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        for (key, seconds) in [("soon", 20), ("later", 50), ("last", 90)] {
            queue.add_after(key, Duration::from_secs(seconds));
        }
        queue.forward(Duration::from_secs(40));
        assert_eq!(now_ready(&queue), Some("soon"));
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.push((queue.next().await, start.elapsed().as_secs()));
        }
        assert_eq!(seen, [("later", 10), ("last", 50)]);
        assert_eq!(queue.lock().due.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_wakes_on_add() {
        let queue = std::sync::Arc::new(WorkQueue::default());
        let waiting = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add("x");
        assert_eq!(waiting.await.unwrap(), "x");
    }

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let backoff = Backoff { first: Duration::from_millis(8), limit: Duration::from_secs(1) };
        let rng = Rng::seeded(1);
        for (failures, full_ms) in
            [(0, 8), (1, 8), (2, 16), (5, 128), (8, 1000), (40, 1000), (u32::MAX, 1000)]
        {
            let delay = backoff.delay(failures, &rng);
            let full = Duration::from_millis(full_ms);
            assert!(delay <= full && delay >= full * 3 / 4, "{failures} failures gave {delay:?}");
        }
    }
}

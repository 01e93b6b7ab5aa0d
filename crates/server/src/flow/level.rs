//! One priority level at run time: its queues, and those who wait in them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queues::{Arrival, Digest, Nanos, Queues, Queuing, Refusal, Ticket};
use crate::metrics::Histogram;

const DURATIONS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

/// What is counted of a schema's requests.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) dispatched: AtomicU64,
    pub(super) executing: AtomicI64,
    pub(super) waiting: AtomicI64,
    /// In the order of [`REFUSALS`].
    pub(super) refused: [AtomicU64; 3],
    pub(super) waited: Histogram,
    pub(super) waited_in_vain: Histogram,
    pub(super) executed: Histogram,
}

/// All reasons for which there is no room.
pub(super) const REFUSALS: [Refusal; 3] = [Refusal::QueueFull, Refusal::ConcurrencyLimit, Refusal::TimeOut];

impl Default for Counters {
    fn default() -> Self {
        Self {
            dispatched: AtomicU64::new(0),
            executing: AtomicI64::new(0),
            waiting: AtomicI64::new(0),
            refused: Default::default(),
            waited: Histogram::new(DURATIONS),
            waited_in_vain: Histogram::new(DURATIONS),
            executed: Histogram::new(DURATIONS),
        }
    }
}

impl Counters {
    pub(super) fn refuse(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A request that waits, for those who wake it and those who want to see it.
#[derive(Debug)]
pub(super) struct Waiter {
    wake: oneshot::Sender<()>,
    /// Its schema, and what tells its flow apart.
    pub(super) schema: String,
    pub(super) flow: String,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Level {
    begun: Instant,
    queues: Mutex<Queues<Waiter>>,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow<'a> {
    pub(super) hash: u64,
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    pub(super) counters: &'a Arc<Counters>,
}

impl Level {
    pub(super) fn new(begun: Instant, queuing: Queuing, limit: u64) -> Self {
        Self { begun, queues: Mutex::new(Queues::new(queuing, limit)) }
    }

    /// Waits for seats, so long at most.
    pub(super) async fn enter(
        self: &Arc<Self>,
        flow: Flow<'_>,
        seats: u64,
        patience: Duration,
    ) -> Result<Seat, Refusal> {
        let mut woken = None;
        let waiter = || {
            let (wake, wait) = oneshot::channel();
            woken = Some(wait);
            Waiter { wake, schema: flow.schema.to_owned(), flow: flow.name.to_owned() }
        };
        let now = self.now();
        let arrival = self.queues().arrive(flow.hash, seats, now, waiter);
        let counters = flow.counters;
        let ticket = match arrival {
            Arrival::Runs(ticket) => ticket,
            Arrival::Refused(why) => {
                counters.refuse(why);
                return Err(why);
            }
            Arrival::Waits(ticket) => {
                let place = Place::new(self.clone(), ticket, counters.clone());
                let wait = woken.expect("who waits has something to wait for");
                if !matches!(tokio::time::timeout(patience, wait).await, Ok(Ok(()))) {
                    counters.refuse(Refusal::TimeOut);
                    return Err(Refusal::TimeOut);
                }
                place.take()
            }
        };
        Ok(Seat::new(Some((self.clone(), ticket)), counters.clone()))
    }

    /// Changes what the operator chose, and how many seats there are.
    pub(super) fn set(&self, queuing: Queuing, limit: u64) {
        self.queues().set_queuing(queuing);
        self.set_limit(limit);
    }

    pub(super) fn set_limit(&self, limit: u64) {
        let now = self.now();
        let mut queues = self.queues();
        queues.set_limit(limit, now);
        wake_next(queues, now);
    }

    /// How many seats were wanted at most since this was asked before.
    pub(super) fn take_demand(&self) -> u64 {
        self.queues().take_demand()
    }

    /// How many seats there are.
    pub(super) fn limit(&self) -> u64 {
        self.queues().limit()
    }

    pub(super) fn digest(&self) -> Digest {
        self.queues().digest()
    }

    /// Who waits: queue, place in it, seats, for how long, schema and flow.
    pub(super) fn waiting(&self) -> Vec<(usize, usize, u64, Duration, String, String)> {
        let now = self.now();
        let queues = self.queues();
        let one = |(queue, place, seats, since, waiter): (usize, usize, u64, Nanos, &Waiter)| {
            let waited = Duration::from_nanos(now.saturating_sub(since));
            (queue, place, seats, waited, waiter.schema.clone(), waiter.flow.clone())
        };
        queues.waiting().map(one).collect()
    }

    fn leave(&self, ticket: Ticket) {
        let now = self.now();
        let mut queues = self.queues();
        queues.leave(ticket, now);
        wake_next(queues, now);
    }

    fn now(&self) -> Nanos {
        Nanos::try_from(self.begun.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    fn queues(&self) -> MutexGuard<'_, Queues<Waiter>> {
        // No code that can panic half-way runs under the lock.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes those who may run, without the lock.
fn wake_next(mut queues: MutexGuard<'_, Queues<Waiter>>, now: Nanos) {
    let mut woken = Vec::new();
    while let Some((_, waiter)) = queues.next(now) {
        woken.push(waiter);
    }
    drop(queues);
    // Whoever has given up meanwhile gives the seats back.
    woken.into_iter().for_each(|waiter| waiter.wake.send(()).unwrap_or_default());
}

/// A place in a queue, which is given back if it is not taken.
struct Place {
    level: Arc<Level>,
    ticket: Option<Ticket>,
    counters: Arc<Counters>,
    since: Instant,
}

impl Place {
    fn new(level: Arc<Level>, ticket: Ticket, counters: Arc<Counters>) -> Self {
        counters.waiting.fetch_add(1, Ordering::Relaxed);
        Self { level, ticket: Some(ticket), counters, since: Instant::now() }
    }

    fn take(mut self) -> Ticket {
        self.counters.waited.observe(self.since.elapsed());
        self.ticket.take().expect("a place is taken once")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        let Some(ticket) = self.ticket else { return };
        self.counters.waited_in_vain.observe(self.since.elapsed());
        let now = self.level.now();
        let waited = self.level.queues().give_up(ticket, now);
        if !waited {
            // It was its turn just then.
            self.level.leave(ticket);
        }
    }
}

/// Seats that a request has, given back when it is dropped; none in a level that is exempt.
#[derive(Debug)]
pub(crate) struct Seat {
    taken: Option<(Arc<Level>, Ticket)>,
    counters: Arc<Counters>,
    since: Instant,
}

impl Seat {
    pub(super) fn new(taken: Option<(Arc<Level>, Ticket)>, counters: Arc<Counters>) -> Self {
        counters.dispatched.fetch_add(1, Ordering::Relaxed);
        counters.executing.fetch_add(1, Ordering::Relaxed);
        Self { taken, counters, since: Instant::now() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.counters.executing.fetch_sub(1, Ordering::Relaxed);
        self.counters.executed.observe(self.since.elapsed());
        if let Some((level, ticket)) = self.taken.take() {
            level.leave(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn level(limit: u64) -> (Arc<Level>, Arc<Counters>) {
        let queuing = Queuing { queues: 2, hand: 1, length: 1 };
        (Arc::new(Level::new(Instant::now(), queuing, limit)), Arc::default())
    }

    const fn flow(hash: u64, counters: &Arc<Counters>) -> Flow<'_> {
        Flow { hash, schema: "s", name: "f", counters }
    }

    #[tokio::test]
    async fn seats_go_to_who_waits() {
        let (level, counters) = level(1);
        let first = level.enter(flow(0, &counters), 1, MINUTE).await.expect("a seat");
        let waiting = tokio::spawn({
            let (level, counters) = (level.clone(), counters.clone());
            async move { level.enter(flow(0, &counters), 1, MINUTE).await.map(drop) }
        });
        while level.digest().waiting == 0 {
            tokio::task::yield_now().await;
        }
        let (_, _, seats, _, schema, name) = level.waiting().pop().expect("somebody waits");
        assert_eq!((seats, schema.as_str(), name.as_str()), (1, "s", "f"));
        let full = level.enter(flow(0, &counters), 1, MINUTE).await;
        assert_eq!(full.map(drop), Err(Refusal::QueueFull));
        drop(first);
        waiting.await.expect("no panic").expect("its turn");
        assert_eq!((level.digest().running_seats, level.digest().waiting), (0, 0));
        assert_eq!(counters.dispatched.load(Ordering::Relaxed), 2);
        assert_eq!(
            (counters.executing.load(Ordering::Relaxed), counters.waiting.load(Ordering::Relaxed)),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind() {
        let (level, counters) = level(1);
        let first = level.enter(flow(0, &counters), 1, MINUTE).await.expect("a seat");
        let late = level.enter(flow(0, &counters), 1, Duration::ZERO).await;
        assert_eq!(late.map(drop), Err(Refusal::TimeOut));
        let waiting = tokio::spawn({
            let (level, counters) = (level.clone(), counters.clone());
            async move { level.enter(flow(0, &counters), 1, MINUTE).await.map(drop) }
        });
        while level.digest().waiting == 0 {
            tokio::task::yield_now().await;
        }
        // It is its turn, and then it goes without having noticed.
        drop(first);
        assert_eq!(level.digest().running_seats, 1);
        waiting.abort();
        waiting.await.expect_err("it was ended");
        assert_eq!((level.digest().running_seats, level.digest().waiting), (0, 0));
        assert_eq!(counters.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn more_seats_wake_who_waits() {
        let (level, counters) = level(0);
        let waiting = tokio::spawn({
            let (level, counters) = (level.clone(), counters.clone());
            async move { level.enter(flow(0, &counters), 1, MINUTE).await.map(drop) }
        });
        while level.digest().waiting == 0 {
            tokio::task::yield_now().await;
        }
        level.set_limit(1);
        waiting.await.expect("no panic").expect("a seat");
    }
}

//! Turns keys into reconciles: bounded in number, one per key, each failure alone.
//!
//! A reconcile that fails or panics is logged once with its key and tried again, later each time. A key whose own
//! writes the caches do not show yet waits (see [`super::pending`]).

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info_span, warn};

use super::clock::Moves;
use super::error::ReconcileError;
use super::pending::{PendingWrites, RELIST_AFTER, Readiness};
use super::queue::{Backoff, WorkQueue};
use super::rng::Rng;
use super::tasks::panic_text;
use super::writer::{Requests, Writes};

/// The waits of a key that keeps failing.
pub const RETRY: Backoff = Backoff { first: Duration::from_millis(5), limit: Duration::from_secs(60) };
/// How long reconciles may take to end once the process stops.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How soon a key is looked at again whose own writes are not visible: a net below the event that wakes it.
const PENDING_RECHECK: Duration = Duration::from_secs(1);

/// What a controller does with one key.
pub trait Controller: Send + Sync + 'static {
    /// What its queue holds.
    type Key: Clone + Eq + Hash + Ord + Display + Debug + Send + Sync + 'static;

    /// Its name in logs and as field manager.
    fn name(&self) -> &'static str;

    /// The queue that its watches fill.
    fn queue(&self) -> Arc<WorkQueue<Self::Key>>;

    /// Waits until the caches that it reads are filled.
    fn synced(&self) -> impl Future<Output = ()> + Send;

    /// Brings the world closer to what the object under `key` asks for. Called again after every change; must not
    /// rely on how often.
    fn reconcile(
        &self,
        key: &Self::Key,
        writes: &Writes,
    ) -> impl Future<Output = Result<Next, ReconcileError>> + Send;
}

/// When to look at a key again without being woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Not before something changes.
    Wake,
    /// At the latest after this time.
    After(Duration),
}

impl Next {
    /// After `wait` when there is one.
    pub fn after(wait: Option<Duration>) -> Self {
        wait.map_or(Self::Wake, Self::After)
    }
}

/// Becomes `true` when the process stops.
pub type Stop = watch::Receiver<bool>;

/// Waits for the stop.
pub async fn stopped(stop: &mut Stop) {
    // A sender that is gone can never say stop: its owner is gone too.
    if stop.wait_for(|stop| *stop).await.is_err() {
        debug!("the owner of the stop signal is gone");
    }
}

/// One controller with its queue.
pub struct Runner<C: Controller> {
    controller: Arc<C>,
    queue: Arc<WorkQueue<C::Key>>,
    requests: Requests,
    rng: Arc<Rng>,
    concurrency: usize,
    moves: Moves,
    /// How far the clock was moved in all.
    moved: Duration,
    pending: PendingWrites<C::Key>,
    failures: HashMap<C::Key, u32>,
}

struct Finished<K> {
    key: K,
    /// How far the clock had been moved when it began.
    moved: Duration,
    result: Result<Next, ReconcileError>,
}

impl<C: Controller> Runner<C> {
    /// A runner that works on at most `concurrency` keys at a time, by a clock that makes these moves.
    pub fn new(controller: Arc<C>, client: Client, rng: Arc<Rng>, moves: Moves, concurrency: usize) -> Self {
        assert!(concurrency > 0, "a controller needs at least one worker");
        Self {
            queue: controller.queue(),
            requests: Requests::new(client, controller.name()),
            controller,
            rng,
            concurrency,
            moves,
            moved: Duration::ZERO,
            pending: PendingWrites::default(),
            failures: HashMap::new(),
        }
    }

    /// Waits for the caches, works until `stop`, then lets running reconciles end within [`DRAIN_DEADLINE`].
    pub async fn run(mut self, mut stop: Stop) {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = self.controller.synced() => {}
        }
        let mut running = JoinSet::new();
        let queue = Arc::clone(&self.queue);
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(finished) = running.join_next() => self.finish(finished),
                by = self.moves.next() => {
                    self.moved += by;
                    queue.forward(by);
                }
                key = queue.next(), if running.len() < self.concurrency => self.begin(key, &mut running),
            }
        }
        let drained =
            tokio::time::timeout(DRAIN_DEADLINE, async { while running.join_next().await.is_some() {} });
        if drained.await.is_err() {
            warn!(
                controller = self.controller.name(),
                left = running.len(),
                "reconciles cut off at shutdown"
            );
            running.shutdown().await;
        }
    }

    fn begin(&mut self, key: C::Key, running: &mut JoinSet<(Finished<C::Key>, Writes)>) {
        match self.pending.check(&key) {
            Readiness::Ready => {}
            readiness @ (Readiness::Waiting | Readiness::Relisting) => {
                if readiness == Readiness::Relisting {
                    warn!(controller = self.controller.name(), %key, "a cache does not show own writes and is filled anew");
                }
                self.queue.done(&key);
                self.queue.add_after(key, PENDING_RECHECK);
                return;
            }
        }
        let controller = Arc::clone(&self.controller);
        let writes = Writes::new(self.requests.clone());
        let span = info_span!("reconcile", controller = controller.name(), %key);
        let moved = self.moved;
        let work = async move {
            let reconcile = AssertUnwindSafe(controller.reconcile(&key, &writes)).catch_unwind().await;
            let result = reconcile.unwrap_or_else(|panic| Err(ReconcileError::Panicked(panic_text(&*panic))));
            (Finished { key, moved, result }, writes)
        };
        running.spawn(work.instrument(span));
    }

    fn finish(&mut self, joined: Result<(Finished<C::Key>, Writes), tokio::task::JoinError>) {
        let (Finished { key, moved, result }, writes) =
            joined.expect("reconciles catch their panics and are not aborted");
        if self.pending.add(&key, writes.take_pending()) {
            // A net below the event that shows the write and wakes the key.
            self.queue.add_after(key.clone(), RELIST_AFTER);
        }
        match result {
            Ok(next) => {
                self.failures.remove(&key);
                if let Next::After(wait) = next {
                    // It was told by the time at which the reconcile began.
                    self.queue.add_after(key.clone(), wait.saturating_sub(self.moved - moved));
                }
            }
            Err(error) => {
                let failures = self.failures.entry(key.clone()).or_insert(0);
                *failures = failures.saturating_add(1);
                let retry_in = RETRY.delay(*failures, &self.rng);
                report(self.controller.name(), &key, *failures, retry_in, &error);
                self.queue.add_after(key.clone(), retry_in);
            }
        }
        self.queue.done(&key);
    }
}

fn report(controller: &str, key: &impl Display, failures: u32, retry_in: Duration, error: &ReconcileError) {
    let retry_in = retry_in.as_secs_f64();
    if error.is_conflict() {
        debug!(controller, %key, failures, retry_in, %error, "reconcile raced with another writer");
    } else {
        warn!(controller, %key, failures, retry_in, %error, "reconcile failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// Notes when each key was tried and answers by the key's first letter.
    struct Probe {
        queue: Arc<WorkQueue<String>>,
        started: Instant,
        tries: Mutex<Vec<(String, u128)>>,
    }

    impl Controller for Probe {
        type Key = String;

        fn name(&self) -> &'static str {
            "probe"
        }

        fn queue(&self) -> Arc<WorkQueue<String>> {
            Arc::clone(&self.queue)
        }

        async fn synced(&self) {}

        async fn reconcile(&self, key: &String, _: &Writes) -> Result<Next, ReconcileError> {
            let tries = {
                let mut tries = self.tries.lock().unwrap();
                tries.push((key.clone(), self.started.elapsed().as_millis()));
                tries.iter().filter(|(tried, _)| tried == key).count()
            };
            match (&key[..1], tries) {
                ("p", 1) => panic!("first try of {key}"),
                ("e", 1..=3) => {
                    Err(ReconcileError::Unusable { object: key.clone(), problem: "not yet".to_owned() })
                }
                ("a", 1) => Ok(Next::After(Duration::from_secs(30))),
                ("s", 1) if key == "slow" => {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Ok(Next::After(Duration::from_secs(60)))
                }
                ("s", _) if key != "slow" => {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                    Ok(Next::Wake)
                }
                _ => Ok(Next::Wake),
            }
        }
    }

    fn runner(concurrency: usize) -> (Runner<Probe>, Arc<Probe>, Arc<WorkQueue<String>>) {
        let queue = Arc::new(WorkQueue::default());
        let probe =
            Arc::new(Probe { queue: Arc::clone(&queue), started: Instant::now(), tries: Mutex::default() });
        let rng = Arc::new(Rng::seeded(3));
        (Runner::new(Arc::clone(&probe), no_server(), rng, Moves::default(), concurrency), probe, queue)
    }

    /// These reconciles send no request.
    fn no_server() -> Client {
        use kube::client::Body;
        let refuse = |_: http::Request<Body>| async {
            Err::<http::Response<Body>, _>(std::io::Error::other("no server in this test"))
        };
        Client::new(tower::service_fn(refuse), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn reconciles_are_bounded_and_cut_off_when_they_do_not_drain() {
        let (runner, probe, queue) = runner(2);
        for key in ["s1", "s2", "s3"] {
            queue.add(key.to_owned());
        }
        let (stop, stopping) = watch::channel(false);
        let run = tokio::spawn(runner.run(stopping));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(probe.tries.lock().unwrap().len(), 2, "the third waits for a worker");
        stop.send(true).unwrap();
        let stopped_at = Instant::now();
        run.await.unwrap();
        assert_eq!(stopped_at.elapsed().as_secs(), DRAIN_DEADLINE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_moved_shortens_what_is_waited_for() {
        let (mut runner, probe, queue) = runner(2);
        let ahead = watch::Sender::new(Duration::ZERO);
        runner.moves = Moves::of(ahead.subscribe());
        queue.add("after".to_owned());
        queue.add("slow".to_owned());
        let (stop, stopping) = watch::channel(false);
        let run = tokio::spawn(runner.run(stopping));
        // "after" waits when the clock is moved; "slow" is still at work, and waits for a minute from its beginning.
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ahead.send_modify(|ahead| *ahead += Duration::from_secs(10));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        stop.send(true).unwrap();
        run.await.unwrap();
        let tries = probe.tries.lock().unwrap();
        let times = |key: &str| tries.iter().filter(|(k, _)| k == key).map(|(_, at)| *at).collect::<Vec<_>>();
        assert_eq!(times("after"), [0, 10_000], "30 seconds less those that were skipped");
        assert_eq!(
            times("slow"),
            [0, 45_000],
            "5 seconds of work, and a minute less those that were skipped"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_come_back_later_and_hurt_nobody_else() {
        let (runner, probe, queue) = runner(2);
        for key in ["panics", "errs", "after", "fine"] {
            queue.add(key.to_owned());
        }
        let (stop, stopping) = watch::channel(false);
        let run = tokio::spawn(runner.run(stopping));
        tokio::time::sleep(Duration::from_secs(60)).await;
        stop.send(true).unwrap();
        run.await.unwrap();
        let tries = probe.tries.lock().unwrap();
        let times = |key: &str| tries.iter().filter(|(k, _)| k == key).map(|(_, at)| *at).collect::<Vec<_>>();
        assert_eq!(times("fine").len(), 1);
        assert_eq!(times("panics").len(), 2);
        assert_eq!(times("after"), [0, 30_000]);
        let errs = times("errs");
        assert_eq!(errs.len(), 4);
        assert!(errs[3] >= 25 && errs[3] <= 40, "5, 10 and 20 ms less their jitter, got {errs:?}");
    }
}

//! Wall time, passed in.
//!
//! Controllers write wall-clock times into objects and compare them with times found there; both go through a
//! [`Clock`]. Waiting is tokio's business, so pausing tokio's clock and passing a [`TokioClock`] puts a whole
//! process on virtual time.
//!
//! A clock may be moved ahead of tokio's, as in tests whose runtime is not paused. Then whatever waits for a time of the
//! API has to notice: it measures by [`Clock::instant`] and listens to [`Clock::moves`]. Waiting that protects the
//! process, such as pauses after failures and limits on requests, stays tokio's alone.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// Tells the time of day.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// The present moment on the scale that waiting is measured on: tokio's, unless this clock is moved.
    fn instant(&self) -> Instant {
        Instant::now()
    }

    /// How far this clock is ahead of tokio's, now and from now on; none if it is never moved.
    fn moves(&self) -> Moves {
        Moves::default()
    }
}

/// Tells when a clock is moved.
#[derive(Debug, Default)]
pub struct Moves {
    /// How far it is ahead; none if it is never moved.
    ahead: Option<watch::Receiver<Duration>>,
    told: Duration,
}

impl Moves {
    /// Those of a clock that is `ahead` of tokio's, which only grows.
    pub fn of(ahead: watch::Receiver<Duration>) -> Self {
        let told = *ahead.borrow();
        Self { ahead: Some(ahead), told }
    }

    /// Waits until the clock is moved; says by how much since it was told last. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Duration {
        let Some(ahead) = &mut self.ahead else { return std::future::pending().await };
        // Nobody can move the clock any more when its owner is gone.
        let Ok(now) = ahead.wait_for(|now| *now > self.told).await.map(|now| *now) else {
            return std::future::pending().await;
        };
        now - std::mem::replace(&mut self.told, now)
    }
}

/// Waits until a clock shows `at` on its scale, however it gets there.
pub async fn sleep_until(clock: &dyn Clock, at: Instant) {
    let mut moves = clock.moves();
    loop {
        let left = at.saturating_duration_since(clock.instant());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            _ = moves.next() => {}
        }
    }
}

impl fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

/// A clock that many controllers hold.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A machine set before 1970 gets the epoch: conditions then carry an odd time, nothing breaks.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        from_epoch(since_epoch)
    }
}

/// A clock that starts at a given moment and runs as tokio's does, paused when tokio's is.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    origin: Timestamp,
    started: Instant,
}

impl TokioClock {
    /// A clock that shows `origin` now.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, started: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        after(self.origin, self.started.elapsed())
    }
}

/// `duration` later than `at`; the last representable moment when that lies beyond it.
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// How long until `at`, zero when it has passed.
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// A timestamp of the API, which carries whole seconds.
pub fn api_time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("a timestamp's own second is in range"))
}

/// A timestamp of the API with microseconds.
pub fn api_micro_time(at: Timestamp) -> MicroTime {
    MicroTime(at)
}

fn from_epoch(since_epoch: Duration) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokio_clock_follows_paused_time() {
        let clock = TokioClock::starting_at(Timestamp::UNIX_EPOCH);
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.now().as_millisecond(), 1500);
        assert_eq!(api_time(clock.now()).0.as_millisecond(), 1000);
    }

    /// A clock that is ahead of tokio's.
    struct Ahead(watch::Sender<Duration>);

    impl Clock for Ahead {
        fn now(&self) -> Timestamp {
            after(Timestamp::UNIX_EPOCH, *self.0.borrow())
        }

        fn instant(&self) -> Instant {
            Instant::now() + *self.0.borrow()
        }

        fn moves(&self) -> Moves {
            Moves::of(self.0.subscribe())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_clock_notices_that_it_is_moved() {
        let clock = Ahead(watch::Sender::default());
        let mut moves = clock.moves();
        let start = (Instant::now(), clock.instant());
        let waiting = sleep_until(&clock, start.1 + Duration::from_secs(90));
        let moving = async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                clock.0.send_modify(|ahead| *ahead += Duration::from_secs(30));
            }
        };
        tokio::join!(waiting, moving);
        assert_eq!(start.0.elapsed(), Duration::from_secs(30), "60 seconds were skipped");
        assert_eq!(moves.next().await, Duration::from_secs(60), "both, since nobody asked between them");
        let none = tokio::time::timeout(Duration::from_secs(1), moves.next()).await;
        assert!(none.is_err(), "nothing is told twice");
    }

    #[test]
    fn until_is_never_negative() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(until(at(10), at(25)), Duration::from_secs(15));
        assert_eq!(until(at(25), at(10)), Duration::ZERO);
    }
}

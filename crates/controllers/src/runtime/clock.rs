//! Wall time, passed in.
//!
//! Controllers write wall-clock times into objects and compare them with times found there; both go through a
//! [`Clock`]. Waiting is tokio's business, so pausing tokio's clock and passing a [`TokioClock`] puts a whole
//! process on virtual time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

/// Tells the time of day.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
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
    started: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `origin` now.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, started: tokio::time::Instant::now() }
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

    #[test]
    fn until_is_never_negative() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(until(at(10), at(25)), Duration::from_secs(15));
        assert_eq!(until(at(25), at(10)), Duration::ZERO);
    }
}

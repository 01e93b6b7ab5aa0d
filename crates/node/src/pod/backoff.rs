//! How long to wait before something that failed is tried again: 10 s, doubled each time, 5 min at most.

use std::time::{Duration, SystemTime};

const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_mins(5);
/// After this long without a failure the waiting starts over.
const FORGET: Duration = Duration::from_mins(10);

/// The waiting time of one thing that fails again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    delay: Duration,
    until: Option<SystemTime>,
}

impl Backoff {
    /// Takes note of a failure at `now`, after the thing had been well for `well`. The first failure is followed by a try
    /// at once when `lenient`.
    pub fn failed(&mut self, now: SystemTime, well: Duration, lenient: bool) {
        let fresh = self.until.is_none() || well >= FORGET;
        self.delay = match (fresh, lenient) {
            (true, true) => Duration::ZERO,
            (true, false) => FIRST,
            (false, _) => (self.delay * 2).clamp(FIRST, MAX),
        };
        self.until = Some(now + self.delay);
    }

    /// When to try again; `None` if now.
    #[must_use]
    pub fn waits(&self, now: SystemTime) -> Option<SystemTime> {
        self.until.filter(|until| *until > now)
    }

    /// The present waiting time.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Forgets all failures.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_and_is_forgotten() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..8 {
            backoff.failed(at(0), Duration::ZERO, true);
            delays.push(backoff.delay().as_secs());
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.waits(at(299)), Some(at(300)));
        assert_eq!(backoff.waits(at(300)), None);
        backoff.failed(at(0), Duration::from_mins(10), true);
        assert_eq!(backoff.delay(), Duration::ZERO);
        let mut strict = Backoff::default();
        strict.failed(at(0), Duration::ZERO, false);
        assert_eq!(strict.delay(), FIRST);
    }
}

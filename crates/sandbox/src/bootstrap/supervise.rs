//! When the keeper starts the server, waits, or ends: decided here, without IO.
//!
//! ```text
//!            start            unexpected end
//!  Waiting ─────────▶ Running ───────────────▶ Waiting (longer each time)
//!     │ stop             │ stop        │ exit 0, EXIT_FATAL
//!     ▼                  ▼             ▼
//!   Ended ◀─────────  Stopping      Ended
//!            end, or grace over
//! ```

use std::time::{Duration, Instant};

/// A server that exits with this code is not started again: trying once more
/// would fail in the same way (a port taken, a data directory in use).
pub const EXIT_FATAL: u8 = 70;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A server that ran this long starts with the first delay again.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerEnd {
    Exited(i32),
    Killed(i32),
}

impl ServerEnd {
    /// The code with which the keeper then ends.
    pub(super) const fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// What the keeper does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Start the server, and say so with `started`.
    Start,
    /// Ask the server to stop.
    AskToStop,
    /// Sleep until something happens, or until this time.
    Sleep(Option<Instant>),
    /// End with this code.
    End(i32),
}

/// The keeper's view of the server.
#[derive(Debug)]
pub(super) struct Supervisor {
    state: State,
    delay: Duration,
    stop_grace: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting { until: Instant },
    Running { since: Instant },
    MustStop,
    Stopping { until: Instant },
    Ended { code: i32 },
}

impl Supervisor {
    pub(super) fn new(now: Instant, stop_grace: Duration) -> Self {
        Self { state: State::Waiting { until: now }, delay: FIRST_DELAY, stop_grace }
    }

    /// The server was started.
    pub(super) fn started(&mut self, now: Instant) {
        self.state = State::Running { since: now };
    }

    /// The server could not even be started.
    pub(super) fn start_failed(&mut self) {
        self.state = State::Ended { code: i32::from(EXIT_FATAL) };
    }

    /// The server ended.
    pub(super) fn ended(&mut self, end: ServerEnd, now: Instant) {
        self.state = match (self.state, end) {
            (State::Stopping { .. } | State::MustStop, end) => State::Ended { code: end.code() },
            (_, ServerEnd::Exited(0)) => State::Ended { code: 0 },
            (_, ServerEnd::Exited(code)) if code == i32::from(EXIT_FATAL) => State::Ended { code },
            (State::Running { since }, _) => {
                if now.duration_since(since) >= SETTLED_AFTER {
                    self.delay = FIRST_DELAY;
                }
                let until = now + self.delay;
                self.delay = (self.delay * 2).min(LONGEST_DELAY);
                State::Waiting { until }
            }
            (state @ (State::Waiting { .. } | State::Ended { .. }), _) => state,
        };
    }

    /// Somebody asked to stop. Asking again changes nothing.
    pub(super) fn stop(&mut self) {
        match self.state {
            State::Running { .. } => self.state = State::MustStop,
            State::Waiting { .. } => self.state = State::Ended { code: 0 },
            State::MustStop | State::Stopping { .. } | State::Ended { .. } => {}
        }
    }

    /// What to do at this time.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        match self.state {
            State::Waiting { until } if until <= now => Step::Start,
            State::Waiting { until } => Step::Sleep(Some(until)),
            State::Running { .. } => Step::Sleep(None),
            State::MustStop => {
                self.state = State::Stopping { until: now + self.stop_grace };
                Step::AskToStop
            }
            State::Stopping { until } if until <= now => Step::End(ServerEnd::Killed(9).code()),
            State::Stopping { until } => Step::Sleep(Some(until)),
            State::Ended { code } => Step::End(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn running(now: Instant) -> Supervisor {
        let mut supervisor = Supervisor::new(now, GRACE);
        assert_eq!(supervisor.step(now), Step::Start);
        supervisor.started(now);
        supervisor
    }

    #[test]
    fn a_server_that_ends_on_purpose_ends_the_keeper() {
        let now = Instant::now();
        for (end, code) in [(ServerEnd::Exited(0), 0), (ServerEnd::Exited(70), 70)] {
            let mut supervisor = running(now);
            supervisor.ended(end, now);
            assert_eq!(supervisor.step(now), Step::End(code));
        }
    }

    #[test]
    fn a_server_that_dies_is_restarted_ever_more_slowly() {
        let mut now = Instant::now();
        let mut supervisor = running(now);
        let mut delays = Vec::new();
        for _ in 0..10 {
            supervisor.ended(ServerEnd::Killed(9), now);
            let Step::Sleep(Some(until)) = supervisor.step(now) else { panic!("no delay") };
            delays.push((until - now).as_millis());
            now = until;
            assert_eq!(supervisor.step(now), Step::Start);
            supervisor.started(now);
        }
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        now += SETTLED_AFTER;
        supervisor.ended(ServerEnd::Exited(1), now);
        assert_eq!(supervisor.step(now), Step::Sleep(Some(now + FIRST_DELAY)));
    }

    #[test]
    fn stopping_waits_for_the_server_and_then_no_longer() {
        let now = Instant::now();
        let mut supervisor = running(now);
        supervisor.stop();
        assert_eq!(supervisor.step(now), Step::AskToStop);
        supervisor.stop();
        assert_eq!(supervisor.step(now), Step::Sleep(Some(now + GRACE)));
        assert_eq!(supervisor.step(now + GRACE), Step::End(137));
        supervisor.ended(ServerEnd::Killed(15), now);
        assert_eq!(supervisor.step(now), Step::End(143));
    }

    #[test]
    fn stopping_between_two_servers_ends_at_once() {
        let now = Instant::now();
        let mut supervisor = running(now);
        supervisor.ended(ServerEnd::Exited(1), now);
        supervisor.stop();
        assert_eq!(supervisor.step(now), Step::End(0));
    }
}

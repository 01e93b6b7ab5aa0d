//! Container logs: reading what the shims write, from the files' end or beginning, and following them.
//!
//! The files are in the log format of the Kubernetes container runtime interface, one line each:
//! `<RFC 3339 time> stdout|stderr F|P <text>`; a long line is several, all but the last marked `P`. The current file
//! is `<path>`; older ones are `<path>.1`, the newest, and so on. This module only reads, one block at a time: its
//! memory does not grow with the log.
//!
//! ```text
//!  files (which exist, in order) ──▶ tail (where to begin) ──▶ reader (blocks, rotation) ──▶ assemble (lines)
//!                                                                 ▲ watch (inotify), end of the container
//! ```

mod assemble;
mod files;
mod follow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod line;
mod reader;
mod tail;
mod watch;

use std::path::PathBuf;
use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use follow::read;

/// Where a container's output is.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// The current file. It may be missing; its directory is there.
    pub path: PathBuf,
    /// Cancelled when the container has ended and everything is written.
    pub ended: CancellationToken,
}

/// What part of a log is wanted, and in what form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only that many lines from the end; counted before `since` is applied.
    pub tail_lines: Option<u64>,
    /// Only lines from then on.
    pub since: Option<LogTime>,
    /// End after that many bytes, even within a line.
    pub limit_bytes: Option<u64>,
    /// Which output.
    pub stream: StreamFilter,
}

/// Which output of a container is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamFilter {
    /// Both.
    #[default]
    All,
    /// Standard output.
    Stdout,
    /// Error output.
    Stderr,
}

/// A time as it stands in a log: UTC, to the nanosecond. As texts these are ordered as the times are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogTime(String);

impl LogTime {
    /// Reads a time in RFC 3339 form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(Self::from)
    }

    /// The time, if it is one of the calendar's.
    pub(crate) fn from_system(time: SystemTime) -> Option<Self> {
        Timestamp::try_from(time).ok().map(Self::from)
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<Timestamp> for LogTime {
    fn from(time: Timestamp) -> Self {
        Self(format!("{time:.9}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text, expected: Option<&str>| {
            assert_eq!(LogTime::parse(text).as_ref().map(|time| time.0.as_str()), expected, "{text}");
        };
        check("2026-01-31T12:00:00Z", Some("2026-01-31T12:00:00.000000000Z"));
        check("2026-01-31T12:00:00.5+02:00", Some("2026-01-31T10:00:00.500000000Z"));
        check("2026-01-31T12:00:00.123456789Z", Some("2026-01-31T12:00:00.123456789Z"));
        check("2026-01-31", None);
        check("yesterday", None);
        check("", None);
    }
}

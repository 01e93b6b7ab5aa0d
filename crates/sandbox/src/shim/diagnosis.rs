//! Why the runtime library failed, in its own words.
//!
//! Its errors name the outermost step only; the cause goes to its log. This
//! listens to that log in the children that run the library, and passes errors
//! to the shim through a pipe.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::fd::RawFd;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::sys;

/// Sends errors that the library logs to a pipe, one line each.
pub(super) struct Diagnosis {
    pipe: RawFd,
}

impl Diagnosis {
    /// From now on, in this process and its forks.
    pub(super) fn listen(pipe: RawFd) {
        // Only the first call in a process succeeds, and there is only one.
        tracing::subscriber::set_global_default(Self { pipe }).unwrap_or_default();
    }
}

impl Subscriber for Diagnosis {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        line.0.push('\n');
        // A diagnosis that cannot be given changes nothing.
        sys::borrowed_pipe(self.pipe).write_all(line.0.as_bytes()).unwrap_or_default();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        let separator = if self.0.is_empty() { "" } else { ", " };
        let result = if name == "message" {
            write!(self.0, "{separator}{value:?}")
        } else {
            write!(self.0, "{separator}{name}: {value:?}")
        };
        result.expect("a string takes any text");
    }
}

/// The first, innermost error of what was logged.
pub(super) fn innermost(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    text.lines().next().map(|line| line.replace('\n', " ")).filter(|line| !line.is_empty())
}

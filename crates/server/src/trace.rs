//! Following one request: the trace that it belongs to (W3C Trace Context, level 1), and the steps that it went through.

use std::fmt;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

/// The header that carries a trace from one server to the next.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A place in a trace: `00-TRACE-SPAN-FLAGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// The place that a request comes from, if it says so.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
    }

    /// Reads a header. A later version may have more fields after those of the first; none may have no trace or no span.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().split('-');
        let version = hex(fields.next()?, 2)?;
        let trace = hex(fields.next()?, 32)?;
        let span = hex(fields.next()?, 16)?;
        let flags = hex(fields.next()?, 2)?;
        let is_whole = fields.next().is_none();
        if version == 0xff || version == 0 && !is_whole || trace == 0 || span == 0 {
            return None;
        }
        Some(Self { trace, span: u64::try_from(span).ok()?, flags: u8::try_from(flags).ok()? })
    }

    /// The same trace from here on, in a span of this number.
    #[must_use]
    pub const fn child(self, span: u64) -> Self {
        Self { span, ..self }
    }

    /// What all of a trace have in common.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// So many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u128::from_str_radix(text, 16).ok() } else { None }
}

/// How many steps are kept of a request; it goes through fewer.
const MAX_STEPS: usize = 16;

/// What a request went through, and when it was through.
#[derive(Debug)]
pub(crate) struct Steps {
    began: Instant,
    steps: [(&'static str, Duration); MAX_STEPS],
    count: usize,
}

impl Steps {
    /// Of a request that began then.
    pub(crate) const fn since(began: Instant) -> Self {
        Self { began, steps: [("", Duration::ZERO); MAX_STEPS], count: 0 }
    }

    /// A step is done.
    pub(crate) fn done(&mut self, step: &'static str) {
        if let Some(place) = self.steps.get_mut(self.count) {
            *place = (step, self.began.elapsed());
            self.count += 1;
        }
    }
}

impl fmt::Display for Steps {
    /// `authorized 0.2ms, admitted 501.3ms`: what each step took.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = Duration::ZERO;
        for (n, (step, at)) in self.steps[..self.count].iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let took = at.saturating_sub(before).as_secs_f64() * 1000.0;
            write!(f, "{comma}{step} {took:.1}ms")?;
            before = *at;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_parents() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(good).expect("a trace");
        assert_eq!(parent.to_string(), good);
        assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.child(0x1f).to_string(), good.replace("00f067aa0ba902b7", "000000000000001f"));
        assert!(TraceParent::parse(&good.replacen("00", "cc", 1)).is_some(), "a later version");
        assert!(TraceParent::parse(&format!("{}-more", good.replacen("00", "cc", 1))).is_some());
        for bad in [
            "",
            "00",
            &format!("{good}-more"),
            &good.replacen("00", "ff", 1),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.to_uppercase(),
            &good.replace("-01", "-1"),
            &good.replace('4', "+"),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn steps_take_time() {
        let mut steps = Steps::since(Instant::now());
        steps.done("a");
        steps.done("b");
        let (a, b) = (Duration::from_micros(1500), Duration::from_millis(4));
        (steps.steps[0].1, steps.steps[1].1) = (a, b);
        assert_eq!(steps.to_string(), "a 1.5ms, b 2.5ms");
        (0..100).for_each(|_| steps.done("c"));
        assert_eq!(steps.count, MAX_STEPS);
    }
}

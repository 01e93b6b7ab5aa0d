//! From lines of a file to what the client reads.

use super::line::{self, Output};
use super::{LogOptions, LogTime, StreamFilter};

/// Most bytes of a container's line; a longer one becomes several.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// Joins parts of lines, leaves out what is not wanted and stops at the limit.
#[derive(Debug)]
pub(super) struct Assembler {
    filter: StreamFilter,
    timestamps: bool,
    since: Option<LogTime>,
    /// Bytes that may still be given out.
    remaining: Option<u64>,
    unfinished: [Unfinished; 2],
}

/// The parts of a line whose last part has not come.
#[derive(Debug, Default)]
struct Unfinished {
    /// Of the first part; empty when there is none.
    time: Vec<u8>,
    text: Vec<u8>,
}

impl Assembler {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            filter: options.stream,
            timestamps: options.timestamps,
            since: options.since.clone(),
            remaining: options.limit_bytes,
            unfinished: <[Unfinished; 2]>::default(),
        }
    }

    /// Whether nothing more is wanted.
    pub(super) fn is_satisfied(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Adds a line of a file, without its end. A line that is not `wanted` only counts as the beginning of others.
    pub(super) fn add(&mut self, line: &[u8], wanted: bool, out: &mut Vec<u8>) {
        let Some(line) = line::parse(line) else { return };
        if !self.filter.wants(line.output) {
            return;
        }
        let unfinished = &mut self.unfinished[line.output as usize];
        if unfinished.time.is_empty() {
            unfinished.time.extend_from_slice(line.time);
        }
        unfinished.text.extend_from_slice(line.text);
        if line.partial && unfinished.text.len() < MAX_LINE_BYTES {
            return;
        }
        unfinished.text.push(b'\n');
        self.give(line.output, wanted, out);
    }

    /// Gives out what is unfinished, without the end of a line.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        for output in [Output::Stdout, Output::Stderr] {
            self.give(output, true, out);
        }
    }

    fn give(&mut self, output: Output, wanted: bool, out: &mut Vec<u8>) {
        let Unfinished { time, text } = &mut self.unfinished[output as usize];
        let recent = self.since.as_ref().is_none_or(|since| !is_before(time, since));
        if wanted && recent && !time.is_empty() {
            let begin = out.len();
            if self.timestamps {
                out.extend_from_slice(time);
                out.push(b' ');
            }
            out.extend_from_slice(text);
            if let Some(remaining) = &mut self.remaining {
                let room = usize::try_from(*remaining).unwrap_or(usize::MAX);
                out.truncate(begin.saturating_add(room));
                *remaining -= (out.len() - begin) as u64;
            }
        }
        time.clear();
        text.clear();
    }
}

/// Whether a line's time is earlier. What is no time is not.
fn is_before(time: &[u8], since: &LogTime) -> bool {
    if time.len() == since.as_bytes().len() && time.ends_with(b"Z") {
        return time < since.as_bytes();
    }
    // Not as the shim writes it.
    std::str::from_utf8(time).ok().and_then(LogTime::parse).is_some_and(|time| time < *since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 7] = [
        "2026-01-31T12:00:00.000000000Z stdout F one",
        "2026-01-31T12:00:01.000000000Z stdout P tw",
        "2026-01-31T12:00:02.000000000Z stderr F error",
        "half a li",
        "2026-01-31T12:00:03.000000000Z stdout F o",
        "2026-01-31T14:00:04+02:00 stdout F three",
        "2026-01-31T12:00:05.000000000Z stdout P fo",
    ];

    #[test]
    fn lines_become_text() {
        let check = |change: fn(&mut LogOptions), expected: &str| {
            let mut options = LogOptions::default();
            change(&mut options);
            let mut assembler = Assembler::new(&options);
            let mut out = Vec::new();
            for line in LINES {
                assembler.add(line.as_bytes(), true, &mut out);
            }
            assembler.finish(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(|_| {}, "one\nerror\ntwo\nthree\nfo");
        check(|options| options.stream = StreamFilter::Stdout, "one\ntwo\nthree\nfo");
        check(|options| options.stream = StreamFilter::Stderr, "error\n");
        check(|options| options.limit_bytes = Some(7), "one\nerr");
        check(|options| options.since = LogTime::parse("2026-01-31T12:00:02Z"), "error\nthree\nfo");
        check(|options| options.since = LogTime::parse("2026-01-31T12:00:04.5Z"), "fo");
        check(
            |options| {
                options.timestamps = true;
                options.stream = StreamFilter::Stdout;
                options.limit_bytes = Some(74);
            },
            "2026-01-31T12:00:00.000000000Z one\n2026-01-31T12:00:01.000000000Z two\n2026",
        );
    }

    #[test]
    fn lines_without_end_have_a_bound() {
        let mut assembler = Assembler::new(&LogOptions::default());
        let mut out = Vec::new();
        let part = [b"2026-01-31T12:00:00.000000000Z stdout P ".as_slice(), &[b'x'; 16 << 10]].concat();
        for _ in 0..150 {
            assembler.add(&part, true, &mut out);
            assert!(assembler.unfinished[0].text.len() < MAX_LINE_BYTES);
        }
        assembler.finish(&mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'x').count(), 150 * (16 << 10));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    #[test]
    fn unwanted_lines_begin_others() {
        let mut assembler = Assembler::new(&LogOptions::default());
        let mut out = Vec::new();
        for (line, wanted) in LINES.iter().zip([false, false, true, true, true, true, true]) {
            assembler.add(line.as_bytes(), wanted, &mut out);
        }
        assert_eq!(String::from_utf8(out).unwrap(), "error\ntwo\nthree\n");
    }
}

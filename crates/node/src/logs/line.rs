//! One line of a log file.

use super::StreamFilter;

/// Bytes of a line within which its text begins.
pub(super) const HEAD_BYTES: usize = 64;

/// A line of a file, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// When it was written, as it stands there.
    pub(super) time: &'a [u8],
    pub(super) output: Output,
    /// The container's line goes on in the next line of the same output.
    pub(super) partial: bool,
    pub(super) text: &'a [u8],
}

/// Which output a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

impl StreamFilter {
    pub(super) fn wants(self, output: Output) -> bool {
        match self {
            Self::All => true,
            Self::Stdout => output == Output::Stdout,
            Self::Stderr => output == Output::Stderr,
        }
    }
}

/// Reads a line without its end. `None` for what is none: a shim that was killed may leave half a line.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = parts.next().filter(|time| (20..=35).contains(&time.len()))?;
    let output = match parts.next()? {
        b"stdout" => Output::Stdout,
        b"stderr" => Output::Stderr,
        _ => return None,
    };
    // Further tags may follow a colon.
    let partial = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(Line { time, output, partial, text: parts.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |line: &str, expected: Option<(Output, bool, &str)>| {
            let got = parse(line.as_bytes());
            let got = got.map(|line| (line.output, line.partial, std::str::from_utf8(line.text).unwrap()));
            assert_eq!(got, expected, "{line:?}");
        };
        check(
            "2026-01-31T12:00:00.000000000Z stdout F hello  world",
            Some((Output::Stdout, false, "hello  world")),
        );
        check("2026-01-31T12:00:00.000000000Z stderr P ", Some((Output::Stderr, true, "")));
        check("2026-01-31T12:00:00Z stdout P:x text", Some((Output::Stdout, true, "text")));
        check("2026-01-31T12:00:00.000000000Z stdout F", None);
        check("2026-01-31T12:00:00.000000000Z stdin F text", None);
        check("2026-01-31T12:00:00.000000000Z stdout X text", None);
        check("now stdout F text", None);
        check("", None);
    }
}

//! Container output as files, in the log format of the Kubernetes container
//! runtime interface: `<RFC 3339 time> stdout|stderr F|P <text>`, one line each.
//!
//! A line longer than 16 KiB becomes several: all but the last are marked `P`.
//! Files are rotated by size and their number is bounded. Output that cannot be
//! written (a full disk) is counted and dropped: logging never stops a container.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::refusal::{Refusal, cannot};
use super::root::Root;
use crate::config::LogConfig;

/// Most bytes of text in one line of a log.
const MAX_LINE_BYTES: usize = 16 << 10;

/// Which output a text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    files: Files,
    /// Text of unfinished lines.
    unfinished: [Vec<u8>; 2],
    lost_bytes: u64,
}

impl Log {
    /// Opens or continues the log.
    pub(crate) fn open(root: &Root, config: &LogConfig) -> Result<Self, Refusal> {
        if config.max_files == 0 || config.max_bytes == 0 {
            return Err(Refusal::invalid("a log needs room for at least one file of one byte"));
        }
        let (Some(directory), Some(name)) = (config.path.parent(), config.path.file_name()) else {
            return Err(Refusal::invalid(format!("`{}` names no log file", config.path.display())));
        };
        let files = Files {
            directory: root.open(directory)?,
            name: name.to_owned().into_string().map_err(|_| Refusal::invalid("a log's name is not UTF-8"))?,
            max_bytes: config.max_bytes,
            max_files: config.max_files,
            current: None,
        };
        let mut log = Self { files, unfinished: [Vec::new(), Vec::new()], lost_bytes: 0 };
        log.files.open().map_err(cannot(format!("open the log `{}`", config.path.display())))?;
        Ok(log)
    }

    pub(crate) const fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Adds output.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], now: SystemTime) {
        let time = timestamp(now);
        let unfinished = &mut self.unfinished[stream as usize];
        let mut lines = Vec::with_capacity(bytes.len() + 64);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let mut rest = text;
            while unfinished.len() + rest.len() > MAX_LINE_BYTES {
                let (head, tail) = rest.split_at(MAX_LINE_BYTES - unfinished.len());
                unfinished.extend_from_slice(head);
                append_line(&mut lines, &time, stream, 'P', unfinished);
                unfinished.clear();
                rest = tail;
            }
            unfinished.extend_from_slice(rest);
            if ended {
                append_line(&mut lines, &time, stream, 'F', unfinished);
                unfinished.clear();
            }
        }
        self.put(&lines);
    }

    /// Writes what is unfinished, still as the part of a line: no more output comes.
    pub(crate) fn finish(&mut self, now: SystemTime) {
        let time = timestamp(now);
        let mut lines = Vec::new();
        for stream in Stream::BOTH {
            let text = std::mem::take(&mut self.unfinished[stream as usize]);
            if !text.is_empty() {
                append_line(&mut lines, &time, stream, 'P', &text);
            }
        }
        self.put(&lines);
    }

    fn put(&mut self, lines: &[u8]) {
        if !lines.is_empty() && self.files.append(lines).is_err() {
            self.lost_bytes += lines.len() as u64;
        }
    }
}

fn append_line(lines: &mut Vec<u8>, time: &str, stream: Stream, tag: char, text: &[u8]) {
    lines.extend_from_slice(format!("{time} {} {tag} ", stream.name()).as_bytes());
    lines.extend_from_slice(text);
    lines.push(b'\n');
}

/// The current file and the older ones beside it.
#[derive(Debug)]
struct Files {
    directory: OwnedFd,
    name: String,
    max_bytes: u64,
    max_files: u32,
    /// With its size.
    current: Option<(File, u64)>,
}

impl Files {
    fn open(&mut self) -> io::Result<()> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let file =
            File::from(rustix::fs::openat(&self.directory, &self.name, flags, Mode::RUSR | Mode::WUSR)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        self.current = Some((file, metadata.len()));
        Ok(())
    }

    /// Appends whole lines, in as many files as they take.
    fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            if self.current.is_none() {
                self.open()?;
            }
            let (file, size) = self.current.as_mut().expect("the file was opened above");
            let room = self.max_bytes.saturating_sub(*size);
            let fitting = whole_lines(lines, usize::try_from(room).unwrap_or(usize::MAX));
            // A line that no file has room for gets one of its own.
            let count = match fitting {
                0 if *size == 0 => first_line(lines),
                count => count,
            };
            if count == 0 {
                self.rotate()?;
                continue;
            }
            let before = *size;
            if let Err(error) = file.write_all(&lines[..count]) {
                // Half a line would spoil the next one.
                file.set_len(before)?;
                return Err(error);
            }
            *size += count as u64;
            lines = &lines[count..];
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.current = None;
        let older = |number: u32| format!("{}.{number}", self.name);
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            self.rename(older(number), older(number + 1))?;
        }
        if self.max_files > 1 {
            self.rename(&self.name, older(1))
        } else {
            Ok(rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty())?)
        }
    }

    fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        match rustix::fs::renameat(&self.directory, from.as_ref(), &self.directory, to.as_ref()) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// The length of the whole lines at the beginning that fit into `room` bytes.
fn whole_lines(lines: &[u8], room: usize) -> usize {
    let within = &lines[..room.min(lines.len())];
    within.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1)
}

/// A time as RFC 3339 in UTC with nanoseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The Gregorian date of a number of days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 1 March of year 0, so that a leap day is the last of its year,
    // in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps() {
        let check = |seconds: u64, nanos: u32, expected: &str| {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::new(seconds, nanos)), expected);
        };
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z");
        check(951_782_400, 1, "2000-02-29T00:00:00.000000001Z");
        check(1_709_251_199, 0, "2024-02-29T23:59:59.000000000Z");
        check(4_102_444_800, 0, "2100-01-01T00:00:00.000000000Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z");
    }

    fn log_in(directory: &Path, max_bytes: u64, max_files: u32) -> Log {
        let files = Files {
            directory: File::open(directory).unwrap().into(),
            name: "0.log".into(),
            max_bytes,
            max_files,
            current: None,
        };
        Log { files, unfinished: [Vec::new(), Vec::new()], lost_bytes: 0 }
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("xebec-log-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn lines_are_split_and_joined() {
        let directory = scratch("lines");
        let check = |name: &str, pieces: &[(Stream, &[u8])], expected: &[(&str, usize)]| {
            let mut log = log_in(&directory, 1 << 20, 2);
            log.files.name = name.into();
            for (stream, bytes) in pieces {
                log.write(*stream, bytes, UNIX_EPOCH);
            }
            log.finish(UNIX_EPOCH);
            let text = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
            let got: Vec<_> = text
                .lines()
                .map(|line| {
                    let line = line.strip_prefix("1970-01-01T00:00:00.000000000Z ").unwrap();
                    (&line[..8], line[9..].len())
                })
                .collect();
            assert_eq!(got, expected, "{name}");
        };
        use Stream::{Stderr, Stdout};
        check("none", &[(Stdout, b"")], &[]);
        check("one", &[(Stdout, b"hello\n")], &[("stdout F", 5)]);
        check("empty", &[(Stdout, b"\n\n")], &[("stdout F", 0), ("stdout F", 0)]);
        check(
            "pieces",
            &[(Stdout, b"he"), (Stderr, b"x\n"), (Stdout, b"llo\n")],
            &[("stderr F", 1), ("stdout F", 5)],
        );
        check("no end", &[(Stdout, b"prompt> "), (Stderr, b"e")], &[("stdout P", 8), ("stderr P", 1)]);
        let long = vec![b'x'; 2 * MAX_LINE_BYTES + 10];
        check(
            "long",
            &[(Stdout, &long), (Stdout, b"\n")],
            &[("stdout P", MAX_LINE_BYTES), ("stdout P", MAX_LINE_BYTES), ("stdout F", 10)],
        );
        let exact = vec![b'x'; MAX_LINE_BYTES];
        check("exact", &[(Stdout, &exact), (Stdout, b"\n")], &[("stdout F", MAX_LINE_BYTES)]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn files_are_rotated_and_bounded() {
        let directory = scratch("rotation");
        let mut log = log_in(&directory, 100, 3);
        let line = |number: u32| format!("line {number:02}\n");
        for number in 0..10 {
            log.write(Stream::Stdout, line(number).as_bytes(), UNIX_EPOCH);
        }
        let burst: String = (10..20).map(line).collect();
        log.write(Stream::Stdout, burst.as_bytes(), UNIX_EPOCH);
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        let numbers = |text: String| -> Vec<u32> {
            text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
        };
        assert_eq!(numbers(read("0.log")), [18, 19]);
        assert_eq!(numbers(read("0.log.1")), [16, 17]);
        assert_eq!(numbers(read("0.log.2")), [14, 15]);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 3);
        assert_eq!(log.lost_bytes(), 0);
        std::fs::remove_dir_all(directory).unwrap();
    }
}

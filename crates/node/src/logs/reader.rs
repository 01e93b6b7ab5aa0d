//! Reads a log from its beginning, or from its last lines, to its end as it is now, and across rotation.
//!
//! Blocks the calling thread for the time of one read.

use std::collections::VecDeque;
use std::io;

use super::LogOptions;
use super::assemble::Assembler;
use super::files::{FileId, LogFile, LogFiles};
use super::tail;

/// Bytes read at once.
const BLOCK_BYTES: usize = 64 << 10;

/// Most bytes of a line of a file; the shim's lines are much shorter.
const MAX_FILE_LINE_BYTES: usize = 256 << 10;

/// What a step of reading gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Text for the client, not empty.
    Text(Vec<u8>),
    /// Everything that is there has been read.
    AtEnd,
    /// Nothing more is wanted.
    Done,
}

/// One reading of a log.
#[derive(Debug)]
pub(super) struct Reader {
    files: LogFiles,
    /// Whether to go on into what is written after `open`.
    follow: bool,
    current: Option<Position>,
    /// Files that follow the current one.
    later: VecDeque<LogFile>,
    /// Lines that end before this place are not wanted.
    first: Option<(FileId, u64)>,
    /// The line that is arriving: its beginning.
    line: Vec<u8>,
    /// The line that is arriving is too long to be one.
    skipping: bool,
    assembler: Assembler,
}

/// A file and how far it has been read.
#[derive(Debug)]
struct Position {
    file: LogFile,
    offset: u64,
}

impl Reader {
    /// Opens a log.
    pub(super) fn open(files: LogFiles, options: &LogOptions) -> io::Result<Self> {
        let mut open: VecDeque<LogFile> = files.open_all()?.into();
        let (mut offset, mut first) = (0, None);
        if let Some(lines) = options.tail_lines {
            let start = tail::find(open.make_contiguous(), lines, options.stream)?;
            first = open.get(start.first.file).map(|file| (file.id, start.first.offset));
            open.drain(..start.read.file);
            offset = start.read.offset;
        }
        Ok(Self {
            files,
            follow: options.follow,
            current: open.pop_front().map(|file| Position { file, offset }),
            later: open,
            first,
            line: Vec::new(),
            skipping: false,
            assembler: Assembler::new(options),
        })
    }

    /// Reads on.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let mut text = Vec::new();
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            if self.assembler.is_satisfied() {
                return Ok(Step::Done);
            }
            let count = self.read(&mut block)?;
            if count > 0 {
                self.take(&block[..count], &mut text);
            } else if !self.advance(&mut block, &mut text)? {
                return Ok(Step::AtEnd);
            }
            if !text.is_empty() {
                return Ok(Step::Text(text));
            }
        }
    }

    /// What is left when nothing more will come: a line without its end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        self.assembler.finish(&mut text);
        text
    }

    fn read(&self, block: &mut [u8]) -> io::Result<usize> {
        let Some(Position { file, offset }) = &self.current else { return Ok(0) };
        let mut room = block.len();
        if !self.follow {
            // A container that writes faster than the client reads must not keep it for ever.
            room = room.min(usize::try_from(file.length.saturating_sub(*offset)).unwrap_or(usize::MAX));
        }
        file.read_at(&mut block[..room], *offset)
    }

    /// Goes on to the next file, if there is one.
    fn advance(&mut self, block: &mut [u8], text: &mut Vec<u8>) -> io::Result<bool> {
        let next = match self.later.pop_front() {
            Some(next) => Some(next),
            None if self.follow => {
                self.files.successor(self.current.as_ref().map(|current| current.file.id))?
            }
            None => None,
        };
        let Some(next) = next else { return Ok(false) };
        // The current file may have grown after it was found read, but not after it had a successor.
        loop {
            let count = self.read(block)?;
            if count == 0 {
                break;
            }
            self.take(&block[..count], text);
        }
        self.line.clear();
        self.skipping = false;
        self.current = Some(Position { file: next, offset: 0 });
        Ok(true)
    }

    /// Takes the lines out of a block.
    fn take(&mut self, block: &[u8], text: &mut Vec<u8>) {
        let Some(Position { file, offset }) = &mut self.current else { return };
        for piece in block.split_inclusive(|byte| *byte == b'\n') {
            let line_begin = *offset - self.line.len() as u64;
            *offset += piece.len() as u64;
            if self.skipping {
                self.skipping = !piece.ends_with(b"\n");
                continue;
            }
            let Some(end) = piece.strip_suffix(b"\n") else {
                self.line.extend_from_slice(piece);
                if self.line.len() > MAX_FILE_LINE_BYTES {
                    self.line.clear();
                    self.skipping = true;
                }
                continue;
            };
            if self.first.is_some_and(|(id, offset)| id == file.id && line_begin >= offset) {
                self.first = None;
            }
            let wanted = self.first.is_none();
            if self.line.is_empty() {
                self.assembler.add(end, wanted, text);
            } else {
                self.line.extend_from_slice(end);
                self.assembler.add(&self.line, wanted, text);
                self.line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn line(text: &str) -> String {
        format!("2026-01-31T12:00:00.000000000Z stdout F {text}\n")
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write as _;
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn open(path: &Path, options: &LogOptions) -> Reader {
        Reader::open(LogFiles::new(path.to_owned()), options).unwrap()
    }

    fn read_all(reader: &mut Reader) -> String {
        let mut text = Vec::new();
        while let Step::Text(more) = reader.step().unwrap() {
            text.extend_from_slice(&more);
        }
        String::from_utf8(text).unwrap()
    }

    fn rotate(path: &Path, files: u32) {
        let name = |number: u32| path.with_file_name(format!("0.log.{number}"));
        for number in (1..files).rev() {
            if name(number).exists() {
                fs::rename(name(number), name(number + 1)).unwrap();
            }
        }
        fs::rename(path, name(1)).unwrap();
    }

    #[test]
    fn all_files_are_read_once_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        assert_eq!(open(&path, &LogOptions::default()).step().unwrap(), Step::AtEnd);
        for text in ["a", "b", "c"] {
            append(&path, &line(text));
            if text != "c" {
                rotate(&path, 3);
            }
        }
        assert_eq!(read_all(&mut open(&path, &LogOptions::default())), "a\nb\nc\n");
        let tail = |lines| LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
        assert_eq!(read_all(&mut open(&path, &tail(0))), "");
        assert_eq!(read_all(&mut open(&path, &tail(1))), "c\n");
        assert_eq!(read_all(&mut open(&path, &tail(2))), "b\nc\n");
        assert_eq!(read_all(&mut open(&path, &tail(9))), "a\nb\nc\n");
        let limited = LogOptions { limit_bytes: Some(3), ..LogOptions::default() };
        let mut reader = open(&path, &limited);
        assert_eq!(read_all(&mut reader), "a\nb");
        assert_eq!(reader.step().unwrap(), Step::Done);
    }

    #[test]
    fn a_reading_without_follow_ends_where_the_log_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        append(&path, &line("before"));
        let mut reader = open(&path, &LogOptions::default());
        append(&path, &line("after"));
        assert_eq!(read_all(&mut reader), "before\n");
    }

    #[test]
    fn following_crosses_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut reader = open(&path, &LogOptions { follow: true, ..LogOptions::default() });
        assert_eq!(reader.step().unwrap(), Step::AtEnd);
        append(&path, &line("a"));
        assert_eq!(read_all(&mut reader), "a\n");
        // Half a line has no end yet.
        append(&path, &line("b")[..20]);
        assert_eq!(read_all(&mut reader), "");
        append(&path, &line("b")[20..]);
        // Written before the file was renamed, read after.
        append(&path, &line("c"));
        rotate(&path, 3);
        assert_eq!(read_all(&mut reader), "b\nc\n");
        append(&path, &line("d"));
        rotate(&path, 3);
        append(&path, &line("e"));
        rotate(&path, 3);
        append(&path, &line("f"));
        assert_eq!(read_all(&mut reader), "d\ne\nf\n");
        // More was rotated away than is kept: what is left is read.
        for text in ["g", "h", "i", "j"] {
            rotate(&path, 3);
            append(&path, &line(text));
        }
        assert_eq!(read_all(&mut reader), "g\nh\ni\nj\n");
    }

    #[test]
    fn following_from_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        append(&path, &line("old"));
        let mut reader =
            open(&path, &LogOptions { follow: true, tail_lines: Some(0), ..LogOptions::default() });
        assert_eq!(read_all(&mut reader), "");
        append(&path, &line("new"));
        rotate(&path, 3);
        append(&path, &line("newer"));
        assert_eq!(read_all(&mut reader), "new\nnewer\n");
    }

    #[test]
    fn what_is_no_log_is_read_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        append(&path, &"x".repeat(3 * MAX_FILE_LINE_BYTES));
        append(&path, "\n\n\0\u{fffd}\n");
        append(&path, &line("a"));
        let mut reader = open(&path, &LogOptions::default());
        assert_eq!(read_all(&mut reader), "a\n");
        assert!(reader.line.capacity() <= 2 * MAX_FILE_LINE_BYTES);
        let tail = LogOptions { tail_lines: Some(1), ..LogOptions::default() };
        assert_eq!(read_all(&mut open(&path, &tail)), "a\n");
    }
}

//! Where the last lines of a log begin, found from its end.

use std::io;
use std::ops::ControlFlow;

use super::StreamFilter;
use super::files::LogFile;
use super::line::{self, HEAD_BYTES, Line};

/// Bytes read at once.
const BLOCK_BYTES: usize = 64 << 10;

/// Most lines of a file that are looked at for the first parts of a line.
const MAX_PARTS: u32 = 4096;

/// A place in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the files.
    pub(super) file: usize,
    /// Bytes into it.
    pub(super) offset: u64,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Reading begins here, at the first part of a wanted line.
    pub(super) read: Place,
    /// Lines that end before this place are not wanted.
    pub(super) first: Place,
}

/// Finds the last `count` lines. The files are in order, the oldest first.
pub(super) fn find(files: &[LogFile], count: u64, filter: StreamFilter) -> io::Result<Start> {
    let mut search = Search { left: count, filter, start: end(files), unbegun: [false; 2], looked_at: 0 };
    if count == 0 {
        return Ok(search.start);
    }
    for (index, file) in files.iter().enumerate().rev() {
        let found = backward(file, |offset, head| match line::parse(head) {
            Some(line) => search.visit(Place { file: index, offset }, &line),
            None => ControlFlow::Continue(()),
        })?;
        if found.is_break() {
            return Ok(search.start);
        }
    }
    // Without enough lines, all are wanted.
    Ok(if search.left > 0 { Start::default() } else { search.start })
}

fn end(files: &[LogFile]) -> Start {
    let end =
        Place { file: files.len().saturating_sub(1), offset: files.last().map_or(0, |file| file.length) };
    Start { read: end, first: end }
}

struct Search {
    /// Lines still to be found.
    left: u64,
    filter: StreamFilter,
    start: Start,
    /// By output: whether the first line found of it may have parts further back.
    unbegun: [bool; 2],
    /// Lines looked at since the last wanted one was found.
    looked_at: u32,
}

impl Search {
    fn visit(&mut self, place: Place, line: &Line<'_>) -> ControlFlow<()> {
        if !self.filter.wants(line.output) {
            return ControlFlow::Continue(());
        }
        let unbegun = &mut self.unbegun[line.output as usize];
        if self.left > 0 {
            if !line.partial {
                self.left -= 1;
                self.start.first = place;
                *unbegun = true;
            }
            self.start.read = place;
            return ControlFlow::Continue(());
        }
        if !line.partial {
            *unbegun = false;
        } else if *unbegun {
            self.start.read = place;
        }
        self.looked_at += 1;
        if self.unbegun == [false; 2] || self.looked_at == MAX_PARTS {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// Visits the whole lines of a file from its end to its beginning: their offsets, and how they begin.
fn backward(
    file: &LogFile,
    mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES + HEAD_BYTES);
    let mut high = file.length;
    let mut in_whole_line = false;
    while high > 0 {
        let low = high.saturating_sub(BLOCK_BYTES as u64);
        let length = usize::try_from(high - low).expect("a block fits into memory");
        // The beginning of what was read before, for a line that begins at the end of this block.
        block.truncate(HEAD_BYTES);
        block.splice(0..0, std::iter::repeat_n(0, length));
        file.read_exact_at(&mut block[..length], low)?;
        for end in (0..length).rev().filter(|at| block[*at] == b'\n') {
            if in_whole_line && visit(low + end as u64 + 1, head(&block[end + 1..])).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            in_whole_line = true;
        }
        high = low;
    }
    if in_whole_line { Ok(visit(0, head(&block))) } else { Ok(ControlFlow::Continue(())) }
}

fn head(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(HEAD_BYTES)];
    bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::files::LogFiles;

    /// A line of 40 bytes and more: an output, whether it is a part, and its text.
    fn line(short: &str) -> String {
        let (output, rest) = short.split_at(1);
        let (tag, text) = rest.split_at(1);
        let output = if output == "o" { "stdout" } else { "stderr" };
        format!("2026-01-31T12:00:00.000000000Z {output} {tag} {text}\n")
    }

    /// Where the lines `read` and `first` begin, counted over all files.
    fn check(files: &[&[&str]], filter: StreamFilter, count: u64, read: usize, first: usize) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut places = Vec::new();
        for (index, lines) in files.iter().enumerate() {
            let mut text = String::new();
            for short in *lines {
                places.push(Place { file: index, offset: text.len() as u64 });
                text.push_str(&line(short));
            }
            if index + 1 == files.len() {
                places.push(Place { file: index, offset: text.len() as u64 });
            }
            let number = files.len() - 1 - index;
            let name =
                if number == 0 { path.clone() } else { directory.path().join(format!("0.log.{number}")) };
            std::fs::write(name, text).unwrap();
        }
        let open = LogFiles::new(path).open_all().unwrap();
        let start = find(&open, count, filter).unwrap();
        assert_eq!(start, Start { read: places[read], first: places[first] }, "{count} of {files:?}");
    }

    #[test]
    fn the_last_lines_are_found() {
        let plain: &[&str] = &["oFa", "oFb", "eFc", "oFd"];
        for (count, place) in [(0, 4), (1, 3), (2, 2), (3, 1), (4, 0), (5, 0), (u64::MAX, 0)] {
            check(&[plain], StreamFilter::All, count, place, place);
        }
        check(&[plain], StreamFilter::Stdout, 2, 1, 1);
        check(&[plain], StreamFilter::Stderr, 1, 2, 2);
        check(&[plain], StreamFilter::Stderr, 2, 0, 0);
        check(&[&["oFa", "oFb"], &["oFc"]], StreamFilter::All, 1, 2, 2);
        check(&[&["oFa", "oFb"], &["oFc"]], StreamFilter::All, 2, 1, 1);
        check(&[&["oFa"], &["oFb"], &["oFc"]], StreamFilter::All, 3, 0, 0);
    }

    #[test]
    fn lines_are_found_with_their_parts() {
        let parts: &[&str] = &["oFa", "oPb", "oPb", "eFc", "oFb", "oPd"];
        check(&[parts], StreamFilter::All, 1, 1, 4);
        check(&[parts], StreamFilter::All, 2, 1, 3);
        check(&[parts], StreamFilter::All, 3, 0, 0);
        check(&[parts], StreamFilter::Stdout, 1, 1, 4);
        check(&[&["oFa", "oPb"], &["eFc", "oFb"]], StreamFilter::All, 1, 1, 3);
    }

    #[test]
    fn blocks_are_cut_anywhere() {
        // Long texts, so that lines begin at all places of a block.
        let long = format!("oF{}", "x".repeat(1021 + HEAD_BYTES));
        let lines: Vec<&str> = vec![&long; 200];
        for count in [1, 57, 58, 59, 60, 61, 62, 119, 199] {
            let place = 200 - count as usize;
            check(&[&lines], StreamFilter::All, count, place, place);
        }
    }

    #[test]
    fn half_a_line_at_the_end_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, [line("oFa"), line("oFb"), line("oFc")[..40].to_owned()].concat()).unwrap();
        let open = LogFiles::new(path).open_all().unwrap();
        let place = Place { file: 0, offset: line("oFa").len() as u64 };
        assert_eq!(find(&open, 1, StreamFilter::All).unwrap(), Start { read: place, first: place });
    }
}

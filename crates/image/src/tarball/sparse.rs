//! Sparse files: finding out which bytes of the file are stored.
//!
//! Four encodings: GNU's old header with continuation blocks; PAX 0.0 and 0.1 with the map in records; PAX 1.0 with
//! the map at the start of the data.

use std::io::Read;

use super::header::{BLOCK, Block, unsigned};
use super::pax::{Records, decimal};
use super::{Entry, Reader, Segment, TarError};
use crate::limits::Exceeded;

impl<R: Read> Reader<R> {
    /// Turns a file entry into a sparse one if its header or records say so, and leaves the reader at its first
    /// segment's data.
    pub(super) fn expand_sparse(
        &mut self,
        block: &Block,
        pax: &Records,
        entry: &mut Entry,
        offset: u64,
    ) -> Result<(), TarError> {
        let fail = |what: String| TarError::Header { offset, what };
        let (segments, size) = if block.type_flag() == b'S' {
            self.old_gnu_map(block, offset)?
        } else if pax.sparse.major == Some(1) && pax.sparse.minor == Some(0) {
            let size =
                pax.sparse.real_size.ok_or_else(|| fail("a sparse file without its size".to_owned()))?;
            (self.leading_map(offset)?, size)
        } else if let Some(map) = &pax.sparse.map {
            let size =
                pax.sparse.real_size.ok_or_else(|| fail("a sparse file without its size".to_owned()))?;
            let numbers: Option<Vec<u64>> =
                map.split(|b| *b == b',').filter(|n| !n.is_empty()).map(decimal).collect();
            let numbers = numbers.ok_or_else(|| fail("malformed sparse map".to_owned()))?;
            (self.segments(&numbers, offset)?, size)
        } else {
            return Ok(());
        };
        check(&segments, size, self.unread).map_err(fail)?;
        entry.size = size;
        entry.segments = Some(segments);
        Ok(())
    }

    fn old_gnu_map(&mut self, block: &Block, offset: u64) -> Result<(Vec<Segment>, u64), TarError> {
        let fail = |what: String| TarError::Header { offset, what };
        let (first, mut more, size) = block.gnu_sparse().map_err(fail)?;
        let mut numbers = Vec::new();
        gnu_entries(first, &mut numbers).map_err(fail)?;
        while more {
            self.check_segments(numbers.len() / 2)?;
            let next = self.next_block()?.ok_or_else(|| self.truncated())?;
            let (entries, again) = next.gnu_sparse_more();
            gnu_entries(entries, &mut numbers).map_err(fail)?;
            more = again;
        }
        Ok((self.segments(&numbers, offset)?, size))
    }

    /// Reads the decimal lines of a PAX 1.0 map, which fill whole blocks.
    fn leading_map(&mut self, offset: u64) -> Result<Vec<Segment>, TarError> {
        let fail = || TarError::Header { offset, what: "malformed sparse map".to_owned() };
        let mut numbers: Vec<u64> = Vec::new();
        let mut line = Vec::new();
        let mut wanted = None;
        while wanted != Some(numbers.len()) {
            let mut block = [0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.read_data(&mut block[filled..])? {
                    0 => return Err(fail()),
                    n => filled += n,
                }
            }
            for byte in block {
                if wanted == Some(numbers.len()) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number = decimal(&line).ok_or_else(fail)?;
                line.clear();
                if wanted.is_some() {
                    numbers.push(number);
                } else {
                    let count = usize::try_from(number).map_err(|_| fail())?;
                    self.check_segments(count)?;
                    wanted = Some(count * 2);
                }
            }
            if line.len() > 20 {
                return Err(fail());
            }
        }
        self.segments(&numbers, offset)
    }

    fn segments(&self, numbers: &[u64], offset: u64) -> Result<Vec<Segment>, TarError> {
        self.check_segments(numbers.len() / 2)?;
        if !numbers.len().is_multiple_of(2) {
            return Err(TarError::Header { offset, what: "malformed sparse map".to_owned() });
        }
        Ok(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
    }

    fn check_segments(&self, count: usize) -> Result<(), TarError> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let what = || format!("a sparse file of {count} segments");
        Ok(Exceeded::check(count, "sparse_segments", self.bounds.sparse_segments, what)?)
    }
}

/// Entries of 12 + 12 bytes; an empty one ends the list.
fn gnu_entries(fields: &[u8], numbers: &mut Vec<u64>) -> Result<(), String> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 || field[12] == 0 {
            break;
        }
        numbers.push(unsigned("sparse offset", &field[..12])?);
        numbers.push(unsigned("sparse length", &field[12..])?);
    }
    Ok(())
}

/// Segments are in order, within the file, and exactly what is stored.
fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), String> {
    let (mut end, mut total) = (0_u64, 0_u64);
    for segment in segments {
        if segment.offset < end {
            return Err("sparse segments overlap".to_owned());
        }
        end = segment.offset.checked_add(segment.length).ok_or_else(|| "sparse map overflows".to_owned())?;
        total += segment.length;
    }
    if end > size || total != stored {
        return Err("the sparse map does not agree with the file's size".to_owned());
    }
    Ok(())
}

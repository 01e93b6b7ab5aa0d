//! A writer whose output depends on nothing but its input.

use std::io::{self, Write};

use super::header::BLOCK;

/// What an entry carries besides its name and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds.
    pub mtime: u64,
}

impl Meta {
    /// Root's, of 1970.
    pub fn new(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: 0 }
    }
}

/// Writes ustar entries, with a PAX record where a name is too long for them.
#[derive(Debug)]
pub struct TarWriter<W> {
    sink: W,
}

impl<W: Write> TarWriter<W> {
    /// A writer at the start of an archive.
    pub fn new(sink: W) -> Self {
        Self { sink }
    }

    /// A file.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn file(&mut self, path: &str, meta: Meta, data: &[u8]) -> io::Result<()> {
        self.header(b'0', path, "", meta, data.len())?;
        self.data(data)
    }

    /// A directory.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn directory(&mut self, path: &str, meta: Meta) -> io::Result<()> {
        self.header(b'5', &format!("{}/", path.trim_end_matches('/')), "", meta, 0)
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.header(b'2', path, target, Meta::new(0o777), 0)
    }

    /// Another name for an earlier file.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn hardlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.header(b'1', path, target, Meta::new(0o644), 0)
    }

    /// Writes the end-of-archive mark.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; BLOCK * 2])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn data(&mut self, data: &[u8]) -> io::Result<()> {
        self.sink.write_all(data)?;
        self.sink.write_all(&[0; BLOCK][..data.len().wrapping_neg() % BLOCK])
    }

    fn header(&mut self, flag: u8, path: &str, link: &str, meta: Meta, size: usize) -> io::Result<()> {
        let mut records = Vec::new();
        for (key, value) in [("path", path), ("linkpath", link)] {
            if value.len() > 100 {
                records.extend(record(key, value));
            }
        }
        if size >= 1 << 33 {
            records.extend(record("size", &size.to_string()));
        }
        if !records.is_empty() {
            self.block(b'x', "pax", "", Meta::new(0o644), records.len())?;
            self.data(&records)?;
        }
        self.block(flag, path, link, meta, size)
    }

    fn block(&mut self, flag: u8, path: &str, link: &str, meta: Meta, size: usize) -> io::Result<()> {
        let mut block = [0_u8; BLOCK];
        put(&mut block[..100], path.as_bytes());
        octal(&mut block[100..108], u64::from(meta.mode & 0o7777));
        octal(&mut block[108..116], u64::from(meta.uid));
        octal(&mut block[116..124], u64::from(meta.gid));
        octal(&mut block[124..136], u64::try_from(size).unwrap_or(u64::MAX));
        octal(&mut block[136..148], meta.mtime);
        block[148..156].fill(b' ');
        block[156] = flag;
        put(&mut block[157..257], link.as_bytes());
        put(&mut block[257..265], b"ustar\x0000");
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        octal(&mut block[148..155], sum);
        self.sink.write_all(&block)
    }
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let n = bytes.len().min(field.len());
    field[..n].copy_from_slice(&bytes[..n]);
}

/// Zero-padded octal digits and a NUL. What does not fit is said by a PAX record before.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    for (place, byte) in field[..digits].iter_mut().rev().enumerate() {
        let shift = 3 * u32::try_from(place).expect("a header field is short");
        *byte = b'0' + u8::try_from(value.checked_shr(shift).unwrap_or(0) & 7).expect("three bits");
    }
    field[digits] = 0;
}

/// A record states its own length, its digits included.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

//! A tar reader for archives of strangers, and a small reproducible writer.
//!
//! The reader streams: it holds one header and its extensions, never an entry's data, and each thing that an archive
//! can make it hold (names, extended headers, sparse maps) has a bound. It understands v7, ustar, GNU long names and
//! sparse files, PAX records with extended attributes, and PAX sparse files 0.0, 0.1 and 1.0. Where formats leave two
//! readings, it takes the one of Go's `archive/tar`, which Docker, containerd and the registries' scanners use: a
//! reader that sees other entries than the scanner did is how malicious archives hide. (The `tar` crate reads long
//! names and PAX records of any size into memory and does not expand PAX sparse files, hence this one.)
//!
//! It gives out names as they stand in the archive; whether they may be used is for the consumer to decide.
//!
//! Spec: POSIX.1-2017 `pax`, interchange formats; GNU tar manual, "Standard" and "Sparse Formats".

use std::io::{self, Read};

use crate::limits::{Exceeded, Limits};

mod header;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;
mod write;

pub use write::{Meta, TarWriter};

use header::{BLOCK, Block};
use pax::Records;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream below failed; a broken compression shows here.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// The stream ended inside an entry.
    #[error("the archive is truncated in {place}")]
    Truncated {
        /// "a header", "`etc/passwd`".
        place: String,
    },
    /// A header makes no sense.
    #[error("malformed archive header at byte {offset}: {what}")]
    Header {
        /// Where the header starts in the uncompressed archive.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A kind of entry that is not part of images.
    #[error("archive entry `{path}` has the unsupported type {kind:?}")]
    Kind {
        /// The entry.
        path: String,
        /// The type flag.
        kind: char,
    },
    /// A bound was hit.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

impl From<io::Error> for TarError {
    /// A bound of the stream below is a bound of the archive.
    fn from(error: io::Error) -> Self {
        match error.downcast::<Exceeded>() {
            Ok(exceeded) => Self::Limit(exceeded),
            Err(error) => Self::Read(error),
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file with data.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name for the file at this path.
    Hardlink(Vec<u8>),
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// A piece of a sparse file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// One entry's description. Its data is read from the [`Reader`] before the next entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Size of the file when unpacked.
    pub size: u64,
    /// For a sparse file, where its data belongs.
    pub segments: Option<Vec<Segment>>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The name for messages.
    pub fn display(&self) -> String {
        display(&self.path)
    }
}

/// Bytes of a stranger's name for a message.
pub(crate) fn display(path: &[u8]) -> String {
    crate::quote::clip(&String::from_utf8_lossy(path).escape_debug().to_string())
}

/// The bounds of one archive.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Headers, extended ones included.
    pub entries: u64,
    /// The field of [`Limits`] that `entries` comes from.
    pub entries_limit: &'static str,
    /// One name or link target.
    pub path_bytes: u64,
    /// One extended header.
    pub header_bytes: u64,
    /// Segments of one sparse file.
    pub sparse_segments: u64,
}

impl Bounds {
    /// For the archive that holds an image.
    pub fn archive(limits: &Limits) -> Self {
        Self::new(limits, limits.archive_entries, "archive_entries")
    }

    /// For the archive that is a layer.
    pub fn layer(limits: &Limits) -> Self {
        Self::new(limits, limits.unpacked_entries, "unpacked_entries")
    }

    fn new(limits: &Limits, entries: u64, entries_limit: &'static str) -> Self {
        Self {
            entries,
            entries_limit,
            path_bytes: limits.path_bytes,
            header_bytes: limits.header_bytes,
            sparse_segments: limits.sparse_segments,
        }
    }
}

/// Reads entries one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    bounds: Bounds,
    /// Bytes consumed from the source.
    offset: u64,
    /// Data of the current entry that was not read yet.
    unread: u64,
    /// Zeros after that data.
    padding: u64,
    /// Headers seen.
    entries: u64,
    current: Vec<u8>,
    ended: bool,
}

/// What extended headers say about the entry that follows.
#[derive(Debug, Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Records,
}

impl<R: Read> Reader<R> {
    /// A reader from the start of an uncompressed archive. The source should be buffered.
    pub fn new(source: R, bounds: Bounds) -> Self {
        Self {
            source,
            bounds,
            offset: 0,
            unread: 0,
            padding: 0,
            entries: 0,
            current: Vec::new(),
            ended: false,
        }
    }

    /// The next entry, or nothing at the end of the archive. Data of the one before that was not read is skipped.
    ///
    /// # Errors
    /// When the archive is malformed, truncated or beyond a bound. The reader must not be used after an error.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let start = self.offset;
            let Some(block) = self.next_header()? else { return Ok(None) };
            let fail = |what: String| TarError::Header { offset: start, what };
            match block.type_flag() {
                b'x' => extensions.pax = pax::parse(&self.meta(&block)?).map_err(fail)?,
                // Global records hold comments in practice; honouring them would differ from other readers.
                b'g' => drop(self.meta(&block)?),
                b'L' => extensions.long_name = Some(trim_nul(self.meta(&block)?)),
                b'K' => extensions.long_link = Some(trim_nul(self.meta(&block)?)),
                _ => return self.entry(&block, extensions, start).map(Some),
            }
        }
    }

    /// Reads data of the current entry as stored: of a sparse file, its segments one after the other.
    ///
    /// # Errors
    /// When the source fails or ends early.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let want = usize::try_from(self.unread).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(self.truncated());
        }
        let advance = u64::try_from(n).expect("a slice's length fits 64 bits");
        self.unread -= advance;
        self.offset += advance;
        Ok(n)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let rest = self.unread + self.padding;
        self.unread = 0;
        self.padding = 0;
        let skipped = io::copy(&mut (&mut self.source).take(rest), &mut io::sink())?;
        self.offset += skipped;
        if skipped == rest { Ok(()) } else { Err(self.truncated()) }
    }

    /// The next header block; nothing at the end-of-archive mark or a clean end of the stream.
    fn next_header(&mut self) -> Result<Option<Block>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let start = self.offset;
        let Some(block) = self.next_block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.is_zero() {
            self.ended = true;
            return match self.next_block()? {
                Some(second) if !second.is_zero() => {
                    let what = "a lone zero block in the middle of the archive".to_owned();
                    Err(TarError::Header { offset: start, what })
                }
                _ => Ok(None),
            };
        }
        self.entries += 1;
        Exceeded::check(self.entries, self.bounds.entries_limit, self.bounds.entries, || {
            "the number of archive entries".to_owned()
        })?;
        block.verify().map_err(|what| TarError::Header { offset: start, what })?;
        Ok(Some(block))
    }

    fn next_block(&mut self) -> Result<Option<Block>, TarError> {
        let mut bytes = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated { place: "a header".to_owned() }),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(Block(bytes)))
    }

    /// The data of an extended header.
    fn meta(&mut self, block: &Block) -> Result<Vec<u8>, TarError> {
        let offset = self.offset;
        let size = block.size().map_err(|what| TarError::Header { offset, what })?;
        let max = self.bounds.header_bytes;
        Exceeded::check(size, "header_bytes", max, || format!("an extended header of {size} bytes"))?;
        self.begin_data(size);
        self.current = b"an extended header".to_vec();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read_data(&mut buffer)? {
                0 => break,
                n => bytes.extend_from_slice(&buffer[..n]),
            }
        }
        self.skip_rest()?;
        Ok(bytes)
    }

    fn begin_data(&mut self, size: u64) {
        self.unread = size;
        self.padding = size.wrapping_neg() % (BLOCK as u64);
    }

    fn entry(&mut self, block: &Block, extensions: Extensions, offset: u64) -> Result<Entry, TarError> {
        let fail = |what: String| TarError::Header { offset, what };
        let Extensions { long_name, long_link, mut pax } = extensions;
        let sparse_name = pax.sparse.name.take();
        let path = long_name.or(sparse_name).or(pax.path.take()).unwrap_or_else(|| block.name());
        let link = long_link.or(pax.link.take()).unwrap_or_else(|| block.link());
        for (what, text) in [("name", &path), ("link target", &link)] {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            Exceeded::check(length, "path_bytes", self.bounds.path_bytes, || {
                format!("the {what} of archive entry `{}`", display(&path))
            })?;
        }
        let kind = kind(block.type_flag(), &path, link)?;
        let stored = match kind {
            Kind::File => pax.size.map_or_else(|| block.size(), Ok).map_err(fail)?,
            // Writers disagree on whether links and directories state a size; none of them has data.
            _ => 0,
        };
        self.begin_data(stored);
        self.current.clone_from(&path);
        let mut entry = Entry {
            path,
            kind,
            mode: block.mode().map_err(fail)?,
            uid: pax.uid.map_or_else(|| block.uid(), Ok).map_err(fail)?,
            gid: pax.gid.map_or_else(|| block.gid(), Ok).map_err(fail)?,
            mtime: pax.mtime.map_or_else(|| block.mtime(), Ok).map_err(fail)?,
            size: stored,
            segments: None,
            xattrs: std::mem::take(&mut pax.xattrs),
        };
        if entry.kind == Kind::File {
            self.expand_sparse(block, &pax, &mut entry, offset)?;
        }
        Ok(entry)
    }

    fn truncated(&self) -> TarError {
        TarError::Truncated { place: format!("`{}`", display(&self.current)) }
    }
}

fn kind(flag: u8, path: &[u8], link: Vec<u8>) -> Result<Kind, TarError> {
    Ok(match flag {
        // Before ustar, a trailing slash was the only sign of a directory.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::Hardlink(link),
        b'2' => Kind::Symlink(link),
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(TarError::Kind { path: display(path), kind: char::from(other) }),
    })
}

fn trim_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

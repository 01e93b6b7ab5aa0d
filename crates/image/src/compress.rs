//! Compressed streams of strangers: which compression, and never more output than allowed.
//!
//! The compression is told from the first bytes, as every other reader of images does; media types lie, and the
//! digest of the uncompressed bytes decides in the end. Gzip may have several members, zstd several frames; zstd
//! windows are held to 128 MiB of memory.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::limits::Exceeded;

/// A compression that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed, or not in a way that is known.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Log2 of the largest zstd window: 128 MiB, what the `zstd` program accepts without being told to.
const ZSTD_WINDOW_LOG: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames start with any of sixteen magic numbers that share three bytes.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];

const HEAD: usize = 6;

/// A decompressing reader.
pub enum Decoder<R: BufRead> {
    /// As it is.
    Plain(Head<R>),
    /// Gzip.
    Gzip(Box<MultiGzDecoder<Head<R>>>),
    /// Zstd.
    Zstd(Box<zstd::Decoder<'static, Head<R>>>),
}

/// A reader whose first bytes were looked at.
pub type Head<R> = Chain<Cursor<Vec<u8>>, R>;

impl<R: BufRead> std::fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoder({:?})", self.compression())
    }
}

impl<R: BufRead> Decoder<R> {
    /// Looks at the first bytes and starts decompressing.
    ///
    /// # Errors
    /// When reading fails, or the compression is one that images do not use.
    pub fn open(mut source: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD);
        source.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        for (name, magic) in [("bzip2", BZIP2), ("xz", XZ)] {
            if head.starts_with(magic) {
                let what = format!("compression {name} is not supported; use gzip or zstd");
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
        }
        let compression = recognise(&head);
        let source = Cursor::new(head).chain(source);
        Ok(match compression {
            Compression::None => Self::Plain(source),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// What was recognised.
    pub fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

/// Tells a compression from the first bytes.
pub fn recognise(head: &[u8]) -> Compression {
    let skippable = head.first().is_some_and(|b| b & 0xf0 == 0x50) && head[1..].starts_with(ZSTD_SKIPPABLE);
    if head.starts_with(GZIP) {
        Compression::Gzip
    } else if head.starts_with(ZSTD) || skippable {
        Compression::Zstd
    } else {
        Compression::None
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// One bound of a [`Metered`] stream.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The field of [`crate::limits::Limits`].
    pub limit: &'static str,
    /// That field's value, for the message.
    pub value: u64,
    /// Bytes allowed by it.
    pub bytes: u64,
}

/// A reader that counts and stops at bounds. The error inside its `io::Error` is an [`Exceeded`].
#[derive(Debug)]
pub struct Metered<R> {
    source: R,
    read: u64,
    what: String,
    bounds: Vec<Bound>,
}

impl<R: Read> Metered<R> {
    /// Wraps `source`; `what` names it in errors.
    pub fn new(source: R, what: String, bounds: Vec<Bound>) -> Self {
        Self { source, read: 0, what, bounds }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.read = self.read.saturating_add(u64::try_from(n).expect("a slice's length fits 64 bits"));
        if let Some(bound) = self.bounds.iter().find(|bound| self.read > bound.bytes) {
            let what = self.what.clone();
            return Err(io::Error::other(Exceeded { what, limit: bound.limit, max: bound.value }));
        }
        Ok(n)
    }
}

/// A reader that hashes what passes.
#[derive(Debug)]
pub struct Hashed<R> {
    source: R,
    hasher: Hasher,
}

impl<R: Read> Hashed<R> {
    /// Wraps `source`.
    pub fn new(source: R, algorithm: Algorithm) -> Self {
        Self { source, hasher: Hasher::new(algorithm) }
    }

    /// Reads to the end, so that nothing behind the useful part goes unhashed, and returns the digest.
    ///
    /// # Errors
    /// When reading fails.
    pub fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.finish())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::testing::mutations;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 1).expect("memory")
    }

    fn decode(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let decoder = Decoder::open(bytes)?;
        let compression = decoder.compression();
        let mut out = Vec::new();
        decoder.take(1 << 20).read_to_end(&mut out)?;
        Ok((compression, out))
    }

    #[test]
    fn recognises_and_joins() {
        let check = |bytes: &[u8], compression: Compression, expected: &[u8]| {
            assert_eq!(decode(bytes).expect("well formed"), (compression, expected.to_vec()));
        };
        check(b"", Compression::None, b"");
        check(b"abc", Compression::None, b"abc");
        check(b"a longer text", Compression::None, b"a longer text");
        check(&gzip(b"abc"), Compression::Gzip, b"abc");
        check(&[gzip(b"abc"), gzip(b""), gzip(b"def")].concat(), Compression::Gzip, b"abcdef");
        check(&zstd(b"abc"), Compression::Zstd, b"abc");
        check(&[zstd(b"abc"), zstd(b"def")].concat(), Compression::Zstd, b"abcdef");
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        check(&[&skippable[..], &zstd(b"abc"), &skippable].concat(), Compression::Zstd, b"abc");
    }

    #[test]
    fn refuses_what_is_broken_or_unknown() {
        let check = |bytes: &[u8], expected: &str| {
            let error = decode(bytes).map(|_| ()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(b"BZh91AY", "bzip2 is not supported");
        check(b"\xfd7zXZ\0\0", "xz is not supported");
        assert!(decode(&gzip(b"abc")[..15]).is_err(), "cut gzip");
        assert!(decode(&zstd(b"abc")[..10]).is_err(), "cut zstd");
        assert!(decode(&[gzip(b"abc"), b"rubbish".to_vec()].concat()).is_err(), "rubbish behind gzip");
        assert!(decode(&[zstd(b"abc"), b"rubbish".to_vec()].concat()).is_err(), "rubbish behind zstd");
        let mut wide = zstd::Encoder::new(Vec::new(), 1).expect("memory");
        wide.window_log(30).expect("a legal window");
        wide.long_distance_matching(true).expect("a legal parameter");
        wide.write_all(b"abc").expect("memory");
        check(&wide.finish().expect("memory"), "memory");
    }

    #[test]
    fn output_is_metered() {
        let bomb = zstd(&vec![0; 1 << 20]);
        assert!(bomb.len() < 1_000);
        let bounds = vec![Bound { limit: "compression_ratio", value: 100, bytes: 100_000 }];
        let decoder = Decoder::open(bomb.as_slice()).expect("zstd");
        let metered = Metered::new(decoder, "layer x".into(), bounds);
        let error = Hashed::new(metered, Algorithm::Sha256).finish().expect_err("too much").to_string();
        assert!(error.starts_with("layer x exceeds the limit `compression_ratio` of 100"), "{error}");
        let hashed = Hashed::new(&b"abc"[..], Algorithm::Sha256);
        assert_eq!(hashed.finish().expect("memory"), Digest::sha256(b"abc"));
    }

    #[test]
    fn any_bytes_end() {
        let seeds = [gzip(b"some text, some text"), zstd(b"some text, some text")];
        let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
        let good = mutations(&seeds, 5_000, 13).filter(|bytes| decode(bytes).is_ok()).count();
        assert!(good > 500, "{good}");
    }
}

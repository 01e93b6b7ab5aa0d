//! Header blocks of SPDY/3.1: names and values, compressed in one zlib stream per direction.

use bytes::{BufMut as _, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::DICTIONARY;

/// Most bytes of a header block once it is unpacked.
pub(crate) const MAX_BLOCK_BYTES: usize = 16 << 10;

/// Most headers of a block.
pub(crate) const MAX_HEADERS: usize = 64;

/// The headers of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header, the first of several; names are lower-case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())?;
        value.split('\0').next()
    }

    fn parse(mut block: &[u8]) -> Result<Self, SpdyError> {
        let count = take_length(&mut block)?;
        if count > MAX_HEADERS {
            return Err(SpdyError::TooManyHeaders(count));
        }
        let mut headers: Vec<(String, String)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, value) = (take_text(&mut block)?, take_text(&mut block)?);
            let repeated = headers.iter().any(|(known, _)| *known == name);
            if name.is_empty() || repeated || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(SpdyError::Headers);
            }
            headers.push((name, value));
        }
        if block.is_empty() { Ok(Self(headers)) } else { Err(SpdyError::Headers) }
    }

    fn encode(&self) -> BytesMut {
        let mut block = BytesMut::new();
        put_length(&mut block, self.0.len());
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            put_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
        block
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(headers: [(&str, &str); N]) -> Self {
        Self(headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    }
}

fn take_length(block: &mut &[u8]) -> Result<usize, SpdyError> {
    let (length, rest) = block.split_first_chunk().ok_or(SpdyError::Headers)?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SpdyError::Headers)
}

fn take_text(block: &mut &[u8]) -> Result<String, SpdyError> {
    let length = take_length(block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(SpdyError::Headers)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Headers)
}

fn put_length(block: &mut BytesMut, length: usize) {
    block.put_u32(u32::try_from(length).expect("this side sends short headers only"));
}

/// Unpacks the blocks of one direction, in the order in which they came.
#[derive(Debug)]
pub(super) struct Unpacker {
    zlib: Decompress,
    block: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true), block: Vec::new() }
    }

    /// Unpacks a block. After an error the connection is of no more use.
    pub(super) fn unpack(&mut self, mut packed: &[u8]) -> Result<Headers, SpdyError> {
        self.block.clear();
        // One byte more than allowed, so that a block of just the limit is told from a longer one.
        self.block.reserve_exact(MAX_BLOCK_BYTES + 1);
        while !packed.is_empty() {
            let before = self.zlib.total_in();
            match self.zlib.decompress_vec(packed, &mut self.block, FlushDecompress::Sync) {
                Ok(Status::Ok) => {}
                Ok(Status::StreamEnd | Status::BufError) => return Err(SpdyError::Compression),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(DICTIONARY).map_err(|_| SpdyError::Compression)?;
                }
                Err(_) => return Err(SpdyError::Compression),
            }
            if self.block.len() > MAX_BLOCK_BYTES {
                return Err(SpdyError::BlockTooLong);
            }
            let taken = usize::try_from(self.zlib.total_in() - before).map_err(|_| SpdyError::Compression)?;
            packed = packed.get(taken..).ok_or(SpdyError::Compression)?;
        }
        Headers::parse(&self.block)
    }
}

/// Packs the blocks of one direction.
#[derive(Debug)]
pub(super) struct Packer {
    zlib: Compress,
}

impl Packer {
    pub(super) fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(DICTIONARY).expect("a new compressor takes a dictionary");
        Self { zlib }
    }

    /// Packs a block.
    pub(super) fn pack(&mut self, headers: &Headers) -> Vec<u8> {
        let block = headers.encode();
        // Room for the block stored as it is, the stream's header and the flush's marker.
        let mut packed = Vec::with_capacity(block.len() + 64);
        let status = self.zlib.compress_vec(&block, &mut packed, FlushCompress::Sync);
        debug_assert!(matches!(status, Ok(Status::Ok)), "{status:?}");
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::tests::random::Random;

    #[test]
    fn the_dictionary_is_the_specified_one() {
        // The checksum that a zlib stream names its dictionary by.
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in DICTIONARY {
            low = (low + u32::from(*byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        assert_eq!(high << 16 | low, 0xE3C6_A7C2);
    }

    #[test]
    fn blocks_survive_the_way() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        let long = "x".repeat(MAX_BLOCK_BYTES - 64);
        for headers in [
            Headers::default(),
            Headers::from([("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
            Headers::from([("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
            Headers::from([("several", "first\0second")]),
            Headers::from([("long", long.as_str())]),
        ] {
            assert_eq!(unpacker.unpack(&packer.pack(&headers)).unwrap(), headers);
        }
        let several = Headers::from([("several", "first\0second")]);
        assert_eq!(several.get("several"), Some("first"));
        assert_eq!(several.get("other"), None);
    }

    /// Blocks as another implementation of zlib packs them.
    #[test]
    fn foreign_blocks_are_read() {
        let check = |packed: &[&[u8]], expected: &[Headers]| {
            let mut unpacker = Unpacker::new();
            let headers: Vec<_> = packed.iter().map(|block| unpacker.unpack(block).unwrap()).collect();
            assert_eq!(headers, expected);
        };
        check(
            FOREIGN,
            &[
                Headers::from([("streamtype", "error"), ("port", "8080"), ("requestid", "0")]),
                Headers::from([("streamtype", "data"), ("port", "8080"), ("requestid", "0")]),
            ],
        );
    }

    const FOREIGN: &[&[u8]] = &[
        b"\x78\xf9\xe3\xc6\xa7\xc2\x02\x25\x3a\x70\x3a\x2b\x29\x4a\x4d\xcc\x85\x16\x25\xac\xa9\xa0\
          \x80\x86\x14\xcb\x45\xe0\x1c\x60\x61\x60\x61\x00\xa4\x39\x8b\x20\xd1\x98\x09\x4a\xde\x8c\
          \x06\x00\x00\x00\x00\xff\xff",
        b"\xc2\xaa\x19\x54\x0e\x25\x12\xd6\x0b\x00\x00\x00\xff\xff",
    ];

    #[test]
    fn bad_blocks_are_refused() {
        let check = |block: &[u8], expected: &str| {
            let error = Headers::parse(block).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(&[], "malformed");
        check(&[0, 0, 0], "malformed");
        check(&[0, 0, 0, 1], "malformed");
        check(&[0, 0, 0, 0, 0], "malformed");
        check(&[0, 0, 0, 65], "65 headers");
        check(&[255, 255, 255, 255], "headers");
        check(&[0, 0, 0, 1, 255, 255, 255, 255, b'a'], "malformed");
        check(&[0, 0, 0, 1, 0, 0, 0, 1, b'A', 0, 0, 0, 0], "malformed");
        check(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], "malformed");
        check(&[0, 0, 0, 1, 0, 0, 0, 1, 0xFF, 0, 0, 0, 0], "malformed");
        let pair = [0, 0, 0, 1, b'a', 0, 0, 0, 0];
        check(&[&[0, 0, 0, 2][..], &pair, &pair].concat(), "malformed");
    }

    #[test]
    fn bombs_are_refused() {
        // 10 MiB of zeros in some 10 KiB.
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(DICTIONARY).unwrap();
        let mut packed = Vec::with_capacity(64 << 10);
        zlib.compress_vec(&vec![0; 10 << 20], &mut packed, FlushCompress::Sync).unwrap();
        assert!(packed.len() < 16 << 10);
        let mut unpacker = Unpacker::new();
        assert!(matches!(unpacker.unpack(&packed), Err(SpdyError::BlockTooLong)));
        assert!(unpacker.block.capacity() < 2 * MAX_BLOCK_BYTES);
    }

    #[test]
    fn mutated_blocks_never_panic() {
        let headers = Headers::from([("streamtype", "error"), ("port", "8080"), ("requestid", "17")]);
        let good = Packer::new().pack(&headers);
        let mut random = Random::new(31);
        let mut refused = 0;
        for _ in 0..5_000 {
            let mut packed = good.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(packed.len());
                packed[at] ^= 1 << random.below(8);
            }
            packed.truncate(1 + random.below(packed.len()));
            refused += usize::from(Unpacker::new().unpack(&packed).is_err());
        }
        assert!(refused > 2_500, "{refused}");
    }
}

//! The bytes of one record: a fixed header, then the value.
//!
//! A record is kept as one buffer, in memory as on disk, so that writing copies nothing. Layout of disk format 1,
//! integers little-endian:
//!
//! ```text
//! 0      flags: bit 0 = the value is sealed
//! 1..9   create revision
//! 9..17  modification revision
//! 17..21 where in the value the revision's text starts; u32::MAX when it is not in the value
//! 21     how many bytes the text has
//! 22..   the value
//! ```

use crate::Revision;

/// How many bytes precede the value.
pub(crate) const HEADER_BYTES: usize = 22;

const SEALED: u8 = 1;
const NO_TEXT: u32 = u32::MAX;

/// Where the revision's decimal text stands in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextSpan {
    pub(crate) offset: u32,
    pub(crate) length: u8,
}

/// What precedes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    pub(crate) text: Option<TextSpan>,
    /// Whether what follows is the sealed value.
    pub(crate) sealed: bool,
}

/// Why stored bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header.
    #[error("{bytes} bytes are shorter than a record's header")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// A flag that this version does not know.
    #[error("unknown record flags {flags:#04x}")]
    Flags {
        /// The flags.
        flags: u8,
    },
    /// The value does not hold the text of its revision where the header says so.
    #[error("the value does not hold its revision {revision} at byte {offset}")]
    RevisionText {
        /// The revision of the header.
        revision: Revision,
        /// Where its text should start.
        offset: u32,
    },
}

impl Header {
    /// Writes the header to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let text = self.text.unwrap_or(TextSpan { offset: NO_TEXT, length: 0 });
        out.push(if self.sealed { SEALED } else { 0 });
        out.extend_from_slice(&self.create_revision.get().to_le_bytes());
        out.extend_from_slice(&self.mod_revision.get().to_le_bytes());
        out.extend_from_slice(&text.offset.to_le_bytes());
        out.push(text.length);
    }

    /// Reads the header of `frame`.
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let short = FrameError::Short { bytes: frame.len() };
        let (flags, rest) = frame.split_first().ok_or(short.clone())?;
        let (create, rest) = rest.split_first_chunk().ok_or(short.clone())?;
        let (modified, rest) = rest.split_first_chunk().ok_or(short.clone())?;
        let (offset, rest) = rest.split_first_chunk().ok_or(short.clone())?;
        let (length, _value) = rest.split_first().ok_or(short)?;
        if flags & !SEALED != 0 {
            return Err(FrameError::Flags { flags: *flags });
        }
        let offset = u32::from_le_bytes(*offset);
        Ok(Self {
            create_revision: Revision::new(u64::from_le_bytes(*create)),
            mod_revision: Revision::new(u64::from_le_bytes(*modified)),
            text: (offset != NO_TEXT).then_some(TextSpan { offset, length: *length }),
            sealed: flags & SEALED != 0,
        })
    }

    /// Checks that `value` holds the revision's text where the header says.
    pub(crate) fn check_text(&self, value: &[u8]) -> Result<(), FrameError> {
        let Some(TextSpan { offset, length }) = self.text else { return Ok(()) };
        let start = offset as usize;
        let found = value.get(start..start + usize::from(length));
        if found == Some(self.mod_revision.to_string().as_bytes()) {
            Ok(())
        } else {
            Err(FrameError::RevisionText { revision: self.mod_revision, offset })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameError, HEADER_BYTES, Header, TextSpan};
    use crate::Revision;

    fn header(text: Option<TextSpan>) -> Header {
        Header {
            create_revision: Revision::new(3),
            mod_revision: Revision::new(u64::MAX),
            text,
            sealed: false,
        }
    }

    #[test]
    fn headers_survive_the_disk() {
        for text in [None, Some(TextSpan { offset: 7, length: 20 })] {
            for sealed in [false, true] {
                let header = Header { sealed, ..header(text) };
                let mut bytes = Vec::new();
                header.encode(&mut bytes);
                assert_eq!(bytes.len(), HEADER_BYTES);
                assert_eq!(Header::decode(&bytes), Ok(header));
                for cut in 0..HEADER_BYTES {
                    assert_eq!(Header::decode(&bytes[..cut]), Err(FrameError::Short { bytes: cut }));
                }
                bytes[0] |= 2;
                assert_eq!(Header::decode(&bytes), Err(FrameError::Flags { flags: bytes[0] }));
            }
        }
    }

    #[test]
    fn the_text_must_be_the_revision() {
        let span = TextSpan { offset: 2, length: 2 };
        let header = Header { mod_revision: Revision::new(42), ..header(Some(span)) };
        assert_eq!(header.check_text(b"..42.."), Ok(()));
        for bad in [&b"..43.."[..], b"..4", b""] {
            let error = FrameError::RevisionText { revision: Revision::new(42), offset: 2 };
            assert_eq!(header.check_text(bad), Err(error));
        }
    }
}

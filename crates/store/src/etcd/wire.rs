//! Protocol buffers by hand: the few shapes that etcd's messages are made of.
//!
//! Lengths of nested messages are written behind their contents, in varints of full width, which every decoder takes: so a
//! value is copied once, into the request, and nothing is measured before.

/// How wide the length of a nested message is written: enough for 28 bits, more than any request has.
const LENGTH_BYTES: usize = 4;

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They end inside of a field.
    #[error("etcd's message ends inside of a field")]
    Short,
    /// A number has more than 64 bits.
    #[error("etcd's message has a number that is too long")]
    Long,
    /// A wire type that no message has.
    #[error("etcd's message has a field of the unknown wire type {0}")]
    Type(u64),
    /// A field is not of the type that it has to be.
    #[error("field {0} of etcd's message is of the wrong type")]
    Field(u64),
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A number, also when it is zero.
    pub(super) fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    /// A flag, when it is set.
    pub(super) fn flag(&mut self, field: u64, set: bool) {
        if set {
            self.number(field, 1);
        }
    }

    /// Bytes that stand in several pieces.
    pub(super) fn bytes(&mut self, field: u64, pieces: &[&[u8]]) {
        self.varint(field << 3 | 2);
        self.varint(pieces.iter().map(|piece| piece.len() as u64).sum());
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
    }

    /// A nested message.
    pub(super) fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        self.varint(field << 3 | 2);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        write(self);
        let length = self.bytes.len() - start - LENGTH_BYTES;
        debug_assert!(length < 1 << (7 * LENGTH_BYTES), "transactions are smaller");
        for (place, byte) in self.bytes[start..start + LENGTH_BYTES].iter_mut().enumerate() {
            let more = if place + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = (length >> (7 * place)) as u8 & 0x7f | more;
        }
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

/// The fields of a message, in the order in which they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    content: Content<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed width, which none of the fields that are looked at has.
    Fixed,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => Content::Number(self.varint()?),
            1 => self.take(8).map(|_| Content::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Short)?;
                Content::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Content::Fixed)?,
            other => return Err(WireError::Type(other)),
        };
        Ok(Some(Field { number: tag >> 3, content }))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0_u64;
        for place in 0..10 {
            let [byte] = *self.take(1)? else { return Err(WireError::Short) };
            if place == 9 && byte > 1 {
                return Err(WireError::Long);
            }
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WireError::Long)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Field<'a> {
    pub(super) fn number(&self) -> Result<u64, WireError> {
        match self.content {
            Content::Number(number) => Ok(number),
            Content::Bytes(_) | Content::Fixed => Err(WireError::Field(self.number)),
        }
    }

    pub(super) fn flag(&self) -> Result<bool, WireError> {
        self.number().map(|number| number != 0)
    }

    pub(super) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.content {
            Content::Bytes(bytes) => Ok(bytes),
            Content::Number(_) | Content::Fixed => Err(WireError::Field(self.number)),
        }
    }

    pub(super) fn message(&self) -> Result<Reader<'a>, WireError> {
        self.bytes().map(Reader::new)
    }

    pub(super) fn text(&self) -> Result<String, WireError> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Reader, WireError, Writer};

    fn fields(bytes: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
        let mut reader = Reader::new(bytes);
        std::iter::from_fn(|| reader.next().transpose()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut writer = Writer::default();
            writer.number(3, number);
            writer.flag(4, true);
            writer.flag(5, false);
            writer.message(64, |inner| {
                inner.bytes(1, &[b"a", b"", b"bc"]);
                inner.message(2, |_| ());
            });
            let bytes = writer.into_bytes();
            let found = fields(&bytes).expect("a message");
            assert_eq!(found.iter().map(|field| field.number).collect::<Vec<_>>(), [3, 4, 64]);
            assert_eq!((found[0].number(), found[1].flag()), (Ok(number), Ok(true)));
            let inner = fields(found[2].bytes().expect("bytes")).expect("a message");
            assert_eq!((inner[0].bytes(), inner[1].bytes()), (Ok(&b"abc"[..]), Ok(&b""[..])));
            assert_eq!(found[0].bytes(), Err(WireError::Field(3)));
            assert_eq!(inner[0].number(), Err(WireError::Field(1)));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (bytes, error) in [
            (&[0x08][..], WireError::Short),
            (&[0x12, 5, 1, 2], WireError::Short),
            (&[0x0b], WireError::Type(3)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], WireError::Long),
            (&[0x09, 1, 2], WireError::Short),
            (&[0x0d, 1, 2], WireError::Short),
        ] {
            assert_eq!(fields(bytes).err(), Some(error), "{bytes:?}");
        }
        assert_eq!(fields(&[0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x0d, 0, 0, 0, 0]).map(|all| all.len()), Ok(2));
    }
}

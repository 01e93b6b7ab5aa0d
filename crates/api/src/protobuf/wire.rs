//! The wire format of protocol buffers: tags, varints, lengths.

use super::Fault;

/// How a field's payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

/// What is left of a message that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and how its payload is written; `None` at the end.
    pub(super) fn tag(&mut self) -> Result<Option<(u32, Wire)>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number =
            u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n)).ok_or(Fault::Number)?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            5 => Wire::Fixed32,
            3 | 4 => return Err(Fault::Group),
            _ => return Err(Fault::WireType),
        };
        Ok(Some((number, wire)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { Fault::Truncated } else { Fault::Varint })
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, Fault> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    /// A payload that is preceded by its length.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = usize::try_from(self.varint()?).map_err(|_| Fault::Truncated)?;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::Utf8)
    }

    /// Passes over the payload of a field that nobody knows.
    pub(super) fn skip(&mut self, wire: Wire) -> Result<(), Fault> {
        match wire {
            Wire::Varint => self.varint().map(|_| ()),
            Wire::Fixed64 => self.fixed64().map(|_| ()),
            Wire::Bytes => self.bytes().map(|_| ()),
            Wire::Fixed32 => {
                self.rest = self.rest.get(4..).ok_or(Fault::Truncated)?;
                Ok(())
            }
        }
    }
}

/// A message that is written from its end to its start, so that every length is known when it is written.
#[derive(Debug)]
pub(super) struct Writer {
    buffer: Vec<u8>,
    /// Where what is written begins; it ends with the buffer.
    at: usize,
}

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity], at: capacity }
    }

    /// How many bytes are written.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() - self.at
    }

    pub(super) fn into_vec(mut self) -> Vec<u8> {
        self.buffer.copy_within(self.at.., 0);
        self.buffer.truncate(self.buffer.len() - self.at);
        self.buffer
    }

    /// Writes bytes before what is written.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if self.at < bytes.len() {
            self.grow(bytes.len());
        }
        self.at -= bytes.len();
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
    }

    fn grow(&mut self, more: usize) {
        let len = self.len();
        let size = (2 * self.buffer.len()).max(len + more + 64);
        let mut buffer = vec![0; size];
        buffer[size - len..].copy_from_slice(&self.buffer[self.at..]);
        self.at = size - len;
        self.buffer = buffer;
    }

    pub(super) fn put_varint(&mut self, mut value: u64) {
        if value < 0x80 {
            return self.put(&[value.to_le_bytes()[0]]);
        }
        let mut bytes = [0; 10];
        let mut len = 0;
        loop {
            let low = (value & 0x7f).to_le_bytes()[0];
            value >>= 7;
            bytes[len] = if value == 0 { low } else { low | 0x80 };
            len += 1;
            if value == 0 {
                break;
            }
        }
        self.put(&bytes[..len]);
    }

    pub(super) fn put_tag(&mut self, number: u16, wire: Wire) {
        let wire = match wire {
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Bytes => 2,
            Wire::Fixed32 => 5,
        };
        self.put_varint(u64::from(number) << 3 | wire);
    }

    /// Makes what was written since there were `before` bytes the payload of a field.
    pub(super) fn close(&mut self, number: u16, before: usize) {
        self.put_varint((self.len() - before) as u64);
        self.put_tag(number, Wire::Bytes);
    }

    /// A whole field of bytes.
    pub(super) fn put_bytes(&mut self, number: u16, bytes: &[u8]) {
        let before = self.len();
        self.put(bytes);
        self.close(number, before);
    }
}

//! Frames of SPDY/3.1, between bytes and values. Performs no IO and knows no stream's state.
//!
//! ```text
//!  control: 1 | version (15) | type (16) | flags (8) | length (24) | content
//!  data:    0 | stream (31)              | flags (8) | length (24) | content
//! ```
//!
//! The content of data frames is handed on as it arrives; control frames are short and are awaited whole.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::SpdyError;
use super::block::{Headers, Packer, Unpacker};

/// Most bytes of a control frame's content.
pub(crate) const MAX_CONTROL_BYTES: usize = 16 << 10;

/// Most bytes of a data frame that this side sends.
pub(crate) const MAX_DATA_BYTES: usize = 64 << 10;

const HEADER_BYTES: usize = 8;
const VERSION: u16 = 3;
const CONTROL: u16 = 0x8000;
const FLAG_FIN: u8 = 1;
const MAX_STREAM: u32 = 0x7FFF_FFFF;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Names a stream; odd for those that a client opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(u32);

impl StreamId {
    /// The stream of that number, 1 to 2³¹-1.
    pub(crate) const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > MAX_STREAM { None } else { Some(Self(number)) }
    }

    /// The number.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// What a client sends. Frames that mean nothing to a server without flow control (settings, window updates,
/// replies) are read over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A stream is opened.
    SynStream {
        /// Its id.
        stream: StreamId,
        /// The client will send nothing on it.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// A stream is abandoned.
    RstStream {
        /// Its id.
        stream: StreamId,
    },
    /// A question whether this side is there, or the answer to one.
    Ping {
        /// Comes back unchanged.
        id: u32,
    },
    /// The client opens no more streams.
    GoAway,
    /// A piece of a stream's data.
    Data {
        /// The stream.
        stream: StreamId,
        /// Not empty.
        bytes: Bytes,
    },
    /// The client sends nothing more on a stream.
    Fin {
        /// The stream.
        stream: StreamId,
    },
}

/// Why a stream is abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Reset {
    /// The client broke the protocol.
    Protocol = 1,
    /// The stream was not accepted.
    Refused = 3,
    /// The stream is of no more use.
    Cancel = 5,
}

/// Takes frames out of bytes as they arrive.
#[derive(Debug)]
pub(crate) struct Decoder {
    unpacker: Unpacker,
    data: Option<DataFrame>,
}

/// The data frame whose content is arriving.
#[derive(Debug, Clone, Copy)]
struct DataFrame {
    stream: StreamId,
    remaining: usize,
    fin: bool,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { unpacker: Unpacker::new(), data: None }
    }

    /// The next frame, or piece of one; `None` when more bytes are needed.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some(data) = self.data.take() {
                if data.remaining > 0 {
                    return Ok(self.data_piece(data, input));
                }
                if data.fin {
                    return Ok(Some(Frame::Fin { stream: data.stream }));
                }
            }
            let Some(header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
            let [a, b, c, d, flags, length @ ..] = *header;
            let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if a & 0x80 == 0 {
                let stream = StreamId::new(u32::from_be_bytes([a, b, c, d])).ok_or(SpdyError::StreamId(0))?;
                input.advance(HEADER_BYTES);
                self.data = Some(DataFrame { stream, remaining: length, fin: flags & FLAG_FIN != 0 });
                continue;
            }
            let (version, kind) = (u16::from_be_bytes([a & 0x7F, b]), u16::from_be_bytes([c, d]));
            if version != VERSION {
                return Err(SpdyError::Version(version));
            }
            if length > MAX_CONTROL_BYTES {
                return Err(SpdyError::FrameTooLong(length));
            }
            if input.len() < HEADER_BYTES + length {
                return Ok(None);
            }
            input.advance(HEADER_BYTES);
            let content = input.split_to(length);
            if let Some(frame) = self.control(kind, flags, &content)? {
                return Ok(Some(frame));
            }
        }
    }

    fn data_piece(&mut self, mut data: DataFrame, input: &mut BytesMut) -> Option<Frame> {
        let bytes = input.split_to(data.remaining.min(input.len())).freeze();
        data.remaining -= bytes.len();
        self.data = Some(data);
        (!bytes.is_empty()).then_some(Frame::Data { stream: data.stream, bytes })
    }

    fn control(&mut self, kind: u16, flags: u8, content: &[u8]) -> Result<Option<Frame>, SpdyError> {
        let fin = flags & FLAG_FIN != 0;
        match kind {
            SYN_STREAM => {
                // After the stream: the associated stream, priority and slot.
                let (stream, block) = split_stream(kind, content)?;
                let block = block.get(6..).ok_or(SpdyError::FrameLength(kind))?;
                let headers = self.unpacker.unpack(block)?;
                Ok(Some(Frame::SynStream { stream, fin, headers }))
            }
            SYN_REPLY | HEADERS => {
                let (stream, block) = split_stream(kind, content)?;
                // Nobody asks for them, but the blocks that follow build on this one.
                self.unpacker.unpack(block)?;
                Ok((fin && kind == HEADERS).then_some(Frame::Fin { stream }))
            }
            RST_STREAM => {
                Ok(Some(Frame::RstStream { stream: split_stream(kind, exact(kind, content, 8)?)?.0 }))
            }
            PING => {
                let id = exact(kind, content, 4)?.first_chunk().expect("its length was checked");
                Ok(Some(Frame::Ping { id: u32::from_be_bytes(*id) }))
            }
            GOAWAY => exact(kind, content, 8).map(|_| Some(Frame::GoAway)),
            WINDOW_UPDATE => exact(kind, content, 8).map(|_| None),
            // The specification wants frames of unknown kinds ignored.
            _ => Ok(None),
        }
    }
}

fn split_stream(kind: u16, content: &[u8]) -> Result<(StreamId, &[u8]), SpdyError> {
    let (stream, rest) = content.split_first_chunk().ok_or(SpdyError::FrameLength(kind))?;
    let number = u32::from_be_bytes(*stream) & MAX_STREAM;
    Ok((StreamId::new(number).ok_or(SpdyError::StreamId(number))?, rest))
}

fn exact(kind: u16, content: &[u8], length: usize) -> Result<&[u8], SpdyError> {
    if content.len() == length { Ok(content) } else { Err(SpdyError::FrameLength(kind)) }
}

/// Appends frames to bytes that will be sent.
#[derive(Debug)]
pub(crate) struct Encoder {
    packer: Packer,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { packer: Packer::new() }
    }

    /// Accepts a stream.
    pub(crate) fn syn_reply(&mut self, stream: StreamId, out: &mut BytesMut) {
        let block = self.packer.pack(&Headers::default());
        control_header(SYN_REPLY, 0, 4 + block.len(), out);
        out.put_u32(stream.number());
        out.extend_from_slice(&block);
    }

    /// Opens a stream, as a client does.
    #[cfg(test)]
    pub(crate) fn syn_stream(&mut self, stream: u32, fin: bool, headers: &Headers, out: &mut BytesMut) {
        let block = self.packer.pack(headers);
        control_header(SYN_STREAM, u8::from(fin), 10 + block.len(), out);
        out.put_u32(stream);
        out.put_bytes(0, 6);
        out.extend_from_slice(&block);
    }
}

/// Abandons a stream.
pub(crate) fn rst_stream(stream: StreamId, reason: Reset, out: &mut BytesMut) {
    control_header(RST_STREAM, 0, 8, out);
    out.put_u32(stream.number());
    out.put_u32(reason as u32);
}

/// Asks whether the other side is there, or answers that.
pub(crate) fn ping(id: u32, out: &mut BytesMut) {
    control_header(PING, 0, 4, out);
    out.put_u32(id);
}

/// Says that no further stream is accepted; `last` is the last that was. The reason is 0, or 1 for a broken
/// protocol.
pub(crate) fn goaway(last: Option<StreamId>, reason: u32, out: &mut BytesMut) {
    control_header(GOAWAY, 0, 8, out);
    out.put_u32(last.map_or(0, StreamId::number));
    out.put_u32(reason);
}

/// The header of a data frame of at most `MAX_DATA_BYTES` content.
pub(crate) fn data_header(stream: StreamId, fin: bool, length: usize) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(length).expect("data is cut to frames first");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&stream.number().to_be_bytes());
    header[4..].copy_from_slice(&(u32::from(fin) << 24 | length).to_be_bytes());
    header
}

fn control_header(kind: u16, flags: u8, length: usize, out: &mut BytesMut) {
    let length = u32::try_from(length).expect("control frames of this side are short");
    out.put_u16(CONTROL | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::tests::random::Random;

    fn id(number: u32) -> StreamId {
        StreamId::new(number).unwrap()
    }

    /// The frames in `bytes`, when they arrive in chunks; pieces of data are joined.
    fn decode(bytes: &[u8], chunk: usize) -> (Vec<Frame>, Option<SpdyError>) {
        let mut decoder = Decoder::new();
        let mut input = BytesMut::new();
        let mut frames: Vec<Frame> = Vec::new();
        for chunk in bytes.chunks(chunk) {
            input.extend_from_slice(chunk);
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Frame::Data { stream, bytes })) => match frames.last_mut() {
                        Some(Frame::Data { stream: before, bytes: all }) if *before == stream => {
                            *all = [&all[..], &bytes[..]].concat().into();
                        }
                        _ => frames.push(Frame::Data { stream, bytes }),
                    },
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert!(input.len() < HEADER_BYTES + MAX_CONTROL_BYTES);
        }
        (frames, None)
    }

    fn conversation() -> (BytesMut, Vec<Frame>) {
        let mut out = BytesMut::new();
        let mut encoder = Encoder::new();
        let headers = |kind| Headers::from([("streamtype", kind), ("port", "80"), ("requestid", "0")]);
        encoder.syn_stream(1, false, &headers("error"), &mut out);
        out.extend_from_slice(&data_header(id(1), true, 0));
        // Settings, a window update, a reply and a frame of an unknown kind.
        out.extend_from_slice(&[0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 100]);
        out.extend_from_slice(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 16, 0]);
        encoder.syn_reply(id(2), &mut out);
        out.extend_from_slice(&[0x80, 3, 0, 99, 0, 0, 0, 2, 1, 2]);
        encoder.syn_stream(3, true, &headers("data"), &mut out);
        out.extend_from_slice(&data_header(id(3), false, 5));
        out.extend_from_slice(b"hello");
        ping(7, &mut out);
        out.extend_from_slice(&data_header(id(3), true, 300));
        out.extend_from_slice(&[9; 300]);
        rst_stream(id(3), Reset::Cancel, &mut out);
        goaway(None, 0, &mut out);
        let frames = vec![
            Frame::SynStream { stream: id(1), fin: false, headers: headers("error") },
            Frame::Fin { stream: id(1) },
            Frame::SynStream { stream: id(3), fin: true, headers: headers("data") },
            Frame::Data { stream: id(3), bytes: Bytes::from_static(b"hello") },
            Frame::Ping { id: 7 },
            Frame::Data { stream: id(3), bytes: Bytes::from_static(&[9; 300]) },
            Frame::Fin { stream: id(3) },
            Frame::RstStream { stream: id(3) },
            Frame::GoAway,
        ];
        (out, frames)
    }

    #[test]
    fn frames_survive_any_cut() {
        let (bytes, expected) = conversation();
        for chunk in 1..bytes.len() {
            assert_eq!(decode(&bytes, chunk), (expected.clone(), None), "chunks of {chunk}");
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        let check = |bytes: &[u8], expected: &str| {
            let (frames, error) = decode(bytes, bytes.len());
            assert_eq!(frames, []);
            let error = error.expect("the frame is refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[0, 0, 0, 0, 0, 0, 0, 0], "stream id 0");
        check(&[0x80, 2, 0, 1, 0, 0, 0, 10], "version 2");
        check(&[0x80, 3, 0, 1, 0, 0, 0x40, 1], "16385 bytes");
        check(&[0x80, 3, 0, 99, 0, 0xFF, 0xFF, 0xFF], "16777215 bytes");
        check(&[0x80, 3, 0, 1, 0, 0, 0, 3, 0, 0, 0], "kind 1");
        check(&[0x80, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0], "kind 1");
        check(&[0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "stream id 0");
        check(&[0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], "cannot be unpacked");
        check(&[0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1], "kind 3");
        check(&[0x80, 3, 0, 6, 0, 0, 0, 0], "kind 6");
        check(&[0x80, 3, 0, 7, 0, 0, 0, 4, 0, 0, 0, 1], "kind 7");
        check(&[0x80, 3, 0, 9, 0, 0, 0, 1, 0], "kind 9");
    }

    #[test]
    fn mutated_input_never_panics() {
        let (good, _) = conversation();
        let mut random = Random::new(3);
        let mut refused = 0;
        for _ in 0..5_000 {
            let mut bytes = good.to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            bytes.truncate(1 + random.below(bytes.len()));
            refused += usize::from(decode(&bytes, 1 + random.below(100)).1.is_some());
        }
        assert!(refused > 500, "{refused}");
    }
}

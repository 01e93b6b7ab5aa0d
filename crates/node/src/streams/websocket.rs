//! The server's side of WebSocket frames (RFC 6455), between bytes and pieces of messages.
//!
//! Payloads are handed on as they arrive, so neither a frame nor a message needs room as a whole and no limit on
//! their length is needed. Pings and closing are answered here. Performs no IO, knows no extension and no
//! subprotocol.
//!
//! ```text
//!            header complete             payload complete
//!  Header ───────────────────▶ Payload ───────────────────▶ Header
//!     └── control frame: answered at once, once it is complete
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use ring::digest;

/// Most bytes of a control frame's payload (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: usize = 125;

/// Appended to a client's key before it is hashed (RFC 6455, section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// The server's end of one connection.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    payload: Option<Payload>,
    /// Fragments of a message have come, its end has not.
    in_message: bool,
    closed: bool,
}

/// The data frame whose payload is arriving.
#[derive(Debug)]
struct Payload {
    remaining: u64,
    mask: [u8; 4],
    /// The next byte of the mask.
    at: usize,
    /// It ends its message.
    last: bool,
}

/// What comes from the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part of a message: `start` is set for the first piece, `end` for the last.
    Piece {
        /// Possibly empty.
        bytes: Bytes,
        /// A message begins.
        start: bool,
        /// The message is complete.
        end: bool,
    },
    /// The client has closed; nothing more comes.
    Closed,
}

/// A frame that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebSocketError {
    /// RFC 6455, section 5.1.
    #[error("a WebSocket frame of a client was not masked")]
    NotMasked,
    /// RFC 6455, section 5.2.
    #[error("a WebSocket frame used reserved bits; no extension was agreed on")]
    ReservedBits,
    /// An opcode without a meaning.
    #[error("a WebSocket frame had the unknown opcode {0}")]
    Opcode(u8),
    /// The subprotocols carry bytes.
    #[error("a WebSocket text message came where only binary ones are understood")]
    Text,
    /// RFC 6455, section 5.4.
    #[error("a WebSocket message was not continued as it had begun")]
    Fragmentation,
    /// RFC 6455, section 5.5.
    #[error("a WebSocket control frame was fragmented or longer than {MAX_CONTROL_BYTES} bytes")]
    Control,
    /// RFC 6455, section 5.2.
    #[error("a WebSocket frame did not state its length in the shortest form")]
    Length,
}

impl WebSocketError {
    /// The reason in the closing frame (RFC 6455, section 7.4.1).
    fn code(&self) -> u16 {
        match self {
            Self::Text => 1003,
            _ => 1002,
        }
    }
}

/// A frame's header.
struct Header {
    fin: bool,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
}

impl WebSocket {
    /// Takes the next event out of `input`; `None` when more bytes are needed.
    ///
    /// Answers to control frames, and to broken frames, are appended to `replies`.
    pub(crate) fn next(
        &mut self,
        input: &mut BytesMut,
        replies: &mut BytesMut,
    ) -> Result<Option<Event>, WebSocketError> {
        let result = self.read(input, replies);
        if let Err(error) = &result {
            self.close(error.code(), &error.to_string(), replies);
        }
        result
    }

    fn read(
        &mut self,
        input: &mut BytesMut,
        replies: &mut BytesMut,
    ) -> Result<Option<Event>, WebSocketError> {
        loop {
            if let Some(payload) = self.payload.take() {
                return Ok(self.piece(payload, input));
            }
            let Some((header, header_bytes)) = parse_header(input)? else { return Ok(None) };
            if header.opcode >= CLOSE {
                let length = usize::try_from(header.length).unwrap_or(usize::MAX);
                if !header.fin || length > MAX_CONTROL_BYTES {
                    return Err(WebSocketError::Control);
                }
                if input.len() < header_bytes + length {
                    return Ok(None);
                }
                input.advance(header_bytes);
                let mut payload = input.split_to(length);
                unmask(&mut payload, header.mask, 0);
                match header.opcode {
                    PING => frame(PONG, &payload, replies),
                    PONG => {}
                    CLOSE => {
                        self.answer_close(&payload, replies);
                        return Ok(Some(Event::Closed));
                    }
                    other => return Err(WebSocketError::Opcode(other)),
                }
                continue;
            }
            match (header.opcode, self.in_message) {
                (CONTINUATION, true) | (BINARY, false) => {}
                (TEXT, false) => return Err(WebSocketError::Text),
                (CONTINUATION | TEXT | BINARY, _) => return Err(WebSocketError::Fragmentation),
                (other, _) => return Err(WebSocketError::Opcode(other)),
            }
            input.advance(header_bytes);
            self.payload =
                Some(Payload { remaining: header.length, mask: header.mask, at: 0, last: header.fin });
        }
    }

    fn piece(&mut self, mut payload: Payload, input: &mut BytesMut) -> Option<Event> {
        let available = usize::try_from(payload.remaining).unwrap_or(usize::MAX).min(input.len());
        if available == 0 && payload.remaining > 0 {
            self.payload = Some(payload);
            return None;
        }
        let mut bytes = input.split_to(available);
        unmask(&mut bytes, payload.mask, payload.at);
        payload.at = (payload.at + available) % 4;
        payload.remaining -= available as u64;
        let start = !std::mem::replace(&mut self.in_message, true);
        let end = payload.remaining == 0 && payload.last;
        if end {
            self.in_message = false;
        }
        if payload.remaining > 0 {
            self.payload = Some(payload);
        }
        Some(Event::Piece { bytes: bytes.freeze(), start, end })
    }

    fn answer_close(&mut self, payload: &[u8], replies: &mut BytesMut) {
        if !self.closed {
            self.closed = true;
            // The client's own code comes back to it.
            frame(CLOSE, payload.get(..2).unwrap_or_default(), replies);
        }
    }

    /// Appends a message of bytes: `head` and then `body`.
    pub(crate) fn message(&self, head: &[u8], body: &[u8], out: &mut BytesMut) {
        frame_header(BINARY, head.len() + body.len(), out);
        out.extend_from_slice(head);
        out.extend_from_slice(body);
    }

    /// Appends a question whether the client is still there.
    pub(crate) fn ping(&self, out: &mut BytesMut) {
        frame(PING, &[], out);
    }

    /// Appends the closing frame, once.
    pub(crate) fn close(&mut self, code: u16, reason: &str, out: &mut BytesMut) {
        if self.closed {
            return;
        }
        self.closed = true;
        let room = MAX_CONTROL_BYTES - 2;
        let cut = (0..=room.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        let mut payload = BytesMut::with_capacity(MAX_CONTROL_BYTES);
        payload.put_u16(code);
        payload.extend_from_slice(&reason.as_bytes()[..cut]);
        frame(CLOSE, &payload, out);
    }
}

/// Reads a header without taking it; the second value is its length.
fn parse_header(input: &[u8]) -> Result<Option<(Header, usize)>, WebSocketError> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    if first & RESERVED != 0 {
        return Err(WebSocketError::ReservedBits);
    }
    if second & MASKED == 0 {
        return Err(WebSocketError::NotMasked);
    }
    let (length, length_bytes) = match second & !MASKED {
        126 => {
            let Some(bytes) = rest.first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), 2)
        }
        127 => {
            let Some(bytes) = rest.first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*bytes), 8)
        }
        short => (u64::from(short), 0),
    };
    let shortest = match length {
        0..=125 => 0,
        126..=0xFFFF => 2,
        0x1_0000..=0x7FFF_FFFF_FFFF_FFFF => 8,
        _ => return Err(WebSocketError::Length),
    };
    if length_bytes != shortest {
        return Err(WebSocketError::Length);
    }
    let Some(mask) = rest.get(length_bytes..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
    let header = Header { fin: first & FIN != 0, opcode: first & 0x0F, length, mask: *mask };
    Ok(Some((header, 2 + length_bytes + 4)))
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[(at + index) % 4];
    }
}

fn frame(opcode: u8, payload: &[u8], out: &mut BytesMut) {
    frame_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

fn frame_header(opcode: u8, length: usize, out: &mut BytesMut) {
    out.put_u8(FIN | opcode);
    match length {
        0..=125 => out.put_u8(length as u8),
        126..=0xFFFF => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

/// The answer to a client's key (RFC 6455, section 4.2.2); `None` when it is no key.
pub(crate) fn accept_key(key: &str) -> Option<String> {
    if STANDARD.decode(key).ok()?.len() != 16 {
        return None;
    }
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(KEY_SUFFIX);
    Some(STANDARD.encode(context.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::tests::random::Random;

    const MASK: [u8; 4] = [1, 2, 3, 250];

    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        frame_header(0, payload.len(), &mut out);
        out[0] = first;
        out[1] |= MASKED;
        out.extend_from_slice(&MASK);
        let at = out.len();
        out.extend_from_slice(payload);
        unmask(&mut out[at..], MASK, 0);
        out.to_vec()
    }

    /// Everything that comes out when the bytes arrive in chunks: messages, replies, and the end.
    fn decode(bytes: &[u8], chunk: usize) -> (Vec<Vec<u8>>, Vec<u8>, Option<WebSocketError>) {
        let mut socket = WebSocket::default();
        let (mut input, mut replies) = (BytesMut::new(), BytesMut::new());
        let (mut messages, mut current, mut complete) = (Vec::new(), Vec::new(), true);
        for chunk in bytes.chunks(chunk) {
            input.extend_from_slice(chunk);
            loop {
                match socket.next(&mut input, &mut replies) {
                    Ok(Some(Event::Piece { bytes, start, end })) => {
                        assert_eq!(start, complete);
                        complete = end;
                        current.extend_from_slice(&bytes);
                        if end {
                            messages.push(std::mem::take(&mut current));
                        }
                    }
                    Ok(Some(Event::Closed)) => return (messages, replies.to_vec(), None),
                    Ok(None) => break,
                    Err(error) => return (messages, replies.to_vec(), Some(error)),
                }
            }
        }
        (messages, replies.to_vec(), None)
    }

    #[test]
    fn messages_arrive_however_they_are_cut() {
        let long = vec![7_u8; 70_000];
        let mut bytes = client_frame(FIN | BINARY, b"hello");
        bytes.extend(client_frame(BINARY, b"frag"));
        bytes.extend(client_frame(FIN | PING, b"are you there"));
        bytes.extend(client_frame(CONTINUATION, b""));
        bytes.extend(client_frame(FIN | CONTINUATION, b"ments"));
        bytes.extend(client_frame(FIN | BINARY, b""));
        bytes.extend(client_frame(FIN | BINARY, &long));
        bytes.extend(client_frame(FIN | PONG, b""));
        bytes.extend(client_frame(FIN | CLOSE, &[0x03, 0xE8, b'b', b'y', b'e']));
        bytes.extend(client_frame(FIN | BINARY, b"after the end"));
        let expected = vec![b"hello".to_vec(), b"fragments".to_vec(), Vec::new(), long];
        for chunk in [1, 2, 3, 7, 1000, bytes.len()] {
            let (messages, replies, error) = decode(&bytes, chunk);
            assert_eq!(error, None);
            assert!(messages == expected, "chunks of {chunk}");
            assert_eq!(replies, b"\x8a\x0dare you there\x88\x02\x03\xe8", "chunks of {chunk}");
        }
    }

    #[test]
    fn broken_frames_are_refused() {
        let check = |bytes: &[u8], expected: WebSocketError| {
            let (_, replies, error) = decode(bytes, bytes.len());
            assert_eq!(error.as_ref(), Some(&expected));
            assert_eq!(replies[0], FIN | CLOSE);
            assert_eq!(u16::from_be_bytes([replies[2], replies[3]]), expected.code());
        };
        check(&[0x82, 0x01, b'x'], WebSocketError::NotMasked);
        check(&client_frame(FIN | 0x40 | BINARY, b"x"), WebSocketError::ReservedBits);
        check(&client_frame(FIN | 3, b"x"), WebSocketError::Opcode(3));
        check(&client_frame(FIN | 11, b"x"), WebSocketError::Opcode(11));
        check(&client_frame(FIN | TEXT, b"x"), WebSocketError::Text);
        check(&client_frame(FIN | CONTINUATION, b"x"), WebSocketError::Fragmentation);
        check(&client_frame(PING, b"x"), WebSocketError::Control);
        check(&client_frame(FIN | PING, &[0; 126]), WebSocketError::Control);
        check(&[0x82, 0xFE, 0, 5, 0, 0, 0, 0], WebSocketError::Length);
        check(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0], WebSocketError::Length);
        check(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WebSocketError::Length);
        let begun = [client_frame(BINARY, b"a"), client_frame(FIN | BINARY, b"b")].concat();
        check(&begun, WebSocketError::Fragmentation);
    }

    #[test]
    fn huge_frames_take_no_room() {
        let mut socket = WebSocket::default();
        let mut replies = BytesMut::new();
        let mut input = BytesMut::from(&[0x82, 0xFF, 0x7F, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'x'][..]);
        let piece = socket.next(&mut input, &mut replies).unwrap();
        assert_eq!(piece, Some(Event::Piece { bytes: Bytes::from_static(b"x"), start: true, end: false }));
        assert_eq!(socket.next(&mut input, &mut replies), Ok(None));
        assert!(input.is_empty() && replies.is_empty());
    }

    #[test]
    fn mutated_input_never_panics() {
        let mut good = client_frame(FIN | BINARY, b"\0hello");
        good.extend(client_frame(FIN | PING, b"ping"));
        good.extend(client_frame(BINARY, &[1; 3]));
        good.extend(client_frame(FIN | CONTINUATION, &[2; 130]));
        good.extend(client_frame(FIN | CLOSE, b"\x03\xe8"));
        let mut random = Random::new(6455);
        let mut refused = 0;
        for _ in 0..5_000 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            bytes.truncate(1 + random.below(bytes.len()));
            let (messages, replies, error) = decode(&bytes, 1 + random.below(64));
            assert!(messages.iter().map(Vec::len).sum::<usize>() + replies.len() <= 2 * good.len());
            refused += usize::from(error.is_some());
        }
        assert!(refused > 400, "mutations must reach the checks, {refused} did");
    }

    #[test]
    fn keys_are_answered() {
        // The example of RFC 6455, section 1.3.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for bad in ["", "short", "dGhlIHNhbXBsZQ==", "dGhlIHNhbXBsZSBub25jZQ==x", "é"] {
            assert_eq!(accept_key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn reasons_are_cut_to_fit() {
        let mut out = BytesMut::new();
        WebSocket::default().close(1011, &"ü".repeat(100), &mut out);
        assert_eq!(out.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}

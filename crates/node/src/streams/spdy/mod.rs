//! The server's side of SPDY/3.1 (protocol draft 3.1), as Kubernetes' streams use it: a client opens streams that
//! say by headers what they are for; both sides send on them and end them one by one.
//!
//! [`frame`] and [`block`] are the encoding, [`Session`] is the state of one connection. Bytes arrive either plainly
//! or inside the binary messages of a WebSocket ([`Carrier`]). Performs no IO.
//!
//! There is no flow control but the connection's own: the clients, all built on one Go library, neither send nor
//! heed window updates. A server that awaited them would stall.

mod block;
mod dictionary;
mod frame;
mod session;

pub(crate) use block::{Headers, MAX_BLOCK_BYTES, MAX_HEADERS};
pub(crate) use frame::{MAX_CONTROL_BYTES, Reset, StreamId};
pub(crate) use session::{Carrier, Event, Session};

#[cfg(test)]
pub(crate) use frame::{Decoder as FrameDecoder, Encoder as FrameEncoder, Frame, data_header, ping};

use super::websocket::WebSocketError;

/// A client that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpdyError {
    /// The version is in every control frame.
    #[error("a SPDY frame of version {0} came; only version 3 is understood")]
    Version(u16),
    /// Control frames are awaited whole, so they are bounded.
    #[error("a SPDY control frame of {0} bytes came; at most {MAX_CONTROL_BYTES} are accepted")]
    FrameTooLong(usize),
    /// A control frame of the wrong length.
    #[error("a SPDY control frame of kind {0} has the wrong length")]
    FrameLength(u16),
    /// An id that cannot be used here.
    #[error("a SPDY frame named stream id {0}, which is not allowed there")]
    StreamId(u32),
    /// The compressed header stream is broken.
    #[error("the headers of a SPDY stream cannot be unpacked")]
    Compression,
    /// Headers that are short on the wire and long in memory.
    #[error("the headers of a SPDY stream are longer than {MAX_BLOCK_BYTES} bytes")]
    BlockTooLong,
    /// Names and values are not laid out as specified.
    #[error("the headers of a SPDY stream are malformed")]
    Headers,
    /// Too many headers.
    #[error("a SPDY stream has {0} headers; at most {MAX_HEADERS} are accepted")]
    TooManyHeaders(usize),
    /// The WebSocket that carries the frames is broken.
    #[error(transparent)]
    WebSocket(#[from] WebSocketError),
}

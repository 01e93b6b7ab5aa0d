//! The protocol on a shim's socket, in both directions.
//!
//! Everything is a frame: one byte of tag, four bytes of payload length in
//! network order, the payload. A connection carries one request. The shim
//! answers with one response; after `Response::Stream` the connection goes on
//! as a stream of the frames named by the other tags until either side closes.
//!
//! Owns the encoding and its bounds; performs no IO, so the shim's poll loop
//! and the asynchronous client share it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{ContainerConfig, ContainerId, ExecConfig, PodSandboxConfig, SandboxId, Signal};
use crate::sandbox::{ContainerInfo, EngineKind, ErrorKind, ExitStatus, Limits, Stats};

/// Bytes before a frame's payload.
pub(crate) const HEADER_BYTES: usize = 5;

/// Most bytes of a request's or response's payload.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Most bytes of a payload that carries a stream.
pub(crate) const MAX_CHUNK_BYTES: usize = 64 << 10;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    /// To the shim: a `Request` as JSON.
    Request = 1,
    /// From the shim: a `Response` as JSON.
    Response = 2,
    /// To the shim: input.
    Stdin = 3,
    /// To the shim: the end of input; empty.
    StdinEnd = 4,
    /// To the shim: a `TerminalSize` as JSON.
    Resize = 5,
    /// From the shim: output.
    Stdout = 6,
    /// From the shim: error output.
    Stderr = 7,
    /// From the shim: an `ExitStatus` as JSON; the last frame of a session.
    Exit = 8,
    /// From the shim: an `Event` as JSON.
    Event = 9,
    /// From the shim: the client was too slow and is cut off; empty.
    Overrun = 10,
}

impl Tag {
    const ALL: [Self; 10] = [
        Self::Request,
        Self::Response,
        Self::Stdin,
        Self::StdinEnd,
        Self::Resize,
        Self::Stdout,
        Self::Stderr,
        Self::Exit,
        Self::Event,
        Self::Overrun,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| *tag as u8 == byte)
    }

    const fn max_payload(self) -> usize {
        match self {
            Self::Request | Self::Response => MAX_MESSAGE_BYTES,
            Self::Stdin
            | Self::StdinEnd
            | Self::Resize
            | Self::Stdout
            | Self::Stderr
            | Self::Exit
            | Self::Event
            | Self::Overrun => MAX_CHUNK_BYTES,
        }
    }
}

/// A frame that breaks the protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a frame with the unknown tag {0}")]
    UnknownTag(u8),
    #[error("a frame of {length} bytes where at most {limit} are allowed")]
    TooLong { length: usize, limit: usize },
    #[error("a frame whose content cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Info,
    Create(Box<ContainerConfig>),
    Start(ContainerId),
    Signal(ContainerId, Signal),
    Wait(ContainerId),
    Exec(ContainerId, Box<ExecConfig>),
    Attach(ContainerId),
    Stats(ContainerId),
    RemoveContainer(ContainerId),
    List,
    Events,
    Stop,
    Remove,
}

/// What the shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Done,
    Info(SandboxInfo),
    Containers(Vec<ContainerInfo>),
    Exited(ExitStatus),
    Stats(Stats),
    Stream,
    Refused { kind: ErrorKind, message: String },
}

/// What a shim says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxInfo {
    pub(crate) id: SandboxId,
    pub(crate) engine: EngineKind,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) isolated_network: bool,
    pub(crate) shim_pid: u32,
}

/// What a new shim is told, as one JSON document on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShimOrder {
    pub(crate) run_dir: std::path::PathBuf,
    pub(crate) engine: EngineOptions,
    pub(crate) limits: Limits,
    pub(crate) pod: PodSandboxConfig,
}

/// What a shim needs to know of its engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum EngineOptions {
    Oci,
    Gvisor { runsc: std::path::PathBuf, platform: String },
}

impl EngineOptions {
    pub(crate) const fn kind(&self) -> EngineKind {
        match self {
            Self::Oci => EngineKind::Oci,
            Self::Gvisor { .. } => EngineKind::Gvisor,
        }
    }
}

/// What a new shim says on its standard output, once: an error, or that it listens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ShimReport {
    Ready(SandboxInfo),
    Failed { kind: ErrorKind, message: String },
}

/// A frame taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tag: Tag,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        Ok(serde_json::from_slice(&self.payload)?)
    }
}

/// Reads a frame's header.
fn parse_header(header: [u8; HEADER_BYTES]) -> Result<(Tag, usize), WireError> {
    let [tag, length @ ..] = header;
    let tag = Tag::from_byte(tag).ok_or(WireError::UnknownTag(tag))?;
    let length = u32::from_be_bytes(length) as usize;
    let limit = tag.max_payload();
    if length > limit {
        return Err(WireError::TooLong { length, limit });
    }
    Ok((tag, length))
}

/// Appends a frame of bytes to `out`.
pub(crate) fn encode_bytes(tag: Tag, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let limit = tag.max_payload();
    if payload.len() > limit {
        return Err(WireError::TooLong { length: payload.len(), limit });
    }
    let length = u32::try_from(payload.len()).expect("the limits of a frame are below 4 GiB");
    out.push(tag as u8);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends a frame with a value as JSON to `out`.
pub(crate) fn encode<T: Serialize>(tag: Tag, value: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    encode_bytes(tag, &serde_json::to_vec(value)?, out)
}

/// Takes frames out of bytes as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds bytes that arrived.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where bytes may be appended as they arrive, with room for `room` more.
    pub(crate) fn buffer(&mut self, room: usize) -> &mut Vec<u8> {
        self.buffer.reserve(room);
        &mut self.buffer
    }

    /// The next whole frame, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let (tag, length) = parse_header(*header)?;
        let end = HEADER_BYTES + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let payload = self.buffer[HEADER_BYTES..end].to_vec();
        self.buffer.drain(..end);
        Ok(Some(Frame { tag, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = Vec::new();
        encode(Tag::Request, &Request::List, &mut bytes).unwrap();
        encode_bytes(Tag::Stdin, b"hello", &mut bytes).unwrap();
        encode_bytes(Tag::StdinEnd, b"", &mut bytes).unwrap();
        for step in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for chunk in bytes.chunks(step) {
                decoder.feed(chunk);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames.len(), 3, "step {step}");
            assert!(matches!(frames[0].parse::<Request>().unwrap(), Request::List));
            assert_eq!(frames[1].payload, b"hello");
            assert_eq!(frames[2].tag, Tag::StdinEnd);
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        let check = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            decoder.next()
        };
        assert!(matches!(check(&[0, 0, 0, 0, 0]), Err(WireError::UnknownTag(0))));
        assert!(matches!(check(&[99, 0, 0, 0, 0]), Err(WireError::UnknownTag(99))));
        assert!(matches!(check(&[3, 0, 1, 0, 1]), Err(WireError::TooLong { .. })));
        assert!(matches!(check(&[1, 255, 255, 255, 255]), Err(WireError::TooLong { .. })));
        assert!(matches!(check(&[1, 0, 0]), Ok(None)));
        assert!(encode_bytes(Tag::Stdout, &vec![0; MAX_CHUNK_BYTES + 1], &mut Vec::new()).is_err());
    }
}

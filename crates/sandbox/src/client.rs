//! The server's side of a shim's socket: one request per connection, and the
//! streams that `exec`, `attach` and `events` turn into.
//!
//! Never starts or ends a shim; that is the engines' work.

use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::config::{SandboxId, TerminalSize};
use crate::sandbox::{ErrorKind, Event, ExitStatus, SandboxError};
use crate::shim::SOCKET;
use crate::wire::{self, Decoder, Frame, HEADER_BYTES, MAX_CHUNK_BYTES, Request, Response, Tag};

/// Bytes read from a connection at once.
const READ_BYTES: usize = 16 << 10;

/// How long a shim may take for what is asked of it.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// Where a shim listens, and for which pod.
#[derive(Debug, Clone)]
pub(crate) struct ShimClient {
    pub(crate) id: SandboxId,
    /// The pod's directory, in which the socket is.
    pub(crate) directory: PathBuf,
}

impl ShimClient {
    /// Sends a request and reads its response, which is due at once or after some work of the shim's.
    pub(crate) async fn call(&self, request: &Request) -> Result<Response, SandboxError> {
        let late = |_| {
            let text = format!("no answer within {} s", ANSWER.as_secs());
            self.connection(io::Error::new(io::ErrorKind::TimedOut, text))
        };
        tokio::time::timeout(ANSWER, self.call_patiently(request)).await.map_err(late)?
    }

    /// Sends a request whose response may be due at any later time.
    pub(crate) async fn call_patiently(&self, request: &Request) -> Result<Response, SandboxError> {
        Ok(self.open(request).await?.0)
    }

    /// Sends a request whose response must be `Done`.
    pub(crate) async fn call_done(&self, request: &Request) -> Result<(), SandboxError> {
        match self.call(request).await? {
            Response::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Sends a request after which the shim ends, and waits for that.
    pub(crate) async fn call_until_end(&self, request: &Request) -> Result<(), SandboxError> {
        let (response, mut frames) = self.open(request).await?;
        match response {
            Response::Done => {}
            other => return Err(self.unexpected(&other)),
        }
        while frames.next().await?.is_some() {}
        Ok(())
    }

    /// Sends a request that turns the connection into a stream.
    pub(crate) async fn stream(&self, request: &Request) -> Result<ShimStream, SandboxError> {
        let (response, frames) = self.open(request).await?;
        match response {
            Response::Stream => {
                let (reader, writer) = frames.reader.into_split();
                Ok(ShimStream {
                    frames: FrameReader { id: frames.id, reader, decoder: frames.decoder },
                    writer,
                })
            }
            other => Err(self.unexpected(&other)),
        }
    }

    pub(crate) fn unexpected(&self, response: &Response) -> SandboxError {
        SandboxError::Protocol { id: self.id.clone(), what: format!("{response:?} to another question") }
    }

    /// Kills a shim that answers nothing any more; returns when it is gone, or after `patience`.
    pub(crate) async fn kill(&self, patience: Duration) -> Result<(), SandboxError> {
        let stream = self.connect().await?;
        // Who listens: that name stays theirs for as long as the socket takes connections.
        let peer = stream.peer_cred().map_err(|source| self.connection(source))?;
        let pid = peer.pid().and_then(Pid::from_raw).ok_or_else(|| self.gone())?;
        rustix::process::kill_process(pid, Signal::KILL).map_err(|error| self.connection(error.into()))?;
        let ended = async {
            while self.connect().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let late = |_| self.connection(io::Error::new(io::ErrorKind::TimedOut, "it does not die"));
        tokio::time::timeout(patience, ended).await.map_err(late)
    }

    async fn connect(&self) -> Result<UnixStream, SandboxError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => self.gone(),
            _ => self.connection(source),
        };
        // The path may be too long for a socket's name.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(&self.directory, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let socket = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        UnixStream::connect(socket).await.map_err(failed)
    }

    async fn open(&self, request: &Request) -> Result<(Response, FrameReader<UnixStream>), SandboxError> {
        let mut stream = self.connect().await?;
        let mut bytes = Vec::new();
        wire::encode(Tag::Request, request, &mut bytes).map_err(|error| SandboxError::Refused {
            kind: ErrorKind::InvalidConfig,
            message: format!("the request for pod {} is {error}", self.id),
        })?;
        stream.write_all(&bytes).await.map_err(|source| self.connection(source))?;
        let mut frames = FrameReader::new(&self.id, stream);
        let frame = frames.next().await?.ok_or_else(|| self.gone())?;
        if frame.tag != Tag::Response {
            return Err(frames.unexpected(frame.tag));
        }
        match frames.parse::<Response>(&frame)? {
            Response::Refused { kind, message } => Err(SandboxError::Refused { kind, message }),
            response => Ok((response, frames)),
        }
    }

    fn gone(&self) -> SandboxError {
        SandboxError::Gone { id: self.id.clone() }
    }

    fn connection(&self, source: io::Error) -> SandboxError {
        SandboxError::Connection { id: self.id.clone(), source }
    }
}

/// A connection that a request has turned into a stream.
pub(crate) struct ShimStream {
    frames: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// A process's input and output. Dropping both halves of an `exec` session
/// kills its process; an `attach` session only detaches.
#[derive(Debug)]
pub struct Session {
    /// Towards the process.
    pub input: SessionInput,
    /// From the process.
    pub output: SessionOutput,
}

impl Session {
    pub(crate) fn new(stream: ShimStream) -> Self {
        Self {
            input: SessionInput { id: stream.frames.id.clone(), writer: stream.writer },
            output: SessionOutput { frames: stream.frames, ended: false },
        }
    }

    /// Ends the input and reads everything until the process ends.
    ///
    /// At most `limit` bytes of each stream are kept; the rest is read and dropped.
    pub async fn collect(mut self, limit: usize) -> Result<Collected, SandboxError> {
        self.input.close().await?;
        let mut collected = Collected { stdout: Vec::new(), stderr: Vec::new(), exit: None };
        while let Some(output) = self.output.next().await? {
            match output {
                Output::Stdout(bytes) => keep(&mut collected.stdout, &bytes, limit),
                Output::Stderr(bytes) => keep(&mut collected.stderr, &bytes, limit),
                Output::Exit(status) => collected.exit = Some(status),
            }
        }
        Ok(collected)
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let room = limit.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(&bytes[..room]);
}

/// What a session gave until its end.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The beginning of the output.
    pub stdout: Vec<u8>,
    /// The beginning of the error output.
    pub stderr: Vec<u8>,
    /// How the process ended; `None` when the sandbox went away first.
    pub exit: Option<ExitStatus>,
}

/// The way towards a process.
#[derive(Debug)]
pub struct SessionInput {
    id: SandboxId,
    writer: OwnedWriteHalf,
}

impl SessionInput {
    /// Sends input. Waits while the process does not read. Succeeds without
    /// effect when the process has no input or has closed it.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        for chunk in bytes.chunks(MAX_CHUNK_BYTES) {
            self.send(Tag::Stdin, chunk).await?;
        }
        Ok(())
    }

    /// Says that no more input comes.
    pub async fn close(&mut self) -> Result<(), SandboxError> {
        self.send(Tag::StdinEnd, &[]).await
    }

    /// Changes the size of the process's terminal; without one, nothing happens.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), SandboxError> {
        let payload = serde_json::to_vec(&size).expect("two numbers always serialise");
        self.send(Tag::Resize, &payload).await
    }

    async fn send(&mut self, tag: Tag, payload: &[u8]) -> Result<(), SandboxError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        wire::encode_bytes(tag, payload, &mut bytes).expect("chunks are cut below the limit");
        match self.writer.write_all(&bytes).await {
            Ok(()) => Ok(()),
            // The process ended first; the output half says how.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(source) => Err(SandboxError::Connection { id: self.id.clone(), source }),
        }
    }
}

/// The way from a process.
#[derive(Debug)]
pub struct SessionOutput {
    frames: FrameReader<OwnedReadHalf>,
    ended: bool,
}

/// What comes from a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Output; with a terminal, all of it.
    Stdout(Vec<u8>),
    /// Error output.
    Stderr(Vec<u8>),
    /// The process ended, and all its output has been given.
    Exit(ExitStatus),
}

impl SessionOutput {
    /// The next piece, at most 64 KiB; may be used in `select!`. `None` after `Exit`, or when the sandbox went away.
    ///
    /// `LimitReached` when an attached client read so slowly that it was cut off.
    pub async fn next(&mut self) -> Result<Option<Output>, SandboxError> {
        if self.ended {
            return Ok(None);
        }
        let Some(frame) = self.frames.next().await? else {
            self.ended = true;
            return Ok(None);
        };
        match frame.tag {
            Tag::Stdout => Ok(Some(Output::Stdout(frame.payload))),
            Tag::Stderr => Ok(Some(Output::Stderr(frame.payload))),
            Tag::Exit => {
                self.ended = true;
                Ok(Some(Output::Exit(self.frames.parse(&frame)?)))
            }
            Tag::Overrun => {
                self.ended = true;
                Err(self.frames.overrun())
            }
            tag => Err(self.frames.unexpected(tag)),
        }
    }
}

/// The changes of a sandbox's containers.
#[derive(Debug)]
pub struct EventStream {
    frames: FrameReader<OwnedReadHalf>,
    /// Held open: a shim ends the stream of a client that closed its side.
    _writer: OwnedWriteHalf,
}

impl EventStream {
    pub(crate) fn new(stream: ShimStream) -> Self {
        Self { frames: stream.frames, _writer: stream.writer }
    }

    /// The next change; `None` when the sandbox is gone.
    ///
    /// May be used in `select!`. `LimitReached` when the reader was too slow;
    /// then `list` and a new stream bring it up to date.
    pub async fn next(&mut self) -> Result<Option<Event>, SandboxError> {
        let Some(frame) = self.frames.next().await? else { return Ok(None) };
        match frame.tag {
            Tag::Event => Ok(Some(self.frames.parse(&frame)?)),
            Tag::Overrun => Err(self.frames.overrun()),
            tag => Err(self.frames.unexpected(tag)),
        }
    }
}

/// Takes frames off a connection. A `next` that is dropped half-way loses nothing.
#[derive(Debug)]
struct FrameReader<R> {
    id: SandboxId,
    reader: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    fn new(id: &SandboxId, reader: R) -> Self {
        Self { id: id.clone(), reader, decoder: Decoder::default() }
    }

    /// The next frame; `None` when the other side has closed.
    async fn next(&mut self) -> Result<Option<Frame>, SandboxError> {
        loop {
            let frame = self
                .decoder
                .next()
                .map_err(|error| SandboxError::Protocol { id: self.id.clone(), what: error.to_string() })?;
            if frame.is_some() {
                return Ok(frame);
            }
            match self.reader.read_buf(self.decoder.buffer(READ_BYTES)).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(source) => return Err(SandboxError::Connection { id: self.id.clone(), source }),
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, frame: &Frame) -> Result<T, SandboxError> {
        frame.parse().map_err(|error| SandboxError::Protocol { id: self.id.clone(), what: error.to_string() })
    }

    fn unexpected(&self, tag: Tag) -> SandboxError {
        SandboxError::Protocol { id: self.id.clone(), what: format!("a {tag:?} frame in a stream") }
    }

    fn overrun(&self) -> SandboxError {
        SandboxError::Refused {
            kind: ErrorKind::LimitReached,
            message: format!("this client of pod {} read too slowly and was cut off", self.id),
        }
    }
}

//! `exec` and `attach`: a process's streams over one connection.
//!
//! [`run`] owns the connection and moves bytes; a [`Dialect`] knows how the streams travel and performs no IO.
//!
//! ```text
//!  client ──▶ Receiver ──▶ Dialect::read ──▶ queue (bounded) ──▶ process input
//!  client ◀── Sender ◀── Dialect::output ◀───────────────────── process output
//! ```
//!
//! Both directions wait for their own receiver only: a process that does not read does not keep its output from the
//! client, and a client that does not read holds back the process only as a full pipe would. When the client leaves,
//! the process is let go: an `exec` ends, an attached container goes on.

mod channels;
mod resize;
mod spdy;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use xebec_sandbox::client::Output;
use xebec_sandbox::config::TerminalSize;
use xebec_sandbox::sandbox::SandboxError;

pub(crate) use channels::{Channels, Version};
pub(crate) use spdy::SpdyStreams;

use super::link::{self, Receiver, Sender, is_departure};
use super::pods::{PodError, Process, ProcessInput};
use super::spdy::SpdyError;
use super::status::Outcome;
use super::websocket::WebSocketError;

/// Pieces of input, each of at most some 16 KiB, that wait for the process.
const QUEUED_INPUTS: usize = 16;

/// How long a client may take to open the streams that it announced.
const READY_PATIENCE: Duration = Duration::from_secs(30);

const NOT_READY: &str = "the client did not open all of its streams within 30 seconds";

const SHUTTING_DOWN: &str = "the node's agent is shutting down";

/// How often the client is asked for a sign of life, so that one that vanished is noticed.
pub(super) const PING_PERIOD: Duration = Duration::from_secs(30);

/// What a client sends to a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Standard input.
    Bytes(Bytes),
    /// Standard input has ended.
    End,
    /// The client's terminal has a new size.
    Resize(TerminalSize),
}

/// What a client does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// All streams are there: the process may start.
    Ready,
    /// Something for the process.
    Input(Input),
    /// It has left.
    Closed,
}

/// Which output a text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    Stdout,
    Stderr,
}

/// How the streams travel.
pub(crate) trait Dialect: Send {
    /// Takes the next event out of `input`; `None` when more bytes are needed. Answers that the protocol demands,
    /// and a farewell before an error, are appended to `out`.
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, ProtocolError>;

    /// Sends output that the client asked for; other output is dropped.
    fn output(&mut self, kind: OutputKind, bytes: &[u8], out: &mut BytesMut);

    /// Says how it ended, and ends everything.
    fn finish(&mut self, outcome: &Outcome, out: &mut BytesMut);

    /// Asks whether the client is still there.
    fn ping(&mut self, out: &mut BytesMut);
}

/// A client that breaks its protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error(transparent)]
    WebSocket(#[from] WebSocketError),
    #[error(transparent)]
    Spdy(#[from] SpdyError),
    #[error("a message on channel {channel} is longer than {limit} bytes")]
    MessageTooLong { channel: u8, limit: usize },
    #[error("more than {QUEUED_INPUTS} pieces of input came before all streams were open")]
    TooEarly,
}

/// Why a stream came to an early end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the connection to the client broke: {0}")]
    Connection(#[from] io::Error),
}

/// What a client does with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has the process run, and learns its exit code.
    Exec,
    /// It takes part in what runs anyway, and learns no more than the end.
    Attach,
}

/// Serves one `exec` or `attach`; `start` is run when the client is ready.
///
/// Returns when the client has been told how it ended, or has left.
pub(crate) async fn run<S>(
    stream: S,
    kind: Kind,
    mut dialect: impl Dialect,
    start: impl Future<Output = Result<Process, PodError>>,
    shutdown: CancellationToken,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut receiver, mut sender) = link::split(stream);
    let conversation = converse(&mut receiver, &mut sender, &mut dialect, start);
    let result = tokio::select! {
        () = shutdown.cancelled() => Ok(Some(Outcome::Failed(SHUTTING_DOWN.to_owned()))),
        result = conversation => result,
    };
    let result = match result {
        Ok(Some(Outcome::Exited(_))) if kind == Kind::Attach => {
            dialect.finish(&Outcome::Exited(0), &mut sender.buffer);
            Ok(())
        }
        Ok(Some(outcome)) => {
            dialect.finish(&outcome, &mut sender.buffer);
            Ok(())
        }
        // The client may wait for the answer to its farewell.
        Ok(None) => Ok(()),
        Err(error @ StreamError::Protocol(_)) => Err(error),
        Err(StreamError::Connection(error)) if is_departure(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    match link::close(receiver, sender, &shutdown).await {
        Err(error) if !is_departure(&error) => result.and(Err(error.into())),
        _ => result,
    }
}

/// From the first stream to the process's end; `None` when the client has left.
async fn converse<S>(
    receiver: &mut Receiver<S>,
    sender: &mut Sender<S>,
    dialect: &mut impl Dialect,
    start: impl Future<Output = Result<Process, PodError>>,
) -> Result<Option<Outcome>, StreamError>
where
    S: AsyncRead + AsyncWrite,
{
    let early = match timeout(READY_PATIENCE, ready(receiver, sender, dialect)).await {
        Ok(early) => early?,
        Err(_) => return Ok(Some(Outcome::Failed(NOT_READY.to_owned()))),
    };
    let Some(early) = early else { return Ok(None) };
    match start.await {
        Ok(process) => pump(receiver, sender, dialect, process, early).await,
        Err(error) => Ok(Some(Outcome::Failed(error.to_string()))),
    }
}

/// Waits until the client has opened its streams. Gives what it has sent meanwhile; `None` when it has left.
async fn ready<S>(
    receiver: &mut Receiver<S>,
    sender: &mut Sender<S>,
    dialect: &mut impl Dialect,
) -> Result<Option<Vec<Input>>, StreamError>
where
    S: AsyncRead + AsyncWrite,
{
    let mut early = Vec::new();
    loop {
        match dialect.read(&mut receiver.buffer, &mut sender.buffer)? {
            Some(Event::Ready) => return Ok(Some(early)),
            Some(Event::Closed) => return Ok(None),
            Some(Event::Input(_)) if early.len() == QUEUED_INPUTS => {
                return Err(ProtocolError::TooEarly.into());
            }
            Some(Event::Input(input)) => early.push(input),
            None => {
                tokio::select! {
                    count = receiver.fill(), if sender.has_room_for_answers() => if count? == 0 {
                        return Ok(None);
                    },
                    sent = sender.progress(), if sender.is_pending() => sent?,
                }
            }
        }
    }
}

/// Moves bytes until the process has ended; `None` when the client has left.
async fn pump<S>(
    receiver: &mut Receiver<S>,
    sender: &mut Sender<S>,
    dialect: &mut impl Dialect,
    process: Process,
    early: Vec<Input>,
) -> Result<Option<Outcome>, StreamError>
where
    S: AsyncRead + AsyncWrite,
{
    let (queue, queued) = mpsc::channel(QUEUED_INPUTS);
    for input in early {
        // The queue has room for as many.
        drop(offer(&queue, input));
    }
    let mut feeding = pin!(feed(process.input, queued));
    let mut fed = false;
    let mut output = process.output;
    // Input that the queue had no room for; nothing more is read from the client until it has.
    let mut waiting = None;
    let mut pings = interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    loop {
        if waiting.is_none() {
            match dialect.read(&mut receiver.buffer, &mut sender.buffer)? {
                Some(Event::Closed) => return Ok(None),
                Some(Event::Ready) => continue,
                Some(Event::Input(input)) => {
                    waiting = offer(&queue, input);
                    continue;
                }
                None => {}
            }
        }
        tokio::select! {
            result = &mut feeding, if !fed => {
                fed = true;
                if let Err(error) = result {
                    tracing::debug!(%error, "input does not reach a process any more");
                }
            }
            permit = queue.reserve(), if waiting.is_some() => {
                let input = waiting.take();
                // Without a reader, the process wants no input.
                if let (Ok(permit), Some(input)) = (permit, input) {
                    permit.send(input);
                }
            }
            count = receiver.fill(), if waiting.is_none() && sender.has_room_for_answers() => if count? == 0 {
                return Ok(None);
            },
            sent = sender.progress(), if sender.is_pending() => sent?,
            next = output.next(), if sender.has_room() => match next {
                Ok(Some(Output::Stdout(bytes))) => dialect.output(OutputKind::Stdout, &bytes, &mut sender.buffer),
                Ok(Some(Output::Stderr(bytes))) => dialect.output(OutputKind::Stderr, &bytes, &mut sender.buffer),
                Ok(Some(Output::Exit(status))) => return Ok(Some(Outcome::Exited(status.code()))),
                Ok(None) => return Ok(Some(Outcome::Failed("the pod ended while the command ran".to_owned()))),
                Err(error) => return Ok(Some(Outcome::Failed(error.to_string()))),
            },
            _ = pings.tick() => dialect.ping(&mut sender.buffer),
        }
    }
}

/// Puts input into the queue, or gives it back when that is full.
fn offer(queue: &mpsc::Sender<Input>, input: Input) -> Option<Input> {
    match queue.try_send(input) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        Err(mpsc::error::TrySendError::Full(input)) => Some(input),
    }
}

/// Gives a process what is queued for it.
async fn feed(
    mut process: Box<dyn ProcessInput>,
    mut queue: mpsc::Receiver<Input>,
) -> Result<(), SandboxError> {
    while let Some(input) = queue.recv().await {
        match input {
            Input::Bytes(bytes) => process.write(&bytes).await?,
            Input::End => process.close().await?,
            Input::Resize(size) => process.resize(size).await?,
        }
    }
    Ok(())
}

//! Calls of etcd's services: gRPC over one HTTP/2 connection to one of the members at a time.
//!
//! A connection is opened by whoever needs it first, and given up when it breaks, when a member says that it has no leader,
//! or when it answers no pings; the next one is opened to the next member.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::address::Endpoint;
use super::tls::TlsSettings;
use super::wire::WireError;

/// The largest message that is taken.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
/// How long it may take to reach one member.
const CONNECT: Duration = Duration::from_secs(3);
/// How often a connection that says nothing is asked whether it is there, and how long it may take to answer. etcd closes
/// connections that are asked more often than every five seconds.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// How much may be under way on a stream, and on a connection, before it is read.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Before each message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// gRPC's codes that are told apart.
const OK: u32 = 0;
pub(super) const INVALID_ARGUMENT: u32 = 3;
pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
pub(super) const OUT_OF_RANGE: u32 = 11;
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const ABORTED: u32 = 10;
const INTERNAL: u32 = 13;
pub(super) const UNAVAILABLE: u32 = 14;

/// Why a call did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No member takes connections.
    #[error("{endpoint} cannot be reached")]
    Connect {
        /// The member that was tried last.
        endpoint: String,
        /// What it, or the system, says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection ended before the request was sent.
    #[error("the connection to etcd ended before the request was sent")]
    Unsent(#[source] hyper::Error),
    /// The connection ended before the answer was there.
    #[error("the connection to etcd broke")]
    Broken(#[source] hyper::Error),
    /// The answer took too long.
    #[error("etcd did not answer within {} s", within.as_secs())]
    TimedOut {
        /// How long it had.
        within: Duration,
    },
    /// etcd refuses.
    #[error("etcd says: {message} (gRPC code {code})")]
    Refused {
        /// gRPC's code.
        code: u32,
        /// etcd's words.
        message: String,
    },
    /// What answers is no gRPC server.
    #[error("the server at etcd's address answers with HTTP status {0}: is it an etcd?")]
    Http(StatusCode),
    /// The answer cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The answer is larger than is taken.
    #[error("etcd's answer of {bytes} bytes is larger than the limit of {limit}", limit = MAX_MESSAGE)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl EtcdError {
    /// Whether the request was certainly not carried out.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Unsent(_) => true,
            Self::Refused { code, .. } => {
                !matches!(*code, UNKNOWN | DEADLINE_EXCEEDED | ABORTED | INTERNAL | UNAVAILABLE)
            }
            Self::Broken(_)
            | Self::TimedOut { .. }
            | Self::Http(_)
            | Self::Wire(_)
            | Self::TooLarge { .. } => false,
        }
    }

    /// Whether another member may do better.
    fn blames_member(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(*code, DEADLINE_EXCEEDED | UNAVAILABLE),
            Self::Broken(_) | Self::TimedOut { .. } | Self::Http(_) | Self::Wire(_) => true,
            Self::Connect { .. } | Self::Unsent(_) | Self::TooLarge { .. } => false,
        }
    }
}

/// The error and what is below it, in one line.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(&format!(": {error}"));
        below = error.source();
    }
    text
}

/// The way to an etcd.
pub(super) struct Client {
    endpoints: Vec<Endpoint>,
    tls: Option<TlsSettings>,
    state: Mutex<State>,
    /// Held while a connection is opened, so that one is.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Connection>,
    /// The member that is tried next.
    next: usize,
    opened: u64,
}

#[derive(Clone)]
struct Connection {
    sender: SendRequest<Outgoing>,
    number: u64,
    driver: AbortHandle,
}

impl Client {
    pub(super) fn new(endpoints: Vec<Endpoint>, tls: Option<TlsSettings>) -> Self {
        Self { endpoints, tls, state: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// Asks, and waits for the one answer.
    pub(super) async fn call(
        &self,
        method: &'static str,
        message: &[u8],
        within: Duration,
    ) -> Result<Bytes, EtcdError> {
        let message = framed(message);
        let mut number = 0;
        let answer = tokio::time::timeout(within, async {
            // What was not sent is sent to each of the others.
            for _ in 1..self.endpoints.len().max(2) {
                match self.try_call(method, message.clone(), &mut number).await {
                    Err(EtcdError::Unsent(_)) => self.give_up(number),
                    answer => return answer,
                }
            }
            self.try_call(method, message, &mut number).await
        });
        let answer = answer.await.unwrap_or(Err(EtcdError::TimedOut { within }));
        if answer.as_ref().is_err_and(EtcdError::blames_member) {
            self.give_up(number);
        }
        answer
    }

    async fn try_call(
        &self,
        method: &'static str,
        message: Bytes,
        number: &mut u64,
    ) -> Result<Bytes, EtcdError> {
        let connection = self.connection().await?;
        *number = connection.number;
        let mut answers = send(connection.sender, method, Outgoing::Once(Some(message)), false).await?;
        let first = answers.next().await?;
        // The end shows whether the answer counts.
        while answers.next().await?.is_some() {}
        first.ok_or(EtcdError::Refused { code: INTERNAL, message: "no answer".into() })
    }

    /// Begins a call with more than one request and answer.
    pub(super) async fn stream(
        &self,
        method: &'static str,
        first: &[u8],
        within: Duration,
    ) -> Result<(Requests, Answers), EtcdError> {
        let (sender, receiver) = mpsc::channel(REQUESTS);
        let requests = Requests { sender, first: Some(framed(first)) };
        let connection = tokio::time::timeout(within, self.connection()).await;
        let connection = connection.unwrap_or(Err(EtcdError::TimedOut { within }))?;
        let number = connection.number;
        let mut requests = requests;
        requests.send_first();
        let answers = send(connection.sender, method, Outgoing::Stream(receiver), true);
        let answers = tokio::time::timeout(within, answers).await;
        let answers = answers.unwrap_or(Err(EtcdError::TimedOut { within }));
        answers.map(|answers| (requests, answers)).inspect_err(|_| self.give_up(number))
    }

    /// Closes the connection, so that the next call goes to the next member.
    pub(super) fn close(&self) {
        if let Some(connection) = self.lock().current.take() {
            connection.driver.abort();
        }
    }

    /// Goes to the next member with whatever comes next.
    pub(super) fn leave(&self) {
        self.lock().current = None;
    }

    /// Lets go of a connection: what is under way on it may still end, what comes next takes another.
    fn give_up(&self, number: u64) {
        let mut state = self.lock();
        if state.current.as_ref().is_some_and(|connection| connection.number == number) {
            state.current = None;
        }
    }

    async fn connection(&self) -> Result<Connection, EtcdError> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let _opening = self.opening.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let mut failed = None;
        for _ in 0..self.endpoints.len() {
            let place = {
                let mut state = self.lock();
                state.next = (state.next + 1) % self.endpoints.len();
                state.next
            };
            match self.open(&self.endpoints[place]).await {
                Ok((sender, driver)) => {
                    let mut state = self.lock();
                    state.opened += 1;
                    let connection = Connection { sender, number: state.opened, driver };
                    state.current = Some(connection.clone());
                    return Ok(connection);
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.expect("there is at least one member"))
    }

    fn usable(&self) -> Option<Connection> {
        self.lock().current.as_ref().filter(|connection| !connection.sender.is_closed()).cloned()
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<(SendRequest<Outgoing>, AbortHandle), EtcdError> {
        let failed = |source| EtcdError::Connect { endpoint: endpoint.to_string(), source };
        let slow = |_| failed(format!("no connection within {} s", CONNECT.as_secs()).into());
        tokio::time::timeout(CONNECT, self.handshake(endpoint)).await.map_err(slow)?.map_err(failed)
    }

    async fn handshake(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(SendRequest<Outgoing>, AbortHandle), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
        stream.set_nodelay(true)?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, driver) = match &self.tls {
            None => {
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
                (sender, tokio::spawn(drive(connection)))
            }
            Some(tls) => {
                let stream = tls.connect(&endpoint.host, stream).await?;
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
                (sender, tokio::spawn(drive(connection)))
            }
        };
        Ok((sender, driver.abort_handle()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

/// Moves a connection until it ends; who uses it hears of that by itself.
async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = in_words(&error), "a connection to etcd ended");
    }
}

async fn send(
    mut sender: SendRequest<Outgoing>,
    method: &'static str,
    body: Outgoing,
    wants_leader: bool,
) -> Result<Answers, EtcdError> {
    let mut request = Request::post(format!("http://etcd{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if wants_leader {
        // A member that loses its leader ends the stream then.
        request = request.header("hasleader", "true");
    }
    let request = request.body(body).expect("a method is a path");
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            return Err(if unsent { EtcdError::Unsent(error) } else { EtcdError::Broken(error) });
        }
    };
    if response.status() != StatusCode::OK {
        return Err(EtcdError::Http(response.status()));
    }
    let (head, body) = response.into_parts();
    if let Some(status) = status(&head.headers) {
        status?;
    }
    Ok(Answers { body, buffer: BytesMut::new() })
}

/// What a call ended with, if these headers say so.
fn status(headers: &HeaderMap) -> Option<Result<(), EtcdError>> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
    let code = code.unwrap_or(UNKNOWN);
    if code == OK {
        return Some(Ok(()));
    }
    let message = headers.get("grpc-message").map(|text| unescaped(text.as_bytes())).unwrap_or_default();
    Some(Err(EtcdError::Refused { code, message }))
}

/// Text in which bytes stand as `%2F`.
fn unescaped(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.split_at_checked(2)).flatten();
        let byte = escaped.and_then(|(digits, after)| {
            let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            Some((byte, after))
        });
        let (byte, after) = byte.unwrap_or((*first, tail));
        out.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(FRAME_HEAD + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).expect("transactions are smaller"));
    out.put_slice(message);
    out.freeze()
}

/// How many requests of a stream may wait to be sent.
const REQUESTS: usize = 8;

/// Where further requests of a stream go. Dropping it ends the stream.
pub(super) struct Requests {
    sender: mpsc::Sender<Bytes>,
    first: Option<Bytes>,
}

impl Requests {
    fn send_first(&mut self) {
        if let Some(first) = self.first.take() {
            self.sender.try_send(first).expect("the channel is empty");
        }
    }

    /// Sends a request, unless as many wait already as may.
    pub(super) fn send(&self, message: &[u8]) {
        // A stream that has ended, or does not send, shows elsewhere.
        drop(self.sender.try_send(framed(message)));
    }
}

/// The answers to a call.
pub(super) struct Answers {
    body: Incoming,
    buffer: BytesMut,
}

impl Answers {
    /// The next answer; none when the call has ended well. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, EtcdError> {
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            match frame.map_err(EtcdError::Broken)?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(status) = frame.into_trailers().ok().as_ref().and_then(status) {
                        return status.map(|()| None);
                    }
                }
            }
        }
    }
}

/// Takes a message off the front, if it is whole.
pub(super) fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, EtcdError> {
    let Some(head) = buffer.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    let bytes = u32::from_be_bytes(length) as usize;
    if compressed != 0 {
        let message = "a compressed answer, which was not asked for".to_owned();
        return Err(EtcdError::Refused { code: INTERNAL, message });
    }
    if bytes > MAX_MESSAGE {
        return Err(EtcdError::TooLarge { bytes });
    }
    if buffer.len() < FRAME_HEAD + bytes {
        buffer.reserve(FRAME_HEAD + bytes - buffer.len());
        return Ok(None);
    }
    buffer.advance(FRAME_HEAD);
    Ok(Some(buffer.split_to(bytes).freeze()))
}

/// What a call sends: one message, or those that come out of a channel.
enum Outgoing {
    Once(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let message = match self.get_mut() {
            Self::Once(message) => Poll::Ready(message.take()),
            Self::Stream(messages) => messages.poll_recv(context),
        };
        message.map(|message| message.map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Once(None))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{EtcdError, MAX_MESSAGE, framed, take_message, unescaped};

    #[test]
    fn messages_are_cut_out_of_the_stream() {
        let all = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for step in 1..all.len() {
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for part in all.chunks(step) {
                buffer.extend_from_slice(part);
                while let Some(message) = take_message(&mut buffer).expect("whole") {
                    found.push(message);
                }
            }
            assert_eq!(found, [&b"one"[..], b"", b"three"], "in steps of {step}");
        }
        let mut large = BytesMut::from(&[0, 0xff, 0, 0, 0][..]);
        let error = take_message(&mut large).expect_err("too large");
        assert!(matches!(error, EtcdError::TooLarge { bytes } if bytes > MAX_MESSAGE));
        take_message(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])).expect_err("compressed");
    }

    #[test]
    fn words_are_unescaped() {
        for (text, want) in
            [("a%20b", "a b"), ("100%", "100%"), ("%zz%41", "%zzA"), ("", ""), ("%c3%bc", "ü")]
        {
            assert_eq!(unescaped(text.as_bytes()), want);
        }
    }

    #[test]
    fn only_what_is_certain_is_said_to_be() {
        let refused = |code| EtcdError::Refused { code, message: String::new() };
        for (error, certain) in [
            (refused(super::INVALID_ARGUMENT), true),
            (refused(super::RESOURCE_EXHAUSTED), true),
            (refused(super::UNAVAILABLE), false),
            (refused(super::UNKNOWN), false),
            (EtcdError::TimedOut { within: std::time::Duration::from_secs(1) }, false),
            (EtcdError::TooLarge { bytes: 1 }, false),
        ] {
            assert_eq!(error.is_certain(), certain, "{error}");
        }
    }
}

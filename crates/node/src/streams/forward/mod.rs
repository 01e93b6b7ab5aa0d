//! Port forwarding: a client's connections to ports of a pod over one connection.
//!
//! [`run`] owns the client's connection and moves bytes; a [`Dialect`] knows how the streams travel and performs no
//! IO; one task per forwarded connection ([`connection`]) talks to the pod. The tasks live in a set that ends with
//! the session.
//!
//! ```text
//!  client ──▶ Receiver ──▶ Dialect::read ──▶ queue per connection ──▶ pod
//!  client ◀── Sender ◀── Dialect::{data, end, fail} ◀── one queue ◀── pod
//! ```
//!
//! All connections share the client's, which has no flow control for single streams. When a pod does not read one of
//! them, nothing more is read from the client once that one's queue is full; if that lasts, the connection is given
//! up for the others' sake.

mod channels;
mod connection;
mod spdy;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, interval_at, timeout_at};
use tokio_util::sync::CancellationToken;

pub(crate) use channels::PortChannels;
pub(crate) use spdy::SpdyPairs;

use super::command::{PING_PERIOD, ProtocolError, StreamError};
use super::link::{self, Receiver, Sender, is_departure};
use super::pods::{PodRef, Pods};
use connection::{FromPod, Said, Voice};

/// Most connections that a client has at a time.
pub(crate) const MAX_CONNECTIONS: usize = 256;

/// Pieces of data, each of at most some 16 KiB, that wait for the pod on one connection.
const QUEUED_TO_POD: usize = 8;

/// Pieces of data, each of at most 16 KiB, that wait for the client on all connections.
const QUEUED_TO_CLIENT: usize = 16;

/// How long a pod may leave a full queue unread.
const STALL_PATIENCE: Duration = Duration::from_secs(60);

/// Names a forwarded connection within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// What a client does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It wants a connection. Ids are not used twice.
    Open { id: ConnectionId, port: u16 },
    /// It sent data.
    Data { id: ConnectionId, bytes: Bytes },
    /// It sends nothing more on a connection.
    End { id: ConnectionId },
    /// It has given up a connection.
    Reset { id: ConnectionId },
    /// It has left.
    Closed,
}

/// How connections travel. Whatever is said of a connection that is gone is ignored.
pub(crate) trait Dialect: Send {
    /// Takes the next event out of `input`; `None` when more bytes are needed. Answers that the protocol demands,
    /// and a farewell before an error, are appended to `out`.
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, ProtocolError>;

    /// Sends a pod's data.
    fn data(&mut self, id: ConnectionId, bytes: &[u8], out: &mut BytesMut);

    /// Says that the pod sends no more.
    fn end(&mut self, id: ConnectionId, out: &mut BytesMut);

    /// Says why a connection cannot be, and ends it.
    fn fail(&mut self, id: ConnectionId, why: &str, out: &mut BytesMut);

    /// Forgets a connection on which nothing more happens; the client is told if it does not know.
    fn forget(&mut self, id: ConnectionId, out: &mut BytesMut);

    /// Whether nothing can come any more.
    fn is_finished(&self) -> bool;

    /// Asks whether the client is still there.
    fn ping(&mut self, out: &mut BytesMut);

    /// Ends everything.
    fn close(&mut self, out: &mut BytesMut);
}

/// Serves one session until the client leaves.
pub(crate) async fn run<S>(
    stream: S,
    mut dialect: impl Dialect,
    pods: Arc<dyn Pods>,
    pod: PodRef,
    shutdown: CancellationToken,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut receiver, mut sender) = link::split(stream);
    let (said, from_pods) = mpsc::channel(QUEUED_TO_CLIENT);
    let mut session =
        Session { pods, pod, connections: HashMap::new(), tasks: JoinSet::new(), said, from_pods };
    let result = tokio::select! {
        result = session.pump(&mut receiver, &mut sender, &mut dialect) => result,
        () = shutdown.cancelled() => Ok(()),
    };
    drop(session);
    match result {
        Ok(()) => dialect.close(&mut sender.buffer),
        Err(StreamError::Connection(error)) if is_departure(&error) => return Ok(()),
        Err(error @ StreamError::Connection(_)) => return Err(error),
        Err(StreamError::Protocol(_)) => {}
    }
    match link::close(receiver, sender, &shutdown).await {
        Err(error) if !is_departure(&error) => result.and(Err(error.into())),
        _ => result,
    }
}

/// The connections of one client.
struct Session {
    pods: Arc<dyn Pods>,
    pod: PodRef,
    connections: HashMap<ConnectionId, Connection>,
    tasks: JoinSet<()>,
    said: mpsc::Sender<FromPod>,
    from_pods: mpsc::Receiver<FromPod>,
}

/// One connection, seen from the client.
struct Connection {
    /// Gone when the client has ended its side.
    to_pod: Option<mpsc::Sender<Bytes>>,
    task: AbortHandle,
}

/// Data that found its connection's queue full.
struct Stalled {
    id: ConnectionId,
    bytes: Bytes,
    queue: mpsc::Sender<Bytes>,
    /// When the connection is given up.
    until: Instant,
}

impl Session {
    async fn pump<S>(
        &mut self,
        receiver: &mut Receiver<S>,
        sender: &mut Sender<S>,
        dialect: &mut impl Dialect,
    ) -> Result<(), StreamError>
    where
        S: AsyncRead + AsyncWrite,
    {
        let mut stalled: Option<Stalled> = None;
        let mut pings = interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
        while !dialect.is_finished() {
            if stalled.is_none()
                && let Some(event) = dialect.read(&mut receiver.buffer, &mut sender.buffer)?
            {
                if event == Event::Closed {
                    return Ok(());
                }
                stalled = self.handle(event, dialect, &mut sender.buffer);
                continue;
            }
            tokio::select! {
                delivered = deliver(stalled.as_ref()), if stalled.is_some() => {
                    if let Some(Stalled { id, .. }) = stalled.take().filter(|_| !delivered) {
                        tracing::debug!(connection = id.0, "a pod does not read a forwarded connection");
                        self.give_up(id);
                        dialect.forget(id, &mut sender.buffer);
                    }
                }
                count = receiver.fill(), if stalled.is_none() && sender.has_room_for_answers() => if count? == 0 {
                    return Ok(());
                },
                sent = sender.progress(), if sender.is_pending() => sent?,
                Some(FromPod { id, said }) = self.from_pods.recv(), if sender.has_room() => match said {
                    Said::Data(bytes) => dialect.data(id, &bytes, &mut sender.buffer),
                    Said::End => dialect.end(id, &mut sender.buffer),
                    Said::Failed(why) => dialect.fail(id, &why, &mut sender.buffer),
                    Said::Done => {
                        self.connections.remove(&id);
                        dialect.forget(id, &mut sender.buffer);
                    }
                },
                Some(ended) = self.tasks.join_next() => match ended {
                    Err(error) if error.is_panic() => tracing::error!(%error, "a forwarded connection broke off"),
                    _ => {}
                },
                _ = pings.tick() => dialect.ping(&mut sender.buffer),
            }
        }
        Ok(())
    }

    /// Does what the client wants; gives back data that has to wait.
    fn handle(&mut self, event: Event, dialect: &mut impl Dialect, out: &mut BytesMut) -> Option<Stalled> {
        match event {
            Event::Open { id, .. } if self.connections.len() >= MAX_CONNECTIONS => {
                dialect.fail(
                    id,
                    &format!("at most {MAX_CONNECTIONS} connections can be forwarded at once"),
                    out,
                );
            }
            Event::Open { id, port } => self.open(id, port),
            Event::Data { id, bytes } => {
                let queue = self.connections.get(&id)?.to_pod.as_ref()?;
                match queue.try_send(bytes) {
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                    Err(mpsc::error::TrySendError::Full(bytes)) => {
                        let until = Instant::now() + STALL_PATIENCE;
                        return Some(Stalled { id, bytes, queue: queue.clone(), until });
                    }
                }
            }
            Event::End { id } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.to_pod = None;
                }
            }
            Event::Reset { id } => self.give_up(id),
            Event::Closed => {}
        }
        None
    }

    fn open(&mut self, id: ConnectionId, port: u16) {
        let (queue, queued) = mpsc::channel(QUEUED_TO_POD);
        let (pods, pod, said) = (self.pods.clone(), self.pod.clone(), self.said.clone());
        let task = self.tasks.spawn(async move {
            connection::forward(pods.as_ref(), &pod, port, Voice { id, said }, queued).await;
        });
        self.connections.insert(id, Connection { to_pod: Some(queue), task });
    }

    fn give_up(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.task.abort();
        }
    }
}

/// Waits for room in a full queue; false when there was none for too long.
async fn deliver(stalled: Option<&Stalled>) -> bool {
    let Some(stalled) = stalled else { return true };
    match timeout_at(stalled.until, stalled.queue.reserve()).await {
        Ok(Ok(permit)) => permit.send(stalled.bytes.clone()),
        // The connection has ended: its data is nobody's.
        Ok(Err(_)) => {}
        Err(_) => return false,
    }
    true
}

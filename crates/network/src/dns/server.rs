//! The DNS server: queries over UDP and TCP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::dns::message::{NotAQuery, Query, Question, Rcode, Response};
use crate::dns::shares::{Share, Shares};
use crate::dns::upstream::{self, Upstream, UpstreamError};
use crate::dns::zone::{Answer, Zone};

/// TCP connections at once.
const MAX_CONNECTIONS: usize = 128;
/// Those of one client: a pod that keeps some open leaves room for the others.
const MAX_CONNECTIONS_EACH: usize = 16;
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Queries over UDP that wait for other servers at once; those beyond fail at once.
const MAX_WAITING: usize = 1024;
/// Queries of one client that wait for other servers at once: a pod that asks for names which nobody answers leaves room
/// for the others.
const MAX_ASKED_EACH: usize = 32;
/// The largest query that is read, in bytes.
const MAX_QUERY: usize = 4096;
/// How long serving rests after the kernel refused something.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries that were understood.
    pub queries: u64,
    /// Answered from the zone.
    pub zone: u64,
    /// Answered from what other servers said before.
    pub cached: u64,
    /// Answered by other servers.
    pub forwarded: u64,
    /// Failed because the host names no server.
    pub no_server: u64,
    /// Failed because too many others waited.
    pub overloaded: u64,
    /// Failed because no server answered.
    pub unanswered: u64,
    /// Messages that were no query for this server.
    pub malformed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    queries: AtomicU64,
    zone: AtomicU64,
    cached: AtomicU64,
    forwarded: AtomicU64,
    no_server: AtomicU64,
    overloaded: AtomicU64,
    unanswered: AtomicU64,
    malformed: AtomicU64,
}

/// A running server; dropping it ends it soon, [`DnsServer::stop`] before it returns.
#[derive(Debug)]
pub struct DnsServer {
    resolver: Arc<Resolver>,
    stopping: CancellationToken,
    tasks: [AbortOnDropHandle<()>; 2],
}

#[derive(Debug)]
struct Resolver {
    zone: RwLock<Arc<Zone>>,
    turn: AtomicUsize,
    upstream: Upstream,
    asked: Arc<Shares>,
    counters: Counters,
}

impl DnsServer {
    /// Serves `zone` on both sockets, and other names with `upstream`.
    pub fn start(udp: UdpSocket, tcp: TcpListener, zone: Zone, upstream: Upstream) -> Self {
        let resolver = Arc::new(Resolver {
            zone: RwLock::new(Arc::new(zone)),
            turn: AtomicUsize::new(0),
            upstream,
            asked: Shares::new(MAX_ASKED_EACH),
            counters: Counters::default(),
        });
        let stopping = CancellationToken::new();
        let tasks = [
            tokio::spawn(serve_udp(udp, resolver.clone(), stopping.clone())),
            tokio::spawn(serve_tcp(tcp, resolver.clone(), stopping.clone())),
        ];
        Self { resolver, stopping, tasks: tasks.map(AbortOnDropHandle::new) }
    }

    /// Ends the server; when this returns its addresses are free.
    pub async fn stop(self) {
        self.stopping.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "the DNS server ended badly");
            }
        }
    }

    /// Replaces the zone; queries that come later see the new one.
    pub fn publish(&self, zone: Zone) {
        for problem in zone.problems() {
            tracing::warn!(problem, "something has no DNS name");
        }
        *self.resolver.zone.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.resolver.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            queries: read(&counters.queries),
            zone: read(&counters.zone),
            cached: read(&counters.cached),
            forwarded: read(&counters.forwarded),
            no_server: read(&counters.no_server),
            overloaded: read(&counters.overloaded),
            unanswered: read(&counters.unanswered),
            malformed: read(&counters.malformed),
        }
    }
}

/// What can be said at once, or what has to be asked.
enum Step {
    Done(Response),
    Ask { so_far: Response, question: Question },
}

impl Resolver {
    fn read(&self, message: &[u8]) -> Result<Query, Option<Vec<u8>>> {
        let counters = &self.counters;
        match Query::decode(message) {
            Ok(query) => {
                count(&counters.queries);
                Ok(query)
            }
            Err(error) => {
                count(&counters.malformed);
                Err(match error {
                    NotAQuery::Ignore => None,
                    NotAQuery::Refuse(reply) => Some(reply),
                })
            }
        }
    }

    /// Everything that needs no waiting.
    fn step(&self, query: &Query) -> Step {
        if query.wants_later_edns() {
            return Step::Done(Response::empty(Rcode::BadVers));
        }
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner).clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (so_far, question) = match zone.answer(&query.question, turn) {
            Answer::Reply(response) => {
                count(&self.counters.zone);
                return Step::Done(response);
            }
            Answer::NotOurs if !query.recursion_desired => {
                return Step::Done(Response::empty(Rcode::Refused));
            }
            Answer::NotOurs => (Response::empty(Rcode::NoError), query.question.clone()),
            Answer::Alias { so_far, target } => (so_far, Question { name: target, ..query.question.clone() }),
        };
        match self.upstream.cached(&upstream::key(question.clone(), query)) {
            Some(response) => {
                count(&self.counters.cached);
                Step::Done(join(so_far, response))
            }
            None => Step::Ask { so_far, question },
        }
    }

    /// Asks other servers.
    async fn ask(&self, client: IpAddr, query: &Query, so_far: Response, question: Question) -> Response {
        let counters = &self.counters;
        let Some(_share) = self.asked.take(client) else {
            count(&counters.overloaded);
            tracing::debug!(%client, limit = MAX_ASKED_EACH, "a client waits for too many names");
            return Response::empty(Rcode::ServFail);
        };
        match self.upstream.resolve(&upstream::key(question, query)).await {
            Ok(response) => {
                count(&counters.forwarded);
                join(so_far, response)
            }
            Err(error) => {
                count(match error {
                    UpstreamError::NoServer { .. } => &counters.no_server,
                    UpstreamError::Overloaded => &counters.overloaded,
                    UpstreamError::NoAnswer { .. } => &counters.unanswered,
                });
                tracing::debug!(name = %query.question.name, %error, "a name was not resolved");
                Response::empty(Rcode::ServFail)
            }
        }
    }
}

/// An alias of the zone and what others said about its target. Not authoritative: part of it is not ours.
fn join(so_far: Response, mut found: Response) -> Response {
    if so_far.answers.is_empty() {
        return found;
    }
    found.answers.splice(0..0, so_far.answers);
    found.authoritative = false;
    found
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn serve_udp(socket: UdpSocket, resolver: Arc<Resolver>, stopping: CancellationToken) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut message = vec![0; MAX_QUERY];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut message) => received,
            Some(_) = waiting.join_next() => continue,
            () = stopping.cancelled() => return waiting.shutdown().await,
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                rest_after("received", &error).await;
                continue;
            }
        };
        let query = match resolver.read(&message[..length]) {
            Ok(query) => query,
            Err(reply) => {
                send(&socket, client, reply.as_deref().unwrap_or_default()).await;
                continue;
            }
        };
        match resolver.step(&query) {
            Step::Done(response) => send(&socket, client, &query.respond(&response, query.udp_limit())).await,
            Step::Ask { .. } if waiting.len() >= MAX_WAITING => {
                count(&resolver.counters.overloaded);
                let reply = query.respond(&Response::empty(Rcode::ServFail), query.udp_limit());
                send(&socket, client, &reply).await;
            }
            Step::Ask { so_far, question } => {
                let (socket, resolver) = (socket.clone(), resolver.clone());
                waiting.spawn(async move {
                    let response = resolver.ask(client.ip(), &query, so_far, question).await;
                    send(&socket, client, &query.respond(&response, query.udp_limit())).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, reply: &[u8]) {
    if reply.is_empty() {
        return;
    }
    if let Err(error) = socket.send_to(reply, client).await {
        tracing::debug!(%client, %error, "a DNS answer was not sent");
    }
}

async fn rest_after(what: &'static str, error: &io::Error) {
    tracing::warn!(%error, what, "DNS rests for a moment");
    sleep(EXHAUSTED).await;
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>, stopping: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shares = Shares::new(MAX_CONNECTIONS_EACH);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&listener, &permits) => match accepted {
                // Without a share it is closed again.
                Ok((stream, client, permit)) => if let Some(share) = shares.take(client.ip()) {
                    connections.spawn(serve_connection(stream, client, resolver.clone(), (permit, share)));
                },
                Err(error) => rest_after("accepted", &error).await,
            },
            Some(_) = connections.join_next() => {}
            () = stopping.cancelled() => return connections.shutdown().await,
        }
    }
}

/// The next client, once there is room for it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, client) = listener.accept().await?;
    Ok((stream, client, permit))
}

async fn serve_connection(
    mut stream: TcpStream,
    client: SocketAddr,
    resolver: Arc<Resolver>,
    _place: (OwnedSemaphorePermit, Share),
) {
    // Ends when the client does, or is silent for too long.
    while let Ok(Ok(message)) = timeout(IDLE, upstream::read_message(&mut stream)).await {
        let reply = match resolver.read(&message) {
            Err(Some(reply)) => reply,
            Err(None) => return,
            Ok(query) => {
                let response = match resolver.step(&query) {
                    Step::Done(response) => response,
                    Step::Ask { so_far, question } => {
                        resolver.ask(client.ip(), &query, so_far, question).await
                    }
                };
                query.respond(&response, usize::from(u16::MAX))
            }
        };
        match timeout(IDLE, upstream::write_message(&mut stream, &reply)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%client, %error, "a DNS answer was not sent");
                return;
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;

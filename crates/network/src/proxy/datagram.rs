//! UDP: one socket towards a backend for each client, until both have been silent for a while.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::netns::Netns;
use crate::proxy::balance::{Balancer, Targets};

/// Clients of one port that may have a session at once; the one silent for longest makes room for another.
const MAX_SESSIONS: usize = 1024;
/// Sessions of all ports together.
pub(crate) const MAX_ALL_SESSIONS: usize = 4096;
/// How long a session lasts without a datagram from either side.
const IDLE: Duration = Duration::from_secs(60);
/// The largest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// Relays between `listener` and the current targets until dropped. Each session takes one of `permits`.
pub(crate) async fn serve(
    listener: UdpSocket,
    node: Netns,
    targets: watch::Receiver<Targets>,
    permits: Arc<Semaphore>,
) {
    let listener = Arc::new(listener);
    let mut relay = Relay {
        listener: listener.clone(),
        node,
        targets,
        permits,
        balancer: Balancer::default(),
        sessions: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let mut datagram = Vec::with_capacity(MAX_DATAGRAM);
    loop {
        datagram.clear();
        tokio::select! {
            received = listener.recv_buf_from(&mut datagram) => {
                let passed = match received {
                    Ok((_, client)) => relay.pass_on(&datagram, client).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = passed {
                    tracing::debug!(%error, "a datagram was lost on its way to a backend");
                }
            }
            Some(ended) = relay.tasks.join_next_with_id() => {
                relay.forget(ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        }
    }
}

struct Relay {
    listener: Arc<UdpSocket>,
    node: Netns,
    targets: watch::Receiver<Targets>,
    permits: Arc<Semaphore>,
    balancer: Balancer,
    sessions: HashMap<SocketAddr, Session>,
    tasks: JoinSet<()>,
}

/// The way of one client to its backend and back.
struct Session {
    backend: SocketAddr,
    socket: Arc<UdpSocket>,
    last: Arc<Mutex<Instant>>,
    answers: AbortHandle,
    _permit: OwnedSemaphorePermit,
}

impl Relay {
    async fn pass_on(&mut self, datagram: &[u8], client: SocketAddr) -> io::Result<()> {
        let session = match self.sessions.get(&client) {
            Some(session) if self.targets.borrow().backends.contains(&session.backend) => session,
            _ => match self.open(client).await? {
                Some(session) => session,
                // Nobody serves the port now.
                None => return Ok(()),
            },
        };
        touch(&session.last);
        let sent = session.socket.send(datagram).await;
        if sent.is_err() {
            // Most likely nobody listens there; the client's next datagram may go elsewhere.
            self.close(client);
        }
        sent.map(drop)
    }

    async fn open(&mut self, client: SocketAddr) -> io::Result<Option<&Session>> {
        self.close(client);
        if self.sessions.len() >= MAX_SESSIONS || self.permits.available_permits() == 0 {
            let silent = self.sessions.iter().min_by_key(|(_, s)| last(&s.last)).map(|(client, _)| *client);
            silent.into_iter().for_each(|client| self.close(client));
        }
        let full = |_| io::Error::other(format!("there are {MAX_ALL_SESSIONS} sessions already"));
        let permit = self.permits.clone().try_acquire_owned().map_err(full)?;
        let now = std::time::Instant::now();
        let backend = {
            let targets = self.targets.borrow();
            let order = self.balancer.order(&targets, client.ip(), now);
            let Some(backend) = order.first() else { return Ok(None) };
            self.balancer.served(&targets, client.ip(), *backend, now);
            *backend
        };
        let socket = Arc::new(self.node.udp_connect(backend).await.map_err(io::Error::other)?);
        let last = Arc::new(Mutex::new(Instant::now()));
        let task = answer(socket.clone(), self.listener.clone(), client, last.clone());
        let answers = self.tasks.spawn(task);
        let session = Session { backend, socket, last, answers, _permit: permit };
        Ok(Some(self.sessions.entry(client).insert_entry(session).into_mut()))
    }

    fn close(&mut self, client: SocketAddr) {
        if let Some(session) = self.sessions.remove(&client) {
            session.answers.abort();
        }
    }

    fn forget(&mut self, task: Id) {
        self.sessions.retain(|_, session| session.answers.id() != task);
    }
}

/// Carries a backend's datagrams to the client until the session is idle or the backend is unreachable.
async fn answer(
    socket: Arc<UdpSocket>,
    listener: Arc<UdpSocket>,
    client: SocketAddr,
    heard: Arc<Mutex<Instant>>,
) {
    loop {
        let deadline = last(&heard) + IDLE;
        match timeout_at(deadline, socket.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) if last(&heard) + IDLE > Instant::now() => continue,
            Err(_) => return,
        }
        // Made for each datagram, so that an idle session keeps no memory.
        let mut datagram = Vec::with_capacity(MAX_DATAGRAM);
        match socket.try_recv_buf(&mut datagram) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        touch(&heard);
        if let Err(error) = listener.send_to(&datagram, client).await {
            tracing::debug!(%client, %error, "a datagram was lost on its way to a client");
        }
    }
}

fn touch(last: &Mutex<Instant>) {
    *last.lock().expect("no code panics while it holds this lock") = Instant::now();
}

fn last(last: &Mutex<Instant>) -> Instant {
    *last.lock().expect("no code panics while it holds this lock")
}

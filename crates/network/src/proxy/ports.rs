//! Ports of the host and of the node that lead to pods.
//!
//! [`Ports::apply`] takes every port that should be open and changes what is open to match. A port that
//! can't be had is no failure of the others: its status says why, and each later call tries it again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::netns::{Netns, NetnsError};
use crate::proxy::balance::{Balancer, Targets};
use crate::proxy::datagram;
use crate::proxy::stream::{self, Connect, Permits};
use crate::service::{Protocol, ServiceSpec, eligible};
use crate::socket;

/// Proxied TCP connections of all ports together.
pub const MAX_CONNECTIONS: usize = 4096;
/// Proxied TCP connections of one port: no port can take them all.
pub const MAX_PORT_CONNECTIONS: usize = 1024;

/// How long one backend may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// The network that a port is opened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The host's.
    Host,
    /// The node's, where pods see it.
    Node,
}

/// Where a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortAddress {
    /// In which network.
    pub site: Site,
    /// Address and port.
    pub address: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
}

/// One port that should be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Whom it is for, in words for people.
    pub owner: String,
    /// Where it is.
    pub listen: PortAddress,
    /// Who serves it. With nobody, connections are reset at once.
    pub backends: Vec<SocketAddr>,
    /// How long a client stays with its backend after its last connection, if it does.
    pub affinity: Option<Duration>,
}

/// How one wanted port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// As in [`PortSpec`].
    pub owner: String,
    /// As in [`PortSpec`].
    pub listen: PortAddress,
    /// Why it is not open, when it is not.
    pub problem: Option<String>,
}

/// The node ports of `services` at each of `places`.
pub fn node_ports(services: &[ServiceSpec], places: &[(Site, IpAddr)]) -> Vec<PortSpec> {
    let mut specs = Vec::new();
    for service in services {
        for port in &service.ports {
            let Some(number) = port.node_port else { continue };
            let backends = eligible(&port.backends, service.external_policy);
            specs.extend(places.iter().map(|(site, ip)| PortSpec {
                owner: format!("service {}", service.name),
                listen: PortAddress {
                    site: *site,
                    address: SocketAddr::new(*ip, number),
                    protocol: port.protocol,
                },
                backends: backends.clone(),
                affinity: service.affinity,
            }));
        }
    }
    specs
}

/// The owner of all open ports. Dropping it closes them and every connection.
#[derive(Debug)]
pub struct Ports {
    node: Netns,
    permits: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    open: HashMap<PortAddress, OpenPort>,
}

#[derive(Debug)]
struct OpenPort {
    targets: watch::Sender<Targets>,
    task: AbortOnDropHandle<()>,
}

impl OpenPort {
    /// Closes the listener and its connections; when it returns the address is free.
    async fn close(self) {
        self.task.abort();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(%error, "a port's task panicked");
        }
    }
}

impl Ports {
    /// No ports yet. Backends are reached through `node`.
    pub fn new(node: Netns) -> Self {
        let (permits, sessions) =
            (Semaphore::new(MAX_CONNECTIONS), Semaphore::new(datagram::MAX_ALL_SESSIONS));
        Self { node, permits: Arc::new(permits), sessions: Arc::new(sessions), open: HashMap::new() }
    }

    /// Opens, changes and closes ports until they are those of `desired`; the answer is in its order.
    /// Connections of a port that stays are kept, whatever happens to its backends.
    pub async fn apply(&mut self, desired: &[PortSpec]) -> Vec<PortStatus> {
        let wanted: HashSet<_> = desired.iter().map(|spec| spec.listen).collect();
        for (_, closing) in self.open.extract_if(|listen, _| !wanted.contains(listen)).collect::<Vec<_>>() {
            closing.close().await;
        }
        let mut owners = HashMap::new();
        let mut statuses = Vec::with_capacity(desired.len());
        for spec in desired {
            let problem = match owners.entry(spec.listen) {
                Entry::Occupied(first) => {
                    Some(format!("{} is already used by {}", describe(spec.listen), first.get()))
                }
                Entry::Vacant(place) => {
                    place.insert(&spec.owner);
                    self.ensure_open(spec).await.err()
                }
            };
            statuses.push(PortStatus { owner: spec.owner.clone(), listen: spec.listen, problem });
        }
        statuses
    }

    async fn ensure_open(&mut self, spec: &PortSpec) -> Result<(), String> {
        let targets = Targets { backends: spec.backends.clone(), affinity: spec.affinity };
        if let Some(port) = self.open.get(&spec.listen) {
            port.targets.send_if_modified(|current| {
                let modified = *current != targets;
                *current = targets;
                modified
            });
            return Ok(());
        }
        let (sender, receiver) = watch::channel(targets);
        let task = match spec.listen.protocol {
            Protocol::Tcp => {
                let listener = self.listen_tcp(spec.listen).await;
                let listener = listener.map_err(|error| explain(spec.listen, &error))?;
                let connect = ToBackend {
                    node: self.node.clone(),
                    targets: receiver,
                    balancer: Mutex::new(Balancer::default()),
                };
                let permits = Permits::new(MAX_PORT_CONNECTIONS, Some(self.permits.clone()));
                tokio::spawn(stream::serve(listener, connect, permits))
            }
            Protocol::Udp => {
                let socket = self.bind_udp(spec.listen).await;
                let socket = socket.map_err(|error| explain(spec.listen, &error))?;
                tokio::spawn(datagram::serve(socket, self.node.clone(), receiver, self.sessions.clone()))
            }
        };
        let port = OpenPort { targets: sender, task: AbortOnDropHandle::new(task) };
        self.open.insert(spec.listen, port);
        Ok(())
    }

    async fn listen_tcp(&self, listen: PortAddress) -> io::Result<TcpListener> {
        match listen.site {
            Site::Host => socket::tcp_listen(listen.address).and_then(TcpListener::from_std),
            Site::Node => self.node.tcp_listen(listen.address).await.map_err(into_io),
        }
    }

    async fn bind_udp(&self, listen: PortAddress) -> io::Result<UdpSocket> {
        match listen.site {
            Site::Host => socket::udp_bind(listen.address).and_then(UdpSocket::from_std),
            Site::Node => self.node.udp_bind(listen.address).await.map_err(into_io),
        }
    }
}

fn into_io(error: NetnsError) -> io::Error {
    match error {
        NetnsError::Socket { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn describe(listen: PortAddress) -> String {
    let site = match listen.site {
        Site::Host => "the host",
        Site::Node => "the node's network",
    };
    format!("port {}/{} at {} of {site}", listen.address.port(), listen.protocol, listen.address.ip())
}

fn explain(listen: PortAddress, error: &io::Error) -> String {
    let port = describe(listen);
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{port} is already used by another program"),
        io::ErrorKind::AddrNotAvailable => {
            format!("{port} can't be opened: the address is not one of this machine's")
        }
        io::ErrorKind::PermissionDenied => format!(
            "{port} can't be opened by an ordinary user: use a port from the machine's \
             net.ipv4.ip_unprivileged_port_start (usually 1024) up"
        ),
        _ => format!("{port} can't be opened: {error}"),
    }
}

/// Connects to a backend through the node's namespace; the next one when one refuses.
struct ToBackend {
    node: Netns,
    targets: watch::Receiver<Targets>,
    balancer: Mutex<Balancer>,
}

impl Connect for ToBackend {
    async fn connect(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        let targets = self.targets.borrow().clone();
        let order = self.balancer().order(&targets, peer.ip(), Instant::now());
        let mut last = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody serves this port now");
        for backend in order {
            match self.node.tcp_connect(backend, CONNECT_PATIENCE).await {
                Ok(stream) => {
                    self.balancer().served(&targets, peer.ip(), backend, Instant::now());
                    return Ok(stream);
                }
                Err(error) => last = io::Error::other(error),
            }
        }
        Err(last)
    }
}

impl ToBackend {
    fn balancer(&self) -> std::sync::MutexGuard<'_, Balancer> {
        self.balancer.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        let listen = PortAddress {
            site: Site::Host,
            address: "127.0.0.1:80".parse().unwrap(),
            protocol: Protocol::Tcp,
        };
        let check = |errno: rustix::io::Errno, want: &str| {
            assert_eq!(
                explain(listen, &errno.into()),
                format!("port 80/tcp at 127.0.0.1 of the host {want}")
            );
        };
        check(rustix::io::Errno::ADDRINUSE, "is already used by another program");
        check(
            rustix::io::Errno::ACCESS,
            "can't be opened by an ordinary user: use a port from the machine's \
             net.ipv4.ip_unprivileged_port_start (usually 1024) up",
        );
        check(rustix::io::Errno::ADDRNOTAVAIL, "can't be opened: the address is not one of this machine's");
    }
}

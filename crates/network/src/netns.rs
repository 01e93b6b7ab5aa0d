//! A network namespace that this process is not in, and sockets made there.
//!
//! The process lives in the host's network namespace. A thread can move into another one that belongs to
//! this or to a nested user namespace, but can't come back: it has no capability over the host's. So a
//! [`Netns`] owns one thread that moved once and then runs small jobs until the last handle is dropped.
//! A socket belongs to the namespace of the thread that made it, whichever thread uses it later: jobs only
//! make sockets, and everything after that is ordinary tokio code.
//!
//! A child process starts in the namespace of the thread that spawned it; [`Netns::spawn`] is that.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::netlink::{Netlink, Watch};
use crate::socket;

/// Jobs that may wait for the thread; a caller beyond that waits for its turn.
const QUEUED_JOBS: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// A handle to a thread inside a network namespace. Clones share the thread.
#[derive(Clone, Debug)]
pub struct Netns {
    jobs: mpsc::Sender<Job>,
    path: Arc<Path>,
}

/// Why something could not be done inside a network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The pinned namespace could not be opened.
    #[error("cannot open the network namespace pinned at {}: {source}", path.display())]
    Open {
        /// Where it should be pinned.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread could not be started.
    #[error("cannot start a thread for the network namespace {}: {source}", path.display())]
    Thread {
        /// Where the namespace is pinned.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread could not move into the namespace.
    #[error(
        "cannot enter the network namespace {}: {source}; it must belong to this user namespace or to one nested in it",
        path.display()
    )]
    Enter {
        /// Where the namespace is pinned.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A job panicked; the thread goes on.
    #[error("a job in the network namespace {} panicked", path.display())]
    Panicked {
        /// Where the namespace is pinned.
        path: PathBuf,
    },
    /// A socket could not be made, bound or connected.
    #[error("cannot {action} in the network namespace {}: {source}", path.display())]
    Socket {
        /// What was tried, with the address.
        action: String,
        /// Where the namespace is pinned.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NetnsError {
    /// The kernel's answer, where there is one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Open { source, .. }
            | Self::Thread { source, .. }
            | Self::Enter { source, .. }
            | Self::Socket { source, .. } => Some(source),
            Self::Panicked { .. } => None,
        }
    }
}

impl Netns {
    /// Opens the namespace pinned at `path` and starts its thread. Blocks for the time that takes: well
    /// under a millisecond.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        let (jobs, queue) = mpsc::channel(QUEUED_JOBS);
        let (entered, outcome) = std::sync::mpsc::sync_channel(1);
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        thread::Builder::new()
            .name(format!("netns {name}"))
            .spawn(move || serve(&file, &entered, queue))
            .map_err(|source| NetnsError::Thread { path: path.to_owned(), source })?;
        match outcome.recv() {
            Ok(Ok(())) => Ok(Self { jobs, path: path.into() }),
            Ok(Err(source)) => Err(NetnsError::Enter { path: path.to_owned(), source }),
            Err(_) => Err(NetnsError::Panicked { path: path.to_owned() }),
        }
    }

    /// Where the namespace is pinned.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `job` on the thread inside the namespace. Jobs run one after the other, so each must be short
    /// and never wait for another.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetnsError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody takes the answer when the caller was cancelled; dropping it closes what was made.
            drop(reply.send(job()));
        });
        let panicked = || NetnsError::Panicked { path: self.path.to_path_buf() };
        self.jobs.send(job).await.map_err(|_| panicked())?;
        answer.await.map_err(|_| panicked())
    }

    /// A TCP socket listening on `address`.
    pub async fn tcp_listen(&self, address: SocketAddr) -> Result<TcpListener, NetnsError> {
        let listener = self.make(move || socket::tcp_listen(address)).await;
        listener
            .and_then(TcpListener::from_std)
            .map_err(|source| self.socket_error(format!("listen on TCP {address}"), source))
    }

    /// A TCP connection to `address`, which may be a pod's or a service's; gives up after `patience`.
    pub async fn tcp_connect(
        &self,
        address: SocketAddr,
        patience: Duration,
    ) -> Result<TcpStream, NetnsError> {
        let connect = async {
            let socket = self.make(move || socket::tcp_unconnected(address)).await?;
            match timeout(patience, socket::from_std(socket).connect(address)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {patience:?}"))),
            }
        };
        connect.await.map_err(|source| self.socket_error(format!("connect to TCP {address}"), source))
    }

    /// A UDP socket bound to `address`.
    pub async fn udp_bind(&self, address: SocketAddr) -> Result<UdpSocket, NetnsError> {
        let socket = self.make(move || socket::udp_bind(address)).await;
        socket
            .and_then(UdpSocket::from_std)
            .map_err(|source| self.socket_error(format!("bind UDP {address}"), source))
    }

    /// A UDP socket that sends to and receives from `address` only.
    pub async fn udp_connect(&self, address: SocketAddr) -> Result<UdpSocket, NetnsError> {
        let socket = self.make(move || socket::udp_connect(address)).await;
        socket
            .and_then(UdpSocket::from_std)
            .map_err(|source| self.socket_error(format!("connect to UDP {address}"), source))
    }

    /// A route netlink connection: links, addresses and routes of the namespace.
    pub(crate) async fn netlink(&self) -> Result<Netlink, NetnsError> {
        let runtime = Handle::current();
        let opened = self.make(move || {
            let _context = runtime.enter();
            Netlink::open()
        });
        opened.await.map_err(|source| self.socket_error("open a netlink socket".to_owned(), source))
    }

    /// Hears of every change of the namespace's links.
    pub(crate) async fn watch_links(&self) -> Result<Watch, NetnsError> {
        let runtime = Handle::current();
        let opened = self.make(move || {
            let _context = runtime.enter();
            Watch::links()
        });
        opened.await.map_err(|source| self.socket_error("open a netlink socket".to_owned(), source))
    }

    /// Starts a process in the namespace.
    pub async fn spawn(&self, mut command: Command) -> Result<io::Result<Child>, NetnsError> {
        let runtime = Handle::current();
        self.run(move || {
            let _context = runtime.enter();
            command.spawn()
        })
        .await
    }

    async fn make<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run(job).await.map_err(io::Error::other)?
    }

    fn socket_error(&self, action: String, source: io::Error) -> NetnsError {
        NetnsError::Socket { action, path: self.path.to_path_buf(), source }
    }
}

fn serve(
    namespace: &File,
    entered: &std::sync::mpsc::SyncSender<io::Result<()>>,
    mut queue: mpsc::Receiver<Job>,
) {
    let outcome = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
    let inside = outcome.is_ok();
    let reported = entered.send(outcome.map_err(io::Error::from)).is_ok();
    if !(inside && reported) {
        return;
    }
    while let Some(job) = queue.blocking_recv() {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job in a network namespace panicked; its caller got an error");
        }
    }
}

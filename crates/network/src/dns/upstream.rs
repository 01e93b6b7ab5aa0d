//! Other names: asked of the host's resolvers, from the host's network.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::dns::cache::{Cache, Key};
use crate::dns::message::{Query, Question, Rcode, Response, UpstreamResponse};
use crate::dns::resolv::ResolvConf;

/// Queries that may wait for an answer at once.
const MAX_IN_FLIGHT: usize = 256;
/// How long one server may take. Clients give up after five seconds; this leaves time for three attempts.
const PATIENCE: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 3;
/// How often the resolver configuration is looked at for changes, at most.
const RECHECK: Duration = Duration::from_secs(5);
/// The largest UDP answer that is read.
const MAX_DATAGRAM: usize = 4096;

/// Why a name was not resolved.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// There is nobody to ask.
    #[error("{} names no server, so that only names of the cluster can be resolved", path.display())]
    NoServer {
        /// The file.
        path: PathBuf,
    },
    /// Too many questions wait for answers.
    #[error("{MAX_IN_FLIGHT} names are being resolved at the moment, which is the limit")]
    Overloaded,
    /// Nobody answered.
    #[error("none of the servers {servers:?} answered, the last because: {last}")]
    NoAnswer {
        /// Who was asked.
        servers: Vec<SocketAddr>,
        /// What went wrong with the last one.
        last: io::Error,
    },
}

/// The host's resolvers and what they said lately.
#[derive(Debug)]
pub struct Upstream {
    path: PathBuf,
    own: HashSet<IpAddr>,
    configuration: Mutex<Configuration>,
    /// Which server answered last; it is asked first.
    preferred: AtomicUsize,
    cache: Mutex<Cache>,
    in_flight: Semaphore,
}

#[derive(Debug)]
struct Configuration {
    servers: Vec<SocketAddr>,
    checked: Instant,
    modified: Option<SystemTime>,
}

impl Upstream {
    /// Resolves with the servers of the file at `path`, usually `/etc/resolv.conf`, and follows its changes.
    /// `own` are addresses of this DNS itself, which are never asked.
    pub fn new(path: &Path, own: impl IntoIterator<Item = IpAddr>) -> Self {
        let own: HashSet<_> = own.into_iter().collect();
        let configuration = read(path, &own);
        Self {
            path: path.to_owned(),
            own,
            configuration: Mutex::new(configuration),
            preferred: AtomicUsize::new(0),
            cache: Mutex::default(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
        }
    }

    /// Resolves with `servers` only.
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        let upstream = Self::new(Path::new(""), []);
        upstream.configuration().servers = servers;
        upstream
    }

    /// Answers from what is kept, without waiting.
    pub(crate) fn cached(&self, key: &Key) -> Option<Response> {
        self.cache().get(key, Instant::now())
    }

    /// Asks the servers in turn until one answers.
    pub(crate) async fn resolve(&self, key: &Key) -> Result<Response, UpstreamError> {
        let _permit = self.in_flight.try_acquire().map_err(|_| UpstreamError::Overloaded)?;
        let servers = self.servers();
        if servers.is_empty() {
            return Err(UpstreamError::NoServer { path: self.path.clone() });
        }
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut outcome = Err(io::Error::from(io::ErrorKind::TimedOut));
        for attempt in 0..ATTEMPTS {
            let index = (preferred + attempt) % servers.len();
            outcome = ask(servers[index], key).await;
            if let Ok(response) = &outcome
                && ![Rcode::ServFail, Rcode::Refused, Rcode::NotImp].contains(&response.rcode)
            {
                self.preferred.store(index, Ordering::Relaxed);
                self.cache().put(key.clone(), response, Instant::now());
                break;
            }
        }
        outcome.map_err(|last| UpstreamError::NoAnswer { servers, last })
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut configuration = self.configuration();
        let now = Instant::now();
        if !self.path.as_os_str().is_empty() && now.duration_since(configuration.checked) >= RECHECK {
            configuration.checked = now;
            if modified(&self.path) != configuration.modified {
                *configuration = read(&self.path, &self.own);
            }
        }
        configuration.servers.clone()
    }

    fn configuration(&self) -> MutexGuard<'_, Configuration> {
        self.configuration.lock().expect("no code panics while it holds this lock")
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect("no code panics while it holds this lock")
    }
}

/// A file without a time counts as unchanged until it has one.
fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// A file that can't be read names no server; that is told when one is needed.
fn read(path: &Path, own: &HashSet<IpAddr>) -> Configuration {
    let modified = modified(path);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let servers = ResolvConf::parse(&text).servers.into_iter().filter(|server| !own.contains(server));
    let servers = servers.map(|server| SocketAddr::new(server, 53)).collect();
    Configuration { servers, checked: Instant::now(), modified }
}

async fn ask(server: SocketAddr, key: &Key) -> io::Result<Response> {
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::empty())?;
    let id = u16::from_ne_bytes(id);
    let query = Query::upstream(id, key.question.clone(), key.dnssec_ok, key.checking_disabled).encode();
    let expected = |message: &[u8]| {
        let answer = UpstreamResponse::decode(message).ok()?;
        (answer.id == id && answer.question == key.question).then_some(answer)
    };
    let answer = timeout(PATIENCE, over_udp(server, &query, expected)).await??;
    if !answer.truncated {
        return Ok(answer.response);
    }
    let message = timeout(PATIENCE, over_tcp(server, &query)).await??;
    let answer = expected(&message).ok_or(io::ErrorKind::InvalidData)?;
    Ok(answer.response)
}

/// Each query has a socket of its own, so that its port is another thing which a forger has to guess.
async fn over_udp(
    server: SocketAddr,
    query: &[u8],
    expected: impl Fn(&[u8]) -> Option<UpstreamResponse>,
) -> io::Result<UpstreamResponse> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut message = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut message).await?;
        if let Some(answer) = expected(&message[..length]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, query).await?;
    read_message(&mut stream).await
}

/// Writes a message as it goes over TCP: after its length.
pub(crate) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}

/// Reads a message that comes over TCP.
pub(crate) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// What an answer to `question` depends on.
pub(crate) fn key(question: Question, query: &Query) -> Key {
    let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
    Key { question, dnssec_ok, checking_disabled: query.checking_disabled }
}

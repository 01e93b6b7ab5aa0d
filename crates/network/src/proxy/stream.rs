//! TCP: accepts, connects onwards, copies.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// What is read at once in each direction, in bytes; each connection has two such buffers.
const BUFFER: usize = 16 * 1024;
/// How long after the last byte the kernel asks whether the other side still exists.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long accepting rests when the process or the machine is out of something.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Where the connections of a listener lead.
pub trait Connect: Send + Sync + 'static {
    /// A connection for the client at `peer`.
    fn connect(&self, peer: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

/// How many connections there may be at once: of one listener, and of several together.
#[derive(Debug)]
pub(crate) struct Permits {
    own: Arc<Semaphore>,
    shared: Option<Arc<Semaphore>>,
}

/// Leave for one connection.
struct Permit {
    _own: OwnedSemaphorePermit,
    _shared: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// At most `own` connections of one listener, which count among those of others if there is something to share.
    pub(crate) fn new(own: usize, shared: Option<Arc<Semaphore>>) -> Self {
        Self { own: Arc::new(Semaphore::new(own)), shared }
    }

    /// Waits for the listener's own first: whoever has too many takes none of what others may have.
    async fn acquire(&self) -> Permit {
        const OPEN: &str = "the semaphore is never closed";
        let own = self.own.clone().acquire_owned().await.expect(OPEN);
        let shared = match self.shared.clone() {
            Some(shared) => Some(shared.acquire_owned().await.expect(OPEN)),
            None => None,
        };
        Permit { _own: own, _shared: shared }
    }
}

/// Serves until dropped; then every connection is closed. While no permit is free one more client is
/// accepted, and the others wait in the kernel's queue.
pub(crate) async fn serve<C: Connect>(listener: TcpListener, connect: C, permits: Permits) {
    let connect = Arc::new(connect);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, peer)) => {
                    let permit = permits.acquire().await;
                    connections.spawn(relay(client, peer, connect.clone(), permit));
                }
                Err(error) => rest_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn rest_after(error: &io::Error) {
    // The client gave up before it was accepted; there is nothing to wait for.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    tracing::warn!(%error, "no connection can be accepted");
    tokio::time::sleep(EXHAUSTED).await;
}

async fn relay<C: Connect>(mut client: TcpStream, peer: SocketAddr, connect: Arc<C>, _permit: Permit) {
    let outcome = async {
        let mut onwards = connect.connect(peer).await?;
        prepare(&client)?;
        prepare(&onwards)?;
        let copied = copy_bidirectional_with_sizes(&mut client, &mut onwards, BUFFER, BUFFER).await;
        if copied.is_err() {
            onwards.set_zero_linger()?;
        }
        copied
    };
    if let Err(error) = outcome.await {
        tracing::debug!(%peer, %error, "a proxied connection broke");
        // Closing then resets the connection, as the other side did or would have done.
        if let Err(error) = client.set_zero_linger() {
            tracing::debug!(%peer, %error, "a proxied connection is closed instead of reset");
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    Ok(())
}

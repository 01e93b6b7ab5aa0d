//! A port of the node's namespace whose connections lead somewhere else: pods' way to the API server when
//! that listens in the host's namespace only.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

pub use crate::proxy::stream::Connect;
use crate::proxy::stream::serve;

/// A running forward; dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct Forward {
    address: Option<SocketAddr>,
    _task: AbortOnDropHandle<()>,
}

impl Forward {
    /// Joins each connection to one that `connect` makes; at most `max_connections` at once.
    pub fn start(listener: TcpListener, connect: impl Connect, max_connections: usize) -> Self {
        let address = listener.local_addr().ok();
        let permits = Arc::new(Semaphore::new(max_connections));
        Self { address, _task: AbortOnDropHandle::new(tokio::spawn(serve(listener, connect, permits))) }
    }

    /// Where it listens, if the kernel says.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

//! A port of the node's namespace whose connections lead somewhere else: pods' way to the API server when
//! that listens in the host's namespace only.

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub use crate::proxy::stream::Connect;
use crate::proxy::stream::{Permits, serve};

/// A running forward; dropping it closes the listener and every connection soon, [`Forward::stop`] before it
/// returns.
#[derive(Debug)]
pub struct Forward {
    task: AbortOnDropHandle<()>,
}

impl Forward {
    /// Joins each connection to one that `connect` makes; at most `max_connections` at once.
    pub fn start(listener: TcpListener, connect: impl Connect, max_connections: usize) -> Self {
        let permits = Permits::new(max_connections, None);
        Self { task: AbortOnDropHandle::new(tokio::spawn(serve(listener, connect, permits))) }
    }

    /// Ends it; when this returns the address is free.
    pub async fn stop(self) {
        self.task.abort();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(%error, "a forward's task panicked");
        }
    }
}

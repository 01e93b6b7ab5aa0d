//! The way to a node's agent, for logs, exec, attach and port-forward.
//!
//! The server speaks HTTP/1.1 over a stream that somebody else opens: in one process it is a pipe in memory, for a node
//! that joined it is a TLS connection. Upgraded connections are passed through byte by byte.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection to an agent.
pub trait NodeStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> NodeStream for T {}

/// The future of a connection.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn NodeStream>>> + Send + 'a>>;

/// Opens connections to agents.
pub trait NodeConnector: Send + Sync {
    /// Connects to the agent of the node `name`.
    fn connect<'a>(&'a self, name: &'a str) -> Connecting<'a>;
}

/// No node can be reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNodes;

impl NodeConnector for NoNodes {
    fn connect<'a>(&'a self, name: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            Err(io::Error::new(io::ErrorKind::NotConnected, format!("node {name:?} is not known here")))
        })
    }
}

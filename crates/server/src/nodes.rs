//! The way to a node's agent, for logs, exec, attach and port-forward.
//!
//! The server speaks HTTP/1.1 over a stream that somebody else opens: in one process it is a pipe in memory, for a node
//! that joined it is a TLS connection. Upgraded connections are passed through byte by byte. Pods and services are
//! dialled the same way, inside of the nodes' network.

use std::io;
use std::net::{IpAddr, SocketAddr};
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

    /// Connects to a pod or a service.
    fn dial(&self, address: SocketAddr) -> Connecting<'_> {
        Box::pin(async move {
            let text = format!("no node is here by which {address} could be reached");
            Err(io::Error::new(io::ErrorKind::NotConnected, text))
        })
    }

    /// Whether an address is one of the cluster's pods or services, which only [`NodeConnector::dial`] reaches.
    fn holds(&self, _: IpAddr) -> bool {
        false
    }
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

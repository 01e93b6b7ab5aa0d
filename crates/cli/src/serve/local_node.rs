//! The way from the API server to the node in the same process: a pipe in memory to its agent, and sockets inside of its
//! network namespace to pods and services.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use xebec_network::cidr::Cidr;
use xebec_network::netns::Netns;
use xebec_node::streams::AgentService;
use xebec_server::nodes::{Connecting, NodeConnector, NodeStream};

/// How much a pipe holds, in bytes.
const PIPE: usize = 64 * 1024;
/// How long a pod or service may take to answer a connection.
const DIAL: Duration = Duration::from_secs(10);

/// Connects to the node, once there is one.
#[derive(Default)]
pub(crate) struct LocalNode {
    agent: OnceLock<(String, AgentService)>,
    network: OnceLock<PodNetwork>,
    tasks: TaskTracker,
}

/// The network that pods and services are in.
pub(crate) struct PodNetwork {
    /// Where they are dialled from.
    pub(crate) netns: Netns,
    /// Their addresses.
    pub(crate) ranges: [Cidr; 2],
}

impl LocalNode {
    /// From now on the node `name` is reached.
    pub(crate) fn set(&self, name: String, agent: AgentService) {
        assert!(self.agent.set((name, agent)).is_ok(), "there is one node, which starts once");
    }

    /// From now on pods and services are reached.
    pub(crate) fn opens(&self, network: PodNetwork) {
        assert!(self.network.set(network).is_ok(), "there is one node, which starts once");
    }
}

impl NodeConnector for LocalNode {
    fn connect<'a>(&'a self, name: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let known = self.agent.get().filter(|(known, _)| known == name);
            let Some((_, agent)) = known.cloned() else {
                let text = format!("node {name:?} is not known here");
                return Err(io::Error::new(io::ErrorKind::NotConnected, text));
            };
            let (server, node) = tokio::io::duplex(PIPE);
            self.tasks.spawn(async move {
                if let Err(error) = agent.serve(node).await {
                    tracing::debug!(%error, "a connection to the node's agent ended early");
                }
            });
            Ok(Box::new(server) as Box<dyn NodeStream>)
        })
    }

    fn dial(&self, address: SocketAddr) -> Connecting<'_> {
        Box::pin(async move {
            let Some(network) = self.network.get() else {
                let text = "the pods' network is not up yet";
                return Err(io::Error::new(io::ErrorKind::NotConnected, text));
            };
            let stream = network.netns.tcp_connect(address, DIAL).await.map_err(io::Error::other)?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn NodeStream>)
        })
    }

    fn holds(&self, ip: IpAddr) -> bool {
        self.network.get().is_some_and(|network| network.ranges.iter().any(|range| range.contains(ip)))
    }
}

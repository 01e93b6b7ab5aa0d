//! The way from the API server to the node's agent in the same process: a pipe in memory.

use std::io;
use std::sync::OnceLock;

use tokio_util::task::TaskTracker;
use xebec_node::streams::AgentService;
use xebec_server::nodes::{Connecting, NodeConnector, NodeStream};

/// How much a pipe holds, in bytes.
const PIPE: usize = 64 * 1024;

/// Connects to the agent, once there is one.
#[derive(Default)]
pub(crate) struct LocalNode {
    agent: OnceLock<(String, AgentService)>,
    tasks: TaskTracker,
}

impl LocalNode {
    /// From now on the node `name` is reached.
    pub(crate) fn set(&self, name: String, agent: AgentService) {
        assert!(self.agent.set((name, agent)).is_ok(), "there is one node, which starts once");
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
}

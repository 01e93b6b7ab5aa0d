//! The cluster as the scheduler counts it. Changed in place by each event, never rebuilt.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use xebec_controllers::runtime::object::Uid;

use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Nodes with the pods that run on them or are about to.
#[derive(Debug, Default)]
pub struct ClusterSnapshot {
    nodes: Vec<NodeInfo>,
    /// The place of each node in `nodes`.
    places: HashMap<Arc<str>, usize>,
    /// What is known of nodes that have pods and are not there themselves.
    absent: HashMap<Arc<str>, NodeInfo>,
    /// The node on which each pod is counted.
    pods: HashMap<Uid, Arc<str>>,
}

/// What an update of a node came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeUpdate {
    /// It is new.
    Added,
    /// It has changed in something that pods look at.
    Changed,
    /// Nothing that matters.
    Same,
}

impl ClusterSnapshot {
    /// The nodes, in no particular order.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.places.get(name).map(|at| &self.nodes[*at])
    }

    /// The place of a node in [`ClusterSnapshot::nodes`].
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The node on which a pod is counted.
    pub fn node_of(&self, uid: &Uid) -> Option<&str> {
        self.pods.get(uid).map(|node| &**node)
    }

    /// Takes in what a node says of itself.
    pub fn set_node(&mut self, node: &Node) -> NodeUpdate {
        let name = node.metadata.name.as_deref().unwrap_or("");
        if let Some(at) = self.places.get(name) {
            let info = &mut self.nodes[*at];
            let before = facts(info);
            info.describe(node);
            return if before == facts(info) { NodeUpdate::Same } else { NodeUpdate::Changed };
        }
        let mut info = self.absent.remove(name).unwrap_or_else(|| NodeInfo::named(name));
        info.describe(node);
        self.places.insert(Arc::clone(&info.name), self.nodes.len());
        self.nodes.push(info);
        NodeUpdate::Added
    }

    /// Takes out a node. Its pods stay counted should it come back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.places.remove(name) else { return };
        let info = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.places.insert(Arc::clone(&moved.name), at);
        }
        if !info.pods.is_empty() {
            self.absent.insert(Arc::clone(&info.name), info);
        }
    }

    /// Counts a pod on a node, and nowhere else.
    pub fn place_pod(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        let info = match self.places.get(node) {
            Some(at) => &mut self.nodes[*at],
            None => self.absent.entry(node.into()).or_insert_with(|| NodeInfo::named(node)),
        };
        self.pods.insert(pod.uid.clone(), Arc::clone(&info.name));
        info.add(pod);
    }

    /// No longer counts a pod; gives the node, when it is there, that has room again.
    pub fn remove_pod(&mut self, uid: &Uid) -> Option<&NodeInfo> {
        let node = self.pods.remove(uid)?;
        if let Some(at) = self.places.get(&node) {
            let info = &mut self.nodes[*at];
            info.remove(uid);
            return Some(info);
        }
        if let Some(info) = self.absent.get_mut(&node) {
            info.remove(uid);
            if info.pods.is_empty() {
                self.absent.remove(&node);
            }
        }
        None
    }
}

/// What pods look at.
fn facts(info: &NodeInfo) -> impl PartialEq + use<> {
    let NodeInfo { labels, unschedulable, repelling, allocatable, max_pods, .. } = info;
    (labels.clone(), *unschedulable, repelling.clone(), allocatable.clone(), *max_pods)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::raw_node;
    use crate::tests::pod_info;
    use serde_json::json;

    fn node(name: &str) -> Node {
        raw_node(name, json!({}), json!({}), json!({}))
    }

    fn used(snapshot: &ClusterSnapshot, name: &str) -> (crate::resources::Amount, usize, usize) {
        snapshot
            .node(name)
            .map_or((-1, 0, 0), |node| (node.requested.milli_cpu, node.pods.len(), node.ports.len()))
    }

    #[test]
    fn pods_are_counted_once_wherever_they_are() {
        let mut snapshot = ClusterSnapshot::default();
        let pod = pod_info("a", json!({"requests": {"cpu": "500m"}, "hostPort": 80}), json!({}));
        assert_eq!(snapshot.set_node(&node("n1")), NodeUpdate::Added);
        assert_eq!(snapshot.set_node(&node("n1")), NodeUpdate::Same);
        snapshot.place_pod(Arc::clone(&pod), "n1");
        snapshot.place_pod(Arc::clone(&pod), "n1");
        assert_eq!(used(&snapshot, "n1"), (500, 1, 1));
        snapshot.place_pod(Arc::clone(&pod), "n2");
        assert_eq!(used(&snapshot, "n1"), (0, 0, 0));
        assert_eq!(snapshot.set_node(&node("n2")), NodeUpdate::Added);
        assert_eq!(used(&snapshot, "n2"), (500, 1, 1), "a pod may be known before its node");
        snapshot.remove_node("n2");
        assert_eq!(snapshot.node_of(&pod.uid), Some("n2"));
        snapshot.set_node(&node("n2"));
        assert_eq!(used(&snapshot, "n2"), (500, 1, 1), "and after it");
        assert!(snapshot.remove_pod(&pod.uid).is_some());
        assert!(snapshot.remove_pod(&pod.uid).is_none());
        assert_eq!(used(&snapshot, "n2"), (0, 0, 0));
    }

    #[test]
    fn removing_a_node_keeps_the_others_in_place() {
        let mut snapshot = ClusterSnapshot::default();
        for name in ["n1", "n2", "n3"] {
            snapshot.set_node(&node(name));
        }
        snapshot.remove_node("n1");
        for name in ["n2", "n3"] {
            let at = snapshot.place(name).unwrap();
            assert_eq!(&*snapshot.nodes()[at].name, name);
        }
        assert_eq!((snapshot.nodes().len(), snapshot.place("n1")), (2, None));
    }

    #[test]
    fn only_what_pods_look_at_is_a_change() {
        let mut snapshot = ClusterSnapshot::default();
        snapshot.set_node(&node("n1"));
        let heartbeat = raw_node("n1", json!({"annotations": {"x": "y"}}), json!({}), json!({}));
        assert_eq!(snapshot.set_node(&heartbeat), NodeUpdate::Same);
        let cordoned = raw_node("n1", json!({}), json!({"unschedulable": true}), json!({}));
        assert_eq!(snapshot.set_node(&cordoned), NodeUpdate::Changed);
    }
}

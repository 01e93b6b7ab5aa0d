//! Nodes as the scheduler sees them: what they have, what is taken.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use xebec_controllers::runtime::object::{Labels, Uid};

use crate::pod::{HostPort, PodInfo};
use crate::quantity::units;
use crate::resources::{Resources, Weight};

/// What the scheduler knows of a node.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Its taints that keep pods away.
    pub repelling: Box<[Taint]>,
    /// Its taints that make it less liked.
    pub disliked: Box<[Taint]>,
    /// What pods may use.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub max_pods: i64,
    /// What its pods have asked for.
    pub requested: Resources,
    /// What its pods weigh.
    pub weight: Weight,
    /// The ports that its pods have taken.
    pub ports: Vec<HostPort>,
    /// Its pods, those that are only assumed here included.
    pub pods: HashMap<Uid, Arc<PodInfo>>,
}

impl NodeInfo {
    /// A node of which nothing is known but its name.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            labels: Labels::default(),
            unschedulable: false,
            repelling: Box::default(),
            disliked: Box::default(),
            allocatable: Resources::default(),
            max_pods: 0,
            requested: Resources::default(),
            weight: Weight::default(),
            ports: Vec::new(),
            pods: HashMap::new(),
        }
    }

    /// Takes over what the node says of itself; what its pods take stays.
    pub(crate) fn describe(&mut self, node: &Node) {
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let taints: Vec<Taint> = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let (disliked, repelling): (Vec<_>, Vec<_>) =
            taints.into_iter().partition(|taint| taint.effect == "PreferNoSchedule");
        self.labels = Labels::of(&node.metadata);
        self.unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        self.repelling = repelling.into();
        self.disliked = disliked.into();
        self.allocatable = Resources::read(allocatable);
        self.max_pods = allocatable.and_then(|all| units(&all.get("pods")?.0)).unwrap_or(0);
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    pub(crate) fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests.asked);
        self.weight.add(pod.requests.weight);
        self.ports.extend(pod.host_ports.iter().cloned());
        if let Some(replaced) = self.pods.insert(pod.uid.clone(), pod) {
            self.release(&replaced);
        }
    }

    pub(crate) fn remove(&mut self, uid: &Uid) {
        if let Some(pod) = self.pods.remove(uid) {
            self.release(&pod);
        }
    }

    fn release(&mut self, pod: &PodInfo) {
        self.requested.subtract(&pod.requests.asked);
        self.weight.subtract(pod.requests.weight);
        for port in &pod.host_ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A node with room for 110 pods, 4 cores and 8 GiB, unless `status` says otherwise.
    pub(crate) fn node(name: &str, metadata: Value, spec: Value, status: Value) -> NodeInfo {
        let mut info = NodeInfo::named(name);
        info.describe(&raw_node(name, metadata, spec, status));
        info
    }

    pub(crate) fn raw_node(name: &str, mut metadata: Value, spec: Value, mut status: Value) -> Node {
        metadata["name"] = json!(name);
        if status.get("allocatable").is_none() {
            status["allocatable"] = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        }
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }
}

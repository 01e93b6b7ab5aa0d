//! Nodes that take no pods, and pods that name their node.

use super::taints::tolerates;
use super::{FilterFn, final_rejection};
use crate::framework::{ClusterEvent, Cycle, Hint, PreFilter, PreFilterVerdict};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use k8s_openapi::api::core::v1::Taint;

/// Keeps pods off nodes with `spec.unschedulable`, unless they tolerate it.
pub(super) struct NodeUnschedulable;

const UNSCHEDULABLE: &str = "node(s) were unschedulable";

impl NodeUnschedulable {
    fn tolerates(pod: &PodInfo) -> bool {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        tolerates(&pod.tolerations, &taint)
    }
}

impl PreFilter for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn pre_filter<'a>(&'a self, cycle: &Cycle<'a>) -> PreFilterVerdict<'a> {
        if Self::tolerates(cycle.pod) {
            return PreFilterVerdict::Skip;
        }
        PreFilterVerdict::Filter(Box::new(FilterFn(|node: &NodeInfo| {
            if node.unschedulable { Err(final_rejection(self.name(), UNSCHEDULABLE)) } else { Ok(()) }
        })))
    }

    fn hint(&self, _: &PodInfo, event: &ClusterEvent<'_>) -> Hint {
        event.node().is_some_and(|node| !node.unschedulable).into()
    }
}

/// Keeps a pod that names its node to that node.
pub(super) struct NodeName;

const OTHER_NAME: &str = "node(s) didn't match the requested node name";

impl PreFilter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn pre_filter<'a>(&'a self, cycle: &Cycle<'a>) -> PreFilterVerdict<'a> {
        let Some(wanted) = cycle.pod.node.as_deref() else { return PreFilterVerdict::Skip };
        PreFilterVerdict::Filter(Box::new(FilterFn(move |node: &NodeInfo| {
            if *node.name == *wanted { Ok(()) } else { Err(final_rejection(self.name(), OTHER_NAME)) }
        })))
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> Hint {
        event.node().is_some_and(|node| pod.node.as_deref() == Some(&*node.name)).into()
    }
}

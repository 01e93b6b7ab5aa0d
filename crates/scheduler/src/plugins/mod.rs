//! The plugins of the default profile.
//!
//! Names, reasons and weights are those of Kubernetes 1.36.

mod binder;
mod fit;
mod node_affinity;
mod node_ports;
mod placement;
mod queueing;
mod taints;

use crate::framework::{Filter, Profile, Reasons, Rejection};
use crate::node::NodeInfo;
use crate::pod::DEFAULT_SCHEDULER;

/// The profile of pods that name no scheduler.
pub fn default_profile() -> Profile {
    Profile {
        scheduler: DEFAULT_SCHEDULER.into(),
        pre_enqueue: vec![Box::new(queueing::SchedulingGates)],
        queue_sort: Box::new(queueing::PrioritySort),
        filters: vec![
            Box::new(placement::NodeUnschedulable),
            Box::new(placement::NodeName),
            Box::new(taints::TaintToleration),
            Box::new(node_affinity::NodeAffinity),
            Box::new(node_ports::NodePorts),
            Box::new(fit::NodeResourcesFit),
        ],
        post_filters: Vec::new(),
        scores: vec![
            (Box::new(taints::TaintToleration), 3),
            (Box::new(node_affinity::NodeAffinity), 2),
            (Box::new(fit::NodeResourcesFit), 1),
            (Box::new(fit::NodeResourcesBalancedAllocation), 1),
        ],
        reserve: Vec::new(),
        permit: Vec::new(),
        bind: Box::new(binder::DefaultBinder),
    }
}

/// A rejection that no eviction can cure.
fn final_rejection(plugin: &'static str, reason: &'static str) -> Rejection {
    Rejection { plugin, reasons: Reasons::One(reason.into()), preemptible: false }
}

/// A filter from a function.
struct FilterFn<F>(F);

impl<F: Fn(&NodeInfo) -> Result<(), Rejection>> Filter for FilterFn<F> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        (self.0)(node)
    }
}

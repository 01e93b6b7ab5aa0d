//! Ports of the node that pods take for themselves.

use super::FilterFn;
use crate::framework::{ClusterEvent, Cycle, Hint, PreFilter, PreFilterVerdict, Reasons, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Keeps pods off nodes where a port of theirs is taken.
pub(super) struct NodePorts;

const NAME: &str = "NodePorts";
const TAKEN: &str = "node(s) didn't have free ports for the requested pod ports";

fn check(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let taken = pod.host_ports.iter().any(|port| node.ports.iter().any(|other| port.conflicts(other)));
    if taken {
        return Err(Rejection { plugin: NAME, reasons: Reasons::One(TAKEN.into()), preemptible: true });
    }
    Ok(())
}

impl PreFilter for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, cycle: &Cycle<'a>) -> PreFilterVerdict<'a> {
        let pod = cycle.pod;
        if pod.host_ports.is_empty() {
            return PreFilterVerdict::Skip;
        }
        PreFilterVerdict::Filter(Box::new(FilterFn(move |node: &NodeInfo| check(pod, node))))
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> Hint {
        match event {
            ClusterEvent::NodeAdded(_) => Hint::Queue,
            ClusterEvent::NodeChanged(_) => Hint::Skip,
            ClusterEvent::PodGone(gone, node) => {
                let freed =
                    |port| gone.host_ports.iter().any(|other: &crate::pod::HostPort| other.conflicts(port));
                (pod.host_ports.iter().any(freed) && check(pod, node).is_ok()).into()
            }
        }
    }
}

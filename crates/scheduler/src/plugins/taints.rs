//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Taint, Toleration};
use xebec_controllers::node::taints::tolerates as tolerates_one;

use super::{FilterFn, final_rejection};
use crate::framework::{
    ClusterEvent, Cycle, Hint, MAX_SCORE, PreFilter, PreFilterVerdict, PreScore, Rejection, Score,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Keeps pods off nodes with taints that they do not tolerate, and prefers nodes that want them.
pub(super) struct TaintToleration;

const NAME: &str = "TaintToleration";
const UNTOLERATED: &str = "node(s) had untolerated taint(s)";

/// Whether any of `tolerations` is about `taint`.
pub(super) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates_one(toleration, taint))
}

fn check(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let tolerated = node.repelling.iter().all(|taint| tolerates(&pod.tolerations, taint));
    if tolerated { Ok(()) } else { Err(final_rejection(NAME, UNTOLERATED)) }
}

impl PreFilter for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, cycle: &Cycle<'a>) -> PreFilterVerdict<'a> {
        let pod = cycle.pod;
        PreFilterVerdict::Filter(Box::new(FilterFn(move |node: &NodeInfo| check(pod, node))))
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> Hint {
        event.node().is_some_and(|node| check(pod, node).is_ok()).into()
    }
}

/// Counts the taints for which a node would rather not have the pod.
struct Dislikes<'a>(&'a PodInfo);

impl PreScore for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_score<'a>(&'a self, cycle: &Cycle<'a>) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Dislikes(cycle.pod)))
    }
}

impl Score for Dislikes<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let disliked = node.disliked.iter().filter(|taint| !tolerates(&self.0.tolerations, taint)).count();
        i64::try_from(disliked).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        let most = scores.iter().copied().max().unwrap_or(0);
        for score in scores {
            *score = if most == 0 { MAX_SCORE } else { MAX_SCORE - *score * MAX_SCORE / most };
        }
    }
}

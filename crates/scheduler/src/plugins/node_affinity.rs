//! `spec.nodeSelector` and `spec.affinity.nodeAffinity`.

use super::{FilterFn, final_rejection};
use crate::framework::{ClusterEvent, Cycle, Hint, MAX_SCORE, PreFilter, PreFilterVerdict, PreScore, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Keeps pods to the nodes that they select, and prefers those that they prefer.
pub(super) struct NodeAffinity;

const NAME: &str = "NodeAffinity";
const NO_MATCH: &str = "node(s) didn't match Pod's node affinity/selector";

impl PreFilter for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, cycle: &Cycle<'a>) -> PreFilterVerdict<'a> {
        let selector = &cycle.pod.selector;
        if selector.is_empty() {
            return PreFilterVerdict::Skip;
        }
        let filter = Box::new(FilterFn(move |node: &NodeInfo| {
            if selector.matches(node) { Ok(()) } else { Err(final_rejection(NAME, NO_MATCH)) }
        }));
        let named = selector.named_nodes();
        match named {
            Some(names) if names.iter().any(|name| cycle.snapshot.node(name).is_some()) => {
                PreFilterVerdict::Only(names, filter)
            }
            // With none of them there, every node gets the reason.
            Some(_) | None => PreFilterVerdict::Filter(filter),
        }
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> Hint {
        event.node().is_some_and(|node| pod.selector.matches(node)).into()
    }
}

struct Preferred<'a>(&'a PodInfo);

impl PreScore for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_score<'a>(&'a self, cycle: &Cycle<'a>) -> Option<Box<dyn Score + 'a>> {
        (!cycle.pod.preferences.is_empty()).then(|| Box::new(Preferred(cycle.pod)) as Box<dyn Score>)
    }
}

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let matching = self.0.preferences.iter().filter(|preference| preference.matches(node));
        matching.map(|preference| preference.weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let most = scores.iter().copied().max().unwrap_or(0);
        if most > 0 {
            scores.iter_mut().for_each(|score| *score = *score * MAX_SCORE / most);
        }
    }
}

//! Whether a node has room, and how evenly it is used.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::FilterFn;
use crate::framework::{
    ClusterEvent, Cycle, Hint, MAX_SCORE, PreFilter, PreFilterVerdict, PreScore, Reasons, Rejection, Score,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::Amount;

/// Keeps pods off nodes without room for them, and prefers nodes with much left.
pub(super) struct NodeResourcesFit;

/// Prefers nodes whose CPU and memory are used alike.
pub(super) struct NodeResourcesBalancedAllocation;

const FIT: &str = "NodeResourcesFit";

fn check(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let (asked, has, used) = (&pod.requests.asked, &node.allocatable, &node.requested);
    let lacks = |asked: Amount, has: Amount, used: Amount| asked > 0 && asked > has - used;
    let full = i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.max_pods;
    let cpu = lacks(asked.milli_cpu, has.milli_cpu, used.milli_cpu);
    let memory = lacks(asked.memory, has.memory, used.memory);
    let storage = lacks(asked.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage);
    let amount = |of: &BTreeMap<Box<str>, Amount>, name: &str| of.get(name).copied().unwrap_or(0);
    let scalars = asked
        .scalar
        .iter()
        .filter(|(name, asked)| lacks(**asked, amount(&has.scalar, name), amount(&used.scalar, name)));
    if !(full || cpu || memory || storage) && scalars.clone().next().is_none() {
        return Ok(());
    }
    let known = [
        (full, "Too many pods"),
        (cpu, "Insufficient cpu"),
        (memory, "Insufficient memory"),
        (storage, "Insufficient ephemeral-storage"),
    ];
    let known = known.into_iter().filter(|(lacking, _)| *lacking).map(|(_, reason)| Cow::Borrowed(reason));
    let mut reasons: Vec<Cow<'static, str>> = known.collect();
    reasons.extend(scalars.map(|(name, _)| Cow::Owned(format!("Insufficient {name}"))));
    // Evicting pods helps only if the node is large enough at all.
    let preemptible = !(lacks(asked.milli_cpu, has.milli_cpu, 0)
        || lacks(asked.memory, has.memory, 0)
        || lacks(asked.ephemeral_storage, has.ephemeral_storage, 0));
    let reasons = if reasons.len() == 1 { Reasons::One(reasons.remove(0)) } else { Reasons::Many(reasons) };
    Err(Rejection { plugin: FIT, reasons, preemptible })
}

impl PreFilter for NodeResourcesFit {
    fn name(&self) -> &'static str {
        FIT
    }

    fn pre_filter<'a>(&'a self, cycle: &Cycle<'a>) -> PreFilterVerdict<'a> {
        let pod = cycle.pod;
        PreFilterVerdict::Filter(Box::new(FilterFn(move |node: &NodeInfo| check(pod, node))))
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> Hint {
        let node = match event {
            ClusterEvent::NodeAdded(node)
            | ClusterEvent::NodeChanged(node)
            | ClusterEvent::PodGone(_, node) => node,
        };
        check(pod, node).is_ok().into()
    }
}

struct LeastAllocated<'a>(&'a PodInfo);

impl PreScore for NodeResourcesFit {
    fn name(&self) -> &'static str {
        FIT
    }

    fn pre_score<'a>(&'a self, cycle: &Cycle<'a>) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(LeastAllocated(cycle.pod)))
    }
}

impl Score for LeastAllocated<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let weight = self.0.requests.weight;
        let cpu = free_share(node.allocatable.milli_cpu, node.weight.milli_cpu + weight.milli_cpu);
        let memory = free_share(node.allocatable.memory, node.weight.memory + weight.memory);
        i64::midpoint(cpu, memory)
    }
}

/// The share of `has` that is not used, of [`MAX_SCORE`].
fn free_share(has: Amount, used: Amount) -> i64 {
    if has <= 0 {
        return 0;
    }
    share_of(MAX_SCORE, has - used, has)
}

/// `part / whole` of `full`, between none and all of it. `whole` is above zero.
fn share_of(full: i64, part: Amount, whole: Amount) -> i64 {
    let full = Amount::from(full);
    i64::try_from((part.saturating_mul(full) / whole).clamp(0, full)).expect("it is at most `full`")
}

struct Balanced<'a>(&'a PodInfo);

impl PreScore for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn pre_score<'a>(&'a self, cycle: &Cycle<'a>) -> Option<Box<dyn Score + 'a>> {
        // A pod that asks for nothing makes no node more even.
        let asked = &cycle.pod.requests.asked;
        (asked.milli_cpu > 0 || asked.memory > 0).then(|| Box::new(Balanced(cycle.pod)) as Box<dyn Score>)
    }
}

impl Score for Balanced<'_> {
    /// How much more even the pod makes the node: 75 for no difference, more for better, less for worse.
    fn score(&self, node: &NodeInfo) -> i64 {
        let asked = &self.0.requests.asked;
        let (cpu, memory) = (node.requested.milli_cpu, node.requested.memory);
        let without = evenness(node, cpu, memory);
        let with = evenness(node, cpu + asked.milli_cpu, memory + asked.memory);
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    }
}

/// From half of the highest score to all of it, the more alike the shares of CPU and memory are that are in use.
fn evenness(node: &NodeInfo, milli_cpu: Amount, memory: Amount) -> i64 {
    const WHOLE: i64 = 1_000_000;
    let share = |has: Amount, used: Amount| (has > 0).then(|| share_of(WHOLE, used, has));
    let shares = (share(node.allocatable.milli_cpu, milli_cpu), share(node.allocatable.memory, memory));
    let (Some(cpu), Some(memory)) = shares else { return MAX_SCORE };
    // The standard deviation of two values is half their distance.
    MAX_SCORE - (cpu - memory).abs() * MAX_SCORE / (2 * WHOLE)
}

//! The decision: which node for this pod, or why none. Pure: the same pod in the same cluster gets the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::framework::{Cycle, Filter, PreFilterVerdict, Profile, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::ClusterSnapshot;

/// Enough nodes to choose from, however large the cluster is.
const LEAST_CHOICE: usize = 100;

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The node.
    pub node: Arc<str>,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them would have done.
    pub feasible: usize,
}

/// Why a pod cannot be scheduled now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// What is wrong with each.
    pub rejections: Vec<(Arc<str>, Rejection)>,
    /// What is wrong with all of them.
    pub everywhere: Option<Rejection>,
    /// What making room came to.
    pub post_filter: Option<String>,
}

impl Unschedulable {
    /// The plugins whose mind has to change.
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        let each = self.rejections.iter().map(|(_, rejection)| rejection);
        each.chain(&self.everywhere).map(|rejection| rejection.plugin).collect()
    }
}

impl fmt::Display for Unschedulable {
    /// As `kubectl describe` shows it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        let mut texts: Vec<String> = match &self.everywhere {
            Some(rejection) => rejection.reasons.iter().map(str::to_owned).collect(),
            None => {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                for reason in self.rejections.iter().flat_map(|(_, rejection)| rejection.reasons.iter()) {
                    *counts.entry(reason).or_insert(0) += 1;
                }
                counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect()
            }
        };
        texts.sort();
        write!(f, "{}.", texts.join(", "))?;
        match &self.post_filter {
            Some(text) => write!(f, " {text}"),
            None => Ok(()),
        }
    }
}

/// Chooses a node for `pod`. Where several are best the pod's uid decides, so that equal pods spread.
pub fn schedule(
    snapshot: &ClusterSnapshot,
    pod: &PodInfo,
    profile: &Profile,
) -> Result<Decision, Unschedulable> {
    let cycle = Cycle { pod, snapshot };
    let nodes = snapshot.nodes();
    let (filters, only) = match prepare(&cycle, profile) {
        Ok(prepared) => prepared,
        Err(rejection) => {
            let everywhere = Some(rejection);
            return Err(Unschedulable { nodes: nodes.len(), everywhere, ..Unschedulable::default() });
        }
    };
    let lot = lot(pod);
    let candidates: Vec<usize> = match only {
        Some(names) => names.into_iter().filter_map(|name| snapshot.place(name)).collect(),
        None => rotated(nodes.len(), lot).collect(),
    };
    let enough = enough(candidates.len());
    let mut feasible = Vec::with_capacity(enough);
    let mut rejections = Vec::new();
    for at in candidates {
        let node = &nodes[at];
        match filters.iter().try_for_each(|filter| filter.filter(node)) {
            Ok(()) => feasible.push(at),
            Err(rejection) => rejections.push((Arc::clone(&node.name), rejection)),
        }
        if feasible.len() == enough {
            break;
        }
    }
    let evaluated = feasible.len() + rejections.len();
    let best = match feasible.as_slice() {
        [] => {
            let unschedulable = Unschedulable { nodes: nodes.len(), rejections, ..Unschedulable::default() };
            return Err(make_room(&cycle, profile, unschedulable));
        }
        [only] => *only,
        several => best(&cycle, profile, several, lot),
    };
    Ok(Decision { node: Arc::clone(&nodes[best].name), evaluated, feasible: feasible.len() })
}

type Prepared<'a> = (Vec<Box<dyn Filter + 'a>>, Option<Vec<&'a str>>);

fn prepare<'a>(cycle: &Cycle<'a>, profile: &'a Profile) -> Result<Prepared<'a>, Rejection> {
    let mut filters = Vec::with_capacity(profile.filters.len());
    let mut only: Option<Vec<&str>> = None;
    for plugin in &profile.filters {
        match plugin.pre_filter(cycle) {
            PreFilterVerdict::Skip => {}
            PreFilterVerdict::Filter(filter) => filters.push(filter),
            PreFilterVerdict::Only(names, filter) => {
                filters.push(filter);
                only = Some(match only {
                    Some(earlier) => earlier.into_iter().filter(|name| names.contains(name)).collect(),
                    None => names,
                });
            }
            PreFilterVerdict::Reject(rejection) => return Err(rejection),
        }
    }
    Ok((filters, only))
}

fn make_room(cycle: &Cycle<'_>, profile: &Profile, mut unschedulable: Unschedulable) -> Unschedulable {
    let mut plugins = profile.post_filters.iter();
    unschedulable.post_filter =
        plugins.find_map(|plugin| plugin.post_filter(cycle, &unschedulable.rejections));
    unschedulable
}

fn best(cycle: &Cycle<'_>, profile: &Profile, feasible: &[usize], lot: u64) -> usize {
    let nodes = cycle.snapshot.nodes();
    let mut totals = vec![0_i64; feasible.len()];
    let mut scores = vec![0_i64; feasible.len()];
    for (plugin, weight) in &profile.scores {
        let Some(scorer) = plugin.pre_score(cycle) else { continue };
        for (score, at) in scores.iter_mut().zip(feasible) {
            *score = scorer.score(&nodes[*at]);
        }
        scorer.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * weight;
        }
    }
    let most = totals.iter().copied().max().unwrap_or(0);
    let best: Vec<usize> =
        totals.iter().zip(feasible).filter(|(total, _)| **total == most).map(|(_, at)| *at).collect();
    best[draw(lot, best.len())]
}

/// Every place once, beginning with one that the pod draws: so that not always the same nodes are looked at first.
fn rotated(count: usize, lot: u64) -> impl Iterator<Item = usize> {
    let start = draw(lot, count);
    (start..count).chain(0..start)
}

fn draw(lot: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(1).max(1);
    usize::try_from(lot % count).unwrap_or(0)
}

/// How many nodes that would do are enough: all of a hundred, fewer of many, as Kubernetes does by default.
fn enough(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(LEAST_CHOICE).min(nodes)
}

/// FNV-1a of the uid.
fn lot(pod: &PodInfo) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = pod.uid.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    // The low bits of FNV depend on the last bytes most; the remainder is taken of these.
    mixed ^ (mixed >> 32)
}

/// Runs every filter of a profile on one node: what [`schedule`] does, without stopping at the first that rejects.
pub fn explain(
    snapshot: &ClusterSnapshot,
    pod: &PodInfo,
    profile: &Profile,
    node: &NodeInfo,
) -> Vec<Rejection> {
    match prepare(&Cycle { pod, snapshot }, profile) {
        Ok((filters, _)) => filters.iter().filter_map(|filter| filter.filter(node).err()).collect(),
        Err(rejection) => vec![rejection],
    }
}

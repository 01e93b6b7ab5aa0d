//! Whether a node lives: heartbeats, conditions, and how many nodes may be given up at a time. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::runtime::clock::api_time;
use crate::runtime::object::Revision;

/// How long a node may be silent.
pub const GRACE: Duration = Duration::from_secs(50);
/// How long a new node may take to say its first word.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);

const REGION_LABEL: &str = "topology.kubernetes.io/region";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// What a node that is silent no longer vouches for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The last sign of life of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it was seen.
    pub at: Instant,
    /// The newest renewal of the lease.
    pub renewed: Option<Renewal>,
    /// The newest heartbeat in the status, by the node's clock.
    pub reported: Option<Timestamp>,
}

/// A renewal of a node's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// That of the lease, which tells older ones from newer.
    pub revision: Revision,
    /// By the node's clock, which tells renewals from other changes.
    pub time: MicroTime,
}

impl Renewal {
    /// The renewal that a lease shows.
    pub fn of(lease: &Lease) -> Option<Self> {
        let time = lease.spec.as_ref()?.renew_time.clone()?;
        Some(Self { revision: Revision::of(&lease.metadata), time })
    }

    fn is_newer(&self, than: &Self) -> bool {
        self.revision > than.revision && self.time != than.time
    }
}

impl Seen {
    /// Takes in what there is of a node; moves `at` only for a new sign of life.
    pub fn update(&mut self, renewed: Option<&Renewal>, reported: Option<Timestamp>, now: Instant) {
        let newer_lease =
            renewed.is_some_and(|renewed| self.renewed.as_ref().is_none_or(|known| renewed.is_newer(known)));
        let newer_report = reported.is_some() && reported != self.reported;
        if newer_lease {
            self.renewed = renewed.cloned();
        }
        if newer_report {
            self.reported = reported;
        }
        if newer_lease || newer_report {
            self.at = now;
        }
    }
}

/// The newest heartbeat in a node's status.
pub fn last_report(node: &Node) -> Option<Timestamp> {
    conditions(node).filter_map(|condition| condition.last_heartbeat_time.as_ref()).map(|time| time.0).max()
}

fn conditions(node: &Node) -> impl Iterator<Item = &NodeCondition> {
    node.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

/// The status of a condition.
pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a str> {
    conditions(node).find(|condition| condition.type_ == type_).map(|condition| condition.status.as_str())
}

/// How long a node may be silent until it counts as lost.
pub fn grace(node: &Node) -> Duration {
    if condition(node, "Ready").is_some() { GRACE } else { STARTUP_GRACE }
}

/// The conditions that a silent node gets; those that are `Unknown` already are left out.
pub fn unknown_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let unknown = |type_: &&str| {
        let standing = conditions(node).find(|condition| condition.type_ == **type_);
        let (reason, message) = match standing {
            None => ("NodeStatusNeverUpdated", "The node has never reported its status."),
            Some(_) => ("NodeStatusUnknown", "The node has stopped reporting its status."),
        };
        let is_known = standing.is_none_or(|condition| condition.status != "Unknown");
        is_known.then(|| NodeCondition {
            type_: (*type_).to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: standing.and_then(|condition| condition.last_heartbeat_time.clone()),
            last_transition_time: Some(api_time(now)),
        })
    };
    VOUCHED.iter().filter_map(unknown).collect()
}

/// The zone in which a node fails together with others.
pub fn zone(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let (region, zone) = (label(REGION_LABEL).unwrap_or_default(), label(ZONE_LABEL).unwrap_or_default());
    format!("{region}/{zone}")
}

/// How fast nodes may be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// One node after another, with this time between.
    Every(Duration),
    /// Not at all, for now.
    Never,
}

const NORMAL: Pace = Pace::Every(Duration::from_secs(10));
const SLOW: Pace = Pace::Every(Duration::from_secs(100));
/// From how many nodes a zone that is partly down is still worth a slow eviction.
const LARGE_ZONE: usize = 51;

/// The pace in `zone`, given the zone of every node and whether it is ready. `None` when every node is lost: then
/// the fault is more likely ours, and nothing is evicted anywhere.
pub fn pace<'a>(zone: &str, nodes: impl IntoIterator<Item = (&'a str, bool)>) -> Option<Pace> {
    let mut zones: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (zone, ready) in nodes {
        let (up, down) = zones.entry(zone).or_default();
        *(if ready { up } else { down }) += 1;
    }
    if zones.values().all(|(up, _)| *up == 0) {
        return None;
    }
    let (up, down) = zones.get(zone).copied().unwrap_or_default();
    // Of a zone in which more than half is down something else than its nodes is broken.
    let is_partly_down = up > 0 && down > 2 && down * 100 >= (up + down) * 55;
    Some(match is_partly_down {
        false => NORMAL,
        true if up + down >= LARGE_ZONE => SLOW,
        true => Pace::Never,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "cases read better as literals")]
    fn node(conditions: Value) -> Node {
        let created = at(-500).to_string();
        let node = json!({"metadata": {"name": "n", "creationTimestamp": created}, "status": {"conditions": conditions}});
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn only_new_signs_of_life_count() {
        let start = Instant::now();
        let after = |second| start + Duration::from_secs(second);
        let mut seen = Seen { at: start, renewed: None, reported: None };
        let lease =
            |(revision, second)| Renewal { revision: Revision(revision), time: MicroTime(at(second)) };
        let mut step = |renewed: Option<(u64, i64)>, reported: Option<i64>, now, expected| {
            seen.update(renewed.map(lease).as_ref(), reported.map(at), after(now));
            assert_eq!(seen.at, after(expected), "at {now}");
        };
        step(None, None, 5, 0);
        step(Some((1, 900)), None, 10, 10);
        step(Some((1, 900)), None, 20, 10);
        step(Some((1, 900)), Some(-77), 30, 30);
        step(None, Some(-77), 40, 30);
        step(Some((3, 901)), Some(-77), 50, 50);
        // A cache that lags behind what the server said.
        step(Some((1, 900)), Some(-77), 60, 50);
        // Somebody else's change of the lease.
        step(Some((4, 901)), Some(-77), 70, 50);
        // The node's clock was set back.
        step(Some((5, 100)), Some(-77), 80, 80);
    }

    #[test]
    fn silence_becomes_unknown() {
        let reporting = node(
            json!([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "Unknown"}]),
        );
        assert_eq!(grace(&reporting), GRACE);
        let unknown = unknown_conditions(&reporting, at(50));
        let described: Vec<_> =
            unknown.iter().map(|c| (c.type_.as_str(), c.reason.as_deref().unwrap())).collect();
        assert_eq!(
            described,
            [
                ("Ready", "NodeStatusUnknown"),
                ("DiskPressure", "NodeStatusNeverUpdated"),
                ("PIDPressure", "NodeStatusNeverUpdated")
            ]
        );
        let mute = node(json!(null));
        assert_eq!(grace(&mute), STARTUP_GRACE);
        assert_eq!(unknown_conditions(&mute, at(60)).len(), 4);
    }

    #[test]
    fn a_broken_zone_is_not_emptied() {
        let check = |zones: &[(&str, usize, usize)], expected: Option<Pace>| {
            let nodes = zones.iter().flat_map(|(zone, up, down)| {
                let up = std::iter::repeat_n((*zone, true), *up);
                up.chain(std::iter::repeat_n((*zone, false), *down))
            });
            assert_eq!(pace("a", nodes), expected, "{zones:?}");
        };
        check(&[("a", 0, 1)], None);
        check(&[("a", 0, 9), ("b", 0, 1)], None);
        check(&[("a", 0, 9), ("b", 1, 0)], Some(NORMAL));
        check(&[("a", 1, 1)], Some(NORMAL));
        check(&[("a", 1, 2)], Some(NORMAL));
        check(&[("a", 2, 3)], Some(Pace::Never));
        check(&[("a", 4, 3)], Some(NORMAL));
        check(&[("a", 20, 40)], Some(SLOW));
    }
}

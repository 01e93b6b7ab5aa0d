//! The taints that follow from a node's conditions, and what pods make of taints. Pure.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use k8s_openapi::jiff::Timestamp;

use super::health::condition;
use crate::pod::PodRecord;
use crate::runtime::clock::{after, api_time};
use crate::runtime::object::{ObjectKey, Uid};

/// On nodes that say they are not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// On nodes that say nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Keeps new pods away.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Drives pods out.
pub const NO_EXECUTE: &str = "NoExecute";

const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Ready.
    Ready,
    /// Says that it is not ready, or has not said yet.
    NotReady,
    /// Has fallen silent.
    Lost,
}

/// How a node stands by its condition `Ready`.
pub fn standing(node: &Node) -> Standing {
    match condition(node, "Ready") {
        Some("True") => Standing::Ready,
        Some("Unknown") => Standing::Lost,
        Some(_) | None => Standing::NotReady,
    }
}

/// Whether pods are to be driven out of a node that is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveOut {
    /// Yes, now.
    Yes,
    /// Not now; a taint that stands stays.
    Wait,
    /// No, and a taint that stands goes.
    No,
}

/// The taints that a node should have; `None` when it has just these. Taints of others are kept as they are.
pub fn desired(node: &Node, drive_out: DriveOut, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let present: Vec<Taint> = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted = Vec::new();
    let has =
        |key: &str, effect: &str| present.iter().any(|taint| taint.key == key && taint.effect == effect);
    let key = match standing(node) {
        Standing::Ready => None,
        Standing::NotReady => Some(NOT_READY),
        Standing::Lost => Some(UNREACHABLE),
    };
    if let Some(key) = key {
        wanted.push((key, NO_SCHEDULE));
        let was_driven_out = has(NOT_READY, NO_EXECUTE) || has(UNREACHABLE, NO_EXECUTE);
        if drive_out == DriveOut::Yes || (drive_out == DriveOut::Wait && was_driven_out) {
            wanted.push((key, NO_EXECUTE));
        }
    }
    let pressures = PRESSURES.iter().filter(|(type_, _)| condition(node, type_) == Some("True"));
    wanted.extend(pressures.map(|(_, key)| (*key, NO_SCHEDULE)));
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let mut taints: Vec<_> = present
        .iter()
        .filter(|taint| !is_managed(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted.into_iter().filter(|(key, effect)| !has(key, effect)) {
        taints.push(Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            time_added: Some(api_time(now)),
            value: None,
        });
    }
    (taints != present).then_some(taints)
}

fn is_managed(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    let by_standing = key == NOT_READY || key == UNREACHABLE;
    let by_condition = key == UNSCHEDULABLE || PRESSURES.iter().any(|(_, managed)| *managed == key);
    by_standing || (by_condition && taint.effect == NO_SCHEDULE)
}

/// Whether a toleration is about a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.as_deref().unwrap_or("").to_owned();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let is_exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && is_exists))
        && (is_exists || text(&toleration.value) == text(&taint.value))
}

/// The taints of a node that drive pods out.
pub fn driving(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

/// When a pod with `tolerations` has to leave a node whose taints drive it out since the times given with them; `None`
/// when it may stay for ever.
pub fn leave_at(
    tolerations: &[Toleration],
    driving: &[(Timestamp, Taint)],
    now: Timestamp,
) -> Option<Timestamp> {
    let times = driving.iter().filter_map(|(since, taint)| {
        let matching: Vec<_> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Some(now);
        }
        let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
        Some(after(*since, Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
    });
    times.min()
}

/// Taints that drive a pod out, and since when.
pub type Driving = Vec<(Timestamp, Taint)>;

/// When taints that do not say when they were added were first seen over each pod. Bounded by the pods that there are.
#[derive(Debug, Default)]
pub struct Sightings(HashMap<ObjectKey, (Uid, Driving)>);

impl Sightings {
    /// Since when each of `driving` has been driving `pod` out: since it was added, or since it was first seen here; not
    /// from before the pod was there.
    pub fn since(&mut self, pod: &PodRecord, driving: Vec<Taint>, now: Timestamp) -> Driving {
        let remembered = self.0.remove(&pod.key).filter(|(uid, _)| *uid == pod.uid);
        let known = remembered.map(|(_, known)| known).unwrap_or_default();
        let first_seen =
            |taint: &Taint| known.iter().find(|(_, known)| known == taint).map_or(now, |(since, _)| *since);
        let since = |taint: &Taint| match &taint.time_added {
            Some(added) => pod.created.map_or(added.0, |created| created.max(added.0)),
            None => first_seen(taint),
        };
        let all: Vec<_> = driving.into_iter().map(|taint| (since(&taint), taint)).collect();
        let untimed: Vec<_> = all.iter().filter(|(_, taint)| taint.time_added.is_none()).cloned().collect();
        if !untimed.is_empty() {
            self.0.insert(pod.key.clone(), (pod.uid.clone(), untimed));
        }
        all
    }

    /// Forgets what no longer stands over a pod: should it come back, its time begins anew.
    pub fn keep_only(&mut self, pod: &ObjectKey, driving: &[Taint]) {
        if let Some((_, known)) = self.0.get_mut(pod) {
            known.retain(|(_, taint)| driving.contains(taint));
            if known.is_empty() {
                self.0.remove(pod);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn short(taints: &[Taint]) -> Vec<String> {
        taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect))
            .collect()
    }

    #[test]
    fn taints_follow_conditions() {
        let check = |ready: Value, spec: Value, drive_out, expected: Option<&[&str]>| {
            let node = json!({"metadata": {}, "spec": spec,
                "status": {"conditions": [{"type": "Ready", "status": ready}, {"type": "DiskPressure", "status": "False"}]}});
            let parsed: Node = serde_json::from_value(node.clone()).unwrap();
            let taints = desired(&parsed, drive_out, now()).map(|taints| short(&taints));
            assert_eq!(
                taints,
                expected.map(|all| all.iter().map(|t| (*t).to_owned()).collect()),
                "{node} {drive_out:?}"
            );
        };
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
        let with = |taints: Value| json!({ "taints": taints });
        let (yes, wait, no) = (DriveOut::Yes, DriveOut::Wait, DriveOut::No);
        check(json!("True"), json!({}), yes, None);
        check(json!("Unknown"), json!({}), wait, Some(&["unreachable:NoSchedule"]));
        check(json!("Unknown"), json!({}), yes, Some(&["unreachable:NoSchedule", "unreachable:NoExecute"]));
        check(json!("False"), json!({}), yes, Some(&["not-ready:NoSchedule", "not-ready:NoExecute"]));
        check(json!("True"), json!({"unschedulable": true}), no, Some(&["unschedulable:NoSchedule"]));
        let lost = || {
            with(json!([
                taint(UNREACHABLE, NO_SCHEDULE),
                taint(UNREACHABLE, NO_EXECUTE),
                taint("own", NO_EXECUTE)
            ]))
        };
        check(json!("Unknown"), lost(), wait, None);
        check(json!("Unknown"), lost(), no, Some(&["unreachable:NoSchedule", "own:NoExecute"]));
        check(json!("True"), lost(), no, Some(&["own:NoExecute"]));
        check(
            json!("False"),
            lost(),
            wait,
            Some(&["own:NoExecute", "not-ready:NoSchedule", "not-ready:NoExecute"]),
        );
    }

    #[test]
    fn pods_leave_when_their_patience_ends() {
        let check = |tolerations: Value, taints: Value, expected: Option<i64>| {
            let tolerations_: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
            let taints_: Vec<Taint> = serde_json::from_value(taints.clone()).unwrap();
            let node: Node =
                serde_json::from_value(json!({"metadata": {}, "spec": {"taints": taints_}})).unwrap();
            let since = Sightings::default().since(&PodRecord::of(&Pod::default()), driving(&node), now());
            let leaves = leave_at(&tolerations_, &since, now()).map(|at| at.as_second() - 1_000_000);
            assert_eq!(leaves, expected, "{tolerations} {taints}");
        };
        let added = Timestamp::from_second(1_000_000 - 100).unwrap().to_string();
        let taint = || json!({"key": "a", "value": "v", "effect": "NoExecute", "timeAdded": added});
        let soft = || json!({"key": "b", "effect": "NoSchedule"});
        check(json!([]), json!([]), None);
        check(json!([]), json!([soft()]), None);
        check(json!([]), json!([taint()]), Some(0));
        check(json!([{"operator": "Exists"}]), json!([taint()]), None);
        check(
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]),
            json!([taint()]),
            Some(200),
        );
        check(json!([{"key": "a", "value": "v", "tolerationSeconds": 30}]), json!([taint()]), Some(-70));
        check(json!([{"key": "a", "value": "w"}]), json!([taint()]), Some(0));
        check(json!([{"key": "a", "value": "v", "effect": "NoSchedule"}]), json!([taint()]), Some(0));
        let two =
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}, {"operator": "Exists"}]);
        check(two, json!([taint()]), Some(200));
        check(json!([{"key": "a", "value": "v", "tolerationSeconds": -5}]), json!([taint()]), Some(-100));
    }

    #[test]
    fn a_taint_counts_from_when_it_was_first_seen_over_a_pod() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let pod = |uid: &str, created: i64| {
            let mut pod = PodRecord::of(&Pod::default());
            (pod.uid, pod.created) = (Uid::new(uid), Some(at(created)));
            pod
        };
        let taint = |key: &str, added: Option<i64>| Taint {
            key: key.to_owned(),
            effect: NO_EXECUTE.to_owned(),
            time_added: added.map(|second| api_time(at(second))),
            value: None,
        };
        let mut sightings = Sightings::default();
        let mut check = |pod: &PodRecord, taints: &[Taint], second: i64, expected: &[i64]| {
            let since = sightings.since(pod, taints.to_vec(), at(second));
            let since: Vec<_> = since.iter().map(|(since, _)| since.as_second() - 1_000_000).collect();
            assert_eq!(since, expected, "{taints:?} at {second}");
        };
        let first = pod("1", 0);
        check(&first, &[taint("a", None)], 10, &[10]);
        check(&first, &[taint("a", None), taint("b", None)], 70, &[10, 70]);
        check(&first, &[taint("b", None), taint("c", Some(50))], 90, &[70, 50]);
        check(&first, &[taint("a", None)], 95, &[95]);
        let second = pod("2", 100);
        check(&second, &[taint("a", None), taint("c", Some(50))], 101, &[101, 100]);
        sightings.keep_only(&second.key, &[taint("b", None)]);
        assert!(sightings.0.is_empty(), "nothing is kept for a pod over which no such taint stands");
    }
}

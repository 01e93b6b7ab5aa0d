//! What the status of a budget should be. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::deployment::limits::{Round, scaled};
use crate::pod::PodRecord;
use crate::runtime::clock::{after, api_time, until};
use crate::runtime::selector::Selector;

/// How long an evicted pod may take to show that it goes.
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
/// The condition that says whether a pod may be evicted.
const ALLOWED: &str = "DisruptionAllowed";

/// What a budget's status should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The status.
    pub status: PodDisruptionBudgetStatus,
    /// When an evicted pod counts again, if it has not gone by then.
    pub look_again: Option<Duration>,
}

/// Which pods the budget covers; `None`: it covers none, because it has no selector or one that cannot be used.
pub fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    let selector = budget.spec.as_ref()?.selector.as_ref()?;
    Selector::compile(selector).ok()
}

/// Whether the budget is about how many pods their owners want, and not about how many there are.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let percent = |value: &IntOrString| matches!(value, IntOrString::String(_));
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || spec.min_available.as_ref().is_some_and(percent)
    })
}

/// The status of a budget that covers `pods`, whose owners want `scale` of them; an `Err` says why that is not known.
pub fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<PodRecord>],
    scale: Result<i32, String>,
    now: Timestamp,
) -> Plan {
    let last = budget.status.clone().unwrap_or_default();
    let scale = match scale {
        Ok(scale) => scale,
        Err(why) => return Plan { status: unknown(last, why, now), look_again: None },
    };
    let (expected, desired) = expected(budget, i32::try_from(pods.len()).unwrap_or(i32::MAX), scale);
    let (disrupted, look_again) = disrupted(&last, pods, now);
    let healthy = pods
        .iter()
        .filter(|pod| pod.deleting.is_none() && pod.ready.is_true && !disrupted.contains_key(pod.key.name()));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    // Without pods nothing is allowed: the first ones may come before the status is written again.
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let generation = budget.metadata.generation;
    let (status, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let condition = condition(status, reason, String::new(), generation, now);
    let status = PodDisruptionBudgetStatus {
        conditions: Some(with_condition(last.conditions.unwrap_or_default(), condition)),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: generation,
    };
    Plan { status, look_again }
}

/// How many pods there should be, and how many of them must stay healthy.
fn expected(budget: &PodDisruptionBudget, pods: i32, scale: i32) -> (i32, i32) {
    let spec = budget.spec.as_ref();
    let max_unavailable = spec.and_then(|spec| spec.max_unavailable.as_ref());
    let min_available = spec.and_then(|spec| spec.min_available.as_ref());
    match (max_unavailable, min_available) {
        (Some(max), _) => (scale, (scale - scaled(Some(max), scale, Round::Up)).max(0)),
        (None, Some(IntOrString::Int(min))) => (pods, *min),
        (None, Some(min)) => (scale, scaled(Some(min), scale, Round::Up)),
        (None, None) => (0, 0),
    }
}

/// The evicted pods that have not gone yet and still have time to, and when the first of them has none left.
fn disrupted(
    last: &PodDisruptionBudgetStatus,
    pods: &[Arc<PodRecord>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut waiting = BTreeMap::new();
    let mut look_again: Option<Duration> = None;
    for pod in pods.iter().filter(|pod| pod.deleting.is_none()) {
        let Some((name, evicted)) =
            last.disrupted_pods.iter().flatten().find(|(name, _)| *name == pod.key.name())
        else {
            continue;
        };
        let end = after(evicted.0, DELETION_TIMEOUT);
        if end < now {
            continue;
        }
        let left = until(now, end);
        look_again = Some(look_again.map_or(left, |first| first.min(left)));
        waiting.insert(name.clone(), evicted.clone());
    }
    (waiting, look_again)
}

/// Nothing may be evicted while nobody knows how many pods there should be.
fn unknown(last: PodDisruptionBudgetStatus, why: String, now: Timestamp) -> PodDisruptionBudgetStatus {
    let condition = condition("False", "SyncFailed", why, last.observed_generation, now);
    PodDisruptionBudgetStatus {
        conditions: Some(with_condition(last.conditions.unwrap_or_default(), condition)),
        disruptions_allowed: Some(0),
        ..last
    }
}

fn condition(
    status: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: api_time(now),
    }
}

/// The conditions with this one in the place of that of its type, whose time it keeps while its status is the same.
fn with_condition(mut conditions: Vec<Condition>, mut condition: Condition) -> Vec<Condition> {
    match conditions.iter_mut().find(|standing| standing.type_ == condition.type_) {
        Some(standing) => {
            if standing.status == condition.status {
                condition.last_transition_time = standing.last_transition_time.clone();
            }
            *standing = condition;
        }
        None => conditions.push(condition),
    }
    conditions
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::pod;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn budget(spec: &Value, status: &Value) -> PodDisruptionBudget {
        let meta = json!({"name": "b", "namespace": "ns", "generation": 3});
        serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).unwrap()
    }

    /// Pods by what the last letter of their names says: `r`eady, `u`nready, `d`eleting.
    fn pods(names: &[&str]) -> Vec<Arc<PodRecord>> {
        let record = |name: &&str| {
            let mut record = PodRecord::of(&pod("ns", name));
            record.ready.is_true = !name.ends_with('u');
            record.deleting = name.ends_with('d').then(|| at(0));
            Arc::new(record)
        };
        names.iter().map(record).collect()
    }

    #[test]
    fn what_may_be_evicted_is_what_is_healthy_beyond_what_is_needed() {
        let check = |spec: Value, names: &[&str], scale: i32, expected: [i32; 4]| {
            let budget = budget(&spec, &json!(null));
            let status = plan(&budget, &pods(names), Ok(scale), at(0)).status;
            let found = [
                status.expected_pods,
                status.desired_healthy,
                status.current_healthy,
                status.disruptions_allowed,
            ];
            assert_eq!(found, expected.map(Some), "{spec} {names:?}");
            let condition = &status.conditions.unwrap()[0];
            let allowed = (condition.status.as_str(), condition.reason.as_str());
            let want =
                if expected[3] > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
            assert_eq!(allowed, want, "{spec} {names:?}");
            assert_eq!((status.observed_generation, condition.observed_generation), (Some(3), Some(3)));
        };
        let three = ["1r", "2r", "3r"];
        check(json!({"minAvailable": 2}), &three, 0, [3, 2, 3, 1]);
        check(json!({"minAvailable": 2}), &["1r", "2r", "3u", "4d"], 0, [4, 2, 2, 0]);
        check(json!({"minAvailable": "50%"}), &three, 3, [3, 2, 3, 1]);
        check(json!({"minAvailable": "0%"}), &three, 3, [3, 0, 3, 3]);
        check(json!({"maxUnavailable": 1}), &three, 3, [3, 2, 3, 1]);
        check(json!({"maxUnavailable": 1}), &three, 4, [4, 3, 3, 0]);
        check(json!({"maxUnavailable": "34%"}), &three, 3, [3, 1, 3, 2]);
        check(json!({"maxUnavailable": 5}), &three, 3, [3, 0, 3, 3]);
        check(json!({"minAvailable": 0}), &[], 0, [0, 0, 0, 0]);
        check(json!({}), &three, 3, [0, 0, 3, 0]);
    }

    #[test]
    fn an_evicted_pod_is_not_healthy_until_it_has_had_time_to_go() {
        let status = json!({
            "currentHealthy": 3, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 3,
            "disruptedPods": {"1r": "2026-01-01T00:00:00Z", "gone": "2026-01-01T00:00:00Z"},
        });
        let budget = budget(&json!({"minAvailable": 1}), &status);
        let check = |names: &[&str], now: i64, healthy: i32, waiting: &[&str], look_again: Option<u64>| {
            let Plan { status, look_again: found } = plan(&budget, &pods(names), Ok(0), at(now));
            assert_eq!(status.current_healthy, Some(healthy), "{names:?} at {now}");
            let left = status.disrupted_pods.unwrap_or_default();
            assert_eq!(left.keys().collect::<Vec<_>>(), waiting, "{names:?} at {now}");
            assert_eq!(found, look_again.map(Duration::from_secs), "{names:?} at {now}");
        };
        check(&["1r", "2r"], 20, 1, &["1r"], Some(100));
        check(&["1r", "2r"], 121, 2, &[], None);
        check(&["2r"], 20, 1, &[], None);
    }

    #[test]
    fn nothing_may_go_when_the_scale_is_unknown() {
        let status = json!({
            "currentHealthy": 3, "desiredHealthy": 1, "disruptionsAllowed": 2, "expectedPods": 3,
            "observedGeneration": 2,
            "conditions": [{"type": ALLOWED, "status": "False", "reason": "InsufficientPods", "message": "",
                            "lastTransitionTime": "2025-12-31T00:00:00Z"}],
        });
        let budget = budget(&json!({"maxUnavailable": 1}), &status);
        assert!(needs_scale(&budget));
        let status = plan(&budget, &pods(&["1r"]), Err("nobody knows".to_owned()), at(0)).status;
        assert_eq!((status.disruptions_allowed, status.current_healthy), (Some(0), Some(3)));
        let condition = &status.conditions.unwrap()[0];
        assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("SyncFailed", "nobody knows"));
        assert_eq!(condition.last_transition_time.0.to_string(), "2025-12-31T00:00:00Z");
    }

    #[test]
    fn an_empty_selector_covers_all_and_none_covers_none() {
        let check = |spec: Value, covers: Option<bool>| {
            let record = PodRecord::of(&pod("ns", "p"));
            let found = selector(&budget(&spec, &json!(null)));
            assert_eq!(found.map(|selector| selector.matches(&record.labels)), covers, "{spec}");
        };
        check(json!({"selector": {}}), Some(true));
        check(json!({"selector": {"matchLabels": {"no": "such"}}}), Some(false));
        check(json!({}), None);
        check(json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Has"}]}}), None);
    }
}

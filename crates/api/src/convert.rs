//! Between versions of a built-in kind, and between the two groups that serve events.
//!
//! Most kinds have one version. Where nothing but the name of the version differs, it is rewritten.

use crate::{Value, object};

/// There is no way between two versions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} cannot be converted from {from} to {to}")]
pub struct ConvertError {
    kind: String,
    from: String,
    to: String,
}

/// Converts an object to the version `to` (`apps/v1`).
///
/// # Errors
/// There is no way to that version.
pub fn convert(mut object: Value, kind: &str, to: &str) -> Result<Value, ConvertError> {
    let from = object.str_at(&["apiVersion"]).unwrap_or_default().to_owned();
    match (kind, from.as_str(), to) {
        ("Event", "v1", "events.k8s.io/v1") => rename(&mut object, &EVENT_FIELDS),
        ("Event", "events.k8s.io/v1", "v1") => {
            let back = EVENT_FIELDS.map(|(core, new)| (new, core));
            rename(&mut object, &back);
        }
        ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2") => autoscaler_up(&mut object),
        ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1") => autoscaler_down(&mut object),
        _ if group(&from) == group(to) => {}
        _ => return Err(ConvertError { kind: kind.into(), from, to: to.into() }),
    }
    object.set(&["apiVersion"], to);
    Ok(object)
}

fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Fields of an event: in the core group, and in events.k8s.io.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, fields: &[(&str, &str)]) {
    let map = object.make_object();
    for (from, to) in fields {
        if let Some(value) = map.remove(from) {
            map.insert(*to, value);
        }
    }
}

/// What version 1 cannot hold stands in annotations, as upstream keeps it.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

fn is_cpu(metric: &Value) -> bool {
    metric.str_at(&["type"]) == Some("Resource") && metric.str_at(&["resource", "name"]) == Some("cpu")
}

fn autoscaler_up(object: &mut Value) {
    let mut metrics = kept(object, METRICS).and_then(into_list).unwrap_or_default();
    if let Some(target) = object.remove_at(&["spec", "targetCPUUtilizationPercentage"]) {
        let cpu = object!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": (target)}
        }});
        metrics.insert(0, cpu);
    }
    if !metrics.is_empty() {
        object.set(&["spec", "metrics"], metrics);
    }
    if let Some(behavior) = kept(object, BEHAVIOR) {
        object.set(&["spec", "behavior"], behavior);
    }
    let mut current = kept(object, CURRENT).and_then(into_list).unwrap_or_default();
    if let Some(value) = object.remove_at(&["status", "currentCPUUtilizationPercentage"]) {
        let cpu = object!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": (value)}}});
        current.insert(0, cpu);
    }
    if !current.is_empty() {
        object.set(&["status", "currentMetrics"], current);
    }
    if let Some(conditions) = kept(object, CONDITIONS) {
        object.set(&["status", "conditions"], conditions);
    }
}

fn autoscaler_down(object: &mut Value) {
    let mut metrics = object.remove_at(&["spec", "metrics"]).and_then(into_list).unwrap_or_default();
    let cpu = metrics
        .iter()
        .position(|m| is_cpu(m) && m.at(&["resource", "target", "averageUtilization"]).is_some());
    if let Some(target) = cpu.map(|at| metrics.remove(at)) {
        let value = target.at(&["resource", "target", "averageUtilization"]).cloned();
        object.set(&["spec", "targetCPUUtilizationPercentage"], value);
    }
    let mut current = object.remove_at(&["status", "currentMetrics"]).and_then(into_list).unwrap_or_default();
    let cpu = current
        .iter()
        .position(|m| is_cpu(m) && m.at(&["resource", "current", "averageUtilization"]).is_some());
    if let Some(value) = cpu.map(|at| current.remove(at)) {
        let value = value.at(&["resource", "current", "averageUtilization"]).cloned();
        object.set(&["status", "currentCPUUtilizationPercentage"], value);
    }
    keep(object, METRICS, &Value::Array(metrics));
    keep(object, CURRENT, &Value::Array(current));
    let behavior = object.remove_at(&["spec", "behavior"]).unwrap_or_default();
    keep(object, BEHAVIOR, &behavior);
    let conditions = object.remove_at(&["status", "conditions"]).unwrap_or_default();
    keep(object, CONDITIONS, &conditions);
}

fn into_list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

/// Takes a value out of its annotation.
fn kept(object: &mut Value, annotation: &str) -> Option<Value> {
    let text = object.remove_at(&["metadata", "annotations", annotation])?;
    crate::json::from_slice(text.as_str()?.as_bytes()).ok()
}

fn keep(object: &mut Value, annotation: &str, value: &Value) {
    let empty = value.is_null() || value.as_array().is_some_and(<[_]>::is_empty);
    if !empty {
        let text = String::from_utf8_lossy(&crate::json::to_vec(value)).into_owned();
        object.set(&["metadata", "annotations", annotation], text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_both_ways() {
        let event = object!({"apiVersion": "v1", "kind": "Event", "message": "m", "involvedObject": {"name": "a"}, "reason": "r"});
        let new = convert(event.clone(), "Event", "events.k8s.io/v1").expect("converted");
        assert_eq!((new.str_at(&["note"]), new.str_at(&["regarding", "name"])), (Some("m"), Some("a")));
        assert_eq!(convert(new, "Event", "v1").expect("converted"), event);
    }

    #[test]
    fn autoscalers_go_both_ways() {
        let v2 = object!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"annotations": {}},
            "spec": {
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 1}},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}}}
                ]
            }
        });
        let v1 = convert(v2.clone(), "HorizontalPodAutoscaler", "autoscaling/v1").expect("converted");
        assert_eq!(v1.i64_at(&["spec", "targetCPUUtilizationPercentage"]), Some(80));
        assert_eq!(v1.at(&["spec", "metrics"]), None);
        assert_eq!(convert(v1, "HorizontalPodAutoscaler", "autoscaling/v2").expect("converted"), v2);
    }

    #[test]
    fn other_groups_are_refused() {
        let object = object!({"apiVersion": "a/v1"});
        assert!(convert(object.clone(), "X", "b/v1").is_err());
        assert_eq!(convert(object, "X", "a/v2").expect("same group").str_at(&["apiVersion"]), Some("a/v2"));
    }
}

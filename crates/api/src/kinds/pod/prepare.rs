//! What a new pod starts with.

use super::resources;
use crate::kinds::fill::each;
use crate::{Value, object};

/// Sets the status of a new pod, and writes out the label keys that its constraints only name.
pub(super) fn create(pod: &mut Value) {
    let class = resources::qos_class(pod.get("spec").unwrap_or(&Value::Null));
    let mut status = object!({"phase": "Pending", "qosClass": (class)});
    if !pod.array_at(&["spec", "schedulingGates"]).is_empty() {
        let now = pod.at(&["metadata", "creationTimestamp"]).cloned().unwrap_or_default();
        let gated = object!({
            "lastTransitionTime": (now),
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"
        });
        status.set(&["conditions"], vec![gated]);
    }
    if pod.as_object().is_some() {
        pod.set(&["status"], status);
    }
    let labels = pod.at(&["metadata", "labels"]).cloned().unwrap_or_default();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let required = format!("spec.affinity.{kind}.requiredDuringSchedulingIgnoredDuringExecution[*]");
        let preferred = format!(
            "spec.affinity.{kind}.preferredDuringSchedulingIgnoredDuringExecution[*].podAffinityTerm"
        );
        for path in [required, preferred] {
            each(pod, &path, &mut |term| {
                merge_label_keys(term, &labels, "matchLabelKeys", "In");
                merge_label_keys(term, &labels, "mismatchLabelKeys", "NotIn");
            });
        }
    }
    each(pod, "spec.topologySpreadConstraints[*]", &mut |constraint| {
        merge_label_keys(constraint, &labels, "matchLabelKeys", "In");
    });
}

/// Adds to the label selector of a term what its list of label keys means for a pod with these labels.
fn merge_label_keys(term: &mut Value, labels: &Value, list: &str, operator: &str) {
    if term.object_at(&["labelSelector"]).is_none() {
        return;
    }
    let keys: Vec<Value> = term.array_at(&[list]).to_vec();
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(value) = labels.str_at(&[key]) else { continue };
        let expression = object!({"key": (key), "operator": (operator), "values": [(value)]});
        let expressions = term.make(&["labelSelector", "matchExpressions"]);
        match expressions.as_array_mut() {
            Some(all) => all.push(expression),
            None => *expressions = vec![expression].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_pod() {
        let mut pod = object!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{}],
                "schedulingGates": [{"name": "a"}],
                "topologySpreadConstraints": [{"labelSelector": {}, "matchLabelKeys": ["app", "absent"]}]
            },
            "status": {"phase": "Running"}
        });
        create(&mut pod);
        assert_eq!(pod.str_at(&["status", "phase"]), Some("Pending"));
        assert_eq!(pod.str_at(&["status", "qosClass"]), Some("BestEffort"));
        assert_eq!(pod.array_at(&["status", "conditions"]).len(), 1);
        let constraint = &pod.array_at(&["spec", "topologySpreadConstraints"])[0];
        assert_eq!(
            constraint.at(&["labelSelector"]),
            Some(&object!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}))
        );
    }
}

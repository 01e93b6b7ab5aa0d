//! HorizontalPodAutoscalers, in both versions.

use super::Kind;
use super::fill::{Given, absent, each, fill};
use crate::{Value, meta, object};

pub(super) const HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    resource: "horizontalpodautoscalers",
    generation: false,
    unconditional_update: true,
    defaults: |object, version| {
        fill(object, &[absent("spec!.minReplicas", Given::Int(1))]);
        if version == "v1" { v1_defaults(object) } else { v2_defaults(object) }
    },
    ..Kind::DEFAULT
};

/// The share of its CPU request that a pod shall use when nothing else is said, in percent.
const CPU_UTILIZATION: i64 = 80;

/// In version 1 metrics other than CPU travel in an annotation.
fn v1_defaults(object: &mut Value) {
    if meta::annotation(object, "autoscaling.alpha.kubernetes.io/metrics").is_none() {
        fill(object, &[absent("spec.targetCPUUtilizationPercentage", Given::Int(CPU_UTILIZATION))]);
    }
}

fn v2_defaults(object: &mut Value) {
    each(object, "spec", &mut |spec| {
        if spec.as_object().is_some() && spec.array_at(&["metrics"]).is_empty() {
            let target = object!({"type": "Utilization", "averageUtilization": (CPU_UTILIZATION)});
            let metric = object!({"type": "Resource", "resource": {"name": "cpu", "target": (target)}});
            spec.set(&["metrics"], vec![metric]);
        }
        if spec.object_at(&["behavior"]).is_some() {
            let percent = object!({"type": "Percent", "value": 100, "periodSeconds": 15});
            let pods = object!({"type": "Pods", "value": 4, "periodSeconds": 15});
            let up = vec![pods, percent.clone()];
            each(spec, "behavior.scaleUp!", &mut |rules| scaling_rules(rules, &up));
            fill(spec, &[absent("behavior.scaleUp.stabilizationWindowSeconds", Given::Int(0))]);
            let down = vec![percent];
            each(spec, "behavior.scaleDown!", &mut |rules| scaling_rules(rules, &down));
        }
    });
}

fn scaling_rules(rules: &mut Value, policies: &[Value]) {
    fill(rules, &[absent("selectPolicy", Given::Text("Max"))]);
    if let Some(map) = rules.as_object_mut() {
        let current = map.entry("policies");
        if current.is_null() {
            *current = Value::Array(policies.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let mut v1 = object!({"spec": {"maxReplicas": 3}});
        (HORIZONTAL_POD_AUTOSCALER.defaults)(&mut v1, "v1");
        assert_eq!(
            v1,
            object!({"spec": {"maxReplicas": 3, "minReplicas": 1, "targetCPUUtilizationPercentage": 80}})
        );
        let mut v2 = object!({"spec": {"behavior": {"scaleDown": {"selectPolicy": "Min"}}}});
        (HORIZONTAL_POD_AUTOSCALER.defaults)(&mut v2, "v2");
        let want = object!({"spec": {
            "minReplicas": 1,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}
            }}],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                    "policies": [
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                        {"type": "Percent", "value": 100, "periodSeconds": 15}
                    ]
                },
                "scaleDown": {
                    "selectPolicy": "Min",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]
                }
            }
        }});
        assert_eq!(v2, want);
    }
}

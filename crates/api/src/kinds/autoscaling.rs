//! HorizontalPodAutoscalers, in both versions.

use super::Kind;
use super::check::{Check, filled, is_set, number, run, same, text};
use super::fill::{Given, absent, each, fill};
use super::pod::requirements::container_resource;
use crate::names::{self, Fault};
use crate::quantity::Quantity;
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
    validate: |object| run(|c| c.field(object, "spec", |c, spec| autoscaler(c, spec, None))),
    validate_update: |object, old| {
        run(|c| c.field(object, "spec", |c, spec| autoscaler(c, spec, old.get("spec"))))
    },
    validate_status: |object, _| {
        run(|c| {
            c.field(object, "status", |c, status| {
                c.non_negative(status, "currentReplicas");
                c.non_negative(status, "desiredReplicas");
            });
        })
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

const MAX_WINDOW_SECONDS: i64 = 3600;
const MAX_PERIOD_SECONDS: i64 = 1800;

fn autoscaler(c: &mut Check, spec: &Value, old: Option<&Value>) {
    let kept_zero = old.is_some_and(|old| number(old, "minReplicas") == Some(0));
    let least = i64::from(!kept_zero);
    let (min, max) = (number(spec, "minReplicas"), number(spec, "maxReplicas").unwrap_or(0));
    if min.is_some_and(|min| min < least) {
        c.at("minReplicas").invalid(min, &format!("must be greater than or equal to {least}"));
    }
    match max {
        0 => c.at("maxReplicas").required("must be set and greater than 0"),
        _ if max < 0 => c.at("maxReplicas").invalid(max, "must be greater than or equal to 1"),
        _ => {}
    }
    if min.is_some_and(|min| max < min) {
        c.at("maxReplicas").invalid(max, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef").unwrap_or(&Value::Null);
    let before = old.and_then(|old| old.get("scaleTargetRef"));
    let unchanged = |field: &str| before.is_some_and(|before| same(target.get(field), before.get(field)));
    let group = match text(target, "kind") {
        _ if unchanged("apiVersion") && unchanged("kind") => Group::Unchecked,
        "ReplicationController" => Group::MayBeEmpty,
        _ => Group::Needed,
    };
    c.within("scaleTargetRef", |c| reference(c, target, group));
    c.each(spec, "metrics", metric);
    let scales_to_zero =
        spec.array_at(&["metrics"]).iter().any(|m| matches!(text(m, "type"), "Object" | "External"));
    if min == Some(0) && !scales_to_zero {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        c.at("metrics").forbidden(detail);
    }
    c.some(spec, "behavior", |c, behavior| {
        c.some(behavior, "scaleUp", rules);
        c.some(behavior, "scaleDown", rules);
    });
}

/// Whether a reference has to name an API group.
#[derive(Clone, Copy, PartialEq)]
enum Group {
    Needed,
    MayBeEmpty,
    Unchecked,
}

fn reference(c: &mut Check, target: &Value, group: Group) {
    c.require_name(target, "kind", names::path_segment);
    c.require_name(target, "name", names::path_segment);
    let version = text(target, "apiVersion");
    let fault = match version.matches('/').count() {
        _ if group == Group::Unchecked => return,
        0 if group == Group::Needed => "apiVersion must specify API group".to_owned(),
        0 | 1 => return,
        _ => format!("unexpected GroupVersion string: {version}"),
    };
    c.at("apiVersion").invalid(version, &fault);
}

/// The kinds of metrics: type, member, rules. Upstream looks for them in this order.
const SOURCES: [(&str, &str, super::check::Rules); 5] = [
    ("Object", "object", |c, source| {
        c.field(source, "describedObject", |c, r| reference(c, r, Group::MayBeEmpty));
        named_metric(c, source);
        if !has(source, "value") && !has(source, "averageValue") {
            let detail = "must set either a target value or averageValue";
            c.at("target.averageValue").required(detail);
        }
    }),
    ("External", "external", |c, source| {
        named_metric(c, source);
        match (has(source, "value"), has(source, "averageValue")) {
            (false, false) => {
                let detail = "must set either a target value for metric or a per-pod target";
                c.at("target.averageValue").required(detail);
            }
            (true, true) => {
                let detail = "may not set both a target value for metric and a per-pod target";
                c.at("target.value").forbidden(detail);
            }
            _ => {}
        }
    }),
    ("Pods", "pods", |c, source| {
        named_metric(c, source);
        if !has(source, "averageValue") {
            c.at("target.averageValue").required("must specify a positive target averageValue");
        }
    }),
    ("Resource", "resource", |c, source| {
        if filled(source, "name").is_none() {
            c.at("name").required("must specify a resource name");
        }
        resource_target(c, source);
    }),
    ("ContainerResource", "containerResource", |c, source| {
        match filled(source, "name") {
            None => c.at("name").required("must specify a resource name"),
            Some(name) => c.within("name", |c| container_resource(c, name)),
        }
        match filled(source, "container") {
            None => c.at("container").required("must specify a container"),
            Some(name) => c.at("container").obeys(name, names::dns_label),
        }
        resource_target(c, source);
    }),
];

fn has(source: &Value, field: &str) -> bool {
    source.at(&["target", field]).is_some_and(|v| !v.is_null())
}

fn metric(c: &mut Check, metric: &Value) {
    const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let ty = text(metric, "type");
    if ty.is_empty() {
        c.at("type").required("must specify a metric source type");
    }
    c.one_of(metric, "type", &TYPES);
    let present: Vec<_> = SOURCES.iter().filter(|(_, field, _)| is_set(metric, field)).collect();
    if let Some((_, field, rules)) = present.first() {
        c.field(metric, field, rules);
    }
    let expected = SOURCES.iter().find(|(name, ..)| *name == ty).map(|(_, field, _)| *field);
    if let Some(field) = expected.filter(|field| !is_set(metric, field)) {
        c.at(field).required("must populate information for the given metric source");
    }
    if present.len() != 1 {
        for (_, field, _) in present.iter().filter(|(_, field, _)| Some(*field) != expected) {
            c.at(field).forbidden("must populate the given metric source only");
        }
    }
}

fn named_metric(c: &mut Check, source: &Value) {
    c.field(source, "metric", |c, metric| match filled(metric, "name") {
        None => c.at("name").required("must specify a metric name"),
        Some(name) => c.at("name").obeys(name, names::path_segment),
    });
    c.field(source, "target", target);
}

fn resource_target(c: &mut Check, source: &Value) {
    c.field(source, "target", target);
    match (has(source, "averageUtilization"), has(source, "averageValue")) {
        (false, false) => {
            let detail = "must set either a target raw value or a target utilization";
            c.at("target.averageUtilization").required(detail);
        }
        (true, true) => {
            let detail = "may not set both a target raw value and a target utilization";
            c.at("target.averageValue").forbidden(detail);
        }
        _ => {}
    }
}

fn target(c: &mut Check, target: &Value) {
    let ty = text(target, "type");
    if ty.is_empty() {
        c.at("type").required("must specify a metric target type");
    }
    if !matches!(ty, "Utilization" | "Value" | "AverageValue") {
        c.at("type").invalid(ty, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if let Some(amount) = target.str_at(&[field]) {
            c.at(field).obeys(amount, positive);
        }
    }
    let share = number(target, "averageUtilization");
    if share.is_some_and(|share| share < 1) {
        c.at("averageUtilization").invalid(share, "must be greater than 0");
    }
}

fn positive(text: &str) -> Result<(), Fault> {
    let ok = text.parse::<Quantity>().is_ok_and(|amount| amount.signum() > 0);
    if ok { Ok(()) } else { Err("must be positive".into()) }
}

fn rules(c: &mut Check, rules: &Value) {
    let window = number(rules, "stabilizationWindowSeconds");
    if window.is_some_and(|seconds| seconds < 0) {
        c.at("stabilizationWindowSeconds").invalid(window, "must be greater than or equal to zero");
    }
    if window.is_some_and(|seconds| seconds > MAX_WINDOW_SECONDS) {
        let detail = format!("must be less than or equal to {MAX_WINDOW_SECONDS}");
        c.at("stabilizationWindowSeconds").invalid(window, &detail);
    }
    c.one_of_if_set(rules, "selectPolicy", &["Disabled", "Max", "Min"]);
    if rules.array_at(&["policies"]).is_empty() {
        c.at("policies").required("must specify at least one Policy");
    }
    c.each(rules, "policies", |c, policy| {
        c.one_of(policy, "type", &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            let value = number(policy, field).unwrap_or(0);
            if value <= 0 {
                c.at(field).invalid(value, "must be greater than zero");
            }
        }
        let period = number(policy, "periodSeconds");
        if period.is_some_and(|seconds| seconds > MAX_PERIOD_SECONDS) {
            let detail = format!("must be less than or equal to {MAX_PERIOD_SECONDS}");
            c.at("periodSeconds").invalid(period, &detail);
        }
    });
    let tolerance = rules.str_at(&["tolerance"]);
    if tolerance.and_then(|t| t.parse::<Quantity>().ok()).is_some_and(|t| t.signum() < 0) {
        c.at("tolerance").invalid(tolerance.map(str::to_owned), super::check::NOT_NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};

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

    #[test]
    fn autoscalers() {
        let base = json(
            r#"{"spec": {"minReplicas": 1, "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}"#,
        );
        cases(&base, AUTOSCALERS, HORIZONTAL_POD_AUTOSCALER.validate);
        let old = object!({"spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {"kind": "X", "name": "x"}}});
        assert_eq!((HORIZONTAL_POD_AUTOSCALER.validate_update)(&old, &old), []);
    }

    const AUTOSCALERS: &str = r#"
spec.maxReplicas = 1

spec.maxReplicas =
! spec.maxReplicas: Required value: must be set and greater than 0
! spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`

spec.minReplicas = 0
! spec.minReplicas: Invalid value: 0: must be greater than or equal to 1
! spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas

spec.scaleTargetRef = {"apiVersion": "v1", "kind": "ReplicationController", "name": "web"}

spec.scaleTargetRef = {"apiVersion": "v1", "kind": "a/b"}
! spec.scaleTargetRef.kind: Invalid value: "a/b": may not contain '/'
! spec.scaleTargetRef.name: Required value
! spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group

spec.metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]

spec.metrics = [{"type": "x"}]
! spec.metrics[0].type: Unsupported value: "x": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"

spec.metrics = [{"type": "Resource", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}}]
! spec.metrics[0].resource: Required value: must populate information for the given metric source

spec.metrics = [{"type": "Resource", "resource": {"target": {"type": "x", "averageUtilization": 0, "averageValue": "0"}}}]
! spec.metrics[0].resource.name: Required value: must specify a resource name
! spec.metrics[0].resource.target.type: Invalid value: "x": must be either Utilization, Value, or AverageValue
! spec.metrics[0].resource.target.averageValue: Invalid value: "0": must be positive
! spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0
! spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization

spec.metrics = [{"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue"}}, "object": {
  "describedObject": {"kind": "a", "name": "b"}, "metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]
! spec.metrics[0].object: Forbidden: must populate the given metric source only

spec.metrics = [{"type": "External", "external": {"metric": {}, "target": {"type": "Value"}}}]
! spec.metrics[0].external.metric.name: Required value: must specify a metric name
! spec.metrics[0].external.target.averageValue: Required value: must set either a target value for metric or a per-pod target

spec.metrics = [{"type": "ContainerResource", "containerResource": {"name": "disk", "target": {"type": "Utilization"}}}]
! spec.metrics[0].containerResource.name: Invalid value: "disk": must be a standard resource type or fully qualified
! spec.metrics[0].containerResource.name: Invalid value: "disk": must be a standard resource for containers
! spec.metrics[0].containerResource.container: Required value: must specify a container
! spec.metrics[0].containerResource.target.averageUtilization: Required value: must set either a target raw value or a
  target utilization

spec.behavior = {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}], "tolerance": "50m"}}

spec.behavior = {"scaleDown": {"selectPolicy": "x", "stabilizationWindowSeconds": 3601, "tolerance": "-1"}}
! spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600
! spec.behavior.scaleDown.selectPolicy: Unsupported value: "x": supported values: "Disabled", "Max", "Min"
! spec.behavior.scaleDown.policies: Required value: must specify at least one Policy
! spec.behavior.scaleDown.tolerance: Invalid value: "-1": must be greater than or equal to 0

spec.behavior = {"scaleUp": {"policies": [{"type": "x", "periodSeconds": 1801}]}}
! spec.behavior.scaleUp.policies[0].type: Unsupported value: "x": supported values: "Percent", "Pods"
! spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero
! spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800
"#;
}

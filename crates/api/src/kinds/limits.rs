//! LimitRanges and ResourceQuotas.

use std::collections::{BTreeMap, BTreeSet};

use super::Kind;
use super::check::{self, Check, IMMUTABLE, text};
use super::fill::each;
use super::pod::requirements::{amount, can_overcommit, container_resource, resource_name};
use super::pod::resources::{list, round_list};
use crate::quantity::Quantity;
use crate::{Map, Value, meta, names};

pub(super) const LIMIT_RANGE: Kind = Kind {
    resource: "limitranges",
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    defaults: |object, _| each(object, "spec.limits[*]", &mut item_defaults),
    prepare_create: name_by_uid,
    validate: |object| check::run(|c| limit_range(c, object)),
    validate_update: |object, _| check::run(|c| limit_range(c, object)),
    ..Kind::DEFAULT
};

pub(super) const RESOURCE_QUOTA: Kind = Kind {
    resource: "resourcequotas",
    returned_when_deleted: true,
    generation: false,
    unconditional_update: true,
    defaults: |object, _| {
        for list in ["spec.hard", "status.hard", "status.used"] {
            each(object, list, &mut round_list);
        }
    },
    validate: |object| check::run(|c| c.field(object, "spec", quota)),
    validate_update: |object, old| {
        check::run(|c| {
            c.field(object, "spec", quota);
            let scopes = |object: &Value| -> BTreeSet<String> {
                let all = object.array_at(&["spec", "scopes"]);
                all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            if scopes(object) != scopes(old) {
                let now = object.at(&["spec", "scopes"]).cloned().unwrap_or_default();
                c.at("spec.scopes").invalid(now, IMMUTABLE);
            }
        })
    },
    validate_status: |object, _| {
        check::run(|c| {
            c.field(object, "status", |c, status| {
                quota_list(c, status, "hard");
                quota_list(c, status, "used");
            });
        })
    },
    warnings: |object, old| if old.is_none() { quota_warnings(object) } else { Vec::new() },
    ..Kind::DEFAULT
};

/// A limit range without a name gets one that nobody else has.
fn name_by_uid(range: &mut Value) {
    if meta::name(range).is_empty() {
        let uid = meta::uid(range).to_owned();
        range.set(&["metadata", "name"], uid);
    }
}

/// A container's default limit is the most that is allowed, its default request that limit, else the least.
fn item_defaults(item: &mut Value) {
    if item.str_at(&["type"]) == Some("Container") {
        for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            let given = item.object_at(&[from]).cloned().unwrap_or_default();
            let target = item.entry(to).make_object();
            for (name, amount) in given {
                if !target.contains(&name) {
                    target.insert(name, amount);
                }
            }
        }
    }
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        each(item, list, &mut round_list);
    }
}

fn limit_range(c: &mut Check, object: &Value) {
    let mut seen = BTreeSet::new();
    c.field(object, "spec", |c, spec| {
        c.each(spec, "limits", |c, item| {
            let ty = text(item, "type");
            c.at("type").obeys(ty, names::qualified);
            if !ty.contains('/') && !matches!(ty, "Pod" | "Container" | "PersistentVolumeClaim") {
                c.at("type").invalid(ty, "must be a standard limit type or fully qualified");
            }
            if !seen.insert(ty) {
                c.at("type").duplicate(ty);
            }
            item_names(c, item, ty);
            item_amounts(c, item, ty);
        });
    });
}

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn item_names(c: &mut Check, item: &Value, ty: &str) {
    for list in LISTS {
        let of_container = matches!(list, "default" | "defaultRequest");
        if ty == "Pod" && of_container {
            if item.object_at(&[list]).is_some_and(|map| !map.is_empty()) {
                c.at(list).forbidden("may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        c.entries(item, list, |c, name, _| {
            if matches!(ty, "Pod" | "Container") {
                container_resource(c, name);
            } else {
                resource_name(c, name);
            }
        });
    }
    let bounded = ["min", "max"].iter().any(|list| item.at(&[list, "storage"]).is_some());
    if ty == "PersistentVolumeClaim" && !bounded {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        c.at("limits").required(detail);
    }
}

/// Bounds and defaults do not contradict each other.
fn item_amounts(c: &mut Check, item: &Value, ty: &str) {
    let of = |name: &str| -> BTreeMap<String, Quantity> {
        let hidden = ty == "Pod" && matches!(name, "default" | "defaultRequest");
        if hidden { BTreeMap::new() } else { list(item.object_at(&[name])) }
    };
    let lists: [BTreeMap<String, Quantity>; 5] = LISTS.map(of);
    let names: BTreeSet<&String> = lists.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let [max, min, default, request, ratio] = [0, 1, 2, 3, 4].map(|i: usize| lists[i].get(name).copied());
        let above =
            |low: Option<Quantity>, high: Option<Quantity>| Some((low?, high?)).filter(|(l, h)| l > h);
        let mut report = |list: &str, shown: Quantity, detail: String| {
            c.at(list).key(name).invalid(shown.to_string(), &detail);
        };
        if let Some((min, max)) = above(min, max) {
            report("min", min, format!("min value {min} is greater than max value {max}"));
        }
        if let Some((min, request)) = above(min, request) {
            let detail = format!("min value {min} is greater than default request value {request}");
            report("defaultRequest", request, detail);
        }
        if let Some((request, max)) = above(request, max) {
            let detail = format!("default request value {request} is greater than max value {max}");
            report("defaultRequest", request, detail);
        }
        if let Some((request, default)) = above(request, default) {
            let detail =
                format!("default request value {request} is greater than default limit value {default}");
            report("defaultRequest", request, detail);
        }
        if let Some((min, default)) = above(min, default) {
            report("default", min, format!("min value {min} is greater than default value {default}"));
        }
        if let Some((default, max)) = above(default, max) {
            report("default", max, format!("default value {default} is greater than max value {max}"));
        }
        if let Some(ratio) = ratio {
            if ratio < Quantity::from_units(1) {
                report("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
            }
            if let Some(most) =
                min.zip(max).map(|(min, max)| quotient(max, min)).filter(|m| as_float(ratio) > *m)
            {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                report("maxLimitRequestRatio", ratio, detail);
            }
        }
        if let Some((default, request)) =
            default.zip(request).filter(|(d, r)| d != r && !can_overcommit(name))
        {
            let detail =
                format!("default value {default} must equal to defaultRequest value {request} in {name}");
            report("defaultRequest", request, detail);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for a comparison and a message")]
fn as_float(quantity: Quantity) -> f64 {
    quantity.millis() as f64 / 1000.0
}

fn quotient(dividend: Quantity, divisor: Quantity) -> f64 {
    as_float(dividend) / as_float(divisor)
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Names without a prefix that quotas count.
const QUOTA_NAMES: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

fn is_quota_name(name: &str) -> bool {
    let huge = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
    huge || QUOTA_NAMES.binary_search(&name).is_ok()
}

fn quota_list(c: &mut Check, object: &Value, list: &str) {
    c.entries(object, list, |c, name, value| {
        resource_name(c, name);
        if !name.contains('/') && !is_quota_name(name) {
            c.here().invalid(name, "must be a standard resource for quota");
        }
        amount(c, name, value);
    });
}

fn quota(c: &mut Check, spec: &Value) {
    quota_list(c, spec, "hard");
    let hard: Vec<&str> = spec.object_at(&["hard"]).into_iter().flat_map(Map::keys).collect();
    let all = spec.get("scopes").cloned().unwrap_or_default();
    let scopes: Vec<&str> = spec.array_at(&["scopes"]).iter().filter_map(Value::as_str).collect();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            c.at("scopes").invalid(all.clone(), "unsupported scope");
        }
        for _ in hard.iter().filter(|name| is_quota_name(name) && !is_in_scope(scope, name)) {
            c.at("scopes").invalid(all.clone(), "unsupported scope applied to resource");
        }
    }
    conflicting(c, "scopes", &scopes, &all);
    c.some(spec, "scopeSelector", |c, selector| {
        let expressions = selector.array_at(&["matchExpressions"]);
        c.within("matchExpressions", |c| {
            expressions.iter().for_each(|expression| scope_expression(c, expression, selector, &hard));
        });
        let named: Vec<&str> = expressions.iter().map(|e| text(e, "scopeName")).collect();
        conflicting(c, "matchExpressions", &named, &all);
    });
}

fn conflicting(c: &mut Check, field: &str, scopes: &[&str], all: &Value) {
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&one) && scopes.contains(&other) {
            c.at(field).invalid(all.clone(), "conflicting scopes");
        }
    }
}

fn is_in_scope(scope: &str, name: &str) -> bool {
    const COMPUTE: [&str; 6] =
        ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        "BestEffort" => name == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || COMPUTE.contains(&name),
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn scope_expression(c: &mut Check, expression: &Value, selector: &Value, hard: &[&str]) {
    let (scope, operator) = (text(expression, "scopeName"), text(expression, "operator"));
    let values = expression.array_at(&["values"]);
    if !SCOPES.contains(&scope) {
        c.at("scopeName").invalid(scope, "unsupported scope");
    }
    for _ in hard.iter().filter(|name| is_quota_name(name) && !is_in_scope(scope, name)) {
        c.here().invalid(selector.clone(), "unsupported scope applied to resource");
    }
    if !matches!(scope, "PriorityClass" | "VolumeAttributesClass")
        && SCOPES.contains(&scope)
        && operator != "Exists"
    {
        c.at("operator").invalid(
            operator,
            "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
             ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
             ResourceQuotaScopeCrossNamespacePodAffinity",
        );
    }
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            c.at("values").required(detail);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            c.at("values").invalid(values.to_vec(), detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => c.at("operator").invalid(operator, "not a valid selector operator"),
    }
}

/// Requests that are allowed beyond what limits allow make no sense.
fn quota_warnings(object: &Value) -> Vec<String> {
    let hard = list(object.object_at(&["spec", "hard"]));
    let warn = |name: &&str| {
        let limit_name = format!("limits.{name}");
        let plain = (*name).to_owned();
        let request_name = [format!("requests.{name}"), plain]
            .into_iter()
            .find(|n| hard.contains_key(n) && (n.contains('.') || *name != "ephemeral-storage"))?;
        let (request, limit) = (hard.get(&request_name)?, hard.get(&limit_name)?);
        (request > limit).then(|| {
            format!("ResourceQuota {request_name} ({request}) should be less than {limit_name} ({limit})")
        })
    };
    ["cpu", "memory", "ephemeral-storage"].iter().filter_map(warn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::cases;
    use crate::object;

    #[test]
    fn container_limits_follow_from_each_other() {
        let mut range = object!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"}},
            {"type": "Pod", "max": {"cpu": "4"}}
        ]}});
        (LIMIT_RANGE.defaults)(&mut range, "v1");
        let want = object!({"spec": {"limits": [
            {
                "type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}
            },
            {"type": "Pod", "max": {"cpu": "4"}}
        ]}});
        assert_eq!(range, want);
    }

    #[test]
    fn ranges() {
        cases(&object!({}), RANGES, LIMIT_RANGE.validate);
    }

    const RANGES: &str = r#"
spec = {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "default": {"cpu": "2"},
  "defaultRequest": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}}, {"type": "Pod", "max": {"cpu": "4"}}]}

spec = {"limits": [{"type": "x"}, {"type": "Pod"}, {"type": "Pod", "default": {"cpu": "1"}}]}
! spec.limits[0].type: Invalid value: "x": must be a standard limit type or fully qualified
! spec.limits[2].type: Duplicate value: "Pod"
! spec.limits[2].default: Forbidden: may not be specified when `type` is 'Pod'

spec = {"limits": [{"type": "PersistentVolumeClaim"}]}
! spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided

spec = {"limits": [{"type": "Container", "max": {"disk": "1"}}]}
! spec.limits[0].max[disk]: Invalid value: "disk": must be a standard resource type or fully qualified
! spec.limits[0].max[disk]: Invalid value: "disk": must be a standard resource for containers

spec = {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]}
! spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1

spec = {"limits": [{"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "3"}}]}
! spec.limits[0].defaultRequest[cpu]: Invalid value: "3": default request value 3 is greater than max value 1
! spec.limits[0].defaultRequest[cpu]: Invalid value: "3": default request value 3 is greater than default limit value 2
! spec.limits[0].default[cpu]: Invalid value: "1": default value 2 is greater than max value 1

spec = {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "3"}}]}
! spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000

spec = {"limits": [{"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}}]}
! spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1

spec = {"limits": [{"type": "Container", "default": {"a.b/c": "2"}, "defaultRequest": {"a.b/c": "1"}}]}
! spec.limits[0].defaultRequest[a.b/c]: Invalid value: "1": default value 2 must equal to defaultRequest value 1 in a.b/c
"#;

    #[test]
    fn quotas() {
        cases(&object!({}), QUOTAS, RESOURCE_QUOTA.validate);
        let old = object!({"spec": {"scopes": ["BestEffort"]}});
        cases(&old, CHANGED_QUOTAS, |object| (RESOURCE_QUOTA.validate_update)(object, &old));
        let status = object!({"status": {"used": {"cpu": "-1"}}});
        assert_eq!((RESOURCE_QUOTA.validate_status)(&status, &Value::Null).len(), 1);
        let over = object!({"spec": {"hard": {"cpu": "2", "limits.cpu": "1"}}});
        assert_eq!(
            (RESOURCE_QUOTA.warnings)(&over, None),
            ["ResourceQuota cpu (2) should be less than limits.cpu (1)"]
        );
    }

    const QUOTAS: &str = r#"
spec = {"hard": {"pods": "1", "requests.cpu": "1", "count/deployments.apps": "2", "requests.hugepages-2Mi": "2Mi"}}

spec = {"hard": {"storage": "1", "pods": "1500m"}}
! spec.hard[pods]: Invalid value: "1500m": must be an integer
! spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota

spec = {"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}
! spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes

spec = {"hard": {"cpu": "1"}, "scopes": ["BestEffort", "x"]}
! spec.scopes: Invalid value: ["BestEffort","x"]: unsupported scope applied to resource
! spec.scopes: Invalid value: ["BestEffort","x"]: unsupported scope

spec = {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions":
  [{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]}}

spec = {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"},
  {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}, {"scopeName": "x", "operator": "y"}]}}
! spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or
  'NotIn' for scope selector
! spec.scopeSelector.matchExpressions.values: Invalid value: ["a"]: must be no value when `operator` is 'Exist' or
  'DoesNotExist' for scope selector
! spec.scopeSelector.matchExpressions.scopeName: Invalid value: "x": unsupported scope
! spec.scopeSelector.matchExpressions.operator: Invalid value: "y": not a valid selector operator
"#;

    const CHANGED_QUOTAS: &str = r#"
spec.hard = {"pods": "2"}

spec.scopes = ["Terminating"]
! spec.scopes: Invalid value: ["Terminating"]: field is immutable
"#;
}

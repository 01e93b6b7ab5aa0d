//! Kinds that set bounds for others: disruption budgets, priority and runtime classes.

use super::Kind;
use super::apps::rules::{at_most_all, count_or_percent};
use super::check::{Check, is_set, is_true, number, run, text};
use super::fill::{Given, absent, fill};
use super::pod::requirements;
use super::pod::scheduling::tolerations;
use super::warnings::{node_label, warned};
use crate::{Map, Value, meta, names};

pub(super) const POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    resource: "poddisruptionbudgets",
    name: names::path_segment,
    validate: |object| run(|c| c.field(object, "spec", budget)),
    validate_update: |object, _| run(|c| c.field(object, "spec", budget)),
    validate_status: |object, _| {
        run(|c| {
            c.field(object, "status", |c, status| {
                conditions(c, status);
                for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
                    c.non_negative(status, field);
                }
            });
        })
    },
    ..Kind::DEFAULT
};

pub(super) const PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    resource: "priorityclasses",
    unconditional_update: true,
    defaults: |object, _| {
        fill(object, &[absent("preemptionPolicy", Given::Text("PreemptLowerPriority"))]);
    },
    validate: |object| run(|c| priority_class(c, object)),
    validate_update: |object, old| {
        run(|c| {
            // Upstream's words for these two are not those for other fields that stay.
            if number(object, "value") != number(old, "value") {
                c.at("value").forbidden("may not be changed in an update.");
            }
            c.immutable(object, old, "preemptionPolicy");
        })
    },
    ..Kind::DEFAULT
};

pub(super) const RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    resource: "runtimeclasses",
    generation: false,
    create_on_update: true,
    validate: |object| run(|c| runtime_class(c, object)),
    validate_update: |object, old| run(|c| c.immutable(object, old, "handler")),
    warnings: |object, _| {
        warned(|c| {
            c.some(object, "scheduling", |c, scheduling| {
                let labels = scheduling.object_at(&["nodeSelector"]).into_iter().flat_map(Map::keys);
                for message in labels.filter_map(node_label) {
                    c.at("nodeSelector").warn(message);
                }
            });
        })
    },
    ..Kind::DEFAULT
};

fn budget(c: &mut Check, spec: &Value) {
    let fields = ["minAvailable", "maxUnavailable"];
    if fields.iter().all(|field| is_set(spec, field)) {
        c.here().invalid(spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in fields {
        count_or_percent(c, spec, field);
        at_most_all(c, spec, field);
    }
    c.selector(spec, "selector");
    c.one_of_if_set(spec, "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"]);
}

/// Checks the conditions of a status (meta/v1 `Condition`).
pub(super) fn conditions(c: &mut Check, status: &Value) {
    const MAX_REASON: usize = 1024;
    const MAX_MESSAGE: usize = 32 * 1024;
    let all = status.array_at(&["conditions"]);
    for (i, condition) in all.iter().enumerate() {
        c.within("conditions", |c| {
            c.within_index(i, |c| {
                let ty = text(condition, "type");
                if all[..i].iter().any(|other| text(other, "type") == ty) {
                    c.at("type").duplicate(ty);
                }
                c.at("type").obeys(ty, names::qualified);
                c.one_of(condition, "status", &["False", "True", "Unknown"]);
                let observed = number(condition, "observedGeneration");
                if observed.is_some_and(|g| g < 0) {
                    c.at("observedGeneration").invalid(observed, "must be greater than or equal to zero");
                }
                if !is_set(condition, "lastTransitionTime") {
                    c.at("lastTransitionTime").required("");
                }
                c.require_name(condition, "reason", reason);
                for (field, max) in [("reason", MAX_REASON), ("message", MAX_MESSAGE)] {
                    if text(condition, field).len() > max {
                        c.at(field).too_long(max);
                    }
                }
            });
        });
    }
}

/// A reason: a word of letters, digits, `_`, `,` and `:`.
fn reason(text: &str) -> Result<(), names::Fault> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    let ok = text.bytes().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with([',', ':']);
    ok.then_some(()).ok_or_else(|| {
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
         characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or \
         'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
         '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
            .into()
    })
}

/// Names and values from here on are the system's.
const SYSTEM_PREFIX: &str = "system-";
const HIGHEST: i64 = 1_000_000_000;
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

fn priority_class(c: &mut Check, object: &Value) {
    let (name, value) = (meta::name(object), number(object, "value").unwrap_or(0));
    if name.starts_with(SYSTEM_PREFIX) {
        let fault = match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
            None => format!("{name} is not a known system priority class"),
            Some((_, want)) if *want != value => format!("value of {name} PriorityClass must be {want}"),
            Some(_) if is_true(object, "globalDefault") => {
                format!("globalDefault of {name} PriorityClass must be false")
            }
            Some(_) => return,
        };
        let detail = format!(
            "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {fault}"
        );
        c.at("metadata.name").forbidden(&detail);
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        c.at("value").forbidden(&detail);
    }
    if is_set(object, "preemptionPolicy") {
        c.require_one_of(object, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    }
}

fn runtime_class(c: &mut Check, object: &Value) {
    c.require_name(object, "handler", names::dns_label);
    // The costs are checked as if they were limits, and so reported.
    c.some(object, "overhead", |c, overhead| requirements::limits(c, overhead.get("podFixed")));
    c.some(object, "scheduling", |c, scheduling| {
        c.labels(scheduling, "nodeSelector");
        tolerations(c, scheduling);
        let all = scheduling.array_at(&["tolerations"]);
        let key = |t: &Value| ["key", "operator", "value", "effect"].map(|f| text(t, f).to_owned());
        for (i, toleration) in all.iter().enumerate() {
            if all[..i].iter().any(|other| key(other) == key(toleration)) {
                c.at("tolerations").index(i).duplicate(toleration.clone());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::cases;
    use crate::object;

    #[test]
    fn budgets() {
        cases(&object!({}), BUDGETS, POD_DISRUPTION_BUDGET.validate);
        cases(&object!({}), STATUSES, |object| (POD_DISRUPTION_BUDGET.validate_status)(object, &Value::Null));
    }

    const BUDGETS: &str = r#"
spec = {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}, "unhealthyPodEvictionPolicy": "AlwaysAllow"}

spec = {"minAvailable": 1, "maxUnavailable": 1}
! spec: Invalid value: {"maxUnavailable":1,"minAvailable":1}: minAvailable and maxUnavailable cannot be both set

spec = {"minAvailable": "101%"}
! spec.minAvailable: Invalid value: "101%": must not be greater than 100%

spec = {"maxUnavailable": -1, "unhealthyPodEvictionPolicy": "x"}
! spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0
! spec.unhealthyPodEvictionPolicy: Unsupported value: "x": supported values: "AlwaysAllow", "IfHealthyBudget"
"#;

    const STATUSES: &str = r#"
status = {"conditions": [{"type": "A", "status": "True", "reason": "B", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}

status = {"disruptionsAllowed": -1, "conditions": [{"type": "A", "status": "x", "observedGeneration": -1}]}
! status.conditions[0].status: Unsupported value: "x": supported values: "False", "True", "Unknown"
! status.conditions[0].observedGeneration: Invalid value: -1: must be greater than or equal to zero
! status.conditions[0].lastTransitionTime: Required value
! status.conditions[0].reason: Required value
! status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0
"#;

    #[test]
    fn priorities() {
        cases(&object!({"metadata": {"name": "high"}, "value": 1000}), PRIORITIES, PRIORITY_CLASS.validate);
        let old = object!({"value": 1, "preemptionPolicy": "Never"});
        cases(&old, CHANGED_PRIORITIES, |object| (PRIORITY_CLASS.validate_update)(object, &old));
    }

    const PRIORITIES: &str = r#"
value = 1000000000

value = 1000000001
! value: Forbidden: maximum allowed value of a user defined priority is 1000000000

metadata.name = "system-node-critical"
value = 2000001000

metadata.name = "system-x"
! metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x
  is not a known system priority class

preemptionPolicy = "x"
! preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never"
"#;

    const CHANGED_PRIORITIES: &str = r#"
description = "d"

value = 2
preemptionPolicy = "PreemptLowerPriority"
! value: Forbidden: may not be changed in an update.
! preemptionPolicy: Invalid value: "PreemptLowerPriority": field is immutable
"#;

    #[test]
    fn runtimes() {
        cases(&object!({"handler": "runc"}), RUNTIMES, RUNTIME_CLASS.validate);
        let causes = (RUNTIME_CLASS.validate_update)(&object!({"handler": "a"}), &object!({"handler": "b"}));
        assert_eq!(causes.len(), 1);
    }

    const RUNTIMES: &str = r#"
overhead = {"podFixed": {"cpu": "1"}}
scheduling = {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}

handler = "Runc"
! handler: Invalid value: "Runc": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-',
  and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is
  '[a-z0-9]([-a-z0-9]*[a-z0-9])?')

handler =
! handler: Required value

overhead = {"podFixed": {"cpu": "-1"}}
! overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0

scheduling = {"tolerations": [{"operator": "Exists"}, {"operator": "Exists", "tolerationSeconds": 1}]}
! scheduling.tolerations[1].effect: Invalid value: "": effect must be 'NoExecute' when `tolerationSeconds` is set
! scheduling.tolerations[1]: Duplicate value: {"operator":"Exists","tolerationSeconds":1}

scheduling = {"tolerations": [{"key": "a", "operator": "x"}]}
! scheduling.tolerations[0].operator: Unsupported value: "x": supported values: "Equal", "Exists"
"#;
}

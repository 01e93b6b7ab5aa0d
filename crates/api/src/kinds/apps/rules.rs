//! Rules for workloads: selectors that match their templates and stay, strategies, counts.

use crate::kinds::check::{Check, NOT_NEGATIVE, is_set, number, same, text};
use crate::kinds::pod;
use crate::kinds::syntax::percent;
use crate::selector::Selector;
use crate::{Map, Value, object};

/// Checks a specification with a selector, and the pod template that the selector has to match. `kind` names the kind
/// where a sentence does, `noun` where an empty selector is spoken of.
pub(super) fn selected(c: &mut Check, spec: &Value, kind: &str, noun: &str, strict: bool) {
    let empty = |selector: &Value| {
        selector.object_at(&["matchLabels"]).is_none_or(Map::is_empty)
            && selector.array_at(&["matchExpressions"]).is_empty()
    };
    let mut selector = None;
    match spec.get("selector").filter(|s| !s.is_null()) {
        // What is not there selects nothing.
        None if strict => {
            c.at("selector").required("");
            unmatched(c, spec);
        }
        None => unmatched(c, spec),
        Some(given) => {
            selector = c.selector(spec, "selector");
            if empty(given) {
                let detail = format!("empty selector is invalid for {noun}");
                c.at("selector").invalid(given.clone(), &detail);
            }
        }
    }
    matching(c, spec, selector.as_ref());
    c.field(spec, "template", pod::check::template);
    always_running(c, spec, kind);
}

/// The labels of the template are among those selected.
pub(in crate::kinds) fn matching(c: &mut Check, spec: &Value, selector: Option<&Selector>) {
    let labels = spec.at(&["template", "metadata", "labels"]);
    if selector.is_some_and(|s| !s.matches_labels(labels.and_then(Value::as_object))) {
        unmatched(c, spec);
    }
}

fn unmatched(c: &mut Check, spec: &Value) {
    let labels = spec.at(&["template", "metadata", "labels"]).cloned().unwrap_or_default();
    let detail = "`selector` does not match template `labels`";
    c.at("template").field("metadata").field("labels").invalid(labels, detail);
}

/// What is kept running does not end by itself.
pub(super) fn always_running(c: &mut Check, spec: &Value, kind: &str) {
    let template = spec.at(&["template", "spec"]).unwrap_or(&Value::Null);
    c.within("template.spec", |c| {
        if text(template, "restartPolicy") != "Always" {
            c.at("restartPolicy").not_supported(text(template, "restartPolicy"), &["Always"]);
        }
        if is_set(template, "activeDeadlineSeconds") {
            let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
            c.at("activeDeadlineSeconds").forbidden(&detail);
        }
    });
}

/// A count or a percentage.
pub(in crate::kinds) fn count_or_percent(c: &mut Check, object: &Value, name: &str) {
    match object.get(name) {
        Some(Value::String(text)) => c.at(name).obeys(text, percent),
        Some(value) if value.as_i64().is_some_and(|n| n < 0) => {
            c.at(name).invalid(value.clone(), NOT_NEGATIVE);
        }
        _ => {}
    }
}

/// A percentage of at most one hundred.
pub(in crate::kinds) fn at_most_all(c: &mut Check, object: &Value, name: &str) {
    if let Some(text) = object.str_at(&[name]).filter(|t| percent(t).is_ok() && amount(object, name) > 100) {
        c.at(name).invalid(text, "must not be greater than 100%");
    }
}

/// The number of a count or a percentage.
fn amount(object: &Value, name: &str) -> i64 {
    match object.get(name) {
        // More digits than fit are more than any bound.
        Some(Value::String(text)) if percent(text).is_ok() => {
            text.trim_end_matches('%').parse().unwrap_or(i64::MAX)
        }
        other => other.and_then(Value::as_i64).unwrap_or(0),
    }
}

/// Checks a Deployment.
pub(super) fn deployment(c: &mut Check, spec: &Value) {
    c.non_negative(spec, "replicas");
    selected(c, spec, "ReplicaSet", "deployment", true);
    let strategy = spec.get("strategy").unwrap_or(&Value::Null);
    c.within("strategy", |c| match text(strategy, "type") {
        "Recreate" if is_set(strategy, "rollingUpdate") => {
            c.at("rollingUpdate").forbidden("may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" if !is_set(strategy, "rollingUpdate") => {
            c.at("rollingUpdate").required("this should be defaulted and never be nil");
        }
        "RollingUpdate" => c.field(strategy, "rollingUpdate", |c, rolling| {
            count_or_percent(c, rolling, "maxUnavailable");
            count_or_percent(c, rolling, "maxSurge");
            if amount(rolling, "maxUnavailable") == 0 && amount(rolling, "maxSurge") == 0 {
                let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
                c.at("maxUnavailable").invalid(value, "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(c, rolling, "maxUnavailable");
        }),
        _ => c.here().not_supported(strategy.clone(), &["Recreate", "RollingUpdate"]),
    });
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        c.non_negative(spec, field);
    }
    let deadline = number(spec, "progressDeadlineSeconds");
    if deadline.is_some_and(|d| d <= number(spec, "minReadySeconds").unwrap_or(0)) {
        c.at("progressDeadlineSeconds").invalid(deadline, "must be greater than minReadySeconds");
    }
}

/// Checks a ReplicaSet.
pub(super) fn replica_set(c: &mut Check, spec: &Value) {
    c.non_negative(spec, "replicas");
    c.non_negative(spec, "minReadySeconds");
    selected(c, spec, "ReplicaSet", "deployment", true);
}

/// Checks a ReplicationController, whose selector is a plain map of labels.
pub(super) fn replication_controller(c: &mut Check, spec: &Value) {
    c.non_negative(spec, "minReadySeconds");
    let labels = spec.at(&["selector"]).cloned().unwrap_or_default();
    if labels.as_object().is_none_or(Map::is_empty) {
        c.at("selector").required("");
    }
    if is_set(spec, "replicas") {
        c.non_negative(spec, "replicas");
    } else {
        c.at("replicas").required("");
    }
    if spec.object_at(&["template"]).is_none() {
        return c.at("template").required("");
    }
    let selector = Selector::from_object(&object!({"matchLabels": (labels)}), &c.path()).ok();
    matching(c, spec, selector.as_ref());
    c.field(spec, "template", pod::check::template);
    always_running(c, spec, "ReplicationController");
}

/// Checks a DaemonSet.
pub(super) fn daemon_set(c: &mut Check, spec: &Value) {
    selected(c, spec, "DaemonSet", "daemonset", false);
    c.non_negative(spec, "minReadySeconds");
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    c.within("updateStrategy", |c| match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" if !is_set(strategy, "rollingUpdate") => c.at("rollingUpdate").required(""),
        "RollingUpdate" => c.field(strategy, "rollingUpdate", |c, rolling| {
            for field in ["maxUnavailable", "maxSurge"] {
                count_or_percent(c, rolling, field);
            }
            for field in ["maxUnavailable", "maxSurge"] {
                at_most_all(c, rolling, field);
            }
            match (amount(rolling, "maxUnavailable") != 0, amount(rolling, "maxSurge") != 0) {
                (true, true) => {
                    let surge = rolling.get("maxSurge").cloned().unwrap_or_default();
                    c.at("maxSurge").invalid(surge, "may not be set when maxUnavailable is non-zero");
                }
                (false, false) => c.at("maxUnavailable").required("cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }),
        _ => c.here().not_supported(strategy.clone(), &["RollingUpdate", "OnDelete"]),
    });
    c.non_negative(spec, "revisionHistoryLimit");
}

/// The selector is what it was.
pub(super) fn selector_stays(c: &mut Check, new: &Value, old: &Value) {
    if let (Some(new), Some(old)) = (new.get("spec"), old.get("spec")) {
        c.within("spec", |c| c.immutable(new, old, "selector"));
    }
}

/// Checks the counts of a status: none negative, none above the whole.
pub(super) fn status_counts(c: &mut Check, object: &Value, old: &Value, counts: &[&str], ready: &str) {
    c.field(object, "status", |c, status| {
        let count = |name: &str| number(status, name).unwrap_or(0);
        for field in ["observedGeneration", "replicas", "terminatingReplicas", "collisionCount"] {
            c.non_negative(status, field);
        }
        counts.iter().for_each(|field| c.non_negative(status, field));
        for field in counts.iter().filter(|f| **f != "unavailableReplicas" && count(f) > count("replicas")) {
            c.at(field).invalid(count(field), "cannot be greater than status.replicas");
        }
        if count("availableReplicas") > count("readyReplicas") {
            let detail = format!("cannot be greater than {ready}");
            c.at("availableReplicas").invalid(count("availableReplicas"), &detail);
        }
        collisions(c, status, old);
    });
}

/// Collisions of names are counted and never forgotten.
pub(super) fn collisions(c: &mut Check, status: &Value, old: &Value) {
    let before = old.i64_at(&["status", "collisionCount"]);
    let now = number(status, "collisionCount");
    if before.is_some_and(|before| now.is_none_or(|now| now < before)) {
        c.at("collisionCount").invalid(now.unwrap_or(0), "cannot be decremented");
    }
}

/// Checks the counts of a DaemonSet's status.
pub(super) fn daemon_set_status(c: &mut Check, object: &Value, old: &Value) {
    c.field(object, "status", |c, status| {
        for field in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            c.non_negative(status, field);
        }
        collisions(c, status, old);
    });
}

/// Checks a revision of a workload.
pub(super) fn revision(c: &mut Check, object: &Value) {
    c.non_negative(object, "revision");
    match object.get("data") {
        None | Some(Value::Null) => c.at("data").required("data is mandatory"),
        Some(Value::Object(_)) => {}
        Some(_) => c.at("data").required("data must be a valid JSON object"),
    }
}

/// Whether nothing but the named members of the specifications differs.
pub(super) fn same_but(new: &Value, old: &Value, free: &[&str]) -> bool {
    let strip = |spec: &Value| {
        let mut copy = spec.clone();
        free.iter().for_each(|field| drop(copy.remove_at(&[field])));
        copy
    };
    same(Some(&strip(new)), Some(&strip(old)))
}

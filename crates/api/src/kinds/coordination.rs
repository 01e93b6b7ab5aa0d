//! Leases and events: what components tell each other.

use super::Kind;
use super::check::{Check, filled, is_set, number, run, same, text};
use crate::error::Cause;
use crate::{Value, meta, names};

pub(super) const LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    resource: "leases",
    generation: false,
    create_on_update: true,
    prepare_create: |object| drop_election(object, None),
    prepare_update: |object, old| drop_election(object, Some(old)),
    validate: |object| run(|c| c.field(object, "spec", lease)),
    validate_update: |object, _| run(|c| c.field(object, "spec", lease)),
    ..Kind::DEFAULT
};

/// Events of the core group and of `events.k8s.io` are the same objects, with different names for some fields.
pub(super) const CORE_EVENT: Kind = Kind {
    resource: "events",
    name: names::path_segment,
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    validate: |object| run(|c| event(c, object)),
    validate_update: |object, _| run(|c| event(c, object)),
    ..Kind::DEFAULT
};

pub(super) const EVENT: Kind = Kind {
    group: "events.k8s.io",
    validate: |object| run(|c| new_event(c, object)),
    validate_update: event_update,
    ..CORE_EVENT
};

/// Coordinated leader election is off by default, so its fields do not come into a lease.
fn drop_election(object: &mut Value, old: Option<&Value>) {
    for field in ["strategy", "preferredHolder"] {
        if old.and_then(|old| old.at(&["spec", field])).is_none() {
            drop(object.remove_at(&["spec", field]));
        }
    }
}

fn lease(c: &mut Check, spec: &Value) {
    let duration = number(spec, "leaseDurationSeconds");
    if duration.is_some_and(|seconds| seconds <= 0) {
        c.at("leaseDurationSeconds").invalid(duration, "must be greater than 0");
    }
    c.non_negative(spec, "leaseTransitions");
    if let Some(strategy) = filled(spec, "strategy") {
        c.at("strategy").obeys(strategy, names::qualified);
    }
    if filled(spec, "preferredHolder").is_some() && filled(spec, "strategy").is_none() {
        c.at("preferredHolder").forbidden("may only be specified if `strategy` is defined");
    }
}

/// The value of a field that the two groups name differently.
fn either<'v>(event: &'v Value, names: [&str; 2]) -> Option<&'v Value> {
    names.iter().find_map(|name| event.get(name)).filter(|value| !value.is_null())
}

const ABOUT: [&str; 2] = ["involvedObject", "regarding"];
const REPORTER: [&str; 2] = ["reportingComponent", "reportingController"];
const NOTE: [&str; 2] = ["message", "note"];

/// Rules that hold for all events.
fn event(c: &mut Check, event: &Value) {
    let namespace = meta::namespace(event);
    let about = either(event, ABOUT).map(|object| text(object, "namespace")).unwrap_or_default();
    let timed = is_set(event, "eventTime");
    let fits = match (about, timed) {
        ("", false) => matches!(namespace, "" | "default"),
        ("", true) => matches!(namespace, "default" | "kube-system"),
        (_, timed) => timed || about == namespace,
    };
    if !fits {
        c.at("involvedObject.namespace").invalid(about, "does not match event.namespace");
    }
    if timed {
        timed_event(c, event);
    }
    c.at("namespace").obeys(namespace, names::dns_subdomain);
}

/// An event with a time of its own says who reports what.
fn timed_event(c: &mut Check, event: &Value) {
    let reporter = either(event, REPORTER).and_then(Value::as_str).unwrap_or_default();
    let shown = if event.get(REPORTER[1]).is_some() { REPORTER[1] } else { REPORTER[0] };
    if reporter.is_empty() {
        c.at(shown).required("");
    }
    c.at(shown).obeys(reporter, names::qualified);
    for (field, max) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        c.require(event, field);
        bounded(c, field, text(event, field), max);
    }
    bounded(c, NOTE[0], either(event, NOTE).and_then(Value::as_str).unwrap_or_default(), 1024);
}

fn bounded(c: &mut Check, field: &str, value: &str, max: usize) {
    if value.len() > max {
        c.at(field).invalid("", &format!("can have at most {max} characters"));
    }
}

fn series(c: &mut Check, event: &Value) {
    c.some(event, "series", |c, series| {
        if number(series, "count").unwrap_or(0) < 2 {
            c.at("count").invalid("", "should be at least 2");
        }
        if !is_set(series, "lastObservedTime") {
            c.at("lastObservedTime").required("");
        }
    });
}

/// The stricter rules of `events.k8s.io`.
fn new_event(c: &mut Check, object: &Value) {
    event(c, object);
    series(c, object);
    if !is_set(object, "eventTime") {
        c.at("eventTime").required("");
    }
    let ty = text(object, "type");
    if !matches!(ty, "Normal" | "Warning") {
        c.at("type").invalid("", &format!("has invalid value: {ty}"));
    }
    for [old_name, new_name] in [
        ["firstTimestamp", "deprecatedFirstTimestamp"],
        ["lastTimestamp", "deprecatedLastTimestamp"],
        ["count", "deprecatedCount"],
        ["source", "deprecatedSource"],
    ] {
        if !same(either(object, [old_name, new_name]), None) {
            c.at(old_name).invalid("", "needs to be unset");
        }
    }
}

fn event_update(object: &Value, old: &Value) -> Vec<Cause> {
    run(|c| {
        event(c, object);
        if !same(object.get("series"), old.get("series")) {
            series(c, object);
        }
        for field in [
            "involvedObject",
            "regarding",
            "reason",
            "message",
            "note",
            "source",
            "deprecatedSource",
            "firstTimestamp",
            "deprecatedFirstTimestamp",
            "lastTimestamp",
            "deprecatedLastTimestamp",
            "count",
            "deprecatedCount",
            "type",
            "eventTime",
            "action",
            "related",
            "reportingController",
            "reportingComponent",
            "reportingInstance",
        ] {
            c.immutable(object, old, field);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};
    use crate::object;

    #[test]
    fn leases() {
        cases(&object!({}), LEASES, LEASE.validate);
        let mut lease = object!({"spec": {"strategy": "a", "preferredHolder": "b"}});
        (LEASE.prepare_create)(&mut lease);
        assert_eq!(lease, object!({"spec": {}}));
    }

    const LEASES: &str = r#"
spec = {"leaseDurationSeconds": 15, "leaseTransitions": 0}

spec = {"leaseDurationSeconds": 0, "leaseTransitions": -1}
! spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
! spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0

spec = {"preferredHolder": "a"}
! spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined
"#;

    #[test]
    fn events() {
        let base = json(r#"{"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}}"#);
        cases(&base, CORE_EVENTS, CORE_EVENT.validate);
        let base = json(
            r#"{"metadata": {"namespace": "a"}, "regarding": {"namespace": "a"}, "eventTime": "2026-01-01T00:00:00Z",
                "reportingController": "a.b/c", "reportingInstance": "i", "action": "Act", "reason": "Because",
                "type": "Normal", "note": "n"}"#,
        );
        cases(&base, EVENTS, EVENT.validate);
        cases(&base, CHANGED_EVENTS, |object| (EVENT.validate_update)(object, &base));
    }

    const CORE_EVENTS: &str = r#"
type = "anything"

involvedObject = {"namespace": "b"}
! involvedObject.namespace: Invalid value: "b": does not match event.namespace

involvedObject = {}
! involvedObject.namespace: Invalid value: "": does not match event.namespace

eventTime = "2026-01-01T00:00:00Z"
! reportingComponent: Required value
! reportingComponent: Invalid value: "": name part must be non-empty
! reportingInstance: Required value
! action: Required value
! reason: Required value
"#;

    const EVENTS: &str = r#"
series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:00Z"}

eventTime =
! eventTime: Required value

series = {"count": 1}
! series.count: Invalid value: "": should be at least 2
! series.lastObservedTime: Required value

type = "x"
deprecatedCount = 1
! type: Invalid value: "": has invalid value: x
! count: Invalid value: "": needs to be unset
"#;

    const CHANGED_EVENTS: &str = r#"
series = {"count": 3, "lastObservedTime": "2026-01-01T00:00:00Z"}

reason = "Else"
! reason: Invalid value: "Else": field is immutable
"#;
}

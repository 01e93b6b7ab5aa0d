//! What field selectors may ask of an object: the values of its fields as text.
//!
//! Most are fields at a path, and an absent one is the empty text. Where upstream shows something else, such as `false` for
//! a pod that does not say whether it uses the host's network, a row of [`SPECIAL`] says so. Fields go by the names that
//! they have in the stored form: `events` of `events.k8s.io` are stored as the core group's.
//!
//! Values follow Kubernetes 1.36.

use std::borrow::Cow;

use crate::resource::{GroupResource, ResourceDef, Text};
use crate::{Key, Value, builtin, json};

/// How a field that is not just text at a path is read.
#[derive(Clone, Copy, Debug)]
enum Read {
    /// At a path of its own; the second text when it is absent.
    At(&'static [&'static str], &'static str),
    /// What a function finds.
    Call(fn(&Value) -> Option<&str>),
}

/// Group, resource and field, and how it is read.
type Row = (&'static str, &'static str, &'static str, Read);

const SPECIAL: &[Row] = &[
    ("", "events", "source", Read::Call(event_source)),
    ("", "nodes", "spec.unschedulable", Read::At(&["spec", "unschedulable"], "false")),
    ("", "pods", "spec.hostNetwork", Read::At(&["spec", "hostNetwork"], "false")),
    ("", "pods", "status.podIP", Read::Call(first_address)),
    // Known, but never set.
    ("", "pods", "status.podIPs", Read::Call(|_| None)),
    ("", "replicationcontrollers", "status.replicas", Read::At(&["status", "replicas"], "0")),
    ("apps", "replicasets", "status.replicas", Read::At(&["status", "replicas"], "0")),
    ("batch", "jobs", "status.successful", Read::At(&["status", "succeeded"], "0")),
];

/// Who tells of an event: the source's component, else the reporting one.
fn event_source(event: &Value) -> Option<&str> {
    let component = event.str_at(&["source", "component"]).filter(|component| !component.is_empty());
    component.or_else(|| event.str_at(&["reportingComponent"]))
}

fn first_address(pod: &Value) -> Option<&str> {
    pod.array_at(&["status", "podIPs"]).first()?.str_at(&["ip"])
}

/// The fields of a resource that selectors may name, as they are called in the stored form. Resources that share their
/// objects have the same fields here.
#[must_use]
pub fn fields(def: &ResourceDef) -> Vec<Text> {
    let stored = def.storage_resource();
    match builtin::selectable(&stored.group, &stored.resource) {
        Some(fields) => fields.iter().map(|field| Cow::Borrowed(*field)).collect(),
        None => def.storage().selectable.to_vec(),
    }
}

/// What a field of a resource is called in the stored form.
#[must_use]
pub fn stored_name<'a>(def: &ResourceDef, field: &'a str) -> Cow<'a, str> {
    if def.group != "events.k8s.io" {
        return field.into();
    }
    match (field, field.strip_prefix("regarding.")) {
        ("reportingController", _) => "reportingComponent".into(),
        (_, Some(part)) => format!("involvedObject.{part}").into(),
        _ => field.into(),
    }
}

/// The value of one of [`fields`] of a stored object; `None` means the empty text.
#[must_use]
pub fn value(stored: &GroupResource, field: &str, object: &Value) -> Option<Key> {
    let named = |row: &&Row| (row.0, row.1, row.2) == (&stored.group, &stored.resource, field);
    match SPECIAL.iter().find(named).map(|row| row.3) {
        Some(Read::At(path, absent)) => object.at(path).and_then(text).or_else(|| Some(absent.into())),
        Some(Read::Call(find)) => find(object).map(Key::from),
        None => object.at(&field.split('.').collect::<Vec<_>>()).and_then(text),
    }
}

fn text(value: &Value) -> Option<Key> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(String::from_utf8_lossy(&json::to_vec(other)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    fn resource(group: &'static str, resource: &'static str) -> GroupResource {
        GroupResource { group: group.into(), resource: resource.into() }
    }

    #[test]
    fn values_are_upstreams() {
        let check = |group, plural, field: &str, object: Value, want: &str| {
            let got = value(&resource(group, plural), field, &object).unwrap_or_default();
            assert_eq!(got, want, "{field} of {object:?}");
        };
        check("", "pods", "spec.hostNetwork", object!({}), "false");
        check("", "pods", "spec.hostNetwork", object!({"spec": {"hostNetwork": true}}), "true");
        check("", "pods", "spec.nodeName", object!({"spec": {"nodeName": "n"}}), "n");
        check("", "pods", "spec.nodeName", object!({"spec": {}}), "");
        let addresses = object!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}});
        check("", "pods", "status.podIP", addresses.clone(), "10.0.0.2");
        check("", "pods", "status.podIPs", addresses, "");
        check("", "nodes", "spec.unschedulable", object!({}), "false");
        check("", "secrets", "type", object!({"type": "Opaque"}), "Opaque");
        check(
            "",
            "events",
            "source",
            object!({"source": {"component": "a"}, "reportingComponent": "b"}),
            "a",
        );
        check("", "events", "source", object!({"source": {}, "reportingComponent": "b"}), "b");
        check("", "events", "reportingComponent", object!({"source": {"component": "a"}}), "");
        check("batch", "jobs", "status.successful", object!({"status": {"succeeded": 2}}), "2");
        check("batch", "jobs", "status.successful", object!({}), "0");
        check("apps", "replicasets", "status.replicas", object!({}), "0");
        check("example.com", "widgets", "spec.count", object!({"spec": {"count": 3}}), "3");
        check("example.com", "widgets", "spec.on", object!({"spec": {}}), "");
    }

    #[test]
    fn rows_name_fields_that_are_offered() {
        for (group, plural, field, _) in SPECIAL {
            let fields = builtin::selectable(group, plural).expect("a built-in resource");
            assert!(fields.contains(field), "{field} of {plural}");
        }
    }

    #[test]
    fn events_of_both_groups_are_stored_with_the_same_fields() {
        let rows = builtin::resources();
        let find = |group: &str| rows.iter().find(|r| r.group == group && r.names.plural == "events");
        let (core, other) = (find("").expect("a row"), find("events.k8s.io").expect("a row"));
        assert_eq!(fields(core), fields(other));
        assert_eq!(stored_name(core, "involvedObject.kind"), "involvedObject.kind");
        for field in other.storage().selectable.iter() {
            assert!(fields(core).contains(&Cow::Owned(stored_name(other, field).into_owned())), "{field}");
        }
    }
}

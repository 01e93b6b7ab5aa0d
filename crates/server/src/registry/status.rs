//! Writes of the status alone (`/status`): what they leave as it was.
//!
//! The rule is one for all: everything but the status stays, and a few fields of the metadata follow the client. Kinds
//! differ in which of these fields stay too, as upstream's strategies for the status have it (Kubernetes 1.36). Of custom
//! resources all of them stay.

use xebec_api::{Value, fields::FieldSet};

use super::table::Row;

/// The fields of the metadata that a write of the status changes, unless the kind keeps them.
const FREE: &[&str] = &["annotations", "finalizers", "labels", "ownerReferences"];

/// The kinds that keep some of [`FREE`]. Definitions keep none: their finalizer is removed through the status.
const KEPT: &[(&str, &str, &[&str])] = &[
    ("", "pods", &["ownerReferences"]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", FREE),
    ("apiregistration.k8s.io", "apiservices", FREE),
    ("apps", "deployments", &["labels"]),
    ("flowcontrol.apiserver.k8s.io", "flowschemas", FREE),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", FREE),
    ("resource.k8s.io", "resourceclaims", FREE),
    ("storage.k8s.io", "volumeattachments", FREE),
];

fn kept(row: &Row) -> &'static [&'static str] {
    let found = KEPT.iter().find(|(group, resource, _)| (row.group(), row.resource()) == (*group, *resource));
    match found {
        _ if row.custom => FREE,
        Some((_, _, kept)) => kept,
        None => &[],
    }
}

/// Leaves of `new` only what a write of the status may change.
pub(super) fn confine(new: &mut Value, old: &Value, row: &Row) {
    let mut wanted = std::mem::replace(new, old.clone());
    let kept = kept(row);
    let mut pass = |path: &[&str]| match wanted.remove_at(path) {
        Some(value) => new.set(path, value),
        None => {
            new.remove_at(path);
        }
    };
    FREE.iter().filter(|field| !kept.contains(field)).for_each(|field| pass(&["metadata", field]));
    pass(&["metadata", "managedFields"]);
    pass(&["status"]);
}

/// What the writer of a status does not come to own.
pub(super) fn not_owned(row: &Row) -> FieldSet {
    let kept = kept(row);
    if kept == FREE {
        return FieldSet::of(&[&["spec"], &["metadata"]]);
    }
    let kept: Vec<[&str; 2]> = kept.iter().map(|field| ["metadata", *field]).collect();
    let mut paths: Vec<&[&str]> = kept.iter().map(<[_; 2]>::as_slice).collect();
    paths.push(&["spec"]);
    FieldSet::of(&paths)
}

//! PersistentVolumes and their claims.

use super::Kind;
use super::fill::{Given, Row, absent, each, fill, text};
use super::pod::defaults::SOURCES;
use super::pod::resources::{round, round_list};
use crate::{Value, object};

pub(super) const PERSISTENT_VOLUME: Kind = Kind {
    resource: "persistentvolumes",
    generation: false,
    unconditional_update: true,
    defaults: |object, _| volume_defaults(object),
    prepare_create: |object| set_phase(object),
    ..Kind::DEFAULT
};

pub(super) const PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    resource: "persistentvolumeclaims",
    generation: false,
    unconditional_update: true,
    defaults: |object, _| claim_defaults(object),
    prepare_create: |object| {
        set_phase(object);
        each(object, "spec", &mut |spec| pair_data_sources(spec, None));
    },
    prepare_update: |object, old| {
        each(object, "spec", &mut |spec| pair_data_sources(spec, old.get("spec")));
    },
    ..Kind::DEFAULT
};

const VOLUME: &[Row] = &[
    text("spec!.persistentVolumeReclaimPolicy", "Retain"),
    absent("spec.volumeMode", Given::Text("Filesystem")),
    text("status.phase", "Pending"),
];

fn volume_defaults(object: &mut Value) {
    fill(object, VOLUME);
    each(object, "spec", &mut |spec| fill(spec, SOURCES));
    each(object, "spec.capacity", &mut round_list);
}

/// Defaults of a claim, or of a claim template inside another object.
pub(super) fn claim_defaults(object: &mut Value) {
    fill(object, &[absent("spec!.volumeMode", Given::Text("Filesystem")), text("status!.phase", "Pending")]);
    each(object, "spec.resources", &mut round);
    for list in ["status.capacity", "status.allocatedResources"] {
        each(object, list, &mut round_list);
    }
}

fn set_phase(object: &mut Value) {
    if object.as_object().is_some() {
        object.set(&["status"], object!({"phase": "Pending"}));
    }
}

/// Lets `dataSource` and `dataSourceRef` say the same, whichever of them the client knows.
fn pair_data_sources(spec: &mut Value, old: Option<&Value>) {
    let is_set = |spec: &Value, field: &str| spec.object_at(&[field]).is_some();
    if spec.as_object().is_none() {
        return;
    }
    let had = old.is_some_and(|old| is_set(old, "dataSource") || is_set(old, "dataSourceRef"));
    // Sources in other namespaces need a feature that is off by default.
    if !had && spec.str_at(&["dataSourceRef", "namespace"]).is_some_and(|ns| !ns.is_empty()) {
        drop(spec.remove_at(&["dataSourceRef"]));
    }
    if !had && !is_set(spec, "dataSourceRef") && !spec.get("dataSource").is_none_or(is_claim_or_snapshot) {
        drop(spec.remove_at(&["dataSource"]));
    }
    match (is_set(spec, "dataSource"), is_set(spec, "dataSourceRef")) {
        (true, false) => copy(spec, "dataSource", "dataSourceRef"),
        (false, true) if spec.str_at(&["dataSourceRef", "namespace"]).is_none_or(str::is_empty) => {
            copy(spec, "dataSourceRef", "dataSource");
        }
        _ => {}
    }
}

fn copy(spec: &mut Value, from: &str, to: &str) {
    let mut copied = spec.get(from).cloned().unwrap_or_default();
    drop(copied.remove_at(&["namespace"]));
    spec.set(&[to], copied);
}

fn is_claim_or_snapshot(source: &Value) -> bool {
    let kind = source.str_at(&["kind"]).unwrap_or_default();
    match source.str_at(&["apiGroup"]).unwrap_or_default() {
        "" => kind == "PersistentVolumeClaim",
        group => group == "snapshot.storage.k8s.io" && kind == "VolumeSnapshot",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_sources_are_paired() {
        let check = |spec: Value, old: Option<Value>, want: Value| {
            let mut got = spec;
            pair_data_sources(&mut got, old.as_ref());
            assert_eq!(got, want);
        };
        let claim = object!({"kind": "PersistentVolumeClaim", "name": "a"});
        let both = object!({"dataSource": (claim.clone()), "dataSourceRef": (claim.clone())});
        check(object!({"dataSource": (claim.clone())}), None, both.clone());
        check(object!({"dataSourceRef": (claim)}), None, both);
        check(object!({"dataSource": {"kind": "Pod", "name": "a"}}), None, object!({}));
        let elsewhere = object!({"kind": "PersistentVolumeClaim", "name": "a", "namespace": "b"});
        check(object!({"dataSourceRef": (elsewhere.clone())}), None, object!({}));
        let old = object!({"dataSourceRef": (elsewhere)});
        check(old.clone(), Some(old.clone()), old);
    }
}

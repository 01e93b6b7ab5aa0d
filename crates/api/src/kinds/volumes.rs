//! PersistentVolumes.

use super::Kind;
use super::changes;
use super::check::{self, Check, filled, is_set, same, text};
use super::fill::{Given, Row, absent, each, empty, fill};
use super::pod::defaults::SOURCES;
use super::pod::resources::round_list;
use super::pod::scheduling::node_selector;
use super::pod::volumes as rules;
use super::pod::volumes::{Source, source};
use super::warnings::{self, warned};
use crate::error::Cause;
use crate::quantity::Quantity;
use crate::{Value, names, object};

pub(super) const PERSISTENT_VOLUME: Kind = Kind {
    resource: "persistentvolumes",
    returned_when_deleted: true,
    generation: false,
    unconditional_update: true,
    defaults: |object, _| volume_defaults(object),
    prepare_create: |object| {
        set_phase(object);
        if let Some(now) = object.at(&["metadata", "creationTimestamp"]).cloned() {
            object.set(&["status", "lastPhaseTransitionTime"], now);
        }
    },
    validate: validate_volume,
    validate_update: validate_volume_update,
    warnings: |object, _| warned(|c| volume_warnings(c, object)),
    ..Kind::DEFAULT
};

const VOLUME: &[Row] = &[
    empty("spec!.persistentVolumeReclaimPolicy", Given::Text("Retain")),
    absent("spec.volumeMode", Given::Text("Filesystem")),
    empty("status.phase", Given::Text("Pending")),
];

fn volume_defaults(object: &mut Value) {
    fill(object, VOLUME);
    each(object, "spec", &mut |spec| fill(spec, SOURCES));
    each(object, "spec.capacity", &mut round_list);
}

pub(super) fn set_phase(object: &mut Value) {
    if object.as_object().is_some() {
        object.set(&["status"], object!({"phase": "Pending"}));
    }
}

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub(super) fn access_modes(c: &mut Check, spec: &Value, absent: &str) {
    let modes = || spec.array_at(&["accessModes"]).iter().filter_map(Value::as_str);
    if modes().next().is_none() {
        c.at("accessModes").required(absent);
    }
    for mode in modes().filter(|mode| !ACCESS_MODES.contains(mode)) {
        c.at("accessModes").not_supported(mode, &ACCESS_MODES);
    }
    let single = |mode: &str| mode == "ReadWriteOncePod";
    if modes().any(single) && modes().any(|mode| !single(mode) && ACCESS_MODES.contains(&mode)) {
        c.at("accessModes").forbidden("may not use ReadWriteOncePod with other access modes");
    }
}

pub(super) fn quantity(value: Option<&Value>) -> Option<Quantity> {
    value?.as_str()?.parse().ok()
}

pub(super) fn positive(c: &mut Check, value: &Value) -> bool {
    let ok = quantity(Some(value)).is_none_or(|q| q.signum() > 0);
    if !ok {
        c.here().invalid(value.clone(), "must be greater than zero");
    }
    ok
}

pub(super) fn class_name(c: &mut Check, spec: &Value, field: &str) {
    c.name(spec, field, names::dns_subdomain);
}

/// The kinds of persistent volumes, in the order in which a second one is found to be one too many.
const VOLUME_SOURCES: &[Source] = &[
    source("hostPath", &["path"], rules::host_path),
    source("gcePersistentDisk", &["pdName"], rules::partition),
    source("awsElasticBlockStore", &["volumeID"], rules::partition),
    source("glusterfs", &["endpoints", "path"], |_, _| ()),
    source("flocker", &[], rules::flocker),
    source("nfs", &["server", "path"], rules::nfs),
    source("rbd", &["monitors", "image"], |_, _| ()),
    source("quobyte", &[], rules::quobyte),
    source("cephfs", &["monitors"], |_, _| ()),
    source("iscsi", &["targetPortal", "iqn"], rules::iscsi),
    source("cinder", &["volumeID"], secret),
    source("fc", &[], rules::fibre_channel),
    source("flexVolume", &["driver"], rules::flex_options),
    source("azureFile", &["secretName", "shareName"], |c, v| {
        if v.str_at(&["secretNamespace"]) == Some("") {
            c.at("secretNamespace").required("");
        }
    }),
    source("vsphereVolume", &["volumePath"], |_, _| ()),
    source("photonPersistentDisk", &["pdID"], |_, _| ()),
    source("portworxVolume", &["volumeID"], |_, _| ()),
    source("azureDisk", &["diskName", "diskURI"], rules::azure_disk),
    source("scaleIO", &["gateway", "system", "volumeName"], |_, _| ()),
    source("local", &["path"], |c, v| c.name(v, "path", super::syntax::no_backsteps)),
    source("storageos", &["volumeName"], |c, v| {
        c.name(v, "volumeName", names::dns_label);
        c.name(v, "volumeNamespace", names::dns_label);
        secret(c, v);
    }),
    source("csi", &[], csi),
];

fn secret(c: &mut Check, source: &Value) {
    c.some(source, "secretRef", |c, secret| {
        c.require(secret, "name");
        c.require(secret, "namespace");
    });
}

fn csi(c: &mut Check, source: &Value) {
    rules::driver_name(c, source, "driver");
    c.require(source, "volumeHandle");
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        c.some(source, field, |c, secret| {
            c.require_name(secret, "name", names::dns_subdomain);
            c.require_name(secret, "namespace", names::dns_label);
        });
    }
}

fn validate_volume(volume: &Value) -> Vec<Cause> {
    check::run(|c| c.field(volume, "spec", volume_spec))
}

fn volume_spec(c: &mut Check, spec: &Value) {
    access_modes(c, spec, "");
    let capacity = spec.object_at(&["capacity"]).cloned().unwrap_or_default();
    if capacity.is_empty() {
        c.at("capacity").required("");
    }
    if !capacity.contains("storage") || capacity.len() > 1 {
        c.at("capacity").not_supported(capacity, &["storage"]);
    }
    c.entries(spec, "capacity", |c, _, size| {
        positive(c, size);
    });
    if filled(spec, "persistentVolumeReclaimPolicy").is_some() {
        c.one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"]);
    }
    c.some(spec, "nodeAffinity", |c, affinity| {
        if is_set(affinity, "required") {
            c.field(affinity, "required", node_selector);
        } else {
            c.at("required").required("must specify required node constraints");
        }
    });
    rules::sources(c, spec, VOLUME_SOURCES);
    if is_set(spec, "local") && !is_set(spec, "nodeAffinity") {
        c.at("nodeAffinity").required("Local volume requires node affinity");
    }
    how_used(c, spec);
}

/// Checks a volume that stands where one is attached, of which only the source matters.
pub(super) fn inline_spec(c: &mut Check, spec: &Value) {
    const HERE: &str = "in the context of inline volumes";
    let absent = format!("may not be specified {HERE}");
    if is_set(spec, "claimRef") {
        c.at("claimRef").forbidden(&absent);
    }
    if spec.object_at(&["capacity"]).is_some_and(|capacity| !capacity.is_empty()) {
        c.at("capacity").forbidden(&absent);
    }
    if !is_set(spec, "csi") {
        c.at("csi").required(&format!("has to be specified {HERE}"));
    }
    access_modes(c, spec, "");
    if !["", "Retain"].contains(&text(spec, "persistentVolumeReclaimPolicy")) {
        c.at("persistentVolumeReclaimPolicy").forbidden(&format!("may only be Retain {HERE}"));
    }
    if is_set(spec, "nodeAffinity") {
        c.at("nodeAffinity").forbidden(&absent);
    }
    if filled(spec, "storageClassName").is_some() {
        c.at("storageClassName").forbidden(&absent);
    }
    if spec.str_at(&["volumeMode"]).is_some_and(|mode| mode != "Filesystem") {
        c.at("volumeMode").forbidden(&format!("may not specify volumeMode other than Filesystem {HERE}"));
    }
    rules::sources(c, spec, VOLUME_SOURCES);
}

/// Checks what becomes of the volume, and its classes.
fn how_used(c: &mut Check, spec: &Value) {
    let root = spec
        .str_at(&["hostPath", "path"])
        .is_some_and(|p| p.starts_with('/') && p.trim_matches('/').is_empty());
    if root && text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        c.at("persistentVolumeReclaimPolicy").forbidden("may not be 'recycle' for a hostPath mount of '/'");
    }
    class_name(c, spec, "storageClassName");
    c.one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"]);
    if is_set(spec, "volumeAttributesClassName") {
        if filled(spec, "volumeAttributesClassName").is_none() {
            c.at("volumeAttributesClassName").required("an empty string is disallowed");
        }
        class_name(c, spec, "volumeAttributesClassName");
        if !is_set(spec, "csi") {
            c.at("csi").required("has to be specified when using volumeAttributesClassName");
        }
    }
}

fn validate_volume_update(new: &Value, old: &Value) -> Vec<Cause> {
    let (Some(spec), Some(before)) = (new.get("spec"), old.get("spec")) else { return Vec::new() };
    check::run(|c| {
        c.within("spec", |c| volume_spec(c, spec));
        let source = |spec: &Value| -> Value {
            let kinds =
                VOLUME_SOURCES.iter().filter_map(|s| Some((s.name.into(), spec.get(s.name)?.clone())));
            Value::Object(kinds.collect())
        };
        let (mut now, then) = (source(spec), source(before));
        let expand = ["csi", "controllerExpandSecretRef"];
        if then.at(&expand).is_none() && then.get("csi").is_some() {
            drop(now.remove_at(&expand));
        }
        if !same(Some(&now), Some(&then)) {
            let detail = format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                changes::describe(&then, &now)
            );
            c.at("spec.persistentvolumesource").forbidden(&detail);
        }
        c.immutable(spec, before, "volumeMode");
        if is_set(before, "nodeAffinity") {
            c.immutable(spec, before, "nodeAffinity");
        }
        if is_set(before, "volumeAttributesClassName") && !is_set(spec, "volumeAttributesClassName") {
            c.at("spec.volumeAttributesClassName").forbidden("update from non-nil value to nil is forbidden");
        }
    })
}

/// Volumes that no longer work.
const GONE: [(&str, &str, &str); 6] = [
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn volume_warnings(c: &mut Check, object: &Value) {
    let options = (
        "volume.beta.kubernetes.io/mount-options",
        "deprecated since v1.31; use \"mountOptions\" attribute instead",
    );
    warnings::annotations(c, object, &[warnings::CLASS_ANNOTATION, options]);
    c.field(object, "spec", |c, spec| {
        if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
            c.at("persistentVolumeReclaimPolicy").warn(
                "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
                 provisioning.",
            );
        }
        c.some(spec, "nodeAffinity", |c, affinity| {
            c.field(affinity, "required", |c, selector| {
                c.each(selector, "nodeSelectorTerms", |c, term| warnings::node_expressions(c, term, false));
            });
        });
        for (field, reported, message) in GONE {
            if is_set(spec, field) {
                c.at(reported).warn(message);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{json, lines, with};

    fn good() -> Value {
        json(
            r#"{"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
                "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}}"#,
        )
    }

    #[test]
    fn a_volume() {
        let check = |changes: &[(&str, &str)], want: &[&str]| {
            let volume = with(&good(), changes);
            assert_eq!(lines(&(PERSISTENT_VOLUME.validate)(&volume)), want, "{changes:?}");
        };
        check(&[], &[]);
        check(
            &[("spec.capacity", "{}")],
            &[
                "spec.capacity: Required value",
                r#"spec.capacity: Unsupported value: {}: supported values: "storage""#,
            ],
        );
        check(
            &[("spec.capacity.storage", r#""-1""#)],
            &[r#"spec.capacity[storage]: Invalid value: "-1": must be greater than zero"#],
        );
        check(&[("spec.hostPath", "")], &["spec: Required value: must specify a volume type"]);
        check(
            &[("spec.nfs", r#"{"server": "s", "path": "/"}"#)],
            &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        );
        check(
            &[("spec.persistentVolumeReclaimPolicy", r#""x""#)],
            &[
                r#"spec.persistentVolumeReclaimPolicy: Unsupported value: "x": supported values: "Delete", "Recycle", "Retain""#,
            ],
        );
        check(
            &[("spec.hostPath.path", r#""/""#), ("spec.persistentVolumeReclaimPolicy", r#""Recycle""#)],
            &[
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        );
        check(
            &[("spec.hostPath", ""), ("spec.local", r#"{"path": "/x"}"#)],
            &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        );
        check(&[("spec.hostPath", ""), ("spec.csi", r#"{"driver": "a.b", "volumeHandle": "h"}"#)], &[]);
        check(
            &[
                ("spec.hostPath", ""),
                ("spec.csi", r#"{"driver": "a.b", "nodePublishSecretRef": {"name": "s"}}"#),
            ],
            &[
                "spec.csi.volumeHandle: Required value",
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ],
        );
        check(
            &[("spec.volumeAttributesClassName", r#""""#)],
            &[
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ],
        );
    }

    #[test]
    fn a_volume_stays_where_it_is() {
        let check = |changes: &[(&str, &str)], want: &[&str]| {
            let new = with(&good(), changes);
            assert_eq!(lines(&(PERSISTENT_VOLUME.validate_update)(&new, &good())), want, "{changes:?}");
        };
        check(&[("spec.capacity.storage", r#""2Gi""#), ("spec.claimRef", r#"{"name": "c"}"#)], &[]);
        check(
            &[("spec.hostPath.path", r#""/y""#)],
            &[
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n- hostPath.path: \"/x\"\n+ hostPath.path: \"/y\"",
            ],
        );
        check(
            &[("spec.volumeMode", r#""Block""#)],
            &[r#"volumeMode: Invalid value: "Block": field is immutable"#],
        );
    }
}

//! PersistentVolumeClaims.

use super::Kind;
use super::changes;
use super::check::{self, Check, IMMUTABLE, filled, is_set, same, text};
use super::fill::{Given, absent, each, empty, fill};
use super::pod::requirements::amount;
use super::pod::resources::{round, round_list};
use super::volumes::{access_modes, class_name, positive, quantity, set_phase};
use super::warnings::{self, warned};
use crate::error::Cause;
use crate::quantity::Quantity;
use crate::{Map, Value, names};

pub(super) const PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    resource: "persistentvolumeclaims",
    returned_when_deleted: true,
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
    validate: |claim| check::run(|c| c.field(claim, "spec", |c, spec| claim_spec(c, spec, false))),
    validate_update: validate_claim_update,
    validate_status: validate_claim_status,
    warnings: |object, _| {
        warned(|c| {
            warnings::annotations(c, object, &[warnings::CLASS_ANNOTATION]);
            c.field(object, "spec", warnings::claim);
        })
    },
    ..Kind::DEFAULT
};

/// Defaults of a claim, or of a claim template inside another object.
pub(super) fn claim_defaults(object: &mut Value) {
    fill(
        object,
        &[
            absent("spec!.volumeMode", Given::Text("Filesystem")),
            empty("status!.phase", Given::Text("Pending")),
        ],
    );
    each(object, "spec.resources", &mut round);
    for list in ["status.capacity", "status.allocatedResources"] {
        each(object, list, &mut round_list);
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

/// Checks a claim that is made with a pod or a set of pods.
pub(super) fn claim_template(c: &mut Check, template: &Value) {
    c.field(template, "metadata", |c, metadata| {
        c.labels(metadata, "labels");
        for field in metadata.as_object().into_iter().flat_map(Map::keys) {
            let empty = same(metadata.get(field), None);
            if !matches!(field, "annotations" | "labels") && !empty {
                c.at(field).forbidden("cannot be set");
            }
        }
    });
    c.field(template, "spec", |c, spec| claim_spec(c, spec, false));
}

/// Checks the specification of a claim where the walk stands. A changed claim may keep a group of its source that new
/// ones may not have.
pub(super) fn claim_spec(c: &mut Check, spec: &Value, keeps_group: bool) {
    access_modes(c, spec, "at least 1 access mode is required");
    c.selector(spec, "selector");
    c.within("resources", |c| {
        c.within_key("storage", |c| match spec.at(&["resources", "requests", "storage"]) {
            None => c.here().required(""),
            Some(size) => {
                if positive(c, size) {
                    amount(c, "storage", size);
                }
            }
        });
    });
    class_name(c, spec, "storageClassName");
    c.one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"]);
    for field in ["dataSource", "dataSourceRef"] {
        c.some(spec, field, |c, source| data_source(c, source, keeps_group));
    }
    if let (Some(source), Some(reference)) =
        (spec.object_at(&["dataSource"]), spec.object_at(&["dataSourceRef"]))
    {
        let elsewhere = reference.get("namespace").and_then(Value::as_str).is_some_and(|ns| !ns.is_empty());
        let matches = ["apiGroup", "kind", "name"].iter().all(|f| same(source.get(f), reference.get(f)));
        let path = c.path().field("dataSource").to_string();
        if elsewhere {
            c.here().invalid(path, "may not be specified when dataSourceRef.namespace is specified");
        } else if !matches {
            c.here().invalid(path, "must match dataSourceRef");
        }
    }
    class_name(c, spec, "volumeAttributesClassName");
}

fn data_source(c: &mut Check, source: &Value, keeps_group: bool) {
    c.require(source, "name");
    c.require(source, "kind");
    match filled(source, "apiGroup") {
        None if text(source, "kind") != "PersistentVolumeClaim" => {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            c.here().invalid(text(source, "kind"), detail);
        }
        Some(group) if !keeps_group => c.at("apiGroup").obeys(group, names::dns_subdomain),
        _ => {}
    }
    c.name(source, "namespace", names::dns_label);
}

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn validate_claim_update(new: &Value, old: &Value) -> Vec<Cause> {
    let (Some(spec), Some(before)) = (new.get("spec"), old.get("spec")) else { return Vec::new() };
    let had_group = ["dataSource", "dataSourceRef"].iter().any(|f| before.at(&[f, "apiGroup"]).is_some());
    check::run(|c| {
        c.within("spec", |c| claim_spec(c, spec, had_group));
        let annotation =
            |claim: &Value| crate::meta::annotation(claim, CLASS_ANNOTATION).unwrap_or_default().to_owned();
        if annotation(new) != annotation(old) {
            let path = ["annotations", CLASS_ANNOTATION];
            c.within("metadata", |c| c.at(&path.join(".")).invalid(annotation(new), IMMUTABLE));
        }
        let mut allowed = spec.clone();
        let bound = new.str_at(&["status", "phase"]) == Some("Bound");
        let keep = |allowed: &mut Value, path: &[&str]| match before.at(path) {
            Some(value) => allowed.set(path, value.clone()),
            None => drop(allowed.remove_at(path)),
        };
        if filled(before, "volumeName").is_none() {
            keep(&mut allowed, &["volumeName"]);
        }
        if !is_set(before, "storageClassName") {
            keep(&mut allowed, &["storageClassName"]);
        }
        if bound {
            keep(&mut allowed, &["resources", "requests", "storage"]);
            keep(&mut allowed, &["volumeAttributesClassName"]);
        }
        if !same(Some(&allowed), Some(before)) {
            let changed = changes::describe(before, &allowed);
            c.at("spec").forbidden(&format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims\n{changed}"
            ));
        }
        shrinks(c, spec, before, old);
        if !same(spec.get("volumeMode"), before.get("volumeMode")) {
            c.at("volumeMode").invalid(spec.get("volumeMode").cloned().unwrap_or_default(), IMMUTABLE);
        }
        if is_set(old.get("status").unwrap_or(&Value::Null), "currentVolumeAttributesClassName")
            && filled(spec, "volumeAttributesClassName").is_none()
            && filled(before, "volumeAttributesClassName").is_some()
        {
            let to = if is_set(spec, "volumeAttributesClassName") { "empty string" } else { "nil" };
            let detail = format!(
                "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
            );
            c.within("spec", |c| c.at("volumeAttributesClassName").forbidden(&detail));
        }
    })
}

/// What was asked for may be lowered again until it is there.
fn shrinks(c: &mut Check, spec: &Value, before: &Value, old: &Value) {
    let path = ["resources", "requests", "storage"];
    let (Some(now), Some(then)) = (quantity(spec.at(&path)), quantity(before.at(&path))) else { return };
    let there = quantity(old.at(&["status", "capacity", "storage"])).unwrap_or(Quantity::ZERO);
    if now < then && now <= there {
        c.at("spec.resources.requests.storage").forbidden("field can not be less than status.capacity");
    }
}

fn validate_claim_status(new: &Value, _: &Value) -> Vec<Cause> {
    check::run(|c| {
        c.field(new, "status", |c, status| {
            c.entries(status, "capacity", |c, _, size| {
                if let Some(q) = quantity(Some(size)).filter(|q| q.units() < 0) {
                    c.here().invalid(q.units(), "must be a valid resource quantity");
                }
            });
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{json, lines, with};
    use crate::object;

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

    #[test]
    fn a_claim_asks_for_storage() {
        let good = json(
            r#"{"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}"#,
        );
        let check = |changes: &[(&str, &str)], want: &[&str]| {
            let claim = with(&good, changes);
            assert_eq!(lines(&(PERSISTENT_VOLUME_CLAIM.validate)(&claim)), want, "{changes:?}");
        };
        check(&[], &[]);
        check(
            &[("spec.accessModes", "[]")],
            &["spec.accessModes: Required value: at least 1 access mode is required"],
        );
        check(
            &[("spec.accessModes", r#"["x", "ReadWriteOncePod", "ReadWriteMany"]"#)],
            &[
                r#"spec.accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ],
        );
        check(&[("spec.resources", "{}")], &["spec.resources[storage]: Required value"]);
        check(
            &[("spec.resources.requests.storage", r#""0""#)],
            &[r#"spec.resources[storage]: Invalid value: "0": must be greater than zero"#],
        );
        check(
            &[("spec.volumeMode", r#""x""#)],
            &[r#"spec.volumeMode: Unsupported value: "x": supported values: "Block", "Filesystem""#],
        );
        check(
            &[("spec.dataSource", r#"{"kind": "Pod", "name": "a"}"#)],
            &[
                r#"spec.dataSource: Invalid value: "Pod": must be 'PersistentVolumeClaim' when referencing the default apiGroup"#,
            ],
        );
        check(
            &[
                ("spec.dataSource", r#"{"kind": "PersistentVolumeClaim", "name": "a"}"#),
                ("spec.dataSourceRef", r#"{"kind": "PersistentVolumeClaim", "name": "b"}"#),
            ],
            &[r#"spec: Invalid value: "spec.dataSource": must match dataSourceRef"#],
        );
    }

    #[test]
    fn a_claim_stays_as_it_is() {
        let base = json(
            r#"{"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}"#,
        );
        let check = |old: &[(&str, &str)], new: &[(&str, &str)], want: &[&str]| {
            let old = with(&base, old);
            let new = with(&old, new);
            assert_eq!(lines(&(PERSISTENT_VOLUME_CLAIM.validate_update)(&new, &old)), want, "{new:?}");
        };
        let size = "spec.resources.requests.storage";
        check(&[], &[("spec.volumeName", r#""v""#), ("spec.storageClassName", r#""c""#)], &[]);
        check(&[], &[(size, r#""3Gi""#)], &[]);
        check(&[], &[(size, r#""1500Mi""#)], &[]);
        check(
            &[],
            &[(size, r#""1Gi""#)],
            &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
        );
        let fixed = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                     volumeAttributesClassName for bound claims";
        check(
            &[("spec.volumeName", r#""v""#)],
            &[("spec.volumeName", r#""w""#)],
            &[&format!("{fixed}\n- volumeName: \"v\"\n+ volumeName: \"w\"")],
        );
        check(
            &[("status.phase", r#""Pending""#)],
            &[(size, r#""3Gi""#)],
            &[&format!(
                "{fixed}\n- resources.requests.storage: \"2Gi\"\n+ resources.requests.storage: \"3Gi\""
            )],
        );
        check(
            &[
                ("spec.volumeAttributesClassName", r#""c""#),
                ("status.currentVolumeAttributesClassName", r#""c""#),
            ],
            &[("spec.volumeAttributesClassName", "")],
            &[
                "spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
            ],
        );
    }
}

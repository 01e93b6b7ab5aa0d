//! The group `storage.k8s.io`.

mod drivers;

use super::Kind;
use super::check::{Check, IMMUTABLE, filled, is_set, run, same, text};
use super::fill::{Given, Row, absent, each, fill};
use super::pod::defaults::SOURCES;
use super::warnings::{node_label, selected_labels, warned};
use crate::{Map, Value, names};

const STORAGE: Kind = Kind { group: "storage.k8s.io", generation: false, ..Kind::DEFAULT };

pub(super) const STORAGE_CLASS: Kind = Kind {
    resource: "storageclasses",
    returned_when_deleted: true,
    unconditional_update: true,
    defaults: |object, _| fill(object, CLASS),
    validate: |object| run(|c| storage_class(c, object)),
    validate_update: |object, old| {
        run(|c| {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                c.immutable(object, old, field);
            }
        })
    },
    warnings: |object, _| {
        warned(|c| {
            c.each(object, "allowedTopologies", |c, term| {
                c.each(term, "matchLabelExpressions", |c, expression| {
                    if let Some(message) = node_label(text(expression, "key")) {
                        c.at("key").warn(message);
                    }
                });
            });
        })
    },
    ..STORAGE
};

pub(super) const VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    resource: "volumeattributesclasses",
    returned_when_deleted: true,
    unconditional_update: true,
    validate: |object| run(|c| attributes_class(c, object)),
    validate_update: |object, old| {
        run(|c| {
            for field in ["driverName", "parameters"] {
                if !same(object.get(field), old.get(field)) {
                    c.at(field).forbidden(&format!("updates to {field} are forbidden."));
                }
            }
            attributes_class(c, object);
        })
    },
    ..STORAGE
};

pub(super) const CSI_DRIVER: Kind = Kind {
    resource: "csidrivers",
    returned_when_deleted: true,
    generation: true,
    defaults: |object, _| drivers::driver_defaults(object),
    validate: |object| run(|c| c.field(object, "spec", drivers::driver)),
    validate_update: |object, old| {
        let (spec, before) = (object.at(&["spec"]), old.at(&["spec"]));
        run(|c| {
            c.field(object, "spec", |c, spec| {
                drivers::driver(c, spec);
                let [now, then] = [spec.get("attachRequired"), before.and_then(|b| b.get("attachRequired"))];
                if !same(now, then) {
                    c.at(drivers::ATTACH).invalid(now.cloned().unwrap_or_default(), IMMUTABLE);
                }
            });
            if let (Some(spec), Some(before)) = (spec, before) {
                c.within("spec", |c| c.immutable(spec, before, "volumeLifecycleModes"));
            }
        })
    },
    warnings: drivers::driver_warnings,
    ..STORAGE
};

pub(super) const CSI_NODE: Kind = Kind {
    resource: "csinodes",
    returned_when_deleted: true,
    validate: |object| run(|c| drivers::node_drivers(c, object)),
    validate_update: |object, old| {
        run(|c| {
            drivers::node_drivers(c, object);
            c.within("spec", |c| drivers::drivers_stay(c, object, old));
        })
    },
    ..STORAGE
};

pub(super) const CSI_STORAGE_CAPACITY: Kind = Kind {
    resource: "csistoragecapacities",
    validate: |object| run(|c| drivers::capacity(c, object)),
    validate_update: |object, old| {
        run(|c| {
            c.immutable(object, old, "nodeTopology");
            c.immutable(object, old, "storageClassName");
        })
    },
    warnings: |object, _| warned(|c| c.field(object, "nodeTopology", selected_labels)),
    ..STORAGE
};

pub(super) const VOLUME_ATTACHMENT: Kind = Kind {
    resource: "volumeattachments",
    returned_when_deleted: true,
    defaults: |object, _| each(object, "spec.source.inlineVolumeSpec", &mut |spec| fill(spec, SOURCES)),
    validate: |object| run(|c| c.field(object, "spec", drivers::attachment)),
    validate_update: |object, old| {
        run(|c| {
            c.field(object, "spec", drivers::attachment);
            c.immutable(object, old, "spec");
        })
    },
    validate_status: |object, _| run(|c| c.field(object, "status", drivers::attached)),
    ..STORAGE
};

const CLASS: &[Row] =
    &[absent("reclaimPolicy", Given::Text("Delete")), absent("volumeBindingMode", Given::Text("Immediate"))];

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 << 10;

fn storage_class(c: &mut Check, object: &Value) {
    provisioner(c, object, "provisioner");
    parameters(c, object);
    if filled(object, "reclaimPolicy").is_some() {
        c.one_of(object, "reclaimPolicy", &["Delete", "Retain"]);
    }
    if is_set(object, "volumeBindingMode") {
        c.one_of(object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]);
    } else {
        c.at("volumeBindingMode").required("");
    }
    topologies(c, object);
}

fn attributes_class(c: &mut Check, object: &Value) {
    provisioner(c, object, "driverName");
    parameters(c, object);
    if object.object_at(&["parameters"]).is_none_or(Map::is_empty) {
        c.at("parameters").required("must contain at least one key/value pair");
    }
}

fn provisioner(c: &mut Check, object: &Value, field: &str) {
    if let Some(name) = c.require(object, field) {
        let name = name.to_ascii_lowercase();
        c.at(field).obeys(&name, names::qualified);
    }
}

/// How many bytes the keys and texts of a map take.
fn size(map: &Map) -> usize {
    map.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
}

fn parameters(c: &mut Check, object: &Value) {
    let Some(all) = object.object_at(&["parameters"]) else { return };
    if all.len() > MAX_PARAMETERS {
        return c.at("parameters").too_long(MAX_PARAMETERS);
    }
    if all.contains("") {
        c.at("parameters").invalid("", "field can not be empty.");
    }
    if size(all) > MAX_PARAMETERS_SIZE {
        c.at("parameters").too_long(MAX_PARAMETERS_SIZE);
    }
}

fn topologies(c: &mut Check, object: &Value) {
    let terms = object.array_at(&["allowedTopologies"]);
    for (i, term) in terms.iter().enumerate() {
        c.within("allowedTopologies", |c| {
            c.within_index(i, |c| {
                topology(c, term);
                if means_all(term) || terms[..i].iter().any(|other| meaning(other) == meaning(term)) {
                    c.at("matchLabelExpressions").duplicate("");
                }
            });
        });
    }
}

fn topology(c: &mut Check, term: &Value) {
    let mut keys = Vec::new();
    c.each(term, "matchLabelExpressions", |c, expression| {
        let values = expression.array_at(&["values"]);
        if values.is_empty() {
            c.at("values").required("");
        }
        for (i, value) in values.iter().enumerate() {
            if values[..i].contains(value) {
                c.at("values").index(i).duplicate(value.clone());
            }
        }
        let key = text(expression, "key");
        c.at("key").obeys(key, names::qualified);
        if keys.contains(&key) {
            c.at("key").duplicate(key);
        }
        keys.push(key);
    });
}

/// A topology that names nothing is refused as one that is there already.
fn means_all(term: &Value) -> bool {
    term.array_at(&["matchLabelExpressions"]).is_empty()
}

/// The keys and values that a topology names, in an order of their own.
fn meaning(term: &Value) -> Vec<(&str, Vec<&str>)> {
    let mut all: Vec<_> = term
        .array_at(&["matchLabelExpressions"])
        .iter()
        .map(|expression| {
            let mut values: Vec<&str> =
                expression.array_at(&["values"]).iter().filter_map(Value::as_str).collect();
            values.sort_unstable();
            (text(expression, "key"), values)
        })
        .collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn classes() {
        let base = json(r#"{"provisioner": "a.b/c", "volumeBindingMode": "Immediate"}"#);
        cases(&base, CLASSES, STORAGE_CLASS.validate);
        cases(&base, CLASS_CHANGES, |object| (STORAGE_CLASS.validate_update)(object, &base));
        let base = json(r#"{"driverName": "a.b", "parameters": {"a": "b"}}"#);
        cases(&base, ATTRIBUTES, VOLUME_ATTRIBUTES_CLASS.validate);
        cases(&base, ATTRIBUTE_CHANGES, |object| (VOLUME_ATTRIBUTES_CLASS.validate_update)(object, &base));
        let mut big = base;
        big.set(&["parameters", "a"], "x".repeat(MAX_PARAMETERS_SIZE));
        assert_eq!((VOLUME_ATTRIBUTES_CLASS.validate)(&big).len(), 1);
        let many = (0..=MAX_PARAMETERS).map(|i| (i.to_string().into(), "".into()));
        big.set(&["parameters"], Value::Object(many.collect()));
        assert_eq!((VOLUME_ATTRIBUTES_CLASS.validate)(&big).len(), 1);
    }

    const CLASSES: &str = r#"
reclaimPolicy = "Retain"
allowedTopologies = [{"matchLabelExpressions": [{"key": "a", "values": ["b"]}]}]

provisioner = ""
volumeBindingMode =
reclaimPolicy = "Recycle"
parameters = {"": "a"}
! provisioner: Required value
! parameters: Invalid value: "": field can not be empty.
! reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
! volumeBindingMode: Required value

volumeBindingMode = "x"
! volumeBindingMode: Unsupported value: "x": supported values: "Immediate", "WaitForFirstConsumer"

allowedTopologies = [{"matchLabelExpressions": [{"key": "a", "values": ["b", "b"]}, {"key": "a", "values": []}]}]
! allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "b"
! allowedTopologies[0].matchLabelExpressions[1].values: Required value
! allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "a"

allowedTopologies = [{"matchLabelExpressions": [{"key": "a", "values": ["b", "c"]}]},
  {"matchLabelExpressions": [{"key": "a", "values": ["c", "b"]}]}]
! allowedTopologies[1].matchLabelExpressions: Duplicate value: ""
"#;

    const CLASS_CHANGES: &str = r#"
allowVolumeExpansion = true
parameters = {}

provisioner = "x"
reclaimPolicy = "Retain"
parameters = {"a": "b"}
volumeBindingMode = "WaitForFirstConsumer"
! parameters: Invalid value: {"a":"b"}: field is immutable
! provisioner: Invalid value: "x": field is immutable
! reclaimPolicy: Invalid value: "Retain": field is immutable
! volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable
"#;

    const ATTRIBUTES: &str = r#"
driverName = "A.B"

driverName =
parameters =
! driverName: Required value
! parameters: Required value: must contain at least one key/value pair
"#;

    const ATTRIBUTE_CHANGES: &str = r#"
metadata = {"labels": {"a": "b"}}

driverName = "x"
parameters = {"a": "c"}
! driverName: Forbidden: updates to driverName are forbidden.
! parameters: Forbidden: updates to parameters are forbidden.
"#;
}

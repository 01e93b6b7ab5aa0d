//! The group `resource.k8s.io`: devices and claims to them.
//!
//! The time that a taint of a device was added, where the driver does not say it, is the server's to set.

mod capacity;
mod claims;
mod device;
mod slices;

use super::Kind;
use super::check::{self, Check, run};
use super::fill::{Given, each, empty, fill, text};
use super::pod::volumes::driver_name;
use crate::{Value, names};

const RESOURCE: Kind = Kind { group: "resource.k8s.io", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const DEVICE_CLASS: Kind = Kind {
    resource: "deviceclasses",
    returned_when_deleted: true,
    validate: |object| run(|c| c.field(object, "spec", claims::class)),
    validate_update: |object, _| run(|c| c.field(object, "spec", claims::class)),
    ..RESOURCE
};

pub(super) const RESOURCE_SLICE: Kind = Kind {
    resource: "resourceslices",
    returned_when_deleted: true,
    validate: |object| run(|c| c.field(object, "spec", |c, spec| slices::check(c, spec, None))),
    validate_update: |object, old| {
        run(|c| c.field(object, "spec", |c, spec| slices::check(c, spec, old.get("spec"))))
    },
    warnings: |object, _| {
        let driver = object.str_at(&["spec", "driver"]).unwrap_or_default();
        if driver.to_lowercase() == driver {
            return Vec::new();
        }
        vec![format!(
            "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
        )]
    },
    ..RESOURCE
};

pub(super) const RESOURCE_CLAIM: Kind = Kind {
    resource: "resourceclaims",
    returned_when_deleted: true,
    generation: false,
    defaults: |object, _| {
        each(object, "spec", &mut claim_defaults);
        fill(object, &[text("status.allocation.devices.results[*].tolerations[*].operator", "Equal")]);
    },
    validate: |object| run(|c| c.field(object, "spec", claims::check)),
    validate_update: |object, old| run(|c| c.immutable(object, old, "spec")),
    validate_status: |object, old| run(|c| claims::status(c, object, old)),
    ..RESOURCE
};

pub(super) const RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    resource: "resourceclaimtemplates",
    returned_when_deleted: true,
    generation: false,
    defaults: |object, _| each(object, "spec.spec", &mut claim_defaults),
    validate: |object| {
        run(|c| {
            c.field(object, "spec", |c, spec| {
                c.some(spec, "metadata", |c, metadata| {
                    c.labels(metadata, "labels");
                    for key in metadata.object_at(&["annotations"]).into_iter().flat_map(crate::Map::keys) {
                        c.at("annotations").obeys(&key.to_ascii_lowercase(), names::qualified);
                    }
                });
                c.field(spec, "spec", claims::check);
            });
        })
    },
    validate_update: |object, old| run(|c| c.immutable(object, old, "spec")),
    ..RESOURCE
};

fn claim_defaults(spec: &mut Value) {
    for path in ["devices.requests[*].exactly", "devices.requests[*].firstAvailable[*]"] {
        each(spec, path, &mut |request| {
            fill(request, &[text("allocationMode", "ExactCount"), text("tolerations[*].operator", "Equal")]);
            if request.str_at(&["allocationMode"]) == Some("ExactCount") {
                fill(request, &[empty("count", Given::Int(1))]);
            }
        });
    }
}

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Walks a list of bounded length; one that is too long is not looked into.
fn few<'v>(
    c: &mut Check,
    owner: &'v Value,
    list: &str,
    max: usize,
    walk: impl FnMut(&mut Check, &'v Value),
) -> bool {
    let count = owner.array_at(&[list]).len();
    if count > max {
        c.at(list).too_many(count, max);
        return false;
    }
    c.each(owner, list, walk);
    true
}

/// Walks a list of bounded length in which each element has a key of its own.
fn set<'v>(
    c: &mut Check,
    owner: &'v Value,
    list: &str,
    max: usize,
    key: impl Fn(&Value) -> String,
    walk: impl FnMut(&mut Check, &'v Value),
) {
    if !few(c, owner, list, max, walk) {
        return;
    }
    let keys: Vec<String> = owner.array_at(&[list]).iter().map(key).collect();
    for (i, key) in keys.iter().enumerate() {
        if keys[..i].contains(key) {
            c.at(list).index(i).duplicate(key.as_str());
        }
    }
}

/// What a list of texts is told apart by.
fn itself(item: &Value) -> String {
    item.as_str().unwrap_or_default().to_owned()
}

/// What a list of named things is told apart by.
fn by_name(item: &Value) -> String {
    check::text(item, "name").to_owned()
}

/// Which device is meant, among those of all drivers.
fn device_of(c: &mut Check, owner: &Value) {
    driver_name(c, owner, "driver");
    pool_name(c, owner, "pool");
    c.at("device").obeys(check::text(owner, "device"), names::dns_label);
}

fn pool_name(c: &mut Check, owner: &Value, field: &str) {
    const MAX: usize = 253;
    let Some(name) = c.require(owner, field) else { return };
    if name.len() > MAX {
        c.at(field).too_long(MAX);
    }
    for part in name.split('/') {
        c.at(field).obeys(part, names::dns_subdomain);
    }
}

/// The conditions under which what was allocated is bound, or given up.
fn bindings(c: &mut Check, owner: &Value) {
    const FIELDS: [&str; 2] = ["bindingConditions", "bindingFailureConditions"];
    const MAX: usize = 4;
    let [good, bad] = FIELDS.map(|field| owner.array_at(&[field]));
    for field in FIELDS {
        few(c, owner, field, MAX, |c, name| {
            c.here().obeys(name.as_str().unwrap_or_default(), names::qualified);
        });
    }
    for (field, all) in FIELDS.into_iter().zip([good, bad]) {
        for (i, name) in all.iter().enumerate() {
            if all[..i].contains(name) {
                c.at(field).index(i).duplicate(name.clone());
            }
            if field == FIELDS[1] && good.contains(name) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                c.at(field).index(i).invalid(name.clone(), detail);
            }
        }
    }
    for (mine, other, [field, others]) in [(good, bad, FIELDS), (bad, good, [FIELDS[1], FIELDS[0]])] {
        if mine.is_empty() && !other.is_empty() {
            c.at(field).invalid(Value::Null, &format!("{field} are required to use {others}"));
        }
    }
}

/// A flag that is either set or absent; whether it is set.
fn flag(c: &mut Check, owner: &Value, field: &str) -> bool {
    if owner.bool_at(&[field]) == Some(false) {
        c.at(field).invalid(false, "must be either unset or set to true");
    }
    check::is_true(owner, field)
}

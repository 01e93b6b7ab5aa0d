//! The group `resource.k8s.io`: devices and claims to them.
//!
//! The time that a taint of a device was added, where the driver does not say it, is the server's to set.

use super::Kind;
use super::fill::{Given, each, empty, fill, text};
use crate::Value;

const RESOURCE: Kind = Kind { group: "resource.k8s.io", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const DEVICE_CLASS: Kind = Kind { resource: "deviceclasses", ..RESOURCE };

pub(super) const RESOURCE_SLICE: Kind = Kind { resource: "resourceslices", ..RESOURCE };

pub(super) const RESOURCE_CLAIM: Kind = Kind {
    resource: "resourceclaims",
    generation: false,
    defaults: |object, _| {
        each(object, "spec", &mut claim_defaults);
        fill(object, &[text("status.allocation.devices.results[*].tolerations[*].operator", "Equal")]);
    },
    ..RESOURCE
};

pub(super) const RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    resource: "resourceclaimtemplates",
    generation: false,
    defaults: |object, _| each(object, "spec.spec", &mut claim_defaults),
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

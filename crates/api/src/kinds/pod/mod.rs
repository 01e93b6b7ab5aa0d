//! Pods, pod templates, and the specification of a pod wherever it stands.

pub(super) mod check;
mod containers;
pub(super) mod defaults;
mod env;
mod mounts;
mod overlaps;
mod prepare;
mod probes;
mod projected;
pub(super) mod requirements;
pub(super) mod resources;
pub(super) mod scheduling;
mod security;
#[cfg(test)]
mod tests;
mod update;
pub(super) mod volumes;
pub(super) mod warnings;

use super::Kind;
use super::check::run;
use super::warnings::workload;
use crate::Value;
use crate::error::Cause;

pub(super) const POD: Kind = Kind {
    resource: "pods",
    returned_when_deleted: true,
    unconditional_update: true,
    defaults: |pod, _| defaults::pod(pod),
    prepare_create: prepare::create,
    validate: check::create,
    validate_update: update::validate,
    validate_status: update::validate_status,
    warnings: warnings::of_pod,
    ..Kind::DEFAULT
};

pub(super) const POD_TEMPLATE: Kind = Kind {
    resource: "podtemplates",
    returned_when_deleted: true,
    unconditional_update: true,
    defaults: |object, _| defaults::template(object, "template!"),
    validate: validate_template,
    validate_update: |object, _| validate_template(object),
    warnings: |object, old| workload(object, old, &["template"], false),
    ..Kind::DEFAULT
};

fn validate_template(object: &Value) -> Vec<Cause> {
    run(|c| c.field(object, "template", check::template))
}

/// What is wrong with containers that are added to a running pod to look into it: the object that the
/// `ephemeralcontainers` subresource made of the old one (second).
#[must_use]
pub fn validate_ephemeral_containers(new: &Value, old: &Value) -> Vec<Cause> {
    update::validate_ephemeral(new, old)
}

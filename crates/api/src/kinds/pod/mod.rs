//! Pods, pod templates, and the specification of a pod wherever it stands.

pub(super) mod defaults;
mod prepare;
pub(super) mod resources;

use super::Kind;

pub(super) const POD: Kind = Kind {
    resource: "pods",
    unconditional_update: true,
    defaults: |pod, _| defaults::pod(pod),
    prepare_create: prepare::create,
    ..Kind::DEFAULT
};

pub(super) const POD_TEMPLATE: Kind = Kind {
    resource: "podtemplates",
    unconditional_update: true,
    defaults: |object, _| defaults::template(object, "template!"),
    ..Kind::DEFAULT
};

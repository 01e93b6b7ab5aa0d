//! Webhook configurations and admission policies.

mod policies;
mod rules;
mod webhooks;

use super::Kind;
use super::check::run;
use super::fill::{Given, Row, absent, each, fill, text};
use crate::{Value, meta};

const ADMISSION: Kind =
    Kind { group: "admissionregistration.k8s.io", warnings: |object, _| warnings(object), ..Kind::DEFAULT };

/// Names with this end belong to configurations that are read from files.
const FROM_FILES: &str = ".static.k8s.io";

fn warnings(object: &Value) -> Vec<String> {
    if !meta::name(object).ends_with(FROM_FILES) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with \"{FROM_FILES}\" are reserved for static manifest-based configurations and \
         cannot be managed via the API"
    )]
}

pub(super) const VALIDATING_WEBHOOKS: Kind = Kind {
    resource: "validatingwebhookconfigurations",
    defaults: |object, _| each(object, "webhooks[*]", &mut |webhook| fill(webhook, WEBHOOK)),
    validate: |object| run(|c| webhooks::check(c, object, None)),
    validate_update: |object, old| run(|c| webhooks::check(c, object, Some(old))),
    ..ADMISSION
};

pub(super) const MUTATING_WEBHOOKS: Kind = Kind {
    resource: "mutatingwebhookconfigurations",
    defaults: |object, _| {
        each(object, "webhooks[*]", &mut |webhook| {
            fill(webhook, WEBHOOK);
            fill(webhook, &[absent("reinvocationPolicy", Given::Text("Never"))]);
        });
    },
    validate: |object| run(|c| webhooks::check(c, object, None)),
    validate_update: |object, old| run(|c| webhooks::check(c, object, Some(old))),
    ..ADMISSION
};

pub(super) const VALIDATING_POLICY: Kind = Kind {
    resource: "validatingadmissionpolicies",
    defaults: |object, _| policy_defaults(object),
    validate: |object| run(|c| policies::validating(c, object, None)),
    validate_update: |object, old| run(|c| policies::validating(c, object, Some(old))),
    validate_status: |object, _| run(|c| c.field(object, "status", policies::status)),
    ..ADMISSION
};

pub(super) const MUTATING_POLICY: Kind = Kind {
    resource: "mutatingadmissionpolicies",
    defaults: |object, _| policy_defaults(object),
    validate: |object| run(|c| policies::mutating(c, object, None)),
    validate_update: |object, old| run(|c| policies::mutating(c, object, Some(old))),
    ..ADMISSION
};

pub(super) const VALIDATING_POLICY_BINDING: Kind = Kind {
    resource: "validatingadmissionpolicybindings",
    defaults: |object, _| each(object, "spec.matchResources", &mut match_defaults),
    validate: |object| run(|c| c.field(object, "spec", policies::validating_binding)),
    validate_update: |object, _| run(|c| c.field(object, "spec", policies::validating_binding)),
    ..ADMISSION
};

pub(super) const MUTATING_POLICY_BINDING: Kind = Kind {
    resource: "mutatingadmissionpolicybindings",
    defaults: |object, _| each(object, "spec.matchResources", &mut match_defaults),
    validate: |object| run(|c| c.field(object, "spec", policies::mutating_binding)),
    validate_update: |object, _| run(|c| c.field(object, "spec", policies::mutating_binding)),
    ..ADMISSION
};

const WEBHOOK: &[Row] = &[
    absent("failurePolicy", Given::Text("Fail")),
    absent("matchPolicy", Given::Text("Equivalent")),
    absent("namespaceSelector", Given::Object),
    absent("objectSelector", Given::Object),
    absent("timeoutSeconds", Given::Int(10)),
    absent("clientConfig.service.port", Given::Int(443)),
    absent("rules[*].scope", Given::Text("*")),
];

const MATCH: &[Row] = &[
    absent("matchPolicy", Given::Text("Equivalent")),
    absent("namespaceSelector", Given::Object),
    absent("objectSelector", Given::Object),
    absent("resourceRules[*].scope", Given::Text("*")),
    absent("excludeResourceRules[*].scope", Given::Text("*")),
];

fn match_defaults(resources: &mut Value) {
    fill(resources, MATCH);
}

fn policy_defaults(object: &mut Value) {
    fill(object, &[text("spec!.failurePolicy", "Fail")]);
    each(object, "spec.matchConstraints", &mut match_defaults);
}

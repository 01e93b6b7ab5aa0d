//! Webhook configurations and admission policies.

use super::Kind;
use super::fill::{Given, Row, absent, each, fill, text};
use crate::Value;

const ADMISSION: Kind = Kind { group: "admissionregistration.k8s.io", ..Kind::DEFAULT };

pub(super) const VALIDATING_WEBHOOKS: Kind = Kind {
    resource: "validatingwebhookconfigurations",
    defaults: |object, _| each(object, "webhooks[*]", &mut |webhook| fill(webhook, WEBHOOK)),
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
    ..ADMISSION
};

pub(super) const VALIDATING_POLICY: Kind = Kind {
    resource: "validatingadmissionpolicies",
    defaults: |object, _| policy_defaults(object),
    ..ADMISSION
};

pub(super) const MUTATING_POLICY: Kind = Kind {
    resource: "mutatingadmissionpolicies",
    defaults: |object, _| policy_defaults(object),
    ..ADMISSION
};

pub(super) const VALIDATING_POLICY_BINDING: Kind = Kind {
    resource: "validatingadmissionpolicybindings",
    defaults: |object, _| each(object, "spec.matchResources", &mut match_defaults),
    ..ADMISSION
};

pub(super) const MUTATING_POLICY_BINDING: Kind = Kind {
    resource: "mutatingadmissionpolicybindings",
    defaults: |object, _| each(object, "spec.matchResources", &mut match_defaults),
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

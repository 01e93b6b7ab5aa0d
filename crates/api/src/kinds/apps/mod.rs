//! Workloads of `apps`, and the ReplicationController before them.

pub(super) mod rules;
mod stateful;
#[cfg(test)]
mod tests;

use super::check::run;
use super::fill::{Given, absent, fill, text};
use super::pod::defaults::template;
use super::warnings::workload;
use super::{Kind, names};
use crate::error::Cause;
use crate::{Value, meta};

const APPS: Kind = Kind { group: "apps", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const DEPLOYMENT: Kind = Kind {
    resource: "deployments",
    defaults: |object, _| deployment_defaults(object),
    prepare_update: count_annotations,
    validate: |object| run(|c| c.field(object, "spec", rules::deployment)),
    validate_update: |object, old| {
        run(|c| {
            c.field(object, "spec", rules::deployment);
            rules::selector_stays(c, object, old);
        })
    },
    validate_status: |object, old| {
        run(|c| {
            let counts = ["updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"];
            rules::status_counts(c, object, old, &counts, "readyReplicas");
        })
    },
    warnings: |object, old| workload(object, old, PODS, true),
    ..APPS
};

pub(super) const REPLICA_SET: Kind = Kind {
    resource: "replicasets",
    defaults: |object, _| {
        fill(object, &[absent("spec!.replicas", Given::Int(1))]);
        template(object, TEMPLATE);
    },
    validate: |object| run(|c| c.field(object, "spec", rules::replica_set)),
    validate_update: |object, old| {
        run(|c| {
            c.field(object, "spec", rules::replica_set);
            rules::selector_stays(c, object, old);
        })
    },
    validate_status: replica_status,
    warnings: |object, old| workload(object, old, PODS, true),
    ..APPS
};

pub(super) const DAEMON_SET: Kind = Kind {
    resource: "daemonsets",
    defaults: |object, _| daemon_set_defaults(object),
    prepare_create: |object| {
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    },
    prepare_update: |object, old| {
        let generation = template_generation(old);
        let changed = object.at(&["spec", "template"]) != old.at(&["spec", "template"]);
        set_template_generation(object, if changed { generation.saturating_add(1) } else { generation });
    },
    validate: |object| run(|c| c.field(object, "spec", rules::daemon_set)),
    validate_update: |object, old| {
        run(|c| {
            rules::selector_stays(c, object, old);
            c.field(object, "spec", rules::daemon_set);
        })
    },
    validate_status: |object, old| run(|c| rules::daemon_set_status(c, object, old)),
    warnings: |object, old| workload(object, old, PODS, false),
    ..APPS
};

pub(super) const STATEFUL_SET: Kind = Kind {
    resource: "statefulsets",
    name: names::dns_label,
    defaults: |object, _| stateful::defaults(object),
    prepare_create: |object| stateful::drop_disabled(object, None),
    prepare_update: |object, old| stateful::drop_disabled(object, Some(old)),
    validate: |object| run(|c| c.field(object, "spec", |c, spec| stateful::check(c, spec, true))),
    validate_update: |object, old| run(|c| stateful::check_update(c, object, old)),
    validate_status: |object, old| run(|c| stateful::check_status(c, object, old)),
    warnings: |object, old| {
        let mut out = workload(object, old, PODS, false);
        out.extend(stateful::warnings(object));
        out
    },
    ..APPS
};

pub(super) const CONTROLLER_REVISION: Kind = Kind {
    resource: "controllerrevisions",
    generation: false,
    validate: |object| run(|c| rules::revision(c, object)),
    validate_update: |object, old| {
        run(|c| {
            c.non_negative(object, "revision");
            c.immutable(object, old, "data");
        })
    },
    ..APPS
};

pub(super) const REPLICATION_CONTROLLER: Kind = Kind {
    resource: "replicationcontrollers",
    unconditional_update: true,
    orphan_by_default: true,
    defaults: |object, _| replication_controller_defaults(object),
    validate: |object| run(|c| c.field(object, "spec", rules::replication_controller)),
    validate_update: |object, _| run(|c| c.field(object, "spec", rules::replication_controller)),
    validate_status: replica_status,
    warnings: |object, old| workload(object, old, PODS, true),
    ..Kind::DEFAULT
};

fn replica_status(object: &Value, old: &Value) -> Vec<Cause> {
    run(|c| {
        let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        rules::status_counts(c, object, old, &counts, "readyReplicas");
    })
}

/// Where the template for pods stands.
const PODS: &[&str] = &["spec", "template"];
const TEMPLATE: &str = "spec!.template!";

fn deployment_defaults(object: &mut Value) {
    fill(
        object,
        &[
            absent("spec!.replicas", Given::Int(1)),
            text("spec.strategy!.type", "RollingUpdate"),
            absent("spec.revisionHistoryLimit", Given::Int(10)),
            absent("spec.progressDeadlineSeconds", Given::Int(600)),
        ],
    );
    if object.str_at(&["spec", "strategy", "type"]) == Some("RollingUpdate") {
        fill(
            object,
            &[
                absent("spec.strategy.rollingUpdate!.maxUnavailable", Given::Text("25%")),
                absent("spec.strategy.rollingUpdate.maxSurge", Given::Text("25%")),
            ],
        );
    }
    template(object, TEMPLATE);
}

/// A changed annotation counts as a changed specification: replica sets copy them.
fn count_annotations(object: &mut Value, old: &Value) {
    const GENERATION: [&str; 2] = ["metadata", "generation"];
    let annotations = ["metadata", "annotations"];
    let before = old.i64_at(&GENERATION).unwrap_or(0);
    let counted = object.i64_at(&GENERATION).is_some_and(|now| now > before);
    if !counted && object.as_object().is_some() && object.at(&annotations) != old.at(&annotations) {
        object.set(&GENERATION, before.saturating_add(1));
    }
}

fn daemon_set_defaults(object: &mut Value) {
    fill(
        object,
        &[
            text("spec!.updateStrategy!.type", "RollingUpdate"),
            absent("spec.revisionHistoryLimit", Given::Int(10)),
        ],
    );
    if object.str_at(&["spec", "updateStrategy", "type"]) == Some("RollingUpdate") {
        fill(
            object,
            &[
                absent("spec.updateStrategy.rollingUpdate!.maxUnavailable", Given::Int(1)),
                absent("spec.updateStrategy.rollingUpdate.maxSurge", Given::Int(0)),
            ],
        );
    }
    if meta::annotation(object, TEMPLATE_GENERATION).is_none() {
        set_template_generation(object, 0);
    }
    template(object, TEMPLATE);
}

/// How often the template of a daemon set changed, which older clients read from an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> i64 {
    meta::annotation(object, TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    if object.as_object().is_some() {
        object.set(&["metadata", "annotations", TEMPLATE_GENERATION], generation.to_string());
    }
}

fn replication_controller_defaults(object: &mut Value) {
    fill(object, &[absent("spec!.replicas", Given::Int(1))]);
    labels_from_template(object, &[&["spec", "selector"], &["metadata", "labels"]]);
    if object.object_at(&["spec", "template"]).is_some() {
        template(object, "spec.template");
    }
}

/// Fills empty maps of labels from the labels of the pod template.
pub(super) fn labels_from_template(object: &mut Value, targets: &[&[&str]]) {
    let Some(labels) = object.object_at(&["spec", "template", "metadata", "labels"]).cloned() else { return };
    for target in targets {
        let given = object.object_at(target).is_some_and(|map| !map.is_empty());
        if !given && !labels.is_empty() {
            object.set(target, labels.clone());
        }
    }
}

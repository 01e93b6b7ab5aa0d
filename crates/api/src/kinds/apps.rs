//! Workloads of `apps`, and the ReplicationController before them.

use super::fill::{Given, Row, absent, fill, text};
use super::pod::defaults::template;
use super::{Kind, names};
use crate::{Value, meta};

const APPS: Kind = Kind { group: "apps", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const DEPLOYMENT: Kind = Kind {
    resource: "deployments",
    defaults: |object, _| deployment_defaults(object),
    prepare_update: count_annotations,
    ..APPS
};

pub(super) const REPLICA_SET: Kind = Kind {
    resource: "replicasets",
    defaults: |object, _| {
        fill(object, &[absent("spec!.replicas", Given::Int(1))]);
        template(object, TEMPLATE);
    },
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
    ..APPS
};

pub(super) const STATEFUL_SET: Kind = Kind {
    resource: "statefulsets",
    name: names::dns_label,
    defaults: |object, _| stateful_set_defaults(object),
    ..APPS
};

pub(super) const CONTROLLER_REVISION: Kind =
    Kind { resource: "controllerrevisions", generation: false, ..APPS };

pub(super) const REPLICATION_CONTROLLER: Kind = Kind {
    resource: "replicationcontrollers",
    unconditional_update: true,
    orphan_by_default: true,
    defaults: |object, _| replication_controller_defaults(object),
    ..Kind::DEFAULT
};

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

const STATEFUL_SET_SPEC: &[Row] = &[
    text("spec!.podManagementPolicy", "OrderedReady"),
    text("spec.persistentVolumeClaimRetentionPolicy!.whenDeleted", "Retain"),
    text("spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Retain"),
    absent("spec.replicas", Given::Int(1)),
    absent("spec.revisionHistoryLimit", Given::Int(10)),
];

fn stateful_set_defaults(object: &mut Value) {
    fill(object, STATEFUL_SET_SPEC);
    if object.str_at(&["spec", "updateStrategy", "type"]).is_none_or(str::is_empty) {
        fill(
            object,
            &[
                text("spec.updateStrategy!.type", "RollingUpdate"),
                absent("spec.updateStrategy.rollingUpdate", Given::Object),
            ],
        );
    }
    if object.str_at(&["spec", "updateStrategy", "type"]) == Some("RollingUpdate") {
        fill(object, &[absent("spec.updateStrategy.rollingUpdate.partition", Given::Int(0))]);
    }
    template(object, TEMPLATE);
    super::fill::each(object, "spec.volumeClaimTemplates[*]", &mut super::claims::claim_defaults);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn strategies_are_completed() {
        let check = |kind: &Kind, spec: Value, path: &[&str], want: Value| {
            let mut object = object!({"spec": (spec)});
            (kind.defaults)(&mut object, "v1");
            assert_eq!(object.at(path), Some(&want));
        };
        let deployment = ["spec", "strategy"];
        let rolling = object!({"maxSurge": "25%", "maxUnavailable": "25%"});
        check(
            &DEPLOYMENT,
            object!({}),
            &deployment,
            object!({"type": "RollingUpdate", "rollingUpdate": (rolling)}),
        );
        check(
            &DEPLOYMENT,
            object!({"strategy": {"type": "Recreate"}}),
            &deployment,
            object!({"type": "Recreate"}),
        );
        let update = ["spec", "updateStrategy"];
        check(
            &DAEMON_SET,
            object!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}),
            &update,
            object!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
        );
        check(
            &STATEFUL_SET,
            object!({}),
            &update,
            object!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
        );
        check(
            &STATEFUL_SET,
            object!({"updateStrategy": {"type": "RollingUpdate"}}),
            &update,
            object!({"type": "RollingUpdate"}),
        );
        check(&REPLICA_SET, object!({}), &["spec", "replicas"], object!(1));
        let template = object!({"metadata": {"labels": {"a": "b"}}});
        check(
            &REPLICATION_CONTROLLER,
            object!({"template": (template)}),
            &["spec", "selector"],
            object!({"a": "b"}),
        );
    }

    #[test]
    fn changes_are_counted() {
        let old = object!({"metadata": {"generation": 3, "annotations": {"a": "b"}}});
        let check = |mut object: Value, want: i64| {
            (DEPLOYMENT.prepare_update)(&mut object, &old);
            assert_eq!(object.i64_at(&["metadata", "generation"]), Some(want));
        };
        check(old.clone(), 3);
        check(object!({"metadata": {"generation": 3, "annotations": {"a": "c"}}}), 4);
        check(object!({"metadata": {"generation": 4}}), 4);

        let mut set = object!({"spec": {"template": {"a": 1}}});
        (DAEMON_SET.prepare_create)(&mut set);
        let old = set.clone();
        set.set(&["spec", "template", "a"], 2);
        (DAEMON_SET.prepare_update)(&mut set, &old);
        assert_eq!((template_generation(&old), template_generation(&set)), (1, 2));
    }
}

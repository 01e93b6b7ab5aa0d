//! Cases for workloads.

use super::*;
use crate::kinds::check::testing::{json, lines, with};
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

const TEMPLATE: &str =
    r#"{"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}"#;

/// Checks the specification `fields` (JSON members), with a selector and a template that match.
fn check(kind: &Kind, changes: &[(&str, &str)], want: &[&str]) {
    let base = json(&format!(
        r#"{{"spec": {{"selector": {{"matchLabels": {{"app": "web"}}}}, "template": {TEMPLATE}}}}}"#
    ));
    let mut object = with(&base, changes);
    (kind.defaults)(&mut object, "v1");
    assert_eq!(lines(&(kind.validate)(&object)), want, "{} {changes:?}", kind.resource);
}

fn update(kind: &Kind, old: &[(&str, &str)], new: &[(&str, &str)], want: &[&str]) {
    let base = json(&format!(
        r#"{{"spec": {{"selector": {{"matchLabels": {{"app": "web"}}}}, "template": {TEMPLATE}}}}}"#
    ));
    let mut old = with(&base, old);
    (kind.defaults)(&mut old, "v1");
    let new = with(&old, new);
    assert_eq!(lines(&(kind.validate_update)(&new, &old)), want, "{} {new:?}", kind.resource);
}

#[test]
fn selectors_match_templates() {
    for (kind, noun) in [
        (&DEPLOYMENT, "deployment"),
        (&REPLICA_SET, "deployment"),
        (&DAEMON_SET, "daemonset"),
        (&STATEFUL_SET, "statefulset"),
    ] {
        check(kind, &[], &[]);
        check(
            kind,
            &[("spec.selector", "{}")],
            &[&format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {noun}")],
        );
        check(
            kind,
            &[("spec.selector.matchLabels.app", r#""x""#)],
            &[
                r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
            ],
        );
        check(
            kind,
            &[("spec.template.spec.restartPolicy", r#""Never""#)],
            &[r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#],
        );
        check(
            kind,
            &[("spec.minReadySeconds", "-1"), ("spec.progressDeadlineSeconds", "10")],
            &["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"],
        );
        check(
            kind,
            &[("spec.template.spec.containers", "[]")],
            &["spec.template.spec.containers: Required value"],
        );
    }
    let nothing = r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#;
    for kind in [&DEPLOYMENT, &REPLICA_SET, &STATEFUL_SET] {
        check(kind, &[("spec.selector", "")], &["spec.selector: Required value", nothing]);
    }
    check(&DAEMON_SET, &[("spec.selector", "")], &[nothing]);
    check(
        &DEPLOYMENT,
        &[("spec.template.spec.activeDeadlineSeconds", "5")],
        &[
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
        ],
    );
}

#[test]
fn selectors_stay() {
    let changed = [
        ("spec.selector", r#"{"matchLabels": {"app": "web", "x": "y"}}"#),
        ("spec.template.metadata.labels.x", r#""y""#),
    ];
    for kind in [&DEPLOYMENT, &REPLICA_SET, &DAEMON_SET] {
        update(kind, &[], &[], &[]);
        update(
            kind,
            &[],
            &changed,
            &[r#"spec.selector: Invalid value: {"matchLabels":{"app":"web","x":"y"}}: field is immutable"#],
        );
    }
}

#[test]
fn strategies() {
    let deploy = |strategy: &str, want: &[&str]| check(&DEPLOYMENT, &[("spec.strategy", strategy)], want);
    deploy(r#"{"type": "Recreate"}"#, &[]);
    deploy(r#"{"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}}"#, &[]);
    deploy(
        r#"{"type": "x"}"#,
        &[r#"spec.strategy: Unsupported value: {"type":"x"}: supported values: "Recreate", "RollingUpdate""#],
    );
    deploy(
        r#"{"type": "Recreate", "rollingUpdate": {}}"#,
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    deploy(
        r#"{"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}"#,
        &[
            r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
        ],
    );
    deploy(
        r#"{"rollingUpdate": {"maxSurge": "x", "maxUnavailable": "101%"}}"#,
        &[
            r#"spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"#,
            r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#,
        ],
    );
    check(
        &DEPLOYMENT,
        &[("spec.progressDeadlineSeconds", "5"), ("spec.minReadySeconds", "5")],
        &["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
    );
    let daemon =
        |strategy: &str, want: &[&str]| check(&DAEMON_SET, &[("spec.updateStrategy", strategy)], want);
    daemon(r#"{"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}"#, &[]);
    daemon(
        r#"{"rollingUpdate": {"maxSurge": 1}}"#,
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    daemon(
        r#"{"rollingUpdate": {"maxUnavailable": 0}}"#,
        &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
    );
    let stateful =
        |strategy: &str, want: &[&str]| check(&STATEFUL_SET, &[("spec.updateStrategy", strategy)], want);
    stateful(r#"{"rollingUpdate": {"partition": 1, "maxUnavailable": 1}}"#, &[]);
    stateful(
        r#"{"type": "OnDelete", "rollingUpdate": {}}"#,
        &[
            "spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'",
        ],
    );
    stateful(
        r#"{"rollingUpdate": {"partition": -1, "maxUnavailable": 0}}"#,
        &[
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ],
    );
}

#[test]
fn stateful_sets() {
    let stateful = |changes: &[(&str, &str)], want: &[&str]| check(&STATEFUL_SET, changes, want);
    let claim = r#"[{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]"#;
    let mount = ("spec.template.spec.containers.0.volumeMounts", r#"[{"name": "d", "mountPath": "/d"}]"#);
    stateful(&[("spec.volumeClaimTemplates", claim), mount], &[]);
    stateful(&[mount], &[r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "d""#]);
    stateful(
        &[("spec.volumeClaimTemplates", r#"[{"metadata": {"name": "d"}}]"#)],
        &[
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        ],
    );
    stateful(
        &[("spec.podManagementPolicy", r#""x""#)],
        &[r#"spec.podManagementPolicy: Invalid value: "x": must be 'OrderedReady' or 'Parallel'"#],
    );
    stateful(
        &[("spec.persistentVolumeClaimRetentionPolicy", r#"{"whenScaled": "x"}"#)],
        &[
            r#"spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "x": supported values: "Retain", "Delete""#,
        ],
    );
    stateful(
        &[("spec.ordinals", r#"{"start": -1}"#)],
        &["spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"],
    );
    update(&STATEFUL_SET, &[], &[("spec.replicas", "3"), ("spec.template.metadata.labels.v", r#""2""#)], &[]);
    update(
        &STATEFUL_SET,
        &[],
        &[("spec.serviceName", r#""x""#)],
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ],
    );
}

#[test]
fn replication_controllers() {
    let base = json(&format!(r#"{{"spec": {{"template": {TEMPLATE}}}}}"#));
    let check = |changes: &[(&str, &str)], want: &[&str]| {
        let mut object = with(&base, changes);
        (REPLICATION_CONTROLLER.defaults)(&mut object, "v1");
        assert_eq!(lines(&(REPLICATION_CONTROLLER.validate)(&object)), want, "{changes:?}");
    };
    check(&[], &[]);
    check(
        &[("spec.selector", r#"{"a": "b"}"#)],
        &[
            r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
        ],
    );
    check(&[("spec.template", "")], &["spec.selector: Required value", "spec.template: Required value"]);
    check(
        &[("spec.replicas", "-1")],
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
}

#[test]
fn statuses() {
    let check = |kind: &Kind, status: &str, old: &str, want: &[&str]| {
        let object = |status: &str| json(&format!("{{\"status\": {status}}}"));
        assert_eq!(lines(&(kind.validate_status)(&object(status), &object(old))), want, "{status}");
    };
    check(
        &DEPLOYMENT,
        r#"{"replicas": 2, "readyReplicas": 1, "unavailableReplicas": 5, "collisionCount": 1}"#,
        "{}",
        &[],
    );
    check(
        &DEPLOYMENT,
        r#"{"replicas": 1, "readyReplicas": 2, "updatedReplicas": -1}"#,
        r#"{"collisionCount": 1}"#,
        &[
            "status.updatedReplicas: Invalid value: -1: must be greater than or equal to 0",
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.collisionCount: Invalid value: 0: cannot be decremented",
        ],
    );
    check(
        &REPLICA_SET,
        r#"{"replicas": 2, "availableReplicas": 1}"#,
        "{}",
        &["status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"],
    );
    check(
        &STATEFUL_SET,
        r#"{"replicas": 2, "availableReplicas": 1}"#,
        "{}",
        &["status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas"],
    );
    check(
        &DAEMON_SET,
        r#"{"numberReady": -1}"#,
        "{}",
        &["status.numberReady: Invalid value: -1: must be greater than or equal to 0"],
    );
}

#[test]
fn revisions() {
    let check = |object: &str, want: &[&str]| {
        assert_eq!(lines(&(CONTROLLER_REVISION.validate)(&json(object))), want, "{object}");
    };
    check(r#"{"data": {}, "revision": 1}"#, &[]);
    check(
        r#"{"revision": -1}"#,
        &[
            "revision: Invalid value: -1: must be greater than or equal to 0",
            "data: Required value: data is mandatory",
        ],
    );
    let changed =
        (CONTROLLER_REVISION.validate_update)(&json(r#"{"data": {"a": 1}}"#), &json(r#"{"data": {"a": 2}}"#));
    assert_eq!(lines(&changed), [r#"data: Invalid value: {"a":1}: field is immutable"#]);
}

#[test]
fn warned_of() {
    let named = |name: &str| object!({"metadata": {"name": (name)}});
    assert_eq!((DEPLOYMENT.warnings)(&named("web"), None), Vec::<String>::new());
    assert_eq!((DEPLOYMENT.warnings)(&named("web.a"), None).len(), 1);
    assert_eq!((DEPLOYMENT.warnings)(&named("web.a"), Some(&named("web.a"))).len(), 0);
    assert_eq!((STATEFUL_SET.warnings)(&object!({"spec": {"revisionHistoryLimit": (-1)}}), None).len(), 1);
}

//! Cases for updates of pods, their status, and containers added later.

use super::good;
use crate::kinds::check::testing::{lines, with};
use crate::kinds::pod::{POD, validate_ephemeral_containers};

#[test]
fn what_an_update_may_change() {
    let update = |old: &[(&str, &str)], new: &[(&str, &str)], want: &[&str]| {
        let old = with(&good(), old);
        let new = with(&old, new);
        assert_eq!(lines(&(POD.validate_update)(&new, &old)), want, "{new:?}");
    };
    update(&[], &[], &[]);
    update(&[], &[("spec.containers.0.image", r#""a:2""#)], &[]);
    update(&[], &[("spec.activeDeadlineSeconds", "10")], &[]);
    update(&[], &[("spec.tolerations", r#"[{"operator": "Exists"}]"#)], &[]);
    update(&[], &[("spec.containers.0.stdin", "false")], &[]);
    update(
        &[("spec.activeDeadlineSeconds", "10")],
        &[("spec.activeDeadlineSeconds", "11")],
        &["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"],
    );
    update(
        &[("spec.activeDeadlineSeconds", "10")],
        &[("spec.activeDeadlineSeconds", "")],
        &[
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
        ],
    );
    let fields = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    update(&[], &[("spec.hostname", r#""h""#)], &[&format!("spec: Forbidden: {fields}\n+ hostname: \"h\"")]);
    update(
        &[],
        &[("spec.containers.0.command", r#"["x"]"#)],
        &[&format!("spec: Forbidden: {fields}\n+ containers[0].command: [\"x\"]")],
    );
    update(
        &[],
        &[(
            "spec.containers.1",
            r#"{"name": "b", "image": "b", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}"#,
        )],
        &["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
    update(
        &[("spec.tolerations", r#"[{"operator": "Exists"}]"#)],
        &[("spec.tolerations", "[]")],
        &[
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ],
    );
    update(
        &[],
        &[("spec.schedulingGates", r#"[{"name": "g"}]"#)],
        &[
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
        ],
    );
    let gated = [("spec.schedulingGates", r#"[{"name": "g"}]"#), ("spec.nodeSelector", r#"{"a": "b"}"#)];
    update(&gated, &[("spec.nodeSelector", r#"{"a": "b", "c": "d"}"#), ("spec.schedulingGates", "[]")], &[]);
    update(
        &gated,
        &[("spec.nodeSelector", r#"{"a": "x"}"#)],
        &[
            r#"spec.nodeSelector: Invalid value: {"a":"x"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"#,
        ],
    );
    let term = |requirements: &str| {
        format!(
            r#"{{"nodeAffinity": {{"requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": [{{"matchExpressions": [{requirements}]}}]}}}}}}"#
        )
    };
    let one = r#"{"key":"a","operator":"Exists"}"#;
    let gated = [("spec.schedulingGates", r#"[{"name": "g"}]"#), ("spec.affinity", &*term(one))];
    update(&gated, &[("spec.affinity", &term(&format!("{one}, {one}")))], &[]);
    update(
        &gated,
        &[("spec.affinity", &term(r#"{"key": "b", "operator": "Exists"}"#))],
        &[
            r#"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {"matchExpressions":[{"key":"b","operator":"Exists"}]}: only additions are allowed (no mutations or deletions)"#,
        ],
    );
    update(
        &[],
        &[("metadata.annotations", r#"{"kubernetes.io/config.mirror": "x"}"#), ("spec.nodeName", "")],
        &[
            r#"metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set"#,
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
        ],
    );
}

#[test]
fn what_a_status_may_say() {
    let update = |old: &[(&str, &str)], new: &[(&str, &str)], want: &[&str]| {
        let old = with(&good(), old);
        let new = with(&old, new);
        assert_eq!(lines(&(POD.validate_status)(&new, &old)), want, "{new:?}");
    };
    update(
        &[],
        &[("status.phase", r#""Running""#), ("status.podIPs", r#"[{"ip": "10.0.0.1"}, {"ip": "::1"}]"#)],
        &[],
    );
    update(
        &[],
        &[("status.qosClass", r#""Guaranteed""#)],
        &[r#"status.qosClass: Invalid value: "Guaranteed": field is immutable"#],
    );
    update(
        &[],
        &[("status.podIPs", r#"[{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]"#)],
        &[
            r#"status.podIPs: Invalid value: [{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]: may specify no more than one IP for each IP family"#,
        ],
    );
    update(
        &[("spec.nodeName", r#""n""#)],
        &[("status.nominatedNodeName", r#""m""#)],
        &["status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node"],
    );
    let ended = [
        ("spec.restartPolicy", r#""Never""#),
        ("status.containerStatuses", r#"[{"name": "a", "state": {"terminated": {"exitCode": 1}}}]"#),
    ];
    let runs = [("status.containerStatuses", r#"[{"name": "a", "state": {"running": {}}}]"#)];
    update(
        &ended,
        &runs,
        &["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"],
    );
    update(&ended[1..], &runs, &[]);
}

#[test]
fn containers_to_look_in() {
    let added = |container: &str, want: &[&str]| {
        let old = with(&good(), &[("spec.ephemeralContainers", r#"[{"name": "e", "image": "e"}]"#)]);
        let mut new = with(&good(), &[("spec.ephemeralContainers", container)]);
        let mut old = old;
        (POD.defaults)(&mut old, "v1");
        (POD.defaults)(&mut new, "v1");
        assert_eq!(lines(&validate_ephemeral_containers(&new, &old)), want, "{container}");
    };
    let old = r#"{"name": "e", "image": "e"}"#;
    added(&format!(r#"[{old}, {{"name": "f", "image": "f", "targetContainerName": "a"}}]"#), &[]);
    added(
        "[]",
        &["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"],
    );
    added(
        &format!(
            r#"[{old}, {{"name": "a", "image": "f", "targetContainerName": "x", "ports": [{{"containerPort": 1}}]}}]"#
        ),
        &[
            r#"spec.ephemeralContainers[1].name: Duplicate value: "a""#,
            r#"spec.ephemeralContainers[1].targetContainerName: Not found: "x""#,
            "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
        ],
    );
}

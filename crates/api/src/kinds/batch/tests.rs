//! Cases for jobs and their schedules.

use super::*;
use crate::kinds::check::testing::{json, lines, with};
use crate::object;

/// A job as the server has completed it.
fn job() -> Value {
    let labels = r#"{"controller-uid": "1", "job-name": "j", "batch.kubernetes.io/controller-uid": "1",
        "batch.kubernetes.io/job-name": "j"}"#;
    let mut job = json(&format!(
        r#"{{"metadata": {{"name": "j", "uid": "1"}}, "spec": {{
            "selector": {{"matchLabels": {{"batch.kubernetes.io/controller-uid": "1"}}}},
            "template": {{"metadata": {{"labels": {labels}}}, "spec": {{"restartPolicy": "Never",
                "containers": [{{"name": "a", "image": "a:1"}}]}}}}}}}}"#
    ));
    (JOB.defaults)(&mut job, "v1");
    job
}

fn check(changes: &[(&str, &str)], want: &[&str]) {
    assert_eq!(lines(&(JOB.validate)(&with(&job(), changes))), want, "{changes:?}");
}

#[test]
fn jobs() {
    let spec = |field: &str, value: &str, want: &[&str]| check(&[(&format!("spec.{field}"), value)], want);
    check(&[], &[]);
    spec("parallelism", "-1", &["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]);
    spec("selector", "", &["spec.selector: Required value"]);
    spec(
        "template.metadata.labels.job-name",
        "",
        &["spec.template.metadata.labels[job-name]: Required value: must be 'j'"],
    );
    spec(
        "selector",
        r#"{"matchLabels": {"a": "b"}}"#,
        &[
            r#"spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` not auto-generated"#,
            r#"spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/controller-uid":"1","batch.kubernetes.io/job-name":"j","controller-uid":"1","job-name":"j"}: `selector` does not match template `labels`"#,
        ],
    );
    spec(
        "template.spec.restartPolicy",
        r#""Always""#,
        &[r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#],
    );
    spec(
        "completionMode",
        r#""x""#,
        &[r#"spec.completionMode: Unsupported value: "x": supported values: "NonIndexed", "Indexed""#],
    );
    spec(
        "backoffLimitPerIndex",
        "1",
        &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
    );
    spec("managedBy", r#""a.b/c""#, &[]);
    spec(
        "managedBy",
        r#""x""#,
        &[r#"spec.managedBy: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")"#],
    );
    spec(
        "podReplacementPolicy",
        r#""x""#,
        &[
            r#"spec.podReplacementPolicy: Unsupported value: "x": supported values: "Failed", "TerminatingOrFailed""#,
        ],
    );
}

#[test]
fn indexed_jobs() {
    let indexed = |changes: &[(&str, &str)], want: &[&str]| {
        let mut all = vec![("spec.completionMode", r#""Indexed""#), ("spec.completions", "5")];
        all.extend(changes);
        check(&all, want);
    };
    indexed(&[], &[]);
    indexed(
        &[("spec.completions", "")],
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    indexed(
        &[("spec.backoffLimitPerIndex", "1"), ("spec.maxFailedIndexes", "6")],
        &["spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions"],
    );
    indexed(
        &[("spec.maxFailedIndexes", "1")],
        &["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"],
    );
    let policy = |rule: &str, want: &[&str]| {
        indexed(&[("spec.successPolicy", &format!("{{\"rules\": [{rule}]}}"))], want);
    };
    policy(r#"{"succeededIndexes": "0,2-3", "succeededCount": 3}"#, &[]);
    policy(
        "",
        &[
            "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified",
        ],
    );
    policy(
        "{}",
        &[
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ],
    );
    policy(
        r#"{"succeededIndexes": "3-1"}"#,
        &[
            r#"spec.successPolicy.rules[0].succeededIndexes: Invalid value: "3-1": error parsing succeededIndexes: non-increasing order, previous: 3, current: 1"#,
        ],
    );
    policy(
        r#"{"succeededIndexes": "0", "succeededCount": 6}"#,
        &[
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 1 (the number of indexes in the specified succeededIndexes field)",
        ],
    );
    check(
        &[("spec.successPolicy", r#"{"rules": []}"#)],
        &[r#"spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode"#],
    );
    indexed(
        &[("metadata.name", &format!("\"{}\"", "j".repeat(62))), ("spec.manualSelector", "true")],
        &[&format!(
            r#"metadata.name: Invalid value: "{0}": will not able to create pod with invalid DNS label: {0}-4"#,
            "j".repeat(62)
        )],
    );
}

#[test]
fn failure_policies() {
    let policy = |rule: &str, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("spec.podFailurePolicy.rules[0]{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        let changes = [
            ("spec.podFailurePolicy", &*format!("{{\"rules\": [{rule}]}}")),
            ("spec.podReplacementPolicy", r#""Failed""#),
        ];
        check(&changes, &want);
    };
    policy(
        r#"{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2], "containerName": "a"}}"#,
        &[],
    );
    policy(r#"{"action": "Ignore", "onPodConditions": [{"type": "X", "status": "True"}]}"#, &[]);
    policy(
        "{}",
        &[
            r#".action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#,
            ": Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ],
    );
    policy(
        r#"{"action": "FailIndex", "onPodConditions": [{"type": "X", "status": "x"}]}"#,
        &[
            r#".action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set"#,
            r#".onPodConditions[0].status: Unsupported value: "x": supported values: "False", "True", "Unknown""#,
        ],
    );
    policy(
        r#"{"action": "Count", "onExitCodes": {"operator": "In", "values": [2, 0, 2], "containerName": "x"}}"#,
        &[
            r#".onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template"#,
            ".onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            ".onExitCodes.values[2]: Duplicate value: 2",
            ".onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
        ],
    );
    check(
        &[
            ("spec.podFailurePolicy", r#"{"rules": []}"#),
            ("spec.podReplacementPolicy", r#""TerminatingOrFailed""#),
            ("spec.template.spec.restartPolicy", r#""OnFailure""#),
        ],
        &[
            r#"spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed""#,
            r#"spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#,
        ],
    );
}

#[test]
fn a_job_stays_as_it_is() {
    let update = |old: &[(&str, &str)], new: &[(&str, &str)], want: &[&str]| {
        let old = with(&job(), old);
        let new = with(&old, new);
        let got = lines(&(JOB.validate_update)(&new, &old));
        let got: Vec<&str> = got.iter().map(|line| line.split(": {").next().unwrap_or(line)).collect();
        assert_eq!(got, want, "{new:?}");
    };
    update(&[], &[("spec.parallelism", "3"), ("spec.suspend", "true")], &[]);
    update(&[], &[("spec.completions", "3")], &["spec.completions: Invalid value: 3: field is immutable"]);
    let indexed = [("spec.completionMode", r#""Indexed""#), ("spec.completions", "1")];
    update(&indexed, &[("spec.completions", "3"), ("spec.parallelism", "3")], &[]);
    update(
        &indexed,
        &[("spec.completions", "3")],
        &["spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"],
    );
    let selector = ("spec.template.spec.nodeSelector", r#"{"a": "b"}"#);
    let resources = ("spec.template.spec.containers.0.resources", r#"{"limits": {"cpu": "1"}}"#);
    update(&[], &[selector], &["spec.template: Invalid value"]);
    update(&[("spec.suspend", "true")], &[selector, resources], &[]);
    update(
        &[("spec.suspend", "true"), ("status.active", "1")],
        &[selector],
        &["spec.template: Invalid value"],
    );
    update(
        &[("spec.suspend", "true")],
        &[("spec.template.spec.hostPID", "true")],
        &["spec.template: Invalid value"],
    );
}

#[test]
fn schedules() {
    let base = json(
        r#"{"metadata": {"name": "c"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}}}}}}"#,
    );
    let check = |changes: &[(&str, &str)], want: &[&str]| {
        let mut object = with(&base, changes);
        (CRON_JOB.defaults)(&mut object, "v1");
        assert_eq!(lines(&(CRON_JOB.validate)(&object)), want, "{changes:?}");
    };
    check(&[], &[]);
    check(&[("spec.timeZone", r#""Europe/Berlin""#)], &[]);
    check(&[("spec.schedule", "")], &["spec.schedule: Required value"]);
    check(
        &[("spec.schedule", r#""error""#)],
        &[r#"spec.schedule: Invalid value: "error": expected exactly 5 fields, found 1: [error]"#],
    );
    check(
        &[("spec.schedule", r#""TZ=UTC 0 0 * * *""#)],
        &[
            r#"spec.schedule: Invalid value: "TZ=UTC 0 0 * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#,
        ],
    );
    check(
        &[("spec.timeZone", r#""""#)],
        &[r#"spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string"#],
    );
    check(
        &[("spec.timeZone", r#""../x""#)],
        &[r#"spec.timeZone: Invalid value: "../x": unknown time zone ../x"#],
    );
    check(
        &[("spec.timeZone", r#""local""#)],
        &[
            r#"spec.timeZone: Invalid value: "local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"#,
        ],
    );
    check(
        &[("spec.concurrencyPolicy", r#""x""#), ("spec.startingDeadlineSeconds", "-1")],
        &[
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
            r#"spec.concurrencyPolicy: Unsupported value: "x": supported values: "Allow", "Forbid", "Replace""#,
        ],
    );
    check(
        &[
            ("spec.jobTemplate.spec.selector", r#"{"matchLabels": {}}"#),
            ("spec.jobTemplate.spec.manualSelector", "true"),
        ],
        &[
            r#"spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{}}: `selector` will be auto-generated"#,
            r#"spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false""#,
        ],
    );
    let long = "c".repeat(53);
    check(
        &[("metadata.name", &format!("\"{long}\""))],
        &[&format!(r#"metadata.name: Invalid value: "{long}": must be no more than 52 characters"#)],
    );
    let mut old = with(&base, &[("spec.schedule", r#""TZ=UTC 0 0 * * *""#)]);
    (CRON_JOB.defaults)(&mut old, "v1");
    assert_eq!((CRON_JOB.validate_update)(&old, &old), []);
    assert_eq!((CRON_JOB.warnings)(&old, Some(&old)).len(), 1);
    assert_eq!((CRON_JOB.warnings)(&old, None).len(), 0);
}

#[test]
fn a_new_job_selects_its_own_pods() {
    let prepared = |spec: &str| {
        let mut job = json(&format!(r#"{{"metadata": {{"name": "j", "uid": "1"}}, "spec": {spec}}}"#));
        (JOB.prepare_create)(&mut job);
        job
    };
    let labels = object!({
        "app": "x", "batch.kubernetes.io/controller-uid": "1", "batch.kubernetes.io/job-name": "j",
        "controller-uid": "1", "job-name": "j"
    });
    let job = prepared(r#"{"template": {"metadata": {"labels": {"app": "x"}}}}"#);
    assert_eq!(job.at(&["spec", "template", "metadata", "labels"]), Some(&labels));
    let selector = object!({"matchLabels": {"batch.kubernetes.io/controller-uid": "1"}});
    assert_eq!(job.at(&["spec", "selector"]), Some(&selector));
    let manual = prepared(r#"{"manualSelector": true, "template": {}}"#);
    assert_eq!(manual.at(&["spec"]), Some(&object!({"manualSelector": true, "template": {}})));
    // What the client set itself stays, for validation to refuse.
    let odd = prepared(r#"{"template": {"metadata": {"labels": {"job-name": "k"}}}}"#);
    assert_eq!(odd.str_at(&["spec", "template", "metadata", "labels", "job-name"]), Some("k"));
}

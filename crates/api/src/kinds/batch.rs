//! Jobs and CronJobs.
//!
//! The selector of a job and the labels that go with it need the uid of the new object: the server makes them.

use super::Kind;
use super::apps::labels_from_template;
use super::fill::{Given, Row, absent, fill, text};
use super::pod::defaults::template;
use crate::Value;

const BATCH: Kind = Kind { group: "batch", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const JOB: Kind =
    Kind { resource: "jobs", orphan_by_default: true, defaults: |object, _| job_defaults(object), ..BATCH };

pub(super) const CRON_JOB: Kind =
    Kind { resource: "cronjobs", defaults: |object, _| cron_job_defaults(object), ..BATCH };

const JOB_SPEC: &[Row] = &[
    absent("spec.parallelism", Given::Int(1)),
    absent("spec.completionMode", Given::Text("NonIndexed")),
    absent("spec.suspend", Given::Bool(false)),
    absent("spec.manualSelector", Given::Bool(false)),
    text("spec.podFailurePolicy.rules[*].onPodConditions[*].status", "True"),
];

fn job_defaults(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    let spec = map.entry("spec");
    if spec.is_null() {
        *spec = Value::object();
    }
    let has = |spec: &Value, field: &str| spec.get(field).is_some_and(|v| !v.is_null());
    if !has(spec, "completions") && !has(spec, "parallelism") {
        fill(spec, &[absent("completions", Given::Int(1))]);
    }
    let limit = if has(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    let replacement = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(
        spec,
        &[
            absent("backoffLimit", Given::Int(limit)),
            absent("podReplacementPolicy", Given::Text(replacement)),
        ],
    );
    fill(object, JOB_SPEC);
    labels_from_template(object, &[&["metadata", "labels"]]);
    template(object, "spec!.template!");
}

fn cron_job_defaults(object: &mut Value) {
    fill(
        object,
        &[
            text("spec!.concurrencyPolicy", "Allow"),
            absent("spec.suspend", Given::Bool(false)),
            absent("spec.successfulJobsHistoryLimit", Given::Int(3)),
            absent("spec.failedJobsHistoryLimit", Given::Int(1)),
            text("spec.jobTemplate.spec.podFailurePolicy.rules[*].onPodConditions[*].status", "True"),
        ],
    );
    template(object, "spec!.jobTemplate!.spec!.template!");
}

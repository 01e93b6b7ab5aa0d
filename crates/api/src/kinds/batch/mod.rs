//! Jobs and CronJobs.

mod cron;
mod rules;
mod status;
#[cfg(test)]
mod tests;

use super::Kind;
use super::apps::labels_from_template;
use super::check::run;
use super::fill::{Given, Row, absent, fill, text};
use super::pod::defaults::template;
use super::warnings::{is_news, workload};
use crate::{Value, meta};

const BATCH: Kind = Kind { group: "batch", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const JOB: Kind = Kind {
    resource: "jobs",
    orphan_by_default: true,
    defaults: |object, _| job_defaults(object),
    prepare_create: generate_selector,
    validate: |object| run(|c| rules::job(c, object)),
    validate_update: |object, old| {
        run(|c| {
            rules::job(c, object);
            rules::job_update(c, object, old);
        })
    },
    validate_status: |object, old| run(|c| status::check(c, object, old)),
    warnings: |object, old| {
        let mut out = size_warnings(object, old, &["spec"]);
        out.extend(workload(object, old, &["spec", "template"], true));
        out
    },
    ..BATCH
};

pub(super) const CRON_JOB: Kind = Kind {
    resource: "cronjobs",
    defaults: |object, _| cron_job_defaults(object),
    validate: |object| {
        run(|c| {
            c.field(object, "spec", |c, spec| rules::cron_job(c, spec, None));
            // Eleven characters are added to make the name of a job.
            let name = meta::name(object);
            if name.len() > 52 {
                c.at("metadata.name").invalid(name, "must be no more than 52 characters");
            }
        })
    },
    validate_update: |object, old| {
        run(|c| c.field(object, "spec", |c, spec| rules::cron_job(c, spec, old.get("spec"))))
    },
    warnings: cron_job_warnings,
    ..BATCH
};

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

/// Makes the selector of a new job, and the labels of its pods that it selects by, from the uid and the name that the
/// server has given: no two jobs ever select the same pods. What the client set itself is left to validation.
fn generate_selector(job: &mut Value) {
    if job.object_at(&["spec"]).is_none() || job.bool_at(&["spec", "manualSelector"]) == Some(true) {
        return;
    }
    let (uid, name) = (meta::uid(job).to_owned(), meta::name(job).to_owned());
    let labels = ["spec", "template", "metadata", "labels"];
    for (label, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        (CONTROLLER_UID, &uid),
    ] {
        let labels = job.make(&labels).make_object();
        if !labels.contains(label) {
            labels.insert(label, value.as_str());
        }
    }
    let selected = job.make(&["spec", "selector", "matchLabels"]).make_object();
    if !selected.contains(CONTROLLER_UID) {
        selected.insert(CONTROLLER_UID, uid);
    }
}

/// The label of a job's pods that its selector names.
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

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

fn cron_job_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    const ZONE: &str = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                        https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
    let mut out = size_warnings(object, old, &["spec", "jobTemplate", "spec"]);
    out.extend(workload(object, old, &["spec", "jobTemplate", "spec", "template"], true));
    let zoned = object.str_at(&["spec", "schedule"]).is_some_and(|schedule| schedule.contains("TZ"));
    out.extend((zoned && old.is_some()).then(|| ZONE.to_owned()));
    out
}

/// Warns of a job (its specification stands at `path`) that may lose count of what failed.
fn size_warnings(object: &Value, old: Option<&Value>, path: &[&str]) -> Vec<String> {
    const MANY: i64 = 100_000;
    const MANY_AT_ONCE: i64 = 10_000;
    let spec = object.at(path).unwrap_or(&Value::Null);
    let above = |field: &str, limit: i64| spec.i64_at(&[field]).is_some_and(|n| n > limit);
    let too_many = is_news(object, old)
        && spec.str_at(&["completionMode"]) == Some("Indexed")
        && above("completions", MANY)
        && above("parallelism", MANY_AT_ONCE);
    let message = || {
        format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            path.join(".")
        )
    };
    too_many.then(message).into_iter().collect()
}

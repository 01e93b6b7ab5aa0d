//! Rules for jobs and for the schedules that make them.

use std::collections::HashSet;

use super::cron;
use crate::kinds::apps::rules::matching;
use crate::kinds::check::{Check, IMMUTABLE, filled, is_set, is_true, number, same, text};
use crate::kinds::pod;
use crate::kinds::syntax::prefixed_path;
use crate::{Value, meta, names, object};

const MAX_INDEXED_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const LIMIT_FOR_MANY: i64 = 10_000;
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_INDEXES_TEXT: usize = 64 * 1024;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];

fn is_indexed(spec: &Value) -> bool {
    text(spec, "completionMode") == "Indexed"
}

/// Checks a job.
pub(super) fn job(c: &mut Check, job: &Value) {
    let spec = job.get("spec").unwrap_or(&Value::Null);
    generated_selector(c, job, spec);
    c.within("spec", |c| {
        job_spec(c, spec);
        if !is_set(spec, "selector") {
            c.at("selector").required("");
        }
        let selector = c.selector(spec, "selector");
        matching(c, spec, selector.as_ref());
    });
    let completions = number(spec, "completions").filter(|n| *n > 0 && is_indexed(spec));
    if let Some(completions) = completions {
        let name = meta::name(job);
        let hostname = format!("{name}-{}", completions - 1);
        if names::dns_label(&hostname).is_err() {
            let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
            c.at("metadata.name").invalid(name, &detail);
        }
    }
}

/// A selector that the server made names this job and no other.
fn generated_selector(c: &mut Check, job: &Value, spec: &Value) {
    if is_true(spec, "manualSelector") || !is_set(spec, "selector") {
        return;
    }
    let (uid, name) = (meta::uid(job), meta::name(job));
    if uid.is_empty() {
        c.at("metadata.uid").required("");
    }
    let labels = spec.at(&["template", "metadata", "labels"]).unwrap_or(&Value::Null);
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    for (key, want) in expected {
        let spot = c.at("spec.template.metadata.labels").key(key);
        let detail = format!("must be '{want}'");
        match labels.str_at(&[key]) {
            None => spot.required(&detail),
            Some(found) if found != want => spot.invalid(labels.clone(), &detail),
            Some(_) => spot.leave(),
        }
    }
    let expected: crate::Map = expected.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    let selector =
        crate::selector::Selector::from_object(spec.get("selector").unwrap_or(&Value::Null), &c.path());
    if selector.is_ok_and(|selector| !selector.matches_labels(Some(&expected))) {
        let given = spec.get("selector").cloned().unwrap_or_default();
        c.at("spec.selector").invalid(given, "`selector` not auto-generated");
    }
}

/// Checks what jobs and templates of jobs share.
pub(super) fn job_spec(c: &mut Check, spec: &Value) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        c.non_negative(spec, field);
    }
    if is_set(spec, "maxFailedIndexes") && !is_set(spec, "backoffLimitPerIndex") {
        c.at("backoffLimitPerIndex").required("when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.str_at(&["managedBy"]) {
        if manager.is_empty() {
            c.at("managedBy").required("");
        } else {
            c.at("managedBy").obeys(manager, prefixed_path);
        }
        if manager.len() > 63 {
            c.at("managedBy").too_long(63);
        }
    }
    c.one_of_if_set(spec, "completionMode", &["NonIndexed", "Indexed"]);
    if is_indexed(spec) {
        indexed(c, spec);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = number(spec, field) {
                c.at(field).invalid(value, "requires indexed completion mode");
            }
        }
    }
    failure_policy(c, spec);
    success_policy(c, spec);
    let with_policy = is_set(spec, "podFailurePolicy");
    let replacements: &[&str] = if with_policy { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    c.one_of_if_set(spec, "podReplacementPolicy", replacements);
    c.field(spec, "template", pod::check::template);
    restart_policy(c, spec, with_policy);
}

fn restart_policy(c: &mut Check, spec: &Value, with_policy: bool) {
    let template = spec.at(&["template", "spec"]).unwrap_or(&Value::Null);
    c.within("template.spec", |c| match text(template, "restartPolicy") {
        "Always" | "" => c.at("restartPolicy").required("valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if with_policy => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            c.at("restartPolicy").invalid("OnFailure", detail);
        }
        _ => c.one_of(template, "restartPolicy", &["OnFailure", "Never"]),
    });
}

fn indexed(c: &mut Check, spec: &Value) {
    let (completions, parallelism) = (number(spec, "completions"), number(spec, "parallelism"));
    let failed = number(spec, "maxFailedIndexes");
    let Some(completions) = completions else {
        return c.at("completions").required("when completion mode is Indexed");
    };
    let mut at_most = |field: &str, value: Option<i64>, max: i64, rest: &str| {
        if value.is_some_and(|value| value > max) {
            c.at(field).invalid(value, &format!("must be less than or equal to {max}{rest}"));
        }
    };
    at_most("parallelism", parallelism, MAX_INDEXED_PARALLELISM, " when completion mode is Indexed");
    at_most("maxFailedIndexes", failed, MAX_FAILED_INDEXES, "");
    let many = completions > MANY_COMPLETIONS && is_set(spec, "backoffLimitPerIndex");
    if many {
        let rest =
            format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        at_most("parallelism", parallelism, LIMIT_FOR_MANY, &rest);
        at_most("maxFailedIndexes", failed, LIMIT_FOR_MANY, &rest);
    }
    if failed.is_some_and(|failed| failed > completions) {
        c.at("maxFailedIndexes").invalid(failed, "must be less than or equal to completions");
    }
    if many && failed.is_none() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        c.at("maxFailedIndexes").required(&detail);
    }
}

/// A text of a closed set that must be there, the set being told when it is not.
fn require_listed(c: &mut Check, object: &Value, field: &str, allowed: &[&str]) {
    if filled(object, field).is_some() {
        return c.one_of(object, field, allowed);
    }
    let quoted: Vec<String> = allowed.iter().map(|text| format!("{text:?}")).collect();
    c.at(field).required(&format!("valid values: [{}]", quoted.join(" ")));
}

fn failure_policy(c: &mut Check, spec: &Value) {
    let Some(policy) = spec.get("podFailurePolicy").filter(|p| !p.is_null()) else { return };
    let pod = spec.at(&["template", "spec"]).unwrap_or(&Value::Null);
    let containers: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| pod.array_at(&[list]))
        .map(|p| text(p, "name"))
        .collect();
    c.within("podFailurePolicy", |c| {
        let count = policy.array_at(&["rules"]).len();
        if count > MAX_RULES {
            c.at("rules").too_many(count, MAX_RULES);
        }
        c.each(policy, "rules", |c, rule| {
            if text(rule, "action") == "FailIndex" && !is_set(spec, "backoffLimitPerIndex") {
                c.at("action").invalid("FailIndex", "requires the backoffLimitPerIndex to be set");
            }
            require_listed(c, rule, "action", &ACTIONS);
            c.some(rule, "onExitCodes", |c, codes| exit_codes(c, codes, &containers));
            pod_conditions(c, rule);
            match (is_set(rule, "onExitCodes"), !rule.array_at(&["onPodConditions"]).is_empty()) {
                (true, true) => {
                    c.here().wrong("specifying both OnExitCodes and OnPodConditions is not supported");
                }
                (false, false) => {
                    c.here().wrong("specifying one of OnExitCodes and OnPodConditions is required");
                }
                _ => {}
            }
        });
    });
}

fn pod_conditions(c: &mut Check, rule: &Value) {
    let count = rule.array_at(&["onPodConditions"]).len();
    if count > MAX_RULES {
        c.at("onPodConditions").too_many(count, MAX_RULES);
    }
    c.each(rule, "onPodConditions", |c, pattern| {
        c.at("type").obeys(text(pattern, "type"), names::qualified);
        require_listed(c, pattern, "status", &STATUSES);
    });
}

fn exit_codes(c: &mut Check, codes: &Value, containers: &HashSet<&str>) {
    require_listed(c, codes, "operator", &OPERATORS);
    if let Some(name) = codes.str_at(&["containerName"]).filter(|name| !containers.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        c.at("containerName").invalid(name, detail);
    }
    let values: Vec<i64> = codes.array_at(&["values"]).iter().map(|v| v.as_i64().unwrap_or(0)).collect();
    if values.is_empty() {
        c.at("values").invalid(values.clone(), "at least one value is required");
    } else if values.len() > MAX_EXIT_CODES {
        c.at("values").too_many(values.len(), MAX_EXIT_CODES);
    }
    let mut seen = HashSet::new();
    for (i, value) in values.iter().enumerate() {
        if *value == 0 && text(codes, "operator") == "In" {
            c.at("values").index(i).invalid(0, "must not be 0 for the In operator");
        }
        if !seen.insert(value) {
            c.at("values").index(i).duplicate(*value);
        }
    }
    if !values.is_sorted() {
        c.at("values").invalid(values, "must be ordered");
    }
}

fn success_policy(c: &mut Check, spec: &Value) {
    let Some(policy) = spec.get("successPolicy").filter(|p| !p.is_null()) else { return };
    let completions = number(spec, "completions").unwrap_or(0);
    c.within("successPolicy", |c| {
        if !is_indexed(spec) {
            return c.here().invalid(policy.clone(), "requires indexed completion mode");
        }
        let count = policy.array_at(&["rules"]).len();
        if count == 0 {
            let detail = "at least one rules must be specified when the successPolicy is specified";
            c.at("rules").required(detail);
        } else if count > MAX_RULES {
            c.at("rules").too_many(count, MAX_RULES);
        }
        c.each(policy, "rules", |c, rule| success_rule(c, rule, completions));
    });
}

fn success_rule(c: &mut Check, rule: &Value, completions: i64) {
    let (count, listed) = (number(rule, "succeededCount"), rule.str_at(&["succeededIndexes"]));
    if count.is_none() && listed.is_none() {
        c.here().required("at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(listed) = listed {
        if listed.len() > MAX_INDEXES_TEXT {
            c.at("succeededIndexes").too_long(MAX_INDEXES_TEXT);
        }
        match indexes(listed, completions) {
            Ok(found) => total = found,
            Err(fault) => {
                let detail = format!("error parsing succeededIndexes: {fault}");
                c.at("succeededIndexes").invalid(listed, &detail);
            }
        }
    }
    c.non_negative(rule, "succeededCount");
    for (max, what, holds) in [
        (completions, "specified completions", true),
        (total, "indexes in the specified succeededIndexes field", listed.is_some()),
    ] {
        if count.is_some_and(|count| holds && count > max) {
            let detail = format!("must be less than or equal to {max} (the number of {what})");
            c.at("succeededCount").invalid(count, &detail);
        }
    }
}

/// How many indexes a list such as `1,3-5` names, all below `completions` and rising.
pub(super) fn indexes(text: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last: Option<i64> = None;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (low, high) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= low) {
            return Err(format!("non-increasing order, previous: {last}, current: {low}"));
        }
        total += high - low + 1;
        last = Some(high);
    }
    Ok(total)
}

/// The first and last index of `3` or `3-5`.
pub(super) fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| -> Result<i64, String> {
        let number: i64 =
            text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions { Err(format!("too large index: {text:?}")) } else { Ok(number) }
    };
    let mut parts = text.split('-');
    let (low, high) = (parts.next().unwrap_or_default(), parts.next());
    if parts.next().is_some() {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated \
             by '-'"
        ));
    }
    let low = index(low)?;
    let high = high.map_or(Ok(low), index)?;
    if text.contains('-') && low >= high {
        return Err(format!("non-increasing order, previous: {low}, current: {high}"));
    }
    Ok((low, high))
}

/// Checks what changed of a job.
pub(super) fn job_update(c: &mut Check, job: &Value, old_job: &Value) {
    let (Some(new), Some(old)) = (job.get("spec"), old_job.get("spec")) else { return };
    c.within("spec", |c| {
        let grown = !same(new.get("completions"), old.get("completions"));
        if !is_indexed(new) {
            c.immutable(new, old, "completions");
        } else if grown
            && is_set(new, "completions")
            && number(new, "completions") != number(new, "parallelism")
        {
            let detail = "can only be modified in tandem with spec.parallelism";
            c.at("completions").invalid(number(new, "completions"), detail);
        }
        c.immutable(new, old, "selector");
        template_stays(c, new, old, old_job);
        for field in
            ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
        {
            c.immutable(new, old, field);
        }
    });
}

/// The template may change in part while the job is suspended and none of its pods runs.
fn template_stays(c: &mut Check, new: &Value, old: &Value, old_job: &Value) {
    let status = old_job.get("status").unwrap_or(&Value::Null);
    let idle = number(status, "active").unwrap_or(0) == 0;
    let never_ran = !is_set(status, "startTime") || super::status::has_condition(status, "Suspended");
    let mut before = old.get("template").cloned().unwrap_or_default();
    let after = new.get("template").cloned().unwrap_or_default();
    if is_true(old, "suspend") && idle && never_ran {
        free_scheduling(&mut before, &after);
        free_resources(&mut before, &after);
    }
    if !same(Some(&after), Some(&before)) {
        c.at("template").invalid(after, IMMUTABLE);
    }
}

fn take_over(before: &mut Value, after: &Value, path: &[&str]) {
    match after.at(path) {
        Some(value) => before.set(path, value.clone()),
        None => drop(before.remove_at(path)),
    }
}

fn free_scheduling(before: &mut Value, after: &Value) {
    for path in [
        &["metadata", "annotations"][..],
        &["metadata", "labels"],
        &["spec", "nodeSelector"],
        &["spec", "tolerations"],
        &["spec", "schedulingGates"],
        &["spec", "affinity", "nodeAffinity"],
    ] {
        take_over(before, after, path);
    }
}

fn free_resources(before: &mut Value, after: &Value) {
    for list in ["containers", "initContainers"] {
        let now = after.array_at(&["spec", list]);
        let then = before.at(&["spec", list]).and_then(Value::as_array).map_or(0, <[Value]>::len);
        if now.len() != then {
            continue;
        }
        let mut i = 0;
        crate::kinds::fill::each(before, &format!("spec.{list}[*]"), &mut |container| {
            if text(container, "name") == text(&now[i], "name") {
                take_over(container, &now[i], &["resources"]);
            }
            i += 1;
        });
    }
}

/// Checks a schedule of jobs; a changed one may keep what new ones may not have.
pub(super) fn cron_job(c: &mut Check, spec: &Value, old: Option<&Value>) {
    if let Some(schedule) = c.require(spec, "schedule") {
        c.at("schedule").obeys(schedule, cron::check);
        let zoned = schedule.contains("TZ");
        let kept = old.is_some_and(|old| text(old, "schedule").contains("TZ"));
        if zoned && !kept {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            c.at("schedule").invalid(schedule, detail);
        } else if zoned && is_set(spec, "timeZone") {
            c.at("schedule")
                .invalid(schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
    }
    c.non_negative(spec, "startingDeadlineSeconds");
    if old.is_none_or(|old| !same(old.get("timeZone"), spec.get("timeZone"))) {
        time_zone(c, spec);
    }
    c.require_one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
    c.field(spec, "jobTemplate", |c, template| {
        c.field(template, "spec", |c, job| {
            job_spec(c, job);
            if let Some(selector) = job.get("selector").filter(|s| !s.is_null()) {
                c.at("selector").invalid(selector.clone(), "`selector` will be auto-generated");
            }
            if is_true(job, "manualSelector") {
                c.at("manualSelector").not_supported(object!(true), &["nil", "false"]);
            }
        });
    });
    c.non_negative(spec, "successfulJobsHistoryLimit");
    c.non_negative(spec, "failedJobsHistoryLimit");
}

/// The form of a time zone's name; whether there is such a zone is not known here.
fn time_zone(c: &mut Check, spec: &Value) {
    let Some(zone) = spec.str_at(&["timeZone"]) else { return };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let part = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(allowed)
    };
    let spot = c.at("timeZone");
    if zone.is_empty() {
        spot.invalid(zone, "timeZone must be nil or non-empty string");
    } else if !zone.split('/').all(part) {
        spot.invalid(zone, &format!("unknown time zone {zone}"));
    } else if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        spot.invalid(zone, detail);
    } else {
        spot.leave();
    }
}

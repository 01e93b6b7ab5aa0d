//! Rules for the status of a job: it ends once, and says how.
//!
//! Most rules hold only for what changed, so that an update of one field is not refused for another that was there
//! before.

use std::collections::HashSet;

use super::rules::{indexes, interval};
use crate::Value;
use crate::kinds::check::{Check, is_set, is_true, number, same, text};

/// Whether a condition of the status is true.
pub(super) fn has_condition(status: &Value, name: &str) -> bool {
    condition(status, name) == Some("True")
}

fn condition<'v>(status: &'v Value, name: &str) -> Option<&'v str> {
    let conditions = status.array_at(&["conditions"]);
    conditions.iter().find(|c| text(c, "type") == name).map(|c| text(c, "status"))
}

struct Change<'v> {
    spec: &'v Value,
    new: &'v Value,
    old: &'v Value,
}

impl Change<'_> {
    fn of(&self, field: &str) -> bool {
        !same(self.new.get(field), self.old.get(field))
    }

    fn of_condition(&self, name: &str) -> bool {
        has_condition(self.new, name) != has_condition(self.old, name)
    }

    fn is_indexed(&self) -> bool {
        text(self.spec, "completionMode") == "Indexed"
    }
}

fn is_finished(status: &Value) -> bool {
    has_condition(status, "Complete") || has_condition(status, "Failed")
}

/// Checks a changed status.
pub(super) fn check(c: &mut Check, job: &Value, old: &Value) {
    let null = &Value::Null;
    let (spec, new) = (job.get("spec").unwrap_or(null), job.get("status").unwrap_or(null));
    let change = Change { spec, new, old: old.get("status").unwrap_or(null) };
    c.within("status", |c| {
        for field in ["active", "succeeded", "failed", "ready", "terminating"] {
            c.non_negative(new, field);
        }
        uncounted(c, new);
        conditions(c, &change);
        times(c, &change);
        finished(c, &change);
        index_lists(c, &change);
        let active = number(new, "active").unwrap_or(0);
        if (change.of("ready") || change.of("active"))
            && let Some(ready) = number(new, "ready").filter(|ready| *ready > active)
        {
            c.at("ready").invalid(ready, "cannot set more ready pods than active");
        }
        counters(c, &change);
    });
}

fn uncounted(c: &mut Check, status: &Value) {
    let mut seen = HashSet::new();
    c.some(status, "uncountedTerminatedPods", |c, pods| {
        for list in ["succeeded", "failed"] {
            c.each(pods, list, |c, uid| match uid.as_str().unwrap_or_default() {
                "" => c.here().invalid("", "must not be empty"),
                uid if !seen.insert(uid) => c.here().duplicate(uid),
                _ => {}
            });
        }
    });
}

fn conditions(c: &mut Check, change: &Change<'_>) {
    let (new, old) = (change.new, change.old);
    let has = |name: &str| has_condition(new, name);
    let moved = |names: [&str; 2]| names.iter().any(|name| change.of_condition(name));
    let mut faults: Vec<&str> = Vec::new();
    if moved(["Complete", "Failed"]) && has("Complete") && has("Failed") {
        faults.push("cannot set Complete=True and Failed=true conditions");
    }
    if moved(["Complete", "FailureTarget"]) && has("Complete") && has("FailureTarget") {
        faults.push("cannot set Complete=True and FailureTarget=true conditions");
    }
    if (change.of_condition("Failed") || change.of("failedIndexes")) && has("Failed") && !has("FailureTarget")
    {
        faults.push("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if moved(["Complete", "SuccessCriteriaMet"]) && has("Complete") && !has("SuccessCriteriaMet") {
        faults.push("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    if has("SuccessCriteriaMet") && has("Failed") {
        faults.push("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if has("SuccessCriteriaMet") && has("FailureTarget") {
        faults.push("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if is_set(change.spec, "successPolicy") && !has("SuccessCriteriaMet") && has("Complete") {
        faults.push("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
    faults.iter().for_each(|fault| c.at("conditions").wrong(fault));
    for name in ["Failed", "Complete", "FailureTarget"] {
        if has_condition(old, name) && !has(name) {
            c.at("conditions").wrong(&format!("cannot disable the terminal {name}=True condition"));
        }
    }
    if has_condition(old, "SuccessCriteriaMet") && !has("SuccessCriteriaMet") {
        c.at("conditions").wrong("cannot disable the SuccessCriteriaMet=True condition");
    }
    if has_condition(old, "Complete")
        && !has_condition(old, "SuccessCriteriaMet")
        && has("SuccessCriteriaMet")
    {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        c.at("conditions").wrong(detail);
    }
}

fn times(c: &mut Check, change: &Change<'_>) {
    let (new, old) = (change.new, change.old);
    let time = |status: &Value, field: &str| status.get(field).filter(|t| !t.is_null()).cloned();
    let (start, end) = (time(new, "startTime"), time(new, "completionTime"));
    let complete = has_condition(new, "Complete");
    if change.of_condition("Complete") || change.of("completionTime") {
        match &end {
            Some(end) if !complete => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                c.at("completionTime").invalid(end.clone(), detail);
            }
            None if complete => {
                c.at("completionTime").required("completionTime is required for Complete jobs");
            }
            _ => {}
        }
    }
    if change.of("startTime") || change.of("completionTime") {
        // Canonical times in UTC sort as texts.
        if let (Some(Value::String(start)), Some(Value::String(end))) = (&start, &end)
            && end < start
        {
            c.at("completionTime").invalid(end.clone(), "must be equal to or after `startTime`");
        }
    }
    if let (Some(end), Some(before)) = (end, time(old, "completionTime"))
        && end != before
    {
        c.at("completionTime").invalid(end, "field is immutable");
    }
    let resuming = has_condition(old, "Suspended") && condition(new, "Suspended") == Some("False");
    let began = is_set(old, "startTime") && change.of("startTime");
    if began && !resuming && !is_true(change.spec, "suspend") {
        let detail = "field is immutable for unsuspended job once set";
        c.at("startTime").invalid(start.unwrap_or_default(), detail);
    }
}

fn finished(c: &mut Check, change: &Change<'_>) {
    let (new, spec) = (change.new, change.spec);
    if !is_finished(new) {
        return;
    }
    let just = !is_finished(change.old);
    for field in ["active", "terminating"] {
        let count = number(new, field).unwrap_or(0);
        if (just || change.of(field)) && count > 0 {
            c.at(field).invalid(count, &format!("{field}>0 is invalid for finished job"));
        }
    }
    let nothing_to_do = is_true(spec, "suspend") && number(spec, "completions") == Some(0);
    if (just || change.of("startTime")) && !is_set(new, "startTime") && !nothing_to_do {
        c.at("startTime").required("startTime is required for finished job");
    }
    let uncounted = ["succeeded", "failed"]
        .iter()
        .any(|list| !new.array_at(&["uncountedTerminatedPods", list]).is_empty());
    if (just || change.of("uncountedTerminatedPods")) && uncounted {
        let pods = new.get("uncountedTerminatedPods").cloned().unwrap_or_default();
        c.at("uncountedTerminatedPods").invalid(pods, "must be empty for finished job");
    }
}

fn index_lists(c: &mut Check, change: &Change<'_>) {
    let (new, spec) = (change.new, change.spec);
    let done = text(new, "completedIndexes");
    let failed = new.str_at(&["failedIndexes"]);
    let Some(completions) = number(spec, "completions") else { return };
    if change.of("completedIndexes") {
        if let Err(fault) = indexes(done, completions) {
            c.at("completedIndexes").invalid(done, &format!("error parsing completedIndexes: {fault}"));
        }
        if !done.is_empty() && !change.is_indexed() {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            c.at("completedIndexes").invalid(done, detail);
        }
    }
    let Some(failed) = failed else { return };
    if change.of("failedIndexes") {
        if !is_set(spec, "backoffLimitPerIndex") {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            c.at("failedIndexes").invalid(failed, detail);
        } else if let Err(fault) = indexes(failed, completions) {
            c.at("failedIndexes").invalid(failed, &format!("error parsing failedIndexes: {fault}"));
        }
    }
    if (change.of("failedIndexes") || change.of("completedIndexes"))
        && let Some(at) = overlap(done, failed, completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {at}");
        c.at("failedIndexes").invalid(failed, &detail);
    }
}

/// The first index that both lists name; both are in rising order.
fn overlap(done: &str, failed: &str, completions: i64) -> Option<i64> {
    let parse = |list: &str| -> Vec<(i64, i64)> {
        list.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (done, failed) = (parse(done), parse(failed));
    let (mut i, mut j) = (0, 0);
    while let (Some((a, b)), Some((x, y))) = (done.get(i), failed.get(j)) {
        if a <= y && x <= b {
            return Some(*a.max(x));
        }
        if a <= x { i += 1 } else { j += 1 }
    }
    None
}

fn counters(c: &mut Check, change: &Change<'_>) {
    let count = |status: &Value, field: &str| number(status, field).unwrap_or(0);
    // A job whose size follows its parallelism can be made smaller.
    let can_shrink =
        change.is_indexed() && number(change.spec, "completions") == number(change.spec, "parallelism");
    for field in ["failed", "succeeded"] {
        let now = count(change.new, field);
        if now < count(change.old, field) && (field == "failed" || !can_shrink) {
            c.at(field).invalid(now, &format!("cannot decrease the {field} counter"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json, with};

    const RUNNING: &str = r#"{"startTime": "2026-01-01T00:00:00Z", "active": 1, "ready": 1}"#;
    const COMPLETE: &str = r#"{"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z",
        "succeeded": 2, "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete",
        "status": "True"}]}"#;

    #[test]
    fn statuses() {
        let job = json(r#"{"spec": {"completions": 2, "parallelism": 1, "completionMode": "NonIndexed"}}"#);
        let indexed = with(
            &job,
            &[
                ("spec.completions", "5"),
                ("spec.completionMode", r#""Indexed""#),
                ("spec.backoffLimitPerIndex", "1"),
            ],
        );
        for (job, status, text) in [
            (&job, "{}", FIRST),
            (&job, RUNNING, AFTER_RUNNING),
            (&job, COMPLETE, AFTER_COMPLETE),
            (&indexed, "{}", INDEXES),
        ] {
            let old = with(job, &[("status", status)]);
            cases(&old, text, |new| run(|c| super::check(c, new, &old)));
        }
    }

    const FIRST: &str = r#"
status = {"startTime": "2026-01-01T00:00:00Z", "active": 1, "ready": 1}

status = {"conditions": [{"type": "Complete", "status": "True"}], "active": 1}
! status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition
! status.completionTime: Required value: completionTime is required for Complete jobs
! status.active: Invalid value: 1: active>0 is invalid for finished job
! status.startTime: Required value: startTime is required for finished job

status = {"conditions": [{"type": "Failed", "status": "True"}], "startTime": "2026-01-01T00:00:00Z"}
! status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition

status = {"completedIndexes": "1"}
! status.completedIndexes: Invalid value: "1": cannot set non-empty completedIndexes when non-indexed completion mode

status = {"uncountedTerminatedPods": {"succeeded": ["a", "a", ""]}}
! status.uncountedTerminatedPods.succeeded[1]: Duplicate value: "a"
! status.uncountedTerminatedPods.succeeded[2]: Invalid value: "": must not be empty

status = {"completionTime": "2026-01-01T00:00:00Z"}
! status.completionTime: Invalid value: "2026-01-01T00:00:00Z": cannot set completionTime when there is no Complete=True
  condition
"#;

    const AFTER_RUNNING: &str = r#"
status.active =
status.ready =
status.completionTime = "2026-01-01T00:01:00Z"
status.succeeded = 2
status.conditions = [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]

status = {"active": -1}
! status.active: Invalid value: -1: must be greater than or equal to 0
! status.startTime: Invalid value: null: field is immutable for unsuspended job once set

status.ready = 2
! status.ready: Invalid value: 2: cannot set more ready pods than active
"#;

    const AFTER_COMPLETE: &str = r#"
status = {"startTime": "2026-01-01T00:00:00Z", "succeeded": 1}
! status.conditions: Invalid value: cannot disable the terminal Complete=True condition
! status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition
! status.succeeded: Invalid value: 1: cannot decrease the succeeded counter
"#;

    const INDEXES: &str = r#"
status = {"completedIndexes": "0,2-3", "failedIndexes": "1"}

status = {"completedIndexes": "0,2-3", "failedIndexes": "3"}
! status.failedIndexes: Invalid value: "3": failedIndexes and completedIndexes overlap at index: 3

status = {"completedIndexes": "5"}
! status.completedIndexes: Invalid value: "5": error parsing completedIndexes: too large index: "5"
"#;
}

//! What a Deployment reports: counts, and the conditions Available, Progressing and ReplicaFailure.
//!
//! ```text
//!                 new set made or found                 all up to date
//!   (no condition) ────────────▶ True ────────────────────────────────▶ True
//!                                ReplicaSetUpdated ◀─ progress ─┐        NewReplicaSetAvailable
//!                                  │                            │          │ template changes
//!                                  │ deadline passes            │ progress │
//!                                  ▼                            │          ▼
//!                                False ProgressDeadlineExceeded ┘        True ReplicaSetUpdated
//!   paused: Unknown DeploymentPaused; resumed: Unknown DeploymentResumed
//! ```

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::jiff::Timestamp;

use super::draft::{Draft, total_replicas};
use super::limits::{Strategy, replicas};
use super::plan::Sets;
use crate::runtime::clock::{after, api_time, until};

pub(crate) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// The seconds that progress may take; `None` means for ever.
pub fn progress_deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    let seconds = u64::try_from(seconds).ok().filter(|_| seconds != i32::MAX)?;
    Some(Duration::from_secs(seconds))
}

/// The condition of type `type_`.
pub fn find<'s>(status: &'s DeploymentStatus, type_: &str) -> Option<&'s DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

fn reason<'s>(status: &'s DeploymentStatus, type_: &str) -> Option<&'s str> {
    find(status, type_)?.reason.as_deref()
}

/// Sets a condition unless it stands with the same status and reason. The time of transition moves only with the
/// status.
pub fn set(status: &mut DeploymentStatus, new: Verdict<'_>, now: Timestamp) {
    let standing = find(status, new.type_);
    let same_status = standing.is_some_and(|standing| standing.status == new.status);
    if same_status && standing.and_then(|standing| standing.reason.as_deref()) == Some(new.reason) {
        return;
    }
    replace(status, new, now);
}

/// Sets a condition even if it stands: its time of update moves.
fn replace(status: &mut DeploymentStatus, new: Verdict<'_>, now: Timestamp) {
    let standing = find(status, new.type_).filter(|standing| standing.status == new.status);
    let since = standing.and_then(|standing| standing.last_transition_time.clone());
    let condition = DeploymentCondition {
        type_: new.type_.to_owned(),
        status: new.status.to_owned(),
        reason: Some(new.reason.to_owned()),
        message: Some(new.message),
        last_update_time: Some(api_time(now)),
        last_transition_time: since.or_else(|| Some(api_time(now))),
    };
    put(status, condition);
}

fn put(status: &mut DeploymentStatus, condition: DeploymentCondition) {
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

/// A condition to be set.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// Its type.
    pub type_: &'a str,
    /// `True`, `False` or `Unknown`.
    pub status: &'a str,
    /// Why, in CamelCase.
    pub reason: &'a str,
    /// For people.
    pub message: String,
}

/// A verdict on progress.
pub fn progressing<'a>(status: &'a str, reason: &'a str, message: String) -> Verdict<'a> {
    Verdict { type_: PROGRESSING, status, reason, message }
}

/// Marks a Deployment as paused or resumed, so that the time it stood still does not count against its deadline.
pub fn note_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    let reason = reason(status, PROGRESSING);
    if progress_deadline(deployment).is_none() || reason == Some(TIMED_OUT) {
        return;
    }
    match (is_paused(deployment), reason == Some(PAUSED)) {
        (true, false) => {
            let verdict = progressing("Unknown", PAUSED, "The rollout is paused.".to_owned());
            set(status, verdict, now);
        }
        (false, true) => set(status, progressing("Unknown", RESUMED, "The rollout goes on.".to_owned()), now),
        (true, true) | (false, false) => {}
    }
}

/// `spec.paused`.
pub fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// Counts what the ReplicaSets report; keeps the conditions of `last` but for Available, which follows the counts.
pub fn counts(
    deployment: &Deployment,
    sets: &Sets<'_>,
    last: DeploymentStatus,
    now: Timestamp,
) -> DeploymentStatus {
    let desired = replicas(deployment);
    let available = sum(sets, |draft| draft.available());
    let unavailable = (total_replicas(sets.all()) - available).max(0);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: unless_zero(sum(sets, actual)),
        updated_replicas: unless_zero(sets.new.as_ref().map_or(0, actual)),
        ready_replicas: unless_zero(sum(sets, |draft| draft.status().ready_replicas.unwrap_or(0))),
        available_replicas: unless_zero(available),
        unavailable_replicas: unless_zero(unavailable),
        terminating_replicas: sets.all().map(Draft::terminating).sum(),
        ..last
    };
    let enough = available >= desired - Strategy::of(deployment).max_unavailable(desired);
    let verdict = if enough {
        let message = "Deployment has minimum availability.".to_owned();
        Verdict { type_: AVAILABLE, status: "True", reason: "MinimumReplicasAvailable", message }
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        Verdict { type_: AVAILABLE, status: "False", reason: "MinimumReplicasUnavailable", message }
    };
    set(&mut status, verdict, now);
    status
}

fn sum(sets: &Sets<'_>, count: impl Fn(&Draft<'_>) -> i32) -> i32 {
    sets.all().map(count).sum()
}

/// How many pods a ReplicaSet reports.
fn actual(draft: &Draft<'_>) -> i32 {
    draft.status().replicas
}

/// The API leaves these counts out when they are zero.
fn unless_zero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// Judges how a rollout is getting on.
pub fn judge_rollout(
    deployment: &Deployment,
    sets: &Sets<'_>,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    let last = deployment.status.clone().unwrap_or_default();
    match progress_deadline(deployment) {
        None => remove(status, PROGRESSING),
        Some(deadline) => judge_progress(deployment, sets, &last, deadline, status, now),
    }
    let failing = |draft: &Draft<'_>| {
        draft
            .status()
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == REPLICA_FAILURE)
            .cloned()
    };
    let failure = sets.new.iter().find_map(failing).or_else(|| sets.old.iter().find_map(failing));
    match failure {
        None => remove(status, REPLICA_FAILURE),
        Some(failure) => {
            let standing = find(status, REPLICA_FAILURE);
            if standing
                .is_none_or(|standing| standing.status != failure.status || standing.reason != failure.reason)
            {
                let since = failure.last_transition_time;
                put(
                    status,
                    DeploymentCondition {
                        type_: REPLICA_FAILURE.to_owned(),
                        status: failure.status,
                        reason: failure.reason,
                        message: failure.message,
                        last_update_time: since.clone(),
                        last_transition_time: since,
                    },
                );
            }
        }
    }
}

fn judge_progress(
    deployment: &Deployment,
    sets: &Sets<'_>,
    last: &DeploymentStatus,
    deadline: Duration,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    let done_before = reason(last, PROGRESSING) == Some(NEW_SET_AVAILABLE);
    if done_before && status.replicas == status.updated_replicas {
        return;
    }
    let subject = match &sets.new {
        Some(new) => format!("ReplicaSet \"{}\"", new.name()),
        None => format!("Deployment \"{}\"", deployment.metadata.name.as_deref().unwrap_or("")),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, progressing("True", NEW_SET_AVAILABLE, message), now);
    } else if has_progressed(last, status) {
        let message = format!("{subject} is progressing.");
        replace(status, progressing("True", "ReplicaSetUpdated", message), now);
    } else if timed_out(status, deadline, now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, progressing("False", TIMED_OUT, message), now);
    }
}

/// Whether every pod is of the newest template, available, and no other is left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let is_all = |count: Option<i32>| count.unwrap_or(0) == replicas(deployment);
    is_all(status.updated_replicas)
        && is_all(status.replicas)
        && is_all(status.available_replicas)
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn has_progressed(last: &DeploymentStatus, status: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(status.updated_replicas) > count(last.updated_replicas)
        || old(status) < old(last)
        || count(status.ready_replicas) > count(last.ready_replicas)
        || count(status.available_replicas) > count(last.available_replicas)
}

fn timed_out(status: &DeploymentStatus, deadline: Duration, now: Timestamp) -> bool {
    match find(status, PROGRESSING) {
        None => false,
        Some(condition) => match condition.reason.as_deref() {
            Some(NEW_SET_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            _ => condition.last_update_time.as_ref().is_some_and(|time| after(time.0, deadline) < now),
        },
    }
}

/// When to look whether the deadline has passed; `None` when it no longer matters.
pub fn check_deadline_after(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let deadline = progress_deadline(deployment)?;
    let condition = find(status, PROGRESSING)?;
    let settled = matches!(condition.reason.as_deref(), Some(TIMED_OUT | PAUSED | NEW_SET_AVAILABLE));
    if settled || is_complete(deployment, status) {
        return None;
    }
    let updated = condition.last_update_time.as_ref()?;
    // Times in the API are whole seconds; one more is past them.
    Some(until(now, after(updated.0, deadline)) + Duration::from_secs(1))
}

//! Scaling outside of a rollout: the whole Deployment changes size while several ReplicaSets may be active.

use k8s_openapi::api::apps::v1::Deployment;

use super::draft::{Draft, total_replicas};
use super::limits::{Strategy, replicas};
use super::plan::Sets;

/// Whether the Deployment was scaled since its ReplicaSets were last sized for it.
pub fn is_scaling_event(deployment: &Deployment, sets: &Sets<'_>) -> bool {
    let desired = replicas(deployment);
    let mut active = sets.all().filter(|draft| draft.replicas > 0);
    active.any(|draft| draft.recorded_desired().is_some_and(|recorded| recorded != desired))
}

/// Brings the ReplicaSets to the Deployment's new size. With one active ReplicaSet, or none, that one takes all of
/// it. When the newest has the whole size already, the others shrink to nothing. Else, in the midst of a rolling
/// update, each keeps its share.
pub fn scale(deployment: &Deployment, sets: &mut Sets<'_>) {
    let desired = replicas(deployment);
    if let Some(only) = active_or_latest(sets) {
        only.scale(desired, deployment);
        return;
    }
    if sets.new.as_ref().is_some_and(|new| is_saturated(deployment, new)) {
        for old in sets.old.iter_mut().filter(|old| old.replicas > 0) {
            old.scale(0, deployment);
        }
        return;
    }
    match Strategy::of(deployment) {
        Strategy::Rolling { max_surge, .. } => scale_in_proportion(deployment, sets, max_surge),
        // The strategy was changed in the midst of a rolling update. There are no shares to keep: the rollout goes
        // on from here and clears the old ones.
        Strategy::Recreate => sets.all_mut().for_each(|draft| draft.record_sizes(deployment)),
    }
}

/// The one active ReplicaSet; with none active the newest; `None` with several.
fn active_or_latest<'s, 'a>(sets: &'s mut Sets<'a>) -> Option<&'s mut Draft<'a>> {
    match sets.all().filter(|draft| draft.replicas > 0).count() {
        0 if sets.new.is_some() => sets.new.as_mut(),
        0 => sets.old.iter_mut().max_by_key(|draft| draft.created()),
        1 => sets.all_mut().find(|draft| draft.replicas > 0),
        _ => None,
    }
}

/// Whether the newest ReplicaSet alone makes up the Deployment.
fn is_saturated(deployment: &Deployment, new: &Draft<'_>) -> bool {
    let desired = replicas(deployment);
    new.replicas == desired && new.recorded_desired() == Some(desired) && new.surely_available() == desired
}

fn scale_in_proportion(deployment: &Deployment, sets: &mut Sets<'_>, max_surge: i32) {
    let desired = replicas(deployment);
    let allowed = if desired > 0 { desired.saturating_add(max_surge) } else { 0 };
    let to_add = allowed - total_replicas(sets.all());
    let reported = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    let mut active: Vec<_> = sets.all_mut().filter(|draft| draft.replicas > 0).collect();
    // The largest take the most. Among equals growth prefers the younger, which the rollout is heading for, and
    // shrinking the older.
    active.sort_by(|a, b| {
        let by_age = if to_add > 0 { b.created().cmp(&a.created()) } else { a.created().cmp(&b.created()) };
        b.replicas.cmp(&a.replicas).then(by_age)
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for draft in &active {
        let share = share(draft, to_add, added, deployment, allowed, reported);
        added += share;
        sizes.push(draft.replicas + share);
    }
    // What rounding leaves over goes to the first.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (draft, size) in active.into_iter().zip(sizes) {
        draft.scale(size, deployment);
    }
}

/// How many of the `to_add` pods, of which `added` are given out, one ReplicaSet gets.
fn share(
    draft: &Draft<'_>,
    to_add: i32,
    added: i32,
    deployment: &Deployment,
    allowed: i32,
    reported: i32,
) -> i32 {
    let left = to_add - added;
    if draft.replicas == 0 || to_add == 0 || left == 0 {
        return 0;
    }
    if replicas(deployment) == 0 {
        return (-draft.replicas).max(left);
    }
    // Of what the Deployment might have had when this was last sized.
    let of = draft.recorded_max().filter(|most| *most > 0).unwrap_or(reported);
    if of == 0 {
        return 0;
    }
    let scaled = rounded_quotient(i64::from(draft.replicas) * i64::from(allowed), i64::from(of));
    let fraction = i32::try_from(scaled).unwrap_or(i32::MAX) - draft.replicas;
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// Rounded to the nearest, halves away from zero. Both numbers are positive.
fn rounded_quotient(dividend: i64, divisor: i64) -> i64 {
    (dividend + divisor / 2) / divisor
}

//! One step of a rollout. Each step is taken from what the ReplicaSets report, so a step repeated changes nothing.

use k8s_openapi::api::apps::v1::Deployment;

use super::draft::{Draft, total_replicas};
use super::limits::{Strategy, replicas};
use super::plan::Sets;

/// How many replicas the newest ReplicaSet should have now.
pub fn new_size(deployment: &Deployment, all: i32, new: i32) -> i32 {
    let desired = replicas(deployment);
    match Strategy::of(deployment) {
        Strategy::Recreate => desired,
        Strategy::Rolling { max_surge, .. } => {
            let room = desired.saturating_add(max_surge) - all;
            if room <= 0 { new } else { new + room.min(desired - new) }
        }
    }
}

/// Grows the newest ReplicaSet as far as the surge allows, or else shrinks the old ones as far as availability
/// allows.
pub fn roll(deployment: &Deployment, sets: &mut Sets<'_>) {
    let desired = replicas(deployment);
    let all = total_replicas(sets.all());
    let Some(new) = &mut sets.new else { return };
    let size = if new.replicas > desired { desired } else { new_size(deployment, all, new.replicas) };
    if new.replicas == size {
        shrink_old(deployment, sets);
    } else {
        new.scale(size, deployment);
    }
}

/// Takes all pods of old ReplicaSets away; says whether there were any.
pub fn clear_old(deployment: &Deployment, sets: &mut Sets<'_>) -> bool {
    let mut cleared = false;
    for old in sets.old.iter_mut().filter(|old| old.replicas > 0) {
        old.scale(0, deployment);
        cleared = true;
    }
    cleared
}

fn shrink_old(deployment: &Deployment, sets: &mut Sets<'_>) {
    if total_replicas(&sets.old) == 0 {
        return;
    }
    let desired = replicas(deployment);
    let min_available = desired - Strategy::of(deployment).max_unavailable(desired);
    let new = sets.new.as_ref();
    // Pods of the newest that are not available yet must not make room for taking old ones away.
    let new_unavailable = new.map_or(0, |new| new.replicas - new.surely_available());
    let most = total_replicas(sets.all()) - min_available - new_unavailable;
    if most <= 0 {
        return;
    }
    sets.old.sort_by_key(|old| (old.created(), old.name().to_owned()));
    let shed = shed_unhealthy(deployment, &mut sets.old, most);
    let available: i32 = sets.all().map(Draft::surely_available).sum();
    shed_available(deployment, &mut sets.old, (available - min_available).min(most - shed));
}

/// Takes away what is not available anyway: ReplicaSets delete such pods first. Says how many.
fn shed_unhealthy(deployment: &Deployment, old: &mut [Draft<'_>], most: i32) -> i32 {
    let mut left = most;
    for draft in old.iter_mut().filter(|draft| draft.replicas > 0 && draft.is_observed()) {
        let unhealthy = draft.replicas - draft.available();
        let take = unhealthy.min(left).max(0);
        if take > 0 {
            draft.scale(draft.replicas - take, deployment);
            left -= take;
        }
    }
    most - left
}

/// Takes away as many as are available beyond the least.
fn shed_available(deployment: &Deployment, old: &mut [Draft<'_>], surplus: i32) {
    let mut left = surplus.max(0);
    for draft in old.iter_mut().filter(|draft| draft.replicas > 0) {
        let take = draft.replicas.min(left);
        if take > 0 {
            draft.scale(draft.replicas - take, deployment);
            left -= take;
        }
    }
}

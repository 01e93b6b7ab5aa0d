//! From a Deployment and its ReplicaSets to what has to be done next. Pure.
//!
//! ```text
//!            deleting ───────────────────────────▶ status
//!            paused, or resized ─▶ scale ────────▶ status
//!  look at ─ RollingUpdate ─▶ newest ─▶ roll ────▶ status, progress ─▶ clean up when complete
//!            Recreate ─▶ clear old ─▶ wait ─▶ newest ─▶ status, progress
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::draft::{Draft, Scaling, deployment_revision, total_replicas};
use super::limits::{Strategy, replicas};
use super::rollout::{clear_old, new_size, roll};
use super::scale::{is_scaling_event, scale};
use super::status::{
    self, check_deadline_after, counts, find, is_complete, is_paused, judge_rollout, note_pause,
    progress_deadline, progressing,
};
use super::template::{HASH_LABEL, same_template, template_hash};
use crate::ownership::controller_reference;
use crate::pod::with_label;
use crate::runtime::object::{ObjectKey, Uid, is_deleting};

/// What the plan is made from.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSets that are its own.
    pub sets: &'a [Arc<ReplicaSet>],
    /// How many pods that have not finished each ReplicaSet still has, those being deleted included. Needed for
    /// `Recreate` only.
    pub running: &'a BTreeMap<Uid, usize>,
    /// The time.
    pub now: Timestamp,
}

/// What to do, in this order.
#[derive(Debug)]
pub struct Plan {
    /// The ReplicaSet of a new template.
    pub create: Option<ReplicaSet>,
    /// JSON merge patches of ReplicaSets.
    pub patch: Vec<(ObjectKey, Value)>,
    /// ReplicaSets beyond the history limit.
    pub delete: Vec<(ObjectKey, Uid)>,
    /// The new value of the Deployment's revision annotation.
    pub revision: Option<String>,
    /// What to report. Assumes that the rest succeeds.
    pub status: DeploymentStatus,
    /// When to look whether progress has been too slow.
    pub wake_after: Option<Duration>,
    /// Changes of size, by name of the ReplicaSet.
    pub scaled: Vec<Scaling>,
}

/// The ReplicaSets of a Deployment under planning.
#[derive(Debug)]
pub struct Sets<'a> {
    /// The one of the present template.
    pub new: Option<Draft<'a>>,
    /// The others.
    pub old: Vec<Draft<'a>>,
}

impl<'a> Sets<'a> {
    /// Sorts the ReplicaSets into the one that has the present template, the oldest of these, and the others.
    fn sort(deployment: &Deployment, sets: &'a [Arc<ReplicaSet>]) -> Self {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let mut drafts: Vec<_> = sets.iter().map(|set| Draft::existing(set)).collect();
        drafts.sort_by_key(|draft| (draft.created(), draft.name().to_owned()));
        let is_new = |draft: &Draft<'_>| {
            draft.template().zip(template).is_some_and(|(one, other)| same_template(one, other))
        };
        let new = drafts.iter().position(is_new).map(|at| drafts.remove(at));
        Self { new, old: drafts }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Draft<'a>> {
        self.old.iter().chain(&self.new)
    }

    /// All of them, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Draft<'a>> {
        self.old.iter_mut().chain(&mut self.new)
    }
}

/// Plans the next step.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let Observed { deployment, now, .. } = *observed;
    let mut sets = Sets::sort(deployment, observed.sets);
    let mut status = deployment.status.clone().unwrap_or_default();
    if is_deleting(&deployment.metadata) {
        adopt_newest(deployment, &mut sets, &mut status, now);
        let status = counts(deployment, &sets, status, now);
        return finish(observed, &sets, Vec::new(), status);
    }
    note_pause(deployment, &mut status, now);
    adopt_newest(deployment, &mut sets, &mut status, now);
    if is_paused(deployment) || is_scaling_event(deployment, &sets) {
        scale(deployment, &mut sets);
        let delete = if is_paused(deployment) { spent_history(deployment, &sets) } else { Vec::new() };
        let status = counts(deployment, &sets, status, now);
        return finish(observed, &sets, delete, status);
    }
    match Strategy::of(deployment) {
        Strategy::Rolling { .. } => {
            ensure_newest(deployment, &mut sets, &mut status, now);
            roll(deployment, &mut sets);
        }
        Strategy::Recreate => recreate(observed, &mut sets, &mut status),
    }
    let mut status = counts(deployment, &sets, status, now);
    let delete = if is_complete(deployment, &status) { spent_history(deployment, &sets) } else { Vec::new() };
    judge_rollout(deployment, &sets, &mut status, now);
    finish(observed, &sets, delete, status)
}

/// Takes all old pods away, waits until none is left, and only then makes new ones.
fn recreate(observed: &Observed<'_>, sets: &mut Sets<'_>, status: &mut DeploymentStatus) {
    let deployment = observed.deployment;
    if clear_old(deployment, sets) || old_pods_left(observed, sets) {
        return;
    }
    ensure_newest(deployment, sets, status, observed.now);
    if let Some(new) = &mut sets.new
        && new.replicas != replicas(deployment)
    {
        new.scale(replicas(deployment), deployment);
    }
}

fn old_pods_left(observed: &Observed<'_>, sets: &Sets<'_>) -> bool {
    let reported = sets.old.iter().any(|old| old.status().replicas > 0);
    let new = sets.new.as_ref().map(Draft::uid);
    reported || observed.running.iter().any(|(uid, pods)| *pods > 0 && Some(uid) != new.as_ref())
}

/// Gives the newest ReplicaSet, when there is one, its revision and annotations.
fn adopt_newest(deployment: &Deployment, sets: &mut Sets<'_>, status: &mut DeploymentStatus, now: Timestamp) {
    let revision = next_revision(sets);
    let Some(new) = &mut sets.new else { return };
    new.lead(deployment, revision);
    if progress_deadline(deployment).is_some() && find(status, status::PROGRESSING).is_none() {
        let message = format!("Found new replica set \"{}\"", new.name());
        status::set(status, progressing("True", "FoundNewReplicaSet", message), now);
    }
}

/// Plans the ReplicaSet of the present template when there is none.
fn ensure_newest(
    deployment: &Deployment,
    sets: &mut Sets<'_>,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    if sets.new.is_some() {
        return;
    }
    let mut new = Draft::fresh(new_set(deployment));
    new.lead(deployment, next_revision(sets));
    new.scale(new_size(deployment, total_replicas(&sets.old), 0), deployment);
    if progress_deadline(deployment).is_some() {
        let message = format!("Created new replica set \"{}\"", new.name());
        status::set(status, progressing("True", "NewReplicaSetCreated", message), now);
    }
    sets.new = Some(new);
}

fn next_revision(sets: &Sets<'_>) -> i64 {
    sets.old.iter().map(Draft::revision).max().unwrap_or(0) + 1
}

fn new_set(deployment: &Deployment) -> ReplicaSet {
    let name = deployment.metadata.name.as_deref().unwrap_or("");
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    let labels = with_label(meta.labels.as_ref(), HASH_LABEL, &hash);
    meta.labels = Some(labels.clone());
    let match_labels = with_label(spec.selector.match_labels.as_ref(), HASH_LABEL, &hash);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            selector: LabelSelector { match_labels: Some(match_labels), ..spec.selector },
            template: Some(template),
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
        }),
        status: None,
    }
}

/// The oldest of the ReplicaSets that hold nothing, beyond `spec.revisionHistoryLimit`.
fn spent_history(deployment: &Deployment, sets: &Sets<'_>) -> Vec<(ObjectKey, Uid)> {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
    let Some(limit) = limit.filter(|limit| *limit != i32::MAX).and_then(|limit| usize::try_from(limit).ok())
    else {
        return Vec::new();
    };
    let mut old: Vec<_> = sets.old.iter().filter(|draft| !draft.is_deleting()).collect();
    old.sort_by_key(|draft| (draft.revision(), draft.created()));
    let beyond = old.len().saturating_sub(limit);
    old.into_iter().take(beyond).filter(|draft| draft.is_spent()).map(Draft::identity).collect()
}

fn finish(
    observed: &Observed<'_>,
    sets: &Sets<'_>,
    delete: Vec<(ObjectKey, Uid)>,
    status: DeploymentStatus,
) -> Plan {
    let deployment = observed.deployment;
    let patches = sets.all().filter_map(|draft| draft.patch().map(|patch| (draft.identity().0, patch)));
    let revision = sets.new.as_ref().map(|new| new.revision().to_string());
    let wake_after = check_deadline_after(deployment, &status, observed.now);
    Plan {
        create: sets.new.as_ref().and_then(Draft::creation),
        patch: patches.collect(),
        delete,
        revision: revision.filter(|revision| deployment_revision(deployment) != Some(revision)),
        status,
        wake_after,
        scaled: sets.all().filter_map(Draft::scaling).collect(),
    }
}

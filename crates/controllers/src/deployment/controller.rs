//! The thin part: reads the caches, asks [`super::plan`], writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use serde_json::json;
use tracing::debug;

use super::DEPLOYMENT_ROLE;
use super::draft::{REVISION, Scaling};
use super::limits::Strategy;
use super::plan::{Observed, Plan, plan};
use super::status::{progress_deadline, progressing, set};
use super::template::same_template;
use crate::context::Context;
use crate::ownership::{Claim, Claimant, adoption, controller_reference, release};
use crate::pod::PodRecord;
use crate::runtime::clock::SharedClock;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::events::{Note, Recorder, Severity};
use crate::runtime::informer::Informer;
use crate::runtime::kind::Index;
use crate::runtime::object::{ObjectKey, Uid, controller_of, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::selector::Selector;
use crate::runtime::store::Change;
use crate::runtime::writer::{Deletion, Part, Propagation, Writes, gone_is_fine, merge_diff, to_value};

/// Rolls out every Deployment.
pub struct DeploymentController {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<PodRecord>,
    queue: Arc<WorkQueue<ObjectKey>>,
    recorder: Recorder,
    clock: SharedClock,
}

impl DeploymentController {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            deployments: context.informers.get(),
            sets: context.informers.get(),
            pods: context.informers.get(),
            queue: Arc::default(),
            recorder: context.recorder.of(DEPLOYMENT_ROLE.controller),
            clock: Arc::clone(&context.clock),
        });
        let queue = Arc::clone(&controller.queue);
        controller.deployments.on_change(move |change| queue.add(change.key.clone()));
        let (queue, deployments) = (Arc::clone(&controller.queue), controller.deployments.clone());
        controller.sets.on_change(move |change| wake_by_set(change, &deployments, &queue));
        let (queue, deployments) = (Arc::clone(&controller.queue), controller.deployments.clone());
        let sets = controller.sets.clone();
        controller.pods.on_change(move |change| wake_by_pod(change, &sets, &deployments, &queue));
        controller
    }

    async fn claim(
        &self,
        deployment: &Deployment,
        uid: &Uid,
        selector: &Selector,
        writes: &Writes,
    ) -> Result<Vec<Arc<ReplicaSet>>, ApiError> {
        let meta = &deployment.metadata;
        let claimant = Claimant { uid, deleting: is_deleting(meta), selector };
        let namespace = meta.namespace.as_deref().unwrap_or("");
        let candidates: Vec<_> = {
            let sets = self.sets.read();
            let candidates =
                sets.indexed(Index::Controller, uid.as_str()).chain(sets.indexed(Index::Orphan, namespace));
            candidates.map(|set| (claimant.claim_object(&set.metadata), Arc::clone(set))).collect()
        };
        let mut owned = Vec::new();
        for (claim, set) in candidates {
            let (key, set_uid) = (ObjectKey::of(&set.metadata), Uid::of(&set.metadata));
            match claim {
                Claim::Owned => owned.push(set),
                Claim::Foreign => {}
                Claim::Release => {
                    let patch = release(uid, set_uid.as_str());
                    gone_is_fine(writes.strategic(&self.sets, &key, Part::Main, &patch).await)?;
                }
                Claim::Adopt => {
                    if writes.untracked().is_live::<Deployment>(&ObjectKey::of(meta), uid).await? {
                        let patch = adoption(&controller_reference(deployment), set_uid.as_str());
                        gone_is_fine(writes.strategic(&self.sets, &key, Part::Main, &patch).await)?;
                        owned.push(set);
                    }
                }
            }
        }
        Ok(owned)
    }

    /// The pods of each ReplicaSet that have not finished.
    fn running(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> BTreeMap<Uid, usize> {
        if Strategy::of(deployment) != Strategy::Recreate {
            return BTreeMap::new();
        }
        let pods = self.pods.read();
        let count = |set: &Arc<ReplicaSet>| {
            let uid = Uid::of(&set.metadata);
            let running =
                pods.indexed(Index::Controller, uid.as_str()).filter(|pod| !pod.is_finished()).count();
            (uid, running)
        };
        sets.iter().map(count).collect()
    }

    async fn carry_out(
        &self,
        deployment: &Deployment,
        plan: &Plan,
        writes: &Writes,
    ) -> Result<(), CarryOutError> {
        if let Some(set) = &plan.create
            && let Err(error) = writes.create(&self.sets, set).await
        {
            return self.creation_failed(deployment, set, error, writes).await;
        }
        for (key, patch) in &plan.patch {
            gone_is_fine(writes.merge(&self.sets, key, Part::Main, patch).await)?;
        }
        for scaling in &plan.scaled {
            self.note_scaling(deployment, scaling);
        }
        // What depends on old ReplicaSets is empty; the garbage collector sees to the rest.
        let how = Deletion { propagation: Some(Propagation::Background), ..Deletion::default() };
        for (key, uid) in &plan.delete {
            writes.delete(&self.sets, key, uid, how).await?;
        }
        Ok(())
    }

    /// Tells a name that is taken by somebody else from a cache that lags.
    async fn creation_failed(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        error: ApiError,
        writes: &Writes,
    ) -> Result<(), CarryOutError> {
        if error.is_namespace_terminating() {
            return Ok(());
        }
        if !error.is_already_exists() {
            return Err(CarryOutError::NotCreated(error));
        }
        let key = ObjectKey::of(&set.metadata);
        let Some(live) = writes.untracked().get::<ReplicaSet>(&key).await? else { return Err(error.into()) };
        let is_own =
            controller_of(&live.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref();
        let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone());
        let is_same =
            template(&live).zip(template(set)).is_some_and(|(one, other)| same_template(&one, &other));
        if is_own && is_same {
            debug!(set = %key, "the ReplicaSet is there already; the cache will show it");
            return Err(error.into());
        }
        Err(CarryOutError::NameTaken(error))
    }

    fn note_scaling(&self, deployment: &Deployment, scaling: &Scaling) {
        let Scaling { name, from, to } = scaling;
        let direction = if to > from { "up" } else { "down" };
        self.recorder.publish(Note {
            regarding: deployment.object_ref(&()),
            severity: Severity::Normal,
            reason: "ScalingReplicaSet",
            action: "ScaleReplicaSet",
            text: format!("Scaled {direction} replica set {name} from {from} to {to}"),
        });
    }

    /// Writes the status, and with it the revision annotation: an annotation that is written to the object itself
    /// makes a new generation.
    async fn report(
        &self,
        deployment: &Deployment,
        status: &DeploymentStatus,
        revision: Option<&str>,
        writes: &Writes,
    ) -> Result<(), ApiError> {
        let last = deployment.status.clone().unwrap_or_default();
        let key = ObjectKey::of(&deployment.metadata);
        let changes = merge_diff(&to_value(&last), &to_value(status));
        if changes.is_none() && revision.is_none() {
            return Ok(());
        }
        // Without a condition on the revision: the status is this controller's alone, and what it is computed from
        // wakes it when it changes.
        let mut metadata = json!({ "uid": deployment.metadata.uid });
        if let Some(revision) = revision {
            metadata["annotations"] = json!({ REVISION: revision });
        }
        let mut patch = json!({ "metadata": metadata });
        if let Some(changes) = changes {
            patch["status"] = changes;
        }
        let written = match writes.merge(&self.deployments, &key, Part::Status, &patch).await {
            Err(error) if error.is_not_found() => return Ok(()),
            written => written?,
        };
        let has_it =
            |revision: &str| written.metadata.annotations.get(REVISION).is_some_and(|has| has == revision);
        match revision {
            // Not every server takes annotations with a status.
            Some(revision) if !has_it(revision) => {
                let patch = json!({ "metadata": metadata });
                gone_is_fine(writes.merge(&self.deployments, &key, Part::Main, &patch).await)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a plan was not carried out.
enum CarryOutError {
    /// The ReplicaSet's name belongs to another.
    NameTaken(ApiError),
    /// The ReplicaSet was refused.
    NotCreated(ApiError),
    /// Anything else.
    Other(ApiError),
}

impl From<ApiError> for CarryOutError {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl Controller for DeploymentController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        DEPLOYMENT_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.deployments.synced().await;
        self.sets.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Next::Wake) };
        let selector = usable_selector(&deployment, key)?;
        let uid = Uid::of(&deployment.metadata);
        let sets = self.claim(&deployment, &uid, &selector, writes).await?;
        let running = self.running(&deployment, &sets);
        let now = self.clock.now();
        let plan = plan(&Observed { deployment: &deployment, sets: &sets, running: &running, now });
        match self.carry_out(&deployment, &plan, writes).await {
            Ok(()) => {
                self.report(&deployment, &plan.status, plan.revision.as_deref(), writes).await?;
                Ok(Next::after(plan.wake_after))
            }
            Err(CarryOutError::Other(error)) => Err(error.into()),
            Err(CarryOutError::NameTaken(error)) => {
                let mut status = deployment.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
                self.report(&deployment, &status, None, writes).await?;
                Err(error.into())
            }
            Err(CarryOutError::NotCreated(error)) => {
                let status = not_created(&deployment, &error, now);
                self.report(&deployment, &status, None, writes).await?;
                Err(error.into())
            }
        }
    }
}

/// The status of a Deployment whose ReplicaSet was refused.
fn not_created(deployment: &Deployment, error: &ApiError, now: Timestamp) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.observed_generation = deployment.metadata.generation;
    if progress_deadline(deployment).is_some() {
        let message = format!("Failed to create new replica set: {}", error.message());
        set(&mut status, progressing("False", "ReplicaSetCreateError", message), now);
    }
    status
}

fn usable_selector(deployment: &Deployment, key: &ObjectKey) -> Result<Selector, ReconcileError> {
    let unusable = |problem: String| ReconcileError::Unusable { object: key.to_string(), problem };
    let selector = deployment.spec.as_ref().map(|spec| Selector::compile(&spec.selector));
    let selector = selector.transpose().map_err(|error| unusable(error.to_string()))?.unwrap_or_default();
    if selector.is_empty() {
        return Err(unusable(
            "spec.selector is empty and would claim every ReplicaSet: give it a label".to_owned(),
        ));
    }
    Ok(selector)
}

/// The Deployment that controls a ReplicaSet.
fn deployment_of(set: &ReplicaSet) -> Option<ObjectKey> {
    let owner = controller_of(&set.metadata)?;
    let is_deployment = owner.kind == "Deployment" && owner.api_version.starts_with("apps/");
    is_deployment.then(|| ObjectKey::new(set.metadata.namespace.as_deref().unwrap_or(""), &owner.name))
}

fn wake_by_set(
    change: &Change<ReplicaSet>,
    deployments: &Informer<Deployment>,
    queue: &WorkQueue<ObjectKey>,
) {
    for deployment in change.both().filter_map(|set| deployment_of(set)) {
        queue.add(deployment);
    }
    let Some(set) = &change.new else { return };
    if controller_of(&set.metadata).is_some() {
        return;
    }
    for deployment in deployments.read().in_namespace(change.key.namespace()) {
        let key = ObjectKey::of(&deployment.metadata);
        if usable_selector(deployment, &key).is_ok_and(|selector| selector.matches(&set.metadata.labels)) {
            queue.add(key);
        }
    }
}

/// A `Recreate` rollout goes on when the last old pod has gone.
fn wake_by_pod(
    change: &Change<PodRecord>,
    sets: &Informer<ReplicaSet>,
    deployments: &Informer<Deployment>,
    queue: &WorkQueue<ObjectKey>,
) {
    if change.new.as_ref().is_some_and(|pod| !pod.is_finished()) {
        return;
    }
    let Some(owner) = change.latest().controller.as_ref().filter(|owner| &*owner.kind == "ReplicaSet") else {
        return;
    };
    let set = sets.get(&ObjectKey::new(change.key.namespace(), &owner.name));
    let Some(key) = set.and_then(|set| deployment_of(&set)) else { return };
    if deployments.get(&key).is_some_and(|deployment| Strategy::of(&deployment) == Strategy::Recreate) {
        queue.add(key);
    }
}

//! The thin part: reads the caches, asks [`super::plan`], writes.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::ReplicaOwner;
use super::plan::{Desired, Plan, ReplicaFailure, plan, slow_start};
use crate::context::Context;
use crate::ownership::{Claim, Claimant, adoption, controller_reference, release};
use crate::pod::{Owner, PodRecord};
use crate::runtime::clock::SharedClock;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::events::{Note, Recorder, Severity};
use crate::runtime::informer::Informer;
use crate::runtime::kind::{Index, Watched};
use crate::runtime::object::{Labels, ObjectKey, Uid, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::selector::Selector;
use crate::runtime::store::Change;
use crate::runtime::writer::{Deletion, Part, Writes, gone_is_fine, status_patch};

/// Keeps the pods of every `K`.
pub struct ReplicaController<K: ReplicaOwner> {
    owners: Informer<K>,
    pods: Informer<PodRecord>,
    queue: Arc<WorkQueue<ObjectKey>>,
    recorder: Recorder,
    clock: SharedClock,
}

impl<K: ReplicaOwner> ReplicaController<K> {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            owners: context.informers.get(),
            pods: context.informers.get(),
            queue: Arc::default(),
            recorder: context.recorder.of(K::ROLE.controller),
            clock: Arc::clone(&context.clock),
        });
        let queue = Arc::clone(&controller.queue);
        controller.owners.on_change(move |change| queue.add(change.key.clone()));
        let (queue, owners) = (Arc::clone(&controller.queue), controller.owners.clone());
        controller.pods.on_change(move |change| wake_owners(change, &owners, &queue));
        controller
    }

    /// The pods that belong to `owner`, after adopting and releasing what has to be.
    async fn claim(
        &self,
        owner: &K,
        uid: &Uid,
        selector: &Selector,
        writes: &Writes,
    ) -> Result<Vec<Arc<PodRecord>>, ApiError> {
        let meta = owner.metadata();
        let claimant = Claimant { uid, deleting: is_deleting(meta), selector };
        let namespace = meta.namespace.as_deref().unwrap_or("");
        let mut owned = Vec::new();
        let (mut adopt, mut let_go) = (Vec::new(), Vec::new());
        {
            let pods = self.pods.read();
            let candidates =
                pods.indexed(Index::Controller, uid.as_str()).chain(pods.indexed(Index::Orphan, namespace));
            for pod in candidates {
                let controller = pod.controller.as_ref().map(|owner| owner.uid.as_str());
                match claimant.claim(controller, &pod.labels, pod.deleting.is_some() || pod.is_finished()) {
                    Claim::Owned => owned.push(Arc::clone(pod)),
                    Claim::Adopt => adopt.push(Arc::clone(pod)),
                    Claim::Release => let_go.push(Arc::clone(pod)),
                    Claim::Foreign => {}
                }
            }
        }
        for pod in let_go {
            let patch = release(uid, pod.uid.as_str());
            gone_is_fine(writes.strategic(&self.pods, &pod.key, Part::Main, &patch).await)?;
        }
        if !adopt.is_empty() && writes.untracked().is_live::<K>(&ObjectKey::of(meta), uid).await? {
            let reference = controller_reference(owner);
            for pod in adopt {
                let patch = adoption(&reference, pod.uid.as_str());
                gone_is_fine(writes.strategic(&self.pods, &pod.key, Part::Main, &patch).await)?;
                owned.push(pod);
            }
        }
        Ok(owned)
    }

    /// Creates and deletes; says what went wrong.
    async fn manage(
        &self,
        owner: &K,
        plan: &Plan,
        writes: &Writes,
    ) -> Result<(), (ReplicaFailure, ApiError)> {
        let reference = owner.object_ref(&());
        if plan.create > 0
            && let Some(template) = owner.template()
        {
            let pod = pod_from_template(template, owner.metadata(), controller_reference(owner));
            for batch in slow_start(plan.create) {
                let creations = (0..batch).map(|_| self.create(&pod, &reference, writes));
                first_error(join_all(creations).await).map_err(|error| failure("FailedCreate", error))?;
            }
        }
        let deletions = plan.delete.iter().map(|pod| self.delete(pod, &reference, writes));
        first_error(join_all(deletions).await).map_err(|error| failure("FailedDelete", error))
    }

    async fn create(&self, pod: &Pod, owner: &ObjectReference, writes: &Writes) -> Result<(), ApiError> {
        let created = writes.create(&self.pods, pod).await;
        match &created {
            Ok(written) => {
                let text = format!("Created pod: {}", written.metadata.name);
                self.note(owner, Severity::Normal, "SuccessfulCreate", "CreatePod", text);
            }
            // Its namespace is going: nobody waits for this pod.
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                let text = format!("Error creating: {}", error.message());
                self.note(owner, Severity::Warning, "FailedCreate", "CreatePod", text);
            }
        }
        created.map(drop)
    }

    async fn delete(
        &self,
        pod: &PodRecord,
        owner: &ObjectReference,
        writes: &Writes,
    ) -> Result<(), ApiError> {
        let deleted = writes.delete(&self.pods, &pod.key, &pod.uid, Deletion::default()).await;
        match &deleted {
            Ok(()) => {
                let text = format!("Deleted pod: {}", pod.key.name());
                self.note(owner, Severity::Normal, "SuccessfulDelete", "DeletePod", text);
            }
            Err(error) => {
                let text = format!("Error deleting: {}", error.message());
                self.note(owner, Severity::Warning, "FailedDelete", "DeletePod", text);
            }
        }
        deleted
    }

    fn note(
        &self,
        owner: &ObjectReference,
        severity: Severity,
        reason: &'static str,
        action: &'static str,
        text: String,
    ) {
        self.recorder.publish(Note { regarding: owner.clone(), severity, reason, action, text });
    }

    fn related(&self, owner: &K) -> Vec<Arc<PodRecord>> {
        let workload = owner.workload(&self.owners);
        let pods = self.pods.read();
        workload.iter().flat_map(|uid| pods.indexed(Index::Controller, uid.as_str())).cloned().collect()
    }
}

impl<K: ReplicaOwner> Controller for ReplicaController<K> {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        K::ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.owners.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(owner) = self.owners.get(key) else { return Ok(Next::Wake) };
        let selector = usable_selector(&*owner, key)?;
        let meta = owner.metadata();
        let uid = Uid::of(meta);
        let owned = self.claim(&owner, &uid, &selector, writes).await?;
        let now = self.clock.now();
        let last = owner.last_status();
        let plan = plan(&desired(&*owner), &last, &owned, || self.related(&owner), now);
        let managed = self.manage(&owner, &plan, writes).await;
        let failure = managed.as_ref().err().map(|(failure, _)| failure);
        let status = plan.status.with_failure(failure, now);
        let revision = meta.resource_version.as_deref().unwrap_or("");
        if let Some(patch) = status_patch(&last, &status, uid.as_str(), revision) {
            gone_is_fine(writes.merge(&self.owners, key, Part::Status, &patch).await)?;
        }
        match managed {
            Ok(()) => Ok(Next::after(plan.wake_after)),
            Err((_, error)) => Err(error.into()),
        }
    }
}

/// Wakes the owner of a pod; for a pod without one, every owner that might adopt it.
fn wake_owners<K: ReplicaOwner>(
    change: &Change<PodRecord>,
    owners: &Informer<K>,
    queue: &WorkQueue<ObjectKey>,
) {
    let namespace = change.key.namespace();
    for owner in change.both().filter_map(|pod| pod.controller.as_ref()).filter(|owner| is_kind::<K>(owner)) {
        queue.add(ObjectKey::new(namespace, &owner.name));
    }
    let Some(orphan) = change.new.as_ref().filter(|pod| pod.controller.is_none() && pod.is_active()) else {
        return;
    };
    let unchanged = |old: &Arc<PodRecord>| old.controller.is_none() && old.labels == orphan.labels;
    if change.old.as_ref().is_some_and(unchanged) {
        return;
    }
    for owner in owners.read().in_namespace(namespace) {
        if owner.selector().is_ok_and(|selector| !selector.is_empty() && selector.matches(&orphan.labels)) {
            queue.add(ObjectKey::of(owner.metadata()));
        }
    }
}

fn is_kind<K: Watched>(owner: &Owner) -> bool {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    *owner.kind == *K::kind(&()) && group == K::group(&())
}

fn usable_selector<K: ReplicaOwner>(owner: &K, key: &ObjectKey) -> Result<Selector, ReconcileError> {
    let unusable = |problem: String| ReconcileError::Unusable { object: key.to_string(), problem };
    let selector = owner.selector().map_err(|error| unusable(error.to_string()))?;
    if selector.is_empty() {
        return Err(unusable("spec.selector is empty and would claim every pod: give it a label".to_owned()));
    }
    Ok(selector)
}

fn desired<K: ReplicaOwner>(owner: &K) -> Desired {
    let meta = owner.metadata();
    let template = owner.template().and_then(|template| template.metadata.as_ref());
    Desired {
        replicas: owner.replicas(),
        min_ready: owner.min_ready(),
        template_labels: template.map(Labels::of).unwrap_or_default(),
        generation: meta.generation,
        deleting: is_deleting(meta),
        counts_terminating: K::COUNTS_TERMINATING,
    }
}

/// The pod that `template` describes, named after and controlled by its owner.
pub(crate) fn pod_from_template(
    template: &PodTemplateSpec,
    owner: &ObjectMeta,
    reference: OwnerReference,
) -> Pod {
    let meta = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            namespace: owner.namespace.clone(),
            generate_name: Some(format!("{}-", owner.name.as_deref().unwrap_or(""))),
            labels: meta.and_then(|meta| meta.labels.clone()),
            annotations: meta.and_then(|meta| meta.annotations.clone()),
            finalizers: meta.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

fn first_error(results: Vec<Result<(), ApiError>>) -> Result<(), ApiError> {
    results.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

fn failure(reason: &'static str, error: ApiError) -> (ReplicaFailure, ApiError) {
    (ReplicaFailure { reason, message: error.message() }, error)
}

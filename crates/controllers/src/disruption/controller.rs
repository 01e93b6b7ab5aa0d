//! The thin part: finds the pods and what their owners want, asks the plan, writes the status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;

use super::DISRUPTION_ROLE;
use super::plan::{needs_scale, plan, selector};
use super::scale;
use crate::context::Context;
use crate::pod::{Owner, PodRecord};
use crate::runtime::clock::SharedClock;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::events::{Note, Recorder, Severity};
use crate::runtime::informer::Informer;
use crate::runtime::kind::{Kind, Watched};
use crate::runtime::object::{ObjectKey, Uid, controller_of, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::store::Change;
use crate::runtime::writer::{Part, Writes, gone_is_fine, status_patch};

/// When to look again at a budget whose pods have owners that nobody knows.
const UNKNOWN_RECHECK: Duration = Duration::from_mins(1);

impl Watched for PodDisruptionBudget {}

impl Kind for PodDisruptionBudget {
    type Raw = Self;

    fn project(raw: &Arc<Self>) -> Arc<Self> {
        Arc::clone(raw)
    }

    fn is_deleting(&self) -> bool {
        is_deleting(&self.metadata)
    }
}

/// Keeps the status of every budget.
pub struct DisruptionController {
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<PodRecord>,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    replication_controllers: Informer<ReplicationController>,
    queue: Arc<WorkQueue<ObjectKey>>,
    recorder: Recorder,
    clock: SharedClock,
}

/// How many pods are wanted.
struct Wanted {
    /// By all owners together; an `Err` says why that is not known.
    scale: Result<i32, String>,
    /// The pods that have no owner and so are not counted.
    unmanaged: Vec<String>,
}

impl DisruptionController {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            budgets: context.informers.get(),
            pods: context.informers.get(),
            deployments: context.informers.get(),
            replica_sets: context.informers.get(),
            replication_controllers: context.informers.get(),
            queue: Arc::default(),
            recorder: context.recorder.of(DISRUPTION_ROLE.controller),
            clock: Arc::clone(&context.clock),
        });
        let queue = Arc::clone(&controller.queue);
        controller.budgets.on_change(move |change| queue.add(change.key.clone()));
        let wake = controller.waker();
        controller.pods.on_change(move |change| {
            wake(change.key.namespace(), &|budget| {
                let selector = selector(budget);
                change.both().any(|pod| selector.as_ref().is_some_and(|s| s.matches(&pod.labels)))
            });
        });
        let wake = controller.waker();
        controller.deployments.on_change(move |change| {
            wake_scaled(change, |d| d.spec.as_ref().and_then(|spec| spec.replicas), &wake);
        });
        let wake = controller.waker();
        controller.replica_sets.on_change(move |change| {
            wake_scaled(change, |set| set.spec.as_ref().and_then(|spec| spec.replicas), &wake);
        });
        let wake = controller.waker();
        controller.replication_controllers.on_change(move |change| {
            wake_scaled(change, |rc| rc.spec.as_ref().and_then(|spec| spec.replicas), &wake);
        });
        controller
    }

    /// Wakes the budgets of a namespace that a test picks.
    fn waker(&self) -> impl Fn(&str, &dyn Fn(&PodDisruptionBudget) -> bool) + Send + Sync + use<> {
        let (queue, budgets) = (Arc::clone(&self.queue), self.budgets.clone());
        move |namespace, picked| {
            for budget in budgets.read().in_namespace(namespace).filter(|budget| picked(budget)) {
                queue.add(ObjectKey::of(&budget.metadata));
            }
        }
    }

    fn covered(&self, budget: &PodDisruptionBudget, namespace: &str) -> Vec<Arc<PodRecord>> {
        let Some(selector) = selector(budget) else { return Vec::new() };
        let pods = self.pods.read();
        pods.in_namespace(namespace).filter(|pod| selector.matches(&pod.labels)).cloned().collect()
    }

    /// Adds up what the owners of the pods want, each of them once.
    async fn wanted(&self, pods: &[Arc<PodRecord>], writes: &Writes) -> Result<Wanted, ApiError> {
        let mut scales: BTreeMap<Uid, i32> = BTreeMap::new();
        let mut wanted = Wanted { scale: Ok(0), unmanaged: Vec::new() };
        for pod in pods {
            let Some(owner) = &pod.controller else {
                wanted.unmanaged.push(pod.key.name().to_owned());
                continue;
            };
            if scales.contains_key(&owner.uid) {
                continue;
            }
            match self.scale(pod.key.namespace(), owner, writes).await? {
                Some((uid, replicas)) => {
                    scales.insert(uid, replicas);
                }
                None => {
                    let why = format!("found no controllers for pod {:?}", pod.key.name());
                    return Ok(Wanted { scale: Err(why), ..wanted });
                }
            }
        }
        wanted.scale = Ok(scales.into_values().fold(0, i32::saturating_add));
        Ok(wanted)
    }

    /// The owner that says how many pods there are to be, and how many that is: of a Deployment's pods the Deployment.
    async fn scale(
        &self,
        namespace: &str,
        owner: &Owner,
        writes: &Writes,
    ) -> Result<Option<(Uid, i32)>, ApiError> {
        let key = ObjectKey::new(namespace, &owner.name);
        Ok(match (&*owner.api_version, &*owner.kind) {
            ("apps/v1", "ReplicaSet") => {
                let set = self.replica_sets.get(&key).filter(|set| Uid::of(&set.metadata) == owner.uid);
                set.and_then(|set| self.scale_of_set(namespace, &set))
            }
            ("v1", "ReplicationController") => {
                let rc = self.replication_controllers.get(&key);
                let rc = rc.filter(|rc| Uid::of(&rc.metadata) == owner.uid);
                rc.map(|rc| (owner.uid.clone(), wanted_or_one(rc.spec.as_ref().and_then(|s| s.replicas))))
            }
            _ => {
                let client = writes.untracked().client();
                let replicas = scale::replicas(client, namespace, owner).await?;
                replicas.map(|replicas| (owner.uid.clone(), replicas))
            }
        })
    }

    fn scale_of_set(&self, namespace: &str, set: &ReplicaSet) -> Option<(Uid, i32)> {
        let deployment = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment");
        let Some(owner) = deployment else {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
            return Some((Uid::of(&set.metadata), wanted_or_one(replicas)));
        };
        let deployment = self.deployments.get(&ObjectKey::new(namespace, &owner.name))?;
        let uid = Uid::of(&deployment.metadata);
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        (uid.as_str() == owner.uid).then(|| (uid, wanted_or_one(replicas)))
    }

    /// Says what about a budget its owner may not expect.
    fn note(&self, budget: &PodDisruptionBudget, severity: Severity, reason: &'static str, text: String) {
        let regarding = budget.object_ref(&());
        self.recorder.publish(Note { regarding, severity, reason, action: "CountPods", text });
    }

    fn report(&self, budget: &PodDisruptionBudget, pods: usize, wanted: &Wanted) {
        if pods == 0 {
            self.note(budget, Severity::Normal, "NoPods", "No matching pods found".to_owned());
        }
        if let Err(why) = &wanted.scale {
            let text = format!("Failed to calculate the number of expected pods: {why}");
            self.note(budget, Severity::Warning, "CalculateExpectedPodCountFailed", text);
        }
        if !wanted.unmanaged.is_empty() {
            let text = format!(
                "{} of the pods that the selector picks have no controller, so the status may be wrong: set \
                 spec.minAvailable to a whole number; the first is {}",
                wanted.unmanaged.len(),
                wanted.unmanaged[0]
            );
            self.note(budget, Severity::Warning, "UnmanagedPods", text);
        }
    }
}

/// What the API means by an absent number of replicas.
fn wanted_or_one(replicas: Option<i32>) -> i32 {
    replicas.unwrap_or(1)
}

/// Wakes the budgets of a namespace in which an owner came or wants another number of pods.
fn wake_scaled<K: Kind>(
    change: &Change<K>,
    replicas: impl Fn(&K) -> Option<i32>,
    wake: &impl Fn(&str, &dyn Fn(&PodDisruptionBudget) -> bool),
) {
    let wants = |object: &Option<Arc<K>>| object.as_ref().map(|object| replicas(object));
    if wants(&change.old) != wants(&change.new) {
        wake(change.key.namespace(), &needs_scale);
    }
}

impl Controller for DisruptionController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        DISRUPTION_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.budgets.synced().await;
        self.pods.synced().await;
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.replication_controllers.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(budget) = self.budgets.get(key).filter(|budget| !is_deleting(&budget.metadata)) else {
            return Ok(Next::Wake);
        };
        let pods = self.covered(&budget, key.namespace());
        let wanted = if needs_scale(&budget) {
            self.wanted(&pods, writes).await?
        } else {
            Wanted { scale: Ok(0), unmanaged: Vec::new() }
        };
        let recheck = wanted.scale.is_err().then_some(UNKNOWN_RECHECK);
        let last = budget.status.clone().unwrap_or_default();
        let next = plan(&budget, &pods, wanted.scale.clone(), self.clock.now());
        let meta = &budget.metadata;
        let (uid, revision) = (Uid::of(meta), meta.resource_version.as_deref().unwrap_or(""));
        if let Some(patch) = status_patch(&last, &next.status, uid.as_str(), revision) {
            self.report(&budget, pods.len(), &wanted);
            gone_is_fine(writes.merge(&self.budgets, key, Part::Status, &patch).await)?;
        }
        Ok(Next::after(next.look_again.or(recheck)))
    }
}

//! Taint eviction: pods leave nodes whose `NoExecute` taints they do not tolerate, or no longer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::TAINT_EVICTION_ROLE;
use super::taints::{Driving, Sightings, driving, leave_at};
use crate::context::Context;
use crate::pod::PodRecord;
use crate::runtime::clock::{SharedClock, api_time, until};
use crate::runtime::error::ReconcileError;
use crate::runtime::events::{Note, Recorder, Severity};
use crate::runtime::informer::Informer;
use crate::runtime::kind::Index;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Deletion, Part, Writes, gone_is_fine, to_value};

/// Evicts by taints.
pub struct TaintEviction {
    nodes: Informer<Node>,
    pods: Informer<PodRecord>,
    queue: Arc<WorkQueue<ObjectKey>>,
    recorder: Recorder,
    clock: SharedClock,
    sightings: Arc<Mutex<Sightings>>,
}

impl TaintEviction {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            nodes: context.informers.get(),
            pods: context.informers.get(),
            queue: Arc::default(),
            recorder: context.recorder.of(TAINT_EVICTION_ROLE.controller),
            clock: Arc::clone(&context.clock),
            sightings: Arc::default(),
        });
        let (queue, nodes) = (Arc::clone(&controller.queue), controller.nodes.clone());
        let sightings = Arc::clone(&controller.sightings);
        controller.pods.on_change(move |change| {
            let Some(new) = &change.new else {
                lock(&sightings).keep_only(&change.key, &[]);
                return;
            };
            let moved = change
                .old
                .as_ref()
                .is_none_or(|old| old.node != new.node || old.tolerations != new.tolerations);
            let node = new.node.as_deref().and_then(|node| nodes.get(&ObjectKey::new("", node)));
            if moved && node.is_some_and(|node| !driving(&node).is_empty()) {
                queue.add(change.key.clone());
            }
        });
        let (queue, pods) = (Arc::clone(&controller.queue), controller.pods.clone());
        let sightings = Arc::clone(&controller.sightings);
        controller.nodes.on_change(move |change| {
            let before = change.old.as_ref().map(|old| driving(old)).unwrap_or_default();
            let after = change.new.as_ref().map(|new| driving(new)).unwrap_or_default();
            if before == after {
                return;
            }
            for pod in pods.indexed(Index::Node, change.key.name()) {
                lock(&sightings).keep_only(&pod.key, &after);
                if !after.is_empty() {
                    queue.add(pod.key.clone());
                }
            }
        });
        controller
    }

    /// A pod, and since when each taint of its node drives it out.
    fn look(&self, key: &ObjectKey, now: Timestamp) -> Option<(Arc<PodRecord>, Driving)> {
        // Held from before the caches are read, so that nothing is noted of a pod after it was forgotten.
        let mut sightings = lock(&self.sightings);
        let pod = self.pods.get(key).filter(|pod| pod.is_active())?;
        let node = self.nodes.get(&ObjectKey::new("", pod.node.as_deref()?))?;
        let driving = sightings.since(&pod, driving(&node), now);
        drop(sightings);
        Some((pod, driving))
    }
}

fn lock(sightings: &Mutex<Sightings>) -> MutexGuard<'_, Sightings> {
    // Every change of them is a single step.
    sightings.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Controller for TaintEviction {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        TAINT_EVICTION_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let now = self.clock.now();
        let Some((pod, driving)) = self.look(key, now) else { return Ok(Next::Wake) };
        let Some(at) = leave_at(&pod.tolerations, &driving, now) else { return Ok(Next::Wake) };
        if at > now {
            return Ok(Next::After(until(now, at)));
        }
        self.recorder.publish(Note {
            regarding: pod.reference(),
            severity: Severity::Normal,
            reason: "TaintManagerEviction",
            action: "Evict",
            text: format!("Marking for deletion Pod {key}"),
        });
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Deleted because of a NoExecute taint of its node", "lastTransitionTime": to_value(&api_time(now)),
        });
        let patch =
            json!({ "metadata": { "uid": pod.uid.as_str() }, "status": { "conditions": [condition] } });
        gone_is_fine(writes.strategic(&self.pods, key, Part::Status, &patch).await)?;
        writes.delete(&self.pods, key, &pod.uid, Deletion::default()).await?;
        Ok(Next::Wake)
    }
}

//! The thin part of node lifecycle: heartbeats in, conditions and taints out.
//!
//! A heartbeat only moves a time; a node is looked at every few seconds, which asks nobody, and when it changes in what
//! matters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::NODE_LIFECYCLE_ROLE;
use super::health::{Renewal, last_report, unknown_conditions, zone};
use super::taints::{DriveOut, Standing, desired, standing};
use super::vigil::{LOOK_EVERY, Neighbour, Now, Vigil};
use crate::context::Context;
use crate::kinds::NODE_LEASE_NAMESPACE;
use crate::pod::PodRecord;
use crate::runtime::clock::{SharedClock, api_time};
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::events::{Note, Recorder, Severity};
use crate::runtime::informer::Informer;
use crate::runtime::kind::Index;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::store::Change;
use crate::runtime::writer::{Part, Writes, gone_is_fine, to_value};

/// Watches over every node.
pub struct NodeLifecycle {
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<PodRecord>,
    queue: Arc<WorkQueue<ObjectKey>>,
    recorder: Recorder,
    clock: SharedClock,
    vigil: Arc<Mutex<Vigil>>,
}

impl NodeLifecycle {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            nodes: context.informers.get(),
            leases: context.informers.get(),
            pods: context.informers.get(),
            queue: Arc::default(),
            recorder: context.recorder.of(NODE_LIFECYCLE_ROLE.controller),
            clock: Arc::clone(&context.clock),
            vigil: Arc::default(),
        });
        let (vigil, queue) = (Arc::clone(&controller.vigil), Arc::clone(&controller.queue));
        let clock = Arc::clone(&controller.clock);
        controller.leases.on_change(move |change| {
            let key = ObjectKey::new("", change.key.name());
            // A node that is not known yet is taken up when it is looked at.
            lock(&vigil).hear(&key, Renewal::of(change.latest()).as_ref(), None, clock.instant());
            if change.old.is_none() {
                queue.add(key);
            }
        });
        let (vigil, queue) = (Arc::clone(&controller.vigil), Arc::clone(&controller.queue));
        let (nodes, clock) = (controller.nodes.clone(), Arc::clone(&controller.clock));
        controller.nodes.on_change(move |change| {
            match &change.new {
                Some(node) => lock(&vigil).hear(&change.key, None, last_report(node), clock.instant()),
                None => lock(&vigil).forget(&change.key),
            }
            wake(change, &nodes, &queue);
        });
        controller
    }

    /// When a node counts as lost unless it is heard of before.
    fn listen(&self, node: &Node, key: &ObjectKey) -> Instant {
        let lease = self.leases.get(&ObjectKey::new(NODE_LEASE_NAMESPACE, key.name()));
        let renewed = lease.and_then(|lease| Renewal::of(&lease));
        let now = Now { heard: self.clock.instant(), awake: Instant::now() };
        lock(&self.vigil).listen(key, node, renewed.as_ref(), now)
    }

    /// The same, once the server was asked: the caches may be what is silent.
    async fn ask(&self, node: &Node, key: &ObjectKey, writes: &Writes) -> Result<Instant, ApiError> {
        let lease = ObjectKey::new(NODE_LEASE_NAMESPACE, key.name());
        let live = writes.untracked().get::<Lease>(&lease).await?;
        let renewed = live.as_ref().and_then(Renewal::of);
        lock(&self.vigil).hear(key, renewed.as_ref(), None, self.clock.instant());
        Ok(self.listen(node, key))
    }

    /// Sets what a silent node no longer vouches for to `Unknown`.
    async fn give_up(
        &self,
        node: &Node,
        key: &ObjectKey,
        now: Timestamp,
        writes: &Writes,
    ) -> Result<(), ApiError> {
        let conditions = unknown_conditions(node, now);
        if conditions.is_empty() {
            return Ok(());
        }
        info!(node = %key, "node has fallen silent");
        let conditions: Vec<_> = conditions.iter().map(to_value).collect();
        // Only as it was looked at: what the node has said since counts.
        let patch = json!({
            "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
            "status": { "conditions": conditions },
        });
        gone_is_fine(writes.strategic(&self.nodes, key, Part::Status, &patch).await)?;
        self.note(node, Severity::Normal, "NodeNotReady", format!("Node {key} status is now: NodeNotReady"));
        Ok(())
    }

    /// Whether pods may be driven out of a node that is not ready, and when to ask again.
    fn drive_out(&self, node: &Node, would_change: bool) -> (DriveOut, Option<Instant>) {
        let nodes: Vec<_> = self.nodes.read().iter().map(|node| Neighbour::of(node)).collect();
        lock(&self.vigil).drive_out(&zone(node), &nodes, would_change, self.clock.instant())
    }

    /// Gives the node its taints; says when to look at them again.
    async fn taint(
        &self,
        node: &Node,
        key: &ObjectKey,
        now: Timestamp,
        writes: &Writes,
    ) -> Result<Option<Instant>, ApiError> {
        let (drive_out, again) = match standing(node) {
            Standing::Ready => (DriveOut::No, None),
            Standing::NotReady | Standing::Lost => {
                self.drive_out(node, desired(node, DriveOut::Yes, now).is_some())
            }
        };
        if let Some(taints) = desired(node, drive_out, now) {
            let taints: Vec<_> = taints.iter().map(to_value).collect();
            let patch = json!({
                "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
                "spec": { "taints": taints },
            });
            gone_is_fine(writes.merge(&self.nodes, key, Part::Main, &patch).await)?;
        }
        Ok(again)
    }

    /// Marks the pods of a node that is not ready. Done at every look: the cache may show late that one of them was
    /// ready, and there is nobody on the node to take it back.
    async fn mark_pods(
        &self,
        node: &Node,
        key: &ObjectKey,
        now: Timestamp,
        writes: &Writes,
    ) -> Result<(), ApiError> {
        if standing(node) == Standing::Ready {
            return Ok(());
        }
        let pods = self.pods.indexed(Index::Node, key.name());
        for pod in pods.iter().filter(|pod| pod.ready.is_true) {
            let condition =
                json!({ "type": "Ready", "status": "False", "lastTransitionTime": to_value(&api_time(now)) });
            let patch =
                json!({ "metadata": { "uid": pod.uid.as_str() }, "status": { "conditions": [condition] } });
            gone_is_fine(writes.strategic(&self.pods, &pod.key, Part::Status, &patch).await)?;
            self.recorder.publish(Note {
                regarding: pod.reference(),
                severity: Severity::Warning,
                reason: "NodeNotReady",
                action: "MarkNotReady",
                text: "Node is not ready".to_owned(),
            });
        }
        Ok(())
    }

    fn note(&self, node: &Node, severity: Severity, reason: &'static str, text: String) {
        let regarding = ObjectReference {
            kind: Some("Node".to_owned()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.recorder.publish(Note { regarding, severity, reason, action: "MonitorNode", text });
    }
}

/// Wakes a node that has changed in more than its heartbeat, and with a change of readiness all that are not ready.
fn wake(change: &Change<Node>, nodes: &Informer<Node>, queue: &WorkQueue<ObjectKey>) {
    let Some(new) = &change.new else { return };
    let was = change.old.as_ref().map(|old| standing(old));
    let heartbeat_only = change.old.as_ref().is_some_and(|old| {
        old.spec == new.spec && old.metadata.labels == new.metadata.labels && statuses(old).eq(statuses(new))
    });
    if !heartbeat_only {
        queue.add(change.key.clone());
    }
    if was.is_some_and(|was| was != standing(new)) {
        let troubled: Vec<_> =
            nodes.read().iter().filter(|node| standing(node) != Standing::Ready).cloned().collect();
        queue.extend(troubled.iter().map(|node| ObjectKey::of(&node.metadata)));
    }
}

fn statuses(node: &Node) -> impl Iterator<Item = (&str, &str)> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|condition| (condition.type_.as_str(), condition.status.as_str()))
}

fn lock(vigil: &Mutex<Vigil>) -> MutexGuard<'_, Vigil> {
    // Every change of it is a single step.
    vigil.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Controller for NodeLifecycle {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NODE_LIFECYCLE_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.leases.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(node) = self.nodes.get(key) else { return Ok(Next::Wake) };
        let now = self.clock.now();
        let mut silent_at = self.listen(&node, key);
        if silent_at <= self.clock.instant() && standing(&node) != Standing::Lost {
            silent_at = self.ask(&node, key, writes).await?;
        }
        let is_silent = silent_at <= self.clock.instant();
        if is_silent {
            self.give_up(&node, key, now, writes).await?;
        }
        let again = self.taint(&node, key, now, writes).await?;
        self.mark_pods(&node, key, now, writes).await?;
        let look = self.clock.instant() + LOOK_EVERY;
        let look = if is_silent { look } else { silent_at.min(look) };
        let next = again.map_or(look, |again| again.min(look));
        Ok(Next::after(Some(next.saturating_duration_since(self.clock.instant()))))
    }
}

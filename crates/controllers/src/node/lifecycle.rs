//! The thin part of node lifecycle: heartbeats in, conditions and taints out.
//!
//! A heartbeat only moves a time; a node is looked at when the time that it may be silent is over, and when it
//! changes in what matters.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tracing::info;

use super::NODE_LIFECYCLE_ROLE;
use super::health::{Pace, Seen, deadline, last_report, pace, unknown_conditions, zone};
use super::taints::{DriveOut, Standing, desired, standing};
use crate::context::Context;
use crate::kinds::NODE_LEASE_NAMESPACE;
use crate::pod::PodRecord;
use crate::runtime::clock::{SharedClock, after, api_time, until};
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::events::{Note, Recorder, Severity};
use crate::runtime::informer::Informer;
use crate::runtime::kind::Index;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::store::Change;
use crate::runtime::writer::{Part, Writes, gone_is_fine, to_value};

/// Times in the API are whole seconds, and timers may be early by a little.
const MARGIN: Duration = Duration::from_millis(100);

/// Watches over every node.
pub struct NodeLifecycle {
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<PodRecord>,
    queue: Arc<WorkQueue<ObjectKey>>,
    recorder: Recorder,
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    seen: HashMap<ObjectKey, Seen>,
    /// When the next node of a zone may be given up.
    paced_until: HashMap<String, Timestamp>,
    /// Whether every node was lost at the last look.
    halted: bool,
    /// Nodes whose pods have been marked as not ready.
    marked: HashSet<ObjectKey>,
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
            state: Arc::default(),
        });
        let handle =
            (Arc::clone(&controller.state), Arc::clone(&controller.clock), Arc::clone(&controller.queue));
        let (state, clock, queue) = handle;
        controller.leases.on_change(move |change| {
            let key = ObjectKey::new("", change.key.name());
            let renewed = change.latest().spec.as_ref().and_then(|spec| spec.renew_time.clone());
            let mut state = lock(&state);
            // A node that is not known yet is taken up when it is looked at.
            if let Some(seen) = state.seen.get_mut(&key) {
                seen.update(renewed.as_ref(), None, clock.now());
            }
            drop(state);
            if change.old.is_none() {
                queue.add(key);
            }
        });
        let handle =
            (Arc::clone(&controller.state), Arc::clone(&controller.clock), Arc::clone(&controller.queue));
        let (state, clock, queue) = handle;
        let nodes = controller.nodes.clone();
        controller.nodes.on_change(move |change| wake(change, &state, clock.now(), &nodes, &queue));
        controller
    }

    /// What is known of a node's signs of life; a node that is new here counts as seen now.
    fn seen(&self, node: &Node, key: &ObjectKey, now: Timestamp) -> Seen {
        let lease = self.leases.get(&ObjectKey::new(NODE_LEASE_NAMESPACE, key.name()));
        let renewed: Option<MicroTime> = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
        let mut state = lock(&self.state);
        let fresh = || Seen { at: now, renewed: renewed.clone(), reported: last_report(node) };
        let seen = state.seen.entry(key.clone()).or_insert_with(fresh);
        seen.update(renewed.as_ref(), last_report(node), now);
        seen.clone()
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
        let patch =
            json!({ "metadata": { "uid": node.metadata.uid }, "status": { "conditions": conditions } });
        gone_is_fine(writes.strategic(&self.nodes, key, Part::Status, &patch).await)?;
        self.note(node, Severity::Normal, "NodeNotReady", format!("Node {key} status is now: NodeNotReady"));
        Ok(())
    }

    /// Whether pods may be driven out of a node that is not ready, and when to ask again.
    fn drive_out(&self, node: &Node, now: Timestamp) -> (DriveOut, Next) {
        let zone_of_node = zone(node);
        let ready: Vec<_> = {
            let nodes = self.nodes.read();
            nodes.iter().map(|node| (zone(node), standing(node) == Standing::Ready)).collect()
        };
        let pace = pace(&zone_of_node, ready.iter().map(|(zone, ready)| (zone.as_str(), *ready)));
        let mut state = lock(&self.state);
        let Some(pace) = pace else {
            state.halted = true;
            return (DriveOut::No, Next::Wake);
        };
        if std::mem::take(&mut state.halted) {
            // Somebody is back: it was us, and everybody gets their time again.
            state.seen.values_mut().for_each(|seen| seen.at = now);
            return (DriveOut::No, Next::After(super::health::GRACE));
        }
        let Pace::Every(interval) = pace else { return (DriveOut::Wait, Next::Wake) };
        let allowed_at = state.paced_until.get(&zone_of_node).copied().unwrap_or(now);
        if now < allowed_at {
            return (DriveOut::Wait, Next::After(until(now, allowed_at)));
        }
        state.paced_until.insert(zone_of_node, after(now, interval));
        (DriveOut::Yes, Next::Wake)
    }

    async fn taint(
        &self,
        node: &Node,
        key: &ObjectKey,
        now: Timestamp,
        writes: &Writes,
    ) -> Result<Next, ApiError> {
        let (drive_out, next) = match standing(node) {
            Standing::Ready => (DriveOut::No, Next::Wake),
            // The pace is only used up by a node that would change.
            Standing::NotReady | Standing::Lost if desired(node, DriveOut::Yes, now).is_some() => {
                self.drive_out(node, now)
            }
            Standing::NotReady | Standing::Lost => (DriveOut::Wait, Next::Wake),
        };
        if let Some(taints) = desired(node, drive_out, now) {
            let taints: Vec<_> = taints.iter().map(to_value).collect();
            let patch = json!({
                "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
                "spec": { "taints": taints },
            });
            gone_is_fine(writes.merge(&self.nodes, key, Part::Main, &patch).await)?;
        }
        Ok(next)
    }

    /// Marks the pods of a node that has become not ready, once.
    async fn mark_pods(
        &self,
        node: &Node,
        key: &ObjectKey,
        now: Timestamp,
        writes: &Writes,
    ) -> Result<(), ApiError> {
        if standing(node) == Standing::Ready {
            lock(&self.state).marked.remove(key);
            return Ok(());
        }
        if lock(&self.state).marked.contains(key) {
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
        lock(&self.state).marked.insert(key.clone());
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
fn wake(
    change: &Change<Node>,
    state: &Mutex<State>,
    now: Timestamp,
    nodes: &Informer<Node>,
    queue: &WorkQueue<ObjectKey>,
) {
    let Some(new) = &change.new else {
        let mut state = lock(state);
        state.seen.remove(&change.key);
        state.marked.remove(&change.key);
        return;
    };
    if let Some(seen) = lock(state).seen.get_mut(&change.key) {
        seen.update(None, last_report(new), now);
    }
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

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change of the state is a single step.
    state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let silent_at = deadline(&node, &self.seen(&node, key, now));
        let is_silent = silent_at <= now;
        if is_silent {
            self.give_up(&node, key, now, writes).await?;
        }
        let next = self.taint(&node, key, now, writes).await?;
        self.mark_pods(&node, key, now, writes).await?;
        let listen = (!is_silent).then(|| until(now, silent_at) + MARGIN);
        Ok(match (next, listen) {
            (Next::After(paced), Some(listen)) => Next::After(paced.min(listen)),
            (Next::Wake, listen) => Next::after(listen),
            (paced, None) => paced,
        })
    }
}

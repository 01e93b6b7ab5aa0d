//! Pod garbage collection: pods that nobody will ever finish.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use tracing::info;

use super::POD_GC_ROLE;
use crate::context::Context;
use crate::pod::PodRecord;
use crate::runtime::clock::{SharedClock, api_time};
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::informer::Informer;
use crate::runtime::kind::Index;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::store::Change;
use crate::runtime::writer::{Deletion, Part, Writes, gone_is_fine, to_value};

/// How many finished pods are kept.
pub const FINISHED_LIMIT: usize = 12_500;
/// How long a node must be gone before its pods go: it may be on its way back under the same name.
pub const QUARANTINE: Duration = Duration::from_secs(40);

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Look {
    /// The pods of a node that may be gone.
    Node(String),
    /// A pod that was deleted before it got a node.
    Unscheduled(ObjectKey),
    /// The finished pods.
    Finished,
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Unscheduled(pod) => write!(f, "unscheduled {pod}"),
            Self::Finished => f.write_str("finished pods"),
        }
    }
}

/// Deletes pods that nobody will finish.
pub struct PodGc {
    nodes: Informer<Node>,
    pods: Informer<PodRecord>,
    queue: Arc<WorkQueue<Look>>,
    clock: SharedClock,
}

impl PodGc {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            nodes: context.informers.get(),
            pods: context.informers.get(),
            queue: Arc::default(),
            clock: Arc::clone(&context.clock),
        });
        let queue = Arc::clone(&controller.queue);
        controller.nodes.on_change(move |change| {
            if change.new.is_none() {
                queue.add_after(Look::Node(change.key.name().to_owned()), QUARANTINE);
            }
        });
        let (queue, nodes) = (Arc::clone(&controller.queue), controller.nodes.clone());
        controller.pods.on_change(move |change| wake(change, &nodes, &queue));
        controller
    }

    /// Deletes the pods of a node that the server does not have.
    async fn clear_node(&self, name: &str, writes: &Writes) -> Result<(), ApiError> {
        let key = ObjectKey::new("", name);
        let pods = self.pods.indexed(Index::Node, name);
        if pods.is_empty() || self.nodes.get(&key).is_some() {
            return Ok(());
        }
        if writes.untracked().get::<Node>(&key).await?.is_some() {
            return Ok(());
        }
        info!(node = name, pods = pods.len(), "deleting the pods of a node that is gone");
        for pod in pods {
            self.mark(&pod, writes).await?;
            self.delete(&pod, writes).await?;
        }
        Ok(())
    }

    /// Says why the pod ends. One that has not finished never will: it has failed.
    async fn mark(&self, pod: &PodRecord, writes: &Writes) -> Result<(), ApiError> {
        if pod.is_finished() {
            return Ok(());
        }
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "Deleted because its node is gone", "lastTransitionTime": to_value(&api_time(self.clock.now())),
        });
        let patch = json!({
            "metadata": { "uid": pod.uid.as_str() },
            "status": { "phase": "Failed", "conditions": [condition] },
        });
        gone_is_fine(writes.strategic(&self.pods, &pod.key, Part::Status, &patch).await)
    }

    async fn delete(&self, pod: &PodRecord, writes: &Writes) -> Result<(), ApiError> {
        // No node is left that could end it gracefully.
        let how = Deletion { grace_period_seconds: Some(0), ..Deletion::default() };
        match writes.untracked().delete::<Pod>(&pod.key, &pod.uid, how).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => other,
        }
    }

    /// Deletes the oldest finished pods beyond the limit.
    async fn thin_out(&self, writes: &Writes) -> Result<(), ApiError> {
        let finished: Vec<_> = self.pods.read().iter().filter(|pod| pod.is_finished()).cloned().collect();
        for pod in beyond_limit(finished, FINISHED_LIMIT) {
            self.delete(&pod, writes).await?;
        }
        Ok(())
    }
}

fn wake(change: &Change<PodRecord>, nodes: &Informer<Node>, queue: &WorkQueue<Look>) {
    let Some(new) = &change.new else { return };
    let old = change.old.as_ref();
    match new.node.as_deref() {
        Some(node) if old.is_none_or(|old| old.node != new.node) => {
            if nodes.get(&ObjectKey::new("", node)).is_none() {
                queue.add_after(Look::Node(node.to_owned()), QUARANTINE);
            }
        }
        None if new.deleting.is_some() => queue.add(Look::Unscheduled(change.key.clone())),
        Some(_) | None => {}
    }
    if new.is_finished() && !old.is_some_and(|old| old.is_finished()) {
        // Many finish together; one look serves them all.
        queue.add_after(Look::Finished, Duration::from_secs(1));
    }
}

/// The oldest of `finished` beyond `limit`.
fn beyond_limit(mut finished: Vec<Arc<PodRecord>>, limit: usize) -> Vec<Arc<PodRecord>> {
    let beyond = finished.len().saturating_sub(limit);
    finished.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
    finished.truncate(beyond);
    finished
}

impl Controller for PodGc {
    type Key = Look;

    fn name(&self) -> &'static str {
        POD_GC_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<Look>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &Look, writes: &Writes) -> Result<Next, ReconcileError> {
        match key {
            Look::Node(name) => self.clear_node(name, writes).await?,
            Look::Finished => self.thin_out(writes).await?,
            Look::Unscheduled(key) => {
                let pod = self.pods.get(key).filter(|pod| pod.node.is_none() && pod.deleting.is_some());
                if let Some(pod) = pod {
                    self.delete(&pod, writes).await?;
                }
            }
        }
        Ok(Next::Wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use k8s_openapi::jiff::Timestamp;

    #[test]
    fn the_oldest_go_first() {
        let pods: Vec<_> = [("a", 3), ("b", 1), ("c", 2)]
            .map(|(name, created)| {
                let mut record = PodRecord::of(&pod("ns", name));
                record.created = Some(Timestamp::from_second(created).unwrap());
                Arc::new(record)
            })
            .into();
        for (limit, expected) in [(3, vec![]), (1, vec!["b", "c"]), (0, vec!["b", "c", "a"])] {
            let names: Vec<_> =
                beyond_limit(pods.clone(), limit).iter().map(|pod| pod.key.name().to_owned()).collect();
            assert_eq!(names, expected);
        }
    }
}

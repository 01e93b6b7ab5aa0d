//! The thin part: wakes gatherers, writes their rules.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::ClusterRole;

use super::AGGREGATION_ROLE;
use super::plan::{gathers, plan};
use crate::context::Context;
use crate::runtime::error::ReconcileError;
use crate::runtime::informer::Informer;
use crate::runtime::kind::{Kind, Watched};
use crate::runtime::object::{ObjectKey, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::store::Change;
use crate::runtime::writer::{Part, Writes, gone_is_fine};

impl Watched for ClusterRole {}

impl Kind for ClusterRole {
    type Raw = Self;

    fn project(raw: &Arc<Self>) -> Arc<Self> {
        Arc::clone(raw)
    }

    fn is_deleting(&self) -> bool {
        is_deleting(&self.metadata)
    }
}

/// Keeps the rules of roles that gather them.
pub struct AggregationController {
    roles: Informer<ClusterRole>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl AggregationController {
    /// Wires the watch to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self { roles: context.informers.get(), queue: Arc::default() });
        let (queue, roles) = (Arc::clone(&controller.queue), controller.roles.clone());
        controller.roles.on_change(move |change| wake(change, &roles, &queue));
        controller
    }
}

/// Wakes every gatherer when there is something else to gather.
fn wake(change: &Change<ClusterRole>, roles: &Informer<ClusterRole>, queue: &WorkQueue<ObjectKey>) {
    if let (Some(old), Some(new)) = (&change.old, &change.new) {
        let same = old.rules == new.rules
            && old.metadata.labels == new.metadata.labels
            && old.aggregation_rule == new.aggregation_rule;
        if same {
            return;
        }
    }
    for role in roles.read().iter().filter(|role| gathers(role)) {
        queue.add(ObjectKey::of(&role.metadata));
    }
}

impl Controller for AggregationController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        AGGREGATION_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.roles.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(role) = self.roles.get(key).filter(|role| gathers(role) && !is_deleting(&role.metadata))
        else {
            return Ok(Next::Wake);
        };
        let patch = plan(&role, &self.roles.list());
        let unusable = |error| ReconcileError::Unusable {
            object: key.to_string(),
            problem: format!("aggregationRule: {error}"),
        };
        if let Some(patch) = patch.map_err(unusable)? {
            gone_is_fine(writes.merge(&self.roles, key, Part::Main, &patch).await)?;
        }
        Ok(Next::Wake)
    }
}

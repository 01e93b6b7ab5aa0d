//! ReplicaSet and ReplicationController: as many pods as asked for.
//!
//! One controller for both kinds; what differs between them is [`ReplicaOwner`].
//!
//! Owns: the pods whose controller is the owner, and the owner's status.
//! Guarantees: never more pods than `spec.replicas` by its own doing, because a key waits until the cache shows the
//! pods that it made and deleted; pods go in the order of [`rank`]; a refused creation stops its batch.
//! Caveats: at most [`plan::BURST`] pods per look; finished pods are left to the pod garbage collector; a pod that
//! cannot be told apart by uid from one seen before does not exist.
//!
//! Behaviour follows Kubernetes 1.36.

mod controller;
pub mod plan;
pub mod rank;

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use controller::ReplicaController;

use crate::permissions::{EVENTS, READ, Role, allow};
use crate::runtime::informer::Informer;
use crate::runtime::kind::{Index, Kind, Watched};
use crate::runtime::object::{Uid, controller_of};
use crate::runtime::selector::{Selector, SelectorError};
use plan::{Condition, ReplicaStatus};

/// What the ReplicaSet controller may do.
pub const REPLICASET_ROLE: Role = Role {
    controller: "replicaset-controller",
    permissions: &[
        allow("apps", &["replicasets"], READ),
        allow("apps", &["replicasets/status"], &["patch", "update"]),
        allow("apps", &["replicasets/finalizers"], &["update"]),
        allow("", &["pods"], &["get", "list", "watch", "create", "delete", "patch"]),
        EVENTS,
    ],
};

/// What the ReplicationController controller may do.
pub const REPLICATION_ROLE: Role = Role {
    controller: "replication-controller",
    permissions: &[
        allow("", &["replicationcontrollers"], READ),
        allow("", &["replicationcontrollers/status"], &["patch", "update"]),
        allow("", &["replicationcontrollers/finalizers"], &["update"]),
        allow("", &["pods"], &["get", "list", "watch", "create", "delete", "patch"]),
        EVENTS,
    ],
};

/// A kind that keeps a number of equal pods.
pub trait ReplicaOwner: Kind<Raw = Self> + Watched {
    /// What its controller may do, and what it is called.
    const ROLE: Role;
    /// Whether its status has `terminatingReplicas`.
    const COUNTS_TERMINATING: bool;

    /// `spec.replicas`.
    fn replicas(&self) -> i32;
    /// `spec.minReadySeconds`.
    fn min_ready(&self) -> Duration;
    /// `spec.selector`, compiled.
    fn selector(&self) -> Result<Selector, SelectorError>;
    /// `spec.template`.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// `status`.
    fn last_status(&self) -> ReplicaStatus;
    /// The uids of the owners whose pods make up the same workload, this one's among them.
    fn workload(&self, cache: &Informer<Self>) -> Vec<Uid>;
    /// `metadata`.
    fn metadata(&self) -> &ObjectMeta;
}

impl ReplicaOwner for ReplicaSet {
    const ROLE: Role = REPLICASET_ROLE;
    const COUNTS_TERMINATING: bool = true;

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready(&self) -> Duration {
        seconds(self.spec.as_ref().and_then(|spec| spec.min_ready_seconds))
    }

    fn selector(&self) -> Result<Selector, SelectorError> {
        self.spec.as_ref().map_or_else(|| Ok(Selector::default()), |spec| Selector::compile(&spec.selector))
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn last_status(&self) -> ReplicaStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status.conditions.into_iter().flatten().map(|condition| Condition {
            type_: condition.type_,
            status: condition.status,
            last_transition_time: condition.last_transition_time,
            reason: condition.reason,
            message: condition.message,
        });
        ReplicaStatus {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation,
            conditions: conditions.collect(),
        }
    }

    fn workload(&self, cache: &Informer<Self>) -> Vec<Uid> {
        match controller_of(&self.metadata) {
            Some(owner) => {
                let siblings = cache.indexed(Index::Controller, &owner.uid);
                siblings.iter().map(|sibling| Uid::of(&sibling.metadata)).collect()
            }
            None => vec![Uid::of(&self.metadata)],
        }
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl ReplicaOwner for ReplicationController {
    const ROLE: Role = REPLICATION_ROLE;
    const COUNTS_TERMINATING: bool = false;

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready(&self) -> Duration {
        seconds(self.spec.as_ref().and_then(|spec| spec.min_ready_seconds))
    }

    fn selector(&self) -> Result<Selector, SelectorError> {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        Ok(selector.map(Selector::from_map).unwrap_or_default())
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn last_status(&self) -> ReplicaStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status.conditions.into_iter().flatten().map(|condition| Condition {
            type_: condition.type_,
            status: condition.status,
            last_transition_time: condition.last_transition_time,
            reason: condition.reason,
            message: condition.message,
        });
        ReplicaStatus {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: status.observed_generation,
            conditions: conditions.collect(),
        }
    }

    fn workload(&self, _: &Informer<Self>) -> Vec<Uid> {
        vec![Uid::of(&self.metadata)]
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

fn seconds(count: Option<i32>) -> Duration {
    Duration::from_secs(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

//! Nodes: noticing that one is lost, tainting it, and evicting its pods.
//!
//! Three controllers:
//!
//! - *lifecycle* ([`lifecycle`]) watches heartbeats (leases and node status). A node that is silent for
//!   [`health::GRACE`] gets its conditions set to `Unknown`; its taints follow its conditions, and its pods are marked
//!   as not ready.
//! - *taint eviction* ([`eviction`]) deletes pods that do not tolerate the `NoExecute` taints of their node, when the
//!   time that they tolerate them is over.
//! - *pod garbage collection* ([`pod_gc`]) deletes pods whose node is gone, pods that were deleted before they got a
//!   node, and the oldest of too many finished pods.
//!
//! ```text
//!   heartbeat ──▶ seen at (own clock) ──── silent too long ────▶ Ready=Unknown
//!                                                                    │
//!   Ready≠True ──▶ taint NoSchedule ──▶ taint NoExecute, paced ──▶ pods go when their toleration ends
//!                                       (none at all while every node is lost: then it is rather us)
//! ```
//!
//! Guarantees: a heartbeat counts from when it was seen here, so clocks may differ and may be set; a node is given up
//! only after the server was asked for its lease, and only as it was looked at; the time that a machine slept or stood
//! still is held against nobody; a whole cluster that falls silent loses no pod; evictions by zone are paced.
//! Caveats: after a restart every node has its grace again, and a taint without `timeAdded`, which is one that somebody
//! set by hand, counts from then on for every pod.
//!
//! Behaviour follows Kubernetes 1.36.

pub mod eviction;
pub mod health;
pub mod lifecycle;
pub mod pod_gc;
pub mod taints;
pub mod vigil;

use crate::permissions::{EVENTS, READ, Role, allow};

/// What the node lifecycle controller may do.
pub const NODE_LIFECYCLE_ROLE: Role = Role {
    controller: "node-controller",
    permissions: &[
        allow("", &["nodes"], &["get", "list", "watch", "patch", "update"]),
        allow("", &["nodes/status"], &["patch", "update"]),
        allow("coordination.k8s.io", &["leases"], READ),
        allow("", &["pods"], READ),
        allow("", &["pods/status"], &["patch", "update"]),
        EVENTS,
    ],
};

/// What the taint eviction controller may do.
pub const TAINT_EVICTION_ROLE: Role = Role {
    controller: "taint-eviction-controller",
    permissions: &[
        allow("", &["nodes"], READ),
        allow("", &["pods"], &["get", "list", "watch", "delete"]),
        allow("", &["pods/status"], &["patch", "update"]),
        EVENTS,
    ],
};

/// What the pod garbage collector may do.
pub const POD_GC_ROLE: Role = Role {
    controller: "pod-garbage-collector",
    permissions: &[
        allow("", &["nodes"], READ),
        allow("", &["pods"], &["get", "list", "watch", "delete"]),
        allow("", &["pods/status"], &["patch", "update"]),
    ],
};

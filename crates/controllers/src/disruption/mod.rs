//! PodDisruptionBudgets: how many of the pods that a budget covers may be evicted now.
//!
//! Owns: the status of every PodDisruptionBudget; evictions, which the server does, spend from it and note the pod in
//! `disruptedPods` until it is seen to go.
//! Guarantees: `disruptionsAllowed` is never more than what the cache shows, less what has been spent since; when the
//! number of wanted pods cannot be told, nothing may be evicted and the condition says why.
//! Caveats: pods without a controller count only where `minAvailable` is a whole number; an evicted pod that has not
//! gone after [`plan::DELETION_TIMEOUT`] counts as healthy again.
//!
//! ```text
//!  pods, budgets, scales ──▶ expected, desired, healthy ──▶ disruptionsAllowed ──▶ eviction spends one ──▶ pod goes
//!                                  ▲                                                  │ disruptedPods[pod]
//!                                  └──────────────────────────────────────────────────┘
//! ```
//!
//! Behaviour follows Kubernetes 1.36, `policy/v1`.

mod controller;
pub mod plan;
mod scale;

pub use controller::DisruptionController;

use crate::permissions::{EVENTS, READ, Role, allow};

/// What the controller may do.
pub const DISRUPTION_ROLE: Role = Role {
    controller: "disruption-controller",
    permissions: &[
        allow("policy", &["poddisruptionbudgets"], READ),
        allow("policy", &["poddisruptionbudgets/status"], &["patch", "update"]),
        allow("", &["pods", "replicationcontrollers"], READ),
        allow("apps", &["deployments", "replicasets"], READ),
        allow("*", &["*/scale"], &["get"]),
        EVENTS,
    ],
};

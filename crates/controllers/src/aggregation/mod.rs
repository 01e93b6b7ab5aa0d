//! ClusterRoles that gather the rules of others (`aggregationRule`).
//!
//! Owns: `rules` of every ClusterRole that has an aggregation rule; whoever else writes there is overruled.
//! Guarantees: the rules are those of all roles that the selectors pick, in the order of selectors and then names, each
//! rule once; what a role gains or loses, its gatherers do too.
//! Caveats: gatherers that gather each other settle over several writes. A selector that picks nothing empties the role.
//!
//! ```text
//!  a ClusterRole changes ──▶ every gatherer is looked at ──▶ rules as they should be ──▶ patch, if they are not
//! ```
//!
//! Behaviour follows Kubernetes 1.36, `rbac.authorization.k8s.io/v1`.

mod controller;
pub mod plan;

pub use controller::AggregationController;

use crate::permissions::{Role, allow};

/// What the controller may do. It gives away what it does not hold, hence `escalate`.
pub const AGGREGATION_ROLE: Role = Role {
    controller: "clusterrole-aggregation-controller",
    permissions: &[allow(
        "rbac.authorization.k8s.io",
        &["clusterroles"],
        &["escalate", "get", "list", "watch", "patch", "update"],
    )],
};

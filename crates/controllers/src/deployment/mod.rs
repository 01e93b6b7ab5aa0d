//! Deployment: rollouts by ReplicaSets.
//!
//! Owns: the ReplicaSets whose controller is the Deployment, and the Deployment's status and revision annotation.
//! Guarantees: never more than `spec.replicas` + maxSurge replicas asked for, never a step that takes available pods
//! below `spec.replicas` − maxUnavailable as the ReplicaSets report them; a rollout to a known template takes up its
//! ReplicaSet again; the same template always gets the same name.
//! Caveats: availability is as old as the ReplicaSets' last reports; a pod that fails after a step was decided is
//! not taken back. `deployment.kubernetes.io/rollback` of long-gone API versions is not known.
//!
//! Behaviour follows Kubernetes 1.36, but for the value of `pod-template-hash`, which is our own, and for three
//! corners where upstream strays: availability that a ReplicaSet reports from before its last change of size does
//! not count; a ReplicaSet that was sized by hand to the wanted number, and a strategy that becomes `Recreate`
//! in the midst of scaling, do not hold up rollouts for ever.

mod controller;
pub mod draft;
pub mod limits;
pub mod plan;
pub mod rollout;
pub mod scale;
pub mod status;
pub mod template;
#[cfg(test)]
mod tests;

pub use controller::DeploymentController;

use crate::permissions::{EVENTS, READ, Role, allow};

/// What the Deployment controller may do.
pub const DEPLOYMENT_ROLE: Role = Role {
    controller: "deployment-controller",
    permissions: &[
        allow("apps", &["deployments"], &["get", "list", "watch", "patch", "update"]),
        allow("apps", &["deployments/status"], &["patch", "update"]),
        allow("apps", &["deployments/finalizers"], &["update"]),
        allow("apps", &["replicasets"], &["get", "list", "watch", "create", "delete", "patch", "update"]),
        allow("", &["pods"], READ),
        EVENTS,
    ],
};

//! Namespace: removes everything in a namespace that is being deleted, and then lets go of it.
//!
//! Owns: the finalizer `kubernetes` in `spec.finalizers`, and the deletion conditions of the status.
//! Guarantees: pods go first and nothing else is touched while one is left, or might be; the namespace is let go
//! only when no namespaced resource that the server has then holds an object in it.
//! Caveats: an API group that cannot be discovered holds a namespace back, because nobody knows what it keeps there;
//! objects made after the last look, which only the server could refuse, are not seen.
//!
//! ```text
//!  active ── delete ──▶ Terminating ──▶ pods ──▶ everything else ──▶ nothing left ──▶ finalize
//!                            ▲            │              │
//!                            └── waits ───┴── finalizers ┘   conditions say for what
//! ```
//!
//! Behaviour follows Kubernetes 1.36.

mod controller;
pub mod plan;

pub use controller::NamespaceController;

use crate::permissions::{Role, allow};

/// What the Namespace controller may do.
pub const NAMESPACE_ROLE: Role = Role {
    controller: "namespace-controller",
    permissions: &[
        allow("", &["namespaces"], &["get", "list", "watch", "delete"]),
        allow("", &["namespaces/finalize", "namespaces/status"], &["patch", "update"]),
        allow("*", &["*"], &["get", "list", "delete", "deletecollection"]),
    ],
};

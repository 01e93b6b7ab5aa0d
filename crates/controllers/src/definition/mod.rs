//! CustomResourceDefinition: removes the instances of a definition that is being deleted, and then lets go of it.
//!
//! Owns: the finalizer `customresourcecleanup.apiextensions.k8s.io`, and of the condition `Terminating` what follows
//! the server's first word.
//! Guarantees: a definition goes only after the server has listed its resource, in all namespaces, and found nothing.
//! Caveats: instances that finalizers hold back hold the definition back, and the condition says so; a definition none
//! of whose versions is served cannot be cleaned up, because nobody can reach its instances.
//!
//! ```text
//!  Established ── delete ──▶ Terminating ──▶ delete all instances ──▶ nothing left ──▶ finalizer removed
//!                                 ▲                   │
//!                                 └──── waits ────────┘   the condition says for what
//! ```
//!
//! Behaviour follows Kubernetes 1.36, `apiextensions.k8s.io/v1`.

mod controller;
pub mod plan;
mod record;

pub use controller::DefinitionController;
pub use record::Definition;

use crate::permissions::{READ, Role, allow};

/// What the CustomResourceDefinition controller may do.
pub const DEFINITION_ROLE: Role = Role {
    controller: "customresourcedefinition-finalizer",
    permissions: &[
        allow("apiextensions.k8s.io", &["customresourcedefinitions"], READ),
        allow("apiextensions.k8s.io", &["customresourcedefinitions/status"], &["patch"]),
        allow("*", &["*"], &["list", "delete", "deletecollection"]),
    ],
};

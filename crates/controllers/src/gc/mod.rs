//! Garbage collector: objects whose owners are gone go too.
//!
//! Owns: the finalizers `foregroundDeletion` and `orphan`, and the deletion of objects all of whose owners are gone.
//! Guarantees: nothing is deleted on the word of a cache. That an owner is absent, or waits for its dependents to
//! go, is asked of the server, and the deletion carries uid and revision of what was looked at; an owner of an unknown
//! kind, or that cannot be asked for, keeps its dependents.
//! Caveats: an owner is looked for in its dependent's namespace only, and a cluster-scoped object cannot have an
//! owner in a namespace: such references never lead to a deletion of the latter, and count as absent for the former.
//! Dependents made in the very moment in which their owner is orphaned may be missed.
//!
//! ```text
//!  metadata watches of all deletable resources ─▶ graph (owners, dependents) ─▶ queue of uids
//!                                                                                 │
//!   delete --cascade=background: owner goes ──▶ each dependent: any owner left? no ─▶ delete
//!   delete --cascade=foreground: finalizer  ──▶ dependents that block go first, then the owner
//!   delete --cascade=orphan:     finalizer  ──▶ dependents lose the reference, then the owner goes
//! ```
//!
//! Behaviour follows Kubernetes 1.36.

mod controller;
pub mod decide;
pub mod graph;
pub(crate) mod monitors;

pub use controller::GarbageCollector;
pub use monitors::Monitors;

use crate::permissions::{EVENTS, Role, allow};

/// What the garbage collector may do.
pub const GC_ROLE: Role = Role {
    controller: "generic-garbage-collector",
    permissions: &[allow("*", &["*"], &["get", "list", "watch", "patch", "update", "delete"]), EVENTS],
};

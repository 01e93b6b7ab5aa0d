//! ResourceQuotas: what their namespaces use.
//!
//! Owns: `status.hard` and `status.used` of every quota, except that the server adds what a write uses in the write's own
//! transaction. This controller counts anew when a quota comes or is changed, when something that it counts goes or
//! ends, and every [`controller::RECOUNT`].
//! Guarantees: a count replaces the status only if nothing was charged since before it began, so no count forgets an
//! object that has just been made.
//! Caveats: what is freed may be used again only after the next count, some tenths of a second later; a quota to which
//! writes are charged all the time is counted when they pause.
//!
//! ```text
//!  quota changes ─┐                     ┌─▶ GET quota ─▶ lists ─▶ plan::count ─▶ PATCH status, if still as read
//!  object gone  ──┼─▶ quotas of its ────┘
//!  pod ended    ──┘   namespace
//! ```
//!
//! Behaviour follows Kubernetes 1.36, `core/v1`; what an object uses is `xebec_api::quota`, which the server charges by.

pub mod controller;
pub mod plan;

pub use controller::QuotaController;

use crate::permissions::{READ, Role, allow};

/// What the controller may do.
pub const QUOTA_ROLE: Role = Role {
    controller: "resourcequota-controller",
    permissions: &[
        allow("*", &["*"], &["list", "watch"]),
        allow("", &["pods", "services", "resourcequotas"], READ),
        allow("", &["resourcequotas/status"], &["patch", "update"]),
    ],
};

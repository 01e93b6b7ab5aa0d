//! Field management: who owns which field of an object, and server-side apply.
//!
//! The semantics are those of structured-merge-diff v6 and of the API server's `managedFields` pipeline in Kubernetes
//! 1.36, as pure functions over a tree and its schema:
//!
//! - [`FieldSet`] is a set of paths to fields, `FieldsV1` its wire format.
//! - [`update()`] records who owns what after a create, an update or a patch that is no apply.
//! - [`apply()`] merges an applied configuration, finds conflicts, and drops what the applier no longer names.
//! - [`overlay()`] merges a configuration as an apply does, and records nothing.
//! - [`scale`] maps entries between a resource and its `scale` subresource; [`keep_times`] makes a write that changed
//!   nothing none.
//!
//! ```text
//!  update:  live, new ── walk::compare ──► changes ──► record: take from all, add to own ──► cap ──► entries
//!  apply:   live + config ── validate ── merge ── prune ──► new ── walk::compare ──► conflicts? ──► record ──► entries
//! ```
//!
//! Most of an object does not change in a write, and most managers own none of what does: the walk makes nothing for
//! equal fields, and managers are probed, changed and written back as the trees they stand in (the private module
//! `stored`), sets being built only for what changed.
//!
//! This module never reads a clock, never defaults or prunes, never checks a kind's rules, and decides nothing by kind.
//! Objects come from [`crate::json`], so they nest at most 128 levels deep, which bounds every recursion here; lists are
//! told apart by sorting, so that no walk is quadratic in what a body can hold.

mod apply;
mod conflict;
mod element;
mod entries;
mod last_applied;
mod manager;
mod merge;
pub(crate) mod order;
mod overlay;
mod prune;
mod reconcile;
mod record;
mod remove;
mod reset;
pub mod scale;
mod set;
mod shape;
mod stored;
mod update;
mod validate;
mod versions;
mod walk;
mod wire;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

// What `testing` names through `super`, in benches too.
#[cfg(test)]
use crate::{json, schema};

pub use apply::{ApplyError, Force, apply};
pub use conflict::Conflicts;
pub use element::Element;
pub use entries::{EntriesError, MAX_UPDATERS, ManagerId, Operation};
pub use manager::{MAX_MANAGER_LEN, manager_name, validate_manager, validate_patch_options};
pub use overlay::{OverlayError, overlay};
pub use reset::{Filter, ResetFields, Step};
pub use set::FieldSet;
pub use update::{keep_times, update};
pub use versions::{OneShape, VersionShape, Versions};
pub use walk::{WalkError, owned};
pub use wire::WireError;

use crate::Value;
use crate::error::Status;
use crate::schema::SchemaRef;

/// Who writes what, where and when.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The type of the object in the version of the request.
    pub schema: SchemaRef<'a>,
    /// The version of the request, `apps/v1`.
    pub api_version: &'a str,
    /// The object's kind.
    pub kind: &'a str,
    /// The subresource written through; empty for the object itself.
    pub subresource: &'a str,
    /// What writes here cannot own.
    pub reset: &'a ResetFields,
    /// The manager's name, see [`manager_name`].
    pub manager: &'a str,
    /// The time: RFC 3339 in UTC with seconds, `2026-01-31T09:00:00Z`.
    pub now: &'a str,
}

impl Target<'_> {
    fn manager_id(&self, name: &str, operation: Operation) -> ManagerId {
        ManagerId {
            name: if name.is_empty() { "unknown" } else { name }.into(),
            operation,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
        }
    }
}

/// Several faults as one text.
fn listed(faults: &[String]) -> String {
    match faults {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    }
}

/// Why the change of an object cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// A list element cannot be told from others.
    #[error("failed to compare objects: {0}")]
    Compare(#[from] WalkError),
    /// The object cannot be converted to a version that a manager uses.
    #[error("failed to convert the object: {0}")]
    Convert(#[source] Status),
    /// The fields of a stored entry cannot be read.
    #[error("failed to read managed fields: {0}")]
    Stored(#[source] WireError),
}

/// Checks the `metadata.managedFields` of an object that something else than a client changed, such as a webhook.
///
/// # Errors
/// Whatever does not belong there.
pub fn check_entries(object: &Value) -> Result<(), EntriesError> {
    object.at(&["metadata", "managedFields"]).map_or(Ok(()), |list| entries::read(list, &|_, _| ()).map(drop))
}

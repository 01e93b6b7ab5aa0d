//! What a kind does differently from a custom resource, as pure functions over its tree.
//!
//! A [`Kind`] is a row of constants and functions; [`of`] finds it. A kind without a row behaves as a custom resource
//! does, and a row states only what differs from [`Kind::DEFAULT`]. What needs more than the object itself (addresses to
//! allocate, other objects to look up) is the server's business.
//!
//! Objects come here decoded ([`crate::structural::decode`]) in the version named by the caller; `validate` sees them with
//! defaults, in the storage version.

use crate::error::Cause;
use crate::meta::NameRule;
use crate::{Value, names};

/// What a kind does by itself on writes.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The plural name.
    pub resource: &'static str,
    /// The rule that names follow.
    pub name: NameRule,
    /// Whether `metadata.generation` counts changes of the specification.
    pub generation: bool,
    /// Whether an update may come without a resource version.
    pub unconditional_update: bool,
    /// Whether PUT makes an object that is not there.
    pub create_on_update: bool,
    /// Whether dependents of a deleted object are left alone unless the client says otherwise.
    pub orphan_by_default: bool,
    /// Whether a new object keeps the status that the client sent.
    pub status_on_create: bool,
    /// Gives absent fields their defaults; the version of the object is the second argument.
    pub defaults: fn(&mut Value, &str),
    /// Sets what a new object starts with, and drops what clients may not set.
    pub prepare_create: fn(&mut Value),
    /// Carries over from the old object (second) what an update may not touch.
    pub prepare_update: fn(&mut Value, &Value),
    /// What is wrong with a new object.
    pub validate: fn(&Value) -> Vec<Cause>,
    /// What is wrong with a changed object (first), given the old one (second); called instead of `validate`.
    pub validate_update: fn(&Value, &Value) -> Vec<Cause>,
    /// What is wrong with a changed status, given the old object (second).
    pub validate_status: fn(&Value, &Value) -> Vec<Cause>,
    /// What the client should be warned of: the object, and the old one on updates.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
}

impl Kind {
    /// What a custom resource does.
    pub const DEFAULT: Self = Self {
        group: "",
        resource: "",
        name: names::dns_subdomain,
        generation: true,
        unconditional_update: false,
        create_on_update: false,
        orphan_by_default: false,
        status_on_create: false,
        defaults: |_, _| (),
        prepare_create: |_| (),
        prepare_update: |_, _| (),
        validate: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        warnings: |_, _| Vec::new(),
    };
}

/// All kinds that differ from custom resources, sorted by group and resource.
const KINDS: &[Kind] = &[];

/// The behaviour of a resource.
#[must_use]
pub fn of(group: &str, resource: &str) -> &'static Kind {
    KINDS
        .binary_search_by(|k| (k.group, k.resource).cmp(&(group, resource)))
        .map_or(&Kind::DEFAULT, |at| &KINDS[at])
}

//! The form of the generated resource rows: plain static data, turned into [`crate::ResourceDef`]s at start.

pub(crate) use crate::resource::{Scope, Verbs};

/// One resource.
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) scope: Scope,
    pub(crate) short: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) stored_as: Option<(&'static str, &'static str)>,
    pub(crate) verbs: Verbs,
    /// The preferred one first; that is the one stored, too.
    pub(crate) versions: &'static [RowVersion],
    pub(crate) selectable: &'static [&'static str],
    pub(crate) subresources: &'static [RowSubresource],
}

/// One version of a resource.
pub(crate) struct RowVersion {
    pub(crate) name: &'static str,
    /// Its type in the arena.
    pub(crate) root: u32,
    /// The type of its lists, if it can be listed.
    pub(crate) list: Option<u32>,
}

/// One path below an object.
pub(crate) struct RowSubresource {
    pub(crate) name: &'static str,
    pub(crate) group_version: Option<(&'static str, &'static str)>,
    pub(crate) kind: &'static str,
    pub(crate) verbs: Verbs,
    pub(crate) scale: bool,
}

/// A version.
pub(crate) const fn v(name: &'static str, root: u32, list: Option<u32>) -> RowVersion {
    RowVersion { name, root, list }
}

/// A subresource that speaks a kind of the resource's own group and version.
pub(crate) const fn own(name: &'static str, kind: &'static str, verbs: Verbs) -> RowSubresource {
    RowSubresource { name, group_version: None, kind, verbs, scale: false }
}

/// A subresource that speaks a kind of another group.
pub(crate) const fn other(
    name: &'static str,
    group_version: (&'static str, &'static str),
    kind: &'static str,
    verbs: Verbs,
) -> RowSubresource {
    RowSubresource { name, group_version: Some(group_version), kind, verbs, scale: false }
}

/// The subresource `scale`.
pub(crate) const fn scale(verbs: Verbs) -> RowSubresource {
    RowSubresource {
        name: "scale",
        group_version: Some(("autoscaling", "v1")),
        kind: "Scale",
        verbs,
        scale: true,
    }
}

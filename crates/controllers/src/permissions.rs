//! What each controller may do: the tables from which bootstrap roles are made.

/// Verbs on resources of one API group. `resource` may name a subresource (`pods/status`) or be `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The API group, empty for the core group, `*` for all.
    pub group: &'static str,
    /// The resources.
    pub resources: &'static [&'static str],
    /// The verbs.
    pub verbs: &'static [&'static str],
}

/// The permissions of one controller.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// The controller's name, as in its logs, events and field manager.
    pub controller: &'static str,
    /// What it needs.
    pub permissions: &'static [Permission],
}

/// `verbs` on `resources` of `group`.
pub const fn allow(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Permission {
    Permission { group, resources, verbs }
}

/// Every cache lists and watches.
pub const READ: &[&str] = &["get", "list", "watch"];

/// What the event recorder needs, for every controller that has one.
pub const EVENTS: Permission = allow("events.k8s.io", &["events"], &["create", "patch", "update"]);

//! Leases and events: what components tell each other.

use super::Kind;
use crate::Value;

pub(super) const LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    resource: "leases",
    generation: false,
    create_on_update: true,
    prepare_create: |object| drop_election(object, None),
    prepare_update: |object, old| drop_election(object, Some(old)),
    ..Kind::DEFAULT
};

/// Events of the core group and of `events.k8s.io` are the same objects.
pub(super) const CORE_EVENT: Kind = Kind {
    resource: "events",
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    ..Kind::DEFAULT
};

pub(super) const EVENT: Kind = Kind { group: "events.k8s.io", ..CORE_EVENT };

/// Coordinated leader election is off by default, so its fields do not come into a lease.
fn drop_election(object: &mut Value, old: Option<&Value>) {
    for field in ["strategy", "preferredHolder"] {
        if old.and_then(|old| old.at(&["spec", field])).is_none() {
            drop(object.remove_at(&["spec", field]));
        }
    }
}

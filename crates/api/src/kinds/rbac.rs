//! Roles and their bindings.

use super::Kind;
use super::fill::{each, fill, text};
use crate::{Value, names};

/// The group of RBAC, and of the subjects that are no service accounts.
const GROUP: &str = "rbac.authorization.k8s.io";

const RBAC: Kind = Kind {
    group: GROUP,
    name: names::path_segment,
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    ..Kind::DEFAULT
};

pub(super) const ROLE: Kind = Kind { resource: "roles", ..RBAC };
pub(super) const CLUSTER_ROLE: Kind = Kind { resource: "clusterroles", ..RBAC };
pub(super) const ROLE_BINDING: Kind =
    Kind { resource: "rolebindings", defaults: |object, _| binding_defaults(object), ..RBAC };
pub(super) const CLUSTER_ROLE_BINDING: Kind =
    Kind { resource: "clusterrolebindings", defaults: |object, _| binding_defaults(object), ..RBAC };

fn binding_defaults(object: &mut Value) {
    fill(object, &[text("roleRef!.apiGroup", GROUP)]);
    each(object, "subjects[*]", &mut |subject| {
        if matches!(subject.str_at(&["kind"]), Some("User" | "Group")) {
            fill(subject, &[text("apiGroup", GROUP)]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn users_and_groups_are_of_the_group() {
        let mut binding = object!({
            "roleRef": {"kind": "Role", "name": "a"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]
        });
        binding_defaults(&mut binding);
        let want = object!({
            "roleRef": {"kind": "Role", "name": "a", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [
                {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"},
                {"kind": "ServiceAccount", "name": "s"}
            ]
        });
        assert_eq!(binding, want);
    }
}

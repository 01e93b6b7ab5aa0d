//! Roles and their bindings.

use super::Kind;
use super::check::{Check, is_set, run, same, text};
use super::fill::{each, fill, text as default_text};
use crate::error::Cause;
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

pub(super) const ROLE: Kind = Kind {
    resource: "roles",
    validate: |object| run(|c| rules(c, object, true)),
    validate_update: |object, _| run(|c| rules(c, object, true)),
    ..RBAC
};

pub(super) const CLUSTER_ROLE: Kind = Kind {
    resource: "clusterroles",
    validate: cluster_role,
    validate_update: |object, _| cluster_role(object),
    ..RBAC
};

pub(super) const ROLE_BINDING: Kind = Kind {
    resource: "rolebindings",
    defaults: |object, _| binding_defaults(object),
    validate: |object| run(|c| binding(c, object, true)),
    validate_update: |object, old| {
        run(|c| {
            binding(c, object, true);
            role_stays(c, object, old);
        })
    },
    ..RBAC
};

pub(super) const CLUSTER_ROLE_BINDING: Kind = Kind {
    resource: "clusterrolebindings",
    defaults: |object, _| binding_defaults(object),
    validate: |object| run(|c| binding(c, object, false)),
    validate_update: |object, old| {
        run(|c| {
            binding(c, object, false);
            role_stays(c, object, old);
        })
    },
    ..RBAC
};

fn binding_defaults(object: &mut Value) {
    fill(object, &[default_text("roleRef!.apiGroup", GROUP)]);
    each(object, "subjects[*]", &mut |subject| {
        if matches!(subject.str_at(&["kind"]), Some("User" | "Group")) {
            fill(subject, &[default_text("apiGroup", GROUP)]);
        }
    });
}

fn rules(c: &mut Check, object: &Value, namespaced: bool) {
    c.each(object, "rules", |c, rule| {
        let list = |field: &str| rule.array_at(&[field]);
        if list("verbs").is_empty() {
            c.at("verbs").required("verbs must contain at least one value");
        }
        if list("nonResourceURLs").is_empty() {
            if list("apiGroups").is_empty() {
                c.at("apiGroups").required("resource rules must supply at least one api group");
            }
            if list("resources").is_empty() {
                c.at("resources").required("resource rules must supply at least one resource");
            }
            return;
        }
        let urls = || Value::Array(list("nonResourceURLs").to_vec());
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            c.at("nonResourceURLs").invalid(urls(), detail);
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !list(field).is_empty()) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            c.at("nonResourceURLs").invalid(urls(), detail);
        }
    });
}

fn cluster_role(object: &Value) -> Vec<Cause> {
    run(|c| {
        rules(c, object, false);
        c.some(object, "aggregationRule", |c, aggregation| {
            let selectors = aggregation.array_at(&["clusterRoleSelectors"]);
            if selectors.is_empty() {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                c.at("clusterRoleSelectors").required(detail);
            }
            for (i, selector) in selectors.iter().enumerate() {
                c.within("clusterRoleSelectors", |c| c.within_index(i, |c| c.selector_here(selector)));
            }
        });
    })
}

fn binding(c: &mut Check, object: &Value, namespaced: bool) {
    c.field(object, "roleRef", |c, role| {
        c.one_of(role, "apiGroup", &[GROUP]);
        c.one_of(role, "kind", if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] });
        c.require_name(role, "name", names::path_segment);
    });
    c.each(object, "subjects", |c, subject| {
        c.require(subject, "name");
        match text(subject, "kind") {
            "ServiceAccount" => {
                c.name(subject, "name", names::dns_subdomain);
                if !text(subject, "apiGroup").is_empty() {
                    c.at("apiGroup").not_supported(text(subject, "apiGroup"), &[""]);
                }
                if !namespaced {
                    c.require(subject, "namespace");
                }
            }
            "User" | "Group" => c.one_of(subject, "apiGroup", &[GROUP]),
            other => c.at("kind").not_supported(other, &["ServiceAccount", "User", "Group"]),
        }
    });
}

/// Who may be bound is checked for the role that was named first.
fn role_stays(c: &mut Check, object: &Value, old: &Value) {
    if is_set(old, "roleRef") && !same(object.get("roleRef"), old.get("roleRef")) {
        let role = object.get("roleRef").cloned().unwrap_or_default();
        c.at("roleRef").invalid(role, "cannot change roleRef");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::cases;
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

    #[test]
    fn roles() {
        cases(&object!({}), ROLES, ROLE.validate);
        cases(&object!({}), CLUSTER_ROLES, CLUSTER_ROLE.validate);
    }

    const ROLES: &str = r#"
rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]

rules = [{}]
! rules[0].verbs: Required value: verbs must contain at least one value
! rules[0].apiGroups: Required value: resource rules must supply at least one api group
! rules[0].resources: Required value: resource rules must supply at least one resource

rules = [{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]
! rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
! rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs
"#;

    const CLUSTER_ROLES: &str = r#"
rules = [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]
aggregationRule = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}

aggregationRule = {}
! aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is
  non-nil

aggregationRule = {"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "x"}]}]}
! aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: "x": not a valid selector operator
"#;

    #[test]
    fn bindings() {
        let base = object!({"roleRef": {"apiGroup": (GROUP), "kind": "ClusterRole", "name": "a"}});
        cases(&base, BINDINGS, ROLE_BINDING.validate);
        cases(&base, CLUSTER_BINDINGS, CLUSTER_ROLE_BINDING.validate);
        cases(&base, CHANGED_BINDINGS, |object| (ROLE_BINDING.validate_update)(object, &base));
    }

    const BINDINGS: &str = r#"
subjects = [{"kind": "ServiceAccount", "name": "a"}, {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]

roleRef = {}
! roleRef.apiGroup: Unsupported value: "": supported values: "rbac.authorization.k8s.io"
! roleRef.kind: Unsupported value: "": supported values: "Role", "ClusterRole"
! roleRef.name: Required value

subjects = [{"kind": "x"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "name": "s", "apiGroup": "x"}]
! subjects[0].name: Required value
! subjects[0].kind: Unsupported value: "x": supported values: "ServiceAccount", "User", "Group"
! subjects[1].apiGroup: Unsupported value: "": supported values: "rbac.authorization.k8s.io"
! subjects[2].apiGroup: Unsupported value: "x": supported values: ""
"#;

    const CLUSTER_BINDINGS: &str = r#"
subjects = [{"kind": "ServiceAccount", "name": "a", "namespace": "b"}]

roleRef.kind = "Role"
subjects = [{"kind": "ServiceAccount", "name": "a"}]
! roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
! subjects[0].namespace: Required value
"#;

    const CHANGED_BINDINGS: &str = r#"
subjects = []

roleRef.name = "b"
! roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"b"}: cannot change roleRef
"#;
}

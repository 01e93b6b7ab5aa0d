//! The roles that every cluster begins with, as upstream defines them ([`TABLE`]), and those of Xebec's own components.
//!
//! They are written at every start where they are missing or have lost a rule, unless an object says
//! `rbac.authorization.kubernetes.io/autoupdate: "false"`.

mod table;

use xebec_api::{Value, object};

use super::Rule;
use table::{Entry, Subject};

/// All roles but those of components.
const TABLE: &str = include_str!("roles.txt");
/// The group of roles.
const GROUP: &str = "rbac.authorization.k8s.io";

/// A role of a component, bound to a user or group. What upstream has under its name is allowed as well.
#[derive(Clone, Debug)]
pub struct Role {
    /// The role's name, `system:kube-scheduler`.
    pub name: String,
    /// What it allows.
    pub rules: Vec<Rule>,
    /// `User` or `Group`.
    pub subject_kind: &'static str,
    /// Whom it is bound to.
    pub subject: String,
}

/// All bootstrap objects: roles and bindings.
#[must_use]
pub fn bootstrap_objects(components: &[Role]) -> Vec<Value> {
    let mut entries = table::read(TABLE).expect("the table of roles is right, which a test holds");
    for component in components {
        let at = entries.iter().position(|e| e.namespace.is_empty() && e.name == component.name);
        let at = at.unwrap_or_else(|| {
            entries.push(Entry { name: component.name.clone(), ..Entry::default() });
            entries.len() - 1
        });
        entries[at].join(component);
    }
    aggregate(&mut entries);
    entries.iter().flat_map(|entry| [Some(entry.role()), entry.bound()]).flatten().collect()
}

/// What a role of the cluster allows at first; nothing if there is none of the name.
pub(super) fn rules(role: &str) -> Vec<Rule> {
    let entries = table::read(TABLE).expect("the table of roles is right, which a test holds");
    let entry = entries.into_iter().find(|entry| entry.namespace.is_empty() && entry.name == role);
    entry.map(|entry| entry.rules).unwrap_or_default()
}

impl Entry {
    fn join(&mut self, component: &Role) {
        let new = component.rules.iter().filter(|rule| !self.rules.contains(rule));
        let new: Vec<Rule> = new.cloned().collect();
        self.rules.extend(new);
        let subject =
            Subject { kind: component.subject_kind, namespace: "", name: component.subject.clone() };
        let subjects = self.subjects.get_or_insert_default();
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }

    fn metadata(&self, name: &str) -> Value {
        let mut metadata = object!({
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}
        });
        if !self.namespace.is_empty() {
            metadata.set(&["namespace"], self.namespace.as_str());
        }
        metadata
    }

    fn role(&self) -> Value {
        let kind = self.kind();
        let mut metadata = self.metadata(&self.name);
        for by in &self.joins {
            metadata.set(&["labels", &aggregation_label(by)], "true");
        }
        let rules: Vec<Value> = self.rules.iter().map(Rule::to_value).collect();
        let mut role = object!({
            "apiVersion": (format!("{GROUP}/v1")), "kind": kind, "metadata": (metadata), "rules": (rules)
        });
        if let Some(name) = &self.gathers {
            let mut selector = Value::object();
            selector.set(&["matchLabels", &aggregation_label(name)], "true");
            role.set(&["aggregationRule", "clusterRoleSelectors"], vec![selector]);
        }
        role
    }

    fn kind(&self) -> &'static str {
        if self.namespace.is_empty() { "ClusterRole" } else { "Role" }
    }

    fn bound(&self) -> Option<Value> {
        let subjects: Vec<Value> = self.subjects.as_ref()?.iter().map(Subject::to_value).collect();
        let name = self.binding.as_ref().unwrap_or(&self.name);
        let mut binding = object!({
            "apiVersion": (format!("{GROUP}/v1")), "kind": (format!("{}Binding", self.kind())),
            "metadata": (self.metadata(name)),
            "roleRef": {"apiGroup": GROUP, "kind": (self.kind()), "name": (self.name.as_str())}
        });
        if !subjects.is_empty() {
            binding.set(&["subjects"], subjects);
        }
        Some(binding)
    }
}

impl Subject {
    fn to_value(&self) -> Value {
        if self.kind == "ServiceAccount" {
            return object!({"kind": "ServiceAccount", "namespace": (self.namespace), "name": (self.name.as_str())});
        }
        object!({"kind": (self.kind), "apiGroup": GROUP, "name": (self.name.as_str())})
    }
}

fn aggregation_label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

/// Aggregated roles begin with the rules of the bootstrap roles that they gather, as the controller that keeps them would
/// have it: in the order of names. Who is gathered by others comes first.
fn aggregate(entries: &mut [Entry]) {
    for name in ["view", "edit", "admin"] {
        let mut gathered: Vec<&Entry> =
            entries.iter().filter(|e| e.joins.iter().any(|by| by == name)).collect();
        gathered.sort_by(|a, b| a.name.cmp(&b.name));
        let rules: Vec<Rule> = gathered.iter().flat_map(|e| e.rules.iter().cloned()).collect();
        if let Some(entry) = entries.iter_mut().find(|e| e.gathers.as_deref() == Some(name)) {
            entry.rules = rules;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::meta;

    fn find<'a>(objects: &'a [Value], kind: &str, namespace: &str, name: &str) -> &'a Value {
        let is = |o: &&Value| {
            o.str_at(&["kind"]) == Some(kind) && (meta::namespace(o), meta::name(o)) == (namespace, name)
        };
        objects.iter().find(is).unwrap_or_else(|| panic!("no {kind} {namespace}/{name}"))
    }

    #[test]
    fn all_that_upstream_has() {
        let objects = bootstrap_objects(&[]);
        let count = |kind: &str| objects.iter().filter(|o| o.str_at(&["kind"]) == Some(kind)).count();
        let kinds = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        assert_eq!(kinds.map(count), [70, 51, 7, 7]);
        let binding = find(&objects, "RoleBinding", "kube-public", "system:controller:bootstrap-signer");
        assert_eq!(
            binding.array_at(&["subjects"]),
            [object!({"kind": "ServiceAccount", "namespace": "kube-system", "name": "bootstrap-signer"})]
        );
        let nobody = find(&objects, "ClusterRoleBinding", "", "system:node");
        assert_eq!(nobody.get("subjects"), None);
    }

    #[test]
    fn aggregated_roles_gather_their_rules() {
        let objects = bootstrap_objects(&[]);
        let count = |name: &str| find(&objects, "ClusterRole", "", name).array_at(&["rules"]).len();
        let own = |name: &str| count(&format!("system:aggregate-to-{name}"));
        assert_eq!(count("view"), own("view"));
        assert_eq!(count("edit"), own("view") + own("edit"));
        assert_eq!(count("admin"), own("view") + own("edit") + own("admin"));
    }

    #[test]
    fn components_have_what_upstream_allows_them_and_more() {
        let scheduler = Role {
            name: "system:kube-scheduler".into(),
            rules: vec![Rule::on("create", "", "events"), Rule::on("get list watch", "", "nodes")],
            subject_kind: "User",
            subject: "system:kube-scheduler".into(),
        };
        let own = Role { name: "xebec".into(), subject: "xebec".into(), ..scheduler.clone() };
        let (plain, objects) = (bootstrap_objects(&[]), bootstrap_objects(&[scheduler, own]));
        let rules = |o: &[Value], name| find(o, "ClusterRole", "", name).array_at(&["rules"]).len();
        assert_eq!(rules(&objects, "system:kube-scheduler"), rules(&plain, "system:kube-scheduler") + 1);
        let binding = |o, name| find(o, "ClusterRoleBinding", "", name).array_at(&["subjects"]).len();
        assert_eq!(binding(&objects, "system:kube-scheduler"), 1);
        assert_eq!((rules(&objects, "xebec"), binding(&objects, "xebec")), (2, 1));
    }
}

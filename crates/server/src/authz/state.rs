//! Roles and bindings, arranged by whom they are for.

use std::collections::HashMap;
use std::sync::Arc;

use xebec_api::{Value, json};
use xebec_store::{Prefix, Snapshot};

use super::{Question, Rule};
use crate::auth::User;

/// Somebody that a binding speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// What a binding gives.
#[derive(Debug)]
struct Grant {
    /// Where it holds; empty for everywhere.
    namespace: String,
    rules: Arc<[Rule]>,
}

/// All grants at one revision.
#[derive(Debug, Default)]
pub(super) struct State {
    grants: HashMap<Subject, Vec<Grant>>,
}

/// A role: its namespace (empty for cluster roles) and name.
type RoleKey = (String, String);

impl State {
    pub(super) fn read(snapshot: &Snapshot) -> Self {
        let mut roles: HashMap<RoleKey, Arc<[Rule]>> = HashMap::new();
        for resource in ["clusterroles", "roles"] {
            for role in objects(snapshot, resource) {
                let rules = role.array_at(&["rules"]).iter().map(Rule::from_value).collect();
                roles.insert(key(&role), rules);
            }
        }
        let mut state = Self::default();
        for resource in ["clusterrolebindings", "rolebindings"] {
            for binding in objects(snapshot, resource) {
                state.bind(&binding, &roles);
            }
        }
        state
    }

    fn bind(&mut self, binding: &Value, roles: &HashMap<RoleKey, Arc<[Rule]>>) {
        let (namespace, _) = key(binding);
        let role = binding.str_at(&["roleRef", "name"]).unwrap_or_default().to_owned();
        let home = match binding.str_at(&["roleRef", "kind"]) {
            Some("Role") => namespace.clone(),
            _ => String::new(),
        };
        // A binding to a role that is not there grants nothing until the role comes.
        let Some(rules) = roles.get(&(home, role)) else { return };
        for subject in binding.array_at(&["subjects"]).iter().filter_map(|s| subject(s, &namespace)) {
            let grant = Grant { namespace: namespace.clone(), rules: rules.clone() };
            self.grants.entry(subject).or_default().push(grant);
        }
    }

    pub(super) fn allows(&self, user: &User, question: &Question<'_>) -> bool {
        self.rules_for(user, question.namespace).any(|rule| rule.allows(question))
    }

    /// The rules that hold for a user in a namespace; with an empty one, in the cluster.
    pub(super) fn rules_for<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Rule> {
        let user_subject = Subject::User(user.name.clone());
        let groups = user.groups.iter().map(|g| Subject::Group(g.clone()));
        std::iter::once(user_subject)
            .chain(groups)
            .filter_map(|subject| self.grants.get(&subject))
            .flatten()
            .filter(move |grant| grant.namespace.is_empty() || grant.namespace == namespace)
            .flat_map(|grant| grant.rules.iter())
    }
}

fn objects(snapshot: &Snapshot, resource: &str) -> Vec<Value> {
    let prefix = Prefix::new(format!("/registry/rbac.authorization.k8s.io/{resource}/"))
        .expect("a short path without odd characters is a prefix");
    let read = |record: &Arc<xebec_store::Record>| match json::from_slice(record.as_slice()) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(key = %record.key().as_str(), %error, "stored role cannot be read and grants nothing");
            None
        }
    };
    snapshot.range(&prefix, None).filter_map(read).collect()
}

fn key(object: &Value) -> RoleKey {
    (xebec_api::meta::namespace(object).to_owned(), xebec_api::meta::name(object).to_owned())
}

fn subject(subject: &Value, binding_namespace: &str) -> Option<Subject> {
    let name = subject.str_at(&["name"])?;
    match subject.str_at(&["kind"])? {
        "User" => Some(Subject::User(name.to_owned())),
        "Group" => Some(Subject::Group(name.to_owned())),
        "ServiceAccount" => {
            let namespace = subject.str_at(&["namespace"]).unwrap_or(binding_namespace);
            Some(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}

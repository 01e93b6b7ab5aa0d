//! Roles and bindings, arranged by whom they are for. They are read once, and then changed one by one as the store tells.

use std::collections::HashMap;
use std::sync::Arc;

use xebec_api::{Value, json};
use xebec_store::{Event, EventKind, Key, Prefix, Record, Snapshot};

use super::{Question, Rule};
use crate::auth::User;

/// Where roles and bindings stand in the store.
const ROOT: &str = "/registry/rbac.authorization.k8s.io/";

/// Somebody that a binding speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// A role or a binding: its namespace, empty for those of the cluster, and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    namespace: String,
    name: String,
}

/// What a binding says; it holds in its own namespace, or everywhere.
#[derive(Debug)]
struct Binding {
    namespace: String,
    role: Place,
    subjects: Vec<Subject>,
}

/// All grants at one revision.
#[derive(Debug, Default)]
pub(super) struct State {
    roles: HashMap<Place, Arc<[Rule]>>,
    bindings: HashMap<Place, Arc<Binding>>,
    grants: HashMap<Subject, Vec<Arc<Binding>>>,
}

/// Where all roles and bindings stand.
///
/// # Panics
/// Never: a short path is a prefix.
pub(super) fn prefix() -> Prefix {
    Prefix::new(ROOT).expect("a short path without odd characters is a prefix")
}

impl State {
    pub(super) fn read(snapshot: &Snapshot) -> Self {
        let mut state = Self::default();
        for record in snapshot.range(&prefix(), None) {
            state.put(record);
        }
        state
    }

    pub(super) fn follow(&mut self, event: &Event) {
        match event.kind() {
            EventKind::Deleted => self.remove(event.key()),
            _ => self.put(event.record()),
        }
    }

    fn put(&mut self, record: &Record) {
        match json::from_slice(record.as_slice()) {
            Ok(object) => self.take(record.key(), &object),
            Err(error) => {
                tracing::error!(key = %record.key().as_str(), %error, "stored role cannot be read and grants nothing");
                self.remove(record.key());
            }
        }
    }

    fn take(&mut self, key: &Key, object: &Value) {
        let Some((resource, place)) = place(key) else { return };
        match resource {
            "clusterroles" | "roles" => {
                let rules = object.array_at(&["rules"]).iter().map(Rule::from_value).collect();
                self.roles.insert(place, rules);
            }
            "clusterrolebindings" | "rolebindings" => {
                self.unbind(&place);
                let binding = Arc::new(Binding::read(object, &place.namespace));
                for subject in &binding.subjects {
                    self.grants.entry(subject.clone()).or_default().push(binding.clone());
                }
                self.bindings.insert(place, binding);
            }
            _ => {}
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some((resource, place)) = place(key) else { return };
        match resource {
            "clusterroles" | "roles" => drop(self.roles.remove(&place)),
            "clusterrolebindings" | "rolebindings" => self.unbind(&place),
            _ => {}
        }
    }

    fn unbind(&mut self, place: &Place) {
        let Some(binding) = self.bindings.remove(place) else { return };
        for subject in &binding.subjects {
            let Some(grants) = self.grants.get_mut(subject) else { continue };
            grants.retain(|other| !Arc::ptr_eq(other, &binding));
            if grants.is_empty() {
                self.grants.remove(subject);
            }
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
            .filter(move |binding| binding.namespace.is_empty() || binding.namespace == namespace)
            // A binding to a role that is not there grants nothing until the role comes.
            .filter_map(|binding| self.roles.get(&binding.role))
            .flat_map(|rules| rules.iter())
    }
}

impl Binding {
    fn read(binding: &Value, namespace: &str) -> Self {
        let name = binding.str_at(&["roleRef", "name"]).unwrap_or_default().to_owned();
        let home = match binding.str_at(&["roleRef", "kind"]) {
            Some("Role") => namespace.to_owned(),
            _ => String::new(),
        };
        let subjects = binding.array_at(&["subjects"]).iter();
        Self {
            namespace: namespace.to_owned(),
            role: Place { namespace: home, name },
            subjects: subjects.filter_map(|s| subject(s, namespace)).collect(),
        }
    }
}

/// The resource that a key is of, and the object's place in it.
fn place(key: &Key) -> Option<(&str, Place)> {
    let (resource, rest) = key.as_str().strip_prefix(ROOT)?.split_once('/')?;
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    Some((resource, Place { namespace: namespace.to_owned(), name: name.to_owned() }))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use xebec_api::object;
    use xebec_store::{Embedded, EmbeddedOptions, Scope, Store, Txn, Value as Bytes};

    use super::*;

    fn role(verb: &str) -> Value {
        object!({"rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})
    }

    fn binding(kind: &str, role: &str, subjects: &[(&str, &str)]) -> Value {
        let subjects: Vec<Value> =
            subjects.iter().map(|(kind, name)| object!({"kind": (*kind), "name": (*name)})).collect();
        object!({"roleRef": {"kind": kind, "name": role}, "subjects": (subjects)})
    }

    /// What everybody may do everywhere.
    fn all(state: &State) -> BTreeSet<String> {
        let users = ["jane", "system:serviceaccount:a:robot"].map(|name| User::authenticated(name, []));
        let users = users.into_iter().chain([User::authenticated("bob", ["dev".to_owned()])]);
        let mut found = BTreeSet::new();
        for (user, namespace) in
            users.flat_map(|user| ["", "a", "b"].map(|namespace| (user.clone(), namespace)))
        {
            let rules = state.rules_for(&user, namespace);
            found.extend(rules.map(|rule| format!("{}/{namespace}: {:?}", user.name, rule.verbs)));
        }
        found
    }

    #[tokio::test]
    async fn changes_come_to_the_same_as_reading_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(dir.path(), EmbeddedOptions::default()).expect("an empty store");
        let mut watch = store.watch(Scope::Prefix(prefix()), store.current_revision()).expect("a watch");
        let mut state = State::default();
        let everybody = [("User", "jane"), ("Group", "dev"), ("ServiceAccount", "robot"), ("User", "jane")];
        let steps = [
            ("rolebindings/a/one", Some(binding("Role", "reader", &everybody)), 0),
            ("roles/a/reader", Some(role("get")), 3),
            ("clusterroles/reader", Some(role("list")), 3),
            ("clusterrolebindings/one", Some(binding("ClusterRole", "reader", &everybody[..2])), 9),
            ("roles/a/reader", Some(role("watch")), 9),
            ("rolebindings/b/one", Some(binding("ClusterRole", "reader", &everybody[1..2])), 9),
            ("clusterrolebindings/one", Some(binding("ClusterRole", "reader", &everybody[..1])), 7),
            ("rolebindings/a/one", Some(binding("Role", "absent", &everybody)), 4),
            ("roles/a/absent", Some(role("create")), 7),
            ("roles/a/reader", None, 7),
            ("clusterroles/reader", None, 3),
            ("clusterroles/reader", Some(role("patch")), 7),
            ("clusterrolebindings/one", None, 4),
            ("rolebindings/a/one", None, 1),
            ("rolebindings/b/one", None, 0),
        ];
        for (n, (path, object, want)) in steps.into_iter().enumerate() {
            let key = Key::new(format!("{ROOT}{path}")).expect("a key");
            let txn = match &object {
                Some(object) => Txn::default().put(key, Bytes::opaque(json::to_vec(object))),
                None => Txn::default().delete(key),
            };
            store.commit(txn).await.expect("committed");
            let batch = watch.next().await.expect("an event");
            batch.events.iter().for_each(|event| state.follow(event));
            let found = all(&state);
            assert_eq!(found, all(&State::read(&store.snapshot())), "{n}: {path}");
            assert_eq!(found.len(), want, "{n}: {path}: {found:?}");
        }
        assert!(state.bindings.is_empty() && state.grants.is_empty(), "nothing is left: {state:?}");
    }
}

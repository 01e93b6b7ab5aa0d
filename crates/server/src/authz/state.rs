//! Roles and bindings, arranged by whom they are for and where they hold. They are read once, and then changed one by one as
//! the store tells. A question costs a look at each binding of the user and their groups that holds in its namespace, and
//! allocates nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use xebec_api::{Value, json};
use xebec_store::{Event, EventKind, Key, Prefix, Record, Snapshot};

use super::{Question, Rule};
use crate::auth::User;

/// Where roles and bindings stand in the store.
const ROOT: &str = "/registry/rbac.authorization.k8s.io/";

/// Somebody that a binding speaks of.
#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
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
    place: Place,
    role: Place,
    role_kind: &'static str,
    subjects: Vec<Subject>,
}

/// What one subject has from one binding.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    binding: Arc<Binding>,
    subject: usize,
}

/// All that one subject has.
#[derive(Debug, Default)]
struct Grants {
    everywhere: Vec<Grant>,
    inside: HashMap<String, Vec<Grant>>,
}

/// All grants at one revision.
#[derive(Debug, Default)]
pub(super) struct State {
    roles: HashMap<Place, Arc<[Rule]>>,
    bindings: HashMap<Place, Arc<Binding>>,
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
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
                let binding = Arc::new(Binding::read(object, place.clone()));
                for subject in 0..binding.subjects.len() {
                    self.grant(Grant { binding: binding.clone(), subject });
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

    fn grant(&mut self, grant: Grant) {
        let (who, name) = match &grant.binding.subjects[grant.subject] {
            Subject::Group(name) => (&mut self.groups, name.clone()),
            subject => (&mut self.users, subject.user()),
        };
        let grants = who.entry(name).or_default();
        let list = match grant.binding.place.namespace.as_str() {
            "" => &mut grants.everywhere,
            namespace => grants.inside.entry(namespace.to_owned()).or_default(),
        };
        // Whoever stands twice in a binding has it once.
        if !list.iter().any(|other| Arc::ptr_eq(&other.binding, &grant.binding)) {
            list.push(grant);
        }
    }

    fn unbind(&mut self, place: &Place) {
        let Some(binding) = self.bindings.remove(place) else { return };
        for subject in &binding.subjects {
            let (who, name) = match subject {
                Subject::Group(name) => (&mut self.groups, name.clone()),
                subject => (&mut self.users, subject.user()),
            };
            let Some(grants) = who.get_mut(&name) else { continue };
            grants.take_back(&binding);
            if grants.everywhere.is_empty() && grants.inside.is_empty() {
                who.remove(&name);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn trust(&mut self, user: &str, rules: &[Rule]) {
        let (rules, group) =
            (rules.iter().map(Rule::to_value).collect::<Vec<_>>(), "rbac.authorization.k8s.io");
        let mut put = |path: &str, object: Value| {
            let key = Key::new(format!("{ROOT}{path}/test")).expect("a key");
            self.take(&key, &object);
        };
        put("clusterroles", xebec_api::object!({"rules": (rules)}));
        put(
            "clusterrolebindings",
            xebec_api::object!({
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "test"},
                "subjects": [{"apiGroup": group, "kind": "User", "name": user}]
            }),
        );
    }

    /// The grant by which the user may, if there is one.
    pub(super) fn granting(&self, user: &User, question: &Question<'_>) -> Option<&Grant> {
        self.grants(user, question.namespace)
            .find(|grant| self.rules_of(grant).iter().any(|rule| rule.allows(question)))
    }

    /// All that holds for a user in a namespace; with an empty one, in the cluster. Whoever is bound both by name and as
    /// member of a group has the binding twice.
    pub(super) fn grants<'s, 'u>(
        &'s self,
        user: &'u User,
        namespace: &'u str,
    ) -> impl Iterator<Item = &'s Grant> + use<'s, 'u> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        let subjects = self.users.get(&user.name).into_iter().chain(groups);
        let everywhere = subjects.clone().flat_map(|grants| &grants.everywhere);
        everywhere.chain(subjects.filter_map(move |grants| grants.inside.get(namespace)).flatten())
    }

    /// What a grant allows. A binding to a role that is not there grants nothing until the role comes.
    pub(super) fn rules_of(&self, grant: &Grant) -> &[Rule] {
        self.roles.get(&grant.binding.role).map_or(&[], |rules| rules)
    }

    /// What is wrong with the bindings that hold for the user, so that they grant nothing.
    pub(super) fn faults(&self, user: &User, namespace: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for binding in self.grants(user, namespace).map(|grant| &grant.binding) {
            if !self.roles.contains_key(&binding.role) {
                let kind = binding.role_kind.to_lowercase();
                let fault = format!("{kind}.rbac.authorization.k8s.io {:?} not found", binding.role.name);
                if !faults.contains(&fault) {
                    faults.push(fault);
                }
            }
        }
        faults
    }
}

impl Grants {
    fn take_back(&mut self, binding: &Arc<Binding>) {
        let other = |grant: &Grant| !Arc::ptr_eq(&grant.binding, binding);
        match binding.place.namespace.as_str() {
            "" => self.everywhere.retain(other),
            namespace => {
                let Some(list) = self.inside.get_mut(namespace) else { return };
                list.retain(other);
                if list.is_empty() {
                    self.inside.remove(namespace);
                }
            }
        }
    }
}

impl Grant {
    /// Whether both come from the same binding.
    pub(super) fn is_of_binding(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.binding, &other.binding)
    }
}

impl fmt::Display for Grant {
    /// `ClusterRoleBinding "a" of ClusterRole "b" to Group "c"`; what is namespaced is shown as `name/namespace`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding { place, role, role_kind, subjects } = &*self.binding;
        match place.namespace.as_str() {
            "" => write!(f, "ClusterRoleBinding {:?}", place.name)?,
            namespace => write!(f, "RoleBinding \"{}/{namespace}\"", place.name)?,
        }
        write!(f, " of {role_kind} {:?} to ", role.name)?;
        match &subjects[self.subject] {
            Subject::User(name) => write!(f, "User {name:?}"),
            Subject::Group(name) => write!(f, "Group {name:?}"),
            Subject::Account { namespace, name } => write!(f, "ServiceAccount \"{name}/{namespace}\""),
        }
    }
}

impl Binding {
    fn read(binding: &Value, place: Place) -> Self {
        let name = binding.str_at(&["roleRef", "name"]).unwrap_or_default().to_owned();
        let (role_kind, home) = match binding.str_at(&["roleRef", "kind"]) {
            Some("Role") => ("Role", place.namespace.clone()),
            _ => ("ClusterRole", String::new()),
        };
        let subjects = binding.array_at(&["subjects"]).iter();
        Self {
            subjects: subjects.filter_map(|s| subject(s, &place.namespace)).collect(),
            role: Place { namespace: home, name },
            role_kind,
            place,
        }
    }
}

impl Subject {
    /// The name of the user that it is.
    fn user(&self) -> String {
        match self {
            Self::User(name) | Self::Group(name) => name.clone(),
            Self::Account { namespace, name } => format!("system:serviceaccount:{namespace}:{name}"),
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
    let name = subject.str_at(&["name"])?.to_owned();
    match subject.str_at(&["kind"])? {
        "User" => Some(Subject::User(name)),
        "Group" => Some(Subject::Group(name)),
        "ServiceAccount" => {
            let own = subject.str_at(&["namespace"]).filter(|namespace| !namespace.is_empty());
            let namespace = own.unwrap_or(binding_namespace).to_owned();
            (!namespace.is_empty()).then_some(Subject::Account { namespace, name })
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
            let rules = state.grants(&user, namespace).flat_map(|grant| state.rules_of(grant));
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
        assert!(
            state.bindings.is_empty() && state.users.is_empty() && state.groups.is_empty(),
            "nothing is left: {state:?}"
        );
    }

    #[test]
    fn grants_say_where_they_come_from() {
        let mut state = State::default();
        let mut put = |path: &str, object: Value| {
            let key = Key::new(format!("{ROOT}{path}")).expect("a key");
            state.take(&key, &object);
        };
        put("clusterroles/reader", role("get"));
        put("clusterrolebindings/all", binding("ClusterRole", "reader", &[("Group", "dev")]));
        put("rolebindings/a/some", binding("ClusterRole", "reader", &[("ServiceAccount", "robot")]));
        put("rolebindings/a/lost", binding("Role", "gone", &[("User", "bob"), ("User", "bob")]));
        put("rolebindings/a/lost-too", binding("ClusterRole", "away", &[("User", "bob")]));
        let question = Question { verb: "get", resource: "pods", namespace: "a", ..Question::default() };
        let granted = |user: &User| state.granting(user, &question).map(ToString::to_string);
        let bob = User::authenticated("bob", ["dev".to_owned()]);
        let all = r#"ClusterRoleBinding "all" of ClusterRole "reader" to Group "dev""#;
        assert_eq!(granted(&bob).as_deref(), Some(all));
        let robot = User::authenticated("system:serviceaccount:a:robot", []);
        let some = r#"RoleBinding "some/a" of ClusterRole "reader" to ServiceAccount "robot/a""#;
        assert_eq!(granted(&robot).as_deref(), Some(some));
        assert_eq!(granted(&User::authenticated("jane", [])), None);
        assert_eq!(
            state.faults(&bob, "a"),
            [
                r#"role.rbac.authorization.k8s.io "gone" not found"#,
                r#"clusterrole.rbac.authorization.k8s.io "away" not found"#
            ]
        );
        assert_eq!(state.faults(&bob, ""), [""; 0]);
    }
}

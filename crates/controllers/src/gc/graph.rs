//! Who owns whom, as the watches show it. Pure.
//!
//! A node is *observed* when a watch has shown it, and *virtual* when it is only known from somebody's owner
//! reference. Virtual nodes are looked up on the server.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::runtime::discovery::{ApiKind, ResourceId};
use crate::runtime::object::{ObjectKey, Uid, is_deleting};

/// Dependents that block go before the object does.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Dependents lose the object as owner before it goes.
pub const ORPHAN: &str = "orphan";

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Whether this object should go.
    Item(Uid),
    /// This object wants its dependents orphaned.
    Orphan(Uid),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Item(uid) => write!(f, "{uid}"),
            Self::Orphan(uid) => write!(f, "{uid} (orphan)"),
        }
    }
}

/// An object.
#[derive(Debug, Clone)]
pub struct Node {
    /// What and where it is.
    pub place: Place,
    /// Its owners.
    pub owners: Box<[Link]>,
    /// The objects that name it as owner.
    pub dependents: BTreeSet<Uid>,
    /// Whether its deletion has begun.
    pub deleting: bool,
    /// Whether it waits for dependents to go first.
    pub foreground: bool,
}

/// Where to find an object.
#[derive(Debug, Clone)]
pub enum Place {
    /// Shown by a watch.
    Observed(Arc<ApiKind>, ObjectKey),
    /// As a dependent in the given namespace says.
    Virtual(Link, Box<str>),
}

impl Place {
    /// The namespace of an object that a watch has shown; empty if it has none.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Observed(_, key) => Some(key.namespace()),
            Self::Virtual(..) => None,
        }
    }
}

/// An owner reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The owner's uid.
    pub uid: Uid,
    /// The owner's group.
    pub group: Box<str>,
    /// The owner's kind.
    pub kind: Box<str>,
    /// The owner's name.
    pub name: Box<str>,
    /// Whether the owner's foreground deletion waits for this dependent.
    pub blocks: bool,
}

impl Link {
    /// Reads an owner reference.
    pub fn of(reference: &OwnerReference) -> Self {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        Self {
            uid: Uid::new(&reference.uid),
            group: group.into(),
            kind: reference.kind.as_str().into(),
            name: reference.name.as_str().into(),
            blocks: reference.block_owner_deletion.unwrap_or(false),
        }
    }

    /// Whether it means the object at `key` of `kind`, as seen from `namespace`.
    fn means(&self, kind: &ApiKind, key: &ObjectKey, namespace: &str) -> bool {
        let in_reach = !kind.namespaced || key.namespace() == namespace;
        *self.kind == *kind.kind && *self.group == *kind.id.group && *self.name == *key.name() && in_reach
    }
}

impl Node {
    fn namespace(&self) -> &str {
        match &self.place {
            Place::Observed(_, key) => key.namespace(),
            Place::Virtual(_, namespace) => namespace,
        }
    }

    fn is_observed(&self) -> bool {
        matches!(self.place, Place::Observed(..))
    }
}

/// All objects and what binds them.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
}

impl Graph {
    /// The node of `uid`.
    pub fn get(&self, uid: &Uid) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a watch shows the owner that `link` means, as seen from `namespace`, and that it does not wait for its
    /// dependents to go.
    pub fn shows_solid(&self, link: &Link, namespace: &str) -> bool {
        self.nodes.get(&link.uid).is_some_and(|node| match &node.place {
            Place::Observed(kind, key) => link.means(kind, key, namespace) && !node.foreground,
            Place::Virtual(..) => false,
        })
    }

    /// The observed dependents of `uid`, with their nodes.
    pub fn dependents(&self, uid: &Uid) -> impl Iterator<Item = (&Uid, &Node)> {
        let uids = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        uids.filter_map(|uid| Some((uid, self.nodes.get(uid)?))).filter(|(_, node)| node.is_observed())
    }

    /// The first of the dependents of `uid` that its foreground deletion waits for.
    pub fn blocker(&self, uid: &Uid) -> Option<(&Uid, &Node)> {
        let blocks = |node: &Node| node.owners.iter().any(|link| link.uid == *uid && link.blocks);
        self.dependents(uid).find(|(_, node)| blocks(node))
    }

    /// Takes in an object as a watch shows it; adds what has to be looked at because of it.
    pub fn observe(&mut self, kind: &Arc<ApiKind>, meta: &ObjectMeta, work: &mut BTreeSet<Work>) {
        let (uid, key) = (Uid::of(meta), ObjectKey::of(meta));
        let owners: Box<[Link]> = meta.owner_references.iter().flatten().map(Link::of).collect();
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        let deleting = is_deleting(meta);
        let (foreground, orphan) = (deleting && has(FOREGROUND), deleting && has(ORPHAN));
        let place = Place::Observed(Arc::clone(kind), key.clone());
        let mut node =
            Node { place, owners: owners.clone(), dependents: BTreeSet::new(), deleting, foreground };
        let (mut was_foreground, mut was_observed, mut old_owners) = (false, false, Box::default());
        if let Some(before) = self.nodes.remove(&uid) {
            (was_foreground, was_observed) = (before.foreground, before.is_observed());
            (node.dependents, old_owners) = (before.dependents, before.owners);
        }
        self.nodes.insert(uid.clone(), node);
        self.relink(&uid, key.namespace(), &old_owners, &owners, work);
        if !was_observed {
            self.check_expectations(&uid, work);
        }
        if orphan {
            work.insert(Work::Orphan(uid.clone()));
        }
        if foreground {
            work.insert(Work::Item(uid.clone()));
            if !was_foreground {
                work.extend(self.nodes[&uid].dependents.iter().cloned().map(Work::Item));
            }
        }
    }

    /// Takes out an object that is gone; everything that names it as owner has to be looked at.
    pub fn forget(&mut self, uid: &Uid, work: &mut BTreeSet<Work>) {
        let Some(node) = self.nodes.remove(uid) else { return };
        for link in &node.owners {
            self.unlink(uid, link, work);
        }
        work.extend(node.dependents.into_iter().map(Work::Item));
    }

    /// Takes out a node that the server does not know, unless a watch has shown it since.
    pub fn forget_virtual(&mut self, uid: &Uid, work: &mut BTreeSet<Work>) {
        if self.nodes.get(uid).is_some_and(|node| !node.is_observed()) {
            self.forget(uid, work);
        }
    }

    /// The uids of the observed objects of one resource.
    pub fn of_resource(&self, id: &ResourceId) -> Vec<Uid> {
        let is_of = |node: &Node| matches!(&node.place, Place::Observed(kind, _) if kind.id == *id);
        self.nodes.iter().filter(|(_, node)| is_of(node)).map(|(uid, _)| uid.clone()).collect()
    }

    fn relink(&mut self, uid: &Uid, namespace: &str, old: &[Link], new: &[Link], work: &mut BTreeSet<Work>) {
        for link in old.iter().filter(|link| !new.iter().any(|other| other.uid == link.uid)) {
            self.unlink(uid, link, work);
        }
        for link in new {
            match self.nodes.get_mut(&link.uid) {
                Some(owner) => {
                    owner.dependents.insert(uid.clone());
                    let means = match &owner.place {
                        Place::Observed(kind, key) => link.means(kind, key, namespace),
                        Place::Virtual(..) => true,
                    };
                    // A reference that means another object than the one with this uid is dangling. Of an owner that
                    // goes in the foreground, this dependent has to go too, or no longer blocks it.
                    if !means || owner.foreground {
                        work.insert(Work::Item(uid.clone()));
                    }
                    if owner.foreground {
                        work.insert(Work::Item(link.uid.clone()));
                    }
                }
                None => {
                    let owner = Node {
                        place: Place::Virtual(link.clone(), namespace.into()),
                        owners: Box::default(),
                        dependents: BTreeSet::from([uid.clone()]),
                        deleting: false,
                        foreground: false,
                    };
                    self.nodes.insert(link.uid.clone(), owner);
                    work.insert(Work::Item(link.uid.clone()));
                }
            }
        }
    }

    fn unlink(&mut self, uid: &Uid, link: &Link, work: &mut BTreeSet<Work>) {
        let Some(owner) = self.nodes.get_mut(&link.uid) else { return };
        owner.dependents.remove(uid);
        if owner.foreground {
            work.insert(Work::Item(link.uid.clone()));
        }
        if owner.dependents.is_empty() && !owner.is_observed() {
            self.nodes.remove(&link.uid);
        }
    }

    /// Dependents that were seen before their owner may have meant something else by its uid. Those that come later are
    /// checked by themselves, and what an owner is never changes.
    fn check_expectations(&self, uid: &Uid, work: &mut BTreeSet<Work>) {
        let Some(node) = self.nodes.get(uid) else { return };
        let Place::Observed(kind, key) = &node.place else { return };
        for (dependent, at) in node.dependents.iter().filter_map(|uid| Some((uid, self.nodes.get(uid)?))) {
            let mut links = at.owners.iter().filter(|link| link.uid == *uid);
            if links.any(|link| !link.means(kind, key, at.namespace())) {
                work.insert(Work::Item(dependent.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn kind(name: &str, namespaced: bool) -> Arc<ApiKind> {
        Arc::new(ApiKind {
            id: ResourceId { group: "apps".to_owned(), plural: format!("{}s", name.to_lowercase()) },
            version: "v1".to_owned(),
            kind: name.to_owned(),
            namespaced,
            verbs: BTreeSet::new(),
        })
    }

    /// Feeds a script of objects to a graph.
    #[derive(Default)]
    struct Script(Graph);

    impl Script {
        /// `name` of kind `Set` in namespace `ns`, owned by others of the same kind.
        fn see(&mut self, name: &str, owners: &[&str], more: impl Into<Value>) -> Vec<String> {
            let reference = |owner: &&str| {
                json!({"apiVersion": "apps/v1", "kind": "Set", "name": owner, "uid": owner,
                       "blockOwnerDeletion": true})
            };
            let references: Vec<_> = owners.iter().map(reference).collect();
            let mut meta =
                json!({"name": name, "namespace": "ns", "uid": name, "ownerReferences": references});
            for (key, value) in more.into().as_object().unwrap() {
                meta[key] = value.clone();
            }
            let mut work = BTreeSet::new();
            self.0.observe(&kind("Set", true), &serde_json::from_value(meta).unwrap(), &mut work);
            describe(&work)
        }

        fn lose(&mut self, name: &str) -> Vec<String> {
            let mut work = BTreeSet::new();
            self.0.forget(&Uid::new(name), &mut work);
            describe(&work)
        }
    }

    fn describe(work: &BTreeSet<Work>) -> Vec<String> {
        work.iter().map(ToString::to_string).collect()
    }

    fn going(finalizer: &str) -> Value {
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]})
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn a_lost_owner_wakes_its_dependents() {
        let mut script = Script::default();
        assert_eq!(script.see("owner", &[], json!({})), NONE);
        assert_eq!(script.see("a", &["owner"], json!({})), NONE);
        assert_eq!(script.see("b", &["owner"], json!({})), NONE);
        assert_eq!(script.lose("owner"), ["a", "b"]);
        assert_eq!(script.lose("owner"), NONE);
    }

    #[test]
    fn an_unknown_owner_is_looked_up_and_forgotten_with_its_last_dependent() {
        let mut script = Script::default();
        assert_eq!(script.see("a", &["owner"], json!({})), ["owner"]);
        assert_eq!(script.see("b", &["owner"], json!({})), NONE, "it is looked up once");
        let mut work = BTreeSet::new();
        script.0.forget_virtual(&Uid::new("owner"), &mut work);
        assert_eq!(describe(&work), ["a", "b"]);
        assert_eq!(script.see("c", &["other"], json!({})), ["other"]);
        assert_eq!(script.lose("c"), NONE);
        assert_eq!(script.0.len(), 2, "a and b");
    }

    #[test]
    fn a_virtual_owner_that_turns_up_is_no_longer_virtual() {
        let mut script = Script::default();
        script.see("a", &["owner"], json!({}));
        assert_eq!(script.see("owner", &[], json!({})), NONE);
        let mut work = BTreeSet::new();
        script.0.forget_virtual(&Uid::new("owner"), &mut work);
        assert_eq!(describe(&work), NONE);
        assert_eq!(script.lose("owner"), ["a"]);
    }

    #[test]
    fn a_reference_to_the_wrong_object_is_noticed_in_either_order() {
        let elsewhere = json!({"namespace": "other"});
        let mut script = Script::default();
        script.see("owner", &[], elsewhere.clone());
        assert_eq!(script.see("a", &["owner"], json!({})), ["a"]);
        let mut script = Script::default();
        script.see("a", &["owner"], json!({}));
        assert_eq!(script.see("owner", &[], elsewhere), ["a"]);
    }

    #[test]
    fn only_what_speaks_for_keeping_is_believed() {
        let mut script = Script::default();
        script.see("a", &["owner", "absent"], json!({}));
        let link = |script: &Script, at: usize| script.0.get(&Uid::new("a")).unwrap().owners[at].clone();
        let check = |script: &Script, at: usize, namespace: &str, believed: bool| {
            assert_eq!(script.0.shows_solid(&link(script, at), namespace), believed);
        };
        check(&script, 0, "ns", false);
        script.see("owner", &[], json!({}));
        check(&script, 0, "ns", true);
        check(&script, 0, "other", false);
        check(&script, 1, "ns", false);
        script.see("owner", &[], json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]}));
        check(&script, 0, "ns", true);
        script.see("owner", &[], going(FOREGROUND));
        check(&script, 0, "ns", false);
    }

    #[test]
    fn a_change_of_an_owner_asks_nothing_of_its_dependents() {
        let elsewhere = json!({"namespace": "other"});
        let mut script = Script::default();
        script.see("a", &["owner"], json!({}));
        assert_eq!(script.see("owner", &[], elsewhere.clone()), ["a"]);
        assert_eq!(script.see("owner", &[], elsewhere), NONE, "it was asked when its owner turned up");
        script.see("b", &["owner"], json!({}));
        assert_eq!(
            script.0.blocker(&Uid::new("owner")).map(|(uid, _)| uid.to_string()),
            Some("a".to_owned())
        );
        script.lose("a");
        assert_eq!(
            script.0.blocker(&Uid::new("owner")).map(|(uid, _)| uid.to_string()),
            Some("b".to_owned())
        );
        script.lose("b");
        assert!(script.0.blocker(&Uid::new("owner")).is_none());
    }

    #[test]
    fn foreground_and_orphan_begin_with_the_finalizer() {
        let mut script = Script::default();
        script.see("owner", &[], json!({}));
        script.see("a", &["owner"], json!({}));
        assert_eq!(script.see("owner", &[], json!({"finalizers": [FOREGROUND]})), NONE, "not deleted yet");
        assert_eq!(script.see("owner", &[], going(FOREGROUND)), ["a", "owner"]);
        assert_eq!(script.see("late", &["owner"], json!({})), ["late", "owner"]);
        assert_eq!(script.lose("late"), ["owner"]);
        assert_eq!(script.see("a", &[], json!({})), ["owner"], "a dependent that lets go no longer blocks");

        let mut script = Script::default();
        script.see("owner", &[], json!({}));
        script.see("a", &["owner"], json!({}));
        assert_eq!(script.see("owner", &[], going(ORPHAN)), ["owner (orphan)"]);
    }
}

//! The contents of one cache: objects by key, with indexes. No IO, no locks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::kind::{Index, Kind};
use super::object::{ObjectKey, Revision, Uid};

/// The objects of one resource as last seen. Iteration is in key order.
#[derive(Debug)]
pub struct Store<K> {
    objects: BTreeMap<ObjectKey, Entry<K>>,
    /// In the order of `K::indexes()`.
    indexes: Vec<HashMap<Box<str>, BTreeSet<ObjectKey>>>,
}

#[derive(Debug)]
struct Entry<K> {
    uid: Uid,
    revision: Revision,
    object: Arc<K>,
}

/// What changed for one incarnation of one object. Never neither.
#[derive(Debug)]
pub struct Change<K> {
    /// The object's key.
    pub key: ObjectKey,
    /// As it was, when it was known.
    pub old: Option<Arc<K>>,
    /// As it is, unless it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest known form.
    pub fn latest(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has an old or a new object")
    }

    /// The old and the new form, as far as there are any.
    pub fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(&self.new)
    }
}

impl<K: Kind> Default for Store<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), indexes: K::indexes().iter().map(|_| HashMap::new()).collect() }
    }
}

impl<K: Kind> Store<K> {
    /// Takes in an object as it is now. Pushes what that changed: nothing when this revision is already here, two
    /// changes when another incarnation stood under the same key.
    pub fn upsert(
        &mut self,
        key: ObjectKey,
        uid: Uid,
        revision: Revision,
        object: Arc<K>,
        out: &mut Vec<Change<K>>,
    ) {
        let old = match self.objects.get(&key) {
            Some(entry) if entry.uid == uid && entry.revision == revision => return,
            Some(entry) if entry.uid == uid => Some(Arc::clone(&entry.object)),
            Some(_) => {
                self.remove(&key, out);
                None
            }
            None => None,
        };
        if let Some(old) = &old {
            self.unindex(&key, old);
        }
        self.index(&key, &object);
        out.push(Change { key: key.clone(), old, new: Some(Arc::clone(&object)) });
        self.objects.insert(key, Entry { uid, revision, object });
    }

    /// Takes out an object; pushes nothing when it was not here.
    pub fn remove(&mut self, key: &ObjectKey, out: &mut Vec<Change<K>>) {
        if let Some(entry) = self.objects.remove(key) {
            self.unindex(key, &entry.object);
            out.push(Change { key: key.clone(), old: Some(entry.object), new: None });
        }
    }

    /// The object under `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key).map(|entry| &entry.object)
    }

    /// The uid of the object under `key`.
    pub fn uid(&self, key: &ObjectKey) -> Option<&Uid> {
        self.objects.get(key).map(|entry| &entry.uid)
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values().map(|entry| &entry.object)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of a namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        let start = ObjectKey::namespace_start(namespace);
        self.objects
            .range((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(key, _)| key.namespace() == namespace)
            .map(|(_, entry)| &entry.object)
    }

    /// The objects that stand under `value` in `index`, in key order.
    pub fn indexed(&self, index: Index, value: &str) -> impl Iterator<Item = &Arc<K>> {
        let position = K::indexes().iter().position(|each| *each == index);
        let keys = position.and_then(|at| self.indexes[at].get(value));
        keys.into_iter().flatten().map(|key| &self.objects[key].object)
    }

    fn index(&mut self, key: &ObjectKey, object: &K) {
        for (map, index) in self.indexes.iter_mut().zip(K::indexes()) {
            if let Some(value) = object.index_value(*index) {
                match map.get_mut(value.as_ref()) {
                    Some(keys) => {
                        keys.insert(key.clone());
                    }
                    None => {
                        map.insert(value.into(), BTreeSet::from([key.clone()]));
                    }
                }
            }
        }
    }

    fn unindex(&mut self, key: &ObjectKey, object: &K) {
        for (map, index) in self.indexes.iter_mut().zip(K::indexes()) {
            let Some(value) = object.index_value(*index) else { continue };
            if let Some(keys) = map.get_mut(value.as_ref()) {
                keys.remove(key);
                if keys.is_empty() {
                    map.remove(value.as_ref());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodRecord;
    use crate::pod::tests::pod;

    fn put(store: &mut Store<PodRecord>, name: &str, uid: &str, revision: u64, node: &str) -> Vec<String> {
        let mut raw = pod("ns", name);
        raw.metadata.uid = Some(uid.to_owned());
        raw.spec.as_mut().unwrap().node_name = Some(node.to_owned()).filter(|node| !node.is_empty());
        let record = PodRecord::project(&Arc::new(raw));
        let mut changes = Vec::new();
        store.upsert(record.key.clone(), record.uid.clone(), Revision(revision), record, &mut changes);
        describe(&changes)
    }

    fn describe(changes: &[Change<PodRecord>]) -> Vec<String> {
        let uid =
            |pod: &Option<Arc<PodRecord>>| pod.as_ref().map_or("-".to_owned(), |pod| pod.uid.to_string());
        changes.iter().map(|c| format!("{} {}>{}", c.key.name(), uid(&c.old), uid(&c.new))).collect()
    }

    fn on_node(store: &Store<PodRecord>, node: &str) -> Vec<String> {
        store.indexed(Index::Node, node).map(|pod| pod.key.name().to_owned()).collect()
    }

    #[test]
    fn changes_and_indexes_follow_the_objects() {
        let mut store = Store::default();
        assert_eq!(put(&mut store, "a", "u1", 1, ""), ["a ->u1"]);
        assert_eq!(
            put(&mut store, "a", "u1", 1, ""),
            Vec::<String>::new(),
            "a known revision changes nothing"
        );
        assert_eq!(put(&mut store, "a", "u1", 2, "n1"), ["a u1>u1"]);
        assert_eq!(put(&mut store, "b", "u2", 3, "n1"), ["b ->u2"]);
        assert_eq!(on_node(&store, "n1"), ["a", "b"]);

        assert_eq!(
            put(&mut store, "a", "u9", 4, "n2"),
            ["a u1>-", "a ->u9"],
            "another incarnation is two changes"
        );
        assert_eq!(on_node(&store, "n1"), ["b"]);
        assert_eq!(on_node(&store, "n2"), ["a"]);

        let mut changes = Vec::new();
        store.remove(&ObjectKey::new("ns", "b"), &mut changes);
        store.remove(&ObjectKey::new("ns", "b"), &mut changes);
        assert_eq!(describe(&changes), ["b u2>-"]);
        assert_eq!(on_node(&store, "n1"), Vec::<String>::new());
        assert_eq!(store.in_namespace("ns").count(), 1);
        assert_eq!(store.in_namespace("n").count(), 0, "a namespace is matched whole");
    }
}

//! The store's contents at one revision.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::{Event, Key, Prefix, Record, Revision};

/// All live records at one revision. Cheap to clone, never changes, blocks nobody.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: Revision,
    records: OrdMap<Key, Arc<Record>>,
}

impl Snapshot {
    pub(crate) fn new(revision: Revision, records: OrdMap<Key, Arc<Record>>) -> Self {
        Self { revision, records }
    }

    /// The newest commit that it contains.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The record of `key`.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Record>> {
        self.records.get(key.as_str())
    }

    /// The records below `prefix` in key order, from the first one after `start_after`. A page is `.take(limit)`.
    /// A `start_after` outside `prefix` never shows a record outside it.
    pub fn range<'a>(
        &'a self,
        prefix: &Prefix,
        start_after: Option<&Key>,
    ) -> impl Iterator<Item = &'a Arc<Record>> + use<'a> {
        let start = match start_after {
            Some(key) if key.as_str() > prefix.as_str() => Bound::Excluded(key.as_str()),
            Some(_) | None => Bound::Excluded(prefix.as_str()),
        };
        let past_end = start_after.is_some_and(|key| key.as_str() >= prefix.end());
        let bounds: (Bound<&str>, Bound<&str>) = (start, Bound::Excluded(prefix.end()));
        let records = (!past_end).then(|| self.records.range::<_, str>(bounds));
        records.into_iter().flatten().map(|(_, record)| record)
    }

    /// How many records are below `prefix`. Walks them: about 10 ns each.
    #[must_use]
    pub fn count(&self, prefix: &Prefix) -> usize {
        self.range(prefix, None).count()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The same records at a later revision, up to which nothing has changed.
    pub(crate) fn seen_at(mut self, revision: Revision) -> Self {
        debug_assert!(revision >= self.revision);
        self.revision = revision;
        self
    }

    /// The state after `event`, which is of `revision`.
    pub(crate) fn apply(&mut self, revision: Revision, event: &Event) {
        self.revision = revision;
        match event.live() {
            Some(record) => self.records.insert(record.key().clone(), record.clone()),
            None => self.records.remove(event.key().as_str()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Key, OrdMap, Prefix, Record, Revision, Snapshot};
    use crate::Value;

    fn snapshot(keys: &[&str]) -> Snapshot {
        let record = |key: &Key| {
            Arc::new(Record::new(key.clone(), Revision::FIRST, Revision::FIRST, &Value::opaque("")))
        };
        let keys = keys.iter().map(|key| Key::new(*key).expect("key"));
        Snapshot::new(Revision::FIRST, keys.map(|key| (key.clone(), record(&key))).collect::<OrdMap<_, _>>())
    }

    #[test]
    fn ranges_stay_below_their_prefix() {
        let all = ["/a", "/a-b/c", "/a/b", "/a/b-c", "/a/b/c", "/a/b/d", "/a/b0", "/a/c", "/b"];
        let snapshot = snapshot(&all);
        let check = |prefix: &str, after: Option<&str>, want: &[&str]| {
            let prefix = Prefix::new(prefix).expect("prefix");
            let after = after.map(|key| Key::new(key).expect("key"));
            let found: Vec<_> =
                snapshot.range(&prefix, after.as_ref()).map(|record| record.key().as_str()).collect();
            assert_eq!(found, want, "{prefix} after {after:?}");
        };
        check("/", None, &all);
        check("/", Some("/a/b/c"), &["/a/b/d", "/a/b0", "/a/c", "/b"]);
        check("/a/", None, &["/a/b", "/a/b-c", "/a/b/c", "/a/b/d", "/a/b0", "/a/c"]);
        check("/a/b/", None, &["/a/b/c", "/a/b/d"]);
        check("/a/b/", Some("/a/b/c"), &["/a/b/d"]);
        check("/a/b/", Some("/a/b/d"), &[]);
        for before in ["/a", "/a/b", "/A"] {
            check("/a/b/", Some(before), &["/a/b/c", "/a/b/d"]);
        }
        for behind in ["/a/b0", "/z"] {
            check("/a/b/", Some(behind), &[]);
        }
        check("/c/", None, &[]);
        assert_eq!(snapshot.count(&Prefix::new("/a/b/").expect("prefix")), 2);
        assert_eq!(snapshot.count(&Prefix::all()), all.len());
    }
}

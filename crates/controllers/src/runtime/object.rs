//! Names that objects go by inside a controller: keys, uids, revisions, labels, owners.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for something else in a path than for itself, or may.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// Namespace and name of an object within one resource. Cheap to clone; a cluster-scoped object has the empty
/// namespace. Keys order by namespace first, so that a namespace is one range.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// `namespace/name`
    text: Arc<str>,
    namespace_len: u32,
}

impl ObjectKey {
    /// The key of `name` in `namespace`, which is empty for cluster-scoped objects.
    pub fn new(namespace: &str, name: &str) -> Self {
        let namespace_len = u32::try_from(namespace.len()).expect("a namespace is at most 63 bytes");
        Self { text: format!("{namespace}/{name}").into(), namespace_len }
    }

    /// The key of the object that carries `meta`.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""))
    }

    /// The namespace, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        &self.text[..self.namespace_len as usize]
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.text[self.namespace_len as usize + 1..]
    }

    /// The name as one segment of a URL's path: some kinds allow nearly any character in names.
    pub fn path_segment(&self) -> Cow<'_, str> {
        utf8_percent_encode(self.name(), ESCAPED).into()
    }

    /// The first possible key of `namespace`: every key of the namespace is at or after it.
    pub(crate) fn namespace_start(namespace: &str) -> Self {
        Self::new(namespace, "")
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.namespace(), self.name()).cmp(&(other.namespace(), other.name()))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.namespace_len == 0 { self.name() } else { &self.text })
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The uid of one incarnation of an object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Arc<str>);

impl Uid {
    /// Takes the text of `metadata.uid`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The uid of the object that carries `meta`; empty before the server gave one.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.uid.as_deref().unwrap_or(""))
    }

    /// The text of `metadata.uid`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Uid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `resourceVersion` as the number that it is: Kubernetes promises since 1.35 that resource versions of one
/// resource compare as decimal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision in `meta`; zero when there is none or when it is no number, which counts as *already seen*.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self(meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}

/// Labels in the least memory: one sorted array.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Copies the labels of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        meta.labels.as_ref().map(Self::from).unwrap_or_default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Key and value pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(map: &BTreeMap<String, String>) -> Self {
        Self(map.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect())
    }
}

/// The owner that manages an object: its only reference with `controller: true`.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// Whether deletion of the object has begun.
pub fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// The text of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_and_group_by_namespace() {
        let key = ObjectKey::new("team-a", "web-1");
        assert_eq!(
            (key.namespace(), key.name(), key.to_string().as_str()),
            ("team-a", "web-1", "team-a/web-1")
        );
        let node = ObjectKey::new("", "node-1");
        assert_eq!((node.namespace(), node.name(), node.to_string().as_str()), ("", "node-1", "node-1"));

        let mut keys: Vec<_> =
            [("b", "x"), ("a", "z"), ("a-b", "y"), ("a", "a")].map(|(ns, n)| ObjectKey::new(ns, n)).into();
        keys.sort();
        let order: Vec<_> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["a/a", "a/z", "a-b/y", "b/x"]);
        assert!(ObjectKey::namespace_start("a") < keys[0]);
    }

    #[test]
    fn names_are_escaped_in_paths() {
        for (name, segment) in [
            ("web-1.example_a~b", "web-1.example_a~b"),
            ("system:reader", "system:reader"),
            ("a?b", "a%3Fb"),
            ("a#b c%2Fd", "a%23b%20c%252Fd"),
            ("é/", "%C3%A9%2F"),
        ] {
            assert_eq!(ObjectKey::new("ns", name).path_segment(), segment);
        }
    }

    #[test]
    fn labels_look_up_by_key() {
        let map =
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())]);
        let labels = Labels::from(&map);
        for (key, value) in [("app", Some("web")), ("tier", Some("front")), ("zone", None), ("", None)] {
            assert_eq!(labels.get(key), value, "label {key}");
        }
    }

    #[test]
    fn revision_reads_decimal_numbers_only() {
        for (text, number) in [(Some("42"), 42), (Some("x1"), 0), (None, 0)] {
            let meta = ObjectMeta { resource_version: text.map(str::to_owned), ..ObjectMeta::default() };
            assert_eq!(Revision::of(&meta), Revision(number));
        }
    }
}

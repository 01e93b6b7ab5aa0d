//! An object's members: a vector sorted by key.
//!
//! Objects of the API are small (a median of four members), so a sorted vector beats a tree in space and time, and
//! serialising it is canonical.

use std::fmt;

use crate::{Key, Value};

/// The members of an object, sorted by key, each key once.
#[derive(Clone, Default, PartialEq)]
pub struct Map {
    entries: Vec<(Key, Value)>,
}

impl Map {
    /// An empty object.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Sorts `entries` and keeps, of members with the same key, the last. Calls `duplicate` for each key that came
    /// more than once.
    pub fn from_entries(mut entries: Vec<(Key, Value)>, mut duplicate: impl FnMut(&str)) -> Self {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    duplicate(&later.0);
                    std::mem::swap(later, earlier);
                }
                same
            });
        }
        Self { entries }
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(k, _)| k.as_str().cmp(key))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The member `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.find(key).ok().map(|i| &self.entries[i].1)
    }

    /// The member `key`.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.find(key).ok().map(|i| &mut self.entries[i].1)
    }

    /// Whether there is a member `key`.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// The member `key`, made `null` if absent.
    pub fn entry(&mut self, key: &str) -> &mut Value {
        let at = self.find(key).unwrap_or_else(|at| {
            self.entries.insert(at, (key.into(), Value::Null));
            at
        });
        &mut self.entries[at].1
    }

    /// Sets the member `key`, giving what stood there.
    pub fn insert(&mut self, key: impl AsRef<str> + Into<Key>, value: impl Into<Value>) -> Option<Value> {
        match self.find(key.as_ref()) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value.into())),
            Err(at) => {
                self.entries.insert(at, (key.into(), value.into()));
                None
            }
        }
    }

    /// Takes the member `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.find(key).ok().map(|at| self.entries.remove(at).1)
    }

    /// Keeps the members for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.entries.retain_mut(|(k, v)| keep(k, v));
    }

    /// The members in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The members in the order of their keys.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Value)> {
        self.entries.iter_mut().map(|(k, v)| (k.as_str(), v))
    }

    /// The member at `index` in the order of the keys.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(&str, &Value)> {
        self.entries.get(index).map(|(key, value)| (key.as_str(), value))
    }

    /// The keys in their order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(k, _)| k.as_str())
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.entries.iter().map(|(_, v)| v)
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<(Key, Value)> for Map {
    /// Of members with the same key the last stays.
    fn from_iter<T: IntoIterator<Item = (Key, Value)>>(iter: T) -> Self {
        Self::from_entries(iter.into_iter().collect(), |_| ())
    }
}

impl Extend<(Key, Value)> for Map {
    /// Sets members; one that is there already is replaced. Many at once cost one pass, not one each.
    fn extend<T: IntoIterator<Item = (Key, Value)>>(&mut self, iter: T) {
        let new: Vec<(Key, Value)> = iter.into_iter().collect();
        if new.len() <= 4 {
            for (key, value) in new {
                self.insert(key, value);
            }
        } else {
            self.entries.extend(new);
            *self = std::mem::take(&mut self.entries).into_iter().collect();
        }
    }
}

impl IntoIterator for Map {
    type Item = (Key, Value);
    type IntoIter = std::vec::IntoIter<(Key, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_stays() {
        let entries =
            vec![("b".into(), Value::Int(1)), ("a".into(), Value::Int(2)), ("b".into(), Value::Int(3))];
        let mut seen = Vec::new();
        let map = Map::from_entries(entries, |k| seen.push(k.to_owned()));
        assert_eq!(map.iter().collect::<Vec<_>>(), [("a", &Value::Int(2)), ("b", &Value::Int(3))]);
        assert_eq!(seen, ["b"]);
    }

    #[test]
    fn members_come_and_go() {
        let mut map = Map::new();
        assert_eq!(map.insert("z", 1), None);
        assert_eq!(map.insert("a", 2), None);
        assert_eq!(map.insert("z", 3), Some(Value::Int(1)));
        assert_eq!(map.keys().collect::<Vec<_>>(), ["a", "z"]);
        assert_eq!(map.remove("a"), Some(Value::Int(2)));
        assert_eq!(map.remove("a"), None);
        assert!(map.entry("n").is_null());
        assert_eq!(map.len(), 2);
        map.extend(["y", "a", "x", "b", "c", "d"].map(|key| (Key::from(key), Value::from(key))));
        assert_eq!(map.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "n", "x", "y", "z"].as_slice());
        assert_eq!(map.get("a"), Some(&Value::from("a")));
    }
}

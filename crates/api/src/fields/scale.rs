//! Entries of a resource seen through its `scale` subresource, and back.
//!
//! `scale` has one field that managers can own, `.spec.replicas` of `autoscaling/v1`; in the resource it may stand
//! elsewhere, in each version at another place.

use super::entries::{self, EntriesError, Entry, ManagerId};
use super::set::FieldSet;
use super::stored;
use crate::{Key, Value};

/// The version that `scale` speaks.
pub const SCALE_VERSION: &str = "autoscaling/v1";

/// Where the number of replicas stands in a resource.
#[derive(Clone, Copy, Debug)]
pub struct ReplicasPaths<'a> {
    /// For each `apiVersion` of the resource the path of the field, `["spec", "replicas"]`; none where that version has no
    /// `scale`. Entries of other versions are dropped.
    pub by_version: &'a [(&'a str, Option<&'a [&'a str]>)],
    /// The version of the request.
    pub api_version: &'a str,
}

impl ReplicasPaths<'_> {
    /// Whether a version is known, and the path there.
    fn path(&self, api_version: &str) -> Option<Option<FieldSet>> {
        let (_, path) = self.by_version.iter().find(|(version, _)| *version == api_version)?;
        Some(path.map(|path| FieldSet::of(&[path])))
    }
}

fn read(list: Option<&Value>) -> Result<Vec<Entry>, EntriesError> {
    list.map_or(Ok(Vec::new()), |list| entries::adopt(list.clone()))
}

fn has(entry: &Entry, path: &FieldSet) -> bool {
    !stored::intersection(&entry.fields, path).is_empty()
}

/// The entries of the resource's managers that own the number of replicas, as entries of its `scale`.
///
/// # Errors
/// The entries cannot be read.
pub fn to_scale(parent: Option<&Value>, paths: ReplicasPaths<'_>) -> Result<Option<Value>, EntriesError> {
    let mut out = Vec::new();
    for mut entry in read(parent)? {
        if let Some(Some(path)) = paths.path(&entry.id.api_version)
            && has(&entry, &path)
        {
            entry.id.api_version = SCALE_VERSION.into();
            entry.fields = FieldSet::of(&[&["spec", "replicas"]]).to_map();
            out.push(entry);
        }
    }
    Ok(entries::write(out))
}

/// The entries of the resource after a write of its `scale` left `scale` with the entries given: a manager that lost the
/// number there loses it here, one that got it there gets it here.
///
/// # Errors
/// The entries cannot be read.
pub fn to_parent(
    parent: Option<&Value>,
    scale: Option<&Value>,
    paths: ReplicasPaths<'_>,
) -> Result<Option<Value>, EntriesError> {
    let mut scale_entries = read(scale)?;
    let in_scale = FieldSet::of(&[&["spec", "replicas"]]);
    scale_entries.retain(|entry| has(entry, &in_scale));
    let mut kept_there = vec![false; scale_entries.len()];
    let mut out: Vec<Entry> = Vec::new();
    for mut entry in read(parent)? {
        let Some(path) = paths.path(&entry.id.api_version) else { continue };
        if let Some(path) = path.filter(|path| has(&entry, path)) {
            match scale_entries.iter().position(|there| is_same_manager(&there.id, &entry.id)) {
                Some(at) => kept_there[at] = true,
                None => stored::remove(&mut entry.fields, &path),
            }
        }
        if !entry.fields.is_empty() {
            out.push(entry);
        }
    }
    let own_path = paths.path(paths.api_version).flatten().unwrap_or_default();
    for (entry, kept) in scale_entries.into_iter().zip(kept_there) {
        if !kept {
            give(&mut out, entry, paths.api_version.into(), &own_path);
        }
    }
    Ok(entries::write(out))
}

/// Whether two entries are one manager's; the versions tell `scale` from the resource.
fn is_same_manager(a: &ManagerId, b: &ManagerId) -> bool {
    a.name == b.name && a.operation == b.operation && a.subresource == b.subresource
}

fn give(entries: &mut Vec<Entry>, mut entry: Entry, api_version: Key, path: &FieldSet) {
    entry.id.api_version = api_version;
    entry.fields = path.to_map();
    match entries.iter_mut().find(|other| other.id.is(&entry.id)) {
        Some(other) => {
            stored::insert(&mut other.fields, path);
            other.time = entry.time;
        }
        None if path.is_empty() => {}
        None => entries.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::testing::tree;

    const REPLICAS: &[&str] = &["spec", "replicas"];
    const PATHS: ReplicasPaths<'_> = ReplicasPaths {
        by_version: &[
            ("apps/v1", Some(REPLICAS)),
            ("apps/v1beta1", Some(&["spec", "count"])),
            ("apps/v1beta2", None),
        ],
        api_version: "apps/v1",
    };

    /// `manager/subresource operation version: fields` to a list of entries.
    fn entries(lines: &[&str]) -> Option<Value> {
        let entry = |line: &&str| {
            let (head, fields) = line.split_once(": ").expect("a colon");
            let words: Vec<&str> = head.split(' ').collect();
            let (manager, subresource) = words[0].split_once('/').unwrap_or((words[0], ""));
            let time = words.get(3).map_or(String::new(), |t| format!("2026-01-01T00:00:0{t}Z"));
            tree(&format!(
                r#"{{"manager":"{manager}","operation":"{}","apiVersion":"{}","subresource":"{subresource}","time":"{time}",
                    "fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{{}}}}}}}"#,
                words[1],
                words[2],
                fields.split(' ').map(|f| format!(r#""f:{f}":{{}}"#)).collect::<Vec<_>>().join(","),
            ))
        };
        (!lines.is_empty()).then(|| Value::Array(lines.iter().map(entry).collect()))
    }

    fn lines(list: Option<&Value>) -> Vec<String> {
        let line = |entry: &Value| {
            let text = |field| entry.str_at(&[field]).unwrap_or_default();
            let slash = if text("subresource").is_empty() { "" } else { "/" };
            let fields = entry.object_at(&["fieldsV1", "f:spec"]).expect("fields");
            let fields: Vec<&str> = fields.keys().map(|key| &key[2..]).collect();
            let time = text("time").get(18..19).map_or(String::new(), |t| format!(" {t}"));
            let (manager, operation, version) = (text("manager"), text("operation"), text("apiVersion"));
            format!(
                "{manager}{slash}{} {operation} {version}{time}: {}",
                text("subresource"),
                fields.join(" ")
            )
        };
        list.and_then(Value::as_array).unwrap_or_default().iter().map(line).collect()
    }

    #[test]
    fn scale_sees_who_owns_the_replicas() {
        let check = |parent: &[&str], want: &[&str]| {
            let got = to_scale(entries(parent).as_ref(), PATHS).expect("readable");
            assert_eq!(lines(got.as_ref()), want, "{parent:?}");
        };
        check(
            &[
                "a Apply apps/v1 1: replicas title",
                "b Update apps/v1beta1 2: count",
                "c Update apps/v1 3: title",
            ],
            &["a Apply autoscaling/v1 1: replicas", "b Update autoscaling/v1 2: replicas"],
        );
        check(
            &[
                "a Update apps/v1beta2: replicas",
                "b Update apps/v7: replicas",
                "c Update apps/v1beta1: replicas",
            ],
            &[],
        );
        check(&[], &[]);
    }

    #[test]
    fn the_resource_learns_who_scaled() {
        let check = |parent: &[&str], scale: &[&str], want: &[&str]| {
            let got = to_parent(entries(parent).as_ref(), entries(scale).as_ref(), PATHS).expect("readable");
            assert_eq!(lines(got.as_ref()), want, "{parent:?} {scale:?}");
        };
        // The one who scales takes the field.
        check(
            &["a Apply apps/v1 1: replicas title"],
            &["s/scale Update autoscaling/v1 2: replicas"],
            &["a Apply apps/v1 1: title", "s/scale Update apps/v1 2: replicas"],
        );
        check(
            &["a Update apps/v1beta1 1: count", "b Update apps/v1 1: title"],
            &["s/scale Apply autoscaling/v1 2: replicas"],
            &["s/scale Apply apps/v1 2: replicas", "b Update apps/v1 1: title"],
        );
        // Nothing was scaled: everything is as it was.
        for same in [
            ["a Apply apps/v1 1: replicas title", "b Update apps/v1 2: replicas"],
            ["s/scale Update apps/v1 1: replicas", "b Update apps/v1 2: title"],
        ] {
            let scale = to_scale(entries(&same).as_ref(), PATHS).expect("readable");
            let got = to_parent(entries(&same).as_ref(), scale.as_ref(), PATHS).expect("readable");
            assert_eq!(lines(got.as_ref()), same);
        }
        // Entries of versions that are gone are dropped, those without `scale` kept.
        check(
            &["a Update apps/v7 1: replicas", "b Update apps/v1beta2 1: replicas"],
            &[],
            &["b Update apps/v1beta2 1: replicas"],
        );
        check(&["a Apply apps/v1 1: replicas"], &["s/scale Update autoscaling/v1: other"], &[]);
    }
}

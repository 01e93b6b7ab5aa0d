//! `metadata.managedFields`: who owns which fields, as the object carries it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::set::FieldSet;
use super::stored;
use super::wire::WireError;
use crate::time::Timestamp;
use crate::{Key, Map, Value};

/// A `managedFields` list that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// Something else than a list of objects stands there.
    #[error("metadata.managedFields must be a list of objects, got {0}")]
    NotAList(&'static str),
    /// A member of an entry is no string.
    #[error("{field} of managed fields entry {index} must be a string")]
    NotAString {
        /// Which entry.
        index: usize,
        /// Which member.
        field: &'static str,
    },
    /// Another operation than the two.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No `apiVersion`.
    #[error("apiVersion must not be empty")]
    NoVersion,
    /// No `fieldsType`.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// Another `fieldsType` than `FieldsV1`.
    #[error("invalid fieldsType {found:?} in managed fields entry {index}")]
    FieldsType {
        /// Which entry.
        index: usize,
        /// What it says.
        found: Key,
    },
    /// A time that is none.
    #[error("time of managed fields entry {index} is not an RFC 3339 time: {found:?}")]
    Time {
        /// Which entry.
        index: usize,
        /// What it says.
        found: Key,
    },
    /// The fields of an entry cannot be read.
    #[error("fieldsV1 of managed fields entry {index}: {source}")]
    Fields {
        /// Which entry.
        index: usize,
        /// What is wrong.
        source: WireError,
    },
}

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Server-side apply: the entry holds what the last configuration named.
    Apply,
    /// Any other write: the entry holds what was changed.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who an entry belongs to. An applier has one entry whatever versions it applies, an updater one for each version.
#[derive(Clone, Debug)]
pub struct ManagerId {
    /// The manager's name.
    pub name: Key,
    /// How it writes.
    pub operation: Operation,
    /// The version its fields are spelled in.
    pub api_version: Key,
    /// The subresource it writes through; empty for the object itself.
    pub subresource: Key,
}

impl ManagerId {
    pub(super) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// As conflicts name it: `"kubectl" with subresource "status" using apps/v1`.
impl fmt::Display for ManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// One manager and its fields.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) id: ManagerId,
    /// When the fields were last changed: RFC 3339, UTC, seconds.
    pub(super) time: Option<Key>,
    /// A canonical `FieldsV1` tree.
    pub(super) fields: Map,
}

impl Entry {
    fn seconds(&self) -> i64 {
        self.time.as_deref().and_then(Timestamp::parse).map_or(0, Timestamp::unix)
    }

    /// The fields as a set.
    pub(super) fn set(&self) -> Result<FieldSet, WireError> {
        FieldSet::from_map(&self.fields)
    }
}

/// Whether a client wants the object's managers forgotten: an empty list, or one with one empty entry.
pub(super) fn is_reset(list: &Value) -> bool {
    match list.as_array() {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.is_empty(),
        _ => false,
    }
}

/// Reads a list that a client sent: checks everything, and makes the fields canonical; `adjust` may change each set.
///
/// # Errors
/// Whatever does not belong into the list.
pub(super) fn read(
    list: &Value,
    adjust: &dyn Fn(&ManagerId, &mut FieldSet),
) -> Result<Vec<Entry>, EntriesError> {
    let mut entries = adopt(list.clone())?;
    for (index, entry) in entries.iter_mut().enumerate() {
        let mut set = entry.set().map_err(|source| EntriesError::Fields { index, source })?;
        adjust(&entry.id, &mut set);
        entry.fields = set.to_map();
        if let Some(time) = &mut entry.time {
            let Some(at) = Timestamp::parse(time) else {
                return Err(EntriesError::Time { index, found: time.clone() });
            };
            *time = Timestamp::from_unix(at.unix()).to_string().into();
        }
    }
    Ok(entries)
}

/// Reads a list whose fields and times are known to be canonical, as those of a stored object are.
///
/// # Errors
/// Whatever does not belong into the list.
pub(super) fn adopt(list: Value) -> Result<Vec<Entry>, EntriesError> {
    let items = match list {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => return Err(EntriesError::NotAList(other.type_name())),
    };
    let mut entries: Vec<Entry> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let Value::Object(map) = item else { return Err(EntriesError::NotAList(item.type_name())) };
        entries.push(adopt_entry(index, map)?);
    }
    keep_last(&mut entries);
    Ok(entries)
}

/// As in a map of managers, the last entry of a manager counts.
fn keep_last(entries: &mut Vec<Entry>) {
    let is_last =
        |(at, entry): (usize, &Entry)| !entries[at + 1..].iter().any(|later| later.id.is(&entry.id));
    if entries.len() <= 16 && entries.iter().enumerate().all(is_last) {
        return;
    }
    let mut seen = HashSet::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in std::mem::take(entries).into_iter().rev() {
        let ManagerId { name, operation, api_version, subresource } = entry.id.clone();
        let version = if operation == Operation::Apply { Key::default() } else { api_version };
        if seen.insert((name, operation, version, subresource)) {
            kept.push(entry);
        }
    }
    kept.reverse();
    *entries = kept;
}

fn adopt_entry(index: usize, mut map: Map) -> Result<Entry, EntriesError> {
    let mut text = |field: &'static str| match map.remove(field) {
        None | Some(Value::Null) => Ok(Key::default()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(EntriesError::NotAString { index, field }),
    };
    let operation = match text("operation")?.as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(EntriesError::Operation),
    };
    let api_version = text("apiVersion")?;
    if api_version.is_empty() {
        return Err(EntriesError::NoVersion);
    }
    match text("fieldsType")? {
        ty if ty == "FieldsV1" => {}
        ty if ty.is_empty() => return Err(EntriesError::NoFieldsType(index)),
        found => return Err(EntriesError::FieldsType { index, found }),
    }
    let id = ManagerId { name: text("manager")?, operation, api_version, subresource: text("subresource")? };
    let time = Some(text("time")?).filter(|time| !time.is_empty());
    let fields = match map.remove("fieldsV1") {
        Some(Value::Object(fields)) => fields,
        None | Some(Value::Null) => Map::new(),
        Some(other) => {
            let source = WireError::NotAnObject { at: Key::default(), found: other.type_name() };
            return Err(EntriesError::Fields { index, source });
        }
    };
    Ok(Entry { id, time, fields })
}

/// Writes the list: appliers before updaters, older before newer; nothing if there is no entry.
pub(super) fn write(mut entries: Vec<Entry>) -> Option<Value> {
    if entries.is_empty() {
        return None;
    }
    entries.sort_by(compare);
    Some(Value::Array(entries.into_iter().map(write_entry).collect()))
}

fn compare(a: &Entry, b: &Entry) -> Ordering {
    (a.id.operation.cmp(&b.id.operation))
        .then_with(|| a.seconds().cmp(&b.seconds()))
        .then_with(|| a.id.name.cmp(&b.id.name))
        .then_with(|| a.id.api_version.cmp(&b.id.api_version))
        .then_with(|| a.id.subresource.cmp(&b.id.subresource))
}

fn write_entry(entry: Entry) -> Value {
    let Entry { id, time, fields } = entry;
    let text =
        |key: &'static str, text: Key| (!text.is_empty()).then(|| (Key::const_new(key), Value::String(text)));
    let members = [
        text("apiVersion", id.api_version),
        Some((Key::const_new("fieldsType"), Value::from("FieldsV1"))),
        Some((Key::const_new("fieldsV1"), Value::Object(fields))),
        text("manager", id.name),
        Some((Key::const_new("operation"), Value::from(id.operation.as_str()))),
        text("subresource", id.subresource),
        text("time", time.unwrap_or_default()),
    ];
    Value::Object(members.into_iter().flatten().collect())
}

/// How many entries of updaters an object keeps.
pub const MAX_UPDATERS: usize = 10;
/// Who owns what the oldest updaters owned when there are too many.
const OLD_UPDATES: &str = "ancient-changes";

/// Merges the oldest updaters' entries, each version for itself, until at most [`MAX_UPDATERS`] are left. (More stay when
/// they are of so many versions.)
pub(super) fn cap(entries: Vec<Entry>) -> Result<Vec<Entry>, WireError> {
    let is_updater = |entry: &Entry| entry.id.operation == Operation::Update;
    if entries.iter().filter(|e| is_updater(e)).count() <= MAX_UPDATERS {
        return Ok(entries);
    }
    let (mut updaters, mut kept): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(is_updater);
    updaters.sort_by(compare);
    let mut count = updaters.len();
    let mut buckets: BTreeMap<Key, usize> = BTreeMap::new();
    for (at, entry) in updaters.iter().enumerate() {
        if entry.id.is(&bucket_id(&entry.id.api_version)) {
            buckets.insert(entry.id.api_version.clone(), at);
        }
    }
    let mut firsts: BTreeMap<Key, usize> = BTreeMap::new();
    let mut slots: Vec<Option<Entry>> = updaters.into_iter().map(Some).collect();
    for at in 0..slots.len() {
        if count <= MAX_UPDATERS {
            break;
        }
        let Some(version) = slots[at].as_ref().map(|e| e.id.api_version.clone()) else { continue };
        let first = *firsts.entry(version.clone()).or_insert(at);
        if first == at {
            continue;
        }
        let bucket = *buckets.entry(version.clone()).or_insert(first);
        if bucket == at {
            continue;
        }
        if let (Some(old), Some(into)) = (slots[at].take(), slots[bucket].as_mut()) {
            into.id = bucket_id(&version);
            stored::insert(&mut into.fields, &old.set()?);
            into.time = old.time;
            count -= 1;
        }
    }
    kept.extend(slots.into_iter().flatten());
    Ok(kept)
}

fn bucket_id(version: &Key) -> ManagerId {
    ManagerId {
        name: OLD_UPDATES.into(),
        operation: Operation::Update,
        api_version: version.clone(),
        subresource: Key::default(),
    }
}

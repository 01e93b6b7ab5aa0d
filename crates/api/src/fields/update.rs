//! Who owns what after a create, an update or a patch.

use super::entries::{self, Entry, ManagerId, Operation};
use super::reconcile::reconcile;
use super::record::Comparison;
use super::reset::strip_system_fields;
use super::set::FieldSet;
use super::stored;
use super::versions::Versions;
use super::{Target, TrackError};
use crate::Value;

/// Records in `new` who owns what, `live` being the object before; for a create that is an object without a `uid`, empty
/// or with the members that an object of its kind always has.
///
/// Fields that changed become the manager's and no one else's. A client may send `metadata.managedFields` as it read
/// them, edit them, or forget them all with `[{}]`; one who sends none, or something unreadable, keeps the live object's,
/// and so does every write through a subresource. An object that is not tracked (`managedFields` empty while it has a
/// `uid`) stays so until something is applied to it.
///
/// # Errors
/// The change cannot be told; `managedFields` is then removed from `new`, which can be stored all the same. The error is
/// for the log.
pub fn update<'a>(
    target: &Target<'a>,
    live: &Value,
    new: &mut Value,
    versions: &mut dyn Versions<'a>,
) -> Result<(), TrackError> {
    let sent = take_entries(new);
    let entries = choose(target, live, sent);
    let tracked =
        if entries.is_empty() && live.str_at(&["metadata", "uid"]).is_some_and(|uid| !uid.is_empty()) {
            Ok(entries)
        } else {
            record_update(target, target.manager, entries, live, new, versions)
        };
    if let Some(list) = entries::write(tracked?) {
        new.set(&["metadata", "managedFields"], list);
    }
    Ok(())
}

/// Takes `metadata.managedFields` out of an object.
pub(super) fn take_entries(object: &mut Value) -> Option<Value> {
    object.remove_at(&["metadata", "managedFields"])
}

/// The managers to start from.
fn choose(target: &Target<'_>, live: &Value, sent: Option<Value>) -> Vec<Entry> {
    let stored = live.at(&["metadata", "managedFields"]);
    // What the object carries already needs no check; a list that cannot be read counts as empty, as upstream has it.
    let adopt = |list: Option<Value>| list.and_then(|list| entries::adopt(list).ok()).unwrap_or_default();
    let Some(sent) = sent else { return adopt(stored.cloned()) };
    if stored == Some(&sent) {
        return adopt(Some(sent));
    }
    if !target.subresource.is_empty() {
        return adopt(stored.cloned());
    }
    if entries::is_reset(&sent) {
        return Vec::new();
    }
    let adjust = |id: &ManagerId, set: &mut FieldSet| {
        if id.api_version == target.api_version {
            reconcile(set, target.schema);
        }
    };
    match entries::read(&sent, &adjust) {
        Ok(entries) if !entries.is_empty() => entries,
        _ => adopt(stored.cloned()),
    }
}

/// The managers after `manager` turned `live` into `new`.
pub(super) fn record_update<'a>(
    target: &Target<'a>,
    manager: &str,
    entries: Vec<Entry>,
    live: &Value,
    new: &Value,
    versions: &mut dyn Versions<'a>,
) -> Result<Vec<Entry>, TrackError> {
    let own = target.manager_id(manager, Operation::Update);
    let mut comparison = Comparison::new(target, live, new)?;
    let mut entries = comparison.take_from(entries, Some(&own), versions)?;
    let mut written = comparison.into_written();
    strip_system_fields(&mut written);
    if !written.is_empty() {
        let entry = find_or_add(&mut entries, own);
        stored::insert(&mut entry.fields, &written);
        entry.time = Some(target.now.into());
    }
    entries::cap(entries).map_err(TrackError::Stored)
}

fn find_or_add(entries: &mut Vec<Entry>, id: ManagerId) -> &mut Entry {
    let at = entries.iter().position(|entry| entry.id.is(&id)).unwrap_or(entries.len());
    if at == entries.len() {
        entries.push(Entry { id, time: None, fields: crate::Map::new() });
    }
    &mut entries[at]
}

/// Gives `new` the times of the entries of `old` if the two objects differ in nothing but those times (and
/// `resourceVersion`), so that a write that changes nothing is none. To be called last, on what is about to be stored.
pub fn keep_times(old: &Value, new: &mut Value) {
    const ENTRIES: [&str; 2] = ["metadata", "managedFields"];
    let (before, after) = (old.array_at(&ENTRIES), new.array_at(&ENTRIES));
    if before.is_empty() || before.len() != after.len() || before == after {
        return;
    }
    let times: Vec<Option<Value>> = before.iter().map(|entry| entry.get("time").cloned()).collect();
    let alike = |(a, b): (&Value, &Value)| equal_but(a, b, &["time"]);
    if !before.iter().zip(after).all(alike) || !is_unchanged(old, new) {
        return;
    }
    let Some(Value::Array(entries)) = new.get_mut("metadata").and_then(|m| m.get_mut("managedFields")) else {
        return;
    };
    for (entry, time) in entries.iter_mut().zip(times) {
        match time {
            Some(time) => entry.set(&["time"], time),
            None => {
                entry.remove_at(&["time"]);
            }
        }
    }
}

/// Whether two objects differ in nothing but their entries and `resourceVersion`.
pub(super) fn is_unchanged(old: &Value, new: &Value) -> bool {
    let (Some(a), Some(b)) = (old.get("metadata"), new.get("metadata")) else {
        return equal_but(old, new, &[]);
    };
    equal_but(a, b, &["managedFields", "resourceVersion"]) && equal_but(old, new, &["metadata"])
}

/// Whether two objects have the same members, those named aside.
fn equal_but(a: &Value, b: &Value, ignored: &[&str]) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let relevant = |(key, _): &(&str, &Value)| !ignored.contains(key);
    a.iter().filter(relevant).eq(b.iter().filter(relevant))
}

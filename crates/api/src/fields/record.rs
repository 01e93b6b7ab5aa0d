//! What a change does to the managers' fields: the heart of both updates and applies.

use super::entries::{Entry, ManagerId};
use super::reconcile::reconcile;
use super::reset::{filter_for, forget_managed_fields};
use super::set::FieldSet;
use super::stored::{self, Touch};
use super::versions::{VersionShape, Versions};
use super::walk::{self, Changes};
use super::{Target, TrackError};
use crate::schema::SchemaRef;
use crate::{Key, Value};

/// What a write changed, in every version that managers use.
pub(super) struct Comparison<'a, 't> {
    target: &'t Target<'a>,
    old: &'t Value,
    new: &'t Value,
    unchanged: bool,
    /// In the version of the request.
    own: Changes,
    /// In other versions.
    others: Vec<(Key, Changes)>,
}

impl<'a, 't> Comparison<'a, 't> {
    /// Compares two objects of the version of the request.
    pub(super) fn new(target: &'t Target<'a>, old: &'t Value, new: &'t Value) -> Result<Self, TrackError> {
        let mut own = compare_objects(old, new, target.schema)?;
        let unchanged = own.is_empty();
        filter(target, &mut own, target.api_version);
        Ok(Self { target, old, new, unchanged, own, others: Vec::new() })
    }

    /// Whether nothing changed, not even what the write cannot own; the order of lists may have.
    pub(super) fn is_empty(&self) -> bool {
        self.unchanged
    }

    /// What the write changed and can own, in the version of the request.
    pub(super) fn into_written(self) -> FieldSet {
        self.own.written
    }

    /// The changes in `api_version` and the type there; `None` if the version is gone.
    fn in_version(
        &mut self,
        api_version: &Key,
        versions: &mut dyn Versions<'a>,
    ) -> Result<Option<(&Changes, SchemaRef<'a>)>, TrackError> {
        let target = self.target;
        if api_version == target.api_version {
            return Ok(Some((&self.own, target.schema)));
        }
        let shape = versions.shape(api_version);
        let schema = match shape {
            VersionShape::Gone => return Ok(None),
            VersionShape::Same if target.reset.is_empty() => return Ok(Some((&self.own, target.schema))),
            VersionShape::Same => target.schema,
            VersionShape::Other(schema) => schema,
        };
        if let Some(at) = self.others.iter().position(|(version, _)| version == api_version) {
            return Ok(Some((&self.others[at].1, schema)));
        }
        let mut changes = match shape {
            VersionShape::Other(_) => {
                let old = versions.convert(self.old, api_version).map_err(TrackError::Convert)?;
                let new = versions.convert(self.new, api_version).map_err(TrackError::Convert)?;
                compare_objects(&old, &new, schema)?
            }
            _ => compare_objects(self.old, self.new, schema)?,
        };
        filter(target, &mut changes, api_version);
        self.others.push((api_version.clone(), changes));
        Ok(self.others.last().map(|(_, changes)| (changes, schema)))
    }

    /// The fields that the write takes from other managers than `own`.
    pub(super) fn conflicts(
        &mut self,
        entries: &[Entry],
        own: &ManagerId,
        versions: &mut dyn Versions<'a>,
    ) -> Result<Vec<(ManagerId, FieldSet)>, TrackError> {
        let mut conflicts = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.id.is(own)) {
            let Some((changes, schema)) = self.in_version(&entry.id.api_version, versions)? else { continue };
            let taken = match stored::touch(&entry.fields, &changes.written) {
                Touch::None => continue,
                Touch::Same => stored::intersection(&entry.fields, &changes.written),
                Touch::Inside => {
                    let mut set = entry.set().map_err(TrackError::Stored)?;
                    reconcile(&mut set, schema);
                    set.intersection(&changes.written)
                }
            };
            if !taken.is_empty() {
                conflicts.push((entry.id.clone(), taken));
            }
        }
        conflicts.sort_by(|(a, _), (b, _)| {
            let key = |id: &'_ ManagerId| {
                (id.name.clone(), id.operation, id.api_version.clone(), id.subresource.clone())
            };
            key(a).cmp(&key(b))
        });
        Ok(conflicts)
    }

    /// Takes what was written or removed from the managers; forgets those of versions that are gone. The entry of `own`
    /// loses only what was removed.
    pub(super) fn take_from(
        &mut self,
        entries: Vec<Entry>,
        own: Option<&ManagerId>,
        versions: &mut dyn Versions<'a>,
    ) -> Result<Vec<Entry>, TrackError> {
        let mut kept = Vec::with_capacity(entries.len() + 1);
        for mut entry in entries {
            let Some((changes, schema)) = self.in_version(&entry.id.api_version, versions)? else { continue };
            let keeps_written = own.is_some_and(|own| entry.id.is(own));
            take(&mut entry, changes, schema, keeps_written)?;
            if !entry.fields.is_empty() {
                kept.push(entry);
            }
        }
        Ok(kept)
    }
}

fn take(
    entry: &mut Entry,
    changes: &Changes,
    schema: SchemaRef<'_>,
    keeps_written: bool,
) -> Result<(), TrackError> {
    let written = stored::touch(&entry.fields, &changes.written);
    let removed = stored::touch(&entry.fields, &changes.removed);
    if written.max(removed) == Touch::Inside {
        let mut set = entry.set().map_err(TrackError::Stored)?;
        reconcile(&mut set, schema);
        entry.fields = set.to_map();
    }
    if written > Touch::None && !keeps_written {
        stored::remove(&mut entry.fields, &changes.written);
    }
    if removed > Touch::None {
        stored::remove(&mut entry.fields, &changes.removed);
    }
    Ok(())
}

fn filter(target: &Target<'_>, changes: &mut Changes, api_version: &str) {
    if let Some(filter) = filter_for(target.reset, api_version) {
        filter.apply(&mut changes.written);
        filter.apply(&mut changes.removed);
    }
}

fn compare_objects(old: &Value, new: &Value, schema: SchemaRef<'_>) -> Result<Changes, TrackError> {
    let mut changes = walk::compare(old, new, schema)?;
    forget_managed_fields(&mut changes.written);
    forget_managed_fields(&mut changes.removed);
    Ok(changes)
}

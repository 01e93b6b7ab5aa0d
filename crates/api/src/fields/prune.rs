//! Takes out of the merged object what an applier named last time and does not name now.
//!
//! A field goes if the applier owned it, its configuration lacks it now, and no other manager owns it. Objects with
//! declared fields count as owned by whoever owns a field in them: an applier that drops a whole object drops what is in
//! it too, defaults included, but for what others own.

use super::entries::Entry;
use super::reconcile::reconcile;
use super::remove::{remove, tidy};
use super::set::FieldSet;
use super::shape::{self, Shape, shape_of};
use super::versions::{VersionShape, Versions};
use super::walk::owned;
use super::{Target, TrackError};
use crate::schema::SchemaRef;
use crate::{Key, Value};

/// What prunes: the fields of the last configuration, and those of everybody now.
pub(super) struct Prune<'p, 'a> {
    pub(super) target: &'p Target<'a>,
    /// The fields that the configuration names now, in the version of the request.
    pub(super) now: &'p FieldSet,
    /// The applier's entry from last time.
    pub(super) last: &'p Entry,
    /// The other managers.
    pub(super) others: &'p [Entry],
}

/// An object in one version.
#[derive(Clone)]
struct Versioned<'a> {
    object: Value,
    api_version: Key,
    schema: SchemaRef<'a>,
}

impl<'a> Prune<'_, 'a> {
    /// Prunes the merged object, which is in the version of the request. Gives where an object or list was emptied, see
    /// [`remove`].
    pub(super) fn run(
        &self,
        merged: &mut Value,
        versions: &mut dyn Versions<'a>,
    ) -> Result<FieldSet, TrackError> {
        let version = &self.last.id.api_version;
        let Some(schema) = self.schema_of(version, versions) else { return Ok(FieldSet::new()) };
        let mut last = self.last.set().map_err(TrackError::Stored)?;
        reconcile(&mut last, schema);
        if last.is_within(self.now) && self.is_same(version, versions) {
            return Ok(FieldSet::new());
        }
        name_objects(&mut last, schema);
        let whole = Versioned {
            object: merged.clone(),
            api_version: self.target.api_version.into(),
            schema: self.target.schema,
        };
        let whole = self.convert(&whole, version, versions)?.unwrap_or(whole);
        let mut pruned = whole.clone();
        remove(&mut pruned.object, &last, schema);
        let pruned = self.add_back_owned(&whole, pruned, versions)?;

        // What nobody owned, or an updater, was taken along above and comes back here: only the applier's own goes.
        let pruned = self.convert(&pruned, version, versions)?.unwrap_or(pruned);
        let mut gone = named(&whole)?;
        gone.remove(&named(&pruned)?);
        let mut result = whole;
        let mut emptied = remove(&mut result.object, &gone.intersection(&last), schema);
        if !self.is_same(version, versions) {
            // Paths of another version mean nothing here.
            tidy(&mut result.object, &std::mem::take(&mut emptied), None, schema);
        }
        let result = self.convert(&result, self.target.api_version, versions)?.unwrap_or(result);
        *merged = result.object;
        Ok(emptied)
    }

    /// Puts back what other managers own, or the applier in its new configuration: version by version, that of the pruned
    /// object first, so that no conversion lacks a field it needs.
    fn add_back_owned(
        &self,
        whole: &Versioned<'a>,
        mut pruned: Versioned<'a>,
        versions: &mut dyn Versions<'a>,
    ) -> Result<Versioned<'a>, TrackError> {
        let mut managed: Vec<(Key, FieldSet)> = vec![(whole.api_version.clone(), FieldSet::new())];
        let mut put = |version: &Key, set: FieldSet, versions: &dyn Versions<'a>| {
            let same = |other: &Key| {
                version == other || (self.is_same(version, versions) && self.is_same(other, versions))
            };
            match managed.iter_mut().find(|(other, _)| same(other)) {
                Some((_, sum)) => sum.add(set),
                None => managed.push((version.clone(), set)),
            }
        };
        put(&self.target.api_version.into(), self.now.clone(), versions);
        for entry in self.others {
            put(&entry.id.api_version, entry.set().map_err(TrackError::Stored)?, versions);
        }
        for (version, mut set) in managed {
            let Some(all) = self.convert(whole, &version, versions)? else { continue };
            let Some(left) = self.convert(&pruned, &version, versions)? else { continue };
            name_objects(&mut set, all.schema);
            let mut gone = named(&all)?;
            gone.remove(&named(&left)?);
            gone.remove(&set);
            pruned = all;
            remove(&mut pruned.object, &gone, pruned.schema);
        }
        Ok(pruned)
    }

    /// The object in another version; `None` if that is gone.
    fn convert(
        &self,
        from: &Versioned<'a>,
        to: &str,
        versions: &mut dyn Versions<'a>,
    ) -> Result<Option<Versioned<'a>>, TrackError> {
        let Some(schema) = self.schema_of(to, versions) else { return Ok(None) };
        if from.api_version == to || (self.is_same(&from.api_version, versions) && self.is_same(to, versions))
        {
            return Ok(Some(from.clone()));
        }
        let object = versions.convert(&from.object, to).map_err(TrackError::Convert)?;
        Ok(Some(Versioned { object, api_version: to.into(), schema }))
    }

    fn schema_of(&self, version: &str, versions: &dyn Versions<'a>) -> Option<SchemaRef<'a>> {
        if version == self.target.api_version {
            return Some(self.target.schema);
        }
        match versions.shape(version) {
            VersionShape::Gone => None,
            VersionShape::Same => Some(self.target.schema),
            VersionShape::Other(schema) => Some(schema),
        }
    }

    /// Whether a version has the shape of the request's.
    fn is_same(&self, version: &str, versions: &dyn Versions<'a>) -> bool {
        version == self.target.api_version || matches!(versions.shape(version), VersionShape::Same)
    }
}

fn named(object: &Versioned<'_>) -> Result<FieldSet, TrackError> {
    let mut set = owned(&object.object, object.schema)?;
    name_objects(&mut set, object.schema);
    Ok(set)
}

/// Makes members of the declared fields that lead to members.
fn name_objects(set: &mut FieldSet, schema: SchemaRef<'_>) {
    for node in set.nodes.iter_mut().filter(|node| !node.below.is_empty()) {
        let below = match (shape_of(schema), node.element.field()) {
            (Shape::Members | Shape::Deduced, Some(name)) => {
                let (below, declared) = shape::member(schema, name);
                node.owned |= declared;
                below
            }
            (Shape::Elements(list), None) => list.item,
            _ => continue,
        };
        name_objects(&mut node.below, below);
    }
}

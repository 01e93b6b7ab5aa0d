//! Takes out of the merged object what an applier named last time and does not name now.
//!
//! A field goes if the applier owned it, its configuration lacks it now, and no other manager owns it. Objects with
//! declared fields count as owned by whoever owns a field in them: an applier that drops a whole object drops what is in
//! it too, defaults included, but for what others own.

use std::borrow::Cow;

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

/// An object in one version, with its fields: objects with declared fields among them.
struct Versioned<'v, 'a> {
    object: Cow<'v, Value>,
    api_version: Key,
    schema: SchemaRef<'a>,
    fields: Cow<'v, FieldSet>,
}

impl<'a> Versioned<'_, 'a> {
    fn new(object: Value, api_version: Key, schema: SchemaRef<'a>) -> Result<Self, TrackError> {
        let mut fields = owned(&object, schema)?;
        name_objects(&mut fields, schema);
        Ok(Self { object: Cow::Owned(object), api_version, schema, fields: Cow::Owned(fields) })
    }

    /// The object without some fields.
    fn without<'w>(&self, gone: &FieldSet) -> Result<Versioned<'w, 'a>, TrackError> {
        let mut object = self.object.as_ref().clone();
        remove(&mut object, gone, self.schema);
        Versioned::new(object, self.api_version.clone(), self.schema)
    }
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
        let object = std::mem::take(merged);
        let here = Versioned::new(object, self.target.api_version.into(), self.target.schema)?;
        let Some(whole) = self.convert(&here, version, versions)? else {
            *merged = here.object.into_owned();
            return Ok(FieldSet::new());
        };
        let pruned = self.add_back_owned(&whole, &last, versions)?;

        // What nobody owned, or an updater, was taken along above and comes back here: only the applier's own goes.
        let mut gone = whole.fields.clone().into_owned();
        if let Some(pruned) = self.convert(&pruned, version, versions)? {
            gone.remove(&pruned.fields);
        }
        let gone = gone.intersection(&last);
        if self.is_same(version, versions) {
            drop(whole);
            *merged = here.object.into_owned();
            return Ok(remove(merged, &gone, schema));
        }
        // Paths of another version mean nothing here: what is emptied there goes at once.
        let mut object = whole.object.into_owned();
        let emptied = remove(&mut object, &gone, schema);
        tidy(&mut object, &emptied, None, schema);
        *merged = versions.convert(&object, self.target.api_version).map_err(TrackError::Convert)?;
        Ok(FieldSet::new())
    }

    /// Without all that the applier had named, but with what other managers own, or the applier in its new configuration:
    /// put back version by version, that of the object first, so that no conversion lacks a field it needs.
    fn add_back_owned<'w>(
        &self,
        whole: &Versioned<'_, 'a>,
        last: &FieldSet,
        versions: &mut dyn Versions<'a>,
    ) -> Result<Versioned<'w, 'a>, TrackError> {
        let mut managed: Vec<(Key, FieldSet)> = vec![(whole.api_version.clone(), FieldSet::new())];
        let mut put = |version: &Key, set: FieldSet, versions: &dyn Versions<'a>| {
            // Versions that are gone could be as many as a client can write down.
            if self.schema_of(version, versions).is_none() {
                return;
            }
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
        let mut pruned = whole.without(last)?;
        for (version, mut set) in managed {
            let Some(all) = self.convert(whole, &version, versions)? else { continue };
            let Some(left) = self.convert(&pruned, &version, versions)? else { continue };
            name_objects(&mut set, all.schema);
            let mut gone = all.fields.clone().into_owned();
            gone.remove(&left.fields);
            gone.remove(&set);
            pruned = all.without(&gone)?;
        }
        Ok(pruned)
    }

    /// The object in another version; `None` if that is gone.
    fn convert<'v>(
        &self,
        from: &'v Versioned<'_, 'a>,
        to: &Key,
        versions: &mut dyn Versions<'a>,
    ) -> Result<Option<Versioned<'v, 'a>>, TrackError> {
        let Some(schema) = self.schema_of(to, versions) else { return Ok(None) };
        let here = &from.api_version;
        if here == to || (self.is_same(here, versions) && self.is_same(to, versions)) {
            let (object, fields) = (Cow::Borrowed(from.object.as_ref()), Cow::Borrowed(from.fields.as_ref()));
            return Ok(Some(Versioned { object, fields, api_version: here.clone(), schema: from.schema }));
        }
        let object = versions.convert(&from.object, to).map_err(TrackError::Convert)?;
        Versioned::new(object, to.clone(), schema).map(Some)
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

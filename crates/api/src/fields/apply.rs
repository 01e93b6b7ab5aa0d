//! Server-side apply.

use super::conflict::Conflicts;
use super::entries::{self, EntriesError, Entry, Operation};
use super::merge::merge;
use super::prune::Prune;
use super::record::Comparison;
use super::remove::tidy;
use super::reset::{filter_for, strip_system_fields};
use super::set::FieldSet;
use super::update::{is_unchanged, record_update};
use super::validate::faults;
use super::versions::Versions;
use super::walk::owned;
use super::{Target, TrackError, WalkError, last_applied, listed};
use crate::error::{Reason, Status};
use crate::{Map, Value};

/// Why a configuration was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The configuration is of another type than the request's.
    #[error("invalid object type: {0}")]
    Kind(String),
    /// The configuration says who owns what.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// The configuration does not have the shape of its type.
    #[error("failed to create typed patch object ({what}): {}", listed(.faults))]
    Shape {
        /// Which object.
        what: String,
        /// What is wrong, each with its path.
        faults: Vec<String>,
    },
    /// Other managers own fields that it would change.
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
    /// The live object's managers cannot be read.
    #[error(
        "failed to decode managed fields: {0}; an update that sets metadata.managedFields to [{{}}] resets them"
    )]
    Entries(#[from] EntriesError),
    /// The live object has a list that cannot be merged.
    #[error("failed to merge config: {0}")]
    Merge(#[source] WalkError),
    /// The change cannot be told.
    #[error(transparent)]
    Track(#[from] TrackError),
}

impl ApplyError {
    /// The answer to the client.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Kind(_) | Self::ManagedFields => Status::bad_request(self.to_string()),
            // Upstream has no reason for this, and clients know it by its text.
            Self::Shape { .. } => Status::new(Reason::Unknown, self.to_string()),
            Self::Conflicts(conflicts) => conflicts.status(),
            Self::Track(TrackError::Convert(status)) => status.clone(),
            Self::Entries(_) | Self::Merge(_) | Self::Track(_) => Status::internal(self),
        }
    }
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        error.status()
    }
}

/// What becomes of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It is an error.
    No,
    /// The applier takes the fields.
    Yes,
}

/// Applies `config`, which names the fields that the manager has an opinion about, to `live`, and gives the new object
/// with its `managedFields`.
///
/// `live` is the object as stored, or for a create an object without a `uid`, empty or with the members that an object of
/// its kind always has. Fields that the manager named last time and does not name now go, unless somebody else owns them.
/// An apply that changes nothing gives `live` as it was. The result is neither defaulted nor pruned.
///
/// # Errors
/// See [`ApplyError`].
pub fn apply<'a>(
    target: &Target<'a>,
    live: &Value,
    config: &Value,
    force: Force,
    versions: &mut dyn Versions<'a>,
) -> Result<Value, ApplyError> {
    check(target, config)?;
    let stored = live.at(&["metadata", "managedFields"]).cloned().unwrap_or_default();
    let mut entries = entries::adopt(stored)?;
    // What a new object has is what each object of its kind has, and nobody's.
    let exists = live.str_at(&["metadata", "uid"]).is_some_and(|uid| !uid.is_empty());
    if entries.is_empty() && exists {
        let nothing = Value::object();
        entries = record_update(target, "before-first-apply", entries, &nothing, live, versions)?;
    }
    let apply = Apply { target, live, config };
    let (mut object, entries) = if target.manager == last_applied::MANAGER {
        apply.run_as_kubectl(entries, force, versions)?
    } else {
        apply.run(entries, force, versions)?
    };
    if let Some(list) = entries::write(entries) {
        object.set(&["metadata", "managedFields"], list);
    }
    Ok(object)
}

/// What can be refused before anything is merged.
fn check(target: &Target<'_>, config: &Value) -> Result<(), ApplyError> {
    let text = |field: &str| config.str_at(&[field]).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version != target.api_version || kind != target.kind {
        return Err(ApplyError::Kind(type_text(api_version, kind)));
    }
    if config.at(&["metadata", "managedFields"]).is_some_and(|list| !list.is_null()) {
        return Err(ApplyError::ManagedFields);
    }
    let faults = faults(config, target.schema);
    if faults.is_empty() {
        return Ok(());
    }
    let metadata = |field: &str| config.str_at(&["metadata", field]).unwrap_or_default();
    let what = format!("{}/{}; {}", metadata("namespace"), metadata("name"), type_text(api_version, kind));
    Err(ApplyError::Shape { what, faults })
}

/// `apps/v1, Kind=Deployment`; the core group is empty: `/v1, Kind=Pod`.
fn type_text(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

/// The conflicts that are not over `fields`.
fn without(mut conflicts: Conflicts, fields: &FieldSet) -> Conflicts {
    conflicts.by_manager.iter_mut().for_each(|(_, set)| set.remove(fields));
    conflicts.by_manager.retain(|(_, set)| !set.is_empty());
    conflicts
}

struct Apply<'p, 'a> {
    target: &'p Target<'a>,
    live: &'p Value,
    config: &'p Value,
}

impl<'a> Apply<'_, 'a> {
    /// Merges and records; conflicts over what the annotation shows to be the client's are none.
    fn run_as_kubectl(
        &self,
        entries: Vec<Entry>,
        force: Force,
        versions: &mut dyn Versions<'a>,
    ) -> Result<(Value, Vec<Entry>), ApplyError> {
        let (mut object, entries) = match self.run(entries.clone(), force, versions) {
            Err(ApplyError::Conflicts(conflicts)) => {
                let Some(fields) = last_applied::client_fields(self.target, self.live) else {
                    return Err(conflicts.into());
                };
                let left = without(conflicts, &fields);
                if !left.is_empty() {
                    return Err(left.into());
                }
                self.run(entries, Force::Yes, versions)?
            }
            other => other?,
        };
        last_applied::refresh(&mut object, self.config);
        Ok((object, entries))
    }

    /// Merges and records; the object comes without its entries.
    fn run(
        &self,
        mut entries: Vec<Entry>,
        force: Force,
        versions: &mut dyn Versions<'a>,
    ) -> Result<(Value, Vec<Entry>), ApplyError> {
        let Self { target, live, config } = *self;
        let mut object = without_entries(live);
        merge(&mut object, config, target.schema).map_err(ApplyError::Merge)?;

        let mut fields = owned(config, target.schema).map_err(TrackError::Compare)?;
        if let Some(filter) = filter_for(target.reset, target.api_version) {
            filter.apply(&mut fields);
        }
        let own = target.manager_id(target.manager, Operation::Apply);
        let last = entries.iter().position(|entry| entry.id.is(&own)).map(|at| entries.remove(at));
        let emptied = match &last {
            Some(last) => {
                Prune { target, now: &fields, last, others: &entries }.run(&mut object, versions)?
            }
            None => FieldSet::new(),
        };

        let mut comparison = Comparison::new(target, live, &object)?;
        if force == Force::No {
            let by_manager = comparison.conflicts(&entries, &own, versions)?;
            if !by_manager.is_empty() {
                return Err(Conflicts { by_manager }.into());
            }
        }
        let mut entries = comparison.take_from(entries, None, versions)?;
        let is_noop = comparison.is_empty() && is_unchanged(live, &object);
        strip_system_fields(&mut fields);
        if !fields.is_empty() {
            let time = if is_noop { last.and_then(|entry| entry.time) } else { Some(target.now.into()) };
            entries.push(Entry { id: own, time, fields: fields.to_map() });
        }
        tidy(&mut object, &emptied, Some(config), target.schema);
        Ok((object, entries))
    }
}

/// A copy of the object without `metadata.managedFields`.
fn without_entries(object: &Value) -> Value {
    let copy = |map: &Map, inner: &dyn Fn(&str, &Value) -> Option<Value>| -> Value {
        Value::Object(map.iter().filter_map(|(key, value)| Some((key.into(), inner(key, value)?))).collect())
    };
    let metadata = |key: &str, value: &Value| (key != "managedFields").then(|| value.clone());
    match object {
        Value::Object(map) => copy(map, &|key, value| match value {
            Value::Object(inner) if key == "metadata" => Some(copy(inner, &metadata)),
            other => Some(other.clone()),
        }),
        other => other.clone(),
    }
}

//! Deleting: at once, after a grace period, or when finalizers allow it.
//!
//! ```text
//!   live ──DELETE──▶ gone                        (no grace, no finalizers)
//!    └────DELETE──▶ deleting ──last finalizer removed, grace over──▶ gone
//! ```

use std::time::Duration;

use bytes::Bytes;
use xebec_api::time::Timestamp;
use xebec_api::{Status, Value, json, meta, object};
use xebec_store::{CommitError, Condition, Txn};

use super::strategy::Write;
use super::table::{Row, Served};
use super::write::{self, Target};
use super::{convert, read};
use crate::admission::{self, Attributes, Operation};
use crate::core::{Context, Core};
use crate::http::query::{dry_run_fault, invalid_options};

const MAX_TRIES: usize = 8;

/// What becomes of the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, and are no longer owned.
    Orphan,
    /// They go after it.
    Background,
    /// It goes after them.
    Foreground,
}

/// `DeleteOptions` of meta/v1.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seconds to end in; 0 means at once.
    pub grace_period_seconds: Option<i64>,
    /// The object must have this UID.
    pub uid: Option<String>,
    /// The object must be at this version.
    pub resource_version: Option<String>,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// The deletion is only tried.
    pub dry_run: bool,
    /// Whether the client wants to know that the object waits for its dependents: 202 and not 200.
    pub waits: bool,
}

impl Options {
    /// Reads the options from a body and the query; the body wins.
    ///
    /// # Errors
    /// 400 for a body that is no `DeleteOptions`; 422 for an unknown policy.
    pub fn read(body: Option<&Value>, context: &Context) -> Result<Self, Status> {
        let nothing = Value::Null;
        let body = body.unwrap_or(&nothing);
        let query = &context.query;
        let orphan = match body.bool_at(&["orphanDependents"]) {
            Some(orphan) => Some(orphan),
            None => query.flag("orphanDependents"),
        };
        let policy = body.str_at(&["propagationPolicy"]).or_else(|| query.get("propagationPolicy"));
        let propagation = match (policy, orphan) {
            (Some("Orphan"), None) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), None) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (None, None) => None,
            (Some(policy), Some(_)) => {
                let path = xebec_api::FieldPath::new("propagationPolicy");
                let why = "orphanDependents and deletionPropagation cannot be both set";
                let cause = xebec_api::Cause::invalid(path, policy, why);
                return Err(invalid_options("DeleteOptions", vec![cause]));
            }
            (Some(other), None) => {
                let path = xebec_api::FieldPath::new("propagationPolicy");
                let cause = xebec_api::Cause::not_supported(
                    path,
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                );
                return Err(invalid_options("DeleteOptions", vec![cause]));
            }
        };
        let grace = match body.i64_at(&["gracePeriodSeconds"]) {
            Some(seconds) => Some(seconds),
            None => query.number("gracePeriodSeconds")?,
        };
        let mut dry: Vec<&str> = body.array_at(&["dryRun"]).iter().filter_map(Value::as_str).collect();
        dry.extend(query.all("dryRun").filter(|value| !value.is_empty()));
        if let Some(cause) = dry_run_fault(&dry) {
            return Err(invalid_options("DeleteOptions", vec![cause]));
        }
        let text = |path: &[&str]| body.str_at(path).filter(|t| !t.is_empty()).map(str::to_owned);
        Ok(Self {
            grace_period_seconds: grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
            propagation,
            dry_run: !dry.is_empty(),
            waits: policy == Some("Foreground") || orphan == Some(false),
        })
    }

    /// Whether an object is the one that the deletion is meant for.
    ///
    /// # Errors
    /// 409 naming the precondition that fails.
    pub(super) fn check(&self, object: &Value, row: &Row) -> Result<(), Status> {
        let conflict = |what: &str, want: &str, have: &str| {
            let why =
                format!("Precondition failed: {what} in precondition: {want}, {what} in object meta: {have}");
            Err(Status::conflict(row.group(), row.resource(), meta::name(object), why))
        };
        match (&self.uid, &self.resource_version) {
            (Some(uid), _) if uid != meta::uid(object) => conflict("UID", uid, meta::uid(object)),
            (_, Some(version)) if version != meta::resource_version(object) => {
                conflict("ResourceVersion", version, meta::resource_version(object))
            }
            _ => Ok(()),
        }
    }
}

/// What a deletion came to.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone: what it was, at the revision of its deletion, in the version served.
    Gone(Bytes),
    /// The object waits: its state, in the version served.
    Waiting(Bytes),
}

/// Deletes an object.
///
/// # Errors
/// 404; 409 if a precondition fails; whatever admission says.
pub async fn delete(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    options: &Options,
) -> Result<Deleted, Status> {
    let served = target.served;
    let mut seen = core.seen();
    for _ in 0..MAX_TRIES {
        match try_delete(core, context, target, options).await {
            Ok(Tried::Deleted(deleted)) => return Ok(deleted),
            Ok(Tried::Failed(status)) => return Err(status),
            Ok(Tried::Changed) => {}
            Err(status) => {
                if !core.was_behind(seen.take()).await? {
                    return Err(status);
                }
            }
        }
    }
    let why = "others kept changing it; try again";
    Err(Status::conflict(served.row.group(), served.row.resource(), target.name, why))
}

/// What came of one try. An error beside it was decided on the state that is known here, which may be too old.
enum Tried {
    Deleted(Deleted),
    /// Somebody else was faster.
    Changed,
    /// The store's word, which a newer state does not change.
    Failed(Status),
}

async fn try_delete(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    options: &Options,
) -> Result<Tried, Status> {
    let served = target.served;
    let snapshot = core.store.snapshot();
    let record = read::find(&snapshot, &served.row, target.namespace, target.name)?;
    let old = convert::current(core, record, served).await?;
    options.check(&old, &served.row)?;
    let dry_run = options.dry_run;
    let attributes = Attributes { dry_run, ..Attributes::new(context, target, Operation::Delete) };
    admission::validate(core, &attributes, &Value::Null, Some(&old)).await?;
    let mut new = old.clone();
    begin(&mut new, served, options, context.now);
    let gone = is_finished(&new, served);
    if !gone {
        served.row.strategy.deleting(&mut new);
    }
    if options.dry_run {
        return convert::bytes(core, record, served).await.map(Deleted::Gone).map(Tried::Deleted);
    }
    if !gone {
        new = convert::to_stored(core, new, served).await?;
    }
    if !gone && json::to_vec(&new) == record.as_slice() {
        if !core.is_current(record).await? {
            return Ok(Tried::Changed);
        }
        return convert::bytes(core, record, served).await.map(Deleted::Waiting).map(Tried::Deleted);
    }
    let mut write = Write { core, context, snapshot: &snapshot, old: Some(&old), txn: Txn::default() };
    if gone {
        served.row.strategy.delete(&mut write)?;
    }
    let key = record.key().clone();
    let txn = write.txn.when(Condition::At(key.clone(), record.mod_revision()));
    let txn = if gone { txn.delete(key.clone()) } else { txn.put(key.clone(), write::stored(&mut new)) };
    match core.commit(txn).await {
        Ok(committed) => {
            let written = write::finish(core, served, &committed.events, &key, false).await?;
            let deleted = if gone { Deleted::Gone } else { Deleted::Waiting };
            Ok(Tried::Deleted(deleted(written.bytes)))
        }
        Err(CommitError::Conflict(_)) => Ok(Tried::Changed),
        Err(error) => Ok(Tried::Failed(write::commit_status(&error))),
    }
}

/// Marks an object as being deleted, as the options want.
fn begin(object: &mut Value, served: &Served, options: &Options, now: Timestamp) {
    let row = &served.row;
    set_propagation(object, row, options);
    let grace = row.strategy.grace(object, options.grace_period_seconds).unwrap_or(0).max(0);
    if meta::is_deleting(object) {
        // A second request may only shorten the time that is left.
        let left = object.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
        if options.grace_period_seconds.is_some() && grace < left {
            set_deadline(object, grace, now);
        }
        return;
    }
    set_deadline(object, grace, now);
    if let Some(generation) = object.i64_at(&["metadata", "generation"]) {
        object.set(&["metadata", "generation"], generation + 1);
    }
}

fn set_deadline(object: &mut Value, grace: i64, now: Timestamp) {
    let deadline = now.after(Duration::from_secs(grace.unsigned_abs()));
    object.set(&["metadata", "deletionTimestamp"], deadline.to_string());
    object.set(&["metadata", "deletionGracePeriodSeconds"], grace);
}

/// Finalizers make deletion wait for the garbage collector.
fn set_propagation(object: &mut Value, row: &Row, options: &Options) {
    let has = |name: &str| meta::finalizers(object).any(|f| f == name);
    let wanted = match options.propagation {
        Some(policy) => policy,
        None if has(meta::ORPHAN_FINALIZER) => Propagation::Orphan,
        None if has(meta::FOREGROUND_FINALIZER) => Propagation::Foreground,
        None if row.kind.orphan_by_default => Propagation::Orphan,
        None => Propagation::Background,
    };
    let finalizer = match wanted {
        Propagation::Orphan => Some(meta::ORPHAN_FINALIZER),
        Propagation::Foreground => Some(meta::FOREGROUND_FINALIZER),
        Propagation::Background => None,
    };
    let others =
        meta::finalizers(object).filter(|f| *f != meta::ORPHAN_FINALIZER && *f != meta::FOREGROUND_FINALIZER);
    let all: Vec<&str> = others.chain(finalizer).collect();
    let all = Value::from(all);
    if all.as_array().is_some_and(<[_]>::is_empty) {
        object.remove_at(&["metadata", "finalizers"]);
    } else {
        object.set(&["metadata", "finalizers"], all);
    }
}

/// Whether an object that is being deleted may go now.
#[must_use]
pub fn is_finished(object: &Value, served: &Served) -> bool {
    let waits = object.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) > 0;
    let held = meta::finalizers(object).next().is_some() || served.row.strategy.holds(object);
    meta::is_deleting(object) && !waits && !held
}

/// The answer when an object is gone, for kinds that do not answer with the object.
#[must_use]
pub fn success(served: &Served, object: &Value) -> Value {
    let mut details = object!({
        "name": (meta::name(object)), "kind": (served.row.resource()), "uid": (meta::uid(object))
    });
    if !served.row.group().is_empty() {
        details.set(&["group"], served.row.group());
    }
    object!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "details": (details)})
}

//! Writing: create, and every kind of change.
//!
//! ```text
//! decode → default → (patch) → convert to the working version → identify → record owners of fields → mutating admission
//!        → prepare → validate → validating admission → convert to the stored version → commit
//!        ──conflict──▶ again from the newest state, a bounded number of times
//! ```
//!
//! A change that leaves the object as it was is not committed: the answer is the object with its old revision.

mod commit;
mod prepare;

use bytes::Bytes;
use xebec_api::structural::{self};
use xebec_api::{Cause, FieldPath, Reason, Status, Value, fields, json, meta};
use xebec_store::{CommitError, Condition, Record, Revision, Txn};

use super::convert;
use super::delete;
use super::facts;
use super::managed::{self, Known};
use super::strategy::Write;
use super::table::Served;
use super::unenforced;
use crate::admission::{self, Attributes, Operation, quota};
use crate::core::{Context, Core};

pub(crate) use self::commit::stored;
use self::commit::written_dry;
pub use self::commit::{claim, release};
pub(super) use self::commit::{commit_status, finish};
use self::prepare::{
    check_name, identify, prepare_changed, prepare_new, settle_namespace, validate_changed, validate_new,
};

/// How often a write is tried again when others write the same object, or take the address it wanted.
const MAX_TRIES: usize = 8;

/// Which object a write is about, and which part of it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The resource and version.
    pub served: &'a Served,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The object's name; empty for a new one.
    pub name: &'a str,
    /// The part that changes.
    pub part: Part<'a>,
}

/// The part of an object that a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Everything but the status, if the resource has a status subresource.
    Main,
    /// The status only.
    Status,
    /// What another subresource stands for, named for admission; the change keeps to it by itself.
    Other(&'a str),
    /// As `Other`, but the server itself decides what changes: the kind's rules for clients do not hold.
    Own(&'a str),
}

impl<'a> Part<'a> {
    /// The subresource's name; empty for the main resource.
    #[must_use]
    pub const fn name(self) -> &'a str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Other(name) | Self::Own(name) => name,
        }
    }
}

/// Who records which fields the client owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// The write, from what it changes.
    ByChange,
    /// Server-side apply has recorded them already.
    Applied,
}

/// What a write came to.
#[derive(Debug)]
pub struct Written {
    /// The object in the version served.
    pub bytes: Bytes,
    /// Whether it is new.
    pub created: bool,
}

/// Makes a new object.
///
/// # Errors
/// 409 if the name is taken; 422 if it is invalid; whatever admission says.
pub async fn create(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    object: Value,
) -> Result<Written, Status> {
    create_tracked(core, context, target, object, Tracking::ByChange).await
}

/// Makes a new object, whose fields may have an owner already.
///
/// # Errors
/// As [`create`].
pub async fn create_tracked(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    object: Value,
    tracking: Tracking,
) -> Result<Written, Status> {
    let served = target.served;
    if served.row.is_terminating() {
        return Err(terminating(served));
    }
    let mut object = object;
    settle_namespace(&mut object, target)?;
    (served.row.kind.defaults)(&mut object, &served.version().name);
    structural::default(&mut object, served.version().root());
    let sent = convert::to_working(core, object, served).await?;
    let mut seen = core.seen();
    for _ in 0..MAX_TRIES {
        match try_create(core, context, target, &sent, tracking).await {
            Ok(Outcome::Done(written)) => return Ok(written),
            Ok(Outcome::Failed(status)) => return Err(status),
            Ok(Outcome::Conflict | Outcome::Stale) => {}
            Err(status) => {
                if !core.was_behind(seen.take()).await? {
                    return Err(status);
                }
            }
        }
    }
    Err(busy(served, meta::name(&sent)))
}

async fn try_create(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    sent: &Value,
    tracking: Tracking,
) -> Result<Outcome, Status> {
    let served = target.served;
    let generate = meta::name(sent).is_empty();
    let mut object = sent.clone();
    identify(core, context, &mut object, target)?;
    convert::show_zeros(&mut object, &served.row);
    if tracking == Tracking::ByChange {
        let nothing = managed::blank(&object, &served.row);
        managed::track(core, context, target, &nothing, &mut object).await?;
    }
    let attributes = Attributes::new(context, target, Operation::Create);
    admission::mutate(core, &attributes, &mut object, None).await?;
    context.done("mutated");
    let snapshot = core.store.snapshot();
    let mut write = Write { core, context, snapshot: &snapshot, old: None, txn: Txn::default() };
    prepare_new(&mut write, &mut object, served)?;
    if let Some(guard) = served.row.strategy.guard(&write, &object, target.part) {
        guard.await?;
    }
    let verdict = validate_new(&object, served);
    verdict.warnings.into_iter().for_each(|text| context.warn(text));
    refuse(verdict.causes, &object, served)?;
    admission::validate(core, &attributes, &object, None).await?;
    context.done("validated");
    warn(context, target, &object, None);
    let key = served.row.key(meta::namespace(&object), meta::name(&object))?;
    let name = meta::name(&object).to_owned();
    let dry_run = context.query.dry_run();
    if !dry_run {
        refuse_version(&object)?;
    }
    let taken = || Status::already_exists(served.row.group(), served.row.resource(), &name);
    if let Some(record) = write.snapshot.get(&key) {
        return if generate { Ok(Outcome::Conflict) } else { Err(in_the_way(taken(), record)) };
    }
    let mut charge = quota::charge(core, &attributes, &object, None).await?;
    if dry_run {
        return written_dry(core, object, served, true).await.map(Outcome::Done);
    }
    let mut object = convert::to_stored(core, object, served).await?;
    let txn = charge.add_to(write.txn).when(Condition::Absent(key.clone()));
    let txn = txn.put(key.clone(), stored(&mut object));
    match core.commit(txn).await {
        Ok(committed) => finish(core, served, &committed.events, &key, true).await.map(Outcome::Done),
        Err(CommitError::Conflict(conflict)) if *conflict.expected.key() == key && !generate => {
            Ok(Outcome::Failed(taken()))
        }
        Err(CommitError::Conflict(_)) => Ok(Outcome::Conflict),
        Err(error) => Ok(Outcome::Failed(commit_status(&error))),
    }
}

/// Refuses a new object that says it was stored before.
///
/// # Errors
/// 500 without a reason, as upstream's storage has it: what a client sends is at fault, but that is what they know.
fn refuse_version(object: &Value) -> Result<(), Status> {
    match meta::resource_version(object).parse::<u64>() {
        Ok(1..) => {
            let text = "resourceVersion should not be set on objects to be created";
            Err(Status::new(Reason::Unknown, text))
        }
        _ => Ok(()),
    }
}

/// The answer to a new object whose name is taken: it says whether that will change by itself.
fn in_the_way(mut taken: Status, record: &Record) -> Status {
    if facts::life(record).ends.is_some() {
        taken.message = format!("object is being deleted: {}", taken.message).into();
    }
    taken
}

/// The answer to a new object of a definition that is being deleted: its controller would wait for the object for ever.
fn terminating(served: &Served) -> Status {
    let mut status = Status::method_not_allowed(served.row.group(), served.row.resource(), "create");
    status.message = "create not allowed while custom resource definition is terminating".into();
    status
}

/// Where a change comes from.
pub trait Change: Send {
    /// The object after the change, in the version served; `old` is what it was.
    ///
    /// # Errors
    /// The change does not apply.
    fn apply(&mut self, old: &Value) -> Result<Value, Status>;

    /// As [`Change::apply`], for a change that has to know the object in other versions.
    ///
    /// # Errors
    /// As there; or `versions` lacks an object, which it names then.
    fn apply_among(&mut self, old: &Value, _versions: &mut Known) -> Result<Value, Status> {
        self.apply(old)
    }

    /// The resource version that the client saw; empty if it does not care.
    fn expects(&self, new: &Value) -> String {
        meta::resource_version(new).to_owned()
    }

    /// Who records the fields that the client owns.
    fn tracking(&self) -> Tracking {
        Tracking::ByChange
    }

    /// Whether the change may be made to a newer object than the client saw.
    fn may_retry(&self) -> bool;
}

/// Changes an object.
///
/// # Errors
/// 404; 409 if it is not as the client supposed; 422 if it becomes invalid; whatever admission says.
pub async fn change(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    change: &mut (dyn Change + '_),
) -> Result<Written, Status> {
    let mut seen = core.seen();
    for _ in 0..MAX_TRIES {
        match try_change(core, context, target, change).await {
            Ok(Outcome::Done(written)) => return Ok(written),
            Ok(Outcome::Failed(status)) => return Err(status),
            Ok(Outcome::Stale) => {}
            Ok(Outcome::Conflict) if change.may_retry() => {}
            Ok(Outcome::Conflict) => return Err(modified(target)),
            Err(status) => {
                if !core.was_behind(seen.take()).await? {
                    return Err(status);
                }
            }
        }
    }
    Err(busy(target.served, target.name))
}

/// What came of one try of a write. An error beside it was decided on the state that is known here, which on a store that
/// others write too may be too old.
enum Outcome {
    Done(Written),
    /// Somebody else was faster.
    Conflict,
    /// The object that was known here is an old one.
    Stale,
    /// The store's word, which a newer state does not change.
    Failed(Status),
}

async fn try_change(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    change: &mut (dyn Change + '_),
) -> Result<Outcome, Status> {
    let served = target.served;
    let snapshot = core.store.snapshot();
    let record = super::read::find(&snapshot, &served.row, target.namespace, target.name)?;
    let old = convert::current(core, record, served).await?;
    let shown = convert::to_served(core, old.clone(), served).await?;
    let mut new = managed::apply_change(core, served, change, &shown).await?;
    check_version(change, &new, &old, target)?;
    check_name(&new, target)?;
    settle_namespace(&mut new, target)?;
    (served.row.kind.defaults)(&mut new, &served.version().name);
    structural::default(&mut new, served.version().root());
    let mut new = convert::to_working(core, new, served).await?;
    convert::show_zeros(&mut new, &served.row);
    // The client owns what it sent, not what admission and the kind make of it.
    if change.tracking() == Tracking::ByChange {
        managed::track(core, context, target, &old, &mut new).await?;
    }
    let attributes = Attributes::new(context, target, Operation::Update);
    admission::mutate(core, &attributes, &mut new, Some(&old)).await?;
    context.done("mutated");
    let mut write = Write { core, context, snapshot: &snapshot, old: Some(&old), txn: Txn::default() };
    prepare_changed(&mut write, &mut new, target)?;
    fields::keep_times(&old, &mut new);
    if let Some(guard) = served.row.strategy.guard(&write, &new, target.part) {
        guard.await?;
    }
    let verdict = validate_changed(&new, &old, target);
    verdict.warnings.into_iter().for_each(|text| context.warn(text));
    refuse(verdict.causes, &new, served)?;
    admission::validate(core, &attributes, &new, Some(&old)).await?;
    context.done("validated");
    warn(context, target, &new, Some(&old));
    let gone = delete::is_finished(&new, served);
    // What goes need not be convertible.
    let mut new = if gone { new } else { convert::to_stored(core, new, served).await? };
    if json::to_vec(&new) == record.as_slice() {
        if !core.is_current(record).await? {
            return Ok(Outcome::Stale);
        }
        let bytes = convert::bytes(core, record, served).await?;
        return Ok(Outcome::Done(Written { bytes, created: false }));
    }
    let mut charge = quota::charge(core, &attributes, &new, Some(&old)).await?;
    if context.query.dry_run() {
        return written_dry(core, new, served, false).await.map(Outcome::Done);
    }
    let key = record.key().clone();
    if gone {
        served.row.strategy.delete(&mut write)?;
    }
    let txn = charge.add_to(write.txn).when(Condition::At(key.clone(), record.mod_revision()));
    let txn = if gone { txn.delete(key.clone()) } else { txn.put(key.clone(), stored(&mut new)) };
    match core.commit(txn).await {
        Ok(committed) => finish(core, served, &committed.events, &key, false).await.map(Outcome::Done),
        // Somebody else was charged to the quota: the object may be as it was seen.
        Err(CommitError::Conflict(conflict)) if *conflict.expected.key() != key => Ok(Outcome::Stale),
        Err(CommitError::Conflict(_)) => Ok(Outcome::Conflict),
        Err(error) => Ok(Outcome::Failed(commit_status(&error))),
    }
}

/// PUT: the object as the client wants it.
#[derive(Debug)]
pub struct Replace {
    object: Value,
}

impl Replace {
    /// Puts `object` in the place of what is there.
    #[must_use]
    pub fn new(object: Value) -> Self {
        Self { object }
    }

    fn is_unconditional(&self) -> bool {
        meta::resource_version(&self.object).is_empty()
    }
}

impl Change for Replace {
    fn apply(&mut self, _: &Value) -> Result<Value, Status> {
        Ok(self.object.clone())
    }

    fn may_retry(&self) -> bool {
        self.is_unconditional()
    }
}

/// The client's resource version must be the object's; a kind may insist that there is one.
fn check_version(change: &dyn Change, new: &Value, old: &Value, target: Target<'_>) -> Result<(), Status> {
    let row = &target.served.row;
    let expected = change.expects(new);
    let uid = meta::uid(new);
    if !uid.is_empty() && uid != meta::uid(old) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(old)
        );
        return Err(Status::conflict(row.group(), row.resource(), target.name, why));
    }
    match expected.as_str() {
        "" | "0" if row.kind.unconditional_update || matches!(target.part, Part::Other(_) | Part::Own(_)) => {
            Ok(())
        }
        "" | "0" => {
            let path = FieldPath::new("metadata.resourceVersion");
            let cause = Cause::invalid(path, 0, "must be specified for an update");
            Err(Status::invalid(row.group(), row.kind_name(), target.name, vec![cause]))
        }
        version if version == meta::resource_version(old) => Ok(()),
        _ => Err(modified(target)),
    }
}

fn modified(target: Target<'_>) -> Status {
    let row = &target.served.row;
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(row.group(), row.resource(), target.name, why)
}

fn busy(served: &Served, name: &str) -> Status {
    let row = &served.row;
    let why = format!("others kept changing it; gave up after {MAX_TRIES} tries, try again");
    Status::conflict(row.group(), row.resource(), name, why)
}

fn refuse(causes: Vec<Cause>, object: &Value, served: &Served) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    // An object that is stored as one of another group is called by that one's name.
    let stored_as = served.row.def.stored_as.as_ref();
    let group = stored_as.map_or(served.row.group(), |place| place.group.as_ref());
    Err(Status::invalid(group, served.row.kind_name(), meta::name(object), causes))
}

fn warn(context: &Context, target: Target<'_>, new: &Value, old: Option<&Value>) {
    let served = target.served;
    (served.row.kind.warnings)(new, old).into_iter().for_each(|text| context.warn(text));
    if target.part == Part::Main {
        unenforced::warnings(&served.row, new).for_each(|text| context.warn(text));
    }
    let deprecation = &served.version().deprecation;
    if !deprecation.is_empty() {
        context.warn(deprecation.as_ref());
    }
}

/// The revision of a resource version's text.
///
/// # Errors
/// 400 for what is no number.
pub fn revision(text: &str) -> Result<Revision, Status> {
    crate::http::query::parse_version(text).map(Revision::new)
}

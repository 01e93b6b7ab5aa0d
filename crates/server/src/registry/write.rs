//! Writing: create, and every kind of change.
//!
//! ```text
//! decode → default → (patch) → identify → convert to the stored version → mutating admission → prepare
//!        → validate → validating admission → commit ──conflict──▶ again from the newest state, a bounded number of times
//! ```
//!
//! A change that leaves the object as it was is not committed: the answer is the object with its old revision.

use std::sync::Arc;

use bytes::Bytes;
use xebec_api::structural::{self, Strictness};
use xebec_api::{Cause, FieldPath, Status, Value, fields, json, kinds, meta, object};
use xebec_store::{CommitError, Condition, Key, Op, Record, Revision, Snapshot, Txn};

use super::convert;
use super::delete;
use super::managed;
use super::status;
use super::strategy::Write;
use super::table::Served;
use super::unenforced;
use crate::admission::{self, Attributes, Operation};
use crate::core::{Context, Core};

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
    let generate = meta::name(&object).is_empty();
    let mut object = object;
    settle_namespace(&mut object, target)?;
    (served.row.kind.defaults)(&mut object, &served.version().name);
    structural::default(&mut object, served.version().root());
    let sent = convert::to_storage(object, served)?;
    for _ in 0..MAX_TRIES {
        let mut object = sent.clone();
        identify(core, context, &mut object, target)?;
        let attributes = Attributes::new(context, target, Operation::Create);
        admission::mutate(core, &attributes, &mut object, None).await?;
        let snapshot = core.store.snapshot();
        let mut write = Write { core, context, snapshot: &snapshot, old: None, txn: Txn::default() };
        prepare_new(&mut write, &mut object, served)?;
        if tracking == Tracking::ByChange {
            managed::track(context, target, &managed::blank(&object), &mut object);
        }
        let causes = validate_new(&object, served);
        refuse(causes, &object, served)?;
        admission::validate(core, &attributes, &object, None).await?;
        warn(context, target, &object, None);
        let key = served.row.key(meta::namespace(&object), meta::name(&object))?;
        let name = meta::name(&object).to_owned();
        let taken = || Status::already_exists(served.row.group(), served.row.resource(), &name);
        if write.snapshot.get(&key).is_some() {
            if generate {
                continue;
            }
            return Err(taken());
        }
        if context.query.dry_run()? {
            return written_dry(object, served, true);
        }
        let txn = write.txn.when(Condition::Absent(key.clone())).put(key.clone(), stored(&mut object));
        match core.store.commit(txn).await {
            Ok(committed) => return finish(core, served, &committed.events, &key, true),
            Err(CommitError::Conflict(conflict)) if *conflict.expected.key() == key && !generate => {
                return Err(taken());
            }
            Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(commit_status(&error)),
        }
    }
    Err(busy(served, meta::name(&sent)))
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
    let served = target.served;
    for _ in 0..MAX_TRIES {
        let snapshot = core.store.snapshot();
        let record = super::read::find(&snapshot, &served.row, target.namespace, target.name)?;
        let outcome = try_change(core, context, target, change, &snapshot, record).await?;
        match outcome {
            Outcome::Done(written) => return Ok(written),
            Outcome::Conflict if change.may_retry() => {}
            Outcome::Conflict => return Err(modified(target)),
        }
    }
    Err(busy(served, target.name))
}

enum Outcome {
    Done(Written),
    Conflict,
}

async fn try_change(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    change: &mut (dyn Change + '_),
    snapshot: &Snapshot,
    record: &Arc<Record>,
) -> Result<Outcome, Status> {
    let served = target.served;
    let old = convert::current(record, served)?;
    let mut new = change.apply(&convert::from_storage(old.clone(), served)?)?;
    check_version(change, &new, &old, target)?;
    settle_name(&mut new, target)?;
    settle_namespace(&mut new, target)?;
    (served.row.kind.defaults)(&mut new, &served.version().name);
    structural::default(&mut new, served.version().root());
    let mut new = convert::to_storage(new, served)?;
    let attributes = Attributes::new(context, target, Operation::Update);
    admission::mutate(core, &attributes, &mut new, Some(&old)).await?;
    let mut write = Write { core, context, snapshot, old: Some(&old), txn: Txn::default() };
    prepare_changed(&mut write, &mut new, target)?;
    if change.tracking() == Tracking::ByChange {
        managed::track(context, target, &old, &mut new);
    }
    fields::keep_times(&old, &mut new);
    let causes = validate_changed(&new, &old, target);
    refuse(causes, &new, served)?;
    admission::validate(core, &attributes, &new, Some(&old)).await?;
    warn(context, target, &new, Some(&old));
    if json::to_vec(&new) == record.as_slice() {
        return Ok(Outcome::Done(Written { bytes: convert::bytes(record, served)?, created: false }));
    }
    if context.query.dry_run()? {
        return written_dry(new, served, false).map(Outcome::Done);
    }
    let key = record.key().clone();
    let gone = delete::is_finished(&new, served);
    if gone {
        served.row.strategy.delete(&mut write)?;
    }
    let txn = write.txn.when(Condition::At(key.clone(), record.mod_revision()));
    let txn = if gone { txn.delete(key.clone()) } else { txn.put(key.clone(), stored(&mut new)) };
    match core.store.commit(txn).await {
        Ok(committed) => finish(core, served, &committed.events, &key, false).map(Outcome::Done),
        Err(CommitError::Conflict(_)) => Ok(Outcome::Conflict),
        Err(error) => Err(commit_status(&error)),
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

/// The object's namespace is the path's.
fn settle_namespace(object: &mut Value, target: Target<'_>) -> Result<(), Status> {
    if !target.served.row.def.is_namespaced() {
        return Ok(());
    }
    match meta::namespace(object) {
        "" => object.set(&["metadata", "namespace"], target.namespace),
        namespace if namespace == target.namespace => {}
        _ => {
            let text =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(text));
        }
    }
    Ok(())
}

/// The object's name is the path's.
fn settle_name(object: &mut Value, target: Target<'_>) -> Result<(), Status> {
    match meta::name(object) {
        "" => object.set(&["metadata", "name"], target.name),
        name if name == target.name => {}
        name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
    }
    Ok(())
}

/// Gives a new object what only the server may give.
fn identify(core: &Core, context: &Context, object: &mut Value, target: Target<'_>) -> Result<(), Status> {
    if !meta::resource_version(object).is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if meta::name(object).is_empty() {
        let base = object.str_at(&["metadata", "generateName"]).unwrap_or_default();
        if !base.is_empty() {
            let name = meta::generated_name(base, core.random()?);
            object.set(&["metadata", "name"], name);
        }
    }
    let metadata = object.make(&["metadata"]).make_object();
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid", core.new_uid()?);
    metadata.insert("creationTimestamp", context.now.to_string());
    if target.served.row.kind.generation {
        metadata.insert("generation", 1);
    }
    Ok(())
}

fn prepare_new(write: &mut Write<'_>, object: &mut Value, served: &Served) -> Result<(), Status> {
    meta::omit_empty(object);
    let kind = served.row.kind;
    if !kind.status_on_create && served.version().subresource("status").is_some() {
        object.make_object().remove("status");
    }
    (kind.prepare_create)(object);
    served.row.strategy.create(write, object)
}

fn validate_new(object: &Value, served: &Served) -> Vec<Cause> {
    let row = &served.row;
    let mut causes = meta::validate(object, row.def.is_namespaced(), row.kind.name);
    causes.extend(validate_shape(object, served));
    causes.extend((row.kind.validate)(object));
    causes
}

/// Value constraints of a custom resource's schema; built-in kinds have rules of their own instead.
fn validate_shape(object: &Value, served: &Served) -> Vec<Cause> {
    if strictness(served) == Strictness::BuiltIn {
        return Vec::new();
    }
    structural::validate(object, served.row.def.storage().root())
}

fn strictness(served: &Served) -> Strictness {
    if served.row.custom { Strictness::Custom } else { Strictness::BuiltIn }
}

/// Carries over from the old object what this write may not touch.
fn prepare_changed(write: &mut Write<'_>, new: &mut Value, target: Target<'_>) -> Result<(), Status> {
    let served = target.served;
    let Some(old) = write.old else { return Ok(()) };
    keep_system_fields(new, old);
    meta::omit_empty(new);
    let has_status = served.version().subresource("status").is_some();
    match target.part {
        Part::Main if has_status => keep(new, old, "status"),
        Part::Status => status::confine(new, old, &served.row),
        Part::Other(name) => confine(name, new, old),
        Part::Main | Part::Own(_) => {}
    }
    if served.row.kind.generation {
        count_generation(new, old, served);
    }
    if target.part == Part::Main {
        (served.row.kind.prepare_update)(new, old);
    }
    if target.part != Part::Status {
        served.row.strategy.update(write, new)?;
    }
    Ok(())
}

/// What a write through a subresource of the object's own kind may change: one field; all else stays as it was.
fn confine(subresource: &str, new: &mut Value, old: &Value) {
    let field: &[&str] = match subresource {
        "finalize" => &["spec", "finalizers"],
        "approval" => &["status", "conditions"],
        "ephemeralcontainers" => &["spec", "ephemeralContainers"],
        "resize" => &["spec", "containers"],
        _ => return,
    };
    let wanted = new.at(field).cloned();
    let managed = new.at(&["metadata", "managedFields"]).cloned();
    *new = old.clone();
    for (path, value) in [(field, wanted), (&["metadata", "managedFields"], managed)] {
        match value {
            Some(value) => new.set(path, value),
            None => {
                new.remove_at(path);
            }
        }
    }
}

/// What no client may change by an update, but may leave out.
fn keep_system_fields(new: &mut Value, old: &Value) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        match old.at(&["metadata", field]) {
            Some(value) => new.set(&["metadata", field], value.clone()),
            None => {
                new.remove_at(&["metadata", field]);
            }
        }
    }
    new.remove_at(&["metadata", "selfLink"]);
    new.set(&["metadata", "resourceVersion"], meta::resource_version(old));
}

fn keep(new: &mut Value, old: &Value, member: &str) {
    match old.get(member) {
        Some(value) => new.set(&[member], value.clone()),
        None => {
            new.make_object().remove(member);
        }
    }
}

/// The generation counts changes of what is wanted: everything but metadata and, if it is a subresource, the status.
fn count_generation(new: &mut Value, old: &Value, served: &Served) {
    let observed = served.version().subresource("status").is_some();
    let wanted = |object: &Value| {
        let mut object = object.clone();
        let map = object.make_object();
        map.remove("metadata");
        if observed {
            map.remove("status");
        }
        object
    };
    // Of a custom resource nobody knows that an absent field means zero.
    let same =
        if served.row.custom { wanted(new) == wanted(old) } else { means_same(&wanted(new), &wanted(old)) };
    if !same {
        let generation = old.i64_at(&["metadata", "generation"]).unwrap_or_default() + 1;
        new.set(&["metadata", "generation"], generation);
    }
}

/// Whether two trees of a built-in kind mean the same: what is zero or empty may as well be absent.
fn means_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let known = |name: &str| b.get(name).unwrap_or(&Value::Null);
            a.iter().all(|(name, value)| means_same(value, known(name)))
                && b.iter().all(|(name, value)| a.contains(name) || means_nothing(value))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| means_same(a, b))
        }
        _ => a == b || (means_nothing(a) && means_nothing(b)),
    }
}

fn means_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::Bool(true) | Value::Int(_) => false,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.iter().all(|(_, value)| means_nothing(value)),
    }
}

fn validate_changed(new: &Value, old: &Value, target: Target<'_>) -> Vec<Cause> {
    let row = &target.served.row;
    let mut causes = meta::validate_update(new, old, row.def.is_namespaced());
    causes.extend(validate_shape(new, target.served));
    match target.part {
        Part::Other("finalize") => {}
        Part::Other("approval") => causes.extend(kinds::validate_approval(new, old)),
        Part::Other("ephemeralcontainers") => causes.extend(kinds::validate_ephemeral_containers(new, old)),
        Part::Main | Part::Other(_) => causes.extend((row.kind.validate_update)(new, old)),
        Part::Status => causes.extend((row.kind.validate_status)(new, old)),
        Part::Own(_) => {}
    }
    causes
}

fn refuse(causes: Vec<Cause>, object: &Value, served: &Served) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(served.row.group(), served.row.kind_name(), meta::name(object), causes))
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

/// The object as the store keeps it: canonical, with a place for the revision.
pub(super) fn stored(object: &mut Value) -> xebec_store::Value {
    object.set(&["metadata", "resourceVersion"], "");
    let mut out = Vec::with_capacity(1024);
    let mut revision_at = 0;
    let empty = xebec_api::Map::new();
    write_members(object.as_object().unwrap_or(&empty), &mut out, |name, value, out| {
        let Some(metadata) = value.as_object().filter(|_| name == "metadata") else {
            json::write(value, out);
            return;
        };
        write_members(metadata, out, |name, value, out| {
            json::write(value, out);
            if name == "resourceVersion" {
                // Inside the quotes.
                revision_at = out.len() - 1;
            }
        });
    });
    xebec_store::Value::revised(out, revision_at)
}

fn write_members(
    map: &xebec_api::Map,
    out: &mut Vec<u8>,
    mut member: impl FnMut(&str, &Value, &mut Vec<u8>),
) {
    out.push(b'{');
    for (i, (name, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_str(name, out);
        out.push(b':');
        member(name, value, out);
    }
    out.push(b'}');
}

fn written_dry(object: Value, served: &Served, created: bool) -> Result<Written, Status> {
    let object = convert::from_storage(object, served)?;
    Ok(Written { bytes: json::to_vec(&object).into(), created })
}

/// What the commit made of the object; its other hooks run now.
pub(super) fn finish(
    core: &Core,
    served: &Served,
    events: &[Arc<xebec_store::Event>],
    key: &Key,
    created: bool,
) -> Result<Written, Status> {
    served.row.strategy.committed(core);
    let event = events.iter().find(|e| e.key() == key);
    let record = event.ok_or_else(|| Status::internal("the store lost the event of a commit"))?.record();
    Ok(Written { bytes: convert::bytes(record, served)?, created })
}

/// The answer when the store did not take a write.
pub(super) fn commit_status(error: &CommitError) -> Status {
    match error {
        CommitError::Conflict(conflict) => Status::new(
            xebec_api::Reason::Conflict,
            format!("{} was changed by somebody else", conflict.expected.key().as_str()),
        ),
        CommitError::Invalid(fault) => {
            Status::new(xebec_api::Reason::RequestEntityTooLarge, fault.to_string())
        }
        CommitError::Storage { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "the store cannot write");
            Status::new(xebec_api::Reason::ServiceUnavailable, error.to_string())
        }
        CommitError::Unanswered | CommitError::Closed => {
            Status::new(xebec_api::Reason::ServiceUnavailable, error.to_string())
        }
    }
}

/// A key that only one object may hold, such as an address: made with the object, gone with it.
#[must_use]
pub fn claim(txn: Txn, key: Key, owner: &Value) -> Txn {
    let holder = object!({"namespace": (meta::namespace(owner)), "name": (meta::name(owner)), "uid": (meta::uid(owner))});
    txn.when(Condition::Absent(key.clone())).put(key, xebec_store::Value::opaque(json::to_vec(&holder)))
}

/// Gives a claimed key back.
#[must_use]
pub fn release(mut txn: Txn, key: Key) -> Txn {
    txn.ops.push(Op::Delete(key));
    txn
}

/// The revision of a resource version's text.
///
/// # Errors
/// 400 for what is no number.
pub fn revision(text: &str) -> Result<Revision, Status> {
    crate::http::query::parse_version(text).map(Revision::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_may_as_well_be_absent() {
        let check = |a: Value, b: Value, same: bool| {
            assert_eq!((means_same(&a, &b), means_same(&b, &a)), (same, same), "{a:?} and {b:?}");
        };
        check(object!({"a": 1}), object!({"a": 1, "b": 0, "c": "", "d": [], "e": {"f": false}}), true);
        check(object!({"a": {"b": null}}), object!({}), true);
        check(object!({"a": [{"b": 0}, 1]}), object!({"a": [{}, 1]}), true);
        check(object!({"a": [{}]}), object!({}), false);
        check(object!({"a": 1}), object!({"a": 2}), false);
        check(object!({"a": true}), object!({}), false);
        check(object!({"a": [1, 2]}), object!({"a": [1]}), false);
        check(object!({"a": {"b": "c"}}), object!({"a": {}}), false);
    }

    #[test]
    fn the_revision_has_its_place() {
        let mut object = object!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "data": {"resourceVersion": ""},
            "metadata": {"name": "a", "uid": "u"}
        });
        let value = stored(&mut object);
        let at = value.revision_at.expect("a place");
        let text = std::str::from_utf8(&value.bytes).expect("JSON is UTF-8");
        assert_eq!(
            format!("{}7{}", &text[..at], &text[at..]),
            r#"{"apiVersion":"v1","data":{"resourceVersion":""},"kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"7","uid":"u"}}"#
        );
    }
}

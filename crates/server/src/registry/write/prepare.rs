//! What an object becomes before it is stored: whose it is, what the server alone sets, what a write may not touch, and
//! whether it is valid.

use xebec_api::structural::{self, Strictness};
use xebec_api::{Cause, FieldPath, Status, Value, kinds, meta};

use super::{Part, Target};
use crate::core::{Context, Core};
use crate::registry::strategy::Write;
use crate::registry::table::Served;
use crate::registry::{convert, status};

/// The object's namespace is the path's.
pub(super) fn settle_namespace(object: &mut Value, target: Target<'_>) -> Result<(), Status> {
    if !target.served.row.def.is_namespaced() {
        object.remove_at(&["metadata", "namespace"]);
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
pub(super) fn check_name(object: &Value, target: Target<'_>) -> Result<(), Status> {
    match meta::name(object) {
        name if name == target.name => Ok(()),
        "" => Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            target.name
        ))),
        name => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        ))),
    }
}

/// Gives a new object what only the server may give.
pub(super) fn identify(
    core: &Core,
    context: &Context,
    object: &mut Value,
    target: Target<'_>,
) -> Result<(), Status> {
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

pub(super) fn prepare_new(write: &mut Write<'_>, object: &mut Value, served: &Served) -> Result<(), Status> {
    let kind = served.row.kind;
    if !kind.status_on_create && served.version().subresource("status").is_some() {
        object.make_object().remove("status");
    }
    (kind.prepare_create)(object);
    served.row.strategy.create(write, object)?;
    convert::show_zeros(object, &served.row);
    Ok(())
}

/// What is wrong with an object, and what is worth a word.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) causes: Vec<Cause>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn validate_new(object: &Value, served: &Served) -> Verdict {
    let row = &served.row;
    let mut causes = meta::validate(object, row.def.is_namespaced(), row.kind.name);
    if strictness(served) == Strictness::Custom {
        causes.extend(structural::validate(object, served.working().root()));
    }
    if names_finalizers(served) {
        meta::validate_finalizer_names(object, &mut causes);
    }
    causes.extend((row.kind.validate)(object));
    causes.extend(row.strategy.faults(object, None));
    by_rules(causes, object, None, served)
}

/// Adds what the rules of a custom resource say. Some faults keep them from being evaluated: values are not what rules take
/// them for.
fn by_rules(mut causes: Vec<Cause>, object: &Value, old: Option<&Value>, served: &Served) -> Verdict {
    let version = served.working();
    let Some(rules) = &version.rules else { return Verdict { causes, ..Verdict::default() } };
    let blocks = |cause: &Cause| {
        use xebec_api::error::CauseKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(cause.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    };
    if causes.iter().any(blocks) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                   complete validation";
        causes.push(Cause::invalid(FieldPath::new("<nil>"), Value::Null, why));
        return Verdict { causes, ..Verdict::default() };
    }
    let found = rules.validate(object, old, version.root());
    causes.extend(found.causes);
    Verdict { causes, warnings: found.warnings }
}

/// Whether finalizers must say whose they are: not those of custom resources, of their definitions and of API services.
fn names_finalizers(served: &Served) -> bool {
    let row = &served.row;
    !row.custom && !matches!(row.group(), "apiextensions.k8s.io" | "apiregistration.k8s.io")
}

fn strictness(served: &Served) -> Strictness {
    if served.row.custom { Strictness::Custom } else { Strictness::BuiltIn }
}

/// Carries over from the old object what this write may not touch.
pub(super) fn prepare_changed(
    write: &mut Write<'_>,
    new: &mut Value,
    target: Target<'_>,
) -> Result<(), Status> {
    let served = target.served;
    let Some(old) = write.old else { return Ok(()) };
    keep_system_fields(new, old);
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
    match target.part {
        Part::Status => served.row.strategy.update_status(write, new)?,
        _ => served.row.strategy.update(write, new)?,
    }
    convert::show_zeros(new, &served.row);
    Ok(())
}

/// What a write through a subresource of the object's own kind may change: one field, and of the metadata who owns the
/// fields, or all that an update may change. All else stays as it was.
fn confine(subresource: &str, new: &mut Value, old: &Value) {
    const OWNERS: &[&str] = &["metadata", "managedFields"];
    const METADATA: &[&str] = &["metadata"];
    let passed: [&[&str]; 2] = match subresource {
        "finalize" => [&["spec", "finalizers"], METADATA],
        "approval" => [&["status", "conditions"], METADATA],
        "ephemeralcontainers" => [&["spec", "ephemeralContainers"], OWNERS],
        "resize" => [&["spec", "containers"], OWNERS],
        _ => return,
    };
    let mut wanted = std::mem::replace(new, old.clone());
    for path in passed {
        match wanted.remove_at(path) {
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
    let is_wanted = |name: &str| name != "metadata" && !(observed && name == "status");
    let wanted = |(name, _): &(&str, &Value)| is_wanted(name);
    let same = match (new.as_object(), old.as_object()) {
        (Some(new), Some(old)) => new.iter().filter(wanted).eq(old.iter().filter(wanted)),
        _ => false,
    };
    if !same {
        let generation = old.i64_at(&["metadata", "generation"]).unwrap_or_default() + 1;
        new.set(&["metadata", "generation"], generation);
    }
}

pub(super) fn validate_changed(new: &Value, old: &Value, target: Target<'_>) -> Verdict {
    let row = &target.served.row;
    let mut causes = meta::validate_update(new, old, row.def.is_namespaced());
    if strictness(target.served) == Strictness::Custom {
        causes.extend(structural::validate_change(new, old, target.served.working().root()));
    }
    if target.part == Part::Main && names_finalizers(target.served) {
        meta::validate_finalizer_names(new, &mut causes);
    }
    match target.part {
        Part::Other("finalize") => {}
        Part::Other("approval") => causes.extend(kinds::validate_approval(new, old)),
        Part::Other("ephemeralcontainers") => causes.extend(kinds::validate_ephemeral_containers(new, old)),
        Part::Main | Part::Other(_) => {
            causes.extend((row.kind.validate_update)(new, old));
            causes.extend(row.strategy.faults(new, Some(old)));
        }
        Part::Status => causes.extend((row.kind.validate_status)(new, old)),
        Part::Own(_) => {}
    }
    by_rules(causes, new, Some(old), target.served)
}

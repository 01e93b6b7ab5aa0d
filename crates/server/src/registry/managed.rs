//! Field management in the write path: who owns which fields (`metadata.managedFields`), and server-side apply.

use std::borrow::Cow;

use xebec_api::fields::{self, FieldSet, Filter, Force, Step, VersionShape, Versions, manager_name};
use xebec_api::schema::SchemaRef;
use xebec_api::{Status, Value, object};

use super::table::{Row, Served};
use super::write::{Part, Target};
use super::{convert, status};
use crate::core::Context;

/// An object of the same kind with nothing in it but what each one has: what a new object is compared with.
#[must_use]
pub fn blank(object: &Value, row: &Row) -> Value {
    let text = |field: &str| object.str_at(&[field]).unwrap_or_default().to_owned();
    let mut blank = object!({"apiVersion": (text("apiVersion")), "kind": (text("kind"))});
    convert::show_zeros(&mut blank, row);
    blank
}

/// Records in `new`, an object as it will be stored, which fields this write changed.
pub fn track(context: &Context, target: Target<'_>, old: &Value, new: &mut Value) {
    let manager = manager(context);
    let reset = reset_fields(target);
    let stored_version = stored_version(target.served);
    let about = fields::Target {
        schema: target.served.row.def.storage().root(),
        api_version: if target.served.row.custom { &target.served.api_version() } else { &stored_version },
        kind: target.served.row.kind_name(),
        subresource: target.part.name(),
        reset: &reset,
        manager: &manager,
        now: &context.now.to_string(),
    };
    if let Err(error) = fields::update(&about, old, new, &mut RowVersions { served: target.served }) {
        tracing::warn!(%error, resource = target.served.row.resource(), name = target.name, "owners of fields are lost");
    }
}

/// The manager that a request names, else the first part of its user agent.
fn manager(context: &Context) -> xebec_api::Key {
    manager_name(context.query.get("fieldManager").unwrap_or_default(), &context.agent)
}

fn stored_version(served: &Served) -> String {
    let def = &served.row.def;
    match &def.stored_as {
        Some(place) if place.group.is_empty() => def.storage().name.to_string(),
        Some(place) => format!("{}/{}", place.group, def.storage().name),
        None => def.api_version(&def.storage().name),
    }
}

/// What a write through a part of an object cannot own: the other parts.
fn reset_fields(target: Target<'_>) -> Vec<(Cow<'static, str>, Filter)> {
    let served = target.served;
    let has_status = served.version().subresource("status").is_some();
    let filter = match target.part {
        Part::Main if has_status => Some(Filter::Exclude(FieldSet::of(&[&["status"]]))),
        Part::Status if has_status => Some(Filter::Exclude(status::not_owned(&served.row))),
        Part::Other(name) => subresource_filter(name),
        Part::Main | Part::Status | Part::Own(_) => None,
    };
    let versions = served.row.def.versions.iter().map(|v| served.row.def.api_version(&v.name));
    let each = |filter: Filter| versions.map(move |version| (Cow::Owned(version), filter.clone())).collect();
    filter.map(each).unwrap_or_default()
}

/// What a write through a subresource other than the status can own.
fn subresource_filter(name: &str) -> Option<Filter> {
    let pattern = |path: &[&'static str]| {
        let step = |name: &&'static str| if *name == "*" { Step::Any } else { Step::Field((*name).into()) };
        path.iter().map(step).collect()
    };
    match name {
        "approval" => Some(Filter::Exclude(FieldSet::of(&[&["spec"], &["status", "certificate"]]))),
        "finalize" => Some(Filter::Exclude(FieldSet::of(&[&["status"]]))),
        "ephemeralcontainers" => Some(Filter::Include(vec![pattern(&["spec", "ephemeralContainers"])])),
        "resize" => Some(Filter::Include(vec![
            pattern(&["spec", "containers", "*", "resources"]),
            pattern(&["spec", "containers", "*", "resizePolicy"]),
            pattern(&["spec", "initContainers", "*", "resources"]),
            pattern(&["spec", "initContainers", "*", "resizePolicy"]),
        ])),
        _ => None,
    }
}

/// The object after `config` is applied to `live`, both in the version served. For a new object `live` is [`blank`].
///
/// # Errors
/// 409 with each conflict; 400 and 422 for a configuration that cannot be applied.
pub fn apply(context: &Context, target: Target<'_>, live: &Value, config: &Value) -> Result<Value, Status> {
    let force = if context.query.flag("force")? == Some(true) { Force::Yes } else { Force::No };
    let manager = manager(context);
    let reset = reset_fields(target);
    let about = fields::Target {
        schema: target.served.version().root(),
        api_version: &target.served.api_version(),
        kind: target.served.row.kind_name(),
        subresource: target.part.name(),
        reset: &reset,
        manager: &manager,
        now: &context.now.to_string(),
    };
    let applied = fields::apply(&about, live, config, force, &mut RowVersions { served: target.served });
    applied.map_err(Status::from)
}

/// The versions of a row, for managers that wrote in others.
struct RowVersions<'a> {
    served: &'a Served,
}

impl<'a> Versions<'a> for RowVersions<'a> {
    fn shape(&self, api_version: &str) -> VersionShape<'a> {
        let def = &self.served.row.def;
        let here = |version: &&xebec_api::resource::Version| def.api_version(&version.name) == api_version;
        let other: Option<SchemaRef<'a>> = def.versions.iter().find(here).map(|v| v.root());
        match other {
            None => VersionShape::Gone,
            Some(_) if self.served.row.custom || def.versions.len() == 1 => VersionShape::Same,
            Some(_) if api_version == self.served.api_version() => VersionShape::Same,
            Some(root) => VersionShape::Other(root),
        }
    }

    fn convert(&mut self, object: &Value, to: &str) -> Result<Value, Status> {
        xebec_api::convert::convert(object.clone(), self.served.row.kind_name(), to).map_err(Status::internal)
    }
}

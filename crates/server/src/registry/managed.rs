//! Field management in the write path: who owns which fields (`metadata.managedFields`), and server-side apply.

use std::borrow::Cow;

use xebec_api::fields::scale::SCALE_VERSION;
use xebec_api::fields::{
    self, FieldSet, Filter, Force, OneShape, Step, VersionShape, Versions, manager_name,
};
use xebec_api::schema::SchemaRef;
use xebec_api::{Status, Value, builtin, object};

use super::table::{Row, Served};
use super::write::{Change, Part, Target};
use super::{convert, status};
use crate::core::{Context, Core};

/// An object of the same kind with nothing in it but what each one has: what a new object is compared with.
#[must_use]
pub fn blank(object: &Value, row: &Row) -> Value {
    let text = |field: &str| object.str_at(&[field]).unwrap_or_default().to_owned();
    let mut blank = object!({"apiVersion": (text("apiVersion")), "kind": (text("kind"))});
    convert::show_zeros(&mut blank, row);
    blank
}

/// Records in `new`, an object in the version that writes work in, which fields this write changed.
///
/// # Errors
/// 500: the object cannot be converted to a version that a manager wrote in.
pub async fn track(
    core: &Core,
    context: &Context,
    target: Target<'_>,
    old: &Value,
    new: &mut Value,
) -> Result<(), Status> {
    let mut known = Known::default();
    if target.served.row.converter.is_none() {
        record(context, target, old, new, &mut known);
        return Ok(());
    }
    loop {
        let mut tracked = new.clone();
        record(context, target, old, &mut tracked, &mut known);
        if !known.fetch(core, target.served).await? {
            *new = tracked;
            return Ok(());
        }
    }
}

fn record(context: &Context, target: Target<'_>, old: &Value, new: &mut Value, known: &mut Known) {
    let manager = manager(context);
    let reset = reset_fields(target);
    let stored_version = stored_version(target.served);
    let about = fields::Target {
        schema: target.served.working().root(),
        api_version: if target.served.row.custom { &target.served.api_version() } else { &stored_version },
        kind: target.served.row.kind_name(),
        subresource: target.part.name(),
        reset: &reset,
        manager: &manager,
        now: &context.now.to_string(),
    };
    let outcome = fields::update(&about, old, new, &mut RowVersions { served: target.served, known });
    if let Err(error) = outcome.map_err(|error| error.to_string())
        && known.missing.is_empty()
    {
        tracing::warn!(%error, resource = target.served.row.resource(), name = target.name, "owners of fields are lost");
    }
}

/// The object after a change, in the version served as `old` is.
///
/// # Errors
/// The change does not apply; 500: the object cannot be converted to a version that a manager wrote in.
pub async fn apply_change(
    core: &Core,
    served: &Served,
    change: &mut (dyn Change + '_),
    old: &Value,
) -> Result<Value, Status> {
    let mut known = Known::default();
    loop {
        let outcome = change.apply_among(old, &mut known);
        if !known.fetch(core, served).await? {
            return outcome;
        }
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
pub fn apply(
    context: &Context,
    target: Target<'_>,
    live: &Value,
    config: &Value,
    known: &mut Known,
) -> Result<Value, Status> {
    let force = if context.query.flag("force") == Some(true) { Force::Yes } else { Force::No };
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
    let mut versions = RowVersions { served: target.served, known };
    let applied = fields::apply(&about, live, config, force, &mut versions);
    applied.map_err(Status::from)
}

/// The `Scale` after `config` is applied to `live`, whose `managedFields` are those of the number of replicas.
///
/// # Errors
/// As [`apply`].
pub fn apply_scale(context: &Context, live: &Value, config: &Value) -> Result<Value, Status> {
    let force = if context.query.flag("force") == Some(true) { Force::Yes } else { Force::No };
    let schema = builtin::schema();
    let node =
        builtin::kind("autoscaling", "v1", "Scale").ok_or_else(|| Status::internal("no type Scale"))?;
    let manager = manager(context);
    let about = fields::Target {
        schema: schema.at(node),
        api_version: SCALE_VERSION,
        kind: "Scale",
        subresource: "scale",
        reset: &[],
        manager: &manager,
        now: &context.now.to_string(),
    };
    fields::apply(&about, live, config, force, &mut OneShape(&[SCALE_VERSION])).map_err(Status::from)
}

/// Objects in other versions, which field management asks for.
///
/// It is synchronous, and a conversion may be a call: what is not known here is named, had converted, and the whole done again.
#[derive(Debug, Default)]
pub struct Known {
    converted: Vec<(Value, String, Value)>,
    missing: Vec<(Value, String)>,
    rounds: usize,
}

/// How often it is done again: each time something more is known.
const MAX_ROUNDS: usize = 64;

impl Known {
    fn find(&mut self, object: &Value, to: &str) -> Result<Value, Status> {
        let known = self.converted.iter().find(|(from, version, _)| version == to && from == object);
        if let Some((_, _, converted)) = known {
            return Ok(converted.clone());
        }
        self.missing.push((object.clone(), to.to_owned()));
        Err(Status::internal(format_args!("the object in {to} is not known yet")))
    }

    /// Has converted what was missing; whether there was something.
    async fn fetch(&mut self, core: &Core, served: &Served) -> Result<bool, Status> {
        let missing = std::mem::take(&mut self.missing);
        if missing.is_empty() {
            return Ok(false);
        }
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            let text = format!(
                "the owners of fields are in more versions than {MAX_ROUNDS} conversions can tell apart"
            );
            return Err(Status::internal(text));
        }
        for (object, to) in missing {
            let Some(converter) = &served.row.converter else { continue };
            let converted = converter.convert_one(core, &served.row, object.clone(), &to).await?;
            self.converted.push((object, to, converted));
        }
        Ok(true)
    }
}

/// The versions of a row, for managers that wrote in others.
struct RowVersions<'a, 'k> {
    served: &'a Served,
    known: &'k mut Known,
}

impl<'a> Versions<'a> for RowVersions<'a, '_> {
    fn shape(&self, api_version: &str) -> VersionShape<'a> {
        let row = &self.served.row;
        let here =
            |version: &&xebec_api::resource::Version| row.def.api_version(&version.name) == api_version;
        let other: Option<SchemaRef<'a>> = row.def.versions.iter().find(here).map(|v| v.root());
        let same = row.def.versions.len() == 1 || (row.custom && row.converter.is_none());
        match other {
            None => VersionShape::Gone,
            Some(_) if same || api_version == self.served.api_version() => VersionShape::Same,
            Some(root) => VersionShape::Other(root),
        }
    }

    fn convert(&mut self, object: &Value, to: &str) -> Result<Value, Status> {
        if self.served.row.converter.is_some() {
            return self.known.find(object, to);
        }
        xebec_api::convert::convert(object.clone(), self.served.row.kind_name(), to).map_err(Status::internal)
    }
}

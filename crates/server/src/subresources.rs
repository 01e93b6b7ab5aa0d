//! Subresources that speak a kind of their own: scale, binding, eviction, token.

use xebec_api::fields::{self, scale::ReplicasPaths};
use xebec_api::resource::ScalePaths;
use xebec_api::{Cause, FieldPath, Status, Value, meta, object};

use crate::core::Core;
use crate::http::body;
use crate::http::reply::Reply;
use crate::http::route::{Target, Verb};
use crate::registry::patch::{Patch, PatchKind};
use crate::registry::special::{self, read_kind};
use crate::registry::table::Served;
use crate::registry::write::{self, Change, Part, Tracking};
use crate::registry::{convert, read};
use crate::serve::{Incoming, content_type};

/// Does what a request on a subresource asks for.
///
/// # Errors
/// The answer to a request that failed.
pub(crate) async fn handle(
    core: &Core,
    incoming: &mut Incoming,
    verb: Verb,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    match (target.subresource.as_str(), verb) {
        ("scale", _) => scale(core, incoming, verb, target, served).await,
        ("binding", Verb::Create) => special::bind(core, incoming, target).await,
        ("eviction", Verb::Create) => special::evict(core, incoming, target).await,
        ("token", Verb::Create) => special::request_token(core, incoming, target, served).await,
        _ => {
            let name = format!("{}/{}", target.resource, target.subresource);
            Err(Status::method_not_allowed(&target.group, &name, verb.as_str()))
        }
    }
}

async fn scale(
    core: &Core,
    incoming: &mut Incoming,
    verb: Verb,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let paths = served.version().subresource("scale").and_then(|s| s.scale.clone());
    let paths = paths.ok_or_else(Status::no_such_path)?;
    let namespace = if served.row.def.is_namespaced() { target.namespace.as_str() } else { "" };
    let about = write::Target { served, namespace, name: &target.name, part: Part::Other("scale") };
    let mut change = match verb {
        Verb::Get => {
            let snapshot = core.newest().await?;
            let record = read::find(&snapshot, &served.row, namespace, &target.name)?;
            return Ok(Reply::ok(to_scale(&convert::object(core, record, served).await?, &paths)));
        }
        Verb::Update => {
            let wanted = read_kind(incoming, "autoscaling", "v1", "Scale").await?;
            Rescale { paths: &paths, served, wanted: Wanted::Scale(wanted) }
        }
        _ => {
            let kind = PatchKind::from_content_type(content_type(incoming.request.headers()), served)?;
            let bytes = body::read(std::mem::take(incoming.request.body_mut())).await?;
            let patch = Patch::read_scale(kind, &bytes, &incoming.context)?;
            Rescale { paths: &paths, served, wanted: Wanted::Patch(Box::new(patch)) }
        }
    };
    let written = write::change(core, &incoming.context, about, &mut change).await?;
    let object = xebec_api::json::from_slice(&written.bytes).map_err(Status::internal)?;
    Ok(Reply::ok(to_scale(&object, &paths)))
}

pub(crate) fn split(path: &str) -> Vec<&str> {
    path.split('.').filter(|s| !s.is_empty()).collect()
}

/// The `Scale` (autoscaling/v1) of an object.
pub(crate) fn to_scale(object: &Value, paths: &ScalePaths) -> Value {
    let mut metadata = Value::object();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            metadata.set(&[field], value.clone());
        }
    }
    let count = |path: &str| object.i64_at(&split(path)).unwrap_or(0);
    let mut scale = object!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": (metadata),
        "spec": {"replicas": (count(&paths.spec_replicas))},
        "status": {"replicas": (count(&paths.status_replicas))}
    });
    let selector = match object.at(&split(&paths.selector)) {
        Some(Value::String(text)) => Some(text.to_string()),
        Some(selector @ Value::Object(map)) if !paths.selector.is_empty() => {
            // A plain map of labels (ReplicationController) or a LabelSelector.
            let labels = map.contains("matchLabels") || map.contains("matchExpressions");
            let whole = if labels { selector.clone() } else { object!({"matchLabels": (selector.clone())}) };
            let parsed = xebec_api::selector::Selector::from_object(&whole, &FieldPath::root());
            parsed.ok().map(|s| s.to_string())
        }
        _ => None,
    };
    if let Some(selector) = selector {
        scale.set(&["status", "selector"], selector);
    }
    scale
}

enum Wanted<'a> {
    Scale(Value),
    Patch(Box<Patch<'a>>),
}

struct Rescale<'a> {
    paths: &'a ScalePaths,
    served: &'a Served,
    wanted: Wanted<'a>,
}

impl Change for Rescale<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let mut before = to_scale(old, self.paths);
        let is_applied = self.is_applied();
        if is_applied {
            let entries = with_paths(self.served, |paths| fields::scale::to_scale(managed(old), paths));
            set_managed(&mut before, entries.map_err(Status::internal)?);
        }
        let scale = match &mut self.wanted {
            Wanted::Scale(scale) => scale.clone(),
            Wanted::Patch(patch) => patch.apply(&before)?,
        };
        let replicas = scale.i64_at(&["spec", "replicas"]).unwrap_or(0);
        if replicas < 0 {
            let detail = "must be greater than or equal to 0";
            let cause = Cause::invalid(FieldPath::new("spec.replicas"), replicas, detail);
            return Err(Status::invalid("autoscaling", "Scale", meta::name(old), vec![cause]));
        }
        let mut new = old.clone();
        new.set(&split(&self.paths.spec_replicas), replicas);
        let version = meta::resource_version(&scale).to_owned();
        new.set(&["metadata", "resourceVersion"], version);
        if is_applied {
            let entries = with_paths(self.served, |paths| {
                fields::scale::to_parent(managed(old), managed(&scale), paths)
            });
            set_managed(&mut new, entries.map_err(Status::internal)?);
        }
        Ok(new)
    }

    fn tracking(&self) -> Tracking {
        if self.is_applied() { Tracking::Applied } else { Tracking::ByChange }
    }

    fn may_retry(&self) -> bool {
        match &self.wanted {
            Wanted::Scale(scale) => meta::resource_version(scale).is_empty(),
            Wanted::Patch(patch) => patch.may_retry(),
        }
    }
}

impl Rescale<'_> {
    fn is_applied(&self) -> bool {
        matches!(&self.wanted, Wanted::Patch(patch) if patch.is_apply())
    }
}

fn managed(object: &Value) -> Option<&Value> {
    object.at(&["metadata", "managedFields"])
}

fn set_managed(object: &mut Value, entries: Option<Value>) {
    match entries {
        Some(entries) => object.set(&["metadata", "managedFields"], entries),
        None => {
            object.remove_at(&["metadata", "managedFields"]);
        }
    }
}

/// Does something that needs to know where the number of replicas stands in each version of a resource.
fn with_paths<T>(served: &Served, work: impl FnOnce(ReplicasPaths<'_>) -> T) -> T {
    let def = &served.row.def;
    let versions: Vec<(String, Option<Vec<&str>>)> = def
        .versions
        .iter()
        .map(|version| {
            let scale = version.subresource("scale").and_then(|below| below.scale.as_ref());
            (def.api_version(&version.name), scale.map(|scale| split(&scale.spec_replicas)))
        })
        .collect();
    let by_version: Vec<(&str, Option<&[&str]>)> =
        versions.iter().map(|(version, path)| (version.as_str(), path.as_deref())).collect();
    work(ReplicasPaths { by_version: &by_version, api_version: &served.api_version() })
}

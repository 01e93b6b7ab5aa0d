//! Subresources that speak a kind of their own: scale, binding, eviction, token.

use std::time::Duration;

use http::StatusCode;
use xebec_api::resource::ScalePaths;
use xebec_api::{Cause, FieldPath, Status, Value, meta, object};

use crate::auth::token::{BoundKind, BoundObject, Claims};
use crate::core::Core;
use crate::http::body;
use crate::http::reply::Reply;
use crate::http::route::{Target, Verb};
use crate::registry::patch::{Patch, PatchKind};
use crate::registry::special::{self, read_kind};
use crate::registry::table::Served;
use crate::registry::write::{self, Change, Part};
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
        ("token", Verb::Create) => token(core, incoming, target, served).await,
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
            let snapshot = core.store.snapshot();
            let record = read::find(&snapshot, &served.row, namespace, &target.name)?;
            return Ok(Reply::ok(to_scale(&convert::object(record, served)?, &paths)));
        }
        Verb::Update => {
            let wanted = read_kind(incoming, "autoscaling", "v1", "Scale").await?;
            Rescale { paths: &paths, wanted: Wanted::Scale(wanted) }
        }
        _ => {
            let kind = PatchKind::from_content_type(content_type(incoming.request.headers()), served)?;
            let bytes = body::read(std::mem::take(incoming.request.body_mut())).await?;
            let patch = Patch::read_scale(kind, &bytes, &incoming.context)?;
            Rescale { paths: &paths, wanted: Wanted::Patch(Box::new(patch)) }
        }
    };
    let written = write::change(core, &incoming.context, about, &mut change).await?;
    let object = xebec_api::json::from_slice(&written.bytes).map_err(Status::internal)?;
    Ok(Reply::ok(to_scale(&object, &paths)))
}

fn split(path: &str) -> Vec<&str> {
    path.split('.').filter(|s| !s.is_empty()).collect()
}

/// The `Scale` (autoscaling/v1) of an object.
fn to_scale(object: &Value, paths: &ScalePaths) -> Value {
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
    wanted: Wanted<'a>,
}

impl Change for Rescale<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let scale = match &mut self.wanted {
            Wanted::Scale(scale) => scale.clone(),
            Wanted::Patch(patch) => patch.apply(&to_scale(old, self.paths))?,
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
        Ok(new)
    }

    fn may_retry(&self) -> bool {
        match &self.wanted {
            Wanted::Scale(scale) => meta::resource_version(scale).is_empty(),
            Wanted::Patch(patch) => patch.may_retry(),
        }
    }
}

const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

/// POST of a `TokenRequest` (authentication.k8s.io/v1).
async fn token(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let mut request = read_kind(incoming, "authentication.k8s.io", "v1", "TokenRequest").await?;
    let snapshot = core.store.snapshot();
    let record = read::find(&snapshot, &served.row, &target.namespace, &target.name)?;
    let account = convert::stored_object(record)?;
    let default_seconds = i64::try_from(core.settings.token_lifetime.as_secs()).unwrap_or(3600);
    let seconds = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or(default_seconds);
    let path = FieldPath::new("spec.expirationSeconds");
    let fault = match seconds {
        ..MIN_TOKEN_SECONDS => Some("may not specify a duration less than 10 minutes"),
        _ if seconds > MAX_TOKEN_SECONDS => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let Some(detail) = fault {
        let cause = Cause::invalid(path, seconds, detail);
        return Err(Status::invalid(&target.group, "TokenRequest", "", vec![cause]));
    }
    let longest = i64::try_from(core.settings.max_token_lifetime.as_secs()).unwrap_or(i64::MAX);
    if seconds > longest {
        let text = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
        incoming.context.warn(text);
    }
    let seconds = seconds.min(longest);
    let mut audiences: Vec<String> = request
        .array_at(&["spec", "audiences"])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(core.settings.issuer.clone());
    }
    let (bound, node) = bound_object(core, target, &request)?;
    let issued = incoming.context.now;
    let expires = issued.after(Duration::from_secs(seconds.unsigned_abs()));
    let claims = Claims {
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        uid: meta::uid(&account).to_owned(),
        bound,
        node,
        audiences: audiences.clone(),
        issued,
        expires,
        id: core.new_uid()?,
    };
    let signed = core.tokens.sign(&claims).map_err(|_| Status::internal("the token cannot be signed"))?;
    request.set(&["spec", "audiences"], audiences);
    request.set(&["spec", "expirationSeconds"], seconds);
    request.set(&["status"], object!({"token": (signed), "expirationTimestamp": (expires.to_string())}));
    Ok(Reply::Document(StatusCode::CREATED, request))
}

type Binding = (Option<BoundObject>, Option<(String, String)>);

/// The object that the token is to be bound to; of a pod also its node.
fn bound_object(core: &Core, target: &Target, request: &Value) -> Result<Binding, Status> {
    let Some(reference) = request.at(&["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else {
        return Ok((None, None));
    };
    let text = |field: &str| reference.str_at(&[field]).unwrap_or_default();
    let (kind, resource, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => (BoundKind::Pod, "pods", target.namespace.as_str()),
        ("v1", "Secret") => (BoundKind::Secret, "secrets", target.namespace.as_str()),
        ("v1", "Node") => (BoundKind::Node, "nodes", ""),
        (version, kind) => {
            let text = format!("cannot bind token to object of type {version}, Kind={kind}");
            return Err(Status::bad_request(text));
        }
    };
    let table = core.table.get();
    let row = table.row("", resource).ok_or_else(Status::no_such_path)?;
    let snapshot = core.store.snapshot();
    let object = convert::stored_object(read::find(&snapshot, row, namespace, text("name"))?)?;
    let uid = meta::uid(&object);
    if !text("uid").is_empty() && text("uid") != uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Status::conflict("", resource, text("name"), why));
    }
    if kind == BoundKind::Pod && object.str_at(&["spec", "serviceAccountName"]) != Some(&target.name) {
        let text = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            target.name
        );
        return Err(Status::bad_request(text));
    }
    let node = (kind == BoundKind::Pod)
        .then(|| object.str_at(&["spec", "nodeName"]))
        .flatten()
        .filter(|n| !n.is_empty());
    let node = node.map(|name| {
        let record =
            table.row("", "nodes").and_then(|row| read::find(&snapshot, row, "", name).ok().cloned());
        let uid = record.and_then(|r| convert::stored_object(&r).ok()).map(|n| meta::uid(&n).to_owned());
        (name.to_owned(), uid.unwrap_or_default())
    });
    Ok((Some(BoundObject { kind, name: text("name").to_owned(), uid: uid.to_owned() }), node))
}

//! Pods: how long they may take to end, binding them to a node.

use http::StatusCode;
use xebec_api::structural::Strictness;
use xebec_api::{Cause, FieldPath, Map, Status, Value, builtin, meta, object};

use crate::admission;
use crate::core::{Context, Core};
use crate::http::body::{self, Format};
use crate::http::reply::Reply;
use crate::http::route::Target;
use crate::registry::decode::{self, Expected};
use crate::registry::strategy::Strategy;
use crate::registry::table::Served;
use crate::registry::write::{self, Change, Part};
use crate::serve::{Incoming, content_type};

#[derive(Debug)]
pub(super) struct Pods;

impl Strategy for Pods {
    /// A pod that runs nowhere, or has ended, goes at once.
    fn grace(&self, pod: &Value, wanted: Option<i64>) -> Option<i64> {
        let scheduled = !pod.str_at(&["spec", "nodeName"]).unwrap_or_default().is_empty();
        let ended = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
        if !scheduled || ended {
            return Some(0);
        }
        wanted.or_else(|| pod.i64_at(&["spec", "terminationGracePeriodSeconds"])).or(Some(30))
    }
}

/// Reads a body of a kind of the built-in types.
pub(crate) async fn read_kind(
    incoming: &mut Incoming,
    group: &str,
    version: &str,
    kind: &str,
) -> Result<Value, Status> {
    let format = Format::from_content_type(content_type(incoming.request.headers()))?;
    let bytes = body::read(std::mem::take(incoming.request.body_mut())).await?;
    let schema = builtin::schema();
    let node = builtin::kind(group, version, kind)
        .ok_or_else(|| Status::internal(format_args!("no type {kind}")))?;
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let expected = Expected {
        api_version: &api_version,
        kind,
        schema: schema.at(node),
        strictness: Strictness::BuiltIn,
    };
    decode::body(&bytes, format, &expected, &incoming.context)
}

/// POST of a `Binding` to `bindings`: the pod is the one it is named after.
pub(super) async fn bind_by_name(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
) -> Result<Reply, Status> {
    let binding = read_kind(incoming, "", "v1", "Binding").await?;
    let pod = Target {
        resource: "pods".into(),
        name: meta::name(&binding).to_owned(),
        subresource: "binding".into(),
        ..target.clone()
    };
    bind_to(core, &incoming.context, &pod, binding).await
}

/// POST of a `Binding` to a pod.
pub(crate) async fn bind(core: &Core, incoming: &mut Incoming, target: &Target) -> Result<Reply, Status> {
    let binding = read_kind(incoming, "", "v1", "Binding").await?;
    bind_to(core, &incoming.context, target, binding).await
}

async fn bind_to(
    core: &Core,
    context: &Context,
    target: &Target,
    mut binding: Value,
) -> Result<Reply, Status> {
    let served = pods(core)?;
    admission::posted(core, context, &served, target, &mut binding).await?;
    let node = binding.str_at(&["target", "name"]).unwrap_or_default();
    if node.is_empty() {
        let cause = Cause::required(FieldPath::new("target.name"), "");
        return Err(Status::invalid("", "Binding", &target.name, vec![cause]));
    }
    let mut bind = Bind { node, binding: &binding, name: &target.name, now: context.now.to_string() };
    let about = write::Target {
        served: &served,
        namespace: &target.namespace,
        name: &target.name,
        part: Part::Own("binding"),
    };
    write::change(core, context, about, &mut bind).await?;
    Ok(Reply::Document(
        StatusCode::CREATED,
        object!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

struct Bind<'a> {
    node: &'a str,
    binding: &'a Value,
    name: &'a str,
    now: String,
}

impl Change for Bind<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let conflict = |why: String| Err(Status::conflict("", "pods/binding", self.name, why));
        let uid = meta::uid(self.binding);
        if !uid.is_empty() && uid != meta::uid(old) {
            return conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(old)
            ));
        }
        if meta::is_deleting(old) {
            return conflict(format!("pod {} is being deleted, cannot be assigned to a host", self.name));
        }
        if let Some(node) = old.str_at(&["spec", "nodeName"]).filter(|n| !n.is_empty()) {
            return conflict(format!("pod {} is already assigned to node {node:?}", self.name));
        }
        if !old.array_at(&["spec", "schedulingGates"]).is_empty() {
            return conflict(format!("pod {} has non-empty .spec.schedulingGates", self.name));
        }
        let mut new = old.clone();
        new.set(&["spec", "nodeName"], self.node);
        new.remove_at(&["status", "nominatedNodeName"]);
        // What the binding says of itself holds for the pod from now on.
        for map in ["annotations", "labels"] {
            for (key, value) in self.binding.object_at(&["metadata", map]).into_iter().flat_map(Map::iter) {
                new.set(&["metadata", map, key], value.clone());
            }
        }
        let scheduled = object!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": (self.now.as_str())
        });
        set_condition(&mut new, scheduled);
        Ok(new)
    }

    fn expects(&self, _: &Value) -> String {
        String::new()
    }

    fn may_retry(&self) -> bool {
        true
    }
}

/// Puts a condition in the place of the one of its type.
pub(crate) fn set_condition(object: &mut Value, condition: Value) {
    let list = object.make(&["status", "conditions"]);
    if list.as_array().is_none() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    let same = |c: &&mut Value| c.str_at(&["type"]) == condition.str_at(&["type"]);
    match list.iter_mut().find(same) {
        Some(old) if old.str_at(&["status"]) == condition.str_at(&["status"]) => {
            let since = old.at(&["lastTransitionTime"]).cloned();
            *old = condition;
            if let Some(since) = since {
                old.set(&["lastTransitionTime"], since);
            }
        }
        Some(old) => *old = condition,
        None => list.push(condition),
    }
}

pub(super) fn pods(core: &Core) -> Result<Served, Status> {
    core.table.get().served("", "v1", "pods")
}

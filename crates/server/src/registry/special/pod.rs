//! Pods: how long they may take to end, binding them to a node, evicting them.

use http::StatusCode;
use xebec_api::selector::Selector;
use xebec_api::structural::Strictness;
use xebec_api::{Cause, FieldPath, Reason, Status, Value, builtin, meta, object};

use crate::core::{Context, Core};
use crate::http::body::{self, Format};
use crate::http::reply::Reply;
use crate::http::route::Target;
use crate::registry::convert;
use crate::registry::decode::{self, Expected};
use crate::registry::delete::{self, Options};
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
    let pod = Target { resource: "pods".into(), name: meta::name(&binding).to_owned(), ..target.clone() };
    bind_to(core, &incoming.context, &pod, &binding).await
}

/// POST of a `Binding` to a pod.
pub(crate) async fn bind(core: &Core, incoming: &mut Incoming, target: &Target) -> Result<Reply, Status> {
    let binding = read_kind(incoming, "", "v1", "Binding").await?;
    bind_to(core, &incoming.context, target, &binding).await
}

async fn bind_to(core: &Core, context: &Context, target: &Target, binding: &Value) -> Result<Reply, Status> {
    let served = pods(core)?;
    let node = binding.str_at(&["target", "name"]).unwrap_or_default();
    if node.is_empty() {
        let cause = Cause::required(FieldPath::new("target.name"), "");
        return Err(Status::invalid("", "Binding", &target.name, vec![cause]));
    }
    let mut bind = Bind { node, uid: meta::uid(binding), name: &target.name, now: context.now.to_string() };
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
    uid: &'a str,
    name: &'a str,
    now: String,
}

impl Change for Bind<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let conflict = |why: String| Err(Status::conflict("", "pods/binding", self.name, why));
        if !self.uid.is_empty() && self.uid != meta::uid(old) {
            return conflict(format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                self.uid,
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

fn pods(core: &Core) -> Result<Served, Status> {
    core.table.get().served("", "v1", "pods")
}

/// POST of an `Eviction`: a deletion that a disruption budget may hold back.
pub(crate) async fn evict(core: &Core, incoming: &mut Incoming, target: &Target) -> Result<Reply, Status> {
    let eviction = read_kind(incoming, "policy", "v1", "Eviction").await?;
    let options = Options::read(eviction.get("deleteOptions"), &incoming.context)?;
    let served = pods(core)?;
    let snapshot = core.store.snapshot();
    let record = crate::registry::read::find(&snapshot, &served.row, &target.namespace, &target.name)?;
    let pod = convert::stored_object(record)?;
    let ended = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed" | "Pending"));
    if !ended && !meta::is_deleting(&pod) {
        spend_budget(core, &incoming.context, &pod, options.dry_run).await?;
    }
    let about =
        write::Target { served: &served, namespace: &target.namespace, name: &target.name, part: Part::Main };
    delete::delete(core, &incoming.context, about, &options).await?;
    Ok(Reply::Document(
        StatusCode::CREATED,
        object!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// Takes one disruption from the budget that covers the pod; with `dry_run` it is only looked whether there is one left.
async fn spend_budget(core: &Core, context: &Context, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let namespace = meta::namespace(pod);
    let served = core.table.get().served("policy", "v1", "poddisruptionbudgets")?;
    let snapshot = core.store.snapshot();
    let mut covering = Vec::new();
    for record in snapshot.range(&served.row.prefix(namespace)?, None) {
        let budget = convert::stored_object(record)?;
        if covers(&budget, pod) {
            covering.push(budget);
        }
    }
    match covering.as_slice() {
        [] => Ok(()),
        [budget] if needs_none(budget, pod) => Ok(()),
        [budget] => {
            let mut spend = Spend { pod: meta::name(pod), now: context.now.to_string() };
            if dry_run {
                return spend.apply(budget).map(drop);
            }
            let name = meta::name(budget);
            let about = write::Target { served: &served, namespace, name, part: Part::Status };
            write::change(core, context, about, &mut spend).await.map(|_| ())
        }
        _ => Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
    }
}

/// Whether a budget is about a pod: an empty selector is about all pods (policy/v1), none or an unreadable one about none.
fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = budget.at(&["spec", "selector"]).filter(|selector| !selector.is_null());
    let selector = selector.map(|selector| Selector::from_object(selector, &FieldPath::new("spec.selector")));
    selector.and_then(Result::ok).is_some_and(|selector| selector.matches_labels(meta::labels(pod)))
}

/// Whether a pod that is not ready may go although it is covered: it is not among those that the budget counts.
fn needs_none(budget: &Value, pod: &Value) -> bool {
    let conditions = pod.array_at(&["status", "conditions"]).iter();
    let ready = |c: &Value| c.str_at(&["type"]) == Some("Ready") && c.str_at(&["status"]) == Some("True");
    if conditions.into_iter().any(ready) {
        return false;
    }
    let count = |field: &str| budget.i64_at(&["status", field]).unwrap_or(0);
    let enough = count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy");
    budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow")
        || (observed(budget) && enough)
}

/// Whether the status of a budget is about its present specification.
fn observed(budget: &Value) -> bool {
    let generation = budget.i64_at(&["metadata", "generation"]).unwrap_or(0);
    budget.i64_at(&["status", "observedGeneration"]).unwrap_or(0) >= generation
}

/// How many evicted pods a budget remembers whose end has not been seen.
const MAX_DISRUPTED: usize = 2000;

struct Spend<'a> {
    pod: &'a str,
    now: String,
}

impl Spend<'_> {
    /// 429: there is no disruption left, for a reason that may pass.
    fn refuse(why: String) -> Status {
        let text = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut status = Status::new(Reason::TooManyRequests, text);
        let details = xebec_api::error::Details {
            retry_after_seconds: Some(10),
            causes: vec![Cause::disruption_budget(why)],
            ..Default::default()
        };
        status.details = Some(Box::new(details));
        status
    }
}

impl Change for Spend<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let name = meta::name(old);
        if !observed(old) {
            let why = format!("The disruption budget {name} is still being processed by the server.");
            return Err(Self::refuse(why));
        }
        let count = |field: &str| old.i64_at(&["status", field]).unwrap_or(0);
        let allowed = count("disruptionsAllowed");
        if allowed <= 0 {
            let (needed, healthy) = (count("desiredHealthy"), count("currentHealthy"));
            let why = format!(
                "The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
            );
            return Err(Self::refuse(why));
        }
        let disrupted = old.object_at(&["status", "disruptedPods"]).map_or(0, xebec_api::Map::len);
        if disrupted >= MAX_DISRUPTED {
            let why =
                format!("{MAX_DISRUPTED} evicted pods of {name} have not ended yet, which is the limit");
            return Err(Status::forbidden("policy", "poddisruptionbudgets", name, why));
        }
        let mut new = old.clone();
        new.set(&["status", "disruptionsAllowed"], allowed - 1);
        new.set(&["status", "disruptedPods", self.pod], self.now.as_str());
        if allowed == 1 {
            let generation = old.at(&["status", "observedGeneration"]).cloned().unwrap_or_default();
            let insufficient = object!({
                "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
                "observedGeneration": (generation), "lastTransitionTime": (self.now.as_str())
            });
            set_condition(&mut new, insufficient);
        }
        Ok(new)
    }

    fn may_retry(&self) -> bool {
        true
    }
}

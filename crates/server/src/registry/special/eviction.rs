//! Evictions: deletions that a disruption budget may hold back.
//!
//! ```text
//!   pod as it is ──needs no budget──────────▶ pinned to its UID and version ──▶ condition ──▶ deletion
//!     ▲   └──────the budget has one left────▶ pinned to its UID ───────────────────┤
//!     └──────────────────────the pod is another, or not as it was──────────────────┘
//! ```
//!
//! What was decided holds for the pod that was looked at: another one of its name, or one that has become ready since, is
//! looked at anew. The rules are those of Kubernetes 1.36.

use http::StatusCode;
use xebec_api::selector::Selector;
use xebec_api::{Cause, FieldPath, Reason, Status, Value, json, meta, object};

use super::pod::{pods, read_kind, set_condition};
use crate::admission;
use crate::core::{Context, Core};
use crate::http::reply::Reply;
use crate::http::route::Target;
use crate::registry::delete::{self, Options};
use crate::registry::table::{Row, Served};
use crate::registry::write::{self, Change, Part};
use crate::registry::{convert, read};
use crate::serve::Incoming;

/// How often it is decided anew when the pod changes meanwhile.
const MAX_TRIES: usize = 8;

/// POST of an `Eviction`.
pub(crate) async fn evict(core: &Core, incoming: &mut Incoming, target: &Target) -> Result<Reply, Status> {
    let mut eviction = read_kind(incoming, "policy", "v1", "Eviction").await?;
    if meta::name(&eviction) != target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let served = pods(core)?;
    admission::posted(core, &incoming.context, &served, target, &mut eviction).await?;
    let options = Options::read(eviction.get("deleteOptions"), &incoming.context)?;
    for _ in 0..MAX_TRIES {
        match try_evict(core, &incoming.context, target, &served, &options).await? {
            Outcome::Evicted => return Ok(success()),
            Outcome::Changed(conflict) if options.resource_version.is_some() => return Err(conflict),
            Outcome::Changed(_) => {}
        }
    }
    let why = format!("The pod {} keeps changing; gave up after {MAX_TRIES} tries.", target.name);
    Err(refuse(why))
}

fn success() -> Reply {
    Reply::Document(
        StatusCode::CREATED,
        object!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "code": 201}),
    )
}

enum Outcome {
    Evicted,
    /// The pod is not the one, or not in the state, that was decided about.
    Changed(Status),
}

async fn try_evict(
    core: &Core,
    context: &Context,
    target: &Target,
    served: &Served,
    options: &Options,
) -> Result<Outcome, Status> {
    let snapshot = core.newest().await?;
    let record = read::find(&snapshot, &served.row, &target.namespace, &target.name)?;
    let pod = convert::stored_object(record)?;
    options.check(&pod, &served.row)?;
    let mut pinned = options.clone();
    pinned.uid = Some(meta::uid(&pod).to_owned());
    match weigh(core, context, &pod, options.dry_run).await? {
        Weighed::Ending | Weighed::Spent => {}
        Weighed::Free => pinned.resource_version = Some(meta::resource_version(&pod).to_owned()),
    }
    match remove(core, context, target, served, pinned).await {
        Ok(()) => Ok(Outcome::Evicted),
        Err(status) if status.reason == Reason::Conflict => Ok(Outcome::Changed(status)),
        Err(status) => Err(status),
    }
}

/// Tells the pod's owner why it goes, then deletes it.
async fn remove(
    core: &Core,
    context: &Context,
    target: &Target,
    served: &Served,
    mut options: Options,
) -> Result<(), Status> {
    let about = |part| write::Target { served, namespace: &target.namespace, name: &target.name, part };
    if !options.dry_run {
        let mut mark = Mark { options: &options, row: &served.row, now: context.now.to_string() };
        let written = write::change(core, context, about(Part::Own("eviction")), &mut mark).await?;
        if options.resource_version.is_some() {
            let marked: Value = json::from_slice(&written.bytes).map_err(Status::internal)?;
            options.resource_version = Some(meta::resource_version(&marked).to_owned());
        }
    }
    delete::delete(core, context, about(Part::Main), &options).await.map(drop)
}

/// Says in a pod's status that it is evicted.
struct Mark<'a> {
    options: &'a Options,
    row: &'a Row,
    now: String,
}

impl Change for Mark<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        self.options.check(old, self.row)?;
        let mut new = old.clone();
        let target = object!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": (self.now.as_str())
        });
        set_condition(&mut new, target);
        Ok(new)
    }

    fn may_retry(&self) -> bool {
        true
    }
}

/// What a pod's end costs.
enum Weighed {
    /// Nothing any more: it ends, or has ended.
    Ending,
    /// Nothing as long as it is as it is: once it is ready, a budget counts it.
    Free,
    /// What its budget, if it has one, has been charged with.
    Spent,
}

/// Takes one disruption from the budget that covers the pod, if it needs one; with `dry_run` it is only looked whether
/// there is one left.
async fn weigh(core: &Core, context: &Context, pod: &Value, dry_run: bool) -> Result<Weighed, Status> {
    match pod.str_at(&["status", "phase"]) {
        _ if meta::is_deleting(pod) => return Ok(Weighed::Ending),
        Some("Succeeded" | "Failed") => return Ok(Weighed::Ending),
        Some("Pending") => return Ok(Weighed::Free),
        _ => {}
    }
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
        [] => Ok(Weighed::Spent),
        [budget] if needs_none(budget, pod) => Ok(Weighed::Free),
        [budget] => {
            let mut spend = Spend { pod: meta::name(pod), now: context.now.to_string() };
            if dry_run {
                return spend.apply(budget).map(|_| Weighed::Spent);
            }
            let name = meta::name(budget);
            let about = write::Target { served: &served, namespace, name, part: Part::Status };
            write::change(core, context, about, &mut spend).await.map(|_| Weighed::Spent)
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

/// How many evicted pods a budget remembers whose end has not been seen.
const MAX_DISRUPTED: usize = 2000;

struct Spend<'a> {
    pod: &'a str,
    now: String,
}

impl Change for Spend<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let name = meta::name(old);
        if !observed(old) {
            let why = format!("The disruption budget {name} is still being processed by the server.");
            return Err(refuse(why));
        }
        let count = |field: &str| old.i64_at(&["status", field]).unwrap_or(0);
        let allowed = count("disruptionsAllowed");
        if allowed <= 0 {
            let (needed, healthy) = (count("desiredHealthy"), count("currentHealthy"));
            let why = format!(
                "The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
            );
            return Err(refuse(why));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use xebec_store::Txn;

    use super::*;
    use crate::auth::User;
    use crate::http::query::Query;
    use crate::server::tests::server;

    /// Puts a pod in the place of the one that there is; its UID and version.
    async fn put(core: &Core, served: &Served, uid: &str, ready: &str) -> (String, String) {
        let mut pod = object!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n"},
            "metadata": {"name": "p", "namespace": "a", "uid": uid},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
        });
        let key = served.row.key("a", "p").expect("a key");
        core.store.commit(Txn::default().put(key, write::stored(&mut pod))).await.expect("committed");
        let pod = find(core, served);
        (meta::uid(&pod).to_owned(), meta::resource_version(&pod).to_owned())
    }

    fn find(core: &Core, served: &Served) -> Value {
        let snapshot = core.store.snapshot();
        let record = read::find(&snapshot, &served.row, "a", "p").expect("there");
        convert::stored_object(record).expect("a pod")
    }

    #[tokio::test]
    async fn only_the_pod_that_was_decided_about_goes() {
        let (server, _dir) = server();
        let core = server.core();
        let context =
            Context::new(Arc::new(User::anonymous()), core.clock.now(), Query::default(), String::new());
        let target = Target {
            version: "v1".into(),
            resource: "pods".into(),
            namespace: "a".into(),
            name: "p".into(),
            ..Target::default()
        };
        let served = pods(core).expect("built in");
        let pinned = |uid: &str, version: &str| Options {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()).filter(|version| !version.is_empty()),
            ..Options::default()
        };
        let (uid, unready) = put(core, &served, "u1", "False").await;
        put(core, &served, "u1", "True").await;
        for (what, options) in [("another", pinned("u0", "")), ("not as it was", pinned(&uid, &unready))] {
            let conflict = remove(core, &context, &target, &served, options).await.expect_err(what);
            assert_eq!(conflict.reason, Reason::Conflict, "{what}: {conflict}");
            let pod = find(core, &served);
            assert!(!meta::is_deleting(&pod), "{what}");
            assert_eq!(pod.array_at(&["status", "conditions"]).len(), 1, "{what}: nothing is said of it");
        }
        let (uid, version) = put(core, &served, "u2", "False").await;
        remove(core, &context, &target, &served, pinned(&uid, &version)).await.expect("it is as it was");
        let pod = find(core, &served);
        assert!(meta::is_deleting(&pod));
        let said = &pod.array_at(&["status", "conditions"])[1];
        assert_eq!(said.str_at(&["type"]), Some("DisruptionTarget"));
    }
}

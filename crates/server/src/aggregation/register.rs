//! API services for what this server answers itself, so that whoever lists them sees all groups and versions.
//!
//! Those of built-in groups are written at the start, those of custom resources follow their definitions. One that does not
//! bear the label of those made here belongs to somebody else and is left alone, also if it takes a custom resource's group
//! and version away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use xebec_api::{Reason, Status, Value, meta, object};

use super::priority::{CUSTOM, Priority};
use super::service::MANAGED;
use super::{GROUP, State};
use crate::auth::User;
use crate::auth::user::MASTERS;
use crate::core::{Context, Core};
use crate::http::query::Query;
use crate::registry::Table;
use crate::registry::delete;
use crate::registry::table::Served;
use crate::registry::write::{self, Change, Part};

/// Written at the start only.
const ON_START: &str = "onstart";
/// Kept as it should be all the time.
const ALWAYS: &str = "true";
/// How long it takes until a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What has to be done so that there are the right API services.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Create(String),
    /// Puts the specification back.
    Restore(String),
    /// Deletes the one with this UID.
    Delete(String, String),
}

/// The API services of the groups and versions that Kubernetes has.
pub(crate) fn built_in(table: &Table) -> Vec<Value> {
    let mut found = BTreeMap::new();
    for row in table.rows().filter(|row| !row.custom && row.group() != GROUP) {
        for version in row.def.versions.iter().filter(|version| version.served) {
            if let Some(priority) = Priority::built_in(row.group(), &version.name) {
                let made = api_service(row.group(), &version.name, priority, ON_START);
                found.insert(meta::name(&made).to_owned(), made);
            }
        }
    }
    found.into_values().collect()
}

/// Those of custom resources, by name; none of a group and version that is built in.
fn custom(table: &Table) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for row in table.rows().filter(|row| row.custom) {
        for version in row.def.versions.iter().filter(|version| version.served) {
            let is_here = |group: &str| {
                let mut built_in = table.rows().filter(|row| !row.custom && row.group() == group);
                built_in.any(|row| row.def.served(&version.name).is_some())
            };
            if !is_here(row.group()) {
                let made = api_service(row.group(), &version.name, CUSTOM, ALWAYS);
                found.insert(meta::name(&made).to_owned(), made);
            }
        }
    }
    found
}

fn api_service(group: &str, version: &str, priority: Priority, managed: &str) -> Value {
    let mut made = object!({
        "apiVersion": (format!("{GROUP}/v1")), "kind": "APIService",
        "metadata": {"name": (format!("{version}.{group}"))},
        "spec": {
            "version": version,
            "groupPriorityMinimum": (priority.group), "versionPriority": (priority.version)
        }
    });
    if !group.is_empty() {
        made.set(&["spec", "group"], group);
    }
    made.set(&["metadata", "labels", MANAGED], managed);
    made
}

/// What an API service of a built-in group should be at the start, given what it is.
pub(crate) fn restored(old: &Value, wanted: &Value) -> Value {
    let mut new = old.clone();
    let managed = old.str_at(&["metadata", "labels", MANAGED]);
    if matches!(managed, Some(ON_START | ALWAYS)) {
        new.set(&["spec"], wanted.get("spec").cloned().unwrap_or_default());
    }
    new
}

fn plan(wanted: &BTreeMap<String, Value>, present: &State) -> Vec<Action> {
    let mut actions: Vec<Action> =
        wanted.keys().filter(|name| present.named(name).is_none()).cloned().map(Action::Create).collect();
    for service in present.services().iter().filter(|service| service.managed == ALWAYS) {
        match wanted.get(&service.name) {
            None => actions.push(Action::Delete(service.name.clone(), service.uid.clone())),
            Some(made) if made.get("spec") != Some(&service.spec) => {
                actions.push(Action::Restore(service.name.clone()));
            }
            Some(_) => {}
        }
    }
    actions
}

/// Keeps the API services of custom resources in step with their definitions, until `shutdown`.
pub(crate) async fn keep(core: Arc<Core>, shutdown: CancellationToken) {
    let mut changed = core.aggregation.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let done = step(&core).await;
        if let Err(status) = &done {
            tracing::warn!(%status, "an APIService cannot be written: tried again");
        }
        let again = async {
            match done {
                Ok(()) => std::future::pending().await,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            told = changed.changed() => if told.is_err() { return },
            () = again => {}
        }
    }
}

async fn step(core: &Core) -> Result<(), Status> {
    let table = core.table.get();
    let wanted = custom(&table);
    let actions = plan(&wanted, &core.aggregation.state());
    if actions.is_empty() {
        return Ok(());
    }
    let served = table.served(GROUP, "v1", "apiservices")?;
    let context = context(core);
    for action in actions {
        match act(core, &context, &served, &wanted, &action).await {
            Ok(()) => {}
            // Somebody else was faster; what it is now is looked at when that is known here.
            Err(status)
                if matches!(status.reason, Reason::AlreadyExists | Reason::NotFound | Reason::Conflict) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

async fn act(
    core: &Core,
    context: &Context,
    served: &Served,
    wanted: &BTreeMap<String, Value>,
    action: &Action,
) -> Result<(), Status> {
    let about = |name| write::Target { served, namespace: "", name, part: Part::Main };
    let made = |name: &String| wanted.get(name).cloned().unwrap_or_default();
    match action {
        Action::Create(name) => write::create(core, context, about(""), made(name)).await.map(drop),
        Action::Restore(name) => {
            write::change(core, context, about(name), &mut Restore(made(name))).await.map(drop)
        }
        Action::Delete(name, uid) => {
            let options = delete::Options { uid: Some(uid.clone()), ..delete::Options::default() };
            delete::delete(core, context, about(name), &options).await.map(drop)
        }
    }
}

struct Restore(Value);

impl Change for Restore {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        Ok(restored(old, &self.0))
    }

    fn may_retry(&self) -> bool {
        true
    }
}

/// The server's own writes.
pub(super) fn context(core: &Core) -> Context {
    let user = Arc::new(User::component("system:apiserver", &[MASTERS]));
    Context::new(user, core.clock.now(), Query::default(), "xebec".into())
}

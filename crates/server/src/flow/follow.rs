//! Keeping up with the store: a configuration for each change of the objects, their conditions, the objects that must be
//! there; and once a second the lending of seats.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use xebec_api::time::Timestamp;
use xebec_api::{Reason, Status, Value, json, meta};
use xebec_store::{Scope, Snapshot, StoreError, WatchError};

use super::{condition, defaults};
use crate::auth::User;
use crate::auth::user::MASTERS;
use crate::bootstrap;
use crate::core::{Context, Core};
use crate::http::query::Query;
use crate::registry::write::{self, Change, Part};

/// How often seats are lent.
const LENDING: Duration = Duration::from_secs(1);
/// How long it takes until a watch that failed begins anew, or what could not be written is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the objects until `shutdown`.
pub(crate) async fn follow(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = keep_up(&core) => match ended {
                // There is nothing to follow any more.
                Ok(()) => return shutdown.cancelled().await,
                Err(error) => tracing::warn!(%error, "flow schemas cannot be followed: all are read anew"),
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Keeps up until the store is shut down, or tells why no further.
async fn keep_up(core: &Core) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let snapshot = core.store.snapshot();
    let mut watch = match core.store.watch(Scope::Prefix(super::prefix()), snapshot.revision()) {
        Err(StoreError::Closed) => return Ok(()),
        opened => opened?,
    };
    core.flow.configure(&snapshot);
    let mut settled = settle(core).await;
    let mut ticks = tokio::time::interval(LENDING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            batch = watch.next() => match batch {
                Ok(_) => {
                    core.flow.configure(&core.store.snapshot());
                    settled = settle(core).await;
                }
                Err(WatchError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            },
            _ = ticks.tick() => {
                core.flow.lend();
                if !settled {
                    settled = settle(core).await;
                }
            }
        }
    }
}

/// Puts back what must be there, and says of each schema whether its level is; whether all could be written.
async fn settle(core: &Core) -> bool {
    let user = Arc::new(User::component("system:apiserver", &[MASTERS]));
    let agent = "api-priority-and-fairness-config-consumer-v1".to_owned();
    let context = Context::new(user, core.clock.now(), Query::default(), agent);
    let mandatory = defaults::objects().into_iter().filter(|o| defaults::MANDATORY.contains(&meta::name(o)));
    let mut settled = true;
    let mut note = |outcome: Result<(), Status>| {
        if let Err(status) = outcome {
            tracing::warn!(%status, "a flow schema or priority level cannot be kept up to date yet");
            settled = false;
        }
    };
    for object in mandatory {
        note(bootstrap::ensure(core, &context, object).await);
    }
    for name in unsaid(core, context.now) {
        note(say(core, &context, &name).await);
    }
    settled
}

/// The schemas of which it is to be said whether their level is there.
fn unsaid(core: &Core, now: Timestamp) -> Vec<String> {
    let snapshot = core.store.snapshot();
    let mut unsaid = Vec::new();
    for record in snapshot.range(&super::prefix(), None) {
        // What cannot be read has been told of.
        let Ok(mut object) = json::from_slice(record.as_slice()) else { continue };
        if object.str_at(&["kind"]) == Some("FlowSchema") && condition::set(&mut object, &snapshot, now) {
            unsaid.push(meta::name(&object).to_owned());
        }
    }
    unsaid
}

/// Says it of a schema; one that has gone meanwhile needs it no more.
async fn say(core: &Core, context: &Context, name: &str) -> Result<(), Status> {
    let served = core.table.get().served("flowcontrol.apiserver.k8s.io", "v1", "flowschemas")?;
    let target = write::Target { served: &served, namespace: "", name, part: Part::Status };
    match write::change(core, context, target, &mut Say { snapshot: core.store.snapshot(), now: context.now })
        .await
    {
        Err(status) if status.reason != Reason::NotFound => Err(status),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Sets the condition.
struct Say {
    snapshot: Snapshot,
    now: Timestamp,
}

impl Change for Say {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let mut new = old.clone();
        condition::set(&mut new, &self.snapshot, self.now);
        Ok(new)
    }

    fn may_retry(&self) -> bool {
        true
    }
}

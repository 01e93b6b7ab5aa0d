//! Events: they are forgotten an hour after they were last written.
//!
//! Owns: the deletion of events that nobody has repeated for [`LIFETIME`].
//! Guarantees: an event that is repeated while it is looked at stays: its deletion names uid and revision.
//! Caveats: an event may live up to [`SOONEST`] longer. Upstream's server lets its store forget them, also by the time
//! of the last write; there this finds nothing to do. A writer that takes the record of writes out of an event shortens its
//! life.
//!
//! Nobody watches events for this: the first look tells when the next one is due, and what comes meanwhile lives longer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::{ObjectList, Request};
use tracing::debug;

use crate::context::Context;
use crate::permissions::{Role, allow};
use crate::runtime::clock::{SharedClock, after, until};
use crate::runtime::discovery::{ApiKind, ResourceId};
use crate::runtime::dynamic;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::object::{ObjectKey, Uid};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Deletion, Writes, api_error, delete_params, gone_is_fine};

/// How long an event is kept after it was last written.
pub const LIFETIME: Duration = Duration::from_hours(1);
/// How long two looks are apart at least.
pub const SOONEST: Duration = Duration::from_mins(1);
/// How many events one page of a list has.
const PAGE: u32 = 500;
/// How many are deleted at a time.
const PARALLEL: usize = 8;

/// What the controller may do.
pub const EVENT_EXPIRY_ROLE: Role = Role {
    controller: "event-expiry-controller",
    permissions: &[allow("events.k8s.io", &["events"], &["list", "delete"])],
};

/// All events: the only key there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllEvents;

impl fmt::Display for AllEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("events")
    }
}

/// Deletes events that are old.
pub struct EventExpiry {
    queue: Arc<WorkQueue<AllEvents>>,
    clock: SharedClock,
}

impl EventExpiry {
    /// A controller that looks at once.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Self { queue: Arc::default(), clock: Arc::clone(&context.clock) };
        controller.queue.add(AllEvents);
        Arc::new(controller)
    }

    /// Deletes what has expired on one page.
    async fn sweep(&self, page: &[Event], now: Timestamp, writes: &Writes) -> Result<(), ApiError> {
        let expired =
            page.iter().filter(|event| expires(event, now) <= now).map(|event| delete(event, writes));
        let mut deleted = futures::stream::iter(expired.collect::<Vec<_>>()).buffer_unordered(PARALLEL);
        let mut count = 0;
        while let Some(result) = deleted.next().await {
            result?;
            count += 1;
        }
        if count > 0 {
            debug!(count, "events have expired");
        }
        Ok(())
    }
}

fn events() -> ApiKind {
    ApiKind {
        id: ResourceId { group: "events.k8s.io".to_owned(), plural: "events".to_owned() },
        version: "v1".to_owned(),
        kind: "Event".to_owned(),
        namespaced: true,
        verbs: ["delete", "list"].map(str::to_owned).into(),
    }
}

async fn list(params: &ListParams, writes: &Writes) -> Result<ObjectList<Event>, ApiError> {
    let kind = events();
    let failed = |source| api_error("list", kind.id.to_string().into(), &"in all namespaces", source);
    let request = Request::new(kind.path(None)).list(params);
    let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    writes.untracked().client().request(request).await.map_err(failed)
}

async fn delete(event: &Event, writes: &Writes) -> Result<(), ApiError> {
    let meta = &event.metadata;
    let mut params = delete_params(&Uid::of(meta), Deletion::default());
    if let Some(preconditions) = &mut params.preconditions {
        preconditions.resource_version.clone_from(&meta.resource_version);
    }
    let client = writes.untracked().client();
    match dynamic::delete(client, &events(), &ObjectKey::of(meta), &params).await {
        Err(error) if error.is_conflict() => Ok(()),
        deleted => gone_is_fine(deleted),
    }
}

/// When an event is to be forgotten: counted from its last write, by times that the server sets. Those in the event are
/// the writer's, who could have it kept for ever. A write in the future is none.
pub fn expires(event: &Event, now: Timestamp) -> Timestamp {
    let meta = &event.metadata;
    let written = meta.managed_fields.iter().flatten().filter_map(|entry| entry.time.as_ref());
    let written = written.map(|time| time.0).filter(|time| *time <= now);
    let created = meta.creation_timestamp.as_ref().map(|time| time.0);
    after(written.chain(created).max().unwrap_or(Timestamp::UNIX_EPOCH), LIFETIME)
}

/// When to look again, given when the next event that stays is to be forgotten.
pub fn look_again_after(next: Option<Timestamp>, now: Timestamp) -> Duration {
    next.map_or(LIFETIME, |next| until(now, next)).clamp(SOONEST, LIFETIME)
}

impl Controller for EventExpiry {
    type Key = AllEvents;

    fn name(&self) -> &'static str {
        EVENT_EXPIRY_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<AllEvents>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {}

    async fn reconcile(&self, _: &AllEvents, writes: &Writes) -> Result<Next, ReconcileError> {
        let now = self.clock.now();
        let mut params = ListParams::default().limit(PAGE);
        let mut next = None;
        loop {
            let page = list(&params, writes).await?;
            self.sweep(&page.items, now, writes).await?;
            let staying = page.items.iter().map(|event| expires(event, now)).filter(|time| *time > now);
            next = staying.chain(next).min();
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(Next::After(look_again_after(next, now))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_last_write_counts() {
        let now: Timestamp = "2026-01-01T03:00:00Z".parse().unwrap();
        let check = |event: Value, want: &str| {
            let event: Event = serde_json::from_value(event).unwrap();
            assert_eq!(expires(&event, now).to_string(), want, "{event:?}");
        };
        let meta = |writes: &[&str]| {
            let writes: Vec<_> = writes.iter().map(|time| json!({"manager": "a", "time": time})).collect();
            json!({"creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": writes})
        };
        check(json!({"metadata": meta(&[])}), "2026-01-01T01:00:00Z");
        check(
            json!({"metadata": meta(&["2026-01-01T00:00:00Z", "2026-01-01T02:10:00Z"])}),
            "2026-01-01T03:10:00Z",
        );
        check(
            json!({"metadata": meta(&["2026-01-01T02:10:00Z", "2026-01-01T00:10:00Z"])}),
            "2026-01-01T03:10:00Z",
        );
        // What a client says does not count, nor does what has not been yet.
        check(json!({"metadata": meta(&["2020-01-01T00:00:00Z"])}), "2026-01-01T01:00:00Z");
        check(json!({"metadata": meta(&["2099-01-01T00:00:00Z"])}), "2026-01-01T01:00:00Z");
        check(
            json!({
                "metadata": meta(&[]), "eventTime": "2099-01-01T00:00:00.000000Z",
                "deprecatedLastTimestamp": "2099-01-01T00:00:00Z",
                "series": {"count": 2, "lastObservedTime": "2099-01-01T00:00:00.000000Z"}
            }),
            "2026-01-01T01:00:00Z",
        );
        // The server's clock may be ahead of ours.
        let young = json!({"metadata": {"creationTimestamp": "2026-01-01T03:00:30Z"}});
        check(young, "2026-01-01T04:00:30Z");
    }

    #[test]
    fn the_next_look_is_when_the_next_event_goes() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let check = |next: Option<i64>, want: u64| {
            let next = next.map(|seconds| Timestamp::from_second(1_000_000 + seconds).unwrap());
            assert_eq!(look_again_after(next, now).as_secs(), want, "{next:?}");
        };
        check(None, 3600);
        check(Some(1800), 1800);
        check(Some(1), 60);
        check(Some(100_000), 3600);
    }
}

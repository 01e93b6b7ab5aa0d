//! Deletes requests that are done with: an hour after they were signed, denied or failed, a day after nobody answered.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::jiff::Timestamp;

use super::{APPROVED, DENIED, FAILED, is_issued};
use crate::context::Context;
use crate::permissions::{Role, allow};
use crate::runtime::clock::{SharedClock, after, until};
use crate::runtime::error::ReconcileError;
use crate::runtime::informer::Informer;
use crate::runtime::object::{ObjectKey, Uid};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Deletion, Writes};

/// What the cleaner may do.
pub const CLEANER_ROLE: Role = Role {
    controller: "csrcleaner",
    permissions: &[allow(
        "certificates.k8s.io",
        &["certificatesigningrequests"],
        &["get", "list", "watch", "delete"],
    )],
};

/// How long a request stays that was answered.
const ANSWERED: Duration = Duration::from_hours(1);
/// How long one stays that was not, or was approved and never signed.
const OPEN: Duration = Duration::from_hours(24);

/// Deletes old requests.
pub struct Cleaner {
    clock: SharedClock,
    requests: Informer<CertificateSigningRequest>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl Cleaner {
    /// Wires the watch to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let (requests, clock) = (context.informers.get(), Arc::clone(&context.clock));
        let controller = Arc::new(Self { clock, requests, queue: Arc::default() });
        super::watch(&controller.requests, &controller.queue);
        controller
    }
}

/// When a request is to go; `None`: not before it changes.
fn ends(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut conditions = conditions.into_iter().peekable();
    if conditions.peek().is_none() {
        return Some(after(request.metadata.creation_timestamp.as_ref()?.0, OPEN));
    }
    let ends = conditions.filter_map(|condition| {
        let stays = match condition.type_.as_str() {
            DENIED | FAILED => ANSWERED,
            APPROVED if is_issued(request) => ANSWERED,
            APPROVED => OPEN,
            _ => return None,
        };
        Some(after(condition.last_update_time.as_ref()?.0, stays))
    });
    // A certificate that is over goes with it, which the hour since its approval cannot outlast: it lasts ten minutes or more.
    ends.min()
}

impl Controller for Cleaner {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        CLEANER_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.requests.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(request) = self.requests.get(key) else { return Ok(Next::Wake) };
        let Some(ends) = ends(&request) else { return Ok(Next::Wake) };
        let now = self.clock.now();
        if now < ends {
            return Ok(Next::After(until(now, ends)));
        }
        writes.delete(&self.requests, key, &Uid::of(&request.metadata), Deletion::default()).await?;
        Ok(Next::Wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn when_requests_go() {
        let check = |status: Value, want: Option<&str>| {
            let request: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"request": "", "signerName": "a.b/c"},
                "status": status
            }))
            .unwrap();
            assert_eq!(ends(&request).map(|end| end.to_string()).as_deref(), want, "{status}");
        };
        let condition =
            |type_: &str| json!({"type": type_, "status": "True", "lastUpdateTime": "2026-01-01T12:00:00Z"});
        check(json!({}), Some("2026-01-02T00:00:00Z"));
        check(json!({"conditions": [condition(DENIED)]}), Some("2026-01-01T13:00:00Z"));
        check(json!({"conditions": [condition(APPROVED)]}), Some("2026-01-02T12:00:00Z"));
        check(json!({"conditions": [condition(APPROVED), condition(FAILED)]}), Some("2026-01-01T13:00:00Z"));
        check(
            json!({"conditions": [condition(APPROVED)], "certificate": "QQ=="}),
            Some("2026-01-01T13:00:00Z"),
        );
        check(json!({"conditions": [condition("Other")]}), None);
    }
}

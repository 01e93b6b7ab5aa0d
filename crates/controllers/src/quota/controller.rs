//! The thin part: what asks for a count, the lists, and the status.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{ResourceQuota, Service};
use xebec_api::time::Timestamp;
use xebec_api::{Value, json};

use super::QUOTA_ROLE;
use super::plan::{Count, counted, wants_contents};
use crate::context::Context;
use crate::gc::Monitors;
use crate::gc::monitors::Gone;
use crate::pod::PodRecord;
use crate::runtime::clock::SharedClock;
use crate::runtime::dynamic;
use crate::runtime::error::ReconcileError;
use crate::runtime::informer::Informer;
use crate::runtime::kind::{Kind, Watched};
use crate::runtime::object::{ObjectKey, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Part, Writes, gone_is_fine};

/// After how long a quota is counted again although nothing asked for it.
pub const RECOUNT: Duration = Duration::from_mins(5);
/// The same for a quota on objects of a resource that is not served.
const UNKNOWN_RECOUNT: Duration = Duration::from_secs(10);
/// How long a count waits for more that is about to go.
const SETTLE: Duration = Duration::from_millis(50);

impl Watched for ResourceQuota {}

impl Kind for ResourceQuota {
    type Raw = Self;

    fn project(raw: &Arc<Self>) -> Arc<Self> {
        Arc::clone(raw)
    }

    fn is_deleting(&self) -> bool {
        is_deleting(&self.metadata)
    }
}

/// Counts what quotas limit.
pub struct QuotaController {
    quotas: Informer<ResourceQuota>,
    pods: Informer<PodRecord>,
    services: Informer<Service>,
    gone: Gone,
    clock: SharedClock,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl QuotaController {
    /// Wires the watches to the queue; `monitors` know every object that goes.
    pub fn new(context: &Context, monitors: &Monitors) -> Arc<Self> {
        let controller = Arc::new(Self {
            quotas: context.informers.get(),
            pods: context.informers.get(),
            services: context.informers.get(),
            gone: monitors.gone(),
            clock: Arc::clone(&context.clock),
            queue: Arc::default(),
        });
        let queue = Arc::clone(&controller.queue);
        controller.quotas.on_change(move |change| {
            // Charges of the server change what is used, and need no count.
            let spec = |quota: &Option<Arc<ResourceQuota>>| quota.as_ref().map(|quota| quota.spec.clone());
            if spec(&change.old) != spec(&change.new) || !change.new.as_deref().is_none_or(is_in_force) {
                queue.add(change.key.clone());
            }
        });
        let wake = controller.waker();
        controller.pods.on_change(move |change| {
            let ends = change.new.as_ref().is_some_and(|pod| pod.is_finished())
                && !change.old.as_ref().is_some_and(|pod| pod.is_finished());
            if ends {
                wake(change.key.namespace(), "", "pods");
            }
        });
        let wake = controller.waker();
        controller.services.on_change(move |change| {
            let kind = |service: &Service| service.spec.as_ref().and_then(|spec| spec.type_.clone());
            if let (Some(old), Some(new)) = (&change.old, &change.new)
                && kind(old) != kind(new)
            {
                wake(change.key.namespace(), "", "services");
            }
        });
        let wake = controller.waker();
        controller.gone.on_gone(move |kind, namespace| wake(namespace, &kind.id.group, &kind.id.plural));
        controller
    }

    /// Asks for counts of the quotas of a namespace that are about a resource.
    fn waker(&self) -> impl Fn(&str, &str, &str) + Send + Sync + use<> {
        let (queue, quotas) = (Arc::clone(&self.queue), self.quotas.clone());
        move |namespace, group, plural| {
            let quotas = quotas.read();
            let evaluator = xebec_api::quota::Evaluator::of(group, plural);
            for quota in quotas.in_namespace(namespace) {
                let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
                if hard.into_iter().flatten().any(|(name, _)| evaluator.knows(name)) {
                    queue.add_after(ObjectKey::of(&quota.metadata), SETTLE);
                }
            }
        }
    }
}

/// Whether the limits in force are those that are wanted.
fn is_in_force(quota: &ResourceQuota) -> bool {
    let wanted = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    wanted == quota.status.as_ref().and_then(|status| status.hard.as_ref())
}

impl Controller for QuotaController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        QUOTA_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.quotas.synced().await;
        // Before it is known what resources there are, nothing could be counted.
        self.gone.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let requests = writes.untracked();
        // Not from the cache: what is charged after this makes the count void.
        let Some(quota) = requests.get::<ResourceQuota>(key).await? else { return Ok(Next::Wake) };
        let quota = json::to_value(&quota).expect("API types have string keys only, so they serialise");
        let now = Timestamp::from_system(SystemTime::from(self.clock.now()));
        let mut next = RECOUNT;
        let mut count = Count::new(&quota, now);
        for id in counted(&quota) {
            let Some(kind) = self.gone.kind(&id) else {
                // Its definition may be on the way.
                next = UNKNOWN_RECOUNT;
                continue;
            };
            let (client, namespace) = (requests.client(), key.namespace());
            if wants_contents(&id) {
                let mut pages = dynamic::Pages::new(client, &kind, namespace);
                while let Some(page) = pages.next().await? {
                    let list: Value =
                        json::from_slice(page.as_bytes()).map_err(|error| pages.unreadable(error))?;
                    count.add(&id, list.array_at(&["items"]));
                }
            } else {
                let objects = dynamic::list(client, &kind, namespace).await?;
                let nothing = Value::object();
                count.add(&id, std::iter::repeat_n(&nothing, objects.len()));
            }
        }
        if let Some(patch) = count.patch() {
            gone_is_fine(writes.merge(&self.quotas, key, Part::Status, &patch).await)?;
        }
        Ok(Next::After(next))
    }
}

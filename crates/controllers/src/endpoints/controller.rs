//! The thin parts: what wakes the three controllers, and their writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Endpoints, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::backends::{Backend, backends, matters, wanted};
use super::directory::Directory;
use super::{ENDPOINT_SLICE_ROLE, ENDPOINTS_ROLE, MIRRORING_ROLE, legacy, mirroring, slices};
use crate::context::Context;
use crate::kinds::SERVICE_NAME_LABEL;
use crate::pod::PodRecord;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::informer::Informer;
use crate::runtime::kind::Index;
use crate::runtime::object::{ObjectKey, Uid, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::selector::Selector;
use crate::runtime::store::Change;
use crate::runtime::writer::{Deletion, Part, Writes, all_of, gone_is_fine, to_value};

/// The label of nodes that says where they stand.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Keeps the EndpointSlices of every Service.
pub struct EndpointSliceController {
    sources: Sources,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

/// Keeps the Endpoints object of every Service.
pub struct EndpointsController {
    sources: Sources,
    endpoints: Informer<Endpoints>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

/// What both are made from.
#[derive(Clone)]
struct Sources {
    services: Informer<Service>,
    pods: Informer<PodRecord>,
    /// Follows the two caches. Who holds it may read them, not the other way round.
    directory: Arc<Mutex<Directory>>,
}

impl Sources {
    /// Wakes the Services that a change of a Service or a pod concerns.
    fn watch(context: &Context, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let sources = Self {
            services: context.informers.get(),
            pods: context.informers.get(),
            directory: Arc::default(),
        };
        // Pods first: a Service that is filed later finds them in the cache, and no change is missed between.
        let (to, directory) = (Arc::clone(queue), Arc::clone(&sources.directory));
        sources.pods.on_change(move |change| {
            if let (Some(old), Some(new)) = (&change.old, &change.new)
                && !matters(old, new)
            {
                return;
            }
            let [old, new] = [&change.old, &change.new].map(|pod| pod.as_ref().map(|pod| &pod.labels));
            to.extend(lock(&directory).change_pod(&change.key, old, new));
        });
        let (to, on) = (Arc::clone(queue), sources.clone());
        sources.services.on_change(move |change| {
            let mut directory = lock(&on.directory);
            let pods = on.pods.read();
            let near = pods.in_namespace(change.key.namespace()).map(|pod| (&pod.key, &pod.labels));
            directory.set_service(&change.key, change.new.as_deref().and_then(wanted), near);
            drop((pods, directory));
            to.add(change.key.clone());
        });
        sources
    }

    fn backends(&self, service: &Service) -> Option<Vec<Backend>> {
        let selector = Selector::from_map(wanted(service)?);
        let key = ObjectKey::of(&service.metadata);
        let filed = lock(&self.directory).pods(&key, &selector).cloned();
        let pods = self.pods.read();
        let selected: Vec<_> = match &filed {
            Some(filed) => filed.iter().filter_map(|key| pods.get(key)).cloned().collect(),
            // The Service has just changed. The change is on its way to the directory, and wakes the Service.
            None => pods.in_namespace(key.namespace()).cloned().collect(),
        };
        drop(pods);
        let selected: Vec<_> = selected.into_iter().filter(|pod| selector.matches(&pod.labels)).collect();
        Some(backends(service, &selected))
    }
}

fn lock(directory: &Mutex<Directory>) -> MutexGuard<'_, Directory> {
    // It is only changed under this lock, and a panic there ends the process.
    directory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EndpointSliceController {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let queue = Arc::default();
        let controller = Arc::new(Self {
            sources: Sources::watch(context, &queue),
            nodes: context.informers.get(),
            slices: context.informers.get(),
            queue,
        });
        let queue = Arc::clone(&controller.queue);
        controller.slices.on_change(move |change| {
            for slice in change.both().filter(|slice| is_kept_by(slice, slices::MANAGED_BY)) {
                queue.extend(service_of(slice));
            }
        });
        let (queue, sources) = (Arc::clone(&controller.queue), controller.sources.clone());
        controller.nodes.on_change(move |change| wake_by_node(change, &sources, &queue));
        controller
    }

    /// The zone of a node that exists.
    fn zone(&self, node: &str) -> Option<Option<String>> {
        self.nodes.get(&ObjectKey::new("", node)).map(|node| zone(&node))
    }
}

/// A node that comes, goes or moves concerns the Services of its pods.
fn wake_by_node(change: &Change<Node>, sources: &Sources, queue: &WorkQueue<ObjectKey>) {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && zone(old) == zone(new)
    {
        return;
    }
    let pods: Vec<_> = sources.pods.indexed(Index::Node, change.key.name());
    for pod in pods {
        queue.extend(lock(&sources.directory).selecting(pod.key.namespace(), &pod.labels));
    }
}

fn zone(node: &Node) -> Option<String> {
    node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE_LABEL)).cloned()
}

fn is_kept_by(slice: &EndpointSlice, who: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(slices::MANAGED_BY_LABEL)).is_some_and(|by| by == who)
}

/// Writes what a plan of slices says.
async fn carry_out(
    plan: slices::Plan,
    slices: &Informer<EndpointSlice>,
    writes: &Writes,
) -> Result<(), ApiError> {
    let create = async |slice: EndpointSlice| -> Result<(), ApiError> {
        match writes.create(slices, &slice).await {
            Err(error) if !error.is_namespace_terminating() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    };
    all_of(plan.create.into_iter().map(create)).await?;
    for (key, patch) in &plan.patch {
        gone_is_fine(writes.merge(slices, key, Part::Main, patch).await)?;
    }
    for (key, uid) in &plan.delete {
        writes.delete(slices, key, uid, Deletion::default()).await?;
    }
    Ok(())
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref()?, name))
}

impl Controller for EndpointSliceController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        ENDPOINT_SLICE_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.sources.services.synced().await;
        self.sources.pods.synced().await;
        self.nodes.synced().await;
        self.slices.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        // The slices of a Service that is gone have it as owner: the garbage collector takes them.
        let Some(service) = self.sources.services.get(key).filter(|service| !is_deleting(&service.metadata))
        else {
            return Ok(Next::Wake);
        };
        let Some(backends) = self.sources.backends(&service) else { return Ok(Next::Wake) };
        let mut existing = self.slices.indexed(Index::Service, &key.to_string());
        existing.retain(|slice| is_kept_by(slice, slices::MANAGED_BY));
        let plan = slices::plan(&service, &backends, &|node| self.zone(node), &existing);
        carry_out(plan, &self.slices, writes).await?;
        Ok(Next::Wake)
    }
}

impl EndpointsController {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let queue = Arc::default();
        let sources = Sources::watch(context, &queue);
        let controller = Arc::new(Self { sources, endpoints: context.informers.get(), queue });
        let queue = Arc::clone(&controller.queue);
        controller.endpoints.on_change(move |change| queue.add(change.key.clone()));
        controller
    }

    async fn remove(&self, key: &ObjectKey, writes: &Writes) -> Result<(), ApiError> {
        let Some(left) = self.endpoints.get(key) else { return Ok(()) };
        let labels = left.metadata.labels.as_ref();
        let is_own = labels.and_then(|labels| labels.get(legacy::MANAGED_BY_LABEL));
        if is_own.is_none_or(|by| by != legacy::MANAGED_BY) {
            return Ok(());
        }
        writes.delete(&self.endpoints, key, &Uid::of(&left.metadata), Deletion::default()).await
    }
}

impl Controller for EndpointsController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        ENDPOINTS_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.sources.services.synced().await;
        self.sources.pods.synced().await;
        self.endpoints.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(service) = self.sources.services.get(key) else {
            self.remove(key, writes).await?;
            return Ok(Next::Wake);
        };
        let Some(backends) = self.sources.backends(&service) else { return Ok(Next::Wake) };
        let desired = legacy::desired(&service, &backends);
        match self.endpoints.get(key) {
            None => match writes.create(&self.endpoints, &desired).await {
                Err(error) if !error.is_namespace_terminating() => return Err(error.into()),
                Ok(_) | Err(_) => {}
            },
            Some(existing) if legacy::is_current(&existing, &desired) => {}
            Some(existing) => {
                let over = desired.metadata.annotations.is_some().then_some("truncated");
                let patch = json!({
                    "metadata": {
                        "uid": existing.metadata.uid, "resourceVersion": existing.metadata.resource_version,
                        "labels": desired.metadata.labels, "annotations": { legacy::OVER_CAPACITY: over },
                    },
                    "subsets": to_value(&desired.subsets),
                });
                gone_is_fine(writes.merge(&self.endpoints, key, Part::Main, &patch).await)?;
            }
        }
        Ok(Next::Wake)
    }
}

/// Keeps the EndpointSlices that mirror Endpoints of users.
pub struct MirroringController {
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl MirroringController {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            services: context.informers.get(),
            endpoints: context.informers.get(),
            slices: context.informers.get(),
            queue: Arc::default(),
        });
        let queue = Arc::clone(&controller.queue);
        controller.services.on_change(move |change| queue.add(change.key.clone()));
        let queue = Arc::clone(&controller.queue);
        controller.endpoints.on_change(move |change| queue.add(change.key.clone()));
        let queue = Arc::clone(&controller.queue);
        controller.slices.on_change(move |change| {
            for slice in change.both().filter(|slice| is_kept_by(slice, mirroring::MANAGED_BY)) {
                queue.extend(service_of(slice));
            }
        });
        controller
    }
}

impl Controller for MirroringController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        MIRRORING_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.endpoints.synced().await;
        self.slices.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let (service, endpoints) = (self.services.get(key), self.endpoints.get(key));
        let mut existing = self.slices.indexed(Index::Service, &key.to_string());
        existing.retain(|slice| is_kept_by(slice, mirroring::MANAGED_BY));
        let plan = mirroring::plan(service.as_deref(), endpoints.as_deref(), &existing);
        carry_out(plan, &self.slices, writes).await?;
        Ok(Next::Wake)
    }
}

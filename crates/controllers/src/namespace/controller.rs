//! The thin part: discovers, deletes, counts, reports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::NAMESPACE_ROLE;
use super::plan::{Remains, conditions, is_waiting, let_go, look_again_after};
use crate::context::Context;
use crate::pod::PodRecord;
use crate::runtime::clock::SharedClock;
use crate::runtime::discovery::{ApiKind, Discovered, discover};
use crate::runtime::dynamic;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::informer::Informer;
use crate::runtime::object::{ObjectKey, Uid};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Part, Writes, gone_is_fine, merge_diff, to_value};

/// How many resources of one namespace are worked on at a time.
const PARALLEL: usize = 8;

/// Empties namespaces that are being deleted.
pub struct NamespaceController {
    namespaces: Informer<Namespace>,
    pods: Informer<PodRecord>,
    queue: Arc<WorkQueue<ObjectKey>>,
    clock: SharedClock,
    memory: Arc<Mutex<Memory>>,
}

/// What the server has, as it was told when a namespace began to be emptied. Bounded by the namespaces that are being
/// emptied.
type Memory = HashMap<ObjectKey, (Uid, Arc<Discovered>)>;

impl NamespaceController {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            namespaces: context.informers.get(),
            pods: context.informers.get(),
            queue: Arc::default(),
            clock: Arc::clone(&context.clock),
            memory: Arc::default(),
        });
        let (queue, memory) = (Arc::clone(&controller.queue), Arc::clone(&controller.memory));
        controller.namespaces.on_change(move |change| {
            if change.new.as_ref().is_some_and(|namespace| is_waiting(namespace)) {
                queue.add(change.key.clone());
            } else {
                lock(&memory).remove(&change.key);
            }
        });
        // The last pod makes way for everything else; those before it are looked at when it is time to look again.
        let queue = Arc::clone(&controller.queue);
        let (namespaces, pods) = (controller.namespaces.clone(), controller.pods.clone());
        controller.pods.on_change(move |change| {
            let key = ObjectKey::new("", change.key.namespace());
            if change.new.is_none()
                && namespaces.get(&key).is_some_and(|namespace| is_waiting(&namespace))
                && pods.read().in_namespace(change.key.namespace()).next().is_none()
            {
                queue.add(key);
            }
        });
        controller
    }

    /// Deletes what there is; gives what is left. That nothing is left is said only when the server was just asked what
    /// there can be.
    async fn round(&self, key: &ObjectKey, uid: &Uid, writes: &Writes) -> Result<Remains, ApiError> {
        let known =
            lock(&self.memory).get(key).filter(|(of, _)| of == uid).map(|(_, known)| Arc::clone(known));
        if let Some(known) = known {
            let remains = self.empty(&known, key.name(), writes).await?;
            if !remains.is_nothing() {
                return Ok(remains);
            }
        }
        let discovered = Arc::new(discover(writes.untracked().client()).await?);
        if discovered.failed.is_empty() {
            lock(&self.memory).insert(key.clone(), (uid.clone(), Arc::clone(&discovered)));
        }
        self.empty(&discovered, key.name(), writes).await
    }

    /// Deletes what there is of everything; pods alone as long as there are any.
    async fn empty(
        &self,
        discovered: &Discovered,
        namespace: &str,
        writes: &Writes,
    ) -> Result<Remains, ApiError> {
        let mut remains = Remains { undiscovered: discovered.failed.clone(), ..Remains::default() };
        let kinds =
            discovered.kinds.iter().filter(|kind| kind.namespaced && kind.can(&["list", "delete"])).cloned();
        let (pods, others): (Vec<_>, Vec<_>) =
            kinds.partition(|kind| kind.id.group.is_empty() && kind.id.plural == "pods");
        for kinds in [pods, others] {
            let clear = |kind: ApiKind| async move {
                let left = clear(&kind, namespace, writes).await;
                (kind.id.to_string(), left)
            };
            let mut cleared = futures::stream::iter(kinds.into_iter().map(clear)).buffer_unordered(PARALLEL);
            while let Some((resource, left)) = cleared.next().await {
                match left {
                    Ok(left) => remains.count(&resource, &left),
                    Err(error) => remains.failures.push(error.to_string()),
                }
            }
            if !remains.lets_others_go() {
                break;
            }
        }
        remains.failures.sort();
        Ok(remains)
    }

    async fn report(
        &self,
        namespace: &Namespace,
        remains: &Remains,
        writes: &Writes,
    ) -> Result<(), ApiError> {
        let before = namespace.status.clone().unwrap_or_default();
        let mut after = before.clone();
        after.phase = Some("Terminating".to_owned());
        after.conditions =
            Some(conditions(before.conditions.as_deref().unwrap_or_default(), remains, self.clock.now()));
        let Some(status) = merge_diff(&to_value(&before), &to_value(&after)) else { return Ok(()) };
        let patch = json!({ "metadata": { "uid": namespace.metadata.uid }, "status": status });
        let key = ObjectKey::of(&namespace.metadata);
        gone_is_fine(writes.merge(&self.namespaces, &key, Part::Status, &patch).await)
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    // Every change of it is a single step.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deletes every object of one resource; gives what is still there afterwards.
async fn clear(kind: &ApiKind, namespace: &str, writes: &Writes) -> Result<Vec<ObjectMeta>, ApiError> {
    let client = writes.untracked().client();
    let there = dynamic::list(client, kind, namespace).await?;
    let untouched = there.iter().any(|meta| meta.deletion_timestamp.is_none());
    if !untouched {
        return Ok(there);
    }
    if kind.can(&["deletecollection"]) {
        dynamic::delete_all(client, kind, namespace).await?;
    } else {
        for meta in &there {
            let deleted =
                dynamic::delete(client, kind, &ObjectKey::of(meta), &kube::api::DeleteParams::background())
                    .await;
            gone_is_fine(deleted)?;
        }
    }
    dynamic::list(client, kind, namespace).await
}

impl Controller for NamespaceController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAMESPACE_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(namespace) = self.namespaces.get(key).filter(|namespace| is_waiting(namespace)) else {
            return Ok(Next::Wake);
        };
        let remains = self.round(key, &Uid::of(&namespace.metadata), writes).await?;
        if !remains.is_nothing() {
            self.report(&namespace, &remains, writes).await?;
            return Ok(Next::After(look_again_after(&namespace, self.clock.now())));
        }
        let requests = writes.untracked();
        let Some(mut live) = requests.get::<Namespace>(key).await? else { return Ok(Next::Wake) };
        if live.metadata.uid == namespace.metadata.uid && is_waiting(&live) {
            let_go(&mut live);
            gone_is_fine(requests.replace_subresource(key, "finalize", &live).await)?;
        }
        // Should it still be there then, somebody else holds it or the server has not listened.
        Ok(Next::After(look_again_after(&namespace, self.clock.now())))
    }
}

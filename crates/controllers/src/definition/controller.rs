//! The thin part: deletes, counts, reports.

use std::sync::Arc;

use super::DEFINITION_ROLE;
use super::plan::{Instances, is_established, is_waiting, look_again_after, patch, resource, untouched};
use super::record::Definition;
use crate::context::Context;
use crate::runtime::clock::SharedClock;
use crate::runtime::discovery::ApiKind;
use crate::runtime::dynamic;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::informer::Informer;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Part, Writes, gone_is_fine};

/// Stands for all namespaces.
const EVERYWHERE: &str = "";

/// Removes the instances of definitions that are being deleted.
pub struct DefinitionController {
    definitions: Informer<Definition>,
    queue: Arc<WorkQueue<ObjectKey>>,
    clock: SharedClock,
}

impl DefinitionController {
    /// Wires the watch to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self {
            definitions: context.informers.get(),
            queue: Arc::default(),
            clock: Arc::clone(&context.clock),
        });
        let queue = Arc::clone(&controller.queue);
        controller.definitions.on_change(move |change| {
            if change.new.as_ref().is_some_and(|definition| is_waiting(definition)) {
                queue.add(change.key.clone());
            }
        });
        controller
    }
}

/// Deletes what there is; says what is still there afterwards.
async fn clean_up(definition: &Definition, writes: &Writes) -> Instances {
    if !is_established(definition) {
        return Instances::Never;
    }
    let Some(kind) = resource(definition) else {
        let text = "no version of the resource is served, so its instances cannot be deleted; set `served: true` on one";
        return Instances::Failed(text.to_owned());
    };
    match delete_instances(&kind, writes).await {
        Ok(instances) => instances,
        Err(error) => Instances::Failed(error.to_string()),
    }
}

async fn delete_instances(kind: &ApiKind, writes: &Writes) -> Result<Instances, ApiError> {
    let client = writes.untracked().client();
    let there = dynamic::list(client, kind, EVERYWHERE).await?;
    let namespaces = untouched(&there);
    if namespaces.is_empty() {
        return Ok(Instances::counted(&there));
    }
    for namespace in namespaces {
        dynamic::delete_all(client, kind, namespace).await?;
    }
    Ok(Instances::counted(&dynamic::list(client, kind, EVERYWHERE).await?))
}

impl Controller for DefinitionController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        DEFINITION_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.definitions.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(definition) = self.definitions.get(key).filter(|definition| is_waiting(definition)) else {
            return Ok(Next::Wake);
        };
        let instances = clean_up(&definition, writes).await;
        let now = self.clock.now();
        if let Some(patch) = patch(&definition, &instances, now) {
            gone_is_fine(writes.merge(&self.definitions, key, Part::Status, &patch).await)?;
        }
        Ok(if instances.let_go() { Next::Wake } else { Next::After(look_again_after(&definition, now)) })
    }
}

//! The thin part: looks at the server, asks [`super::decide`], writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Preconditions;
use tracing::warn;

use super::GC_ROLE;
use super::decide::{Dependents, OwnerState, Verdict, decide, unblocked, without_finalizer, without_owners};
use super::graph::{FOREGROUND, Link, Node, ORPHAN, Place, Work};
use super::monitors::{Monitors, Shared};
use crate::context::Context;
use crate::runtime::discovery::ApiKind;
use crate::runtime::dynamic;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::events::{Note, Recorder, Severity};
use crate::runtime::object::{ObjectKey, Uid, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Deletion, Propagation, Writes, all_of, delete_params, gone_is_fine};

/// How soon to look again at an owner that the server has and no watch has shown yet.
const UNSEEN_RECHECK: Duration = Duration::from_secs(30);

/// Deletes what nobody owns any more.
pub struct GarbageCollector {
    shared: Arc<Shared>,
    recorder: Recorder,
}

impl GarbageCollector {
    /// A collector on the graph that `monitors` fill.
    pub fn new(context: &Context, monitors: &Monitors) -> Arc<Self> {
        Arc::new(Self { shared: monitors.shared(), recorder: context.recorder.of(GC_ROLE.controller) })
    }

    async fn look_at(&self, uid: &Uid, writes: &Writes) -> Result<Next, ReconcileError> {
        let known =
            self.shared.graph().get(uid).map(|node| (node.place.clone(), node.deleting, node.foreground));
        match known {
            None => Ok(Next::Wake),
            Some((Place::Virtual(link, namespace), ..)) => {
                Ok(self.look_up(&link, &namespace, writes).await?)
            }
            Some((Place::Observed(..), true, false)) => Ok(Next::Wake),
            Some((Place::Observed(kind, key), _, foreground)) => {
                self.look_at_observed(uid, foreground, &kind, &key, writes).await
            }
        }
    }

    /// Whether an owner that no watch has shown is there.
    async fn look_up(&self, link: &Link, namespace: &str, writes: &Writes) -> Result<Next, ApiError> {
        match self.ask(link, namespace, writes).await? {
            Answer::State(OwnerState::Dangling) => {
                self.update(|graph, work| graph.forget_virtual(&link.uid, work));
                Ok(Next::Wake)
            }
            Answer::State(OwnerState::Solid | OwnerState::Waiting) => Ok(Next::After(UNSEEN_RECHECK)),
            Answer::UnknownKind => Ok(self.park(link.uid.clone(), link)),
            Answer::OutOfReach => Ok(Next::Wake),
        }
    }

    /// Waits until more kinds are served. Until then the dependents are kept.
    fn park(&self, uid: Uid, owner: &Link) -> Next {
        if self.shared.park(Work::Item(uid)) {
            let Link { group, kind, name, .. } = owner;
            warn!(%group, %kind, %name, "an owner reference names a kind that is not served; its dependent is kept");
        }
        Next::Wake
    }

    async fn look_at_observed(
        &self,
        uid: &Uid,
        foreground: bool,
        kind: &ApiKind,
        key: &ObjectKey,
        writes: &Writes,
    ) -> Result<Next, ReconcileError> {
        let client = writes.untracked().client();
        let live = dynamic::get(client, kind, key).await?.filter(|live| Uid::of(live) == *uid);
        let Some(live) = live else {
            self.update(|graph, work| graph.forget(uid, work));
            return Ok(Next::Wake);
        };
        if foreground {
            return self.wait_for_dependents(uid, kind, key, &live, writes).await;
        }
        if is_deleting(&live) {
            return Ok(Next::Wake);
        }
        let mut owners = Vec::new();
        for reference in live.owner_references.iter().flatten() {
            let link = Link::of(reference);
            match self.owner_state(kind, key, &link, writes).await? {
                Some(state) => owners.push((link.uid, state)),
                None => return Ok(self.park(uid.clone(), &link)),
            }
        }
        let verdict = decide(&live, &owners, || self.dependents_of(uid));
        self.carry_out(verdict, kind, key, &live, writes).await?;
        Ok(Next::Wake)
    }

    async fn carry_out(
        &self,
        verdict: Verdict,
        kind: &ApiKind,
        key: &ObjectKey,
        live: &ObjectMeta,
        writes: &Writes,
    ) -> Result<(), ApiError> {
        let client = writes.untracked().client();
        let propagation = match verdict {
            Verdict::Keep => return Ok(()),
            Verdict::DropOwners(gone) => {
                return gone_is_fine(dynamic::merge(client, kind, key, &without_owners(live, &gone)).await);
            }
            Verdict::Delete(propagation) => propagation,
            Verdict::UnblockAndDelete => {
                gone_is_fine(dynamic::merge(client, kind, key, &unblocked(live)).await)?;
                // The patch has made a new revision.
                return gone_is_fine(delete(kind, key, live, None, Propagation::Foreground, writes).await);
            }
        };
        let revision = live.resource_version.clone();
        gone_is_fine(delete(kind, key, live, revision, propagation, writes).await)
    }

    /// An object in foreground deletion goes when none of its dependents blocks it any more.
    async fn wait_for_dependents(
        &self,
        uid: &Uid,
        kind: &ApiKind,
        key: &ObjectKey,
        live: &ObjectMeta,
        writes: &Writes,
    ) -> Result<Next, ReconcileError> {
        // All were filed when the deletion began, and each files this object when it is gone.
        let blocker = self.shared.graph().blocker(uid).map(|(uid, node)| (uid.clone(), node.foreground));
        match (blocker, without_finalizer(live, FOREGROUND)) {
            (Some((blocker, false)), _) => self.shared.queue.add(Work::Item(blocker)),
            (None, Some(patch)) => {
                gone_is_fine(dynamic::merge(writes.untracked().client(), kind, key, &patch).await)?;
            }
            (Some((_, true)), _) | (None, None) => {}
        }
        Ok(Next::Wake)
    }

    /// How the owner that `link` means stands; `None` when its kind is not served. What a watch shows is believed when
    /// it speaks for keeping; that an owner is gone, or waits for its dependents to go, is asked of the server.
    async fn owner_state(
        &self,
        kind: &ApiKind,
        key: &ObjectKey,
        link: &Link,
        writes: &Writes,
    ) -> Result<Option<OwnerState>, ApiError> {
        if self.shared.graph().shows_solid(link, key.namespace()) {
            return Ok(Some(OwnerState::Solid));
        }
        match self.ask(link, key.namespace(), writes).await? {
            Answer::UnknownKind => Ok(None),
            Answer::OutOfReach => {
                self.warn_of_namespace(kind, key, link);
                Ok(Some(OwnerState::Solid))
            }
            Answer::State(state) => {
                let is_elsewhere = |node: &Node| matches!(node.place, Place::Observed(..));
                if state == OwnerState::Dangling
                    && self.shared.graph().get(&link.uid).is_some_and(is_elsewhere)
                {
                    self.warn_of_namespace(kind, key, link);
                }
                Ok(Some(state))
            }
        }
    }

    /// Asks the server for an owner, as seen from `namespace`.
    async fn ask(&self, link: &Link, namespace: &str, writes: &Writes) -> Result<Answer, ApiError> {
        let Some(kind) = self.shared.resolve(&link.group, &link.kind) else { return Ok(Answer::UnknownKind) };
        if kind.namespaced && namespace.is_empty() {
            return Ok(Answer::OutOfReach);
        }
        let namespace = if kind.namespaced { namespace } else { "" };
        let key = ObjectKey::new(namespace, &link.name);
        let live = dynamic::get(writes.untracked().client(), &kind, &key).await?;
        Ok(Answer::State(match live.filter(|live| Uid::of(live) == link.uid) {
            None => OwnerState::Dangling,
            Some(live) => {
                let waits = live.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
                if is_deleting(&live) && waits { OwnerState::Waiting } else { OwnerState::Solid }
            }
        }))
    }

    fn dependents_of(&self, uid: &Uid) -> Dependents {
        let graph = self.shared.graph();
        let mut dependents = graph.dependents(uid).peekable();
        if dependents.peek().is_none() {
            return Dependents::None;
        }
        if dependents.any(|(_, node)| node.foreground) { Dependents::Waiting } else { Dependents::Some }
    }

    /// Takes the owner away from all of its dependents, and then the finalizer from the owner.
    async fn orphan(&self, uid: &Uid, writes: &Writes) -> Result<Next, ReconcileError> {
        let (kind, key, dependents) = {
            let graph = self.shared.graph();
            let Some(Place::Observed(kind, key)) = graph.get(uid).map(|node| node.place.clone()) else {
                return Ok(Next::Wake);
            };
            let places = graph.dependents(uid).map(|(uid, node)| (uid.clone(), node.place.clone()));
            (kind, key, places.collect::<Vec<_>>())
        };
        let client = writes.untracked().client();
        all_of(dependents.iter().map(|(dependent, place)| async move {
            let Place::Observed(kind, key) = place else { return Ok(()) };
            let live = dynamic::get(client, kind, key).await?.filter(|live| Uid::of(live) == *dependent);
            match live
                .filter(|live| live.owner_references.iter().flatten().any(|owner| owner.uid == uid.as_str()))
            {
                None => Ok(()),
                Some(live) => {
                    let patch = without_owners(&live, std::slice::from_ref(uid));
                    gone_is_fine(dynamic::merge(client, kind, key, &patch).await)
                }
            }
        }))
        .await?;
        let live = dynamic::get(client, &kind, &key).await?.filter(|live| Uid::of(live) == *uid);
        if let Some(patch) = live.and_then(|live| without_finalizer(&live, ORPHAN)) {
            gone_is_fine(dynamic::merge(client, &kind, &key, &patch).await)?;
        }
        Ok(Next::Wake)
    }

    fn update(&self, change: impl FnOnce(&mut super::graph::Graph, &mut BTreeSet<Work>)) {
        let mut work = BTreeSet::new();
        change(&mut self.shared.graph(), &mut work);
        self.shared.queue.extend(work);
    }

    fn warn_of_namespace(&self, kind: &ApiKind, key: &ObjectKey, link: &Link) {
        let regarding = ObjectReference {
            api_version: Some(kind.resource().api_version),
            kind: Some(kind.kind.clone()),
            namespace: Some(key.namespace().to_owned()).filter(|namespace| !namespace.is_empty()),
            name: Some(key.name().to_owned()),
            ..ObjectReference::default()
        };
        let text = format!(
            "ownerRef [{}/{}, name: {}, uid: {}] does not exist in namespace \"{}\"",
            link.group,
            link.kind,
            link.name,
            link.uid,
            key.namespace()
        );
        self.recorder.publish(Note {
            regarding,
            severity: Severity::Warning,
            reason: "OwnerRefInvalidNamespace",
            action: "CollectGarbage",
            text,
        });
    }
}

/// What the server says about an owner.
enum Answer {
    /// How it stands.
    State(OwnerState),
    /// No resource of its kind is served.
    UnknownKind,
    /// It would be in a namespace, and its dependent is in none.
    OutOfReach,
}

async fn delete(
    kind: &ApiKind,
    key: &ObjectKey,
    live: &ObjectMeta,
    revision: Option<String>,
    propagation: Propagation,
    writes: &Writes,
) -> Result<(), ApiError> {
    let how = Deletion { propagation: Some(propagation), ..Deletion::default() };
    let mut params = delete_params(&Uid::of(live), how);
    params.preconditions = Some(Preconditions { uid: live.uid.clone(), resource_version: revision });
    dynamic::delete(writes.untracked().client(), kind, key, &params).await
}

impl Controller for GarbageCollector {
    type Key = Work;

    fn name(&self) -> &'static str {
        GC_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<Work>> {
        Arc::clone(&self.shared.queue)
    }

    async fn synced(&self) {
        self.shared.synced().await;
    }

    async fn reconcile(&self, key: &Work, writes: &Writes) -> Result<Next, ReconcileError> {
        match key {
            Work::Item(uid) => self.look_at(uid, writes).await,
            Work::Orphan(uid) => self.orphan(uid, writes).await,
        }
    }
}

//! Metadata watches of every resource that can be deleted, those of CustomResourceDefinitions included.
//!
//! What there is to watch is asked of the server once, and again when a CustomResourceDefinition or an APIService
//! changes; nothing is asked periodically.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tracing::{debug, warn};

use super::graph::{Graph, Work};
use crate::runtime::discovery::{ApiKind, Discovered, ResourceId, discover};
use crate::runtime::object::Uid;
use crate::runtime::queue::{Backoff, WorkQueue};
use crate::runtime::rng::Rng;
use crate::runtime::runner::{Stop, stopped};

const RETRY: Backoff = Backoff { first: Duration::from_millis(200), limit: Duration::from_secs(30) };
/// A new CustomResourceDefinition changes several times until it is served; one discovery serves them all.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a resource that cannot be listed may hold up the rest at the start.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(30);

/// Fills the graph.
pub struct Monitors {
    shared: Arc<Shared>,
    client: Client,
    rng: Arc<Rng>,
}

/// What the watches and the collector share.
pub(super) struct Shared {
    graph: Mutex<Graph>,
    pub(super) queue: Arc<WorkQueue<Work>>,
    kinds: Mutex<Kinds>,
    /// What waits for a kind to be served.
    parked: Mutex<BTreeSet<Work>>,
    rediscover: Notify,
    /// The resources whose first list is still awaited; `None` before the first discovery.
    unlisted: watch::Sender<Option<HashSet<ResourceId>>>,
    /// Who wants to know what goes.
    gone: Mutex<Vec<GoneHandler>>,
}

type GoneHandler = Box<dyn Fn(&ApiKind, &str) + Send + Sync>;

/// Tells others what the monitors see go, and what resources there are.
#[derive(Clone)]
pub(crate) struct Gone {
    shared: Arc<Shared>,
}

impl Gone {
    /// Calls `handler` with the resource and the namespace of each object that is gone, on the way to the graph: it must
    /// not block.
    pub(crate) fn on_gone(&self, handler: impl Fn(&ApiKind, &str) + Send + Sync + 'static) {
        self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// Waits until it is known what resources there are, and what of them; not for ever.
    pub(crate) async fn synced(&self) {
        self.shared.synced().await;
    }

    /// The resource of that group and plural name, if it is watched.
    pub(crate) fn kind(&self, id: &ResourceId) -> Option<Arc<ApiKind>> {
        self.shared.kinds().values().find(|kind| kind.id == *id).cloned()
    }
}

/// Every deletable resource, by group and kind.
type Kinds = HashMap<(Box<str>, Box<str>), Arc<ApiKind>>;

impl Shared {
    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resource that an owner reference means.
    pub(super) fn resolve(&self, group: &str, kind: &str) -> Option<Arc<ApiKind>> {
        self.kinds().get(&(group.into(), kind.into())).cloned()
    }

    /// Files `work` again once there are more kinds. Says whether it was not filed already.
    pub(super) fn park(&self, work: Work) -> bool {
        self.parked().insert(work)
    }

    fn parked(&self) -> MutexGuard<'_, BTreeSet<Work>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn synced(&self) {
        let mut unlisted = self.unlisted.subscribe();
        let listed = unlisted.wait_for(|unlisted| unlisted.as_ref().is_some_and(HashSet::is_empty));
        if tokio::time::timeout(START_DEADLINE, listed).await.is_err() {
            warn!("some resources cannot be listed; collecting garbage of the others");
        }
    }

    fn tell_gone(&self, kind: &ApiKind, namespace: &str) {
        let handlers = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.iter().for_each(|handler| handler(kind, namespace));
    }

    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the graph and files what that asks for.
    fn update(&self, change: impl FnOnce(&mut Graph, &mut BTreeSet<Work>)) {
        let mut work = BTreeSet::new();
        change(&mut self.graph(), &mut work);
        self.queue.extend(work);
    }
}

impl Monitors {
    /// Watches that have not begun yet.
    pub fn new(client: Client, rng: Arc<Rng>) -> Self {
        let shared = Shared {
            graph: Mutex::default(),
            queue: Arc::default(),
            kinds: Mutex::default(),
            parked: Mutex::default(),
            rediscover: Notify::new(),
            unlisted: watch::Sender::new(None),
            gone: Mutex::default(),
        };
        Self { shared: Arc::new(shared), client, rng }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// A way to hear of what goes.
    pub(crate) fn gone(&self) -> Gone {
        Gone { shared: self.shared() }
    }

    /// Watches until `stop`.
    pub async fn run(self, mut stop: Stop) {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => {}
            () = self.keep_up() => {}
        }
    }

    async fn keep_up(&self) {
        let mut watches = Watches::default();
        loop {
            let discovered = self.discover().await;
            self.adjust(&mut watches, discovered);
            tokio::select! {
                () = self.shared.rediscover.notified() => {}
                () = watches.panicked() => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn discover(&self) -> Discovered {
        let mut failures = 0;
        loop {
            match discover(&self.client).await {
                Ok(discovered) => return discovered,
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(%error, "cannot tell which resources there are, retrying");
                    }
                    tokio::time::sleep(RETRY.delay(failures, &self.rng)).await;
                }
            }
        }
    }

    /// Begins the watches of new resources and ends those of resources that are gone.
    fn adjust(&self, watches: &mut Watches, discovered: Discovered) {
        let wanted: HashMap<_, _> = discovered
            .kinds
            .into_iter()
            .filter(|kind| kind.can(&["list", "watch", "delete"]) && !is_event(&kind.id))
            .map(|kind| (kind.id.clone(), Arc::new(kind)))
            .collect();
        let group = |version: &String| version.split_once('/').map(|(group, _)| group.to_owned());
        let failed: HashSet<_> = discovered.failed.iter().filter_map(group).collect();
        watches.running.retain(|id, (kind, task)| {
            // A group that cannot be asked about right now keeps its watches.
            let keep =
                wanted.get(id).map_or(failed.contains(&id.group), |wanted| wanted.version == kind.version);
            if !keep {
                task.abort();
                self.retire(kind, wanted.contains_key(id));
            }
            keep
        });
        let mut fresh: Vec<_> =
            wanted.into_values().filter(|kind| !watches.running.contains_key(&kind.id)).collect();
        fresh.sort_by(|a, b| a.id.cmp(&b.id));
        self.shared.unlisted.send_modify(|unlisted| {
            unlisted.get_or_insert_default().extend(fresh.iter().map(|kind| kind.id.clone()));
        });
        let more = !fresh.is_empty();
        for kind in fresh {
            let name = (kind.id.group.as_str().into(), kind.kind.as_str().into());
            self.shared.kinds().insert(name, Arc::clone(&kind));
            let work = follow(self.client.clone(), Arc::clone(&kind), self.shared(), Arc::clone(&self.rng));
            let task = watches.tasks.spawn(work);
            watches.running.insert(kind.id.clone(), (kind, task));
        }
        if more {
            self.shared.queue.extend(std::mem::take(&mut *self.shared.parked()));
        }
    }

    /// Lets go of a resource that is no longer served; `moved` when it is in another version, where its objects are
    /// the same.
    fn retire(&self, kind: &ApiKind, moved: bool) {
        self.shared.kinds().remove(&(kind.id.group.as_str().into(), kind.kind.as_str().into()));
        self.shared.unlisted.send_modify(|unlisted| {
            if let Some(unlisted) = unlisted {
                unlisted.remove(&kind.id);
            }
        });
        if !moved {
            self.shared.update(|graph, work| {
                graph.of_resource(&kind.id).iter().for_each(|uid| graph.forget(uid, work));
            });
        }
    }
}

/// Events own nothing, are owned by nothing, and are many.
fn is_event(id: &ResourceId) -> bool {
    id.plural == "events" && matches!(id.group.as_str(), "" | "events.k8s.io")
}

/// The watches under way; they end when this is dropped.
#[derive(Default)]
struct Watches {
    running: HashMap<ResourceId, (Arc<ApiKind>, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Waits for a watch to panic, and panics with it: the graph stands still where it stood.
    async fn panicked(&mut self) {
        loop {
            match self.tasks.join_next().await.map(|ended| ended.map_err(JoinError::try_into_panic)) {
                Some(Err(Ok(panic))) => std::panic::resume_unwind(panic),
                // Aborted, because its resource is no longer served.
                Some(Err(Err(_)) | Ok(())) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// Follows one resource until it is aborted.
async fn follow(client: Client, kind: Arc<ApiKind>, shared: Arc<Shared>, rng: Arc<Rng>) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &kind.resource());
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    let mut listed: Option<HashSet<Uid>> = None;
    let mut failures = 0;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if !matches!(event, watcher::Event::Init) {
                    failures = 0;
                }
                take_in(event, &kind, &shared, &mut listed);
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    warn!(resource = %kind.id, %error, "metadata watch failed, retrying");
                } else {
                    debug!(resource = %kind.id, failures, %error, "metadata watch still fails");
                }
                tokio::time::sleep(RETRY.delay(failures, &rng)).await;
            }
        }
    }
}

fn take_in(
    event: watcher::Event<PartialObjectMeta<DynamicObject>>,
    kind: &Arc<ApiKind>,
    shared: &Shared,
    listed: &mut Option<HashSet<Uid>>,
) {
    match event {
        watcher::Event::Init => *listed = Some(HashSet::new()),
        watcher::Event::InitApply(object) => {
            if let Some(listed) = listed {
                listed.insert(Uid::of(&object.metadata));
            }
            shared.update(|graph, work| graph.observe(kind, &object.metadata, work));
        }
        watcher::Event::InitDone => {
            let listed = listed.take().unwrap_or_default();
            let mut namespaces: BTreeSet<Box<str>> = BTreeSet::new();
            shared.update(|graph, work| {
                let gone = graph.of_resource(&kind.id).into_iter().filter(|uid| !listed.contains(uid));
                for uid in gone {
                    namespaces.extend(graph.get(&uid).and_then(|node| node.place.namespace()).map(Box::from));
                    graph.forget(&uid, work);
                }
            });
            for namespace in namespaces {
                shared.tell_gone(kind, &namespace);
            }
            shared.unlisted.send_if_modified(|unlisted| {
                unlisted.as_mut().is_some_and(|unlisted| unlisted.remove(&kind.id))
            });
        }
        watcher::Event::Apply(object) => {
            shared.update(|graph, work| graph.observe(kind, &object.metadata, work));
            ask_again_after(kind, shared, listed.is_none());
        }
        watcher::Event::Delete(object) => {
            shared.update(|graph, work| graph.forget(&Uid::of(&object.metadata), work));
            shared.tell_gone(kind, object.metadata.namespace.as_deref().unwrap_or_default());
            ask_again_after(kind, shared, listed.is_none());
        }
    }
}

/// A change of what makes resources makes the server be asked for them.
fn ask_again_after(kind: &ApiKind, shared: &Shared, is_change: bool) {
    let makes_resources = matches!(
        (kind.id.group.as_str(), kind.id.plural.as_str()),
        ("apiextensions.k8s.io", "customresourcedefinitions") | ("apiregistration.k8s.io", "apiservices")
    );
    if is_change && makes_resources {
        shared.rediscover.notify_one();
    }
}

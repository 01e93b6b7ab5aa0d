//! The node's pods: one worker each, fed by a watch on the pods that are bound here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use xebec_image::config::ChainId;
use xebec_image::store::Lease;
use xebec_sandbox::sandbox::{ContainerInfo, ContainerState, Recovered};

use crate::host::Host;
use crate::pod::run::uid;
use crate::pod::spec::CHAIN;
use crate::pod::worker::{Found, View, Wanted, Worker};

/// A pod's worker, seen from outside.
struct Handle {
    wanted: watch::Sender<Wanted>,
    view: watch::Receiver<View>,
}

/// All pods of the node.
#[derive(Default)]
pub struct Pods {
    workers: Mutex<HashMap<String, Handle>>,
}

impl Pods {
    /// All pods, in the order of their namespaces and names.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Pod>> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pods: Vec<Arc<Pod>> =
            workers.values().map(|handle| handle.view.borrow().pod.clone()).collect();
        pods.sort_by(|a, b| {
            let key = |pod: &Pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone());
            key(a).cmp(&key(b))
        });
        pods
    }

    /// What is known of a pod, now and later.
    #[must_use]
    pub fn watch(&self, namespace: &str, name: &str) -> Option<watch::Receiver<View>> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |pod: &Pod| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        };
        let found = workers.values().filter(|handle| same(&handle.view.borrow().pod));
        // Of an old and a new pod of the same name the one that is not being deleted.
        found
            .min_by_key(|h| h.view.borrow().pod.metadata.deletion_timestamp.is_some())
            .map(|h| h.view.clone())
    }
}

/// The workers of all pods, as tasks.
struct Workers {
    host: Arc<Host>,
    pods: Arc<Pods>,
    tasks: JoinSet<()>,
    /// The pod of each task.
    uids: HashMap<Id, String>,
}

/// Runs the node's pods until `shutdown`; containers run on then.
pub async fn run(host: Arc<Host>, pods: Arc<Pods>, shutdown: CancellationToken) {
    let Some(mut found) = shutdown.run_until_cancelled(recover(&host)).await else { return };
    let api: Api<Pod> = Api::all(host.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", host.name));
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    let mut workers =
        Workers { host: host.clone(), pods: pods.clone(), tasks: JoinSet::new(), uids: HashMap::new() };
    let mut removal = JoinSet::new();
    let mut listed: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = workers.tasks.join_next_with_id(), if !workers.tasks.is_empty() => workers.ended(ended).await,
            Some(event) = events.next() => match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => {
                    listed.push(uid(&pod).to_owned());
                    workers.apply(Arc::new(pod), &mut found);
                }
                Ok(Event::InitDone) => {
                    forget_all_but(&pods, &listed);
                    removal.spawn(remove_unknown(host.clone(), pods.clone(), std::mem::take(&mut found), listed.clone()));
                }
                Ok(Event::Apply(pod)) => workers.apply(Arc::new(pod), &mut found),
                Ok(Event::Delete(pod)) => gone(&pods, Arc::new(pod)),
                Err(error) => tracing::warn!(%error, "the watch on this node's pods broke, trying again"),
            },
            Some(removed) = removal.join_next(), if !removal.is_empty() => if let Err(error) = removed {
                tracing::error!(%error, "removing what is left of pods has failed");
            },
        }
    }
    // Workers end when nobody can tell them anything any more.
    pods.workers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    while workers.tasks.join_next().await.is_some() {}
}

impl Workers {
    fn apply(&mut self, pod: Arc<Pod>, found: &mut HashMap<String, Found>) {
        let id = uid(&pod).to_owned();
        if let Some(handle) = self.pods.workers.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            handle.wanted.send_replace(Wanted::Pod(pod));
            return;
        }
        let over = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .is_some_and(|p| p == "Succeeded" || p == "Failed");
        let found = found.remove(&id);
        if over
            && found.is_none()
            && pod.metadata.deletion_timestamp.is_none()
            && !self.host.pod_dir(&id).root().exists()
        {
            return;
        }
        self.begin(pod.clone(), Wanted::Pod(pod), found, Duration::ZERO);
    }

    /// Begins to look after a pod, after a pause.
    fn begin(&mut self, pod: Arc<Pod>, wanted: Wanted, found: Option<Found>, pause: Duration) {
        let id = uid(&pod).to_owned();
        let (worker, view) = Worker::new(self.host.clone(), pod, found);
        let (wanted, wants) = watch::channel(wanted);
        let mut known = self.pods.workers.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id.clone(), Handle { wanted, view });
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            worker.run(wants).await;
        });
        self.uids.insert(task.id(), id);
    }

    /// A worker has ended: its pod is gone. If it has failed, another takes over what it left.
    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (task, failure) = match ended {
            Ok((task, ())) => (task, None),
            Err(error) => (error.id(), Some(error)),
        };
        let Some(id) = self.uids.remove(&task) else { return };
        let handle = self.pods.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let (Some(error), Some(handle)) = (failure, handle) else { return };
        tracing::error!(%error, uid = id, "the worker of a pod has failed, another takes over");
        let (view, wanted) = (handle.view.borrow().clone(), handle.wanted.borrow().clone());
        let found = match view.sandbox {
            Some(sandbox) => Some(look_into(&self.host, Recovered::Alive(sandbox)).await.1),
            None => None,
        };
        self.begin(view.pod, wanted, found, AFTER_FAILURE);
    }
}

/// How long a pod whose worker has failed is left alone, so that one that fails each time does little else.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// What an earlier server left of pods, by the UID of each.
async fn recover(host: &Host) -> HashMap<String, Found> {
    let mut found = HashMap::new();
    for engine in &host.engines {
        let recovered = match engine.recover().await {
            Ok(recovered) => recovered,
            Err(error) => {
                tracing::error!(engine = %engine.kind(), %error, "sandboxes of an earlier server cannot be found");
                continue;
            }
        };
        let all = recovered.into_iter().map(|recovered| look_into(host, recovered));
        found.extend(futures::future::join_all(all).await);
    }
    found
}

/// What is in a sandbox that was found again. One that does not say is of no use: its pod gets another.
async fn look_into(host: &Host, recovered: Recovered) -> (String, Found) {
    let (id, sandbox, containers) = match recovered {
        Recovered::Alive(sandbox) => {
            let listed = sandbox.list().await;
            (sandbox.id().as_str().to_owned(), Some(sandbox), listed)
        }
        Recovered::Dead { id, containers, .. } => {
            tracing::info!(%id, "a sandbox ended with its processes");
            (id.as_str().to_owned(), None, Ok(containers))
        }
    };
    let answers = containers.is_ok();
    let containers = containers.unwrap_or_else(|error| {
        tracing::warn!(id, %error, "a sandbox does not say what runs in it, its pod gets another");
        Vec::new()
    });
    let images = containers.iter().filter_map(|info| hold(host, info)).collect();
    (id, Found { sandbox, answers, containers, images })
}

/// Keeps the image layers of a container that runs.
fn hold(host: &Host, info: &ContainerInfo) -> Option<(String, Arc<Vec<Lease>>)> {
    if matches!(info.state, ContainerState::Exited(_)) {
        return None;
    }
    let chain = info.labels.get(CHAIN)?.split(' ').map(ChainId::parse).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) => Some((info.labels.get("container")?.clone(), Arc::new(host.images.hold(&chain)))),
        Err(error) => {
            tracing::warn!(container = %info.id, %error, "the image layers of a container cannot be kept");
            None
        }
    }
}

fn gone(pods: &Pods, pod: Arc<Pod>) {
    let known = pods.workers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = known.get(uid(&pod)) {
        handle.wanted.send_replace(Wanted::Gone(pod));
    }
}

/// Pods that a fresh list does not hold are gone.
fn forget_all_but(pods: &Pods, listed: &[String]) {
    let known = pods.workers.lock().unwrap_or_else(PoisonError::into_inner);
    for (id, handle) in known.iter().filter(|(id, _)| !listed.contains(id)) {
        tracing::info!(uid = id, "a pod went while nobody watched");
        let pod = handle.view.borrow().pod.clone();
        handle.wanted.send_replace(Wanted::Gone(pod));
    }
}

/// What is left of pods that the API does not know is taken down: sandboxes, links, files.
async fn remove_unknown(
    host: Arc<Host>,
    pods: Arc<Pods>,
    found: HashMap<String, Found>,
    listed: Vec<String>,
) {
    for (id, found) in found {
        tracing::info!(uid = id, "a sandbox without a pod is removed");
        let Some(sandbox) = found.sandbox else { continue };
        if let Err(error) = sandbox.remove().await {
            tracing::warn!(uid = id, %error, "a sandbox without a pod could not be removed");
        }
    }
    let known = |id: &str| {
        let workers = pods.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.contains_key(id) || listed.iter().any(|listed| listed == id)
    };
    for (id, _) in host.links.pods() {
        if !known(id.as_str())
            && let Err(error) = host.links.detach(&id).await
        {
            tracing::warn!(uid = id.as_str(), %error, "the link of a pod that is gone could not be removed");
        }
    }
    let left: Vec<PathBuf> = match directories(&host.pods) {
        Ok(all) => all.into_iter().filter(|(id, _)| !known(id)).map(|(_, path)| path).collect(),
        // There has not been a pod yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return tracing::warn!(%error, "the directories of pods cannot be listed"),
    };
    for path in left {
        tracing::info!(path = %path.display(), "what is left of a pod is removed");
        let target = path.clone();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(target));
        if let Err(error) = removed.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            tracing::warn!(path = %path.display(), %error, "what is left of a pod could not be removed");
        }
    }
}

/// The directories of pods by the UIDs of those.
fn directories(pods: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    fs::read_dir(pods)?
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect()
}

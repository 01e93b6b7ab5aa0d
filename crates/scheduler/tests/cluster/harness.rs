//! A server on a store in memory, everything that runs on it, and a node agent that pretends.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use xebec_controllers::runtime::informer::Informers;
use xebec_controllers::runtime::rng::Rng;
use xebec_server::auth::User;
use xebec_server::auth::keys::ClusterKeys;
use xebec_server::config::Settings;
use xebec_server::core::SystemClock;
use xebec_server::nodes::NoNodes;
use xebec_server::server::{ApiServer, Parts};
use xebec_store::Memory;
use xebec_store::limits::Limits;

/// Far longer than anything here takes.
const HANG: Duration = Duration::from_secs(60);

/// What tests can watch.
pub(crate) trait Object:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}
impl<T: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Object for T {}

pub(crate) struct Cluster {
    server: ApiServer,
    informers: Informers,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Cluster {
    pub(crate) async fn start(nodes: &[&str]) -> Self {
        let filter = std::env::var("TEST_LOG").unwrap_or_else(|_| "error".to_owned());
        // Several tests share a process; the first sets it up.
        drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
        let keys = ClusterKeys::ephemeral(&ring::rand::SystemRandom::new()).unwrap();
        let store = Memory::new(&Limits::default());
        let parts = Parts {
            store: Arc::new(store),
            nodes: Arc::new(NoNodes),
            clock: Arc::new(SystemClock),
            settings: Settings::default(),
        };
        let server = ApiServer::new(parts, &keys).unwrap();
        server.start().await.unwrap();
        let client = client(&server);
        let informers = Informers::new(client.clone(), Arc::new(Rng::seeded(1)));
        let (stop, stopping) = watch::channel(false);
        let stopped = |mut stopping: watch::Receiver<bool>| async move {
            drop(stopping.wait_for(|stop| *stop).await);
        };
        let mut tasks = JoinSet::new();
        let config = xebec_controllers::Config {
            informers: Some(informers.clone()),
            ..xebec_controllers::Config::new(keys.ca_pem().to_owned())
        };
        let run = xebec_controllers::run(client.clone(), config, stopped(stopping.clone()));
        tasks.spawn(async move { run.await.unwrap() });
        let config = xebec_scheduler::Config {
            informers: Some(informers.clone()),
            ..xebec_scheduler::Config::default()
        };
        let run = xebec_scheduler::run(client.clone(), config, stopped(stopping.clone()));
        tasks.spawn(async move { run.await.unwrap() });
        tasks.spawn(pretend_to_run_pods(client.clone(), stopped(stopping.clone())));
        tasks.spawn(pretend_to_live(client.clone(), stopped(stopping)));
        let cluster = Self { server, informers, tasks, stop };
        for node in nodes {
            cluster.add_node(node, &json!({}), "32").await;
        }
        // Pods are refused before their account is there.
        let accounts: Api<ServiceAccount> = cluster.api("default");
        cluster.until(&accounts, "default", |_| true).await;
        cluster
    }

    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.informers.stop().await;
        self.server.stop().await;
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.server)
    }

    pub(crate) fn api<K: Object<Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client(), namespace)
    }

    pub(crate) fn apis<A, B, C>(&self, namespace: &str) -> (Api<A>, Api<B>, Api<C>)
    where
        A: Object<Scope = NamespaceResourceScope>,
        B: Object<Scope = NamespaceResourceScope>,
        C: Object<Scope = NamespaceResourceScope>,
    {
        (self.api(namespace), self.api(namespace), self.api(namespace))
    }

    pub(crate) async fn add_node(&self, name: &str, labels: &Value, cpu: &str) {
        let allocatable = json!({"cpu": cpu, "memory": "64Gi", "pods": "200"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
                          "status": {"capacity": allocatable, "allocatable": allocatable,
                                     "conditions": [{"type": "Ready", "status": "True"}]}});
        self.create_cluster(&node).await;
        let nodes: Api<Node> = Api::all(self.client());
        let status = json!({"status": node["status"]});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// Creates an object of any kind in a namespace.
    pub(crate) async fn create(&self, namespace: &str, object: &Value) -> Value {
        self.post(&path(object, Some(namespace)), object).await.unwrap()
    }

    pub(crate) async fn create_cluster(&self, object: &Value) -> Value {
        self.post(&path(object, None), object).await.unwrap()
    }

    /// Creates an object whose resource has only just been defined.
    pub(crate) async fn create_when_served(&self, path: &str, object: &Value) -> Value {
        for _ in 0..100 {
            match self.post(path, object).await {
                Ok(created) => return created,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("{path} is not served");
    }

    pub(crate) async fn delete_path(&self, path: &str) {
        let request = kube::core::Request::new(path.rsplit_once('/').unwrap().0);
        let name = path.rsplit_once('/').unwrap().1;
        let request = request.delete(name, &DeleteParams::background()).unwrap();
        self.client().request_text(request).await.unwrap();
    }

    async fn post(&self, path: &str, object: &Value) -> kube::Result<Value> {
        let request = kube::core::Request::new(path);
        let request = request.create(&PostParams::default(), serde_json::to_vec(object).unwrap()).unwrap();
        self.client().request(request).await
    }

    pub(crate) async fn patch<K: Object>(&self, api: &Api<K>, name: &str, patch: &Value) {
        let strategic = Patch::Strategic(patch);
        api.patch(name, &PatchParams::default(), &strategic).await.unwrap();
    }

    /// Waits until the object is as `holds` says.
    pub(crate) async fn until<K: Object>(&self, api: &Api<K>, name: &str, holds: impl Fn(&K) -> bool) -> K {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let found = first(api, config, holds);
        match tokio::time::timeout(HANG, found).await {
            Ok(found) => found,
            Err(_) => panic!("{} {name} did not become so: {}", K::kind(&()), self.show(api, name).await),
        }
    }

    async fn show<K: Object>(&self, api: &Api<K>, name: &str) -> String {
        let request =
            kube::core::Request::new(api.resource_url()).get(name, &kube::api::GetParams::default());
        let object: kube::Result<Value> = self.client().request(request.unwrap()).await;
        object.map_or_else(
            |error| error.to_string(),
            |mut object| {
                object["metadata"]["managedFields"] = json!(null);
                object.to_string()
            },
        )
    }

    /// Waits until any object is as `holds` says.
    pub(crate) async fn until_any<K: Object>(&self, api: &Api<K>, holds: impl Fn(&K) -> bool) -> K {
        let found = first(api, watcher::Config::default(), holds);
        tokio::time::timeout(HANG, found).await.unwrap_or_else(|_| panic!("no {} became so", K::kind(&())))
    }

    /// Waits until there is no such object.
    pub(crate) async fn until_gone<K: Object>(&self, api: &Api<K>, name: &str) {
        let gone =
            kube::runtime::wait::await_condition(api.clone(), name, |object: Option<&K>| object.is_none());
        match tokio::time::timeout(HANG, gone).await {
            Ok(gone) => drop(gone.unwrap()),
            Err(_) => panic!("{} {name} is still there: {}", K::kind(&()), self.show(api, name).await),
        }
    }
}

fn client(server: &ApiServer) -> Client {
    Client::new(server.local(User::component("test", &["system:masters"])), "default")
}

async fn first<K: Object>(api: &Api<K>, config: watcher::Config, holds: impl Fn(&K) -> bool) -> K {
    let mut objects = watcher(api.clone(), config).applied_objects().boxed();
    loop {
        match objects.try_next().await {
            Ok(Some(object)) if holds(&object) => return object,
            Ok(Some(_)) => {}
            Ok(None) => panic!("the watch has ended"),
            Err(error) => eprintln!("watch: {error}"),
        }
    }
}

/// The objects that a label selector picks.
pub(crate) async fn objects<K: Object>(api: &Api<K>, labels: &str) -> Vec<K> {
    api.list(&ListParams::default().labels(labels)).await.unwrap().items
}

pub(crate) fn labels_of<K: Object + Serialize>(object: &K) -> BTreeMap<String, String> {
    object.meta().labels.clone().unwrap_or_default()
}

fn path(object: &Value, namespace: Option<&str>) -> String {
    let api_version = object["apiVersion"].as_str().unwrap();
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
    match namespace {
        Some(namespace) => format!("/{root}/{api_version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{api_version}/{plural}"),
    }
}

/// The heartbeats of all nodes.
async fn pretend_to_live(client: Client, stopped: impl Future<Output = ()>) {
    let work = async {
        let nodes: Api<Node> = Api::all(client.clone());
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let now = xebec_controllers::runtime::clock::Clock::now(
                &xebec_controllers::runtime::clock::SystemClock,
            );
            let condition = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": now.to_string()});
            let status = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            for node in nodes.list(&ListParams::default()).await.unwrap().items {
                let name = node.metadata.name.unwrap();
                nodes.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stopped => {}
    }
}

/// What a kubelet does, without running anything: bound pods become ready, deleted ones go.
async fn pretend_to_run_pods(client: Client, stopped: impl Future<Output = ()>) {
    let work = async {
        let pods: Api<Pod> = Api::all(client.clone());
        let mut events = watcher(pods, watcher::Config::default()).applied_objects().boxed();
        let mut serial = 0_u32;
        let mut running = JoinSet::new();
        while let Some(event) = events.next().await {
            let Ok(pod) = event else { continue };
            if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
                continue;
            }
            serial += 1;
            running.spawn(serve(client.clone(), pod, serial));
            while running.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = work => {}
        () = stopped => {}
    }
}

async fn serve(client: Client, pod: Pod, serial: u32) {
    let api: Api<Pod> = Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap());
    let name = pod.metadata.name.as_deref().unwrap();
    if pod.metadata.deletion_timestamp.is_some() {
        let uid = pod.metadata.uid.clone();
        let params = DeleteParams::default().grace_period(0);
        let params = params.preconditions(kube::api::Preconditions { uid, resource_version: None });
        // It may be gone already.
        drop(api.delete(name, &params).await);
        return;
    }
    if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running") {
        return;
    }
    let status = json!({"status": {
        "phase": "Running", "podIP": format!("10.{}.{}.{}", serial >> 16 & 255, serial >> 8 & 255, serial & 255),
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    drop(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await);
}

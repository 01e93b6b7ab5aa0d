//! Simulated nodes: what a kubelet says, without anything that runs.
//!
//! A node acts as a kubelet of its name does (`system:node:NAME`), with no more rights. It renews its lease every ten
//! seconds and whenever the cluster's clock is moved, tells that it is ready, sets the status of pods that are bound to it
//! by a [`Script`], and lets those go that are deleted. There is nothing to log, to execute in, or to connect to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use xebec_control_plane::roles;
use xebec_controllers::kinds::NODE_LEASE_NAMESPACE;
use xebec_controllers::runtime::clock::{Clock as _, api_micro_time, api_time};
use xebec_server::discovery::KUBERNETES_VERSION;

use crate::clock::MovedClock;
use crate::cluster::Cluster;
use crate::error::NodeError;
use crate::pods::{Place, Script, status_patch};

/// How often a node renews its lease.
const BEAT: Duration = Duration::from_secs(10);
/// How long a node's lease lasts, in seconds.
const LEASE_SECONDS: i32 = 40;
/// How long a node waits after its watch of pods failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Addresses of pods and nodes; several of more than these share one.
const ADDRESSES: u32 = 250 * 250;

/// A simulated node that is not there yet, from [`Cluster::node`].
#[derive(Debug)]
#[must_use = "there is no node before `ready`"]
pub struct NodeBuilder<'a> {
    cluster: &'a Cluster,
    name: String,
    capacity: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
}

impl<'a> NodeBuilder<'a> {
    pub(crate) fn new(cluster: &'a Cluster, name: &str) -> Self {
        let capacity = [("cpu", "8"), ("memory", "32Gi"), ("pods", "110"), ("ephemeral-storage", "100Gi")];
        Self {
            cluster,
            name: name.to_owned(),
            capacity: capacity.map(|(name, amount)| (name.to_owned(), amount.to_owned())).into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
        }
    }

    /// How much of a resource it has: 8 `cpu`, 32Gi of `memory`, 110 `pods`, 100Gi of `ephemeral-storage` if nothing is said,
    /// and of others, as `nvidia.com/gpu`, nothing.
    pub fn capacity(mut self, resource: &str, amount: &str) -> Self {
        self.capacity.insert(resource.to_owned(), amount.to_owned());
        self
    }

    /// A label, besides those that each node has.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A taint with an effect: `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        self.taints.push(json!({"key": key, "value": value, "effect": effect}));
        self
    }

    /// Registers the node as ready, and simulates it until the cluster ends.
    ///
    /// # Errors
    /// There is one of that name, or the server refuses it.
    pub async fn ready(self) -> Result<SimulatedNode, NodeError> {
        let Self { cluster, name, capacity, labels, taints } = self;
        let index = {
            let nodes = cluster.nodes().lock().unwrap_or_else(PoisonError::into_inner);
            if nodes.contains_key(&name) {
                return Err(NodeError::Exists { node: name });
            }
            u32::try_from(nodes.len()).unwrap_or(u32::MAX)
        };
        let node = Arc::new(NodeInner {
            client: cluster.steady_client_of(roles::node(&name)),
            ip: address(172, 16, index),
            clock: cluster.moved_clock().clone(),
            speaking: AtomicBool::new(true),
            script: Mutex::new(Arc::new(|_: &Pod| Script::Run)),
            changed: Notify::new(),
            addresses: AtomicU32::new(index.wrapping_mul(1000)),
            beating: AsyncMutex::new(()),
            name: name.clone(),
        });
        let object = node.object(&capacity, &labels, &taints);
        let registered = node.register(&object).await;
        registered.map_err(|source| NodeError::Register { node: name.clone(), source: Box::new(source) })?;
        cluster.nodes().lock().unwrap_or_else(PoisonError::into_inner).insert(name, node.clone());
        cluster.run_beside(format!("the simulated node {}", node.name), node.clone().run());
        Ok(SimulatedNode { inner: node })
    }
}

/// A simulated node. Cheap to clone; dropping this changes nothing.
#[derive(Clone, Debug)]
pub struct SimulatedNode {
    inner: Arc<NodeInner>,
}

impl SimulatedNode {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What becomes of its pods from now on, also of those that it has, other than such as have ended.
    pub fn script(&self, script: impl Fn(&Pod) -> Script + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
        self.inner.changed.notify_one();
    }

    /// It falls silent, as a machine without power: no lease is renewed, no status set, no pod let go. The cluster gives it up
    /// when 50 seconds of its clock have gone by, see [`crate::ClusterClock::advance`].
    pub fn falls_silent(&self) {
        self.inner.speaking.store(false, Ordering::Relaxed);
    }

    /// It is back: it renews its lease, says that it is ready, and looks after its pods.
    pub async fn comes_back(&self) {
        self.inner.speaking.store(true, Ordering::Relaxed);
        self.inner.beat().await;
        self.inner.changed.notify_one();
    }
}

type Choice = Arc<dyn Fn(&Pod) -> Script + Send + Sync>;

pub(crate) struct NodeInner {
    name: String,
    client: Client,
    ip: String,
    clock: Arc<MovedClock>,
    speaking: AtomicBool,
    script: Mutex<Choice>,
    /// Its script, or whether it speaks.
    changed: Notify,
    addresses: AtomicU32,
    /// Held while it renews its lease: the later of two renewals has the later time.
    beating: AsyncMutex<()>,
}

impl fmt::Debug for NodeInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("speaking", &self.speaking)
            .finish_non_exhaustive()
    }
}

impl NodeInner {
    pub(crate) fn speaks(&self) -> bool {
        self.speaking.load(Ordering::Relaxed)
    }

    fn object(
        &self,
        capacity: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
        taints: &[Value],
    ) -> Value {
        let own = [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
        ];
        let mut all: BTreeMap<_, _> = own.into_iter().collect();
        all.extend(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": all},
            "spec": {"taints": taints},
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "addresses": [
                    {"type": "InternalIP", "address": self.ip}, {"type": "Hostname", "address": self.name}
                ],
                "conditions": self.conditions(),
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "osImage": "simulated",
                    "kernelVersion": "", "kubeletVersion": KUBERNETES_VERSION, "kubeProxyVersion": "",
                    "containerRuntimeVersion": "simulated://0", "machineID": "", "systemUUID": "", "bootID": ""
                }
            }
        })
    }

    fn conditions(&self) -> Value {
        let now = api_time(self.clock.now());
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": "this node is simulated",
                "lastHeartbeatTime": now, "lastTransitionTime": now
            })
        };
        json!([
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ])
    }

    async fn register(&self, object: &Value) -> Result<(), kube::Error> {
        let node: Node = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        Api::<Node>::all(self.client.clone()).create(&PostParams::default(), &node).await?;
        self.renew().await
    }

    /// A sign of life: the lease, and the status if the cluster has come to doubt it.
    pub(crate) async fn beat(&self) {
        let _turn = self.beating.lock().await;
        if let Err(error) = self.renew().await {
            tracing::warn!(%error, node = self.name, "a simulated node cannot renew its lease");
        }
        if let Err(error) = self.affirm().await {
            tracing::warn!(%error, node = self.name, "a simulated node cannot say that it is ready");
        }
    }

    async fn renew(&self) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NODE_LEASE_NAMESPACE);
        let spec = json!({
            "holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": api_micro_time(self.clock.now())
        });
        let patch = Patch::Merge(json!({"spec": spec}));
        match leases.patch(&self.name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let lease = json!({"metadata": {"name": self.name}, "spec": spec});
                let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
                leases.create(&PostParams::default(), &lease).await.map(drop)
            }
            renewed => renewed.map(drop),
        }
    }

    async fn affirm(&self) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let Some(node) = nodes.get_opt(&self.name).await? else { return Ok(()) };
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({"status": {"conditions": self.conditions()}}));
        nodes.patch_status(&self.name, &PatchParams::default(), &patch).await.map(drop)
    }

    async fn run(self: Arc<Self>) {
        tokio::join!(self.keep_beating(), self.look_after_pods());
    }

    async fn keep_beating(&self) {
        loop {
            tokio::time::sleep(BEAT).await;
            if self.speaks() {
                self.beat().await;
            }
        }
    }

    async fn look_after_pods(&self) {
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.name));
        let mut watch = watcher(Api::<Pod>::all(self.client.clone()), config).boxed();
        let mut pods: BTreeMap<(String, String), Pod> = BTreeMap::new();
        let mut listed = BTreeMap::new();
        loop {
            let event = tokio::select! {
                () = self.changed.notified() => {
                    for pod in pods.values() {
                        self.look_after(pod).await;
                    }
                    continue;
                }
                event = watch.next() => event,
            };
            match event {
                Some(Ok(watcher::Event::Init)) => listed.clear(),
                Some(Ok(watcher::Event::InitApply(pod))) => drop(listed.insert(key(&pod), pod)),
                Some(Ok(watcher::Event::InitDone)) => {
                    pods = std::mem::take(&mut listed);
                    for pod in pods.values() {
                        self.look_after(pod).await;
                    }
                }
                Some(Ok(watcher::Event::Apply(pod))) => {
                    self.look_after(&pod).await;
                    pods.insert(key(&pod), pod);
                }
                Some(Ok(watcher::Event::Delete(pod))) => drop(pods.remove(&key(&pod))),
                Some(Err(error)) => {
                    tracing::debug!(%error, node = self.name, "a simulated node's watch of pods failed");
                    tokio::time::sleep(PAUSE).await;
                }
                None => return,
            }
        }
    }

    async fn look_after(&self, pod: &Pod) {
        if !self.speaks() {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let done = if pod.metadata.deletion_timestamp.is_some() {
            self.let_go(&api, pod).await
        } else {
            self.tell(&api, pod).await
        };
        match done {
            // Somebody was faster; the watch tells how it is now.
            Ok(()) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(%error, node = self.name, pod = pod.name_any(), "a simulated pod is lost");
            }
        }
    }

    async fn let_go(&self, api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
        let preconditions = Preconditions { uid: pod.uid(), ..Preconditions::default() };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        api.delete(&pod.name_any(), &params).await.map(drop)
    }

    async fn tell(&self, api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
        let choice = self.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let pod_ip =
            known.unwrap_or_else(|| address(10, 244, self.addresses.fetch_add(1, Ordering::Relaxed)));
        let place = Place { host_ip: &self.ip, pod_ip: &pod_ip };
        let Some(patch) = status_patch(pod, &choice(pod), &place, self.clock.now()) else { return Ok(()) };
        let patch = Patch::Strategic(patch);
        api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.map(drop)
    }
}

fn key(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

/// The address number `n` of a network.
fn address(first: u8, second: u8, n: u32) -> String {
    let n = n % ADDRESSES;
    format!("{first}.{second}.{}.{}", n / 250, n % 250 + 1)
}

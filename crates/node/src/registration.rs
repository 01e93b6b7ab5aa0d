//! The node's own objects: its `Node`, and the lease by which the cluster knows that it lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio_util::sync::CancellationToken;

use crate::pod::status::time;
use crate::pressure::Resource;

/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// How long others wait for a renewal before they take the node for lost.
const LEASE_SECONDS: i32 = 40;
/// How many pods a node takes.
pub(crate) const MAX_PODS: u32 = 110;
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: String,
    /// Its range of pod addresses.
    pub pod_cidr: String,
    /// Version of Kubernetes that the agent speaks.
    pub version: String,
    /// The directory on whose disk pods and images are.
    pub disk: PathBuf,
}

/// Makes the `Node` known, and its first lease.
///
/// # Errors
/// The API says no.
pub async fn register(client: &Client, facts: &Facts) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), facts.name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), architecture().to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), architecture().to_owned()),
    ]);
    if nodes.get_opt(&facts.name).await?.is_none() {
        let mut node = Node {
            metadata: ObjectMeta {
                name: Some(facts.name.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            status: Some(status(facts, None)),
            ..Node::default()
        };
        let spec = node.spec.get_or_insert_default();
        spec.pod_cidr = Some(facts.pod_cidr.clone());
        spec.pod_cidrs = Some(vec![facts.pod_cidr.clone()]);
        nodes.create(&PostParams::default(), &node).await?;
    } else {
        tell(client, facts, Tell::Always).await?;
    }
    renew(client, facts).await
}

/// When to write the node's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Always,
    /// When a condition is not as the cluster has it: the machine runs out of something, or somebody took the node for
    /// lost, and this is it speaking.
    IfChanged,
}

/// Writes the node's status.
async fn tell(client: &Client, facts: &Facts, when: Tell) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let known = nodes.get(&facts.name).await?;
    let new = status(facts, known.status.as_ref());
    if when == Tell::IfChanged && !differs(&new, known.status.as_ref()) {
        return Ok(());
    }
    let patch = serde_json::json!({ "status": new });
    nodes.patch_status(&facts.name, &PatchParams::default(), &Patch::Strategic(&patch)).await.map(|_| ())
}

/// Whether a condition of a status is not as it was told.
fn differs(new: &NodeStatus, told: Option<&NodeStatus>) -> bool {
    let told = told.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let same = |a: &NodeCondition, b: &NodeCondition| a.type_ == b.type_ && a.status == b.status;
    new.conditions.iter().flatten().any(|condition| !told.iter().any(|known| same(known, condition)))
}

/// Renews the lease, and the status every five minutes or when it is not what it should be, until `shutdown`.
pub async fn keep_alive(client: Client, facts: Facts, shutdown: CancellationToken) {
    let mut beats: u32 = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RENEW) => {}
        }
        beats = beats.wrapping_add(1);
        if let Err(error) = renew(&client, &facts).await {
            tracing::warn!(%error, "the node's lease could not be renewed");
        }
        let when = if beats.is_multiple_of(30) { Tell::Always } else { Tell::IfChanged };
        if let Err(error) = tell(&client, &facts, when).await {
            tracing::warn!(%error, "the node's status could not be told");
        }
    }
}

async fn renew(client: &Client, facts: &Facts) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let lease = Lease {
        metadata: ObjectMeta { name: Some(facts.name.clone()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(facts.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    };
    match leases.patch(&facts.name, &PatchParams::default(), &Patch::Merge(&lease)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            leases.create(&PostParams::default(), &lease).await.map(|_| ())
        }
        result => result.map(|_| ()),
    }
}

/// How much of everything the node has for its pods.
pub(crate) fn allocatable() -> BTreeMap<String, Quantity> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    [("cpu", cpus.to_string()), ("memory", format!("{}Ki", memory_kib())), ("pods", MAX_PODS.to_string())]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .into()
}

fn status(facts: &Facts, old: Option<&NodeStatus>) -> NodeStatus {
    let capacity = allocatable();
    NodeStatus {
        addresses: Some(vec![address("InternalIP", &facts.ip), address("Hostname", &facts.name)]),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(facts, old)),
        daemon_endpoints: Some(NodeDaemonEndpoints::default()),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().into(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            container_runtime_version: format!("xebec://{}", env!("CARGO_PKG_VERSION")),
            kernel_version: read("/proc/sys/kernel/osrelease"),
            kube_proxy_version: String::new(),
            kubelet_version: facts.version.clone(),
            machine_id: read("/etc/machine-id"),
            operating_system: "linux".into(),
            os_image: os_image(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn address(kind: &str, address: &str) -> NodeAddress {
    NodeAddress { type_: kind.into(), address: address.into() }
}

fn conditions(facts: &Facts, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let now = SystemTime::now();
    let known = old.and_then(|o| o.conditions.as_deref()).unwrap_or_default();
    let condition = |kind: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { "True" } else { "False" };
        let before = known.iter().find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: Some(time(now)),
            last_transition_time: before
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(time(now))),
        }
    };
    let pressures = Resource::ALL.map(|resource| {
        let kind = resource.condition();
        let already = known.iter().any(|c| c.type_ == kind && c.status == "True");
        let (enough, little) = resource.reasons();
        match resource.shortage(&facts.disk, already) {
            Some(shortage) => condition(kind, true, little, shortage),
            None => condition(kind, false, enough, "there is enough".into()),
        }
    });
    let ready = condition("Ready", true, "KubeletReady", "the node agent is ready".into());
    pressures.into_iter().chain([ready]).collect()
}

/// The machine's architecture, as Go names it.
const fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
    }
}

/// A fact of the kernel's; empty if it does not tell.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default()
}

pub(crate) fn memory_kib() -> u64 {
    let text = read("/proc/meminfo");
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    total.and_then(|t| t.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn os_image() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_sees_what_the_cluster_takes_it_for() {
        let status = |conditions: &[(&str, &str)]| {
            let condition = |(kind, status): &(&str, &str)| NodeCondition {
                type_: (*kind).to_owned(),
                status: (*status).to_owned(),
                ..NodeCondition::default()
            };
            let conditions = Some(conditions.iter().map(condition).collect());
            NodeStatus { conditions, ..NodeStatus::default() }
        };
        let own = status(&[("MemoryPressure", "False"), ("Ready", "True")]);
        let check = |told: &[(&str, &str)], want: bool| {
            assert_eq!(differs(&own, Some(&status(told))), want, "{told:?}");
        };
        check(&[("MemoryPressure", "False"), ("Ready", "True"), ("Own", "True")], false);
        check(&[("MemoryPressure", "False"), ("Ready", "Unknown")], true);
        check(&[("MemoryPressure", "True"), ("Ready", "True")], true);
        check(&[("Ready", "True")], true);
        assert!(differs(&own, None));
        assert!(!differs(&own, Some(&own)));
    }
}

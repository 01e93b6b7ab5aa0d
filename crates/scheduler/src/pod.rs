//! Pods as the scheduler sees them: what they ask of a node, compiled once.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::jiff::Timestamp;
use xebec_controllers::runtime::kind::{Index, Kind};
use xebec_controllers::runtime::object::{ObjectKey, Uid};

use crate::affinity::{NodeAffinity, NodeSelector, Preference};
use crate::resources::Requests;

/// The scheduler that pods go to that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// What the scheduler knows of a pod.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: Uid,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// The node that it is bound to.
    pub node: Option<Box<str>>,
    /// Whether its deletion has begun.
    pub deleting: bool,
    /// Whether it has run to its end and holds nothing any more.
    pub finished: bool,
    /// `spec.schedulerName`.
    pub scheduler: Box<str>,
    /// `spec.priority`.
    pub priority: i32,
    /// What must be gone from `spec.schedulingGates` before it may be scheduled.
    pub gates: Box<[Box<str>]>,
    /// What it asks for.
    pub requests: Requests,
    /// The ports of the node that it takes.
    pub host_ports: Box<[HostPort]>,
    /// Which nodes it may run on.
    pub selector: NodeSelector,
    /// Which nodes it would rather run on.
    pub preferences: Box<[Preference]>,
    /// `spec.tolerations`.
    pub tolerations: Box<[Toleration]>,
    /// The message of the condition `PodScheduled` while it is `False`.
    pub unschedulable_message: Option<Box<str>>,
}

/// A port of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The address on which it is taken; `0.0.0.0` is every one.
    pub ip: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Its number.
    pub number: i32,
}

impl HostPort {
    /// Whether two pods cannot both have their port.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |port: &Self| &*port.ip == "0.0.0.0";
        let same_place = self.ip == other.ip || any(self) || any(other);
        self.number == other.number && self.protocol == other.protocol && same_place
    }
}

impl PodInfo {
    /// What matters of `pod`.
    pub fn of(pod: &Pod) -> Self {
        let no_spec = PodSpec::default();
        let (meta, spec) = (&pod.metadata, pod.spec.as_ref().unwrap_or(&no_spec));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let affinity = NodeAffinity::compile(spec.node_selector.as_ref(), affinity);
        let gates = spec.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str().into());
        Self {
            key: ObjectKey::of(meta),
            uid: Uid::of(meta),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            node: spec.node_name.as_deref().filter(|node| !node.is_empty()).map(Box::from),
            deleting: meta.deletion_timestamp.is_some(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            scheduler: spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER).into(),
            priority: spec.priority.unwrap_or(0),
            gates: gates.collect(),
            requests: Requests::of(spec),
            host_ports: host_ports(spec),
            selector: affinity.required,
            preferences: affinity.preferred,
            tolerations: spec.tolerations.clone().unwrap_or_default().into(),
            unschedulable_message: unschedulable_message(pod),
        }
    }

    /// Whether it takes room on a node.
    pub fn takes_room(&self) -> bool {
        self.node.is_some() && !self.finished
    }

    /// Whether it waits for a node.
    pub fn waits(&self) -> bool {
        self.node.is_none() && !self.finished && !self.deleting
    }
}

impl Kind for PodInfo {
    type Raw = Pod;

    fn project(raw: &Arc<Pod>) -> Arc<Self> {
        Arc::new(Self::of(raw))
    }

    fn is_deleting(&self) -> bool {
        self.deleting
    }

    fn index_value(&self, _: Index) -> Option<Cow<'_, str>> {
        None
    }
}

fn host_ports(spec: &PodSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
        Some(HostPort { ip: ip.into(), protocol: port.protocol.as_deref().unwrap_or("TCP").into(), number })
    });
    taken.collect()
}

fn unschedulable_message(pod: &Pod) -> Option<Box<str>> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut scheduled = conditions.filter(|condition| condition.type_ == "PodScheduled");
    let condition = scheduled.find(|condition| condition.status == "False")?;
    condition.message.as_deref().map(Box::from)
}

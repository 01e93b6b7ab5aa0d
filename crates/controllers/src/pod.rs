//! Pods as the controllers see them: a projection of about a tenth of the object's size.
//!
//! Field meanings follow Kubernetes 1.36, `core/v1` Pod.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodSpec, PodStatus, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;

use crate::runtime::clock::{after, until};
use crate::runtime::kind::{Index, Kind, Watched};
use crate::runtime::object::{Labels, ObjectKey, Revision, Uid, annotation, controller_of};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

impl Watched for Pod {}

/// What the controllers know of a pod.
#[derive(Debug, Clone)]
pub struct PodRecord {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: Uid,
    /// Its `resourceVersion`.
    pub revision: Revision,
    /// Its labels.
    pub labels: Labels,
    /// The owner with `controller: true`.
    pub controller: Option<Owner>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it is to be gone, once its deletion has begun.
    pub deleting: Option<Timestamp>,
    /// `status.phase`.
    pub phase: Phase,
    /// The condition `Ready`.
    pub ready: ReadyCondition,
    /// The node that it is bound to.
    pub node: Option<Box<str>>,
    /// Its addresses, the primary one first.
    pub ips: Box<[Box<str>]>,
    /// The most restarts that any of its containers has had.
    pub restarts: i32,
    /// `controller.kubernetes.io/pod-deletion-cost`, 0 when absent or no number.
    pub deletion_cost: i32,
    /// `spec.hostname`.
    pub hostname: Option<Box<str>>,
    /// `spec.subdomain`.
    pub subdomain: Option<Box<str>>,
    /// The named ports of its containers, in order.
    pub named_ports: Box<[NamedPort]>,
    /// The tolerations that can match a `NoExecute` taint.
    pub tolerations: Box<[Toleration]>,
}

/// The controlling owner of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Group and version.
    pub api_version: Box<str>,
    /// Kind.
    pub kind: Box<str>,
    /// Name, in the object's own namespace.
    pub name: Box<str>,
    /// Uid.
    pub uid: Uid,
}

/// A container port that a Service can refer to by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name.
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Its number.
    pub number: i32,
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all containers have been made.
    Pending,
    /// The node has not been heard of.
    Unknown,
    /// Bound to a node, all containers made.
    Running,
    /// Every container ended well.
    Succeeded,
    /// Every container ended, at least one badly.
    Failed,
}

/// The condition `Ready` of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadyCondition {
    /// Whether it is `True`.
    pub is_true: bool,
    /// Since when it is what it is.
    pub since: Option<Timestamp>,
}

impl PodRecord {
    /// The projection of a pod.
    pub fn of(pod: &Pod) -> Self {
        let no_spec = PodSpec::default();
        let no_status = PodStatus::default();
        let (meta, spec) = (&pod.metadata, pod.spec.as_ref().unwrap_or(&no_spec));
        let status = pod.status.as_ref().unwrap_or(&no_status);
        Self {
            key: ObjectKey::of(meta),
            uid: Uid::of(meta),
            revision: Revision::of(meta),
            labels: Labels::of(meta),
            controller: controller_of(meta).map(Owner::of),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            deleting: meta.deletion_timestamp.as_ref().map(|time| time.0),
            phase: Phase::of(status.phase.as_deref()),
            ready: ready_condition(status),
            node: non_empty(spec.node_name.as_deref()),
            ips: ips(status),
            restarts: most_restarts(status),
            deletion_cost: annotation(meta, DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0),
            hostname: non_empty(spec.hostname.as_deref()),
            subdomain: non_empty(spec.subdomain.as_deref()),
            named_ports: named_ports(spec),
            tolerations: no_execute_tolerations(spec),
        }
    }

    /// Whether it has run to its end.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether it counts as a replica: neither finished nor being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && self.deleting.is_none()
    }

    /// Whether it has been ready for `min_ready`.
    pub fn is_available(&self, min_ready: Duration, now: Timestamp) -> bool {
        self.ready.is_true && self.time_to_available(min_ready, now).is_some_and(|wait| wait.is_zero())
    }

    /// How long until a ready pod counts as available; `None` when it is not ready.
    pub fn time_to_available(&self, min_ready: Duration, now: Timestamp) -> Option<Duration> {
        if !self.ready.is_true {
            return None;
        }
        if min_ready.is_zero() {
            return Some(Duration::ZERO);
        }
        self.ready.since.map(|since| until(now, after(since, min_ready)))
    }

    /// How events and endpoints refer to it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(self.key.namespace().to_owned()),
            name: Some(self.key.name().to_owned()),
            uid: Some(self.uid.to_string()),
            ..ObjectReference::default()
        }
    }
}

impl Kind for PodRecord {
    type Raw = Pod;

    fn project(raw: &Arc<Pod>) -> Arc<Self> {
        Arc::new(Self::of(raw))
    }

    fn is_deleting(&self) -> bool {
        self.deleting.is_some()
    }

    fn indexes() -> &'static [Index] {
        &[Index::Controller, Index::Orphan, Index::Node]
    }

    fn index_value(&self, index: Index) -> Option<Cow<'_, str>> {
        match index {
            Index::Controller => self.controller.as_ref().map(|owner| owner.uid.as_str().into()),
            Index::Orphan => self.controller.is_none().then(|| self.key.namespace().into()),
            Index::Node => self.node.as_deref().map(Cow::Borrowed),
            Index::Service => None,
        }
    }
}

impl Owner {
    /// The owner that a reference names.
    pub fn of(reference: &OwnerReference) -> Self {
        Self {
            api_version: reference.api_version.as_str().into(),
            kind: reference.kind.as_str().into(),
            name: reference.name.as_str().into(),
            uid: Uid::new(&reference.uid),
        }
    }
}

impl Phase {
    fn of(text: Option<&str>) -> Self {
        match text {
            Some("Running") => Self::Running,
            Some("Succeeded") => Self::Succeeded,
            Some("Failed") => Self::Failed,
            Some("Unknown") => Self::Unknown,
            _ => Self::Pending,
        }
    }
}

fn non_empty(text: Option<&str>) -> Option<Box<str>> {
    text.filter(|text| !text.is_empty()).map(Box::from)
}

fn ready_condition(status: &PodStatus) -> ReadyCondition {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    condition.map_or_else(ReadyCondition::default, |condition| ReadyCondition {
        is_true: condition.status == "True",
        since: condition.last_transition_time.as_ref().map(|time| time.0),
    })
}

fn ips(status: &PodStatus) -> Box<[Box<str>]> {
    let mut ips: Vec<Box<str>> = status.pod_ip.iter().map(|ip| ip.as_str().into()).collect();
    for ip in status.pod_ips.iter().flatten() {
        if !ips.iter().any(|known| **known == *ip.ip) {
            ips.push(ip.ip.as_str().into());
        }
    }
    ips.retain(|ip| !ip.is_empty());
    ips.into()
}

fn most_restarts(status: &PodStatus) -> i32 {
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    containers.map(|container| container.restart_count).max().unwrap_or(0)
}

fn named_ports(spec: &PodSpec) -> Box<[NamedPort]> {
    // Sidecars are init containers that keep running; their ports count too.
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        Some(NamedPort {
            name: non_empty(port.name.as_deref())?,
            protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
            number: port.container_port,
        })
    });
    named.collect()
}

fn no_execute_tolerations(spec: &PodSpec) -> Box<[Toleration]> {
    let tolerations = spec.tolerations.iter().flatten();
    let matching = tolerations.filter(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or("");
        effect.is_empty() || effect == "NoExecute"
    });
    matching.cloned().collect()
}

/// The labels of a template or object as the selector of a new object wants them.
pub fn with_label(
    labels: Option<&BTreeMap<String, String>>,
    key: &str,
    value: &str,
) -> BTreeMap<String, String> {
    let mut labels = labels.cloned().unwrap_or_default();
    labels.insert(key.to_owned(), value.to_owned());
    labels
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A pod with the least in it.
    pub(crate) fn pod(namespace: &str, name: &str) -> Pod {
        pod_from(json!({ "metadata": { "namespace": namespace, "name": name, "uid": format!("uid-{name}") },
                         "spec": { "containers": [] }, "status": {} }))
    }

    pub(crate) fn pod_from(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn projects_what_the_controllers_need() {
        let record = PodRecord::of(&pod_from(json!({
            "metadata": {
                "namespace": "ns", "name": "web-1", "uid": "u1", "resourceVersion": "17",
                "labels": {"app": "web"},
                "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "u8"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u9", "controller": true},
                ],
            },
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "c", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]}],
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "ports": [{"containerPort": 90, "name": "metrics"}]},
                    {"name": "init", "ports": [{"containerPort": 99, "name": "never"}]},
                ],
                "tolerations": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}, {"key": "c"}],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "containerStatuses": [{"name": "c", "restartCount": 3, "image": "", "imageID": "", "ready": true}],
            }
        })));
        assert_eq!(record.controller.as_ref().unwrap().uid.as_str(), "u9");
        assert_eq!((record.deletion_cost, record.restarts, record.revision), (-5, 3, Revision(17)));
        assert_eq!(record.ips.iter().map(|ip| &**ip).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
        let ports: Vec<_> = record.named_ports.iter().map(|port| (&*port.name, port.number)).collect();
        assert_eq!(ports, [("http", 80), ("metrics", 90)]);
        assert_eq!(record.tolerations.len(), 2);
        assert_eq!(record.index_value(Index::Controller).as_deref(), Some("u9"));
        assert_eq!(record.index_value(Index::Orphan), None);
    }

    #[test]
    fn a_record_stays_small() {
        // Five thousand pods are to cost a few megabytes. The API type is 2,416 bytes before its first container.
        assert!(size_of::<PodRecord>() <= 400, "{} bytes", size_of::<PodRecord>());
    }

    #[test]
    fn availability_needs_ready_for_long_enough() {
        let check = |ready: &str, min_ready: u64, expected: (bool, Option<u64>)| {
            let record = PodRecord::of(&pod_from(json!({
                "metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": []},
                "status": {"conditions": [
                    {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}
                ]}
            })));
            let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
            let min_ready_for = Duration::from_secs(min_ready);
            let wait = record.time_to_available(min_ready_for, now).map(|wait| wait.as_secs());
            assert_eq!((record.is_available(min_ready_for, now), wait), expected, "{ready} {min_ready}");
        };
        check("True", 0, (true, Some(0)));
        check("True", 10, (true, Some(0)));
        check("True", 12, (false, Some(2)));
        check("False", 0, (false, None));
        check("Unknown", 5, (false, None));
    }
}

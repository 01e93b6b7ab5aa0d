//! Which pods stand behind a Service, on which ports. Pure; EndpointSlices and Endpoints are made from this.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::{NamedPort, PodRecord};

/// A port of a Service as one pod serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResolvedPort {
    /// The name in the Service; empty when it has one port without a name.
    pub name: String,
    /// The number in the pod.
    pub number: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// One pod behind a Service.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The pod.
    pub pod: Arc<PodRecord>,
    /// Its ports, sorted.
    pub ports: Vec<ResolvedPort>,
    /// Whether traffic should go to it.
    pub ready: bool,
    /// Whether it could take traffic, being deleted or not.
    pub serving: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The name under the Service's domain that it asked for.
    pub hostname: Option<String>,
}

/// The labels by which a Service finds its backends; `None` when its endpoints are somebody else's business: it has no
/// selector, or it is only a name for another host.
pub fn wanted(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|labels| !labels.is_empty())
}

/// Whether the Service has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether pods get traffic before they are ready.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// The pods among `pods` that have an address and have not run to their end. `pods` match the selector.
pub fn backends(service: &Service, pods: &[Arc<PodRecord>]) -> Vec<Backend> {
    let publish = publishes_not_ready(service);
    let name = service.metadata.name.as_deref().unwrap_or("");
    let candidates = pods.iter().filter(|pod| !pod.is_finished() && !pod.ips.is_empty());
    let backends = candidates.map(|pod| {
        let (serving, terminating) = (pod.ready.is_true, pod.deleting.is_some());
        let is_named = pod.subdomain.as_deref() == Some(name);
        Backend {
            ports: resolve(service, pod),
            ready: publish || (serving && !terminating),
            serving,
            terminating,
            hostname: pod.hostname.as_deref().filter(|_| is_named).map(str::to_owned),
            pod: Arc::clone(pod),
        }
    });
    backends.collect()
}

/// The ports of the Service that `pod` serves. A port whose name no container has is left out.
fn resolve(service: &Service, pod: &PodRecord) -> Vec<ResolvedPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let resolved = ports.filter_map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        Some(ResolvedPort {
            name: port.name.clone().unwrap_or_default(),
            number: target(port, protocol, pod)?,
            protocol: protocol.to_owned(),
            app_protocol: port.app_protocol.clone(),
        })
    });
    let mut resolved: Vec<_> = resolved.collect();
    resolved.sort();
    resolved
}

fn target(port: &ServicePort, protocol: &str, pod: &PodRecord) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let is_meant = |named: &&NamedPort| *named.name == **name && *named.protocol == *protocol;
            let found = pod.named_ports.iter().find(is_meant);
            found.map(|named| named.number)
        }
    }
}

/// Whether a change of a pod can matter to a Service.
pub fn matters(old: &PodRecord, new: &PodRecord) -> bool {
    old.labels != new.labels
        || old.ips != new.ips
        || old.ready.is_true != new.ready.is_true
        || old.deleting.is_some() != new.deleting.is_some()
        || old.is_finished() != new.is_finished()
        || old.node != new.node
        || old.uid != new.uid
        || old.named_ports != new.named_ports
}

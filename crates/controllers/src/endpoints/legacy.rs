//! The Endpoints object of a Service, the older form that `kubectl describe service` shows. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use serde_json::json;

use super::backends::{Backend, ResolvedPort, is_headless, publishes_not_ready};
use super::slices::HEADLESS_LABEL;
use crate::runtime::writer::to_value;

/// The label that says who keeps an Endpoints object.
pub const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`] on the objects of this controller.
pub const MANAGED_BY: &str = "endpoint-controller";
/// Says that there were more addresses than fit.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The most addresses in one object.
pub const CAPACITY: usize = 1000;

/// What the Endpoints object of `service` should be.
pub fn desired(service: &Service, backends: &[Backend]) -> Endpoints {
    let wants_v6 = primary_is_v6(service);
    let publish = publishes_not_ready(service);
    let mut listed: Vec<_> = backends
        .iter()
        .filter(|backend| publish || !backend.terminating)
        .filter_map(|backend| Some((backend, address(backend, wants_v6)?)))
        .collect();
    // Should they not all fit, those that take traffic come first.
    listed.sort_by_key(|(backend, address)| (!backend.ready, address.ip.clone(), backend.pod.key.clone()));
    let over = listed.len() > CAPACITY;
    listed.truncate(CAPACITY);
    let annotations = over.then(|| BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())]));
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            annotations,
            ..ObjectMeta::default()
        },
        subsets: Some(subsets(&listed)).filter(|subsets| !subsets.is_empty()),
    }
}

/// Ports that are served by the same addresses stand together.
fn subsets(listed: &[(&Backend, EndpointAddress)]) -> Vec<EndpointSubset> {
    // By port, the positions in `listed` that serve it; no port at all is a group of its own.
    let mut by_port: BTreeMap<Option<&ResolvedPort>, Vec<usize>> = BTreeMap::new();
    for (at, (backend, _)) in listed.iter().enumerate() {
        for port in &backend.ports {
            by_port.entry(Some(port)).or_default().push(at);
        }
        if backend.ports.is_empty() {
            by_port.entry(None).or_default().push(at);
        }
    }
    let mut by_members: BTreeMap<Vec<usize>, Vec<&ResolvedPort>> = BTreeMap::new();
    for (port, members) in by_port {
        by_members.entry(members).or_default().extend(port);
    }
    by_members.into_iter().map(|(members, ports)| subset(listed, &members, &ports)).collect()
}

fn subset(
    listed: &[(&Backend, EndpointAddress)],
    members: &[usize],
    ports: &[&ResolvedPort],
) -> EndpointSubset {
    let addresses = |ready: bool| {
        let of_kind = members.iter().map(|at| &listed[*at]).filter(|(backend, _)| backend.ready == ready);
        let addresses: Vec<_> = of_kind.map(|(_, address)| address.clone()).collect();
        (!addresses.is_empty()).then_some(addresses)
    };
    let ports = ports.iter().map(|port| EndpointPort {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    });
    let ports: Vec<_> = ports.collect();
    EndpointSubset {
        addresses: addresses(true),
        not_ready_addresses: addresses(false),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

fn address(backend: &Backend, wants_v6: bool) -> Option<EndpointAddress> {
    let ip = backend.pod.ips.iter().find(|ip| ip.contains(':') == wants_v6)?;
    let mut target = backend.pod.reference();
    target.api_version = None;
    Some(EndpointAddress {
        ip: ip.to_string(),
        hostname: backend.hostname.clone(),
        node_name: backend.pod.node.as_deref().map(str::to_owned),
        target_ref: Some(target),
    })
}

fn primary_is_v6(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let family = spec.and_then(|spec| spec.ip_families.as_ref()).and_then(|families| families.first());
    family.is_some_and(|family| family == "IPv6")
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

/// Whether the object on the server needs no change. Labels and annotations that others have added do not count.
pub fn is_current(existing: &Endpoints, desired: &Endpoints) -> bool {
    let has_labels = desired.metadata.labels.iter().flatten().all(|(key, value)| {
        existing.metadata.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value)
    });
    let over = |endpoints: &Endpoints| {
        endpoints
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(OVER_CAPACITY))
            .cloned()
    };
    has_labels && over(existing) == over(desired) && canonical(existing) == canonical(desired)
}

/// Every address on every port as one text each: a server may group and order them its own way.
fn canonical(endpoints: &Endpoints) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready) {
            let ports = subset.ports.iter().flatten().map(to_value);
            let ports: Vec<_> = if subset.ports.is_some() { ports.collect() } else { vec![json!(null)] };
            all.extend(ports.iter().map(|port| json!([to_value(address), ready, port]).to_string()));
        }
    }
    all
}

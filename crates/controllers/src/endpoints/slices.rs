//! EndpointSlices for the backends of a Service: the fewest changes that bring them up to date. Pure.
//!
//! One slice holds endpoints of one address family that serve the same ports. Endpoints stay in the slice that they
//! are in; new ones fill a slice that changes anyway, or one that has room for all of them, or else a new one. A
//! Service without endpoints keeps one empty slice per family, so that readers can tell *none* from *not yet*.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::backends::{Backend, ResolvedPort, is_headless, publishes_not_ready};
use crate::kinds::SERVICE_NAME_LABEL;
use crate::ownership::controller_reference;
use crate::runtime::object::{ObjectKey, Uid, is_deleting};
use crate::runtime::writer::{merge_diff, to_value};

/// The label that says who keeps a slice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`] on the slices of this controller.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
/// The label of everything that belongs to a headless Service.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The most endpoints in one slice.
pub const CAPACITY: usize = 100;

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Slices to create.
    pub create: Vec<EndpointSlice>,
    /// JSON merge patches.
    pub patch: Vec<(ObjectKey, Value)>,
    /// Slices that hold nothing any more.
    pub delete: Vec<(ObjectKey, Uid)>,
}

/// What a slice holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contents {
    /// Of which family all addresses are.
    pub family: Family,
    /// The ports of all endpoints, sorted.
    pub ports: Vec<ResolvedPort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// `addressType`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an address.
    pub(super) fn of(ip: &str) -> Self {
        if ip.contains(':') { Self::V6 } else { Self::V4 }
    }
}

/// Plans the slices of `service`. `zone_of` knows the zone of each node that exists; `existing` are the slices that
/// this controller keeps for the Service. Endpoints on a node that does not exist are left out until it does, unless
/// the Service publishes them whatever their state.
pub fn plan(
    service: &Service,
    backends: &[Backend],
    zone_of: &dyn Fn(&str) -> Option<Option<String>>,
    existing: &[Arc<EndpointSlice>],
) -> Plan {
    let existing: Vec<_> = existing.iter().filter(|slice| !is_deleting(&slice.metadata)).collect();
    let families = families(service);
    let mut plan = Plan::default();
    for family in [Family::V4, Family::V6] {
        let slices: Vec<_> = existing.iter().filter(|slice| slice.address_type == family.name()).collect();
        if families.contains(&family) {
            let publish = publishes_not_ready(service);
            plan_family(service, desired(family, backends, zone_of, publish), family, &slices, &mut plan);
        } else {
            slices.iter().for_each(|slice| plan.delete(slice));
        }
    }
    plan
}

/// The address families of a Service, IPv4 when it says nothing.
fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.as_ref()).filter(|families| !families.is_empty());
    match named {
        Some(families) => {
            families.iter().map(|family| if family == "IPv6" { Family::V6 } else { Family::V4 }).collect()
        }
        None => vec![Family::of(spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or(""))],
    }
}

type ByPorts = BTreeMap<Vec<ResolvedPort>, BTreeMap<String, Endpoint>>;

/// The endpoints of a family by their ports and then by the uid of their pod.
fn desired(
    family: Family,
    backends: &[Backend],
    zone_of: &dyn Fn(&str) -> Option<Option<String>>,
    publish: bool,
) -> ByPorts {
    let mut by_ports = ByPorts::new();
    for backend in backends {
        let ips = backend.pod.ips.iter().filter(|ip| Family::of(ip) == family);
        let addresses: Vec<_> = ips.map(|ip| ip.to_string()).collect();
        let node = backend.pod.node.as_deref();
        let zone = node.map_or(Some(None), zone_of);
        let Some(zone) = zone.or(publish.then_some(None)) else { continue };
        if addresses.is_empty() {
            continue;
        }
        let endpoint = endpoint(backend, addresses, zone);
        by_ports.entry(backend.ports.clone()).or_default().insert(backend.pod.uid.to_string(), endpoint);
    }
    by_ports
}

fn endpoint(backend: &Backend, addresses: Vec<String>, zone: Option<String>) -> Endpoint {
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.pod.node.as_deref().map(str::to_owned),
        target_ref: Some(ObjectReference { api_version: None, ..backend.pod.reference() }),
        zone,
        ..Endpoint::default()
    }
}

fn plan_family(
    service: &Service,
    mut desired: ByPorts,
    family: Family,
    existing: &[&&Arc<EndpointSlice>],
    plan: &mut Plan,
) {
    let mut kept = Vec::new();
    let mut spare = Vec::new();
    for slice in existing {
        let ports = ports_of(slice);
        match desired.get_mut(&ports) {
            Some(wanted) => kept.push(keep(slice, family, ports, wanted)),
            None => spare.push(**slice),
        }
    }
    let mut fresh = Vec::new();
    for (ports, left) in desired {
        let left: Vec<_> = left.into_values().collect();
        let mut of_ports: Vec<_> = kept.iter_mut().filter(|kept| kept.contents.ports == ports).collect();
        for chunk in place(left, &mut of_ports).chunks(CAPACITY) {
            fresh.push(Contents { family, ports: ports.clone(), endpoints: chunk.to_vec() });
        }
    }
    let (full, empty): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|kept| !kept.contents.endpoints.is_empty());
    spare.extend(empty.into_iter().map(|kept| kept.slice));
    if full.is_empty() && fresh.is_empty() {
        fresh.push(Contents { family, ports: Vec::new(), endpoints: Vec::new() });
    }
    let owner = Owner::of_service(service);
    for kept in full {
        plan.patch(&owner, kept.slice, &kept.contents);
    }
    // A slice that has lost its contents takes up new ones rather than being deleted.
    let mut spare = spare.into_iter();
    for contents in fresh {
        match spare.next() {
            Some(slice) => plan.patch(&owner, slice, &contents),
            None => plan.create.push(owner.build(&contents)),
        }
    }
    spare.for_each(|slice| plan.delete(slice));
}

/// A slice that goes on, with what it keeps.
struct Kept<'a> {
    slice: &'a Arc<EndpointSlice>,
    contents: Contents,
    changed: bool,
}

/// Takes the endpoints of `slice` that are still wanted out of `wanted`, in their present form.
fn keep<'a>(
    slice: &'a Arc<EndpointSlice>,
    family: Family,
    ports: Vec<ResolvedPort>,
    wanted: &mut BTreeMap<String, Endpoint>,
) -> Kept<'a> {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    let held = slice.endpoints.as_deref().unwrap_or_default();
    let still = held.iter().filter_map(|endpoint| wanted.remove(&uid(endpoint)?));
    let endpoints: Vec<_> = still.take(CAPACITY).collect();
    let changed = endpoints != held;
    Kept { slice, contents: Contents { family, ports, endpoints }, changed }
}

/// Puts endpoints into slices with room; gives back those for which new slices are needed.
fn place(mut left: Vec<Endpoint>, slices: &mut [&mut Kept<'_>]) -> Vec<Endpoint> {
    let room = |kept: &Kept<'_>| CAPACITY - kept.contents.endpoints.len();
    for kept in slices.iter_mut().filter(|kept| kept.changed) {
        let count = room(kept).min(left.len());
        kept.contents.endpoints.extend(left.drain(..count));
    }
    if !left.is_empty()
        && let Some(kept) =
            slices.iter_mut().filter(|kept| room(kept) >= left.len()).min_by_key(|kept| room(kept))
    {
        kept.contents.endpoints.append(&mut left);
    }
    left
}

impl Plan {
    /// Makes `slice` hold `contents`, if it does not.
    pub(super) fn patch(&mut self, owner: &Owner<'_>, slice: &EndpointSlice, contents: &Contents) {
        let new = owner.build(contents);
        let mut body = serde_json::Map::new();
        let lists = |slice: &EndpointSlice| {
            let (endpoints, ports) = (slice.endpoints.as_deref(), slice.ports.as_deref());
            json!({ "endpoints": endpoints.unwrap_or_default(), "ports": ports.unwrap_or_default() })
        };
        if let Some(Value::Object(changes)) = merge_diff(&lists(slice), &lists(&new)) {
            body.extend(changes);
        }
        let mut metadata = serde_json::Map::new();
        let texts = |texts: &Option<BTreeMap<String, String>>| to_value(&texts.clone().unwrap_or_default());
        let mut follow = |field: &str, old, new| {
            if let Some(changes) = merge_diff(&texts(old), &texts(new)) {
                metadata.insert(field.to_owned(), changes);
            }
        };
        follow("labels", &slice.metadata.labels, &new.metadata.labels);
        if owner.annotations.is_some() {
            follow("annotations", &slice.metadata.annotations, &new.metadata.annotations);
        }
        if body.is_empty() && metadata.is_empty() {
            return;
        }
        metadata.insert("uid".to_owned(), json!(slice.metadata.uid));
        metadata.insert("resourceVersion".to_owned(), json!(slice.metadata.resource_version));
        body.insert("metadata".to_owned(), Value::Object(metadata));
        self.patch.push((ObjectKey::of(&slice.metadata), Value::Object(body)));
    }

    /// Deletes `slice`.
    pub(super) fn delete(&mut self, slice: &EndpointSlice) {
        self.delete.push((ObjectKey::of(&slice.metadata), Uid::of(&slice.metadata)));
    }
}

/// What slices are made for.
pub(super) struct Owner<'a> {
    /// The object that they belong to.
    pub meta: &'a ObjectMeta,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// Their annotations, if the owner has a say in them.
    pub annotations: Option<BTreeMap<String, String>>,
    /// How they refer to the object.
    pub reference: OwnerReference,
}

impl<'a> Owner<'a> {
    fn of_service(service: &'a Service) -> Self {
        let name = service.metadata.name.as_deref().unwrap_or("");
        Self {
            meta: &service.metadata,
            labels: labels(service, name),
            annotations: None,
            reference: controller_reference(service),
        }
    }

    /// A new slice.
    pub(super) fn build(&self, contents: &Contents) -> EndpointSlice {
        let ports = contents.ports.iter().map(|port| EndpointPort {
            name: Some(port.name.clone()),
            port: Some(port.number),
            protocol: Some(port.protocol.clone()),
            app_protocol: port.app_protocol.clone(),
        });
        EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", self.meta.name.as_deref().unwrap_or(""))),
                namespace: self.meta.namespace.clone(),
                labels: Some(self.labels.clone()),
                annotations: self.annotations.clone(),
                owner_references: Some(vec![self.reference.clone()]),
                ..ObjectMeta::default()
            },
            address_type: contents.family.name().to_owned(),
            endpoints: Some(contents.endpoints.clone()),
            ports: Some(ports.collect()),
        }
    }
}

fn labels(service: &Service, name: &str) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

/// The ports of a slice, sorted.
pub(super) fn ports_of(slice: &EndpointSlice) -> Vec<ResolvedPort> {
    let ports = slice.ports.iter().flatten().map(|port| ResolvedPort {
        name: port.name.clone().unwrap_or_default(),
        number: port.port.unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_default(),
        app_protocol: port.app_protocol.clone(),
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort();
    ports
}

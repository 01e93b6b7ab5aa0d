//! Services: their addresses, ports and names, kept as the API has them.
//!
//! Two watches feed one picture; each change of it is turned into the whole desired state of the network, which then does
//! only what differs. Changes that come while the last one is applied are taken together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;
use xebec_network::dns::server::DnsServer;
use xebec_network::dns::zone::{EndpointNames, PortName, ServiceNames, ServiceNamesKind, Zone, ZoneSpec};
use xebec_network::node::NodeConfig;
use xebec_network::proxy::ports::{Ports, Site, node_ports};
use xebec_network::service::rules::ServiceRules;
use xebec_network::service::{Backend, Protocol, ServiceName, ServicePort, ServiceSpec, TrafficPolicy};

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the picture is applied to.
pub struct Network {
    /// Addresses; none if the kernel's rules cannot be had.
    pub rules: Option<ServiceRules>,
    /// The host's addresses, which pods do not reach.
    pub host: tokio::sync::watch::Receiver<Vec<IpAddr>>,
    /// How the node's network is laid out.
    pub config: NodeConfig,
    /// Ports of the host and the node.
    pub ports: Ports,
    /// Where node ports are opened.
    pub places: Vec<(Site, IpAddr)>,
    /// Names.
    pub dns: DnsServer,
    /// This node's name.
    pub node: String,
}

/// An object's namespace and name.
type Name = (String, String);

#[derive(Debug, Default)]
struct Picture {
    services: BTreeMap<Name, Service>,
    slices: BTreeMap<Name, EndpointSlice>,
}

/// Keeps services until `shutdown`.
pub async fn run(client: Client, mut network: Network, shutdown: CancellationToken) {
    let mut picture = Picture::default();
    let config = watcher::Config::default;
    let mut services =
        pin!(watcher::watcher(Api::<Service>::all(client.clone()), config()).default_backoff());
    let mut slices = pin!(watcher::watcher(Api::<EndpointSlice>::all(client), config()).default_backoff());
    let (mut fresh_services, mut fresh_slices) = (BTreeMap::new(), BTreeMap::new());
    let mut complete = (false, false);
    let mut changed = false;
    loop {
        let due = changed && complete == (true, true);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(event) = services.next() => changed |= take(event, &mut picture.services, &mut fresh_services, &mut complete.0),
            Some(event) = slices.next() => changed |= take(event, &mut picture.slices, &mut fresh_slices, &mut complete.1),
            Ok(()) = network.host.changed() => {
                let blocked = network.config.blocked_with_host(&network.host.borrow_and_update());
                changed |= network.rules.as_mut().is_some_and(|rules| rules.block(blocked));
            }
            // Only when neither watch has anything more to say at the moment.
            () = std::future::ready(()), if due => {
                changed = false;
                apply(&picture, &mut network).await;
            }
        }
    }
    network.dns.stop().await;
}

/// Takes an event into the picture; whether it changed.
fn take<T>(
    event: Result<Event<T>, watcher::Error>,
    known: &mut BTreeMap<Name, T>,
    fresh: &mut BTreeMap<Name, T>,
    complete: &mut bool,
) -> bool
where
    T: Resource,
{
    let name = |object: &T| {
        let meta = object.meta();
        (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    };
    match event {
        Ok(Event::Init) => fresh.clear(),
        Ok(Event::InitApply(object)) => {
            fresh.insert(name(&object), object);
        }
        Ok(Event::InitDone) => {
            *known = std::mem::take(fresh);
            *complete = true;
            return true;
        }
        Ok(Event::Apply(object)) => {
            known.insert(name(&object), object);
            return true;
        }
        Ok(Event::Delete(object)) => return known.remove(&name(&object)).is_some(),
        Err(error) => tracing::warn!(%error, "a watch on services broke, trying again"),
    }
    false
}

async fn apply(picture: &Picture, network: &mut Network) {
    let specs: Vec<ServiceSpec> =
        picture.services.values().filter_map(|service| spec(service, picture, &network.node)).collect();
    if let Some(rules) = &mut network.rules
        && let Err(error) = rules.apply(&specs).await
    {
        tracing::error!(%error, "service addresses could not be brought up to date");
    }
    let ports = node_ports(&specs, &network.places);
    for status in network.ports.apply(&ports).await {
        if let Some(problem) = status.problem {
            tracing::warn!(owner = status.owner, address = %status.listen.address, problem, "a port could not be opened");
        }
    }
    let services = picture.services.values().filter_map(|service| names(service, picture)).collect();
    match Zone::build(&ZoneSpec { services, ..network.config.zone() }) {
        Ok(zone) => network.dns.publish(zone),
        Err(error) => tracing::error!(%error, "names could not be brought up to date"),
    }
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

fn addresses(list: Option<&Vec<String>>) -> Vec<IpAddr> {
    list.into_iter().flatten().filter_map(|ip| ip.parse().ok()).collect()
}

fn slices_of<'a>(service: &'a Service, picture: &'a Picture) -> impl Iterator<Item = &'a EndpointSlice> {
    let name = service.metadata.name.clone().unwrap_or_default();
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let of = move |slice: &&EndpointSlice| {
        let label = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME));
        slice.metadata.namespace.as_deref() == Some(&namespace) && label == Some(&name)
    };
    picture.slices.values().filter(of)
}

/// What the service's addresses and node ports should lead to; `None` if it has no addresses.
fn spec(service: &Service, picture: &Picture, node: &str) -> Option<ServiceSpec> {
    let of = service.spec.as_ref()?;
    let cluster_ips = addresses(of.cluster_ips.as_ref());
    if cluster_ips.is_empty() {
        return None;
    }
    let (namespace, name) = (service.metadata.namespace.as_deref()?, service.metadata.name.as_deref()?);
    let name = match ServiceName::new(namespace, name) {
        Ok(name) => name,
        Err(error) => {
            tracing::warn!(%error, "a service is not connected");
            return None;
        }
    };
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
        let protocol = protocol(port.protocol.as_deref())?;
        Some(ServicePort {
            protocol,
            port: number(port.port)?,
            node_port: port.node_port.and_then(number),
            backends: backends(service, picture, port.name.as_deref(), protocol, node),
        })
    };
    let policy = |text: &Option<String>| match text.as_deref() {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    let timeout = of.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
    let timeout = Duration::from_secs(timeout.and_then(|s| u64::try_from(s).ok()).unwrap_or(10_800));
    Some(ServiceSpec {
        name,
        cluster_ips,
        external_ips: addresses(of.external_ips.as_ref()),
        ports: of.ports.iter().flatten().filter_map(port).collect(),
        affinity: (of.session_affinity.as_deref() == Some("ClientIP")).then_some(timeout),
        internal_policy: policy(&of.internal_traffic_policy),
        external_policy: policy(&of.external_traffic_policy),
    })
}

fn is(condition: Option<bool>) -> bool {
    condition.unwrap_or(true)
}

fn backends(
    service: &Service,
    picture: &Picture,
    port_name: Option<&str>,
    wanted: Protocol,
    node: &str,
) -> Vec<Backend> {
    let mut out = Vec::new();
    for slice in slices_of(service, picture) {
        let port = slice.ports.iter().flatten().find(|p| {
            p.name.as_deref().unwrap_or_default() == port_name.unwrap_or_default()
                && protocol(p.protocol.as_deref()) == Some(wanted)
        });
        let Some(port) = port.and_then(|p| u16::try_from(p.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let EndpointConditions { ready, serving, terminating } =
                endpoint.conditions.clone().unwrap_or_default();
            let ips = endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok());
            out.extend(ips.map(|ip| Backend {
                address: SocketAddr::new(ip, port),
                ready: is(ready),
                serving: serving.unwrap_or_else(|| is(ready)),
                terminating: terminating == Some(true),
                local: endpoint.node_name.as_deref() == Some(node),
            }));
        }
    }
    out
}

/// The names that lead to the service.
fn names(service: &Service, picture: &Picture) -> Option<ServiceNames> {
    let of = service.spec.as_ref()?;
    let ports = || {
        let named = of.ports.iter().flatten().filter_map(|p| {
            let protocol = protocol(p.protocol.as_deref())?;
            Some(PortName {
                name: p.name.clone().unwrap_or_default(),
                protocol,
                port: u16::try_from(p.port).ok()?,
            })
        });
        named.collect()
    };
    let kind = match (of.type_.as_deref(), of.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => ServiceNamesKind::External(of.external_name.clone().unwrap_or_default()),
        (_, Some("None")) => ServiceNamesKind::Endpoints(endpoints(service, picture)),
        _ => ServiceNamesKind::ClusterIps { ips: addresses(of.cluster_ips.as_ref()), ports: ports() },
    };
    let (namespace, name) = (service.metadata.namespace.clone()?, service.metadata.name.clone()?);
    Some(ServiceNames { namespace, name, kind })
}

fn endpoints(service: &Service, picture: &Picture) -> Vec<EndpointNames> {
    let all = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let mut out = Vec::new();
    for slice in slices_of(service, picture) {
        let ports: Vec<PortName> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let protocol = protocol(p.protocol.as_deref())?;
                let port = u16::try_from(p.port?).ok()?;
                Some(PortName { name: p.name.clone().unwrap_or_default(), protocol, port })
            })
            .collect();
        let named = slice
            .endpoints
            .iter()
            .flatten()
            .filter(|e| all || is(e.conditions.as_ref().and_then(|c| c.ready)));
        for endpoint in named {
            let ip = endpoint
                .addresses
                .first()
                .and_then(|a| a.parse().ok())
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            if !ip.is_unspecified() {
                out.push(EndpointNames { ip, hostname: endpoint.hostname.clone(), ports: ports.clone() });
            }
        }
    }
    out
}

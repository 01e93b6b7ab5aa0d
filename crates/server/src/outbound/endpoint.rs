//! Whom a call goes to: a host by its name, or a ready endpoint of a service.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Uri;
use xebec_api::Value;
use xebec_api::selector::Selector;
use xebec_store::Snapshot;

use crate::core::Core;
use crate::registry::facts::Want;
use crate::registry::{convert, read};

/// A server to call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The name that its certificate must be for.
    pub(super) name: String,
    /// Where it is.
    pub(super) place: Place,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A pod, or whatever else has an address in the cluster's network.
    Cluster(SocketAddr),
    /// A host that the server's own network knows, and its port.
    Outside(String, u16),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    /// The service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The port's number, of the service.
    pub port: u16,
}

impl ServiceRef {
    /// The name by which the service is known inside of the cluster.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

/// Why there is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// There is no such service.
    #[error("service {0:?} not found")]
    NoService(String),
    /// It has no such port.
    #[error("no service port {port} found for service {service:?}")]
    NoPort {
        /// The service.
        service: String,
        /// The port.
        port: u16,
    },
    /// None of its endpoints is ready.
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    /// The URL names no host.
    #[error("the URL {0:?} names no host")]
    NoHost(String),
    /// The server's own state cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl Endpoint {
    /// The host of a URL; one that is called `NAME.NAMESPACE.svc` is a service.
    ///
    /// # Errors
    /// It names no host, or a service that has no endpoint.
    pub fn of_url(core: &Core, url: &Uri) -> Result<Self, Unresolved> {
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(Unresolved::NoHost(url.to_string()));
        }
        let tls = url.scheme_str() != Some("http");
        let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if let Some((name, namespace)) = host.strip_suffix(".svc").and_then(|rest| rest.split_once('.')) {
            let service = ServiceRef { namespace: namespace.into(), name: name.into(), port };
            return Self::of_service(core, &service);
        }
        Ok(Self { name: host.to_owned(), place: core.place(host, port) })
    }

    /// The address of a pod or node.
    #[must_use]
    pub fn at(core: &Core, ip: IpAddr, port: u16) -> Self {
        let host = ip.to_string();
        Self { place: core.place(&host, port), name: host }
    }

    /// A ready endpoint of a service: another one each time, where there are several.
    ///
    /// # Errors
    /// There is none, or no such service.
    pub fn of_service(core: &Core, service: &ServiceRef) -> Result<Self, Unresolved> {
        let snapshot = core.store.snapshot();
        let object = find_service(core, &snapshot, service)?;
        let ports = object.array_at(&["spec", "ports"]);
        let port = ports.iter().find(|p| p.i64_at(&["port"]) == Some(i64::from(service.port)));
        if object.str_at(&["spec", "type"]) == Some("ExternalName") {
            let host = object.str_at(&["spec", "externalName"]).unwrap_or_default();
            return Ok(Self { name: service.host(), place: core.place(host, service.port) });
        }
        let port =
            port.ok_or_else(|| Unresolved::NoPort { service: service.name.clone(), port: service.port })?;
        let port = port.str_at(&["name"]).unwrap_or_default();
        let address = Self::ready_address(core, &service.namespace, &service.name, port)?;
        Ok(Self { name: service.host(), place: Place::Cluster(address) })
    }

    /// A ready address of a service's port of this name: another one each time, where there are several.
    ///
    /// # Errors
    /// There is none.
    pub fn ready_address(
        core: &Core,
        namespace: &str,
        service: &str,
        port: &str,
    ) -> Result<SocketAddr, Unresolved> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let ready = addresses(core, &core.store.snapshot(), namespace, service, port)?;
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let address = ready.get(turn % ready.len().max(1));
        address.copied().ok_or_else(|| Unresolved::NoEndpoints(service.to_owned()))
    }
}

impl std::fmt::Display for Endpoint {
    /// `10.42.0.7:8443`, as URLs have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Cluster(address) => write!(f, "{address}"),
            Place::Outside(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Outside(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl Core {
    /// An address of the cluster is dialled there, anything else outside.
    fn place(&self, host: &str, port: u16) -> Place {
        match host.parse::<IpAddr>() {
            Ok(ip) if self.nodes.holds(ip) => Place::Cluster(SocketAddr::new(ip, port)),
            _ => Place::Outside(host.to_owned(), port),
        }
    }
}

/// The object of a service.
///
/// # Errors
/// There is none, or it cannot be read.
pub(crate) fn find_service(
    core: &Core,
    snapshot: &Snapshot,
    service: &ServiceRef,
) -> Result<Value, Unresolved> {
    let missing = || Unresolved::NoService(service.name.clone());
    let table = core.table.get();
    let row = table.row("", "services").ok_or_else(missing)?;
    let record = read::find(snapshot, row, &service.namespace, &service.name).map_err(|_| missing())?;
    convert::stored_object(record).map_err(|status| Unresolved::Unreadable(status.message.into_owned()))
}

/// The ready addresses of a service's port, in the order of its slices.
fn addresses(
    core: &Core,
    snapshot: &Snapshot,
    namespace: &str,
    service: &str,
    port: &str,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let mut found = Vec::new();
    for slice in slices(core, snapshot, namespace, service)? {
        ready(&slice, port, &mut found);
    }
    Ok(found)
}

/// The slices of a service's endpoints.
///
/// # Errors
/// There can be none, or one cannot be read.
pub(crate) fn slices(
    core: &Core,
    snapshot: &Snapshot,
    namespace: &str,
    service: &str,
) -> Result<Vec<Value>, Unresolved> {
    let table = core.table.get();
    let none = || Unresolved::NoEndpoints(service.to_owned());
    let row = table.row("discovery.k8s.io", "endpointslices").ok_or_else(none)?;
    let prefix = row.prefix(namespace).map_err(|_| none())?;
    let labels = Selector::parse(&format!("kubernetes.io/service-name={service}")).map_err(|_| none())?;
    let want = Want { labels, ..Want::default() };
    let records = snapshot.range(&prefix, None).filter(|record| want.matches(record, row));
    records
        .map(|record| {
            convert::stored_object(record)
                .map_err(|status| Unresolved::Unreadable(status.message.into_owned()))
        })
        .collect()
}

fn ready(slice: &Value, port: &str, found: &mut Vec<SocketAddr>) {
    let ports = slice.array_at(&["ports"]).iter();
    let number = ports
        .filter(|p| p.str_at(&["name"]).unwrap_or_default() == port)
        .find_map(|p| u16::try_from(p.i64_at(&["port"])?).ok());
    let Some(number) = number else { return };
    let endpoints = slice.array_at(&["endpoints"]).iter();
    for endpoint in endpoints.filter(|e| e.bool_at(&["conditions", "ready"]) != Some(false)) {
        let address = endpoint.array_at(&["addresses"]).first().and_then(Value::as_str);
        if let Some(ip) = address.and_then(|a| a.parse::<IpAddr>().ok()) {
            found.push(SocketAddr::new(ip, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn endpoints_that_are_ready() {
        let check = |slice: Value, port: &str, want: &[&str]| {
            let mut found = Vec::new();
            ready(&slice, port, &mut found);
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{slice:?}");
        };
        let slice = object!({
            "ports": [{"name": "a", "port": 8443}, {"name": "", "port": 80}],
            "endpoints": [
                {"addresses": ["10.0.0.1", "10.0.0.9"]},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["fd00::1"], "conditions": {"ready": true}},
                {"addresses": ["a.example"]}
            ]
        });
        check(slice.clone(), "a", &["10.0.0.1:8443", "[fd00::1]:8443"]);
        check(slice.clone(), "", &["10.0.0.1:80", "[fd00::1]:80"]);
        check(slice, "b", &[]);
        check(object!({"endpoints": [{"addresses": ["10.0.0.1"]}]}), "", &[]);
    }
}

//! Service addresses: what should be reachable where, and the kernel rules that make it so.
//!
//! ```text
//!  ServiceSpec ──render──▶ Ruleset ──difference──▶ transaction ──nft, in the node's namespace──▶ kernel
//!                                 (what was applied before)
//! ```
//!
//! [`ruleset`] and [`transaction`] are pure. [`rules`] keeps what was applied last, and sends the kernel only
//! what changed: one `nft -f -` is one transaction, so packets see the old rules or the new ones.

pub mod conntrack;
pub mod nft;
pub mod rules;
pub mod ruleset;
pub mod transaction;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A service's namespace and name. Both are DNS labels, so that they can stand in the names of rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// A pair that is no [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{namespace:?}/{name:?} can't name a service: each part needs 1 to 63 lower-case letters, digits or inner hyphens"
)]
pub struct InvalidServiceName {
    namespace: String,
    name: String,
}

impl ServiceName {
    /// Checks and joins the two.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidServiceName> {
        if is_label(namespace) && is_label(name) {
            Ok(Self(format!("{namespace}/{name}").into()))
        } else {
            Err(InvalidServiceName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
    }
}

/// A DNS label as RFC 1123 has it, in lower case.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transport protocol that services and ports may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One address at which something is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vip {
    /// The address.
    pub ip: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// Which backends may serve a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any.
    #[default]
    Cluster,
    /// Those on this node.
    Local,
}

/// What one service should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// Its addresses inside the cluster.
    pub cluster_ips: Vec<IpAddr>,
    /// Other addresses that mean this service: external and load-balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// What it offers.
    pub ports: Vec<ServicePort>,
    /// How long a client stays with its backend after its last connection, if it does.
    pub affinity: Option<Duration>,
    /// Backends for connections from inside the cluster.
    pub internal_policy: TrafficPolicy,
    /// Backends for connections through node ports.
    pub external_policy: TrafficPolicy,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the service's addresses.
    pub port: u16,
    /// The port of the node's addresses, if it has one.
    pub node_port: Option<u16>,
    /// Who serves it.
    pub backends: Vec<Backend>,
}

/// One endpoint of a service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// It wants new connections.
    pub ready: bool,
    /// It could serve them, wanted or not.
    pub serving: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// It runs on this node.
    pub local: bool,
}

/// The backends that new connections may go to, in order: those that are ready or, when none is, those that
/// still serve while they terminate.
pub fn eligible(backends: &[Backend], policy: TrafficPolicy) -> Vec<SocketAddr> {
    let near = |b: &&Backend| policy == TrafficPolicy::Cluster || b.local;
    let pick = |wanted: fn(&Backend) -> bool| {
        let mut addresses: Vec<_> =
            backends.iter().filter(near).filter(|b| wanted(b)).map(|b| b.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    };
    let ready = pick(|b| b.ready);
    if ready.is_empty() { pick(|b| b.serving && b.terminating) } else { ready }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_smuggle_anything_into_a_rule() {
        assert_eq!(ServiceName::new("kube-system", "dns-1").unwrap().to_string(), "kube-system/dns-1");
        let long = "x".repeat(64);
        for bad in ["", "A", "a.b", "a b", "a}", "-a", "a-", "a\n", "é", &long] {
            assert!(ServiceName::new("default", bad).is_err(), "{bad:?}");
            assert!(ServiceName::new(bad, "web").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_may_serve() {
        // r ready, s serving and terminating, t only terminating, n nothing; a capital is on this node.
        let check = |backends: &str, policy, want: &[u16]| {
            let backends: Vec<_> = backends
                .chars()
                .zip(1..)
                .map(|(kind, port)| Backend {
                    address: SocketAddr::from(([10, 42, 0, 2], port)),
                    ready: kind.eq_ignore_ascii_case(&'r'),
                    serving: "rs".contains(kind.to_ascii_lowercase()),
                    terminating: "st".contains(kind.to_ascii_lowercase()),
                    local: kind.is_ascii_uppercase(),
                })
                .collect();
            let got: Vec<_> = eligible(&backends, policy).iter().map(SocketAddr::port).collect();
            assert_eq!(got, want, "{backends:?} {policy:?}");
        };
        check("", TrafficPolicy::Cluster, &[]);
        check("rRn", TrafficPolicy::Cluster, &[1, 2]);
        check("rRn", TrafficPolicy::Local, &[2]);
        check("rn", TrafficPolicy::Local, &[]);
        check("stR", TrafficPolicy::Cluster, &[3]);
        check("stn", TrafficPolicy::Cluster, &[1]);
        check("rS", TrafficPolicy::Local, &[2]);
        check("tn", TrafficPolicy::Cluster, &[]);
    }
}

//! Everything of one node's network, put together.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::cidr::Cidr;
use crate::dns::name::NameError;
use crate::dns::server::DnsServer;
use crate::dns::upstream::Upstream;
use crate::dns::zone::{Zone, ZoneSpec};
use crate::egress::{EgressError, HostAddresses};
use crate::link::{LinkConfig, LinkError, Links};
use crate::netns::{Netns, NetnsError};
use crate::proxy::ports::Ports;
use crate::service::Protocol::{self, Tcp, Udp};
use crate::service::Vip;
use crate::service::nft::NftError;
use crate::service::rules::ServiceRules;
use crate::service::ruleset::RulesetConfig;

/// The port that every resolver expects.
const DNS_PORT: u16 = 53;

/// The addresses and names of one node. All ranges are of one address family.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where the node's network namespace is pinned.
    pub netns: PathBuf,
    /// Addresses of pods and services.
    pub link: LinkConfig,
    /// Where pods find the API server.
    pub api: SocketAddr,
    /// Where pods find DNS.
    pub dns: IpAddr,
    /// The cluster's domain.
    pub domain: String,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
    /// Where pods may not go by the way out.
    pub blocked: Vec<Cidr>,
}

impl NodeConfig {
    /// The usual addresses: pods in 10.42.0.0/24 of 10.42.0.0/16, services in 10.43.0.0/16 with the API server at
    /// its first and DNS at its tenth address, `cluster.local`, link-local addresses blocked.
    pub fn new(netns: PathBuf) -> Self {
        let range = |second, len| {
            Cidr::new(Ipv4Addr::new(10, second, 0, 0).into(), len).expect("the last two bytes are zero")
        };
        let link_local = Ipv4Addr::new(169, 254, 0, 0).into();
        Self {
            netns,
            link: LinkConfig {
                pod_range: range(42, 24),
                cluster_range: range(42, 16),
                service_range: range(43, 16),
                mtu: 1500,
            },
            api: SocketAddr::from(([10, 43, 0, 1], 443)),
            dns: Ipv4Addr::new(10, 43, 0, 10).into(),
            domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            blocked: vec![Cidr::new(link_local, 16).expect("the last two bytes are zero")],
        }
    }

    /// A zone with nothing in it but what the configuration says.
    pub fn zone(&self) -> ZoneSpec {
        ZoneSpec {
            domain: self.domain.clone(),
            dns: vec![self.dns],
            ranges: vec![self.link.cluster_range, self.link.service_range],
            services: Vec::new(),
            pods: Vec::new(),
        }
    }

    /// Where pods may not go by the way out, the host's own addresses included: what listens on all of them is meant for
    /// the host's neighbours at most. Pods reach the API server and the node at addresses of the cluster's.
    pub fn blocked_with_host(&self, host: &[IpAddr]) -> Vec<Cidr> {
        let family = self.link.pod_range.network().is_ipv4();
        let one = |ip: &IpAddr| Cidr::new(*ip, if ip.is_ipv4() { 32 } else { 128 }).ok();
        let own = host.iter().filter(|ip| ip.is_ipv4() == family).filter_map(one);
        let mut blocked = self.blocked.clone();
        blocked.extend(own.filter(|range| !self.blocked.iter().any(|known| known.contains(range.network()))));
        blocked
    }

    /// What the node's namespace answers itself.
    fn local(&self) -> BTreeSet<Vip> {
        let vip = |ip, port, protocol: Protocol| Vip { ip, protocol, port };
        let (api, dns) = (self.api, self.dns);
        [vip(api.ip(), api.port(), Tcp), vip(dns, DNS_PORT, Tcp), vip(dns, DNS_PORT, Udp)].into()
    }
}

/// Why a node's network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node's namespace or an address in it.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The links.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The host's addresses, which pods must not reach.
    #[error("cannot tell the host's addresses: {0}")]
    Host(#[from] EgressError),
    /// The cluster's domain.
    #[error("the cluster domain {domain:?} is no domain name: {source}")]
    Domain {
        /// As configured.
        domain: String,
        /// What is wrong with it.
        source: NameError,
    },
}

/// The parts of one node's network; each goes to the task that owns it.
pub struct NodeNetwork {
    /// The node's namespace: dial pods and services from here.
    pub node: Netns,
    /// Pods' links; those that existed are taken over.
    pub links: Links,
    /// Service addresses, or why there can't be any.
    pub rules: Result<ServiceRules, NftError>,
    /// The host's addresses, which the rules keep pods away from; when they change, the rules must.
    pub host: HostAddresses,
    /// Ports of the host and of the node.
    pub ports: Ports,
    /// Names; nobody has one yet.
    pub dns: DnsServer,
    /// Pods' connections to the API server, with their own addresses. The server can accept here itself, or
    /// a [`crate::proxy::forward::Forward`] can lead them to it.
    pub api: TcpListener,
}

impl NodeNetwork {
    /// Starts everything that needs no knowledge of services. What an earlier process left is taken over.
    pub async fn start(config: &NodeConfig) -> Result<Self, NodeError> {
        let node = Netns::open(&config.netns)?;
        let links = Links::open(node.clone(), config.link.clone()).await?;
        let domain = |source| NodeError::Domain { domain: config.domain.clone(), source };
        let zone = Zone::build(&config.zone()).map_err(domain)?;

        links.add_local_address(config.api.ip()).await?;
        links.add_local_address(config.dns).await?;
        let api = node.tcp_listen(config.api).await?;
        let dns = SocketAddr::new(config.dns, DNS_PORT);
        let (udp, tcp) = (node.udp_bind(dns).await?, node.tcp_listen(dns).await?);
        let dns = DnsServer::start(udp, tcp, zone, Upstream::new(&config.resolv_conf, [config.dns]));

        let host = HostAddresses::open()?;
        let rules = RulesetConfig {
            service_range: config.link.service_range,
            local: config.local(),
            blocked: config.blocked_with_host(&host.now().await?),
        };
        let rules = ServiceRules::new(node.clone(), rules);
        Ok(Self { links, rules, host, ports: Ports::new(node.clone()), dns, api, node })
    }
}

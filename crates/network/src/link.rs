//! Pod links: each pod's network namespace is joined to the node's by one routed link.
//!
//! ```text
//!  pod namespace                         node namespace
//!  eth0 10.42.0.5/32 ───── veth ───── xp5    route 10.42.0.5 dev xp5, source 10.42.0.1
//!  default via 10.42.0.1                     lo: 10.42.0.1, service addresses served here
//! ```
//!
//! There is no bridge: pods share no Ethernet, so every packet between two pods is routed by the node. Three
//! things follow. Service rules see both directions of every connection without `br_netfilter`, a module that
//! an ordinary user can't load. A pod can't answer ARP for another's address, and the reverse-path check drops
//! a packet whose source is not the address of the link it came from. And a pod that reaches itself through a
//! service needs no hairpin mode.
//!
//! Nothing is stored: a link's alias is the pod's id and its route is the pod's address, so what exists is
//! read back from the kernel after a restart. When a pod's namespace goes, its link goes with it.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::cidr::Cidr;
use crate::ipam::{Ipam, IpamError, PodId};
use crate::netlink::{Netlink, NetlinkError, VethPair, Via, host_prefix};
use crate::netns::{Netns, NetnsError};

/// The pod's end of its link.
const POD_LINK: &str = "eth0";
/// The node's ends are called this and the address's offset in the node's range.
const NODE_LINK_PREFIX: &str = "xp";

/// The addresses that one node works with.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// This node's pods.
    pub pod_range: Cidr,
    /// All nodes' pods; what is no pod of this node is unreachable.
    pub cluster_range: Cidr,
    /// All services.
    pub service_range: Cidr,
    /// The largest packet between pods, in bytes.
    pub mtu: u32,
}

/// A pod's place in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNetwork {
    /// The pod's address.
    pub ip: IpAddr,
    /// The node's address as pods see it.
    pub gateway: IpAddr,
}

/// Why a link could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The configured range has no room for a gateway and a pod.
    #[error("the pod range {0} is too small: it needs at least a /29")]
    RangeTooSmall(Cidr),
    /// No address for the pod.
    #[error(transparent)]
    Address(#[from] IpamError),
    /// A namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel refused a link, address or route.
    #[error("in the {place}'s network namespace: {source}")]
    Netlink {
        /// `node` or `pod ID`.
        place: String,
        /// What was refused.
        source: NetlinkError,
    },
    /// A link that was just made is not there.
    #[error("the link {name} vanished from the {place}'s network namespace while it was set up")]
    Vanished {
        /// `node` or `pod ID`.
        place: String,
        /// The link.
        name: String,
    },
    /// A kernel setting could not be made.
    #[error("cannot set {} in the node's network namespace: {source}", path.display())]
    Setting {
        /// The file below `/proc/sys`.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The links of one node. Calls for different pods may run at once; calls for one pod must not.
pub struct Links {
    node: Netns,
    netlink: Netlink,
    loopback: u32,
    config: LinkConfig,
    gateway: IpAddr,
    ipam: Mutex<Ipam>,
}

impl Links {
    /// Prepares the node's namespace and takes over the links that are in it. Does nothing to what is already
    /// as it should be.
    pub async fn open(node: Netns, config: LinkConfig) -> Result<Self, LinkError> {
        let gateway = Ipam::gateway(config.pod_range).filter(|_| config.pod_range.nth(7).is_some());
        let gateway = gateway.ok_or(LinkError::RangeTooSmall(config.pod_range))?;
        let netlink = node.netlink().await?;
        let loopback = index(&netlink, "lo", "node").await?;
        let ipam = Mutex::new(Ipam::new(config.pod_range));
        let links = Self { node, netlink, loopback, config, gateway, ipam };
        links.apply_settings().await?;
        links.apply_node_routes().await.map_err(on_node)?;
        links.adopt().await.map_err(on_node)?;
        Ok(links)
    }

    /// The node's address as pods see it.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Every pod that has a link.
    pub fn pods(&self) -> Vec<(PodId, PodNetwork)> {
        let ipam = self.ipam();
        ipam.pods().map(|(pod, ip)| (pod.clone(), PodNetwork { ip, gateway: self.gateway })).collect()
    }

    /// Gives the node's namespace an address of a service that is answered there, such as the cluster's DNS.
    pub async fn add_local_address(&self, address: IpAddr) -> Result<(), LinkError> {
        self.netlink.add_address(self.loopback, address).await.map_err(on_node)
    }

    /// Joins the namespace pinned at `netns` to the node's and gives it the pod's address. The same call
    /// again changes nothing; after an error nothing is left behind.
    pub async fn attach(&self, pod: &PodId, netns: &Path) -> Result<PodNetwork, LinkError> {
        let ip = self.ipam().allocate(pod, Instant::now())?;
        match self.connect(pod, ip, netns).await {
            Ok(()) => Ok(PodNetwork { ip, gateway: self.gateway }),
            Err(error) => {
                if let Err(leftover) = self.detach(pod).await {
                    tracing::warn!(%pod, error = %leftover, "a half-made pod link could not be removed");
                }
                Err(error)
            }
        }
    }

    /// Removes the pod's link and frees its address; does nothing when there is none.
    pub async fn detach(&self, pod: &PodId) -> Result<(), LinkError> {
        let Some(ip) = self.ipam().get(pod) else { return Ok(()) };
        if let Some(link) = self.netlink.link(&self.link_name(ip)).await.map_err(on_node)?
            && link.alias.as_deref() == Some(pod.as_str())
        {
            self.netlink.delete(link.index).await.map_err(on_node)?;
        }
        self.ipam().release(pod, Instant::now());
        Ok(())
    }

    async fn connect(&self, pod: &PodId, ip: IpAddr, netns: &Path) -> Result<(), LinkError> {
        let place = format!("pod {pod}");
        let on_pod = |source| LinkError::Netlink { place: place.clone(), source };
        let open_error = |source| NetnsError::Open { path: netns.to_owned(), source };
        let file = File::open(netns).map_err(open_error)?;
        let inside = Netns::open(netns)?.netlink().await?;

        let name = self.link_name(ip);
        let existing = self.netlink.link(&name).await.map_err(on_node)?;
        let ours = existing.as_ref().is_some_and(|l| l.alias.as_deref() == Some(pod.as_str()));
        let joined = ours && inside.link(POD_LINK).await.map_err(on_pod)?.is_some();
        if !joined {
            if let Some(stale) = existing {
                self.netlink.delete(stale.index).await.map_err(on_node)?;
            }
            let pair = VethPair {
                name: &name,
                alias: pod.as_str(),
                mtu: self.config.mtu,
                peer_name: POD_LINK,
                peer_namespace: file.as_fd(),
            };
            self.netlink.add_veth_pair(&pair).await.map_err(on_node)?;
        }

        let link = index(&self.netlink, &name, "node").await?;
        self.netlink.set_up(link).await.map_err(on_node)?;
        let source = self.gateway;
        self.netlink.route(single(ip), Via::Link { index: link, source }).await.map_err(on_node)?;

        let loopback = index(&inside, "lo", &place).await?;
        let link = index(&inside, POD_LINK, &place).await?;
        let set_up = async {
            inside.set_up(loopback).await?;
            inside.add_address(link, ip).await?;
            inside.set_up(link).await?;
            inside.route(single(self.gateway), Via::Link { index: link, source: ip }).await?;
            inside.route(everything(ip), Via::Gateway { index: link, gateway: self.gateway }).await
        };
        set_up.await.map_err(on_pod)
    }

    /// Reads back the pods of the links that exist, and deletes links that were never finished.
    async fn adopt(&self) -> Result<(), NetlinkError> {
        let routes = self.netlink.host_routes().await?;
        for link in self.netlink.links().await? {
            if !link.name.starts_with(NODE_LINK_PREFIX) {
                continue;
            }
            let pod = link.alias.as_deref().and_then(|alias| PodId::new(alias).ok());
            let ip = routes.iter().find(|(_, index)| *index == link.index).map(|(ip, _)| *ip);
            let adopted = match (&pod, ip) {
                (Some(pod), Some(ip)) => self.ipam().adopt(pod, ip).map_err(|e| e.to_string()),
                _ => Err("it was never finished".to_owned()),
            };
            if let Err(reason) = adopted {
                tracing::warn!(link = link.name, reason, "removed a pod link that can't be taken over");
                self.netlink.delete(link.index).await?;
            }
        }
        Ok(())
    }

    async fn apply_node_routes(&self) -> Result<(), NetlinkError> {
        let loopback = self.loopback;
        self.netlink.set_up(loopback).await?;
        self.netlink.add_address(loopback, self.gateway).await?;
        self.netlink.route(self.config.cluster_range, Via::Unreachable).await?;
        // Service addresses are rewritten before a packet leaves. The route exists so that a packet of the
        // node itself gets as far as the rules, with a source address that pods can answer.
        let source = self.gateway;
        self.netlink.route(self.config.service_range, Via::Link { index: loopback, source }).await
    }

    async fn apply_settings(&self) -> Result<(), LinkError> {
        for (path, value) in SETTINGS {
            let path = Path::new("/proc/sys/net").join(path);
            let file = path.clone();
            match self.node.run(move || set(&file, value)).await? {
                // The kernel was built without the part that the setting is for.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LinkError::Setting { path, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn link_name(&self, ip: IpAddr) -> String {
        let offset = self.config.pod_range.offset_of(ip).expect("pod addresses come from the node's range");
        format!("{NODE_LINK_PREFIX}{offset}")
    }

    fn ipam(&self) -> MutexGuard<'_, Ipam> {
        self.ipam.lock().expect("no code panics while it holds this lock")
    }
}

/// Kernel settings of the node's namespace, below `/proc/sys/net`.
const SETTINGS: [(&str, &str); 9] = [
    ("ipv4/ip_forward", "1"),
    // Every packet that can't be delivered is answered, so that nobody waits for a timeout.
    ("ipv4/icmp_ratelimit", "0"),
    // A pod may only send from its own address.
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    // Packets from a pod to itself leave by the link they came on; that is no reason for a redirect.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    // No IPv6 on links made later: nothing routes or filters it yet.
    ("ipv6/conf/default/disable_ipv6", "1"),
];

/// Writes only what differs: in some containers the settings are right, but can't be written.
fn set(file: &Path, value: &str) -> io::Result<()> {
    if std::fs::read_to_string(file)?.trim() == value { Ok(()) } else { std::fs::write(file, value) }
}

fn on_node(source: NetlinkError) -> LinkError {
    LinkError::Netlink { place: "node".to_owned(), source }
}

async fn index(netlink: &Netlink, name: &str, place: &str) -> Result<u32, LinkError> {
    let found = netlink.link(name).await;
    let found = found.map_err(|source| LinkError::Netlink { place: place.to_owned(), source })?;
    let found = found.map(|link| link.index);
    found.ok_or_else(|| LinkError::Vanished { place: place.to_owned(), name: name.to_owned() })
}

fn single(address: IpAddr) -> Cidr {
    Cidr::new(address, host_prefix(address)).expect("a full-length prefix leaves no host bits")
}

fn everything(like: IpAddr) -> Cidr {
    let unspecified: IpAddr = match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    Cidr::new(unspecified, 0).expect("an empty prefix of zero bits is canonical")
}

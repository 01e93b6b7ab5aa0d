//! Links, addresses and routes of one network namespace, over a route netlink socket made there.
//!
//! Each operation is one request and its answer; those that add replace what is there already, so that doing
//! one twice is the same as doing it once.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::FutureExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, MulticastGroup, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;

use crate::cidr::Cidr;

/// A connection to the kernel's routing tables; closed when dropped.
pub(crate) struct Netlink {
    handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct NetlinkError {
    action: String,
    source: io::Error,
}

impl NetlinkError {
    /// No connection could be opened.
    pub(crate) fn open(source: io::Error) -> Self {
        Self { action: "open a netlink socket".to_owned(), source }
    }
}

/// A link and what was noted beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
}

/// Both ends of a link to be made between this namespace and another.
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) mtu: u32,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_namespace: BorrowedFd<'a>,
}

/// Where packets for a destination go.
pub(crate) enum Via {
    /// Straight to a link; packets of this host carry the source address given.
    Link { index: u32, source: IpAddr },
    /// Through a router on a link.
    Gateway { index: u32, gateway: IpAddr },
    /// Nowhere: the sender is told so at once.
    Unreachable,
}

impl Netlink {
    /// Opens a connection in the calling thread's namespace. Needs a runtime's context.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _unsolicited) = rtnetlink::new_connection()?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        Ok(Self { handle, _connection: connection })
    }

    /// The link called `name`, if there is one.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut links = Box::pin(self.handle.link().get().match_name(name).execute());
        match links.try_next().await {
            Ok(link) => Ok(link.map(as_link)),
            Err(error) if is_errno(&error, rustix::io::Errno::NODEV) => Ok(None),
            Err(error) => Err(failed(format!("look up the link {name}"), error)),
        }
    }

    /// All links.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.handle.link().get().execute().map_ok(as_link).try_collect().await;
        links.map_err(|e| failed("list links".to_owned(), e))
    }

    /// Makes a pair of links with the peer already in the other namespace.
    pub(crate) async fn add_veth_pair(&self, pair: &VethPair<'_>) -> Result<(), NetlinkError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.peer_name)
            .mtu(pair.mtu)
            .setns_by_fd(pair.peer_namespace.as_raw_fd())
            .build();
        let link = LinkMessageBuilder::<LinkVeth>::new(pair.name, pair.peer_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .mtu(pair.mtu)
            .build();
        let added = self.handle.link().add(link).execute().await;
        added.map_err(|e| failed(format!("make the link {}", pair.name), e))?;
        // The kernel ignores an alias that is given when a link is made.
        let alias = LinkMessageBuilder::<LinkUnspec>::new().name(pair.name).alias(pair.alias).build();
        let noted = self.handle.link().set(alias).execute().await;
        noted.map_err(|e| failed(format!("note {} on the link {}", pair.alias, pair.name), e))
    }

    /// Sets a link up.
    pub(crate) async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let link = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
        let set = self.handle.link().set(link).execute().await;
        set.map_err(|e| failed(format!("set link {index} up"), e))
    }

    /// Deletes a link; does nothing when it is gone.
    pub(crate) async fn delete(&self, index: u32) -> Result<(), NetlinkError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !is_errno(&error, rustix::io::Errno::NODEV) => {
                Err(failed(format!("delete link {index}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Gives a link one address, without a subnet around it.
    pub(crate) async fn add_address(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let added = self.handle.address().add(index, address, host_prefix(address)).replace().execute().await;
        added.map_err(|e| failed(format!("give link {index} the address {address}"), e))
    }

    /// All addresses of all links.
    pub(crate) async fn addresses(&self) -> Result<Vec<IpAddr>, NetlinkError> {
        let addresses = self.handle.address().get().execute().try_collect::<Vec<_>>().await;
        let addresses = addresses.map_err(|e| failed("list addresses".to_owned(), e))?;
        let address = |attribute| match attribute {
            AddressAttribute::Address(ip) => Some(ip),
            _ => None,
        };
        Ok(addresses.into_iter().filter_map(|a| a.attributes.into_iter().find_map(address)).collect())
    }

    /// Routes `destination`, replacing the route that it has.
    pub(crate) async fn route(&self, destination: Cidr, via: Via) -> Result<(), NetlinkError> {
        let action = || format!("route {destination}");
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.network(), destination.prefix_len())
            .map_err(|e| malformed(action(), e))?;
        let route = match via {
            Via::Unreachable => route.kind(RouteType::Unreachable),
            Via::Link { index, source } => route
                .output_interface(index)
                .scope(RouteScope::Link)
                .pref_source(source)
                .map_err(|e| malformed(action(), e))?,
            Via::Gateway { index, gateway } => {
                route.output_interface(index).gateway(gateway).map_err(|e| malformed(action(), e))?
            }
        };
        let added = self.handle.route().add(route.build()).replace().execute().await;
        added.map_err(|e| failed(action(), e))
    }

    /// The single addresses that are routed straight to a link, with the link's index.
    pub(crate) async fn host_routes(&self) -> Result<Vec<(IpAddr, u32)>, NetlinkError> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let mut routes = Box::pin(self.handle.route().get(query).execute());
            while let Some(route) = routes.next().await {
                all.extend(as_host_route(&route.map_err(|e| failed("list routes".to_owned(), e))?));
            }
        }
        Ok(all)
    }
}

/// A connection that hears of every change of a kind.
pub(crate) struct Watch {
    netlink: Netlink,
    news: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

impl Watch {
    /// Hears of links that come and go. As [`Watch::open`].
    pub(crate) fn links() -> io::Result<Self> {
        Self::open(&[MulticastGroup::Link])
    }

    /// Hears of addresses that come and go. As [`Watch::open`].
    pub(crate) fn addresses() -> io::Result<Self> {
        Self::open(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])
    }

    /// Opens a connection in the calling thread's namespace. Needs a runtime's context.
    fn open(groups: &[MulticastGroup]) -> io::Result<Self> {
        let (connection, handle, news) = rtnetlink::new_multicast_connection(groups)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        Ok(Self { netlink: Netlink { handle, _connection: connection }, news })
    }

    /// Closes the socket.
    #[cfg(test)]
    pub(crate) fn break_off(&self) {
        self.netlink._connection.abort();
    }

    /// A connection to ask for what the news are about.
    pub(crate) fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// Returns when something has changed since this was last called.
    pub(crate) async fn changed(&mut self) -> Result<(), NetlinkError> {
        let lost = || NetlinkError::open(io::ErrorKind::ConnectionAborted.into());
        self.news.next().await.map(drop).ok_or_else(lost)?;
        // One look answers all that has been heard so far.
        while self.news.next().now_or_never().flatten().is_some() {}
        Ok(())
    }

    /// Returns when there is no link called `name`.
    pub(crate) async fn removed(mut self, name: &str) -> Result<(), NetlinkError> {
        while self.netlink.link(name).await?.is_some() {
            self.changed().await?;
        }
        Ok(())
    }
}

/// The length of a prefix that leaves one address.
pub(crate) fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn as_link(message: LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, name: String::new(), alias: None };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            _ => {}
        }
    }
    link
}

fn as_host_route(route: &RouteMessage) -> Option<(IpAddr, u32)> {
    let mut destination = None;
    let mut link = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => destination = Some(IpAddr::V4(*a)),
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => destination = Some(IpAddr::V6(*a)),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let destination = destination.filter(|a| route.header.destination_prefix_length == host_prefix(*a))?;
    let straight = route.header.kind == RouteType::Unicast && route.header.scope == RouteScope::Link;
    link.filter(|_| straight).map(|index| (destination, index))
}

fn is_errno(error: &rtnetlink::Error, errno: rustix::io::Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(m) if m.raw_code() == -errno.raw_os_error())
}

fn failed(action: String, error: rtnetlink::Error) -> NetlinkError {
    let source = match error {
        rtnetlink::Error::NetlinkError(answer) => answer.to_io(),
        other => io::Error::other(other),
    };
    NetlinkError { action, source }
}

fn malformed(action: String, error: impl std::error::Error + Send + Sync + 'static) -> NetlinkError {
    NetlinkError { action, source: io::Error::new(io::ErrorKind::InvalidInput, error) }
}

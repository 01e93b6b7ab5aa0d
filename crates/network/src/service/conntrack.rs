//! UDP flows that the kernel still sends to a backend which is gone.
//!
//! Only a flow's first packet meets the service rules; the kernel remembers the outcome. A TCP connection to
//! a backend that went away ends by itself, but a UDP client that goes on sending would never reach another
//! backend. So after UDP backends changed, every remembered flow is compared with who may answer now.
//!
//! Speaks `ctnetlink` (`linux/netfilter/nfnetlink_conntrack.h`) on a socket of the node's namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::service::{Protocol, Vip};

/// How long the kernel may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The kernel sends a listing in messages of at most this many bytes.
const MAX_MESSAGE: usize = 32 * 1024;
/// More flows than a kernel's default table holds.
const MAX_FLOWS: usize = 1 << 20;

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const UDP: u8 = 17;

/// Why flows could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// No socket.
    #[error("cannot open a connection-tracking socket: {0}")]
    Open(io::Error),
    /// The kernel refused or did not answer.
    #[error("cannot {action} tracked UDP flows: {source}")]
    Kernel {
        /// `list` or `end`.
        action: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// More flows than this program looks at.
    #[error("more than {MAX_FLOWS} flows are tracked, which is more than are looked at")]
    TooMany,
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    source: SocketAddr,
    destination: SocketAddr,
}

/// A UDP flow: as the client sent it, and as its answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    original: Tuple,
    reply: Tuple,
}

/// A socket in the calling thread's namespace.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let kind = SocketType::RAW;
    let socket = socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

/// Ends the UDP flows to addresses of `current` that go to a backend not listed there; returns how many.
pub(crate) fn end_stale_udp(
    socket: &OwnedFd,
    current: &BTreeMap<Vip, BTreeSet<SocketAddr>>,
) -> Result<usize, ConntrackError> {
    let mut ended = 0;
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let flows = list(socket, family)?;
        for flow in flows.iter().filter(|f| is_stale(f, current)) {
            end(socket, family, flow)?;
            ended += 1;
        }
    }
    Ok(ended)
}

fn is_stale(flow: &Flow, current: &BTreeMap<Vip, BTreeSet<SocketAddr>>) -> bool {
    let to = flow.original.destination;
    let vip = Vip { ip: to.ip(), protocol: Protocol::Udp, port: to.port() };
    current.get(&vip).is_some_and(|backends| !backends.contains(&flow.reply.source))
}

fn list(socket: &OwnedFd, family: AddressFamily) -> Result<Vec<Flow>, ConntrackError> {
    let kernel = |source| ConntrackError::Kernel { action: "list", source };
    send(socket, &message(GET, REQUEST | DUMP, family, &[])).map_err(kernel)?;
    let mut flows = Vec::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let (_, length) = recv(socket, &mut buffer[..], RecvFlags::empty()).map_err(|e| kernel(e.into()))?;
        for (kind, body) in messages(&buffer[..length.min(MAX_MESSAGE)]) {
            match kind {
                DONE => return Ok(flows),
                ERROR => return Err(kernel(answer(body).err().unwrap_or_else(malformed))),
                _ => flows.extend(body.get(4..).and_then(udp_flow)),
            }
        }
        if flows.len() > MAX_FLOWS {
            return Err(ConntrackError::TooMany);
        }
    }
}

fn end(socket: &OwnedFd, family: AddressFamily, flow: &Flow) -> Result<(), ConntrackError> {
    let kernel = |source| ConntrackError::Kernel { action: "end", source };
    let tuple = encode_tuple(&flow.original);
    send(socket, &message(DELETE, REQUEST | ACKNOWLEDGE, family, &tuple)).map_err(kernel)?;
    let mut buffer = vec![0; MAX_MESSAGE];
    let (_, length) = recv(socket, &mut buffer[..], RecvFlags::empty()).map_err(|e| kernel(e.into()))?;
    let reply = messages(&buffer[..length.min(MAX_MESSAGE)]).next();
    match reply {
        Some((ERROR, body)) => match answer(body) {
            // It ended by itself meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(kernel),
        },
        _ => Err(kernel(malformed())),
    }
}

fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    sendto(socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer could not be understood")
}

/// The outcome in an error message's body: a negative error number, or zero.
fn answer(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or_else(malformed)?;
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

fn message(kind: u16, flags: u16, family: AddressFamily, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).expect("requests are short");
    let mut message = Vec::with_capacity(20 + attributes.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // Sequence and port: one request at a time needs neither.
    let family = u8::try_from(family.as_raw()).expect("address families are small numbers");
    message.extend([family, 0, 0, 0]);
    message.extend(attributes);
    message
}

fn encode_tuple(tuple: &Tuple) -> Vec<u8> {
    let address = |v4: u16, v6: u16, ip: IpAddr| match ip {
        IpAddr::V4(ip) => attribute(v4, &ip.octets()),
        IpAddr::V6(ip) => attribute(v6, &ip.octets()),
    };
    let ips = [address(1, 3, tuple.source.ip()), address(2, 4, tuple.destination.ip())].concat();
    let ports = [
        attribute(1, &[UDP]),
        attribute(2, &tuple.source.port().to_be_bytes()),
        attribute(3, &tuple.destination.port().to_be_bytes()),
    ]
    .concat();
    let parts = [attribute(TUPLE_IP | NESTED, &ips), attribute(TUPLE_PROTOCOL | NESTED, &ports)].concat();
    attribute(TUPLE_ORIGINAL | NESTED, &parts)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("attributes are short");
    let mut encoded = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    encoded.resize(encoded.len().next_multiple_of(4), 0);
    encoded
}

/// The kind and body of each message in a buffer.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let body = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The kind and value of each attribute.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & !NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(list: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(list).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn udp_flow(list: &[u8]) -> Option<Flow> {
    let original = decode_tuple(find(list, TUPLE_ORIGINAL)?)?;
    Some(Flow { original, reply: decode_tuple(find(list, TUPLE_REPLY)?)? })
}

fn decode_tuple(list: &[u8]) -> Option<Tuple> {
    let (ips, ports) = (find(list, TUPLE_IP)?, find(list, TUPLE_PROTOCOL)?);
    if find(ports, 1)? != [UDP] {
        return None;
    }
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        if let Some(octets) = find(ips, v4) {
            return Some(Ipv4Addr::from(*octets.first_chunk::<4>()?).into());
        }
        Some(Ipv6Addr::from(*find(ips, v6)?.first_chunk::<16>()?).into())
    };
    let port = |kind| Some(u16::from_be_bytes(*find(ports, kind)?.first_chunk()?));
    Some(Tuple {
        source: SocketAddr::new(address(1, 3)?, port(2)?),
        destination: SocketAddr::new(address(2, 4)?, port(3)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn a_tuple_survives_the_wire() {
        for tuple in [tuple("10.42.0.2:1000", "10.43.0.5:53"), tuple("[fd00::2]:1000", "[fd00::5]:53")] {
            let encoded = encode_tuple(&tuple);
            assert_eq!(decode_tuple(find(&encoded, TUPLE_ORIGINAL).unwrap()), Some(tuple));
        }
    }

    #[test]
    fn what_is_stale() {
        let vip = Vip { ip: "10.43.0.5".parse().unwrap(), protocol: Protocol::Udp, port: 53 };
        let backends: BTreeSet<SocketAddr> = ["10.42.0.3:5353".parse().unwrap()].into();
        let current = BTreeMap::from([(vip, backends)]);
        let check = |to: &str, answered_by: &str, want| {
            let original = tuple("10.42.0.2:1000", to);
            let flow = Flow { original, reply: tuple(answered_by, "10.42.0.2:1000") };
            assert_eq!(is_stale(&flow, &current), want, "{flow:?}");
        };
        check("10.43.0.5:53", "10.42.0.3:5353", false);
        check("10.43.0.5:53", "10.42.0.9:5353", true);
        check("10.43.0.5:54", "10.42.0.9:5353", false);
        check("10.42.0.9:53", "10.42.0.9:53", false);
    }

    #[test]
    fn torn_messages_are_no_flows() {
        let flow = [encode_tuple(&tuple("10.42.0.2:1000", "10.43.0.5:53")), vec![0; 3]].concat();
        for length in 0..flow.len() {
            assert_eq!(udp_flow(&flow[..length]), None);
            assert_eq!(messages(&flow[..length]).count(), 0);
        }
        assert_eq!(attributes(&[0, 0, 0, 0, 0, 0]).take(10).count(), 0, "a length of zero ends the list");
    }
}

//! Names, asked from a pod.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;
use xebec_network::dns::server::{Counts, DnsServer};
use xebec_network::dns::upstream::Upstream;
use xebec_network::dns::zone::{EndpointNames, PortName, ServiceNames, ServiceNamesKind, Zone, ZoneSpec};
use xebec_network::netns::Netns;
use xebec_network::service::Protocol;

use crate::cluster::{Cluster, PATIENCE};

const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 43, 0, 10)), 53);

fn service(name: &str, kind: ServiceNamesKind) -> ServiceNames {
    ServiceNames { namespace: "default".to_owned(), name: name.to_owned(), kind }
}

fn zone(domain: &str, services: Vec<ServiceNames>) -> Result<Zone> {
    let ranges = vec!["10.42.0.0/16".parse()?, "10.43.0.0/16".parse()?];
    Ok(Zone::build(&ZoneSpec { domain: domain.to_owned(), ranges, services, ..ZoneSpec::default() })?)
}

fn web() -> ServiceNames {
    let ports = vec![PortName { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 }];
    service("web", ServiceNamesKind::ClusterIps { ips: vec![IpAddr::from([10, 43, 0, 5])], ports })
}

fn many(count: u8) -> ServiceNames {
    let endpoint = |n| EndpointNames { ip: [10, 42, 7, n].into(), hostname: None, ports: Vec::new() };
    service("many", ServiceNamesKind::Endpoints((0..count).map(endpoint).collect()))
}

fn alias(name: &str, target: &str) -> ServiceNames {
    service(name, ServiceNamesKind::External(target.to_owned()))
}

async fn start(cluster: &Cluster, services: Vec<ServiceNames>, upstream: Upstream) -> Result<DnsServer> {
    cluster.links.add_local_address(DNS.ip()).await?;
    let udp = cluster.node.udp_bind(DNS).await?;
    let tcp = cluster.node.tcp_listen(DNS).await?;
    Ok(DnsServer::start(udp, tcp, zone("cluster.local", services)?, upstream))
}

/// A DNS server of the host that knows `web.default.svc.far.example` and `many.default.svc.far.example`.
async fn far_server() -> Result<(DnsServer, SocketAddr)> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).await?;
    let zone = zone("far.example", vec![web(), many(200)])?;
    Ok((DnsServer::start(udp, tcp, zone, Upstream::with_servers(Vec::new())), address))
}

fn nobody() -> Upstream {
    Upstream::with_servers(Vec::new())
}

/// A query for an A record, as a plain client sends it.
fn query(name: &str) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.as_bytes());
    }
    message.extend(b"\0\0\x01\0\x01");
    message
}

#[derive(Debug, PartialEq)]
struct Reply {
    rcode: u8,
    truncated: bool,
    addresses: Vec<Ipv4Addr>,
}

impl Reply {
    /// Looks for the addresses by their fixed surroundings: type A, class IN, four bytes.
    fn read(message: &[u8], query: &[u8]) -> Result<Self> {
        ensure!(message.len() >= query.len() && message[..2] == query[..2], "{message:?}");
        ensure!(message[12..query.len()] == query[12..], "the question comes back as it was asked");
        let rest = &message[query.len()..];
        let found =
            |at: &usize| rest[*at..].starts_with(b"\0\x01\0\x01") && rest[at + 8..].starts_with(b"\0\x04");
        let address = |at| rest[at + 10..].first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        let addresses = (0..rest.len().saturating_sub(13)).filter(found).filter_map(address).collect();
        Ok(Self { rcode: message[3] & 0xf, truncated: message[2] & 2 != 0, addresses })
    }
}

async fn ask_udp(from: &Netns, name: &str) -> Result<Reply> {
    let socket = from.udp_connect(DNS).await?;
    let query = query(name);
    socket.send(&query).await?;
    let mut message = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut message)).await.context("no answer")??;
    Reply::read(&message[..length], &query)
}

async fn ask_tcp(from: &Netns, names: &[&str]) -> Result<Vec<Reply>> {
    let mut stream = from.tcp_connect(DNS, PATIENCE).await?;
    let mut replies = Vec::new();
    for name in names {
        let query = query(name);
        stream.write_u16(u16::try_from(query.len())?).await?;
        stream.write_all(&query).await?;
        let mut message = vec![0; timeout(PATIENCE, stream.read_u16()).await??.into()];
        stream.read_exact(&mut message).await?;
        replies.push(Reply::read(&message, &query)?);
    }
    Ok(replies)
}

fn reply(rcode: u8, addresses: &[[u8; 4]]) -> Reply {
    Reply { rcode, truncated: false, addresses: addresses.iter().map(|a| Ipv4Addr::from(*a)).collect() }
}

pub(crate) async fn names_of_services() -> Result<()> {
    let cluster = Cluster::new().await?;
    let a = cluster.pod("a").await?;
    let dns = start(&cluster, vec![web()], nobody()).await?;
    cluster.rules()?.apply(&[]).await?;
    for from in [&a.netns, &cluster.node] {
        ensure!(ask_udp(from, "web.default.svc.cluster.local").await? == reply(0, &[[10, 43, 0, 5]]));
        ensure!(ask_udp(from, "wEB.dEfault.sVc.clusTER.local").await? == reply(0, &[[10, 43, 0, 5]]));
        ensure!(ask_udp(from, "gone.default.svc.cluster.local").await? == reply(3, &[]));
        ensure!(ask_udp(from, "svc.cluster.local").await? == reply(0, &[]));
        ensure!(ask_udp(from, "www.example.com").await? == reply(2, &[]), "nobody to ask");
    }
    dns.publish(zone("cluster.local", vec![many(1)])?);
    ensure!(ask_udp(&a.netns, "web.default.svc.cluster.local").await? == reply(3, &[]));
    ensure!(ask_udp(&a.netns, "many.default.svc.cluster.local").await? == reply(0, &[[10, 42, 7, 0]]));
    let counts = dns.counts();
    let want = Counts { queries: 12, zone: 10, no_server: 2, ..Counts::default() };
    ensure!(counts == want, "{counts:?}");

    let socket = a.netns.udp_connect(DNS).await?;
    let start = Instant::now();
    let (query, mut message) = (query("many.default.svc.cluster.local"), vec![0; 512]);
    for _ in 0..1000 {
        socket.send(&query).await?;
        timeout(PATIENCE, socket.recv(&mut message)).await??;
    }
    println!("  1,000 queries one after the other: {:?}", start.elapsed());
    Ok(())
}

pub(crate) async fn large_answers_over_tcp() -> Result<()> {
    let cluster = Cluster::new().await?;
    let a = cluster.pod("a").await?;
    let _dns = start(&cluster, vec![web(), many(200)], nobody()).await?;
    let cut = ask_udp(&a.netns, "many.default.svc.cluster.local").await?;
    ensure!(cut.truncated && cut.addresses.len() < 200, "{cut:?}");
    let names = ["many.default.svc.cluster.local", "web.default.svc.cluster.local"];
    let replies = ask_tcp(&a.netns, &names).await?;
    ensure!(!replies[0].truncated && replies[0].addresses.len() == 200, "{:?}", replies[0]);
    ensure!(replies[1] == reply(0, &[[10, 43, 0, 5]]), "one connection takes several queries");
    let turned = ask_tcp(&a.netns, &names[..1]).await?;
    ensure!(turned[0].addresses[0] != replies[0].addresses[0], "the first one changes");
    Ok(())
}

pub(crate) async fn other_names() -> Result<()> {
    let cluster = Cluster::new().await?;
    let a = cluster.pod("a").await?;
    let (far, address) = far_server().await?;
    let dead = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let upstream = Upstream::with_servers(vec![dead.local_addr()?, address]);
    drop(dead);
    let aliases = vec![alias("alias", "web.default.svc.far.example"), alias("lost", "gone.far.example")];
    let dns = start(&cluster, aliases, upstream).await?;

    let web = "web.default.svc.far.example";
    ensure!(ask_udp(&a.netns, web).await? == reply(0, &[[10, 43, 0, 5]]), "the second server answers");
    ensure!(ask_udp(&a.netns, "Web.Default.svc.far.EXAMPLE").await? == reply(0, &[[10, 43, 0, 5]]));
    ensure!(ask_udp(&a.netns, "alias.default.svc.cluster.local").await? == reply(0, &[[10, 43, 0, 5]]));
    ensure!(ask_udp(&a.netns, "lost.default.svc.cluster.local").await? == reply(3, &[]));
    ensure!(ask_udp(&a.netns, "gone.far.example").await? == reply(3, &[]));
    let counts = dns.counts();
    ensure!((counts.forwarded, counts.cached) == (2, 3), "{counts:?}");
    ensure!(far.counts().queries == 2, "{:?}", far.counts());

    let cut = ask_udp(&a.netns, "many.default.svc.far.example").await?;
    ensure!(cut.truncated, "the far server's answer came over TCP and is too large for the client's UDP");
    let whole = ask_tcp(&a.netns, &["many.default.svc.far.example"]).await?;
    ensure!(whole[0].addresses.len() == 200, "{:?}", whole[0]);

    drop(far);
    ensure!(ask_udp(&a.netns, web).await? == reply(0, &[[10, 43, 0, 5]]), "kept");
    ensure!(ask_udp(&a.netns, "new.far.example").await? == reply(2, &[]));
    ensure!(dns.counts().unanswered == 1, "{:?}", dns.counts());
    Ok(())
}

/// The client that nearly every program uses.
pub(crate) async fn the_c_library() -> Result<()> {
    let cluster = Cluster::new().await?;
    let a = cluster.pod("a").await?;
    let _dns = start(&cluster, vec![web(), many(200)], nobody()).await?;
    let conf = a.path.with_extension("resolv.conf");
    std::fs::File::create(&conf)?.write_all(
        b"nameserver 10.43.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
    )?;
    let lookup = async |name: &str| -> Result<Vec<String>> {
        let (conf, netns) = (conf.display(), Path::display(&a.path));
        let script = format!(
            "mount --bind {conf} /etc/resolv.conf && exec nsenter --net={netns} getent ahostsv4 {name}"
        );
        let mut command = tokio::process::Command::new("unshare");
        let output = command.args(["-m", "sh", "-c", &script]).kill_on_drop(true).output();
        let output = timeout(PATIENCE, output).await.context("getent hangs")??;
        ensure!([Some(0), Some(2)].contains(&output.status.code()), "signal {:?}", output.status.signal());
        let text = String::from_utf8(output.stdout)?;
        let mut addresses: Vec<_> =
            text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    };
    for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "WEB"] {
        let found = lookup(name).await?;
        ensure!(found == ["10.43.0.5"], "{name}: {found:?}");
    }
    ensure!(lookup("many").await?.len() == 200, "a large answer comes over TCP");
    ensure!(lookup("gone.default").await?.is_empty());
    Ok(())
}

//! From the host to pods, and from pods to the host's API server.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use xebec_network::proxy::forward::{Connect, Forward};
use xebec_network::proxy::ports::{MAX_PORT_CONNECTIONS, PortAddress, PortSpec, Ports, Site, node_ports};
use xebec_network::service::Protocol::{self, Tcp, Udp};

use crate::cluster::{Cluster, PATIENCE, answer_tcp, ask, ask_udp, exchange, first_line, service};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port of the host that nobody uses; the kernel won't give it to anyone else soon.
async fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((LOOPBACK, 0)).await?.local_addr()?)
}

fn port(site: Site, address: SocketAddr, protocol: Protocol, backends: &[SocketAddr]) -> PortSpec {
    let listen = PortAddress { site, address, protocol };
    PortSpec { owner: "a test".to_owned(), listen, backends: backends.to_vec(), affinity: None }
}

async fn open(ports: &mut Ports, desired: &[PortSpec]) -> Result<()> {
    let problems: Vec<_> = ports.apply(desired).await.into_iter().filter_map(|s| s.problem).collect();
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(())
}

async fn ask_host(to: SocketAddr) -> Result<String> {
    first_line(TcpStream::connect(to).await?).await
}

pub(crate) async fn tcp_from_the_host() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let mut b = cluster.pod("b").await?;
    a.serve_tcp(80).await?;
    b.serve_tcp(80).await?;
    let mut ports = Ports::new(cluster.node.clone());
    let outside = free_port().await?;
    let mut web = service("web", 5, (Tcp, 80), &[(a.ip, 80).into(), (b.ip, 80).into(), (b.ip, 81).into()])?;
    web.ports[0].node_port = Some(outside.port());
    open(&mut ports, &node_ports(slice::from_ref(&web), &[(Site::Host, LOOPBACK)])).await?;

    let gateway = cluster.links.gateway();
    let mut answers = HashSet::new();
    for _ in 0..9 {
        answers.insert(ask_host(outside).await.context("one of the backends refuses; another is tried")?);
    }
    ensure!(answers == [format!("a {gateway}"), format!("b {gateway}")].into(), "{answers:?}");

    // Half-closed: the client is done, the server still answers.
    let mut stream = TcpStream::connect(outside).await?;
    let payload = vec![7; 300_000];
    let sent = payload.clone();
    let (mut read, mut write) = stream.split();
    let mut received = Vec::new();
    let send = async {
        write.write_all(&sent).await?;
        write.shutdown().await
    };
    timeout(PATIENCE, async { tokio::try_join!(send, read.read_to_end(&mut received)) }).await??;
    ensure!(received.ends_with(&payload), "{} bytes came back", received.len());

    // A connection outlives its backend's place in the service; new ones are reset when nobody serves.
    let mut kept = TcpStream::connect(outside).await?;
    kept.read_u8().await?;
    web.ports[0].backends.clear();
    open(&mut ports, &node_ports(slice::from_ref(&web), &[(Site::Host, LOOPBACK)])).await?;
    kept.write_all(b"still there").await?;
    let refused = ask_host(outside).await;
    ensure!(refused.is_err_and(|e| e.to_string().contains("reset")));
    timeout(PATIENCE, async {
        while kept.read_u8().await? != b'!' - 1 {}
        Ok::<_, io::Error>(())
    })
    .await??;

    open(&mut ports, &[]).await?;
    let closed = TcpStream::connect(outside).await;
    ensure!(closed.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused));
    Ok(())
}

pub(crate) async fn no_port_takes_all_connections() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    a.serve_tcp(80).await?;
    let mut ports = Ports::new(cluster.node.clone());
    let (busy, other) = (free_port().await?, free_port().await?);
    let specs = [busy, other].map(|at| port(Site::Host, at, Tcp, &[(a.ip, 80).into()]));
    open(&mut ports, &specs).await?;
    let mut held = Vec::new();
    for _ in 0..MAX_PORT_CONNECTIONS {
        let mut stream = TcpStream::connect(busy).await?;
        stream.read_u8().await.context("it is served")?;
        held.push(stream);
    }
    let mut late = TcpStream::connect(busy).await?;
    let mut waiting = tokio::spawn(async move { late.read_u8().await });
    timeout(PATIENCE, ask_host(other)).await.context("another port is served")??;
    ensure!(!waiting.is_finished(), "more than {MAX_PORT_CONNECTIONS} connections are served");
    held.pop();
    timeout(PATIENCE, &mut waiting).await.context("the next is served when one ends")???;
    Ok(())
}

pub(crate) async fn udp_from_the_host() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let mut b = cluster.pod("b").await?;
    a.serve_udp(53).await?;
    b.serve_udp(53).await?;
    let mut ports = Ports::new(cluster.node.clone());
    let outside = UdpSocket::bind((LOOPBACK, 0)).await?.local_addr()?;
    let to = |backends: &[SocketAddr]| [port(Site::Host, outside, Udp, backends)];
    open(&mut ports, &to(&[(a.ip, 53).into()])).await?;
    let client = UdpSocket::bind((LOOPBACK, 0)).await?;
    client.connect(outside).await?;
    for _ in 0..3 {
        ensure!(exchange(&client).await?.starts_with("a "));
    }
    open(&mut ports, &to(&[(b.ip, 53).into()])).await?;
    ensure!(exchange(&client).await?.starts_with("b "), "a client follows when its backend is gone");
    // More clients than sessions fit: the oldest make room.
    for _ in 0..1100 {
        let other = UdpSocket::bind((LOOPBACK, 0)).await?;
        other.connect(outside).await?;
        ensure!(exchange(&other).await?.starts_with("b "));
    }
    ensure!(exchange(&client).await?.starts_with("b "));
    Ok(())
}

pub(crate) async fn taken_ports_say_why() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    a.serve_tcp(80).await?;
    let mut ports = Ports::new(cluster.node.clone());
    let holder = TcpListener::bind((LOOPBACK, 0)).await?;
    let taken = holder.local_addr()?;
    let free = free_port().await?;
    let backends = [(a.ip, 80).into()];
    let desired = [
        port(Site::Host, taken, Tcp, &backends),
        port(Site::Host, free, Tcp, &backends),
        port(Site::Host, free, Tcp, &backends),
    ];
    let problems: Vec<_> = ports.apply(&desired).await.into_iter().map(|s| s.problem).collect();
    let [Some(first), None, Some(third)] = &problems[..] else { bail!("{problems:?}") };
    ensure!(first.ends_with("is already used by another program"), "{first}");
    ensure!(third.ends_with("is already used by a test"), "{third}");
    ensure!(ask_host(free).await?.starts_with("a "));
    drop(holder);
    open(&mut ports, &desired[..2]).await?;
    ensure!(ask_host(taken).await?.starts_with("a "));
    Ok(())
}

pub(crate) async fn from_pods_and_the_node() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let b = cluster.pod("b").await?;
    a.serve_tcp(80).await?;
    a.serve_udp(53).await?;
    let gateway = cluster.links.gateway();
    let mut ports = Ports::new(cluster.node.clone());
    let desired = [
        port(Site::Node, (gateway, 30080).into(), Tcp, &[(a.ip, 80).into()]),
        port(Site::Node, (gateway, 30053).into(), Udp, &[(a.ip, 53).into()]),
        port(Site::Node, (LOOPBACK, 30080).into(), Tcp, &[(a.ip, 80).into()]),
    ];
    open(&mut ports, &desired).await?;
    for from in [&a.netns, &b.netns, &cluster.node] {
        ensure!(ask(from, (gateway, 30080)).await? == format!("a {gateway}"));
        ensure!(ask_udp(from, (gateway, 30053)).await? == format!("a {gateway}"));
    }
    ensure!(ask(&cluster.node, (LOOPBACK, 30080)).await?.starts_with("a "));
    ensure!(ask(&b.netns, (LOOPBACK, 30080)).await.is_err());
    Ok(())
}

/// Connects to something in the host's network.
struct ToHost(SocketAddr);

impl Connect for ToHost {
    async fn connect(&self, _peer: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

pub(crate) async fn the_way_to_the_api_server() -> Result<()> {
    let cluster = Cluster::new().await?;
    let a = cluster.pod("a").await?;
    let mut rules = cluster.rules()?;
    rules.apply(&[]).await?;
    let api: SocketAddr = "10.43.0.1:443".parse()?;
    ensure!(ask(&a.netns, api).await.is_err());

    let listener = TcpListener::bind((LOOPBACK, 0)).await?;
    let on_host = listener.local_addr()?;
    let server = tokio::spawn(answer_tcp("api".to_owned(), listener));
    cluster.links.add_local_address(api.ip()).await?;
    cluster.links.add_local_address(api.ip()).await?;
    let forward = Forward::start(cluster.node.tcp_listen(api).await?, ToHost(on_host), 2);
    for from in [&a.netns, &cluster.node] {
        ensure!(ask(from, api).await? == "api 127.0.0.1");
    }
    // Two at once, and the next when one of them is done.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = a.netns.tcp_connect(api, PATIENCE).await?;
        stream.read_u8().await?;
        held.push(stream);
    }
    let mut third = a.netns.tcp_connect(api, PATIENCE).await?;
    ensure!(timeout(Duration::from_millis(200), third.read_u8()).await.is_err(), "it has to wait");
    held.pop();
    timeout(PATIENCE, third.read_u8()).await??;
    forward.stop().await;
    server.abort();
    ensure!(ask(&a.netns, api).await.is_err());
    Ok(())
}

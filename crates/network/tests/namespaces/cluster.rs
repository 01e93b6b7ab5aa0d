//! A node with pods that run small servers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use xebec_network::ipam::PodId;
use xebec_network::link::{LinkConfig, Links};
use xebec_network::netns::Netns;
use xebec_network::service::rules::ServiceRules;
use xebec_network::service::ruleset::RulesetConfig;
use xebec_network::service::{Backend, Protocol, ServiceName, ServicePort, ServiceSpec, TrafficPolicy, Vip};

use crate::support::Lab;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) node: Netns,
    pub(crate) links: Links,
}

pub(crate) struct Pod {
    pub(crate) id: PodId,
    pub(crate) path: PathBuf,
    pub(crate) netns: Netns,
    pub(crate) ip: IpAddr,
    servers: JoinSet<()>,
}

pub(crate) fn link_config() -> Result<LinkConfig> {
    Ok(LinkConfig {
        pod_range: "10.42.0.0/24".parse()?,
        cluster_range: "10.42.0.0/16".parse()?,
        service_range: "10.43.0.0/16".parse()?,
        mtu: 1500,
    })
}

impl Cluster {
    pub(crate) async fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let node = Netns::open(&lab.node())?;
        let links = Links::open(node.clone(), link_config()?).await?;
        Ok(Self { lab, node, links })
    }

    pub(crate) async fn pod(&self, name: &str) -> Result<Pod> {
        let path = self.lab.pod(name)?;
        let id = PodId::new(name)?;
        let ip = self.links.attach(&id, &path).await?.ip;
        let netns = Netns::open(&path)?;
        Ok(Pod { id, path, netns, ip, servers: JoinSet::new() })
    }

    pub(crate) fn rules(&self) -> Result<ServiceRules> {
        let dns = |protocol| Vip { ip: IpAddr::from([10, 43, 0, 10]), protocol, port: 53 };
        let config = RulesetConfig {
            service_range: "10.43.0.0/16".parse()?,
            local: [dns(Protocol::Tcp), dns(Protocol::Udp)].into(),
            blocked: vec!["169.254.0.0/16".parse()?],
        };
        Ok(ServiceRules::new(self.node.clone(), config)?)
    }
}

impl Pod {
    /// Answers each TCP connection with a line `NAME PEER` and then with what it is sent.
    pub(crate) async fn serve_tcp(&mut self, port: u16) -> Result<()> {
        let listener = self.netns.tcp_listen((self.ip, port).into()).await?;
        self.servers.spawn(answer_tcp(self.id.to_string(), listener));
        Ok(())
    }

    /// Answers each datagram with `NAME PEER`.
    pub(crate) async fn serve_udp(&mut self, port: u16) -> Result<()> {
        let socket = self.netns.udp_bind((self.ip, port).into()).await?;
        let name = self.id.to_string();
        self.servers.spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
                let answer = format!("{name} {}", peer.ip());
                if socket.send_to(answer.as_bytes(), peer).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

pub(crate) async fn answer_tcp(name: String, listener: TcpListener) {
    let name: Arc<str> = name.into();
    let mut connections = JoinSet::new();
    while let Ok((mut stream, peer)) = listener.accept().await {
        let name = name.clone();
        connections.spawn(async move {
            let (mut read, mut write) = stream.split();
            write.write_all(format!("{name} {}\n", peer.ip()).as_bytes()).await?;
            tokio::io::copy(&mut read, &mut write).await
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The first line that a TCP server says.
pub(crate) async fn ask(from: &Netns, to: impl Into<SocketAddr>) -> Result<String> {
    first_line(from.tcp_connect(to.into(), PATIENCE).await?).await
}

pub(crate) async fn first_line(stream: TcpStream) -> Result<String> {
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(stream).read_line(&mut line)).await??;
    Ok(line.trim_end().to_owned())
}

/// The answer to one datagram.
pub(crate) async fn ask_udp(from: &Netns, to: impl Into<SocketAddr>) -> Result<String> {
    exchange(&from.udp_connect(to.into()).await?).await
}

pub(crate) async fn exchange(socket: &UdpSocket) -> Result<String> {
    socket.send(b"who?").await?;
    let mut buffer = [0; 2048];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.context("no answer")??;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A service at `10.43.0.HOST` with one port.
pub(crate) fn service(
    name: &str,
    host: u8,
    (protocol, port): (Protocol, u16),
    backends: &[SocketAddr],
) -> Result<ServiceSpec> {
    let backend =
        |a: &SocketAddr| Backend { address: *a, ready: true, serving: true, terminating: false, local: true };
    Ok(ServiceSpec {
        name: ServiceName::new("default", name)?,
        cluster_ips: vec![IpAddr::from([10, 43, 0, host])],
        external_ips: Vec::new(),
        ports: vec![ServicePort {
            protocol,
            port,
            node_port: None,
            backends: backends.iter().map(backend).collect(),
        }],
        affinity: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
    })
}

//! How fast the paths through the network are. Prints; asserts nothing about time.
//!
//! All numbers include the client and the server, which share the machine's cores with everything measured.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use support::{Host, Lab};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use xebec_network::dns::zone::{EndpointNames, PortName, ServiceNames, ServiceNamesKind, Zone, ZoneSpec};
use xebec_network::ipam::PodId;
use xebec_network::netns::Netns;
use xebec_network::node::{NodeConfig, NodeNetwork};
use xebec_network::proxy::ports::{PortAddress, PortSpec, Site};
use xebec_network::service::{Backend, Protocol, ServiceName, ServicePort, ServiceSpec, TrafficPolicy};

const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 2000;
const STREAM: usize = 512 * 1024 * 1024;
const CHUNK: usize = 128 * 1024;

fn main() -> ExitCode {
    support::run(Host::Machine, || {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(paths())
    })
}

async fn paths() -> Result<()> {
    let lab = Lab::new()?;
    let mut network = NodeNetwork::start(&NodeConfig::new(lab.node())).await?;
    attach_and_detach(&lab, &network).await?;
    build_zone()?;

    let (server_path, client_path) = (lab.pod("server")?, lab.pod("client")?);
    let ip = network.links.attach(&PodId::new("server")?, &server_path).await?.ip;
    network.links.attach(&PodId::new("client")?, &client_path).await?;
    let (server, client) = (Netns::open(&server_path)?, Netns::open(&client_path)?);
    let pod = SocketAddr::new(ip, 80);
    let _server = serve(server.tcp_listen(pod).await?);
    let service = SocketAddr::from(([10, 43, 0, 5], 80));
    network.rules?.apply(&[service_of(service.ip(), pod)?]).await?;
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
    let listen = PortAddress { site: Site::Host, address: outside, protocol: Protocol::Tcp };
    let port = PortSpec { owner: "bench".to_owned(), listen, backends: vec![pod], affinity: None };
    let status = network.ports.apply(&[port]).await.remove(0);
    anyhow::ensure!(status.problem.is_none(), "{status:?}");
    let local = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let loopback = local.local_addr()?;
    let _local = serve(local);

    for (name, from, to) in [
        ("host loopback, nothing between", None, loopback),
        ("pod to pod", Some(&client), pod),
        ("pod to service", Some(&client), service),
        ("host to node port", None, outside),
    ] {
        let connections = connections(from, to).await.with_context(|| name.to_owned())?;
        let throughput = throughput(from, to).await.with_context(|| name.to_owned())?;
        println!(
            "{name:32} {connections:7.0} connections/s, one at a time; {throughput:6.2} GB/s, one stream"
        );
    }
    Ok(())
}

async fn attach_and_detach(lab: &Lab, network: &NodeNetwork) -> Result<()> {
    const PODS: usize = 20;
    let mut pods = Vec::new();
    for n in 0..PODS {
        pods.push((PodId::new(&format!("pod-{n}"))?, lab.pod(&format!("pod-{n}"))?));
    }
    let start = Instant::now();
    for (pod, path) in &pods {
        network.links.attach(pod, path).await?;
    }
    let attached = start.elapsed() / u32::try_from(PODS)?;
    let start = Instant::now();
    for (pod, _) in &pods {
        network.links.detach(pod).await?;
    }
    println!("{:32} {attached:?}, detach {:?}", "attach a pod", start.elapsed() / u32::try_from(PODS)?);
    Ok(())
}

/// 1,000 services with an address, and one without that has 1,000 endpoints.
fn build_zone() -> Result<()> {
    let port = || PortName { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 };
    let address = |second: u8, n: u16| IpAddr::from([10, second, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
    let service = |name: String, kind| ServiceNames { namespace: "default".to_owned(), name, kind };
    let endpoint =
        |n| EndpointNames { ip: address(42, n), hostname: Some(format!("pod-{n}")), ports: vec![port()] };
    let endpoints = ServiceNamesKind::Endpoints((0..1000).map(endpoint).collect());
    let mut services = vec![service("headless".to_owned(), endpoints)];
    for n in 0..1000 {
        let kind = ServiceNamesKind::ClusterIps { ips: vec![address(43, n)], ports: vec![port()] };
        services.push(service(format!("service-{n}"), kind));
    }
    let spec = ZoneSpec { domain: "cluster.local".to_owned(), services, ..ZoneSpec::default() };
    let start = Instant::now();
    let zone = Zone::build(&spec)?;
    anyhow::ensure!(zone.problems().is_empty());
    println!("{:32} {:?}", "a zone of 1,000 services", start.elapsed());
    Ok(())
}

fn service_of(ip: IpAddr, backend: SocketAddr) -> Result<ServiceSpec> {
    let backend = Backend { address: backend, ready: true, serving: true, terminating: false, local: true };
    Ok(ServiceSpec {
        name: ServiceName::new("default", "bench")?,
        cluster_ips: vec![ip],
        external_ips: Vec::new(),
        ports: vec![ServicePort {
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            backends: vec![backend],
        }],
        affinity: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
    })
}

/// Says one byte to each client, then takes all that it sends.
fn serve(listener: TcpListener) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                stream.write_u8(1).await?;
                let mut buffer = vec![0; CHUNK];
                while stream.read(&mut buffer).await? > 0 {}
                stream.write_u8(2).await
            });
            while connections.try_join_next().is_some() {}
        }
    });
    tasks
}

async fn connect(from: Option<&Netns>, to: SocketAddr) -> Result<TcpStream> {
    let mut stream = match from {
        Some(netns) => netns.tcp_connect(to, PATIENCE).await?,
        None => TcpStream::connect(to).await?,
    };
    stream.read_u8().await?;
    Ok(stream)
}

async fn connections(from: Option<&Netns>, to: SocketAddr) -> Result<f64> {
    connect(from, to).await?;
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        // Reset instead of closed, so that the ports are free at once.
        connect(from, to).await?.set_zero_linger()?;
    }
    Ok(CONNECTIONS as f64 / start.elapsed().as_secs_f64())
}

async fn throughput(from: Option<&Netns>, to: SocketAddr) -> Result<f64> {
    let mut stream = connect(from, to).await?;
    let chunk = vec![0; CHUNK];
    let start = Instant::now();
    for _ in 0..STREAM / CHUNK {
        stream.write_all(&chunk).await?;
    }
    stream.shutdown().await?;
    let end: io::Result<u8> = stream.read_u8().await;
    end?;
    Ok(STREAM as f64 / 1e9 / start.elapsed().as_secs_f64())
}

//! The pods' way out, and what it must not lead to. The "host" here is a network namespace of the test's own,
//! with another one as the world outside.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use support::{Host, Lab, sh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use xebec_network::cidr::Cidr;
use xebec_network::egress::{Egress, HostAddresses, Provider, WayOut};
use xebec_network::ipam::PodId;
use xebec_network::link::{LinkConfig, Links};
use xebec_network::netns::Netns;
use xebec_network::node::NodeConfig;
use xebec_network::service::rules::ServiceRules;
use xebec_network::service::ruleset::RulesetConfig;

const PATIENCE: Duration = Duration::from_secs(5);
/// The host's address towards the world, and the world's.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// Ports of the host: open to all, open to its loopback only.
const OPEN: u16 = 8000;
const PRIVATE: u16 = 8001;

fn main() -> ExitCode {
    support::run(Host::Private, || {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(scenarios())
    })
}

async fn scenarios() -> Result<()> {
    let lab = Lab::new()?;
    let world = make_world(&lab)?;
    let mut servers = JoinSet::new();
    let here = [(Ipv4Addr::UNSPECIFIED, OPEN), (Ipv4Addr::LOCALHOST, PRIVATE)];
    for address in here {
        servers.spawn(greet("host", TcpListener::bind(address).await?));
    }
    servers.spawn(greet("world", world.tcp_listen((WORLD, 80).into()).await?));

    let node = Netns::open(&lab.node())?;
    let links = Links::open(
        node.clone(),
        LinkConfig {
            pod_range: "10.42.0.0/24".parse()?,
            cluster_range: "10.42.0.0/16".parse()?,
            service_range: "10.43.0.0/16".parse()?,
            mtu: 1500,
        },
    )
    .await?;
    let path = lab.pod("a")?;
    links.attach(&PodId::new("a")?, &path).await?;
    let pod = Netns::open(&path)?;

    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_err() {
        let Egress::Unavailable { reason } = Egress::start(&node).await else {
            bail!("it works without tun")
        };
        println!("test no_tun ... ok: {reason}");
        println!("test way_out ... SKIPPED: it needs /dev/net/tun, which only root can open here");
        return Ok(());
    }
    for provider in [Provider::Pasta, Provider::Slirp4netns] {
        way_out(provider, &node, &pod).await.with_context(|| format!("{provider:?}"))?;
        println!("test way_out with {provider:?} ... ok");
    }
    Ok(())
}

fn make_world(lab: &Lab) -> Result<Netns> {
    let path = lab.pod("world")?;
    let inside = |command: &str| sh(&format!("nsenter --net={} {command}", path.display()));
    // A link can be moved by the path of a namespace only with a name that `ip` knows.
    sh(&format!(
        "mkdir -p /tmp/netns && mount --bind /tmp/netns /run && mkdir -p /run/netns && touch /run/netns/world \
                 && mount --bind {} /run/netns/world",
        path.display()
    ))?;
    sh("ip link set lo up && ip link add wan0 type veth peer name eth0 netns world && ip link set wan0 up")?;
    sh(&format!("ip addr add {HOST}/24 dev wan0 && ip route add default via {WORLD}"))?;
    inside("ip link set lo up")?;
    inside("ip link set eth0 up")?;
    inside(&format!("ip addr add {WORLD}/24 dev eth0"))?;
    Netns::open(&path).map_err(Into::into)
}

async fn way_out(provider: Provider, node: &Netns, pod: &Netns) -> Result<()> {
    only(provider)?;
    let way = start(node).await?;
    ensure!(way.provider == provider, "{:?}", way.provider);
    ensure!(start(node).await?.provider == Provider::Earlier, "it is taken over after a restart");

    let mut rules = rules(node, Vec::new())?;
    rules.apply(&[]).await?;
    ensure!(greeting(pod, WORLD, 80).await? == format!("world sees {HOST}"));
    ensure!(greeting(pod, HOST, OPEN).await?.starts_with("host"));
    // Every address that could mean the host's loopback.
    let suspects = [
        HOST,
        [10, 41, 0, 1].into(),
        [10, 41, 0, 2].into(),
        [10, 41, 0, 3].into(),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        [10, 42, 0, 1].into(),
        [127, 0, 0, 53].into(),
    ];
    let mut attempts = JoinSet::new();
    for (from, suspect) in [pod, node].into_iter().flat_map(|from| suspects.map(|suspect| (from, suspect))) {
        let from = from.clone();
        attempts.spawn(async move { (suspect, greeting(&from, suspect, PRIVATE).await) });
    }
    while let Some(attempt) = attempts.join_next().await {
        let (suspect, answer) = attempt?;
        ensure!(answer.is_err(), "{suspect} leads to the host's loopback: {answer:?}");
    }

    host_is_blocked(node, pod).await?;

    let lost = tokio::spawn(async move { way.lost().await });
    sh(&format!("nsenter --net={} ip link del xout0", node.path().display()))?;
    timeout(PATIENCE, lost).await???;
    ensure!(greeting(pod, WORLD, 80).await.is_err());
    Ok(())
}

/// Pods reach none of the host's addresses, whenever it gets them.
async fn host_is_blocked(node: &Netns, pod: &Netns) -> Result<()> {
    const LATER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
    let config = NodeConfig::new(node.path().to_owned());
    let host = HostAddresses::open()?;
    let now = host.now().await?;
    let blocked = config.blocked_with_host(&now);
    ensure!(blocked.len() == 2, "{blocked:?}");
    let (tell, mut told) = watch::channel(Vec::new());
    let following = tokio::spawn(host.follow(tell));
    timeout(PATIENCE, told.changed()).await??;
    ensure!(*told.borrow_and_update() == now, "what there is from the beginning is told as well");
    let mut rules = rules(node, blocked.clone())?;
    rules.apply(&[]).await?;
    ensure!(greeting(pod, WORLD, 80).await? == format!("world sees {HOST}"));
    let refused = async |address: Ipv4Addr, port: u16| {
        let error = greeting(pod, address, port).await.err().context("it is blocked")?;
        ensure!(format!("{error:#}").contains("refused"), "{error:#}");
        Ok(())
    };
    refused(HOST, OPEN).await?;
    refused([169, 254, 169, 254].into(), 80).await?;
    ensure!(!rules.block(blocked), "nothing has changed");

    for (verb, count) in [("add", 3), ("del", 2)] {
        sh(&format!("ip addr {verb} {LATER}/32 dev wan0"))?;
        timeout(PATIENCE, told.changed()).await??;
        let blocked = config.blocked_with_host(&told.borrow_and_update());
        ensure!(blocked.len() == count, "{blocked:?}");
        if verb == "add" {
            ensure!(greeting(pod, LATER, OPEN).await?.starts_with("host"), "it is not known yet");
        }
        ensure!(rules.block(blocked));
        ensure!(rules.apply(&[]).await?.changed);
        refused(HOST, OPEN).await?;
        if verb == "add" {
            refused(LATER, OPEN).await?;
        }
    }
    drop(told);
    timeout(PATIENCE, following).await???;
    Ok(())
}

/// Hides the other provider, by a `PATH` and directories that have only the wanted one.
fn only(provider: Provider) -> Result<()> {
    if provider == Provider::Slirp4netns {
        sh("mount --bind /dev/null $(command -v pasta)")?;
    }
    Ok(())
}

async fn start(node: &Netns) -> Result<WayOut> {
    match Egress::start(node).await {
        Egress::Available(way) => Ok(way),
        Egress::Unavailable { reason } => bail!(reason),
    }
}

fn rules(node: &Netns, blocked: Vec<Cidr>) -> Result<ServiceRules> {
    let config = RulesetConfig { service_range: "10.43.0.0/16".parse()?, local: [].into(), blocked };
    Ok(ServiceRules::new(node.clone(), config)?)
}

async fn greet(name: &str, listener: TcpListener) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        if let Err(error) = stream.write_all(format!("{name} sees {}", peer.ip()).as_bytes()).await {
            eprintln!("{name}: {error}");
        }
    }
}

async fn greeting(from: &Netns, to: Ipv4Addr, port: u16) -> Result<String> {
    let patience = Duration::from_secs(2);
    let mut stream = from.tcp_connect(SocketAddr::from((to, port)), patience).await?;
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await??;
    ensure!(!text.is_empty(), "the connection was closed at once");
    Ok(text)
}

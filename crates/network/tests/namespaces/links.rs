//! Pods reach each other, and nobody else's address.

use anyhow::{Result, bail, ensure};
use xebec_network::ipam::PodId;
use xebec_network::link::Links;

use xebec_network::netns::Netns;

use crate::cluster::{Cluster, Pod, ask, ask_udp, link_config};
use crate::support::sh;

pub(crate) async fn pods_reach_each_other() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let mut b = cluster.pod("b").await?;
    for pod in [&mut a, &mut b] {
        pod.serve_tcp(80).await?;
        pod.serve_udp(53).await?;
    }
    let gateway = cluster.links.gateway();
    for (from, source) in [(&a.netns, a.ip), (&b.netns, b.ip), (&cluster.node, gateway)] {
        ensure!(ask(from, (a.ip, 80)).await? == format!("a {source}"));
        ensure!(ask_udp(from, (b.ip, 53)).await? == format!("b {source}"));
    }
    for address in ["10.42.0.200:80", "10.42.9.9:80", "192.0.2.77:80"] {
        let refused = ask(&a.netns, address.parse::<std::net::SocketAddr>()?).await;
        let reason = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(["unreachable", "No route"].iter().any(|r| reason.contains(r)), "{address}: {reason}");
    }
    Ok(())
}

pub(crate) async fn attach_is_idempotent() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    a.serve_tcp(80).await?;
    let again = cluster.links.attach(&a.id, &a.path).await?;
    ensure!(again.ip == a.ip);
    ensure!(ask(&cluster.node, (a.ip, 80)).await?.starts_with("a "));

    cluster.links.detach(&a.id).await?;
    cluster.links.detach(&a.id).await?;
    ensure!(cluster.links.pods().is_empty());
    ensure!(ask(&cluster.node, (a.ip, 80)).await.is_err());
    let back = cluster.links.attach(&a.id, &a.path).await?;
    ensure!(back.ip != a.ip, "a freed address rests");

    let missing = cluster.links.attach(&PodId::new("b")?, &a.path.with_file_name("nowhere")).await;
    let Err(error) = missing else { bail!("attached a pod without a namespace") };
    ensure!(error.to_string().contains("cannot open the network namespace"), "{error}");
    ensure!(cluster.links.pods().len() == 1, "nothing is left of the failed attempt");
    Ok(())
}

pub(crate) async fn a_restart_adopts() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let b = cluster.pod("b").await?;
    a.serve_tcp(80).await?;
    // As an attach leaves things that was killed in the middle.
    let node = cluster.node.path().display().to_string();
    sh(&format!("nsenter --net={node} ip link add xp77 type veth peer name stray"))?;

    let restarted = Links::open(cluster.node.clone(), link_config()?).await?;
    let mut pods = restarted.pods();
    pods.sort_by_key(|(pod, _)| pod.clone());
    let ips: Vec<_> = pods.iter().map(|(pod, network)| (pod.as_str(), network.ip)).collect();
    ensure!(ips == [("a", a.ip), ("b", b.ip)], "{ips:?}");
    ensure!(sh(&format!("nsenter --net={node} ip link show xp77 2>/dev/null")).is_err());
    ensure!(ask(&b.netns, (a.ip, 80)).await? == format!("a {}", b.ip));
    ensure!(restarted.attach(&a.id, &a.path).await?.ip == a.ip);
    restarted.detach(&b.id).await?;
    ensure!(ask(&b.netns, (a.ip, 80)).await.is_err());
    Ok(())
}

pub(crate) async fn a_pod_gets_a_new_namespace() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut client = cluster.pod("client").await?;
    let Pod { id, ip, path, netns, .. } = cluster.pod("a").await?;
    drop(netns);
    cluster.lab.unpin(&path)?;
    // The kernel removes the old link some time later; the new one doesn't wait for that.
    let path = cluster.lab.pod("a-again")?;
    ensure!(cluster.links.attach(&id, &path).await?.ip == ip);
    client.serve_tcp(80).await?;
    ensure!(ask(&Netns::open(&path)?, (client.ip, 80)).await? == format!("client {ip}"));

    // Once every pod's namespace is gone, so is every link.
    cluster.lab.unpin(&path)?;
    cluster.lab.unpin(&client.path)?;
    drop(client);
    let node = cluster.node.path().display();
    let gone = format!(
        "for i in $(seq 100); do nsenter --net={node} ip -o link | grep -q xp || exit 0; sleep 0.1; done; exit 1"
    );
    sh(&gone)
}

pub(crate) async fn pods_cannot_spoof() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut victim = cluster.pod("victim").await?;
    let mut target = cluster.pod("target").await?;
    let thief = cluster.pod("thief").await?;
    victim.serve_udp(53).await?;
    target.serve_udp(53).await?;
    let thief_path = thief.path.display();
    sh(&format!("nsenter --net={thief_path} ip addr add {}/32 dev eth0", victim.ip))?;
    // The thief answers for the victim's address, but nothing for it comes that way...
    ensure!(ask_udp(&cluster.node, (victim.ip, 53)).await?.starts_with("victim "));
    ensure!(ask_udp(&target.netns, (victim.ip, 53)).await?.starts_with("victim "));
    // ...and what it sends with that address is dropped.
    let socket = thief.netns.udp_bind((victim.ip, 0).into()).await?;
    socket.connect((target.ip, 53)).await?;
    let answered =
        tokio::time::timeout(std::time::Duration::from_millis(300), crate::cluster::exchange(&socket));
    ensure!(answered.await.is_err(), "a spoofed datagram was answered");
    Ok(())
}

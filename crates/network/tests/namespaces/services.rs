//! Service addresses: one address, many backends.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use xebec_network::service::Protocol::{Tcp, Udp};
use xebec_network::service::nft::Nft;
use xebec_network::service::ruleset::{Features, Ruleset, RulesetConfig};
use xebec_network::service::transaction;

use crate::cluster::{Cluster, ask, ask_udp, exchange, service};
use crate::support::sh;

fn vip(host: u8, port: u16) -> SocketAddr {
    (IpAddr::from([10, 43, 0, host]), port).into()
}

pub(crate) async fn tcp_and_udp() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let mut b = cluster.pod("b").await?;
    let client = cluster.pod("client").await?;
    for pod in [&mut a, &mut b] {
        pod.serve_tcp(8080).await?;
        pod.serve_udp(5353).await?;
    }
    let mut rules = cluster.rules()?;
    let applied = rules
        .apply(&[
            service("web", 5, (Tcp, 80), &[(a.ip, 8080).into(), (b.ip, 8080).into()])?,
            service("names", 6, (Udp, 53), &[(a.ip, 5353).into(), (b.ip, 5353).into()])?,
        ])
        .await?;
    ensure!(applied.changed && applied.fallbacks.is_empty(), "{applied:?}");

    // Each side must be chosen at least once in 40 tries: that it is not has a chance of 2^-39.
    let gateway = cluster.links.gateway();
    for (who, from, own) in
        [("client", &client.netns, client.ip), ("a", &a.netns, a.ip), ("node", &cluster.node, gateway)]
    {
        let mut answers = HashSet::new();
        for _ in 0..40 {
            answers.insert(ask(from, vip(5, 80)).await.with_context(|| format!("TCP from {who}"))?);
            answers.insert(ask_udp(from, vip(6, 53)).await.with_context(|| format!("UDP from {who}"))?);
        }
        // A pod that reaches itself sees the node's address, everybody else the client's.
        let by_a = if who == "a" { gateway } else { own };
        ensure!(answers == [format!("a {by_a}"), format!("b {own}")].into(), "{who}: {answers:?}");
    }
    Ok(())
}

pub(crate) async fn nobody_serves() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    a.serve_tcp(8080).await?;
    let mut rules = cluster.rules()?;
    let mut web = service("web", 5, (Tcp, 80), &[(a.ip, 8080).into()])?;
    let mut outside = service("outside", 7, (Tcp, 80), &[])?;
    outside.external_ips = vec!["192.0.2.7".parse()?];
    rules.apply(&[web.clone(), outside]).await?;
    ensure!(ask(&a.netns, vip(5, 80)).await?.starts_with("a "));

    let start = Instant::now();
    let refused = async |to: SocketAddr| {
        for from in [&a.netns, &cluster.node] {
            let answer = ask(from, to).await;
            let error = answer.err().with_context(|| format!("{to} was answered"))?;
            ensure!(format!("{error:#}").contains("refused"), "{to}: {error:#}");
        }
        Ok(())
    };
    refused(vip(5, 81)).await?;
    refused(vip(9, 80)).await?;
    refused(vip(7, 80)).await?;
    ensure!(ask_udp(&a.netns, vip(5, 80)).await.is_err());
    web.ports[0].backends[0].ready = false;
    web.ports[0].backends[0].serving = false;
    rules.apply(&[web]).await?;
    refused(vip(5, 80)).await?;
    println!("  refusals took {:?} in all", start.elapsed());
    Ok(())
}

pub(crate) async fn clients_stay() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut backends = Vec::new();
    let mut pods = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut pod = cluster.pod(name).await?;
        pod.serve_tcp(80).await?;
        backends.push((pod.ip, 80).into());
        pods.push(pod);
    }
    let mut rules = cluster.rules()?;
    let mut sticky = service("sticky", 5, (Tcp, 80), &backends)?;
    sticky.affinity = Some(Duration::from_secs(60));
    rules.apply(&[sticky.clone()]).await?;
    let client = cluster.pod("client").await?;
    let first = ask(&client.netns, vip(5, 80)).await?;
    // Neither a change elsewhere nor a restart moves the client; the loss of another backend doesn't either.
    let other = service("other", 6, (Tcp, 80), &backends)?;
    rules.apply(&[sticky.clone(), other]).await?;
    let mut rules = cluster.rules()?;
    rules.apply(&[sticky.clone()]).await?;
    let name = first.split(' ').next().context("the answer names a backend")?.to_owned();
    let mine = pods.iter().find(|p| p.id.as_str() == name).context("the backend is a pod")?;
    let loser = backends.iter().find(|b| b.ip() != mine.ip).context("there are others")?;
    sticky.ports[0].backends.retain(|b| b.address != *loser);
    rules.apply(&[sticky.clone()]).await?;
    for _ in 0..20 {
        ensure!(ask(&client.netns, vip(5, 80)).await? == first);
    }
    sticky.ports[0].backends.retain(|b| b.address.ip() != mine.ip);
    rules.apply(&[sticky]).await?;
    ensure!(ask(&client.netns, vip(5, 80)).await? != first, "its backend is gone");
    Ok(())
}

pub(crate) async fn udp_flows_follow() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let mut b = cluster.pod("b").await?;
    let client = cluster.pod("client").await?;
    a.serve_udp(53).await?;
    b.serve_udp(53).await?;
    let mut rules = cluster.rules()?;
    rules.apply(&[service("names", 6, (Udp, 53), &[(a.ip, 53).into()])?]).await?;
    let socket = client.netns.udp_connect(vip(6, 53)).await?;
    ensure!(exchange(&socket).await?.starts_with("a "));
    let applied = rules.apply(&[service("names", 6, (Udp, 53), &[(b.ip, 53).into()])?]).await?;
    ensure!(applied.flows_ended == 1, "{applied:?}");
    ensure!(exchange(&socket).await?.starts_with("b "), "the same socket reaches the new backend");
    Ok(())
}

pub(crate) async fn rules_survive_a_restart() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    a.serve_tcp(80).await?;
    let web = service("web", 5, (Tcp, 80), &[(a.ip, 80).into()])?;
    let mut old = service("old", 6, (Tcp, 80), &[(a.ip, 80).into(), (a.ip, 81).into()])?;
    old.affinity = Some(Duration::from_secs(60));
    cluster.rules()?.apply(&[web.clone(), old]).await?;

    let mut rules = cluster.rules()?;
    ensure!(rules.apply(slice::from_ref(&web)).await?.changed);
    ensure!(!rules.apply(slice::from_ref(&web)).await?.changed, "nothing differs");
    ensure!(ask(&a.netns, vip(5, 80)).await?.starts_with("a "));
    ensure!(ask(&a.netns, vip(6, 80)).await.is_err());
    let node = cluster.node.path().display().to_string();
    ensure!(sh(&format!("nsenter --net={node} nft list ruleset | grep -q default/old")).is_err());

    // Somebody tampers with the rules: a change that no longer fits replaces them.
    sh(&format!("nsenter --net={node} nft delete table ip xebec"))?;
    let more = service("more", 7, (Tcp, 80), &[(a.ip, 80).into()])?;
    rules.apply(&[web, more]).await?;
    ensure!(ask(&a.netns, vip(5, 80)).await?.starts_with("a "));
    ensure!(ask(&a.netns, vip(7, 80)).await?.starts_with("a "));
    Ok(())
}

/// What other kernels and address families get is accepted by this one, and works.
pub(crate) async fn fallbacks_and_ipv6() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    let mut b = cluster.pod("b").await?;
    a.serve_tcp(80).await?;
    b.serve_tcp(80).await?;
    let nft = Nft::find(cluster.node.clone())?;
    ensure!(nft.probe().await? == Features::default());
    ensure!(nft.list_table("ip", "xebec-probe").await?.is_none(), "a probe leaves nothing behind");

    let backends = [(a.ip, 80).into(), (b.ip, 80).into()];
    let plain = service("plain", 5, (Tcp, 80), &backends)?;
    let mut sticky = service("sticky", 6, (Tcp, 80), &backends)?;
    sticky.affinity = Some(Duration::from_secs(60));
    let config = |range: &str| -> Result<RulesetConfig> {
        let blocked = Vec::new();
        Ok(RulesetConfig { service_range: range.parse()?, local: [].into(), blocked })
    };
    let four = config("10.43.0.0/16")?;
    let lesser = Features { random: false, dynamic_sets: false };
    let ruleset = Ruleset::render(&four, lesser, &[plain, sticky]);
    for script in transaction::recreate(&four, &ruleset) {
        nft.apply(script).await?;
    }
    let mut answers = HashSet::new();
    let first = ask(&a.netns, vip(6, 80)).await?;
    for _ in 0..40 {
        answers.insert(ask(&a.netns, vip(5, 80)).await?);
        ensure!(ask(&a.netns, vip(6, 80)).await? == first);
    }
    ensure!(answers.len() == 2, "{answers:?}");

    let six = config("fd00:43::/112")?;
    let mut both = service("both", 7, (Tcp, 80), &["[fd00:42::2]:80".parse()?, "[fd00:42::3]:80".parse()?])?;
    both.cluster_ips.push("fd00:43::7".parse()?);
    both.external_ips.push("2001:db8::7".parse()?);
    let unsticky = Ruleset::render(&six, Features::default(), slice::from_ref(&both));
    both.affinity = Some(Duration::from_secs(60));
    let sticky = Ruleset::render(&six, Features::default(), &[both]);
    let scripts = [
        transaction::recreate(&six, &unsticky),
        transaction::difference(&six, &unsticky, &sticky),
        transaction::difference(&six, &sticky, &Ruleset::default()),
    ];
    for script in scripts.concat() {
        nft.apply(script).await?;
    }
    Ok(())
}

pub(crate) async fn a_thousand() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut a = cluster.pod("a").await?;
    a.serve_tcp(80).await?;
    let backends: Vec<SocketAddr> =
        [(a.ip, 80).into(), "10.42.0.200:80".parse()?, "10.42.0.201:80".parse()?].into();
    let long = "n".repeat(63);
    let mut services = Vec::new();
    for n in 0_u16..1000 {
        let mut one = service(&format!("{}-{n:03}", &long[..59]), 0, (Tcp, 80), &backends)?;
        let [high, low] = (n + 256).to_be_bytes();
        one.cluster_ips = vec![IpAddr::from([10, 43, high, low])];
        one.affinity = n.is_multiple_of(100).then_some(Duration::from_secs(10));
        services.push(one);
    }
    let mut rules = cluster.rules()?;
    let mut timed = async |what: &str, services: &[_]| {
        let start = Instant::now();
        rules.apply(services).await?;
        println!("  {what}: {:?}", start.elapsed());
        Ok::<_, anyhow::Error>(())
    };
    timed("all of 1,000 services", &services).await?;
    services[500].ports[0].backends.truncate(1);
    timed("one of 1,000 changed", &services).await?;
    timed("none changed", &services).await?;
    let start = Instant::now();
    ensure!(ask(&a.netns, (services[500].cluster_ips[0], 80)).await?.starts_with("a "));
    println!("  a connection among 1,000 services: {:?}", start.elapsed());
    services.truncate(1);
    timed("999 of 1,000 removed", &services).await?;
    Ok(())
}

//! The whole of a node's network.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use xebec_network::dns::zone::{ServiceNames, ServiceNamesKind, Zone};
use xebec_network::ipam::PodId;
use xebec_network::netns::Netns;
use xebec_network::node::{NodeConfig, NodeNetwork};
use xebec_network::service::Protocol::Tcp;

use crate::cluster::{answer_tcp, ask, service};
use crate::support::Lab;

pub(crate) async fn everything_together_and_again() -> Result<()> {
    let lab = Lab::new()?;
    let config = NodeConfig::new(lab.node());
    let path = lab.pod("a")?;
    let pod = PodId::new("a")?;
    let mut ip = None;
    for start in ["first", "second"] {
        let NodeNetwork { links, rules, dns, api, .. } = NodeNetwork::start(&config).await?;
        let attached = links.attach(&pod, &path).await?.ip;
        ensure!(*ip.get_or_insert(attached) == attached, "the pod keeps its address");
        let inside = Netns::open(&path)?;
        let server =
            tokio::spawn(answer_tcp("pod".to_owned(), inside.tcp_listen((attached, 80).into()).await?));
        let api_server = tokio::spawn(answer_tcp(start.to_owned(), api));

        let web: SocketAddr = "10.43.0.5:80".parse()?;
        rules?.apply(&[service("web", 5, (Tcp, 80), &[(attached, 80).into()])?]).await?;
        let mut zone = config.zone();
        let kind = ServiceNamesKind::ClusterIps { ips: vec![web.ip()], ports: Vec::new() };
        zone.services.push(ServiceNames { namespace: "default".to_owned(), name: "web".to_owned(), kind });
        dns.publish(Zone::build(&zone)?);

        ensure!(ask(&inside, web).await?.starts_with("pod "));
        ensure!(ask(&inside, config.api).await? == format!("{start} {attached}"), "the pod's own address");
        server.abort();
        api_server.abort();
        ensure!(server.await.is_err() && api_server.await.is_err());
        dns.stop().await;
    }
    Ok(())
}

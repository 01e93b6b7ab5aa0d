//! Pod networking in real network namespaces, as an ordinary user.

mod support;

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use support::{Host, Lab};
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use xebec_network::ipam::PodId;
use xebec_network::link::{LinkConfig, Links};
use xebec_network::netns::Netns;

fn main() -> ExitCode {
    support::run(Host::Machine, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(links())
    })
}

async fn links() -> Result<()> {
    let lab = Lab::new()?;
    let node = Netns::open(&lab.node())?;
    let config = LinkConfig {
        pod_range: "10.42.0.0/24".parse()?,
        cluster_range: "10.42.0.0/16".parse()?,
        service_range: "10.43.0.0/16".parse()?,
        mtu: 1500,
    };
    let links = Links::open(node.clone(), config).await?;
    let a = lab.pod("a")?;
    let b = lab.pod("b")?;
    let t = std::time::Instant::now();
    let na = links.attach(&PodId::new("a")?, &a).await?;
    println!("attach {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let nb = links.attach(&PodId::new("b")?, &b).await?;
    println!("attach {:?}", t.elapsed());
    println!("{na:?} {nb:?} {:?}", links.pods());
    let ina = Netns::open(&a)?;
    let inb = Netns::open(&b)?;
    let listener = ina.tcp_listen((na.ip, 80).into()).await?;
    tokio::spawn(async move {
        loop {
            let (mut s, p) = listener.accept().await.unwrap();
            s.write_all(format!("{p}").as_bytes()).await.unwrap();
        }
    });
    for from in [&inb, &node, &ina] {
        let mut s = from.tcp_connect((na.ip, 80).into(), Duration::from_secs(2)).await?;
        let mut t = String::new();
        s.read_to_string(&mut t).await?;
        println!("{t}");
    }
    let t = std::time::Instant::now();
    links.detach(&PodId::new("a")?).await?;
    println!("detach {:?}", t.elapsed());
    let _: IpAddr = na.ip;
    Ok(())
}

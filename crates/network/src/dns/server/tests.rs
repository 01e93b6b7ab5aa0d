use std::net::Ipv4Addr;

use tokio::net::TcpSocket;

use super::*;
use crate::dns::message::{CLASS_IN, UpstreamResponse, kind};
use crate::dns::name::Name;
use crate::dns::zone::ZoneSpec;

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that asks another one, which never answers.
async fn start() -> (DnsServer, SocketAddr, UdpSocket) {
    let silent = UdpSocket::bind((ONE, 0)).await.unwrap();
    let tcp = TcpListener::bind((ONE, 0)).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let zone = Zone::build(&ZoneSpec { domain: "cluster.local".to_owned(), ..ZoneSpec::default() }).unwrap();
    let upstream = Upstream::with_servers(vec![silent.local_addr().unwrap()]);
    (DnsServer::start(udp, tcp, zone, upstream), address, silent)
}

fn query(name: &str) -> Vec<u8> {
    let question = Question { name: Name::parse(name).unwrap(), kind: kind::A, class: CLASS_IN };
    Query::upstream(7, question, false, false).encode()
}

/// The name that the silent server is asked for next.
async fn asked(silent: &UdpSocket) -> String {
    let mut message = [0; 512];
    let length = timeout(PATIENCE, silent.recv(&mut message)).await.unwrap().unwrap();
    Query::decode(&message[..length]).unwrap().question.name.to_string()
}

#[tokio::test]
async fn a_client_that_waits_for_too_much_leaves_room_for_others() {
    let (server, address, silent) = start().await;
    let client = UdpSocket::bind((ONE, 0)).await.unwrap();
    for number in 0..MAX_ASKED_EACH {
        client.send_to(&query(&format!("n{number}.example")), address).await.unwrap();
        asked(&silent).await;
    }
    client.send_to(&query("more.example"), address).await.unwrap();
    let mut reply = [0; 512];
    let length = timeout(PATIENCE, client.recv(&mut reply)).await.unwrap().unwrap();
    let reply = UpstreamResponse::decode(&reply[..length]).unwrap();
    assert_eq!(
        (reply.question.name.to_string().as_str(), reply.response.rcode),
        ("more.example.", Rcode::ServFail)
    );
    assert_eq!(server.counts().overloaded, 1);
    let other = UdpSocket::bind((OTHER, 0)).await.unwrap();
    other.send_to(&query("other.example"), address).await.unwrap();
    // What the first client asked is asked again meanwhile, as nobody answers.
    while !asked(&silent).await.starts_with("other.") {}
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_keeps_connections_leaves_room_for_others() {
    let (server, address, _silent) = start().await;
    let ask = async |stream: &mut TcpStream| {
        upstream::write_message(stream, &query("cluster.local")).await?;
        timeout(PATIENCE, upstream::read_message(stream)).await.unwrap()
    };
    let mut kept = Vec::new();
    for _ in 0..MAX_CONNECTIONS_EACH {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream).await.unwrap();
        kept.push(stream);
    }
    let mut more = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut more).await.is_err(), "it is closed");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((OTHER, 0).into()).unwrap();
    ask(&mut socket.connect(address).await.unwrap()).await.unwrap();
    server.stop().await;
}

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::client::{Agent, Connection, Message, SpdyClient, refusal};
use super::pods::LocalPods;
use super::random::Random;
use crate::streams::spdy::{Frame, StreamId, ping};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PATH: &str = "/portForward/default/web";

/// An agent whose pod answers on port 80: everything that a client has sent, backwards, when it has ended.
async fn agent() -> (Agent, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut pods = LocalPods::new();
    pods.ports.insert(80, listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(tokio::spawn(async move {
                let mut all = Vec::new();
                if stream.read_to_end(&mut all).await.is_ok() {
                    all.reverse();
                    // The client may have left.
                    drop(stream.write_all(&all).await);
                }
            }));
        }
    });
    (Agent::new(pods), server)
}

async fn clients(agent: &Agent) -> [SpdyClient; 2] {
    let tunnel = agent.websocket(PATH, TUNNEL).await;
    [SpdyClient::new(Connection::Tunnel(tunnel)), agent.spdy(PATH, "portforward.k8s.io").await]
}

/// Opens a connection as `kubectl` does: its data stream and its error stream.
async fn connect(client: &mut SpdyClient, port: &str, request: &str) -> (StreamId, StreamId) {
    let error = client.open([("streamtype", "error"), ("port", port), ("requestid", request)]).await;
    client.send(error, b"", true).await;
    let data = client.open([("streamtype", "data"), ("port", port), ("requestid", request)]).await;
    (data, error)
}

fn fin(stream: StreamId) -> Frame {
    Frame::Fin { stream }
}

#[tokio::test]
async fn connections_are_forwarded() {
    let (agent, server) = agent().await;
    for mut client in clients(&agent).await {
        let (first, first_error) = connect(&mut client, "80", "0").await;
        let (second, second_error) = connect(&mut client, "80", "1").await;
        let mut others = Vec::new();
        client.send(first, b"abc", false).await;
        client.send(second, b"xyz", true).await;
        // The second is served while the first is still open.
        let got = client.read_to_end(second, &mut others).await;
        assert_eq!((&got.bytes[..], got.ended), (&b"zyx"[..], true));
        client.send(first, b"def", true).await;
        let got = client.read_to_end(first, &mut others).await;
        assert_eq!((&got.bytes[..], got.ended), (&b"fedcba"[..], true));
        // An error stream that ends empty says that all was well.
        if !others.contains(&fin(first_error)) {
            client.read_to_end(first_error, &mut others).await;
        }
        assert!(others.contains(&fin(second_error)), "{others:?}");
        assert!(!others.iter().any(|frame| matches!(frame, Frame::Data { .. })), "{others:?}");
    }
    server.abort();
}

#[tokio::test]
async fn much_is_forwarded() {
    let (agent, server) = agent().await;
    for mut client in clients(&agent).await {
        let (data, _) = connect(&mut client, "80", "0").await;
        let mut sent = Vec::new();
        for number in 0..100_u8 {
            let chunk = vec![number; 20_000];
            client.send(data, &chunk, false).await;
            sent.extend(chunk);
        }
        client.send(data, b"", true).await;
        sent.reverse();
        let got = client.read_to_end(data, &mut Vec::new()).await;
        assert!(got.bytes == sent);
    }
    server.abort();
}

#[tokio::test]
async fn refused_connections_are_said_and_others_go_on() {
    let (agent, server) = agent().await;
    for mut client in clients(&agent).await {
        let (data, error) = connect(&mut client, "81", "0").await;
        let mut others = Vec::new();
        let got = client.read_to_end(error, &mut others).await;
        let text = String::from_utf8(got.bytes).unwrap();
        assert_eq!(
            text,
            "error forwarding port 81 to pod default/web: cannot connect to port 81 in the pod: connection refused"
        );
        assert!(others.contains(&fin(data)), "{others:?}");
        let (data, _) = connect(&mut client, "80", "1").await;
        client.send(data, b"on", true).await;
        assert_eq!(client.read_to_end(data, &mut others).await.bytes, b"no");
    }
    server.abort();
}

#[tokio::test]
async fn streams_without_their_pair_are_refused() {
    let (agent, server) = agent().await;
    let mut client = agent.spdy(PATH, "portforward.k8s.io").await;
    let mut others = Vec::new();
    let cases: [&[(&str, &str)]; 5] = [
        &[("streamtype", "data"), ("port", "80"), ("requestid", "9")],
        &[("streamtype", "error"), ("port", "0"), ("requestid", "0")],
        &[("streamtype", "error"), ("requestid", "0")],
        &[("streamtype", "other"), ("port", "80"), ("requestid", "0")],
        &[("port", "80")],
    ];
    for headers in cases {
        let stream = match headers {
            [a, b, c] => client.open([*a, *b, *c]).await,
            [a, b] => client.open([*a, *b]).await,
            _ => client.open([headers[0]]).await,
        };
        assert!(client.read_to_end(stream, &mut others).await.reset, "{headers:?}");
    }
    // A second error stream of one request is refused, the first one stays.
    let headers = [("streamtype", "error"), ("port", "80"), ("requestid", "1")];
    let first = client.open(headers).await;
    let second = client.open(headers).await;
    assert!(client.read_to_end(second, &mut others).await.reset);
    let data = client.open([("streamtype", "data"), ("port", "80"), ("requestid", "1")]).await;
    client.send(data, b"on", true).await;
    assert_eq!(client.read_to_end(data, &mut others).await.bytes, b"no");
    assert!(others.contains(&fin(first)) || client.read_to_end(first, &mut others).await.ended);
    // Without numbers, the stream after the error stream is its pair.
    let error = client.open([("streamtype", "error"), ("port", "80")]).await;
    client.send(error, b"", true).await;
    let data = client.open([("streamtype", "data"), ("port", "80")]).await;
    client.send(data, b"on", true).await;
    assert_eq!(client.read_to_end(data, &mut others).await.bytes, b"no");
    server.abort();
}

#[tokio::test]
async fn given_up_connections_make_room() {
    let (agent, server) = agent().await;
    let mut client = agent.spdy(PATH, "portforward.k8s.io").await;
    let mut others = Vec::new();
    // More than there is room for at a time.
    for request in 0..300 {
        let (data, error) = connect(&mut client, "80", &request.to_string()).await;
        client.send(data, b"unanswered", false).await;
        let mut reset = vec![0x80, 3, 0, 3, 0, 0, 0, 8];
        reset.extend(data.number().to_be_bytes());
        reset.extend(5_u32.to_be_bytes());
        client.send_bytes(&reset).await;
        // The error stream ends, or clients would wait for it.
        assert!(client.read_to_end(error, &mut others).await.ended);
    }
    let mut frame = bytes::BytesMut::new();
    ping(41, &mut frame);
    client.send_bytes(&frame).await;
    while client.next().await.unwrap() != (Frame::Ping { id: 41 }) {}
    server.abort();
}

#[tokio::test]
async fn ports_in_the_query_are_channels() {
    let (agent, server) = agent().await;
    let mut client = agent.websocket(&format!("{PATH}?ports=80,81"), "v4.channel.k8s.io").await;
    let mut channels = [const { Vec::<u8>::new() }; 4];
    client.send(2, b"\0hello").await;
    while channels[3].len() < 3 {
        let Message::Binary(bytes) = client.next().await else { panic!("the session ended") };
        channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
    }
    assert_eq!(channels[2], [81, 0]);
    assert!(channels[3].starts_with(b"\x51\0error forwarding port 81"));
    let (_, message) = refusal(agent.websocket_request(PATH, "v4.channel.k8s.io").await).await;
    assert_eq!(message, "query parameter \"ports\" is required");
    drop(client);
    assert!(agent.service.shutdown(Duration::from_secs(60)).await);
    server.abort();
}

#[tokio::test]
async fn hostile_clients_do_no_harm() {
    let (agent, server) = agent().await;
    let mut random = Random::new(81);
    for _ in 0..100 {
        let mut client = agent.spdy(PATH, "portforward.k8s.io").await;
        let (data, _) = connect(&mut client, "80", "0").await;
        let mut bytes = bytes::BytesMut::new();
        for number in 0..8 {
            let length = random.below(32);
            bytes.extend_from_slice(&crate::streams::spdy::data_header(data, number == 7, length));
            bytes.extend_from_slice(&vec![number; length]);
        }
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(1 + random.below(bytes.len()));
        client.send_bytes(&bytes).await;
    }
    assert!(agent.service.shutdown(Duration::from_secs(60)).await);
    server.abort();
}

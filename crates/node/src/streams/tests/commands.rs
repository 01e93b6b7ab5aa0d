use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use xebec_sandbox::config::TerminalSize;

use super::client::{Agent, FromServer, Message, Received, WebSocketClient, masked, refusal};
use super::pods::LocalPods;
use super::random::Random;

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";

fn path(streams: &str, command: &[&str]) -> String {
    let arguments: Vec<_> = command.iter().map(|argument| format!("command={}", encode(argument))).collect();
    format!("/exec/default/web/app?{streams}&{}", arguments.join("&"))
}

fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What has come on each channel until the end.
#[derive(Debug, Default)]
struct Channels {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Value,
    code: u16,
}

async fn read_all(server: &mut FromServer) -> Channels {
    let mut channels = Channels::default();
    loop {
        match server.next().await {
            Message::Binary(bytes) => match bytes[0] {
                1 => channels.stdout.extend_from_slice(&bytes[1..]),
                2 => channels.stderr.extend_from_slice(&bytes[1..]),
                3 => channels.status = serde_json::from_slice(&bytes[1..]).unwrap(),
                other => panic!("channel {other}"),
            },
            Message::Close(code) => return Channels { code, ..channels },
            other => panic!("{other:?}"),
        }
    }
}

/// Sends frames and reads at the same time.
async fn exchange(client: &mut WebSocketClient, frames: &[u8]) -> Channels {
    let WebSocketClient { from_server, to_server } = client;
    let (sent, got) = tokio::join!(to_server.write_all(frames), read_all(from_server));
    sent.unwrap();
    got
}

/// Waits until nobody is connected to a process.
async fn all_let_go(agent: &Agent) {
    agent.pods.connected.subscribe().wait_for(|count| *count == 0).await.unwrap();
}

#[tokio::test]
async fn output_and_exit_code_arrive() {
    let agent = Agent::new(LocalPods::new());
    for protocol in [V5, V4] {
        let path = path("stdout=1&stderr=1", &["sh", "-c", "echo out; echo err >&2; exit 3"]);
        let got = read_all(&mut agent.websocket(&path, protocol).await.from_server).await;
        assert_eq!((&got.stdout[..], &got.stderr[..], got.code), (&b"out\n"[..], &b"err\n"[..], 1000));
        assert_eq!(got.status["reason"], "NonZeroExitCode");
        assert_eq!(got.status["details"]["causes"][0]["message"], "3");
    }
    all_let_go(&agent).await;
}

#[tokio::test]
async fn much_input_and_output_flow_at_once() {
    let agent = Agent::new(LocalPods::new());
    let mut client = agent.websocket(&path("stdin=1&stdout=1", &["cat"]), V5).await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut frames = Vec::new();
    for chunk in input.chunks(32 << 10) {
        frames.extend(masked(2, &[&[0][..], chunk].concat()));
    }
    frames.extend(masked(2, &[255, 0]));
    let got = exchange(&mut client, &frames).await;
    assert!(got.stdout == input);
    assert_eq!(got.status["status"], "Success", "{}", got.status);
}

#[tokio::test]
async fn output_comes_while_input_is_not_read() {
    let agent = Agent::new(LocalPods::new());
    let command = ["sh", "-c", "head -c 3000000 /dev/zero; echo end >&2; cat > /dev/null"];
    let mut client = agent.websocket(&path("stdin=1&stdout=1&stderr=1", &command), V5).await;
    let mut frames = Vec::new();
    for _ in 0..100 {
        frames.extend(masked(2, &[&[0][..], &[b'x'; 32 << 10]].concat()));
    }
    frames.extend(masked(2, &[255, 0]));
    let got = exchange(&mut client, &frames).await;
    assert_eq!((got.stdout.len(), &got.stderr[..]), (3_000_000, &b"end\n"[..]));
}

#[tokio::test]
async fn pings_and_sizes() {
    let agent = Agent::new(LocalPods::new());
    let mut client = agent.websocket(&path("stdin=1&stdout=1&stderr=1&tty=1", &["cat"]), V5).await;
    client.send(9, b"are you there").await;
    assert_eq!(client.next().await, Message::Pong(Bytes::from_static(b"are you there")));
    client.send(2, b"\x04{\"Width\":132,\"Height\":43}\n").await;
    client.send(2, b"\0echo\n").await;
    assert_eq!(client.next().await, Message::Binary(Bytes::from_static(b"\x01echo\n")));
    assert_eq!(*agent.pods.size.lock().unwrap(), Some(TerminalSize { columns: 132, rows: 43 }));
    client.send(2, b"\xff\0").await;
    assert_eq!(read_all(&mut client.from_server).await.status["status"], "Success");
}

#[tokio::test]
async fn a_client_that_vanishes_lets_the_process_go() {
    let agent = Agent::new(LocalPods::new());
    for streams in ["stdin=1&stdout=1", "stdout=1"] {
        let mut client = agent.websocket(&path(streams, &["sh", "-c", "echo on; exec sleep 1000"]), V5).await;
        assert_eq!(client.next().await, Message::Binary(Bytes::from_static(b"\x01on\n")));
        drop(client);
        all_let_go(&agent).await;
    }
    // With a closing frame, the server closes too.
    let mut client = agent.websocket(&path("stdout=1", &["sleep", "1000"]), V5).await;
    client.send(8, &1000_u16.to_be_bytes()).await;
    assert_eq!(client.next().await, Message::Close(1000));
    all_let_go(&agent).await;
    drop(client);
    agent.service.idle().await;
}

#[tokio::test]
async fn attach_tells_the_end_and_not_the_code() {
    let mut pods = LocalPods::new();
    pods.attached_command = ["sh", "-c", "read line; echo got $line; exit 5"].map(str::to_owned).to_vec();
    let agent = Agent::new(pods);
    let mut client = agent.websocket("/attach/default/web/app?stdin=1&stdout=1", V5).await;
    client.send(2, b"\0hello\n").await;
    let got = read_all(&mut client.from_server).await;
    assert_eq!(got.stdout, b"got hello\n");
    assert_eq!(got.status["status"], "Success");
}

#[tokio::test]
async fn what_cannot_run_is_said() {
    let agent = Agent::new(LocalPods::new());
    let got =
        read_all(&mut agent.websocket(&path("stdout=1", &["/no/such/program"]), V5).await.from_server).await;
    assert_eq!(got.status["reason"], "InternalError");
    assert!(got.status["message"].as_str().unwrap().contains("cannot run `/no/such/program`"), "{got:?}");
    let waiting = "/exec/default/web/waiting?stdout=1&command=x";
    let (code, message) = refusal(agent.websocket_request(waiting, V5).await).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(message, r#"container "waiting" in pod "web" is not running: ContainerCreating"#);
    let (code, message) =
        refusal(agent.websocket_request(&path("stdout=1", &["x"]), "v9.example").await).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(message.ends_with("known are v5.channel.k8s.io, v4.channel.k8s.io"), "{message}");
}

#[tokio::test]
async fn commands_run_over_spdy() {
    let agent = Agent::new(LocalPods::new());
    let command = ["sh", "-c", "cat; echo err >&2; exit 7"];
    let mut client = agent.spdy(&path("stdin=1&stdout=1&stderr=1", &command), V4).await;
    let mut open = async |kind| client.open([("streamtype", kind)]).await;
    let (error, stdin) = (open("error").await, open("stdin").await);
    let (unknown, stdout) = (open("other").await, open("stdout").await);
    let stderr = open("stderr").await;
    let mut others = Vec::new();
    assert!(client.read_to_end(unknown, &mut others).await.reset);
    client.send(stdin, b"hello", true).await;
    let status = client.read_to_end(error, &mut others).await.bytes;
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "7");
    while let Some(frame) = client.next().await {
        others.push(frame);
    }
    let on = |wanted| {
        let mut received = Received::default();
        for frame in &others {
            match frame {
                crate::streams::spdy::Frame::Data { stream, bytes } if *stream == wanted => {
                    received.bytes.extend_from_slice(bytes);
                }
                crate::streams::spdy::Frame::Fin { stream } if *stream == wanted => received.ended = true,
                _ => {}
            }
        }
        (received.bytes, received.ended)
    };
    assert_eq!(on(stdout), (b"hello".to_vec(), true));
    assert_eq!(on(stderr), (b"err\n".to_vec(), true));
}

#[tokio::test]
async fn shutdown_tells_clients() {
    let agent = Agent::new(LocalPods::new());
    let mut client = agent.websocket(&path("stdout=1", &["sh", "-c", "echo on; exec sleep 1000"]), V5).await;
    assert_eq!(client.next().await, Message::Binary(Bytes::from_static(b"\x01on\n")));
    let (ended, got) =
        tokio::join!(agent.service.shutdown(Duration::from_secs(60)), read_all(&mut client.from_server));
    assert!(ended);
    assert_eq!(got.status["message"], "the node's agent is shutting down");
    all_let_go(&agent).await;
}

#[tokio::test]
async fn hostile_clients_do_no_harm() {
    let agent = Agent::new(LocalPods::new());
    let mut random = Random::new(2026);
    let mut good = masked(2, b"\0hello\n");
    good.extend(masked(9, b"ping"));
    good.extend(masked(2, b"\x04{\"Width\":1,\"Height\":1}"));
    good.extend(masked(2, b"\xff\0"));
    for _ in 0..100 {
        let mut client = agent.websocket(&path("stdin=1&stdout=1", &["cat"]), V5).await;
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(1 + random.below(bytes.len()));
        client.to_server.write_all(&bytes).await.unwrap();
        client.to_server.shutdown().await.unwrap();
        while client.next().await != Message::Gone {}
    }
    all_let_go(&agent).await;
    assert!(agent.service.shutdown(Duration::from_secs(60)).await);
}

//! Clients: HTTP over a pipe in memory, and the ends of WebSocket and SPDY that Kubernetes' clients have.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::pods::LocalPods;
use crate::streams::AgentService;
use crate::streams::spdy::{Frame, FrameDecoder, FrameEncoder, Headers, StreamId, data_header};

/// An agent and the way to it.
pub(super) struct Agent {
    pub(super) service: AgentService,
    pub(super) pods: Arc<LocalPods>,
}

impl Agent {
    pub(super) fn new(pods: LocalPods) -> Self {
        let pods = Arc::new(pods);
        Self { service: AgentService::new(pods.clone()), pods }
    }

    /// Sends a request over a connection of its own.
    pub(super) async fn request(&self, request: Request<Empty<Bytes>>) -> Response<Incoming> {
        let (ours, theirs) = tokio::io::duplex(8 << 10);
        let service = self.service.clone();
        // Ends with the connection.
        drop(tokio::spawn(async move { service.serve(theirs).await }));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
        drop(tokio::spawn(connection.with_upgrades()));
        sender.send_request(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Response<Incoming> {
        self.request(Request::get(path).header("host", "node").body(Empty::new()).unwrap()).await
    }

    /// Asks for a WebSocket.
    pub(super) async fn websocket_request(&self, path: &str, protocol: &str) -> Response<Incoming> {
        let request = Request::get(path)
            .header("host", "node")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocol)
            .body(Empty::new())
            .unwrap();
        self.request(request).await
    }

    pub(super) async fn websocket(&self, path: &str, protocol: &str) -> WebSocketClient {
        let response = self.websocket_request(path, protocol).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{}", text(response).await);
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        let (reading, to_server) = tokio::io::split(upgraded(response).await);
        WebSocketClient { from_server: FromServer { reading, received: BytesMut::new() }, to_server }
    }

    pub(super) async fn spdy(&self, path: &str, protocol: &str) -> SpdyClient {
        let request = Request::post(path)
            .header("host", "node")
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", protocol)
            .body(Empty::new())
            .unwrap();
        let response = self.request(request).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()[UPGRADE], "SPDY/3.1");
        assert_eq!(response.headers()["x-stream-protocol-version"], protocol);
        SpdyClient::new(Connection::Plain(upgraded(response).await))
    }
}

async fn upgraded(response: Response<Incoming>) -> TokioIo<Upgraded> {
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

/// The whole body.
pub(super) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A refusal's status.
pub(super) async fn refusal(response: Response<Incoming>) -> (StatusCode, String) {
    let code = response.status();
    let status: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()));
    assert_eq!(status["code"], code.as_u16());
    (code, status["message"].as_str().unwrap().to_owned())
}

/// A client's end of a WebSocket.
pub(super) struct WebSocketClient {
    pub(super) from_server: FromServer,
    pub(super) to_server: WriteHalf<TokioIo<Upgraded>>,
}

/// What a client's end of a WebSocket receives.
pub(super) struct FromServer {
    reading: ReadHalf<TokioIo<Upgraded>>,
    received: BytesMut,
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Binary(Bytes),
    Pong(Bytes),
    Close(u16),
    /// Without a closing frame.
    Gone,
}

impl WebSocketClient {
    pub(super) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.to_server.write_all(&masked(opcode, payload)).await.unwrap();
    }

    pub(super) async fn next(&mut self) -> Message {
        self.from_server.next().await
    }
}

impl FromServer {
    pub(super) async fn next(&mut self) -> Message {
        loop {
            match self.take() {
                // A server's question whether the client lives.
                Some((9, _)) => {}
                Some((2, payload)) => return Message::Binary(payload),
                Some((8, payload)) => return Message::Close(u16::from_be_bytes([payload[0], payload[1]])),
                Some((10, payload)) => return Message::Pong(payload),
                Some((opcode, _)) => panic!("a frame with opcode {opcode}"),
                None => {
                    if self.reading.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                        return Message::Gone;
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Option<(u8, Bytes)> {
        let bytes = &self.received;
        let first = *bytes.first()?;
        assert_eq!(first & 0xF0, 0x80, "servers send whole messages");
        let (header, length) = match *bytes.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
            short => (2, usize::from(short)),
        };
        if bytes.len() < header + length {
            return None;
        }
        self.received.advance(header);
        Some((first & 0x0F, self.received.split_to(length).freeze()))
    }
}

/// A client's whole frame.
pub(super) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [9, 8, 7, 6];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What carries a client's SPDY.
pub(super) enum Connection {
    Plain(TokioIo<Upgraded>),
    Tunnel(WebSocketClient),
}

/// A client's end of SPDY.
pub(super) struct SpdyClient {
    connection: Connection,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    received: BytesMut,
    next: u32,
}

/// What has come on a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) ended: bool,
    pub(super) reset: bool,
}

impl SpdyClient {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            encoder: FrameEncoder::new(),
            decoder: FrameDecoder::new(),
            received: BytesMut::new(),
            next: 1,
        }
    }

    pub(super) async fn open<const N: usize>(&mut self, headers: [(&str, &str); N]) -> StreamId {
        let stream = StreamId::new(self.next).unwrap();
        self.next += 2;
        let mut frame = BytesMut::new();
        self.encoder.syn_stream(stream.number(), false, &Headers::from(headers), &mut frame);
        self.send_bytes(&frame).await;
        stream
    }

    pub(super) async fn send(&mut self, stream: StreamId, bytes: &[u8], fin: bool) {
        let header = data_header(stream, fin, bytes.len());
        self.send_bytes(&[&header[..], bytes].concat()).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        match &mut self.connection {
            Connection::Plain(stream) => stream.write_all(bytes).await.unwrap(),
            // In two messages, as the Go client cuts frames anywhere.
            Connection::Tunnel(socket) => {
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                socket.send(2, head).await;
                socket.send(2, tail).await;
            }
        }
    }

    /// The next frame; `None` when the server has left.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next(&mut self.received).unwrap() {
                return Some(frame);
            }
            match &mut self.connection {
                Connection::Plain(stream) => {
                    if stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                        return None;
                    }
                }
                Connection::Tunnel(socket) => match socket.next().await {
                    Message::Binary(bytes) => self.received.extend_from_slice(&bytes),
                    _ => return None,
                },
            }
        }
    }

    /// Reads until the stream has ended, and gives what came on it; what comes on others goes to `others`.
    pub(super) async fn read_to_end(&mut self, wanted: StreamId, others: &mut Vec<Frame>) -> Received {
        let mut received = Received::default();
        while !received.ended && !received.reset {
            match self.next().await.expect("the stream has not ended") {
                Frame::Data { stream, bytes } if stream == wanted => received.bytes.extend_from_slice(&bytes),
                Frame::Fin { stream } if stream == wanted => received.ended = true,
                Frame::RstStream { stream } if stream == wanted => received.reset = true,
                other => others.push(other),
            }
        }
        received
    }
}

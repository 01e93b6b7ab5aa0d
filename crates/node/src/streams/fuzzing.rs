//! What fuzzing checks of a client's streams; part of no other build.
//!
//! The same bytes mean the same, however the network cuts them.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use bytes::BytesMut;

use super::command::{self, Channels, Input, OutputKind, SpdyStreams, Version};
use super::forward::{self, PortChannels, SpdyPairs};
use super::request::{self, Action, Streams};
use super::spdy::Carrier;
use super::status::Outcome;
use super::websocket::{WebSocket, accept_key};

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: true };

/// Reads `bytes` as each of the protocols of `exec` and port forwarding, as they are and in pieces of `step` bytes.
///
/// # Panics
/// `step` is 0.
pub fn connection(bytes: &[u8], step: usize) {
    for version in [Version::V4, Version::V5] {
        same(bytes, step, |pieces| command(Channels::new(version, ALL), pieces));
    }
    same(bytes, step, |pieces| command(SpdyStreams::new(ALL), pieces));
    same(bytes, step, |pieces| forward(PortChannels::new(&[80, 443]), pieces));
    same(bytes, step, |pieces| forward(SpdyPairs::new(Carrier::Plain), pieces));
    same(bytes, step, |pieces| forward(SpdyPairs::new(Carrier::WebSocket(WebSocket::default())), pieces));
}

fn same<T: PartialEq + std::fmt::Debug>(bytes: &[u8], step: usize, run: impl Fn(Vec<&[u8]>) -> T) {
    // What a dialect says before any byte came.
    let begin: &[u8] = &[];
    assert_eq!(run(vec![begin, bytes]), run([begin].into_iter().chain(bytes.chunks(step)).collect()));
}

/// What a client said, without how it was cut.
fn command(mut dialect: impl command::Dialect, pieces: Vec<&[u8]>) -> (Vec<u8>, BytesMut, String) {
    let (mut input, mut out, mut stdin) = (BytesMut::new(), BytesMut::new(), Vec::new());
    let mut last = String::new();
    'all: for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match dialect.read(&mut input, &mut out) {
                Ok(None) => break,
                Ok(Some(command::Event::Input(Input::Bytes(bytes)))) => stdin.extend_from_slice(&bytes),
                Ok(Some(command::Event::Input(Input::Resize(_)) | command::Event::Ready)) => {}
                Ok(Some(event @ (command::Event::Input(Input::End) | command::Event::Closed))) => {
                    last = format!("{event:?}");
                    if event == command::Event::Closed {
                        break 'all;
                    }
                }
                Err(error) => {
                    last = error.to_string();
                    break 'all;
                }
            }
        }
    }
    dialect.ping(&mut out);
    dialect.output(OutputKind::Stdout, b"text", &mut out);
    dialect.finish(&Outcome::Exited(1), &mut out);
    (stdin, out, last)
}

type Forwarded = (BTreeMap<forward::ConnectionId, (u16, Vec<u8>)>, String);

fn forward(mut dialect: impl forward::Dialect, pieces: Vec<&[u8]>) -> (Forwarded, BytesMut) {
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let mut open: BTreeMap<_, (u16, Vec<u8>)> = BTreeMap::new();
    let mut last = String::new();
    'all: for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match dialect.read(&mut input, &mut out) {
                Ok(None) => break,
                Ok(Some(forward::Event::Open { id, port })) => {
                    assert!(port > 0 && open.insert(id, (port, Vec::new())).is_none(), "{id:?} {port}");
                }
                Ok(Some(forward::Event::Data { id, bytes })) => {
                    open.get_mut(&id).expect("data comes on open connections").1.extend_from_slice(&bytes);
                }
                Ok(Some(forward::Event::Closed)) => {
                    last = "closed".to_owned();
                    break 'all;
                }
                Ok(Some(event)) => last = format!("{event:?}"),
                Err(error) => {
                    last = error.to_string();
                    break 'all;
                }
            }
        }
    }
    for id in open.keys().copied() {
        dialect.data(id, b"text", &mut out);
        dialect.fail(id, "no", &mut out);
        dialect.end(id, &mut out);
    }
    dialect.close(&mut out);
    ((open, last), out)
}

/// Reads a text as what requests bring.
pub fn texts(text: &str) {
    drop(Action::parse(text));
    drop(Streams::parse(text));
    drop(request::command(text));
    drop(request::ports(text));
    drop(request::log_options(text, UNIX_EPOCH));
    drop(accept_key(text));
    let millis = crate::quantity::millis(text);
    let units = crate::quantity::units(text);
    assert!(units.is_none() || millis.is_some());
}

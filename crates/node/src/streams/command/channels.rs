//! Remote commands over WebSocket, subprotocols `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of each
//! binary message names the channel that the rest belongs to.
//!
//! | channel | direction | carries |
//! |---|---|---|
//! | 0 | to the process | standard input |
//! | 1, 2 | to the client | output, error output |
//! | 3 | to the client | a `Status`: how it ended |
//! | 4 | to the process | sizes of the client's terminal |
//! | 255 | to the process | v5 only: the channel named by the next byte has ended |

use bytes::{Buf as _, BytesMut};

use super::resize::Sizes;
use super::{Dialect, Event, Input, OutputKind, ProtocolError};
use crate::streams::request::Streams;
use crate::streams::status::Outcome;
use crate::streams::websocket::{self, WebSocket};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const END: u8 = 255;

/// Most bytes of a message that ends a channel.
const MAX_END_BYTES: usize = 1;

/// Which subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Standard input cannot be ended.
    V4,
    /// With the end of single channels.
    V5,
}

/// One remote command.
#[derive(Debug)]
pub(crate) struct Channels {
    socket: WebSocket,
    version: Version,
    streams: Streams,
    ready: bool,
    /// The channel of the message that is arriving.
    channel: Option<u8>,
    /// The content so far of a message on channel 255.
    ending: Vec<u8>,
    sizes: Sizes,
}

impl Channels {
    pub(crate) fn new(version: Version, streams: Streams) -> Self {
        Self {
            socket: WebSocket::default(),
            version,
            streams,
            ready: false,
            channel: None,
            ending: Vec::new(),
            sizes: Sizes::default(),
        }
    }

    fn piece(
        &mut self,
        mut bytes: bytes::Bytes,
        start: bool,
        end: bool,
    ) -> Result<Option<Event>, ProtocolError> {
        if start {
            self.channel = None;
            self.ending.clear();
        }
        let channel = match self.channel {
            Some(channel) => channel,
            // An empty message, or an empty first fragment.
            None if bytes.is_empty() => return Ok(None),
            None => *self.channel.insert(bytes.get_u8()),
        };
        let input = match channel {
            STDIN if self.streams.stdin && !bytes.is_empty() => Some(Input::Bytes(bytes)),
            RESIZE => self.sizes.push(&bytes).map(Input::Resize),
            END if self.version == Version::V5 => {
                self.ending.extend_from_slice(&bytes);
                if self.ending.len() > MAX_END_BYTES {
                    return Err(ProtocolError::MessageTooLong { channel, limit: MAX_END_BYTES });
                }
                (end && self.ending == [STDIN] && self.streams.stdin).then_some(Input::End)
            }
            // Nothing is expected on other channels; Kubernetes' own servers read over it too.
            _ => None,
        };
        Ok(input.map(Event::Input))
    }
}

impl Dialect for Channels {
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        if !std::mem::replace(&mut self.ready, true) {
            return Ok(Some(Event::Ready));
        }
        loop {
            match self.socket.next(input, out)? {
                Some(websocket::Event::Closed) => return Ok(Some(Event::Closed)),
                Some(websocket::Event::Piece { bytes, start, end }) => match self.piece(bytes, start, end) {
                    Ok(None) => {}
                    Ok(event) => return Ok(event),
                    Err(error) => {
                        self.socket.close(1008, &error.to_string(), out);
                        return Err(error);
                    }
                },
                None => return Ok(None),
            }
        }
    }

    fn output(&mut self, kind: OutputKind, bytes: &[u8], out: &mut BytesMut) {
        let (wanted, channel) = match kind {
            OutputKind::Stdout => (self.streams.stdout, STDOUT),
            OutputKind::Stderr => (self.streams.stderr, STDERR),
        };
        if wanted {
            self.socket.message(&[channel], bytes, out);
        }
    }

    fn finish(&mut self, outcome: &Outcome, out: &mut BytesMut) {
        self.socket.message(&[ERROR], &outcome.to_json(), out);
        self.socket.close(1000, "", out);
    }

    fn ping(&mut self, out: &mut BytesMut) {
        self.socket.ping(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use xebec_sandbox::config::TerminalSize;

    const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };

    /// Client frames with a mask of zeros; messages of more than one fragment.
    fn messages(messages: &[&[&[u8]]]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for fragments in messages {
            for (index, fragment) in fragments.iter().enumerate() {
                let opcode = if index == 0 { 2 } else { 0 };
                let fin = if index + 1 == fragments.len() { 0x80 } else { 0 };
                bytes.extend_from_slice(&[fin | opcode, 0x80 | fragment.len() as u8, 0, 0, 0, 0]);
                bytes.extend_from_slice(fragment);
            }
        }
        bytes
    }

    fn inputs(channels: &mut Channels, mut bytes: BytesMut) -> Result<Vec<Input>, ProtocolError> {
        let mut inputs = Vec::new();
        let mut out = BytesMut::new();
        loop {
            match channels.read(&mut bytes, &mut out)? {
                Some(Event::Input(input)) => inputs.push(input),
                Some(Event::Ready) => {}
                Some(Event::Closed) | None => return Ok(inputs),
            }
        }
    }

    #[test]
    fn channels_reach_the_process() {
        let check = |version, streams, sent: &[&[&[u8]]], expected: &[Input]| {
            let got = inputs(&mut Channels::new(version, streams), messages(sent)).unwrap();
            assert_eq!(got, expected, "{sent:?}");
        };
        let bytes = |text: &'static str| Input::Bytes(Bytes::from_static(text.as_bytes()));
        check(
            Version::V5,
            ALL,
            &[&[b"\0hello"], &[b"\0"], &[b""], &[b"\xff\0"]],
            &[bytes("hello"), Input::End],
        );
        check(Version::V5, ALL, &[&[b"", b"\0", b"he", b"llo"]], &[bytes("he"), bytes("llo")]);
        check(Version::V5, ALL, &[&[b"\xff", b"", b"\0"]], &[Input::End]);
        check(Version::V4, ALL, &[&[b"\xff\0"], &[b"\0x"]], &[bytes("x")]);
        check(Version::V5, ALL, &[&[b"\x01x"], &[b"\x03x"], &[b"\x63x"], &[b"\xff\x01"], &[b"\xff"]], &[]);
        let size = TerminalSize { columns: 80, rows: 24 };
        check(Version::V5, ALL, &[&[b"\x04{\"Width\":80,", b"\"Height\":24}\n"]], &[Input::Resize(size)]);
        let no_input = Streams { stdin: false, ..ALL };
        check(Version::V5, no_input, &[&[b"\0hello"], &[b"\xff\0"]], &[]);
    }

    #[test]
    fn long_ends_are_refused() {
        let mut channels = Channels::new(Version::V5, ALL);
        let error = inputs(&mut channels, messages(&[&[b"\xff\0", b"\0"]])).unwrap_err();
        assert_eq!(error, ProtocolError::MessageTooLong { channel: 255, limit: 1 });
    }

    #[test]
    fn output_reaches_who_asked_for_it() {
        let mut out = BytesMut::new();
        let mut channels = Channels::new(Version::V5, Streams { stderr: false, ..ALL });
        channels.output(OutputKind::Stdout, b"out", &mut out);
        channels.output(OutputKind::Stderr, b"err", &mut out);
        assert_eq!(&out.split()[..], b"\x82\x04\x01out");
        channels.finish(&Outcome::Exited(0), &mut out);
        let status = Outcome::Exited(0).to_json();
        assert_eq!(&out[3..][..status.len()], &status[..]);
        assert_eq!(&out[3 + status.len()..], b"\x88\x02\x03\xe8");
    }
}

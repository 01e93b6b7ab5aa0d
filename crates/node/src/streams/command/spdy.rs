//! Remote commands over SPDY, stream protocol `v4.channel.k8s.io`: the client opens one stream for each of `error`,
//! `stdin`, `stdout`, `stderr` and `resize` that it wants, named by the header `streamtype`.

use bytes::BytesMut;

use super::resize::Sizes;
use super::{Dialect, Event, Input, OutputKind, ProtocolError};
use crate::streams::request::Streams;
use crate::streams::spdy::{self, Carrier, Headers, Reset, Session, StreamId};
use crate::streams::status::Outcome;

/// Most streams of a command.
const MAX_STREAMS: usize = 5;

/// One remote command.
#[derive(Debug)]
pub(crate) struct SpdyStreams {
    session: Session,
    wanted: Streams,
    open: [Option<StreamId>; MAX_STREAMS],
    ready: bool,
    sizes: Sizes,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Kind {
    const ALL: [Self; MAX_STREAMS] = [Self::Error, Self::Stdin, Self::Stdout, Self::Stderr, Self::Resize];

    fn parse(headers: &Headers) -> Option<Self> {
        match headers.get("streamtype")? {
            "error" => Some(Self::Error),
            "stdin" => Some(Self::Stdin),
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            "resize" => Some(Self::Resize),
            _ => None,
        }
    }

    /// Whether a command with these streams has one of this kind.
    fn is_in(self, streams: Streams) -> bool {
        match self {
            Self::Error => true,
            Self::Stdin => streams.stdin,
            Self::Stdout => streams.stdout,
            Self::Stderr => streams.stderr,
            Self::Resize => streams.tty,
        }
    }
}

impl SpdyStreams {
    pub(crate) fn new(wanted: Streams) -> Self {
        Self {
            session: Session::new(Carrier::Plain, MAX_STREAMS),
            wanted,
            open: [None; MAX_STREAMS],
            ready: false,
            sizes: Sizes::default(),
        }
    }

    fn stream(&self, kind: Kind) -> Option<StreamId> {
        self.open[kind as usize]
    }

    fn is(&self, kind: Kind, stream: StreamId) -> bool {
        self.stream(kind) == Some(stream)
    }

    fn opened(&mut self, stream: StreamId, headers: &Headers, out: &mut BytesMut) -> Option<Event> {
        match Kind::parse(headers) {
            Some(kind) if kind.is_in(self.wanted) && self.stream(kind).is_none() => {
                self.open[kind as usize] = Some(stream);
                self.session.accept(stream, out);
            }
            _ => self.session.reset(stream, Reset::Refused, out),
        }
        let complete = Kind::ALL.iter().all(|kind| !kind.is_in(self.wanted) || self.stream(*kind).is_some());
        (complete && !std::mem::replace(&mut self.ready, true)).then_some(Event::Ready)
    }

    fn handle(&mut self, event: spdy::Event, out: &mut BytesMut) -> Option<Event> {
        let input = match event {
            spdy::Event::Opened { stream, headers } => return self.opened(stream, &headers, out),
            spdy::Event::Data { stream, bytes } if self.is(Kind::Stdin, stream) => Input::Bytes(bytes),
            spdy::Event::Data { stream, bytes } if self.is(Kind::Resize, stream) => {
                Input::Resize(self.sizes.push(&bytes)?)
            }
            spdy::Event::Ended { stream } | spdy::Event::Reset { stream } if self.is(Kind::Stdin, stream) => {
                Input::End
            }
            spdy::Event::Data { .. } | spdy::Event::Ended { .. } | spdy::Event::Reset { .. } => return None,
            spdy::Event::Closed => return Some(Event::Closed),
        };
        Some(Event::Input(input))
    }
}

impl Dialect for SpdyStreams {
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        while let Some(event) = self.session.next(input, out)? {
            if let Some(event) = self.handle(event, out) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn output(&mut self, kind: OutputKind, bytes: &[u8], out: &mut BytesMut) {
        let kind = match kind {
            OutputKind::Stdout => Kind::Stdout,
            OutputKind::Stderr => Kind::Stderr,
        };
        if let Some(stream) = self.stream(kind) {
            self.session.send(stream, bytes, out);
        }
    }

    fn finish(&mut self, outcome: &Outcome, out: &mut BytesMut) {
        if let Some(stream) = self.stream(Kind::Error) {
            self.session.send(stream, &outcome.to_json(), out);
        }
        self.session.close(out);
    }

    fn ping(&mut self, out: &mut BytesMut) {
        self.session.ping(out);
    }
}

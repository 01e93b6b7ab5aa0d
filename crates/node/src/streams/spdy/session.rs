//! One SPDY connection: which streams are open, and in which directions.
//!
//! ```text
//!            SYN_STREAM                  both sides ended, or one gave up
//!  (nothing) ──────────▶ open ─┬──────────────────────────────────────────▶ (forgotten)
//!                              └─▶ ended by the client, or by this side ──▲
//! ```

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::frame::{self, Decoder, Encoder, Frame, MAX_DATA_BYTES, Reset, StreamId};
use super::{Headers, SpdyError};
use crate::streams::websocket::{self, WebSocket};

/// What carries the frames.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// The connection itself, after `Upgrade: SPDY/3.1`.
    Plain,
    /// The binary messages of a WebSocket.
    WebSocket(WebSocket),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    carrier: Carrier,
    /// Frames taken out of a WebSocket's messages.
    unwrapped: BytesMut,
    decoder: Decoder,
    encoder: Encoder,
    streams: BTreeMap<StreamId, Ended>,
    max_streams: usize,
    last: Option<StreamId>,
    /// The end of a stream that has just been announced as open.
    ended_at_once: Option<StreamId>,
    gone_away: bool,
    next_ping: u32,
}

/// Which sides have ended a stream.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    client: bool,
    server: bool,
}

/// What a client does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It opened a stream, which waits for `accept` or `refuse`.
    Opened {
        /// The stream.
        stream: StreamId,
        /// What it is for.
        headers: Headers,
    },
    /// It sent data.
    Data {
        /// The stream, open.
        stream: StreamId,
        /// Not empty.
        bytes: Bytes,
    },
    /// It sends no more on a stream.
    Ended {
        /// The stream.
        stream: StreamId,
    },
    /// It gave up a stream, which is forgotten.
    Reset {
        /// The stream.
        stream: StreamId,
    },
    /// It has left; nothing more comes.
    Closed,
}

impl Session {
    /// A session of at most `max_streams` streams at a time.
    pub(crate) fn new(carrier: Carrier, max_streams: usize) -> Self {
        Self {
            carrier,
            unwrapped: BytesMut::new(),
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            streams: BTreeMap::new(),
            max_streams,
            last: None,
            ended_at_once: None,
            gone_away: false,
            next_ping: 2,
        }
    }

    /// Takes the next event out of `input`; `None` when more bytes are needed. What the protocol has to answer by
    /// itself is appended to `out`, and so is a farewell when the client broke the protocol.
    pub(crate) fn next(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, SpdyError> {
        let result = self.read(input, out);
        match &result {
            Ok(_) | Err(SpdyError::WebSocket(_)) => {}
            Err(error) => {
                let last = self.last;
                self.control(out, |_, out| frame::goaway(last, 1, out));
                if let Carrier::WebSocket(socket) = &mut self.carrier {
                    socket.close(1002, &error.to_string(), out);
                }
            }
        }
        result
    }

    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, SpdyError> {
        // Given up meanwhile, it ends without a word, and what follows it is still to be read.
        if let Some(event) = self.ended_at_once.take().and_then(|stream| self.client_ended(stream)) {
            return Ok(Some(event));
        }
        loop {
            let next = match &mut self.carrier {
                Carrier::Plain => self.decoder.next(input)?,
                Carrier::WebSocket(socket) => match self.decoder.next(&mut self.unwrapped)? {
                    Some(frame) => Some(frame),
                    None => match socket.next(input, out)? {
                        Some(websocket::Event::Piece { bytes, .. }) => {
                            self.unwrapped.extend_from_slice(&bytes);
                            continue;
                        }
                        Some(websocket::Event::Closed) => return Ok(Some(Event::Closed)),
                        None => None,
                    },
                },
            };
            let Some(frame) = next else { return Ok(None) };
            if let Some(event) = self.handle(frame, out)? {
                return Ok(Some(event));
            }
        }
    }

    fn handle(&mut self, frame: Frame, out: &mut BytesMut) -> Result<Option<Event>, SpdyError> {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.opened(stream, fin, headers, out),
            Frame::Data { stream, bytes } => {
                // Data for a stream that this side has just given up is on its way still.
                let open = self.streams.get(&stream).is_some_and(|ended| !ended.client);
                Ok(open.then_some(Event::Data { stream, bytes }))
            }
            Frame::Fin { stream } => Ok(self.client_ended(stream)),
            Frame::RstStream { stream } => Ok(self.streams.remove(&stream).map(|_| Event::Reset { stream })),
            Frame::Ping { id } => {
                // Odd ones are the client's, even ones its answers to this side's.
                if id % 2 == 1 {
                    self.control(out, |_, out| frame::ping(id, out));
                }
                Ok(None)
            }
            Frame::GoAway => {
                self.gone_away = true;
                Ok(self.streams.is_empty().then_some(Event::Closed))
            }
        }
    }

    fn opened(
        &mut self,
        stream: StreamId,
        fin: bool,
        headers: Headers,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, SpdyError> {
        if stream.number().is_multiple_of(2) || self.last.is_some_and(|last| stream <= last) {
            return Err(SpdyError::StreamId(stream.number()));
        }
        self.last = Some(stream);
        if self.streams.len() >= self.max_streams || self.gone_away {
            self.control(out, |_, out| frame::rst_stream(stream, Reset::Refused, out));
            return Ok(None);
        }
        self.streams.insert(stream, Ended::default());
        self.ended_at_once = fin.then_some(stream);
        Ok(Some(Event::Opened { stream, headers }))
    }

    fn client_ended(&mut self, stream: StreamId) -> Option<Event> {
        let ended = self.streams.get_mut(&stream)?;
        if std::mem::replace(&mut ended.client, true) {
            return None;
        }
        self.forget_when_done(stream);
        Some(Event::Ended { stream })
    }

    fn forget_when_done(&mut self, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(|ended| ended.client && ended.server) {
            self.streams.remove(&stream);
        }
    }

    /// Whether the client has announced its leave and all streams are done.
    pub(crate) fn is_finished(&self) -> bool {
        self.gone_away && self.streams.is_empty()
    }

    /// Accepts a stream that was opened.
    pub(crate) fn accept(&mut self, stream: StreamId, out: &mut BytesMut) {
        self.control(out, |encoder, out| encoder.syn_reply(stream, out));
    }

    /// Gives up a stream. Does nothing when it is forgotten already.
    pub(crate) fn reset(&mut self, stream: StreamId, reason: Reset, out: &mut BytesMut) {
        if self.streams.remove(&stream).is_some() {
            self.control(out, |_, out| frame::rst_stream(stream, reason, out));
        }
    }

    /// Sends data on a stream. Does nothing when this side has ended it or it is forgotten.
    pub(crate) fn send(&mut self, stream: StreamId, bytes: &[u8], out: &mut BytesMut) {
        if self.streams.get(&stream).is_some_and(|ended| !ended.server) {
            for chunk in bytes.chunks(MAX_DATA_BYTES) {
                self.data(stream, false, chunk, out);
            }
        }
    }

    /// Says that this side sends no more on a stream. Does nothing the second time.
    pub(crate) fn end(&mut self, stream: StreamId, out: &mut BytesMut) {
        let Some(ended) = self.streams.get_mut(&stream) else { return };
        if !std::mem::replace(&mut ended.server, true) {
            self.data(stream, true, &[], out);
            self.forget_when_done(stream);
        }
    }

    /// Asks whether the client is still there.
    pub(crate) fn ping(&mut self, out: &mut BytesMut) {
        let id = self.next_ping;
        self.next_ping = id.checked_add(2).unwrap_or(2);
        self.control(out, |_, out| frame::ping(id, out));
    }

    /// Ends every stream and takes leave.
    pub(crate) fn close(&mut self, out: &mut BytesMut) {
        let streams: Vec<_> = self.streams.keys().copied().collect();
        for stream in streams {
            self.end(stream, out);
        }
        let last = self.last;
        self.control(out, |_, out| frame::goaway(last, 0, out));
        if let Carrier::WebSocket(socket) = &mut self.carrier {
            socket.close(1000, "", out);
        }
    }

    fn data(&mut self, stream: StreamId, fin: bool, bytes: &[u8], out: &mut BytesMut) {
        let header = frame::data_header(stream, fin, bytes.len());
        match &self.carrier {
            Carrier::Plain => {
                out.extend_from_slice(&header);
                out.extend_from_slice(bytes);
            }
            Carrier::WebSocket(socket) => socket.message(&header, bytes, out),
        }
    }

    fn control(&mut self, out: &mut BytesMut, write: impl FnOnce(&mut Encoder, &mut BytesMut)) {
        match &self.carrier {
            Carrier::Plain => write(&mut self.encoder, out),
            Carrier::WebSocket(socket) => {
                let mut frame = BytesMut::new();
                write(&mut self.encoder, &mut frame);
                socket.message(&frame, &[], out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> StreamId {
        StreamId::new(number).unwrap()
    }

    fn syn(encoder: &mut Encoder, number: u32, input: &mut BytesMut) {
        encoder.syn_stream(number, false, &Headers::from([("streamtype", "data")]), input);
    }

    fn events(session: &mut Session, input: &mut BytesMut, out: &mut BytesMut) -> Vec<Event> {
        std::iter::from_fn(|| session.next(input, out).unwrap()).collect()
    }

    fn opened(number: u32) -> Event {
        Event::Opened { stream: id(number), headers: Headers::from([("streamtype", "data")]) }
    }

    #[test]
    fn streams_live_and_die() {
        let mut session = Session::new(Carrier::Plain, 2);
        let (mut encoder, mut input, mut out) = (Encoder::new(), BytesMut::new(), BytesMut::new());
        syn(&mut encoder, 1, &mut input);
        encoder.syn_stream(3, true, &Headers::from([("streamtype", "data")]), &mut input);
        // One too many.
        syn(&mut encoder, 5, &mut input);
        input.extend_from_slice(&frame::data_header(id(5), false, 2));
        input.extend_from_slice(b"no");
        input.extend_from_slice(&frame::data_header(id(1), true, 3));
        input.extend_from_slice(b"yes");
        input.extend_from_slice(&frame::data_header(id(1), true, 5));
        input.extend_from_slice(b"twice");
        let got = events(&mut session, &mut input, &mut out);
        let data = Event::Data { stream: id(1), bytes: Bytes::from_static(b"yes") };
        let ended = |number| Event::Ended { stream: id(number) };
        assert_eq!(got, [opened(1), opened(3), ended(3), data, ended(1)]);
        let mut expected = BytesMut::new();
        frame::rst_stream(id(5), Reset::Refused, &mut expected);
        assert_eq!(out.split(), expected);
        // Both sides have ended it: its place is free again.
        session.send(id(3), b"answer", &mut out);
        session.end(id(3), &mut out);
        session.end(id(3), &mut out);
        session.send(id(3), b"too late", &mut out);
        assert_eq!(&out.split()[..], b"\0\0\0\x03\0\0\0\x06answer\0\0\0\x03\x01\0\0\0");
        syn(&mut encoder, 7, &mut input);
        frame::rst_stream(id(7), Reset::Cancel, &mut input);
        frame::rst_stream(id(7), Reset::Cancel, &mut input);
        let got = events(&mut session, &mut input, &mut out);
        assert_eq!(got, [opened(7), Event::Reset { stream: id(7) }]);
        session.send(id(7), b"nobody listens", &mut out);
        assert!(out.is_empty());
        // A client that goes away has gone once its last stream is done.
        frame::goaway(None, 0, &mut input);
        assert_eq!(events(&mut session, &mut input, &mut out), []);
        assert!(!session.is_finished());
        session.end(id(1), &mut out);
        assert!(session.is_finished());
    }

    #[test]
    fn what_follows_a_refused_stream_is_read() {
        let mut session = Session::new(Carrier::Plain, 2);
        let (mut encoder, mut input, mut out) = (Encoder::new(), BytesMut::new(), BytesMut::new());
        encoder.syn_stream(1, true, &Headers::from([("streamtype", "data")]), &mut input);
        syn(&mut encoder, 3, &mut input);
        assert_eq!(session.next(&mut input, &mut out), Ok(Some(opened(1))));
        session.reset(id(1), Reset::Refused, &mut out);
        assert_eq!(session.next(&mut input, &mut out), Ok(Some(opened(3))));
    }

    #[test]
    fn pings_are_answered_once() {
        let mut session = Session::new(Carrier::Plain, 1);
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        frame::ping(1, &mut input);
        frame::ping(2, &mut input);
        let mut expected = BytesMut::new();
        frame::ping(1, &mut expected);
        assert_eq!(events(&mut session, &mut input, &mut out), []);
        assert_eq!(out, expected);
    }

    #[test]
    fn ids_only_grow_and_are_odd() {
        let check = |numbers: &[u32]| {
            let mut session = Session::new(Carrier::Plain, 9);
            let (mut encoder, mut input, mut out) = (Encoder::new(), BytesMut::new(), BytesMut::new());
            for number in numbers {
                syn(&mut encoder, *number, &mut input);
            }
            let error = loop {
                match session.next(&mut input, &mut out) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{numbers:?} were accepted"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, SpdyError::StreamId(*numbers.last().unwrap()));
            let mut farewell = BytesMut::new();
            frame::goaway(numbers.len().checked_sub(2).map(|before| id(numbers[before])), 1, &mut farewell);
            assert_eq!(out, farewell);
        };
        check(&[2]);
        check(&[1, 1]);
        check(&[5, 3]);
    }

    #[test]
    fn frames_travel_in_messages() {
        let mut session = Session::new(Carrier::WebSocket(WebSocket::default()), 4);
        let (mut encoder, mut frames, mut out) = (Encoder::new(), BytesMut::new(), BytesMut::new());
        syn(&mut encoder, 1, &mut frames);
        frames.extend_from_slice(&frame::data_header(id(1), false, 4));
        frames.extend_from_slice(b"data");
        // Cut anywhere: messages and frames have nothing to do with each other.
        let mut input = BytesMut::new();
        for piece in frames.chunks(5) {
            // A mask of zeros changes nothing.
            input.extend_from_slice(&[0x82, 0x80 | piece.len() as u8, 0, 0, 0, 0]);
            input.extend_from_slice(piece);
        }
        input.extend_from_slice(&[0x88, 0x80, 0, 0, 0, 0]);
        let mut got = events(&mut session, &mut input, &mut BytesMut::new());
        assert_eq!(got.pop(), Some(Event::Closed));
        let joined: Vec<u8> = got
            .iter()
            .skip(1)
            .flat_map(|event| match event {
                Event::Data { bytes, .. } => bytes.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((&got[0], &joined[..]), (&opened(1), &b"data"[..]));
        session.send(id(1), b"hello", &mut out);
        assert_eq!(&out[..], b"\x82\x0d\0\0\0\x01\0\0\0\x05hello");
    }
}

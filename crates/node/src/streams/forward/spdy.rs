//! Port forwarding over SPDY, plain or inside a WebSocket, stream protocol `portforward.k8s.io`.
//!
//! For each connection the client opens two streams with the headers `port` and `requestid`: first one of
//! `streamtype: error`, then one of `streamtype: data`. The error stream carries a text when something is wrong and
//! ends with the connection; clients wait for that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::BytesMut;

use super::{ConnectionId, Dialect, Event, MAX_CONNECTIONS, ProtocolError};
use crate::streams::spdy::{self, Carrier, Headers, Reset, Session, StreamId};

/// Two streams for each connection.
const MAX_STREAMS: usize = 2 * MAX_CONNECTIONS;

/// The connections of one client; each is named by its data stream.
#[derive(Debug)]
pub(crate) struct SpdyPairs {
    session: Session,
    /// Error streams whose data stream has not come yet, by request.
    halves: BTreeMap<String, StreamId>,
    /// Error streams by data stream.
    pairs: BTreeMap<StreamId, StreamId>,
}

impl SpdyPairs {
    pub(crate) fn new(carrier: Carrier) -> Self {
        Self { session: Session::new(carrier, MAX_STREAMS), halves: BTreeMap::new(), pairs: BTreeMap::new() }
    }

    fn opened(&mut self, stream: StreamId, headers: &Headers, out: &mut BytesMut) -> Option<Event> {
        let event = match (headers.get("streamtype"), port(headers)) {
            (Some("error"), Some(_)) => match self.halves.entry(request(headers, stream.number())) {
                Entry::Vacant(half) => {
                    half.insert(stream);
                    Some(None)
                }
                Entry::Occupied(_) => None,
            },
            (Some("data"), Some(port)) => {
                // A client that does not number its requests opens both streams one after the other.
                let before = stream.number().saturating_sub(2);
                self.halves.remove(&request(headers, before)).map(|error| {
                    self.pairs.insert(stream, error);
                    Some(Event::Open { id: ConnectionId(stream.number()), port })
                })
            }
            _ => None,
        };
        match event {
            Some(event) => {
                self.session.accept(stream, out);
                event
            }
            None => {
                tracing::debug!(
                    stream = stream.number(),
                    "a port-forward stream without its pair was refused"
                );
                self.session.reset(stream, Reset::Protocol, out);
                None
            }
        }
    }

    /// The data stream and the error stream of a connection.
    fn pair(&self, id: ConnectionId) -> Option<(StreamId, StreamId)> {
        let data = StreamId::new(id.0)?;
        Some((data, *self.pairs.get(&data)?))
    }

    fn reset_by_client(&mut self, stream: StreamId, out: &mut BytesMut) -> Option<Event> {
        self.halves.retain(|_, error| *error != stream);
        let id = ConnectionId(stream.number());
        self.pair(id)?;
        self.forget(id, out);
        Some(Event::Reset { id })
    }
}

fn port(headers: &Headers) -> Option<u16> {
    headers.get("port")?.parse().ok().filter(|port| *port != 0)
}

/// Which request a stream belongs to; `number` stands in for a client that does not say.
fn request(headers: &Headers, number: u32) -> String {
    match headers.get("requestid") {
        Some(request) => format!("request {request}"),
        None => format!("stream {number}"),
    }
}

impl Dialect for SpdyPairs {
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        while let Some(event) = self.session.next(input, out)? {
            let is_data = |stream| self.pairs.contains_key(&stream);
            let event = match event {
                spdy::Event::Opened { stream, headers } => self.opened(stream, &headers, out),
                spdy::Event::Data { stream, bytes } => {
                    is_data(stream).then_some(Event::Data { id: ConnectionId(stream.number()), bytes })
                }
                spdy::Event::Ended { stream } => {
                    is_data(stream).then_some(Event::End { id: ConnectionId(stream.number()) })
                }
                spdy::Event::Reset { stream } => self.reset_by_client(stream, out),
                spdy::Event::Closed => Some(Event::Closed),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn data(&mut self, id: ConnectionId, bytes: &[u8], out: &mut BytesMut) {
        if let Some((data, _)) = self.pair(id) {
            self.session.send(data, bytes, out);
        }
    }

    fn end(&mut self, id: ConnectionId, out: &mut BytesMut) {
        if let Some((data, error)) = self.pair(id) {
            self.session.end(data, out);
            self.session.end(error, out);
        }
    }

    fn fail(&mut self, id: ConnectionId, why: &str, out: &mut BytesMut) {
        if let Some((_, error)) = self.pair(id) {
            self.session.send(error, why.as_bytes(), out);
            self.end(id, out);
        }
    }

    fn forget(&mut self, id: ConnectionId, out: &mut BytesMut) {
        if let Some((data, error)) = self.pair(id) {
            self.pairs.remove(&data);
            self.session.end(error, out);
            // Streams that the client has not ended would keep their places.
            self.session.reset(error, Reset::Cancel, out);
            self.session.reset(data, Reset::Cancel, out);
        }
    }

    fn is_finished(&self) -> bool {
        self.session.is_finished()
    }

    fn ping(&mut self, out: &mut BytesMut) {
        self.session.ping(out);
    }

    fn close(&mut self, out: &mut BytesMut) {
        self.session.close(out);
    }
}

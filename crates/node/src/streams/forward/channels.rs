//! Port forwarding over WebSocket, subprotocol `v4.channel.k8s.io`: the ports stand in the request's query, and the
//! first byte of each binary message names the channel that the rest belongs to.
//!
//! The n-th port, counted from 0, has channel 2n for data in both directions and channel 2n+1 for an error's text.
//! On each of them the port itself comes first, two bytes in little-endian order. Neither side can end a channel:
//! the session ends when all connections have, or when the client leaves.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{ConnectionId, Dialect, Event, ProtocolError};
use crate::streams::websocket::{self, WebSocket};

/// The connections of one client.
#[derive(Debug)]
pub(crate) struct PortChannels {
    socket: WebSocket,
    /// Connections that have not been announced.
    unopened: VecDeque<(ConnectionId, u16)>,
    /// By connection: whether it can still say something.
    open: Vec<bool>,
    /// The channel of the message that is arriving.
    channel: Option<u8>,
}

impl PortChannels {
    /// Connections to at most 127 ports.
    pub(crate) fn new(ports: &[u16]) -> Self {
        let unopened = (0..).map(ConnectionId).zip(ports.iter().copied()).collect();
        Self { socket: WebSocket::default(), unopened, open: vec![true; ports.len()], channel: None }
    }

    fn piece(&mut self, mut bytes: Bytes, start: bool) -> Option<Event> {
        if start {
            self.channel = None;
        }
        let channel = match self.channel {
            Some(channel) => channel,
            None if bytes.is_empty() => return None,
            None => *self.channel.insert(bytes.get_u8()),
        };
        let id = ConnectionId(u32::from(channel / 2));
        let is_data = channel % 2 == 0 && usize::from(channel / 2) < self.open.len();
        (is_data && !bytes.is_empty()).then_some(Event::Data { id, bytes })
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        usize::try_from(id.0).is_ok_and(|index| self.open.get(index) == Some(&true))
    }
}

/// The data channel of a connection; the error channel is the next.
fn channel(id: ConnectionId) -> u8 {
    u8::try_from(id.0 * 2).expect("the number of ports is bounded")
}

impl Dialect for PortChannels {
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        if let Some((id, port)) = self.unopened.pop_front() {
            for channel in [channel(id), channel(id) + 1] {
                self.socket.message(&[channel], &port.to_le_bytes(), out);
            }
            return Ok(Some(Event::Open { id, port }));
        }
        loop {
            match self.socket.next(input, out)? {
                Some(websocket::Event::Closed) => return Ok(Some(Event::Closed)),
                Some(websocket::Event::Piece { bytes, start, .. }) => {
                    if let Some(event) = self.piece(bytes, start) {
                        return Ok(Some(event));
                    }
                }
                None => return Ok(None),
            }
        }
    }

    fn data(&mut self, id: ConnectionId, bytes: &[u8], out: &mut BytesMut) {
        if self.is_open(id) {
            self.socket.message(&[channel(id)], bytes, out);
        }
    }

    /// Cannot be said of one channel; when it is true of all, the session ends.
    fn end(&mut self, id: ConnectionId, out: &mut BytesMut) {
        self.forget(id, out);
    }

    fn fail(&mut self, id: ConnectionId, why: &str, out: &mut BytesMut) {
        if self.is_open(id) {
            self.socket.message(&[channel(id) + 1], why.as_bytes(), out);
            self.forget(id, out);
        }
    }

    fn forget(&mut self, id: ConnectionId, _out: &mut BytesMut) {
        if let Some(open) = usize::try_from(id.0).ok().and_then(|index| self.open.get_mut(index)) {
            *open = false;
        }
    }

    fn is_finished(&self) -> bool {
        self.open.iter().all(|open| !open)
    }

    fn ping(&mut self, out: &mut BytesMut) {
        self.socket.ping(out);
    }

    fn close(&mut self, out: &mut BytesMut) {
        self.socket.close(1000, "", out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of a client with a mask of zeros.
    fn messages(messages: &[&[u8]]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.extend_from_slice(&[0x82, 0x80 | message.len() as u8, 0, 0, 0, 0]);
            bytes.extend_from_slice(message);
        }
        bytes
    }

    #[test]
    fn ports_are_channels() {
        let mut channels = PortChannels::new(&[80, 0x1F90]);
        let (mut input, mut out) =
            (messages(&[b"\x02hello", b"\x01x", b"\x04x", b"\x02", b"\0y"]), BytesMut::new());
        let mut events = Vec::new();
        while let Some(event) = channels.read(&mut input, &mut out).unwrap() {
            events.push(event);
        }
        let (first, second) = (ConnectionId(0), ConnectionId(1));
        assert_eq!(
            events,
            [
                Event::Open { id: first, port: 80 },
                Event::Open { id: second, port: 8080 },
                Event::Data { id: second, bytes: Bytes::from_static(b"hello") },
                Event::Data { id: first, bytes: Bytes::from_static(b"y") },
            ]
        );
        assert_eq!(
            &out.split()[..],
            b"\x82\x03\0\x50\0\x82\x03\x01\x50\0\x82\x03\x02\x90\x1f\x82\x03\x03\x90\x1f"
        );
        channels.data(second, b"data", &mut out);
        channels.fail(first, "why", &mut out);
        channels.fail(first, "once", &mut out);
        assert_eq!(&out.split()[..], b"\x82\x05\x02data\x82\x04\x01why");
        assert!(!channels.is_finished());
        channels.end(second, &mut out);
        assert!(channels.is_finished());
    }
}

//! One client of the shim: what arrived from it, what waits to be sent to it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde::Serialize;

use crate::config::ContainerId;
use crate::wire::{self, Decoder, Frame, MAX_CHUNK_BYTES, Response, Tag, WireError};

/// A client of a container's output or of events that has this much unread is cut off.
const OVERRUN_BYTES: usize = 1 << 20;

/// The output of an `exec` is not read while its client has this much unread.
const PAUSE_BYTES: usize = 256 << 10;

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Its request has not arrived.
    New,
    /// It waits for a container's end.
    Waiting(ContainerId),
    /// It talks to a process.
    Session { process: u64, kind: SessionKind },
    /// It is told every change.
    Events,
    /// It is closed when all is sent.
    Closing,
}

/// How a session relates to its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionKind {
    /// The process was started for it and ends with it.
    Exec,
    /// It joined a container's first process.
    Attach,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    unsent: Vec<u8>,
    pub(super) role: Role,
    /// Nothing more arrives.
    ended: bool,
    /// The client is gone.
    broken: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            decoder: Decoder::default(),
            unsent: Vec::new(),
            role: Role::New,
            ended: false,
            broken: false,
        })
    }

    pub(super) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether the connection can be forgotten.
    pub(super) fn is_finished(&self) -> bool {
        self.broken || self.role == Role::Closing && self.unsent.is_empty()
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether more output may be put in without growing beyond bounds.
    pub(super) fn has_room(&self) -> bool {
        self.unsent.len() < PAUSE_BYTES
    }

    /// The client closed both directions.
    pub(super) fn hung_up(&mut self) {
        self.broken = true;
    }

    /// Reads once what has arrived.
    pub(super) fn receive(&mut self) {
        let mut chunk = [0; MAX_CHUNK_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.decoder.feed(&chunk[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.broken = true,
        }
    }

    /// The next whole frame that has arrived.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        self.decoder.next()
    }

    /// Sends as much as the client takes.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        self.unsent.drain(..sent);
    }

    /// Answers the request; what follows depends on the role.
    pub(super) fn respond(&mut self, response: &Response) {
        self.send(Tag::Response, response);
    }

    /// Answers the request and closes.
    pub(super) fn finish(&mut self, response: &Response) {
        self.respond(response);
        self.role = Role::Closing;
    }

    /// Sends a value.
    pub(super) fn send<T: Serialize>(&mut self, tag: Tag, value: &T) {
        if wire::encode(tag, value, &mut self.unsent).is_err() {
            // Too long for a frame, which only an absurd number of containers
            // or labels brings about. The client sees the connection end.
            self.broken = true;
        }
        self.flush();
    }

    /// Sends output, or cuts the client off when it does not keep up.
    pub(super) fn send_bytes(&mut self, tag: Tag, bytes: &[u8]) {
        for chunk in bytes.chunks(MAX_CHUNK_BYTES) {
            wire::encode_bytes(tag, chunk, &mut self.unsent).expect("chunks are cut below the limit");
        }
        self.flush();
        self.check_overrun();
    }

    /// Cuts off a client that lets too much pile up.
    pub(super) fn check_overrun(&mut self) {
        if self.unsent.len() > OVERRUN_BYTES && self.role != Role::Closing {
            wire::encode_bytes(Tag::Overrun, &[], &mut self.unsent).expect("an empty frame fits");
            self.role = Role::Closing;
        }
    }
}

//! The two directions of an upgraded connection, each with a bounded buffer, and its orderly end.
//!
//! Every method may be dropped half-way, so all are fit for `select!`: bytes are in a buffer or on their way, never
//! lost and never sent twice.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// Output that may wait for the client before no more is taken from the pod.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// Output, answers to the client's own frames included, that may wait before nothing more is read from the client.
const MAX_ANSWERS_BYTES: usize = 512 << 10;

/// How long a client may take to accept a part of what is left for it at the end.
const LAST_OUTPUT_PATIENCE: Duration = Duration::from_secs(60);

/// How long a client may take to leave after it has got everything.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// From the client.
#[derive(Debug)]
pub(crate) struct Receiver<S> {
    half: ReadHalf<S>,
    /// What has come and was not understood yet.
    pub(crate) buffer: BytesMut,
}

/// To the client.
#[derive(Debug)]
pub(crate) struct Sender<S> {
    half: WriteHalf<S>,
    /// What waits to be sent.
    pub(crate) buffer: BytesMut,
    flushed: bool,
}

/// Takes a connection apart.
pub(crate) fn split<S: AsyncRead + AsyncWrite>(stream: S) -> (Receiver<S>, Sender<S>) {
    let (reading, writing) = tokio::io::split(stream);
    (
        Receiver { half: reading, buffer: BytesMut::new() },
        Sender { half: writing, buffer: BytesMut::new(), flushed: true },
    )
}

impl<S: AsyncRead> Receiver<S> {
    /// Waits for more bytes; 0 when the client has left.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        match self.half.read_buf(&mut self.buffer).await {
            Err(error) if is_departure(&error) => Ok(0),
            result => result,
        }
    }
}

/// Whether the error says no more than that the other side has left.
pub(crate) fn is_departure(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}

impl<S: AsyncWrite> Sender<S> {
    /// Whether something waits to be sent.
    pub(crate) fn is_pending(&self) -> bool {
        !self.buffer.is_empty() || !self.flushed
    }

    /// Whether more output may be put into the buffer.
    pub(crate) fn has_room(&self) -> bool {
        self.buffer.len() < MAX_WAITING_BYTES
    }

    /// Whether more may be read from the client, which may need answers.
    pub(crate) fn has_room_for_answers(&self) -> bool {
        self.buffer.len() < MAX_ANSWERS_BYTES
    }

    /// Sends a part of what waits.
    pub(crate) async fn progress(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.half.flush().await?;
            self.flushed = true;
            return Ok(());
        }
        self.flushed = false;
        match self.half.write_buf(&mut self.buffer).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            result => result.map(|_| ()),
        }
    }
}

/// Sends what waits, then says that no more comes and waits until the client has left too: closing a connection
/// with unread bytes could take the last output from the client. After `shutdown` nobody waits for a client.
pub(crate) async fn close<S: AsyncRead + AsyncWrite>(
    mut receiver: Receiver<S>,
    mut sender: Sender<S>,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    while sender.is_pending() {
        timeout(LAST_OUTPUT_PATIENCE, sender.progress()).await??;
    }
    let leave = async {
        sender.half.shutdown().await?;
        loop {
            receiver.buffer.clear();
            if receiver.fill().await? == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! {
        biased;
        // A client that stays gets no more of this side's time.
        left = timeout(LEAVE_PATIENCE, leave) => left.unwrap_or(Ok(())),
        () = shutdown.cancelled() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_arrives_before_the_end() {
        let (ours, mut theirs) = tokio::io::duplex(7);
        let (receiver, mut sender) = split(ours);
        sender.buffer.extend_from_slice(&[5; 1000]);
        assert!(sender.is_pending() && sender.has_room());
        let client = async {
            let mut got = Vec::new();
            theirs.write_all(b"x").await.unwrap();
            theirs.read_to_end(&mut got).await.unwrap();
            drop(theirs);
            got.len()
        };
        let shutdown = CancellationToken::new();
        let (closed, got) = tokio::join!(close(receiver, sender, &shutdown), client);
        closed.unwrap();
        assert_eq!(got, 1000);
    }

    #[tokio::test]
    async fn buffers_have_bounds() {
        let (ours, _theirs) = tokio::io::duplex(1);
        let (_receiver, mut sender) = split(ours);
        sender.buffer.resize(MAX_WAITING_BYTES, 0);
        assert!(!sender.has_room() && sender.has_room_for_answers());
        sender.buffer.resize(MAX_ANSWERS_BYTES, 0);
        assert!(!sender.has_room_for_answers());
    }
}

//! Compressed answers (RFC 9110, `Content-Encoding: gzip`), for clients that accept them.
//!
//! ```text
//!   an answer ──more than 128 KiB──▶ compressed 64 KiB at a time, as the client reads
//!        └──────no more─────────────▶ as it is
//! ```
//!
//! What is known to be long is never held twice: pieces of it are compressed when the connection asks for them. Of an
//! answer that is made while it is read, as a list, so much is waited for as decides. Watches and streams are never
//! compressed: their events would wait for each other.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::BoxError;
use super::reply::{self, ReplyBody};

/// Answers of more bytes are compressed.
const THRESHOLD: usize = 128 * 1024;
/// How much is compressed before others have their turn.
const PIECE: usize = 64 * 1024;
/// How many answers are compressed at once, each with about 300 KiB of memory; further ones are given as they are.
const MAX_AT_ONCE: usize = 64;

/// Compresses answers.
#[derive(Debug)]
pub(crate) struct Gzip {
    room: Arc<Semaphore>,
}

impl Default for Gzip {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }
}

/// Whether a client takes compressed answers. As upstream, a weight is no name that is known.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let header = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    header.is_some_and(|names| names.split(',').any(|name| name.trim() == "gzip"))
}

impl Gzip {
    /// The answer, compressed if it is long, and if there is room for it.
    pub(crate) async fn compress(&self, response: Response<ReplyBody>) -> Response<ReplyBody> {
        let length = response.body().size_hint().exact();
        if length.is_some_and(|length| length <= THRESHOLD as u64)
            || response.headers().contains_key(CONTENT_ENCODING)
        {
            return response;
        }
        let Ok(room) = self.room.clone().try_acquire_owned() else { return response };
        let (mut head, body) = response.into_parts();
        let body = match length {
            Some(_) => body,
            None => match beginning(body).await {
                (body, true) => body,
                (body, false) => return Response::from_parts(head, body),
            },
        };
        head.headers.remove(CONTENT_LENGTH);
        head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        Response::from_parts(head, CompressedBody::new(body, room).boxed_unsync())
    }
}

/// Reads so much of a body as decides whether it is long; the same body, and whether it is.
async fn beginning(mut body: ReplyBody) -> (ReplyBody, bool) {
    let (mut read, mut length) = (Vec::new(), 0);
    while length <= THRESHOLD {
        match body.frame().await {
            Some(Ok(frame)) => {
                length += frame.data_ref().map_or(0, Bytes::len);
                read.push(Ok(frame));
            }
            Some(Err(error)) => {
                read.push(Err(error));
                break;
            }
            None => break,
        }
    }
    let long = length > THRESHOLD;
    if !long && read.iter().all(Result::is_ok) {
        let data = read.into_iter().flatten().filter_map(|frame| frame.into_data().ok());
        return (reply::full(data.collect::<Vec<_>>().concat()), false);
    }
    let read = futures::stream::iter(read);
    (StreamBody::new(read.chain(BodyStream::new(body))).boxed_unsync(), long)
}

/// A body that is compressed while it is read.
struct CompressedBody {
    body: ReplyBody,
    /// What the body has given and is not compressed yet.
    pending: Bytes,
    /// Gone when the end is written.
    encoder: Option<GzEncoder<Vec<u8>>>,
    _room: OwnedSemaphorePermit,
}

impl CompressedBody {
    fn new(body: ReplyBody, room: OwnedSemaphorePermit) -> Self {
        // The fastest level: others take much longer for little.
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Self { body, pending: Bytes::new(), encoder: Some(encoder), _room: room }
    }

    /// Compresses one piece of what is pending.
    fn compress(&mut self) -> Result<Vec<u8>, BoxError> {
        let Some(encoder) = &mut self.encoder else { return Ok(Vec::new()) };
        let piece = self.pending.len().min(PIECE);
        encoder.write_all(&self.pending[..piece])?;
        self.pending.advance(piece);
        Ok(std::mem::take(encoder.get_mut()))
    }
}

impl Body for CompressedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            while !self.pending.is_empty() {
                match self.compress() {
                    Ok(out) if out.is_empty() => {}
                    Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            if self.encoder.is_none() {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.pending = frame.into_data().unwrap_or_default(),
                // The end is left out, by which the client sees that something is missing.
                Some(Err(error)) => {
                    self.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let rest = self.encoder.take().map(GzEncoder::finish).transpose()?;
                    return Poll::Ready(rest.map(|rest| Ok(Frame::data(rest.into()))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.pending.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn who_accepts() {
        let check = |header: &str, want: bool| {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, header.parse().expect("a header"))]);
            assert_eq!(is_accepted(&headers), want, "{header}");
        };
        check("gzip", true);
        check("deflate, gzip", true);
        check("gzip;q=0", false);
        check("br", false);
        check("", false);
        assert!(!is_accepted(&HeaderMap::new()));
    }

    /// A body of frames of which nobody knows how many there are.
    fn frames(lengths: &[usize], fails: bool) -> ReplyBody {
        let mut frames: Vec<Result<Frame<Bytes>, BoxError>> =
            lengths.iter().map(|length| Ok(Frame::data(text(*length)))).collect();
        frames.extend(fails.then(|| Err("it breaks off".into())));
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    }

    fn text(length: usize) -> Bytes {
        (0..length).map(|n| b"some text that is repeated"[n * n % 26]).collect()
    }

    /// What a client reads, whether it was compressed, and whether it came to its end.
    async fn read(gzip: &Gzip, body: ReplyBody) -> (usize, bool, bool) {
        let response = gzip.compress(Response::new(body)).await;
        let compressed = response.headers().get(CONTENT_ENCODING).is_some();
        assert_eq!(response.headers().get(VARY).is_some(), compressed);
        let (mut body, mut all, mut whole) = (response.into_body(), Vec::new(), true);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => all.extend(frame.into_data().expect("data")),
                Err(_) => whole = false,
            }
        }
        if !compressed || !whole {
            return (all.len(), compressed, whole);
        }
        let mut plain = Vec::new();
        GzDecoder::new(all.as_slice()).read_to_end(&mut plain).expect("gzip");
        assert!(all.len() < plain.len() / 4, "{} of {}", all.len(), plain.len());
        (plain.len(), compressed, whole)
    }

    #[tokio::test]
    async fn long_answers_are_compressed() {
        let gzip = Gzip::default();
        for (length, want) in [(0, false), (THRESHOLD, false), (THRESHOLD + 1, true), (1_000_000, true)] {
            assert_eq!(read(&gzip, reply::full(text(length))).await, (length, want, true), "{length}");
        }
        for (lengths, want) in
            [(&[0, 70_000][..], false), (&[70_000, 70_000], true), (&[1, 70_000, 70_000, 0, 500_000], true)]
        {
            let length = lengths.iter().sum();
            assert_eq!(read(&gzip, frames(lengths, false)).await, (length, want, true), "{lengths:?}");
        }
    }

    #[tokio::test]
    async fn what_breaks_off_has_no_end() {
        let gzip = Gzip::default();
        let (length, compressed, whole) = read(&gzip, frames(&[70_000], true)).await;
        assert_eq!((length, compressed, whole), (70_000, false, false));
        let (_, compressed, whole) = read(&gzip, frames(&[70_000, 90_000], true)).await;
        assert_eq!((compressed, whole), (true, false));
    }

    #[tokio::test]
    async fn so_many_at_once() {
        let gzip = Gzip { room: Arc::new(Semaphore::new(1)) };
        let first = gzip.compress(Response::new(reply::full(text(200_000)))).await;
        assert_eq!(read(&gzip, reply::full(text(200_000))).await, (200_000, false, true));
        drop(first);
        assert_eq!(read(&gzip, reply::full(text(200_000))).await, (200_000, true, true));
    }
}

//! Answers that are made while they are read.
//!
//! ```text
//!   frames ──one is made when there is room──▶ one waits ──▶ the connection
//!     │                                          ▲
//!     └──the client takes none for too long: given up, and the body ends with an error
//! ```
//!
//! A connection asks for no frame while its client reads none, so that a body cannot end itself: a task makes the frames. It
//! ends with the body. Until it does, the request counts for its user.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use xebec_api::Status;

use super::body::BoxError;
use crate::bounds::Turn;

/// How an answer is given to its client.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// How long the client may take for one frame.
    pub(crate) patience: Duration,
    /// What the request holds while its answer is read.
    pub(crate) turn: Option<Turn>,
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// It cannot be gone on with.
    #[error("the answer cannot be made to its end: {0}")]
    Failed(Status),
    /// Its client has taken too long; or its task has panicked, which the log tells of.
    #[error("the answer was given up: it was not read for {0:?}, or the server has failed at it")]
    Unread(Duration),
}

impl Delivery {
    /// The body of an answer that begins with `first`.
    pub(super) fn send(
        self,
        first: Bytes,
        frames: impl Iterator<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> DeliveredBody {
        let Self { patience, mut turn } = self;
        if let Some(turn) = &mut turn {
            turn.give_permit_back();
        }
        let (ready, taken) = mpsc::channel(1);
        let making = tokio::spawn(async move {
            make(first, frames, &ready, patience).await;
            drop(turn);
        });
        DeliveredBody { taken, patience, ended: false, _making: AbortOnDropHandle::new(making) }
    }
}

/// A frame; `None` is the end.
type Piece = Option<Result<Bytes, Status>>;

/// Makes frames as they are taken, until all are, one fails, or none is taken for too long.
async fn make(
    first: Bytes,
    frames: impl Iterator<Item = Result<Bytes, Status>>,
    ready: &mpsc::Sender<Piece>,
    patience: Duration,
) {
    let mut frames = std::iter::once(Ok(first)).chain(frames);
    // A frame is made when there is room for it, not before.
    while let Ok(Ok(room)) = tokio::time::timeout(patience, ready.reserve()).await {
        let frame = frames.next();
        if let Some(Err(status)) = &frame {
            // The client has its status already, and will only see that the answer breaks off.
            tracing::error!(%status, "an answer breaks off");
        }
        let goes_on = matches!(frame, Some(Ok(_)));
        room.send(frame);
        if !goes_on {
            return;
        }
    }
    tracing::debug!(?patience, "an answer is given up: its client does not read it");
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct DeliveredBody {
    taken: mpsc::Receiver<Piece>,
    patience: Duration,
    ended: bool,
    _making: AbortOnDropHandle<()>,
}

impl Body for DeliveredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let broken = match ready!(self.taken.poll_recv(cx)) {
            Some(Some(Ok(bytes))) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(None) => None,
            Some(Some(Err(status))) => Some(Broken::Failed(status)),
            None => Some(Broken::Unread(self.patience)),
        };
        self.ended = true;
        Poll::Ready(broken.map(|broken| Err(broken.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::oneshot;

    use super::*;

    /// Frames, of which the last may fail, and what tells that they were given up.
    fn frames(fails: bool) -> (impl Iterator<Item = Result<Bytes, Status>> + Send, oneshot::Receiver<()>) {
        let (held, dropped) = oneshot::channel::<()>();
        let mut all = vec![Ok("b".into()), Ok("c".into())];
        all.extend(fails.then(|| Err(Status::internal("damaged"))));
        let frames = all.into_iter().inspect(move |_| assert!(!held.is_closed()));
        (frames, dropped)
    }

    async fn read(mut body: DeliveredBody) -> (String, Option<String>) {
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(&String::from_utf8_lossy(&frame.into_data().expect("data"))),
                Err(error) => return (text, Some(error.to_string())),
            }
        }
        assert!(body.is_end_stream());
        (text, None)
    }

    #[tokio::test]
    async fn frames_come_in_order_and_to_an_end() {
        let delivery = || Delivery { patience: Duration::from_mins(1), turn: None };
        let (all, _held) = frames(false);
        assert_eq!(read(delivery().send("a".into(), all)).await, ("abc".into(), None));
        let (all, _held) = frames(true);
        let why = "the answer cannot be made to its end: Internal error occurred: damaged";
        assert_eq!(read(delivery().send("a".into(), all)).await, ("abc".into(), Some(why.into())));
    }

    #[tokio::test]
    async fn what_is_not_read_is_given_up() {
        let (all, dropped) = frames(false);
        let patience = Duration::from_millis(10);
        let body = Delivery { patience, turn: None }.send("a".into(), all);
        dropped.await.expect_err("it is let go of, not told");
        let why = "the answer was given up: it was not read for 10ms, or the server has failed at it";
        assert_eq!(read(body).await, ("a".into(), Some(why.into())));
    }

    #[tokio::test]
    async fn what_is_left_is_given_up_at_once() {
        let (all, dropped) = frames(false);
        let body = Delivery { patience: Duration::from_mins(1), turn: None }.send("a".into(), all);
        drop(body);
        dropped.await.expect_err("it is let go of, not told");
    }
}

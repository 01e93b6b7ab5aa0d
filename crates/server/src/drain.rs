//! The end of a server that others take the place of: first it is no longer ready, so that nobody new comes; meanwhile those
//! who watch are let go one after the other, so that they do not all come to the next server at once; then it stops.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use xebec_api::error::Details;
use xebec_api::{Reason, Status};

/// In how many parts those who watch go.
const WAVES: usize = 32;
/// When a client should come again, in seconds: by then another server is there.
const RETRY_AFTER: u32 = 5;

/// Those who watch, in parts of about the same size.
#[derive(Debug)]
pub(crate) struct Waves {
    ends: [CancellationToken; WAVES],
    next: AtomicUsize,
}

impl Waves {
    /// All end when `shutdown` is cancelled, at the latest.
    pub(crate) fn new(shutdown: &CancellationToken) -> Self {
        Self { ends: std::array::from_fn(|_| shutdown.child_token()), next: AtomicUsize::new(0) }
    }

    /// What ends the watch of somebody who comes now.
    pub(crate) fn join(&self) -> CancellationToken {
        self.ends[self.next.fetch_add(1, Ordering::Relaxed) % WAVES].clone()
    }

    /// Ends all watches, evenly over some time.
    pub(crate) async fn end_over(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let pause = time / u32::try_from(WAVES).unwrap_or(1);
        for end in &self.ends {
            tokio::time::sleep(pause).await;
            end.cancel();
        }
    }
}

/// 429: what came too late.
pub(crate) fn stops() -> Status {
    let text = "The apiserver is shutting down, please try again later.";
    let mut status = Status::new(Reason::TooManyRequests, text);
    status.details = Some(Box::new(Details { retry_after_seconds: Some(RETRY_AFTER), ..Details::default() }));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn watches_end_one_after_the_other() {
        let shutdown = CancellationToken::new();
        let waves = Waves::new(&shutdown);
        let watches: Vec<CancellationToken> = (0..WAVES * 3).map(|_| waves.join()).collect();
        let ended = || watches.iter().filter(|watch| watch.is_cancelled()).count();
        waves.end_over(Duration::ZERO).await;
        assert_eq!(ended(), 0, "they end with the server");
        let halfway = Duration::from_secs(16) + Duration::from_millis(1);
        tokio::select! {
            () = waves.end_over(Duration::from_secs(32)) => panic!("it takes its time"),
            () = tokio::time::sleep(halfway) => {}
        }
        assert_eq!(ended(), WAVES / 2 * 3);
        shutdown.cancel();
        assert_eq!(ended(), WAVES * 3);
    }
}

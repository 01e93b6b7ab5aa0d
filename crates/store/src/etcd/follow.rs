//! The one task that follows etcd.
//!
//! ```text
//!   watch ──events──▶ publish ──▶ watch …
//!     │ broken: the mirror stays as it is, the store is read only
//!     ▼
//!   pause ──▶ watch from the revision that was reached
//!                │ etcd has forgotten it
//!                ▼
//!              read everything anew; all watchers are told to do the same (410)
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::messages::{self, Range, RangeFound, WatchSaid, status_version};
use super::mirror::{Codec, Load, Mirror, RecordError};
use super::rpc::{Client, EtcdError, UNAVAILABLE, in_words};
use super::shared::{RANGE, READ, STATUS, Shared, WATCH};
use crate::{Revision, Snapshot};

/// How long it takes at first, and at most, until etcd is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How many records are read at once at first; halved when they are too large together.
const PAGE: u64 = 512;

/// From these versions on, what a watch says of its progress when it is asked never overtakes its events.
const TELLS_PROGRESS: [(u64, u64, u64); 2] = [(3, 4, 31), (3, 5, 13)];

/// Why everything could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Why a watch has ended.
enum End {
    Compacted,
    Lost(EtcdError),
}

/// Follows until the store is shut down.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut mirror = Mirror::new(shared.codec.clone(), shared.live.snapshot());
    let (first, longest) = PAUSES;
    let mut pause = first;
    loop {
        let before = mirror.wants();
        let ended = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            ended = watch(&shared, &mut mirror) => ended,
        };
        if mirror.wants() > before {
            pause = first;
        }
        mirror.interrupted(shared.live.snapshot());
        match ended {
            End::Lost(error) => {
                shared.client.leave();
                shared.is_lost(in_words(&error));
            }
            End::Compacted => match read(&shared.client, &shared.codec).await {
                Ok(snapshot) => {
                    tracing::warn!(revision = %snapshot.revision(), "etcd had forgotten what was missed: all is read anew");
                    shared.reset(snapshot.clone());
                    mirror.interrupted(snapshot);
                    continue;
                }
                Err(error) => shared.is_lost(in_words(&error)),
            },
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(longest);
    }
}

/// Takes what one watch tells.
async fn watch(shared: &Shared, mirror: &mut Mirror) -> End {
    match try_watch(shared, mirror).await {
        Ok(end) => end,
        Err(error) => End::Lost(error),
    }
}

async fn try_watch(shared: &Shared, mirror: &mut Mirror) -> Result<End, EtcdError> {
    let version = status_version(&shared.client.call(STATUS, &[], READ).await?)?;
    let names = &shared.codec.names;
    let create = messages::watch(&names.start, &names.end, mirror.wants());
    let (requests, mut answers) = shared.client.stream(WATCH, &create, READ).await?;
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer?,
            () = shared.ask.notified() => {
                requests.send(&messages::watch_progress());
                continue;
            }
        };
        let Some(answer) = answer else {
            return Err(EtcdError::Refused { code: UNAVAILABLE, message: "the watch has ended".into() });
        };
        let said = WatchSaid::decode(&answer)?;
        if said.canceled {
            return Ok(match said.compacted {
                Revision::ZERO => End::Lost(EtcdError::Refused { code: UNAVAILABLE, message: said.reason }),
                _ => End::Compacted,
            });
        }
        if said.created {
            shared.is_found(tells_progress(&version));
        }
        shared.publish(&mirror.take(&said));
    }
}

/// Reads everything, as it is at one revision.
pub(super) async fn read(client: &Client, codec: &Codec) -> Result<Snapshot, ReadError> {
    let mut load = Load::default();
    let (mut start, mut revision, mut limit) = (codec.names.start.clone(), Revision::ZERO, PAGE);
    loop {
        let range = Range { key: &start, end: &codec.names.end, limit, revision, ..Range::default() };
        let answer = match client.call(RANGE, &range.encode(), READ).await {
            Err(EtcdError::TooLarge { .. }) if limit > 1 => {
                limit /= 2;
                continue;
            }
            answer => answer?,
        };
        let page = RangeFound::decode(&answer).map_err(EtcdError::Wire)?;
        load.add(codec, &page.found)?;
        if revision == Revision::ZERO {
            revision = page.revision;
        }
        match page.found.last() {
            Some(last) if page.more => start = [last.key, &[0]].concat(),
            _ => return Ok(load.finish(revision)),
        }
    }
}

fn tells_progress(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u64>());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    let (major, minor, patch) = (next(), next(), next());
    let line = TELLS_PROGRESS.iter().find(|line| (line.0, line.1) == (major, minor));
    match line {
        Some((_, _, first)) => patch >= *first,
        None => TELLS_PROGRESS.iter().all(|line| (line.0, line.1) < (major, minor)),
    }
}

#[cfg(test)]
mod tests {
    use super::tells_progress;

    #[test]
    fn progress_is_believed_from_the_version_that_mends_it() {
        for (version, believed) in [
            ("3.4.23", false),
            ("3.4.31", true),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0", true),
            ("3.6.0-rc.1", true),
            ("4.0.0", true),
            ("3.3.99", false),
            ("", false),
        ] {
            assert_eq!(tells_progress(version), believed, "{version}");
        }
    }
}

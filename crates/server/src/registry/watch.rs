//! Watching: the changes of a collection as a stream of frames: one JSON event a line, or protobuf frames with their
//! length in front.
//!
//! ```text
//!   start ──▶ Initial ──(all present objects sent; bookmark if asked for)──▶ Live ──▶ end
//!   a watch from a revision starts in Live                                    │
//!     Live ends: deadline, shutdown, the client leaves, another row takes the place of the one that is watched, or the
//!     watcher is too slow (410)
//! ```
//!
//! An event is encoded once for all watchers that want the same of it ([`Wire`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use xebec_api::{Status, Value, json, object, protobuf};
use xebec_store::{Event, EventKind, Record, Revision, Scope, Watch, WatchError};

use super::conversion::{self, Ready};
use super::convert;
use super::facts::{self, Want};
use super::read::{self, check_fields, stale};
use super::table::Served;
use crate::core::Core;
use crate::http::accept::{Accept, Encoding, Form};
use crate::http::query::{At, ListOptions};
use crate::http::render;

/// About how many bytes one frame holds.
const FRAME: usize = 64 * 1024;
/// The longest watch.
const MAX_LIFETIME: Duration = Duration::from_hours(24);
/// Marks the bookmark after which all present objects have been sent (WatchList).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What the client sees happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The encodings of an event that watchers share: objects whole and their metadata, each as JSON and as protobuf, as
/// added, modified and deleted. Objects are in the version that the record holds.
#[derive(Debug, Default)]
struct Wire([[OnceLock<Bytes>; 3]; 4]);

impl Wire {
    /// The place of what is shared; tables have none, since the ages in them depend on the time.
    fn place(&self, accept: Accept, change: Change) -> Option<&OnceLock<Bytes>> {
        let row = match (accept.form, accept.encoding) {
            (Form::Whole, Encoding::Json | Encoding::Yaml) => 0,
            (Form::Whole, Encoding::Protobuf) => 1,
            (Form::Metadata, Encoding::Json | Encoding::Yaml) => 2,
            (Form::Metadata, Encoding::Protobuf) => 3,
            (Form::Table(_), _) => return None,
        };
        Some(&self.0[row][change as usize])
    }
}

/// A watch that is open.
pub struct Open {
    core: Arc<Core>,
    served: Served,
    want: Want,
    accept: Accept,
    /// The events; or why there are none, which clients expect to be told by an event.
    watch: Result<Watch, Status>,
    pending: VecDeque<Arc<Record>>,
    /// What of the next pending objects had to be converted.
    ready: Ready,
    initial: Initial,
    bookmarks: Option<Interval>,
    deadline: Instant,
    shutdown: CancellationToken,
    /// Counts the events that are sent.
    sent: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

/// What comes before live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initial {
    /// Nothing.
    None,
    /// The present objects.
    Objects,
    /// The present objects, then a bookmark at this revision.
    ObjectsAndBookmark(Revision),
}

/// How a watch is given, and what ends it.
pub struct How {
    /// The server.
    pub core: Arc<Core>,
    /// The form and encoding of the objects.
    pub accept: Accept,
    /// Ends the watch.
    pub shutdown: CancellationToken,
    /// Its place among the watches that may be open.
    pub permit: OwnedSemaphorePermit,
    /// Counts the events that are sent.
    pub sent: Arc<AtomicU64>,
}

/// Opens a watch on a namespace's objects, or with an empty namespace on all.
///
/// That the revision to start after is gone is no error here: as upstream, the watch begins, says so (410) and ends.
///
/// # Errors
/// 400 for field selectors that the resource does not offer; 503 when the newest state is wanted and cannot be had.
pub async fn open(served: Served, namespace: &str, options: &ListOptions, how: How) -> Result<Open, Status> {
    let How { core, accept, shutdown, permit, sent } = how;
    let want = Want { labels: options.labels.clone(), fields: options.fields.clone() };
    check_fields(&served, &want)?;
    let scope = scope(&served, namespace, &want)?;
    let snapshot = match (options.initial_events, options.at) {
        (Some(true) | None, At::Newest) => core.newest().await?,
        (Some(true), At::NotOlderThan(version)) => read::reaching(&core, version).await?,
        _ => core.store.snapshot(),
    };
    let (initial, after) = match (options.initial_events, options.at) {
        (Some(true), _) => (Initial::ObjectsAndBookmark(snapshot.revision()), snapshot.revision()),
        (_, At::NotOlderThan(version) | At::Exact(version)) => (Initial::None, Revision::new(version)),
        // A watch from no version in particular begins with what is there, unless the client wants no such events.
        (Some(false), _) => (Initial::None, snapshot.revision()),
        (None, At::Newest | At::Any) => (Initial::Objects, snapshot.revision()),
    };
    let watch = core.store.watch(scope, after).map_err(|e| stale(&e));
    let pending = if initial == Initial::None || watch.is_err() {
        VecDeque::new()
    } else {
        let prefix = served.row.prefix(namespace)?;
        // What has to be converted first is looked at when it is.
        let row = &served.row;
        let later = row.converter.is_some() && want.looks_inside();
        snapshot.range(&prefix, None).filter(|r| later || want.matches(r, row)).cloned().collect()
    };
    let bookmarks = options.bookmarks.then(|| {
        let period = core.settings.bookmark_interval;
        let mut interval = tokio::time::interval_at(Instant::now() + period, period);
        // A client that was away for long wants one bookmark, not all that it has missed.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    let deadline = Instant::now() + lifetime(&core, options)?;
    Ok(Open {
        core,
        served,
        want,
        accept,
        watch,
        pending,
        ready: Ready::default(),
        initial,
        bookmarks,
        deadline,
        shutdown,
        sent,
        _permit: permit,
    })
}

/// One object when the selector names one, else the collection.
fn scope(served: &Served, namespace: &str, want: &Want) -> Result<Scope, Status> {
    let row = &served.row;
    let namespace =
        if namespace.is_empty() { want.fields.exact("metadata.namespace").unwrap_or("") } else { namespace };
    match want.fields.exact("metadata.name") {
        Some(name) if !row.def.is_namespaced() || !namespace.is_empty() => {
            Ok(Scope::Key(row.key(namespace, name)?))
        }
        _ => Ok(Scope::Prefix(row.prefix(namespace)?)),
    }
}

/// How long the watch lasts: as the client says, at most [`MAX_LIFETIME`], else a random time so that not all clients come back at once.
fn lifetime(core: &Core, options: &ListOptions) -> Result<Duration, Status> {
    if let Some(seconds) = options.timeout_seconds.filter(|seconds| *seconds != 0) {
        let wanted = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        return Ok(wanted.min(MAX_LIFETIME));
    }
    let [random] = core.random()?;
    let base = core.settings.watch_timeout;
    Ok(base + base * u32::from(random) / 256)
}

impl Open {
    /// The frames of the watch.
    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        futures::stream::unfold(Some(self), |open| async {
            let mut open = open?;
            let frame = open.next_frame().await;
            match frame {
                Next::Frame(bytes) => Some((bytes, Some(open))),
                Next::Last(bytes) => Some((bytes, None)),
                Next::End => None,
            }
        })
    }

    async fn next_frame(&mut self) -> Next {
        if let Err(status) = &self.watch {
            return Next::Last(self.error(status));
        }
        loop {
            // Asked before anything else, without the cost of waiting for it: a busy watch never waits.
            if self.is_over() {
                return Next::End;
            }
            match self.convert_pending().await {
                Ok(true) => {}
                Ok(false) => return Next::End,
                Err(status) => return Next::Last(self.error(&status)),
            }
            match self.initial_frame() {
                Ok(Some(frame)) => return Next::Frame(frame),
                Ok(None) => {}
                Err(status) => return Next::Last(self.error(&status)),
            }
            if !self.pending.is_empty() {
                continue;
            }
            let Ok(watch) = &mut self.watch else { return Next::End };
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(interval) => interval.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // A bookmark says how far events have been delivered, so that it may overtake others.
                _ = bookmark => {
                    let revision = watch.progress();
                    return Next::Frame(self.bookmark(revision, false));
                }
                batch = watch.next() => match batch {
                    Ok(batch) => match self.batch_frame(&batch.events).await {
                        Ok(Some(frame)) => return Next::Frame(frame),
                        Ok(None) => {}
                        Err(status) => return Next::Last(self.error(&status)),
                    },
                    Err(WatchError::Closed) => return Next::End,
                    Err(error) => return Next::Last(self.error(&Status::expired(error.to_string()))),
                },
                () = self.shutdown.cancelled() => {}
                () = self.served.row.replaced.cancelled() => {}
                () = tokio::time::sleep_until(self.deadline) => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        let cancelled = self.shutdown.is_cancelled() || self.served.row.replaced.is_cancelled();
        cancelled || self.deadline <= Instant::now()
    }

    /// Has the next pending objects converted, if they are to be; whether the watch goes on.
    async fn convert_pending(&mut self) -> Result<bool, Status> {
        let Some(next) = self.pending.front() else { return Ok(true) };
        let is_due = self.served.row.converter.is_some() && !self.served.speaks(next);
        if !is_due || self.ready.get(next).is_some() {
            return Ok(true);
        }
        let mut bytes = 0;
        let fits = |record: &&Arc<Record>| {
            bytes += record.as_slice().len();
            bytes <= conversion::BATCH
        };
        let some = self.pending.iter().skip(1).take_while(fits);
        let ready = self.convert(self.pending.iter().take(1).chain(some)).await?;
        Ok(ready.map(|ready| self.ready = ready).is_some())
    }

    /// Has objects converted; `None`: the watch is over before they are.
    async fn convert<'a>(
        &self,
        records: impl Iterator<Item = &'a Arc<Record>>,
    ) -> Result<Option<Ready>, Status> {
        if self.served.row.converter.is_none() {
            return Ok(Some(Ready::default()));
        }
        let records: Vec<&Record> = records.map(Arc::as_ref).collect();
        tokio::select! {
            ready = Ready::of(&self.core, &self.served, records) => ready.map(Some),
            () = self.shutdown.cancelled() => Ok(None),
            () = self.served.row.replaced.cancelled() => Ok(None),
            () = tokio::time::sleep_until(self.deadline) => Ok(None),
        }
    }

    /// The next frame of what comes before live events, as far as it is converted.
    fn initial_frame(&mut self) -> Result<Option<Bytes>, Status> {
        let mut out = BytesMut::new();
        let converts = self.served.row.converter.is_some();
        while out.len() < FRAME {
            let Some(record) = self.pending.pop_front() else { break };
            if converts {
                if !self.served.speaks(&record) && self.ready.get(&record).is_none() {
                    self.pending.push_front(record);
                    break;
                }
                if !self.want.matches_in(&record, &self.served, &self.ready)? {
                    continue;
                }
            }
            out.extend_from_slice(&self.record_event(Change::Added, &record, &self.ready));
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        if self.pending.is_empty() {
            self.pending.shrink_to_fit();
            self.ready = Ready::default();
            if let Initial::ObjectsAndBookmark(revision) = std::mem::replace(&mut self.initial, Initial::None)
            {
                out.extend_from_slice(&self.bookmark(revision, true));
            }
        }
        Ok((!out.is_empty()).then(|| out.freeze()))
    }

    /// The frame of some events; `None`: there is nothing in them for this client, or the watch is over.
    async fn batch_frame(&self, events: &[Arc<Event>]) -> Result<Option<Bytes>, Status> {
        let inside = self.want.looks_inside();
        let records = events.iter().flat_map(|event| {
            let previous = event.previous().filter(|_| inside);
            [Some(event.record()), previous].into_iter().flatten()
        });
        let Some(ready) = self.convert(records).await? else { return Ok(None) };
        let mut out = BytesMut::new();
        for event in events {
            self.write_event(event, &ready, &mut out)?;
        }
        Ok((!out.is_empty()).then(|| out.freeze()))
    }

    fn write_event(&self, event: &Event, ready: &Ready, out: &mut BytesMut) -> Result<(), Status> {
        let wanted = |record: &Record| self.want.matches_in(record, &self.served, ready);
        let now = event.kind() != EventKind::Deleted && wanted(event.record())?;
        let before = event.previous().map(|record| wanted(record)).transpose()? == Some(true);
        let change = match (before, now) {
            (false, false) => return Ok(()),
            (false, true) => Change::Added,
            (true, true) => Change::Modified,
            (true, false) => Change::Deleted,
        };
        self.sent.fetch_add(1, Ordering::Relaxed);
        if change == Change::Deleted && event.kind() != EventKind::Deleted {
            out.extend_from_slice(&self.departure(event, ready));
            return Ok(());
        }
        let wire: &Wire = event.memo(|_| Wire::default());
        match wire.place(self.accept, change).filter(|_| self.served.holds(event.record())) {
            Some(shared) => {
                out.extend_from_slice(
                    shared.get_or_init(|| self.record_event(change, event.record(), ready)),
                );
            }
            None => out.extend_from_slice(&self.record_event(change, event.record(), ready)),
        }
        Ok(())
    }

    /// An object that no longer matches is gone for this client: as it was, at the revision of the change.
    fn departure(&self, event: &Event, ready: &Ready) -> Bytes {
        let Some(previous) = event.previous() else { return Bytes::new() };
        let revision = event.revision().to_string();
        let object = convert::object_of(previous, &self.served, ready).map(|mut object| {
            object.set(&["metadata", "resourceVersion"], revision);
            object
        });
        self.object_event(Change::Deleted, object)
    }

    fn record_event(&self, change: Change, record: &Record, ready: &Ready) -> Bytes {
        let stored = self.served.holds(record);
        let Accept { form, encoding, .. } = self.accept;
        if let (Form::Whole, Encoding::Json | Encoding::Yaml, Some(bytes)) =
            (form, encoding, ready.get(record))
        {
            return line(change.as_str(), bytes);
        }
        match (form, encoding) {
            (Form::Whole, Encoding::Json | Encoding::Yaml) if stored => {
                line(change.as_str(), record.as_slice())
            }
            (Form::Whole, Encoding::Protobuf) if stored => match facts::message(record, &self.served) {
                Ok(message) => {
                    let (api_version, kind) = (self.served.api_version(), self.served.row.kind_name());
                    protobuf::frame(change.as_str(), &protobuf::seal(&api_version, kind, &message)).into()
                }
                Err(status) => self.error(&status),
            },
            _ => self.object_event(change, convert::object_of(record, &self.served, ready)),
        }
    }

    fn object_event(&self, change: Change, object: Result<Value, Status>) -> Bytes {
        match object.and_then(|o| render::object(o, self.accept.form, &self.served)) {
            Ok(object) => self.encode(change.as_str(), &object),
            Err(status) => self.error(&status),
        }
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = object!({"resourceVersion": (revision.to_string())});
        if initial_end {
            metadata.set(&["annotations", INITIAL_EVENTS_END], "true");
        }
        let object = object!({
            "apiVersion": (self.served.api_version()),
            "kind": (self.served.row.kind_name()),
            "metadata": (metadata)
        });
        self.encode("BOOKMARK", &render::bookmark(object, self.accept.form))
    }

    fn error(&self, status: &Status) -> Bytes {
        self.encode("ERROR", &status.to_value())
    }

    fn encode(&self, change: &str, object: &Value) -> Bytes {
        match self.accept.encoding {
            Encoding::Json | Encoding::Yaml => line(change, &json::to_vec(object)),
            Encoding::Protobuf => {
                let message = protobuf::encode_object(object);
                let message = message.expect("what has no protobuf form is not watched as protobuf");
                protobuf::frame(change, &message).into()
            }
        }
    }
}

enum Next {
    Frame(Bytes),
    Last(Bytes),
    End,
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + kind.len() + 24);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","object":"#);
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use xebec_store::Txn;

    use super::*;
    use crate::registry::write;
    use crate::server::tests::server;

    /// What the next frame of a watch for which there are events is, when something else is due.
    async fn check(what: &str, due: impl FnOnce(&mut Open), want: &str) {
        let (server, _dir) = server();
        let core = server.core();
        let served = core.table.get().served("", "v1", "configmaps").expect("built in");
        let since = core.store.snapshot().revision();
        for name in ["a", "b"] {
            let mut map = object!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}
            });
            let key = served.row.key("a", name).expect("a key");
            core.store.commit(Txn::default().put(key, write::stored(&mut map))).await.expect("committed");
        }
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one");
        let how = How {
            core: core.clone(),
            accept: Accept::default(),
            shutdown: CancellationToken::new(),
            permit,
            sent: Arc::default(),
        };
        let options = ListOptions { at: At::NotOlderThan(since.get()), ..ListOptions::default() };
        let mut open = open(served, "a", &options, how).await.expect("open");
        due(&mut open);
        let found = match open.next_frame().await {
            Next::Frame(bytes) | Next::Last(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Next::End => "the end".into(),
        };
        assert!(found.starts_with(want), "{what}: {found}");
    }

    #[tokio::test]
    async fn a_busy_watch_ends_too() {
        check("nothing", |_| {}, r#"{"type":"ADDED","#).await;
        check("the server stops", |open| open.shutdown.cancel(), "the end").await;
        check("its row is replaced", |open| open.served.row.replaced.cancel(), "the end").await;
        check("its time is over", |open| open.deadline = Instant::now(), "the end").await;
        let bookmark = |open: &mut Open| {
            let before = Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine runs longer");
            open.bookmarks = Some(tokio::time::interval_at(before, Duration::from_hours(1)));
        };
        check("a bookmark is due", bookmark, r#"{"type":"BOOKMARK","#).await;
    }
}

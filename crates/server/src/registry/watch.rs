//! Watching: the changes of a collection as a stream of frames, one JSON event a line.
//!
//! ```text
//!   start ──▶ Initial ──(all present objects sent; bookmark if asked for)──▶ Live ──▶ end
//!   a watch from a revision starts in Live                                    │
//!     Live ends: deadline, shutdown, the client leaves, or the watcher is too slow (410)
//! ```
//!
//! An event's usual encoding is made once and shared by all watchers ([`Wire`]).

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use xebec_api::{Status, Value, json, object};
use xebec_store::{Event, EventKind, Record, Revision, Scope, Watch, WatchError};

use super::convert;
use super::facts::Want;
use super::read::{check_fields, stale};
use super::table::Served;
use crate::core::Core;
use crate::http::accept::Form;
use crate::http::query::{At, ListOptions};
use crate::http::render;

/// About how many bytes one frame holds.
const FRAME: usize = 64 * 1024;
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

/// The encodings of an event that all watchers share.
#[derive(Debug, Default)]
struct Wire([OnceLock<Bytes>; 3]);

/// A watch that is open.
pub struct Open {
    served: Served,
    want: Want,
    form: Form,
    watch: Watch,
    pending: VecDeque<Arc<Record>>,
    initial: Initial,
    bookmarks: Option<Interval>,
    deadline: Instant,
    shutdown: CancellationToken,
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
    /// The form of the objects.
    pub form: Form,
    /// Ends the watch.
    pub shutdown: CancellationToken,
    /// Its place among the watches that may be open.
    pub permit: OwnedSemaphorePermit,
}

/// Opens a watch on a namespace's objects, or with an empty namespace on all.
///
/// # Errors
/// 410 when the revision to start after is gone; 400 for field selectors that the resource does not offer.
pub fn open(
    core: &Core,
    served: Served,
    namespace: &str,
    options: &ListOptions,
    how: How,
) -> Result<Open, Status> {
    let How { form, shutdown, permit } = how;
    let want = Want { labels: options.labels.clone(), fields: options.fields.clone() };
    check_fields(&served.row, &want)?;
    let scope = scope(&served, namespace, &want)?;
    let snapshot = core.store.snapshot();
    let (initial, after) = match (options.initial_events, options.at) {
        (Some(true), _) => (Initial::ObjectsAndBookmark(snapshot.revision()), snapshot.revision()),
        (_, At::NotOlderThan(version) | At::Exact(version)) => (Initial::None, Revision::new(version)),
        // A watch from no version in particular begins with what is there, unless the client wants no such events.
        (Some(false), _) => (Initial::None, snapshot.revision()),
        (None, At::Newest | At::Any) => (Initial::Objects, snapshot.revision()),
    };
    let watch = core.store.watch(scope, after).map_err(|e| stale(&e))?;
    let pending = if initial == Initial::None {
        VecDeque::new()
    } else {
        let prefix = served.row.prefix(namespace)?;
        snapshot.range(&prefix, None).filter(|r| want.matches(r, &served.row)).cloned().collect()
    };
    let bookmarks = options.bookmarks.then(|| {
        let period = core.settings.bookmark_interval;
        tokio::time::interval_at(Instant::now() + period, period)
    });
    let deadline = Instant::now() + lifetime(core, options)?;
    Ok(Open { served, want, form, watch, pending, initial, bookmarks, deadline, shutdown, _permit: permit })
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

/// How long the watch lasts: as the client says, else a random time so that not all clients come back at once.
fn lifetime(core: &Core, options: &ListOptions) -> Result<Duration, Status> {
    if let Some(seconds) = options.timeout_seconds {
        return Ok(Duration::from_secs(seconds));
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
        if let Some(frame) = self.initial_frame() {
            return Next::Frame(frame);
        }
        loop {
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(interval) => interval.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Next::End,
                batch = self.watch.next() => match batch {
                    Ok(batch) => {
                        let mut out = BytesMut::new();
                        batch.events.iter().for_each(|event| self.write_event(event, &mut out));
                        if !out.is_empty() {
                            return Next::Frame(out.freeze());
                        }
                    }
                    Err(WatchError::Closed) => return Next::End,
                    Err(error) => return Next::Last(error_event(&Status::expired(error.to_string()))),
                },
                _ = bookmark => {
                    let revision = self.watch.progress();
                    return Next::Frame(self.bookmark(revision, false));
                }
                () = tokio::time::sleep_until(self.deadline) => return Next::End,
            }
        }
    }

    /// The next frame of what comes before live events.
    fn initial_frame(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.len() < FRAME {
            let Some(record) = self.pending.pop_front() else { break };
            self.write_record(Change::Added, &record, &mut out);
        }
        if self.pending.is_empty() {
            self.pending.shrink_to_fit();
            if let Initial::ObjectsAndBookmark(revision) = std::mem::replace(&mut self.initial, Initial::None)
            {
                out.extend_from_slice(&self.bookmark(revision, true));
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    fn write_event(&self, event: &Event, out: &mut BytesMut) {
        let row = &self.served.row;
        let now = event.kind() != EventKind::Deleted && self.want.matches(event.record(), row);
        let before = event.previous().is_some_and(|record| self.want.matches(record, row));
        let change = match (before, now) {
            (false, false) => return,
            (false, true) => Change::Added,
            (true, true) => Change::Modified,
            (true, false) => Change::Deleted,
        };
        if change == Change::Deleted && event.kind() != EventKind::Deleted {
            self.write_departure(event, out);
        } else if self.form == Form::Whole && self.served.is_stored() {
            let wire: &Wire = event.memo(|_| Wire::default());
            out.extend_from_slice(
                wire.0[change as usize].get_or_init(|| encode(change, event.record().as_slice())),
            );
        } else {
            self.write_record(change, event.record(), out);
        }
    }

    /// An object that no longer matches is gone for this client: as it was, at the revision of the change.
    fn write_departure(&self, event: &Event, out: &mut BytesMut) {
        let Some(previous) = event.previous() else { return };
        let revision = event.revision().to_string();
        let object = convert::object(previous, &self.served).and_then(|mut object| {
            object.set(&["metadata", "resourceVersion"], revision);
            render::object(object, self.form, &self.served)
        });
        write_result(Change::Deleted, object, out);
    }

    fn write_record(&self, change: Change, record: &Record, out: &mut BytesMut) {
        if self.form == Form::Whole && self.served.is_stored() {
            out.extend_from_slice(&encode(change, record.as_slice()));
            return;
        }
        let object = convert::object(record, &self.served);
        write_result(change, object.and_then(|o| render::object(o, self.form, &self.served)), out);
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = object!({"resourceVersion": (revision.to_string())});
        if initial_end {
            metadata.set(&["annotations", INITIAL_EVENTS_END], "true");
        }
        let mut object = object!({
            "apiVersion": (self.served.api_version()),
            "kind": (self.served.row.kind_name()),
            "metadata": (metadata)
        });
        if self.form != Form::Whole {
            object = render::bookmark(object, self.form);
        }
        line("BOOKMARK", &json::to_vec(&object))
    }
}

enum Next {
    Frame(Bytes),
    Last(Bytes),
    End,
}

fn write_result(change: Change, object: Result<Value, Status>, out: &mut BytesMut) {
    match object {
        Ok(object) => out.extend_from_slice(&line(change.as_str(), &json::to_vec(&object))),
        Err(status) => out.extend_from_slice(&error_event(&status)),
    }
}

fn encode(change: Change, object: &[u8]) -> Bytes {
    line(change.as_str(), object)
}

fn error_event(status: &Status) -> Bytes {
    line("ERROR", &json::to_vec(&status.to_value()))
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

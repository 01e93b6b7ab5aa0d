//! The event recorder: `events.k8s.io/v1`, aggregated and bounded.
//!
//! [`Recorder::publish`] never waits. Behind it one task writes:
//!
//! - a note that repeats within [`SERIES_WINDOW`] raises the count of the event that is there;
//! - after [`SIMILAR_LIMIT`] different notes with one reason on one object, further ones share one event;
//! - each object has a budget of [`BURST`] writes per controller, refilled by one every [`REFILL`].
//!
//! Caveat: events are told, not promised. What does not fit is dropped and counted in the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tracing::{debug, warn};

use super::clock::{SharedClock, after, api_micro_time};
use super::error::ApiError;
use super::object::ObjectKey;
use super::runner::{Stop, stopped};
use super::writer::{Part, Requests, to_value};

/// How long after its last occurrence a note still counts as the same event.
pub const SERIES_WINDOW: Duration = Duration::from_secs(600);
/// How many different notes of one reason on one object get events of their own.
pub const SIMILAR_LIMIT: usize = 10;
/// How many event writes an object may cause at once.
pub const BURST: u32 = 25;
/// How long until an object may cause one more.
pub const REFILL: Duration = Duration::from_secs(300);
/// How many notes may wait to be written.
const QUEUE_LIMIT: usize = 1024;
/// How many series and budgets are remembered; the longest unused go first.
const MEMORY_LIMIT: usize = 1024;
/// How many events are written at a time.
const PARALLEL: usize = 16;
/// How long events may still be written when the process stops.
const EVENT_DRAIN_DEADLINE: Duration = Duration::from_millis(500);
/// The API's limit on a note.
const NOTE_LIMIT: usize = 1024;
/// The API's limit on an object name.
const NAME_LIMIT: usize = 253;
/// What an event adds to the name of its object: a dot and a stamp.
const STAMP_LEN: usize = 17;
/// Stands for the name of an object whose name no event can have.
const UNNAMED: &str = "object";

/// What happened to an object.
#[derive(Debug, Clone)]
pub struct Note {
    /// The object.
    pub regarding: ObjectReference,
    /// Whether it is as wanted.
    pub severity: Severity,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// What the controller did or tried, in CamelCase.
    pub action: &'static str,
    /// For people.
    pub text: String,
}

/// The `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// As wanted.
    Normal,
    /// Not as wanted.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Takes notes for one controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    controller: &'static str,
    notes: mpsc::Sender<(&'static str, Note)>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A recorder and the writer behind it, which must be run.
    pub fn new(requests: Requests, clock: SharedClock, instance: String) -> (Self, EventWriter) {
        let (notes, incoming) = mpsc::channel(QUEUE_LIMIT);
        let dropped = Arc::new(AtomicU64::new(0));
        let recorder = Self { controller: "xebec", notes, dropped: Arc::clone(&dropped) };
        let aggregator = Aggregator { instance, ..Aggregator::default() };
        (recorder, EventWriter { incoming, requests, clock, aggregator, dropped })
    }

    /// The same recorder in the name of `controller`.
    pub fn of(&self, controller: &'static str) -> Self {
        Self { controller, ..self.clone() }
    }

    /// Takes a note. Drops it when too many wait.
    pub fn publish(&self, note: Note) {
        match self.notes.try_send((self.controller, note)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Closed((controller, note))) => {
                debug!(controller, note.reason, note.text, "event lost: the writer has ended");
            }
        }
    }
}

/// Writes what the recorders of a process note down.
#[derive(Debug)]
pub struct EventWriter {
    incoming: mpsc::Receiver<(&'static str, Note)>,
    requests: Requests,
    clock: SharedClock,
    aggregator: Aggregator,
    dropped: Arc<AtomicU64>,
}

impl EventWriter {
    /// Writes until `stop`, and then what still waits, as far as it gets in time.
    pub async fn run(mut self, mut stop: Stop) {
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                note = self.incoming.recv() => match note {
                    Some(note) => self.write_with(note).await,
                    None => return,
                },
            }
        }
        let drain = async {
            while let Ok(note) = self.incoming.try_recv() {
                self.write_with(note).await;
            }
        };
        if tokio::time::timeout(EVENT_DRAIN_DEADLINE, drain).await.is_err() {
            debug!(left = self.incoming.len(), "events cut off at shutdown");
        }
    }

    /// Writes `first` and what waits behind it, several at a time.
    async fn write_with(&mut self, first: (&'static str, Note)) {
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, limit = QUEUE_LIMIT, "events dropped: too many were waiting");
        }
        let now = self.clock.now();
        // By the name of the event: what comes later in a batch stands for what came before.
        let mut batch: BTreeMap<ObjectKey, Verdict> = BTreeMap::new();
        let mut next = Some(first);
        while let Some((controller, note)) = next {
            match self.aggregator.take(controller, note, now) {
                Verdict::Create(event) => {
                    batch.insert(ObjectKey::of(&event.metadata), Verdict::Create(event));
                }
                Verdict::Repeat { key, .. } if matches!(batch.get(&key), Some(Verdict::Create(_))) => {
                    // It is counted; the next repetition writes the count.
                }
                Verdict::Repeat { key, count, event } => {
                    batch.insert(key.clone(), Verdict::Repeat { key, count, event });
                }
                Verdict::OverBudget => {}
            }
            next = if batch.len() < PARALLEL { self.incoming.try_recv().ok() } else { None };
        }
        let (requests, verdicts) = (&self.requests, batch.into_values());
        join_all(verdicts.map(|verdict| write(requests, verdict, now))).await;
    }
}

async fn write(requests: &Requests, verdict: Verdict, now: Timestamp) {
    let written = match verdict {
        Verdict::Create(event) => requests.create(&*event).await.map(drop),
        Verdict::Repeat { key, count, event } => repeat(requests, &key, count, now, &event).await,
        Verdict::OverBudget => Ok(()),
    };
    match written {
        Ok(()) => {}
        Err(error) if error.is_namespace_terminating() => debug!(%error, "event lost with its namespace"),
        Err(error) => warn!(%error, "event lost"),
    }
}

async fn repeat(
    requests: &Requests,
    key: &ObjectKey,
    count: i32,
    now: Timestamp,
    event: &Event,
) -> Result<(), ApiError> {
    let series = EventSeries { count, last_observed_time: api_micro_time(now) };
    let body = json!({ "series": to_value(&series) });
    match requests.merge::<Event>(key, Part::Main, &body).await {
        // The event has expired on the server.
        Err(error) if error.is_not_found() => requests.create(event).await.map(drop),
        other => other.map(drop),
    }
}

/// Decides what becomes of a note. Pure.
#[derive(Debug, Default)]
struct Aggregator {
    instance: String,
    series: BTreeMap<SeriesId, Series>,
    budgets: HashMap<(String, &'static str), Budget>,
    made: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SeriesId {
    about: About,
    /// `None` for the event that further notes share.
    text: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    object: String,
    controller: &'static str,
    reason: &'static str,
    severity: Severity,
}

#[derive(Debug)]
struct Series {
    key: ObjectKey,
    count: i32,
    last: Timestamp,
}

#[derive(Debug)]
struct Budget {
    left: u32,
    refilled: Timestamp,
}

#[derive(Debug)]
enum Verdict {
    Create(Box<Event>),
    /// `event` is what to create should the one under `key` be gone.
    Repeat {
        key: ObjectKey,
        count: i32,
        event: Box<Event>,
    },
    OverBudget,
}

impl Aggregator {
    fn take(&mut self, controller: &'static str, note: Note, now: Timestamp) -> Verdict {
        self.forget(now);
        let object = object_identity(&note.regarding);
        if !self.spend(&object, controller, now) {
            return Verdict::OverBudget;
        }
        let about = About { object, controller, reason: note.reason, severity: note.severity };
        let (id, text) = self.assign(about, &note.text);
        let mut event = self.event(controller, note, text, now);
        match self.series.get_mut(&id) {
            Some(series) => {
                series.count = series.count.saturating_add(1);
                series.last = now;
                let (key, count) = (series.key.clone(), series.count);
                event.metadata.name = Some(key.name().to_owned());
                Verdict::Repeat { key, count, event: Box::new(event) }
            }
            None => {
                let key = ObjectKey::of(&event.metadata);
                self.series.insert(id, Series { key, count: 1, last: now });
                Verdict::Create(Box::new(event))
            }
        }
    }

    /// Which series a note belongs to, and the text of its event.
    fn assign(&self, about: About, text: &str) -> (SeriesId, String) {
        let own = SeriesId { about, text: Some(text.to_owned()) };
        let first = SeriesId { about: own.about.clone(), text: None };
        let similar = self.series.range(first.clone()..).take_while(|(id, _)| id.about == own.about).count();
        if self.series.contains_key(&own) || similar < SIMILAR_LIMIT {
            return (own, text.to_owned());
        }
        (first, format!("(combined from similar events): {text}"))
    }

    fn event(&mut self, controller: &str, note: Note, text: String, now: Timestamp) -> Event {
        self.made += 1;
        let namespace = note.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let stamp = u64::try_from(now.as_nanosecond()).unwrap_or(0).wrapping_add(self.made);
        let name = event_prefix(note.regarding.name.as_deref().unwrap_or_default());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{stamp:016x}")),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            event_time: Some(api_micro_time(now)),
            reporting_controller: Some(controller.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            action: Some(note.action.to_owned()),
            reason: Some(note.reason.to_owned()),
            regarding: Some(note.regarding),
            note: Some(shorten(text)),
            type_: Some(note.severity.as_str().to_owned()),
            ..Event::default()
        }
    }

    fn spend(&mut self, object: &str, controller: &'static str, now: Timestamp) -> bool {
        let budget = self
            .budgets
            .entry((object.to_owned(), controller))
            .or_insert(Budget { left: BURST, refilled: now });
        while budget.left < BURST && after(budget.refilled, REFILL) <= now {
            budget.left += 1;
            budget.refilled = after(budget.refilled, REFILL);
        }
        if budget.left == BURST {
            budget.refilled = now;
        }
        let allowed = budget.left > 0;
        budget.left = budget.left.saturating_sub(1);
        allowed
    }

    fn forget(&mut self, now: Timestamp) {
        self.series.retain(|_, series| after(series.last, SERIES_WINDOW) > now);
        if self.series.len() >= MEMORY_LIMIT {
            let oldest = self.series.iter().min_by_key(|(_, series)| series.last).map(|(id, _)| id.clone());
            if let Some(id) = oldest {
                self.series.remove(&id);
            }
        }
        if self.budgets.len() >= MEMORY_LIMIT {
            let full_again = |budget: &Budget| after(budget.refilled, REFILL * (BURST - budget.left)) <= now;
            self.budgets.retain(|_, budget| !full_again(budget));
        }
        if self.budgets.len() >= MEMORY_LIMIT {
            // Who is noisiest loses nothing by this but a little history.
            self.budgets.clear();
        }
    }
}

fn object_identity(regarding: &ObjectReference) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let (kind, namespace) = (part(&regarding.kind), part(&regarding.namespace));
    format!("{kind}/{namespace}/{}/{}", part(&regarding.name), part(&regarding.uid))
}

/// What the name of an event about the object `name` begins with. An event is named as a DNS subdomain; a Role, say, may
/// have nearly any name.
fn event_prefix(name: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(is_plain)
            && label.ends_with(is_plain)
            && label.chars().all(|c| is_plain(c) || c == '-')
    };
    if !name.split('.').all(is_label) {
        return UNNAMED;
    }
    name[..name.floor_char_boundary(NAME_LIMIT - STAMP_LEN)].trim_end_matches(['.', '-'])
}

fn shorten(mut text: String) -> String {
    if text.len() > NOTE_LIMIT {
        text.truncate(text.floor_char_boundary(NOTE_LIMIT - 3));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(object: &str, text: &str) -> Note {
        let regarding = ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(object.to_owned()),
            namespace: Some("ns".to_owned()),
            ..ObjectReference::default()
        };
        Note {
            regarding,
            severity: Severity::Normal,
            reason: "Created",
            action: "Create",
            text: text.to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn verdict(aggregator: &mut Aggregator, object: &str, text: &str, second: i64) -> String {
        match aggregator.take("test", note(object, text), at(second)) {
            Verdict::Create(event) => format!("create {}", event.note.unwrap()),
            Verdict::Repeat { count, .. } => format!("repeat {count}"),
            Verdict::OverBudget => "dropped".to_owned(),
        }
    }

    #[test]
    fn repeats_count_within_the_window() {
        let mut aggregator = Aggregator::default();
        let mut check = |object, text, second, expected: &str| {
            assert_eq!(
                verdict(&mut aggregator, object, text, second),
                expected,
                "{object} {text} at {second}"
            );
        };
        check("a", "x", 0, "create x");
        check("a", "x", 5, "repeat 2");
        check("a", "y", 6, "create y");
        check("b", "x", 7, "create x");
        check("a", "x", 604, "repeat 3");
        check("a", "x", 1_300, "create x");
    }

    #[test]
    fn many_different_notes_share_an_event() {
        let mut aggregator = Aggregator::default();
        for n in 0..SIMILAR_LIMIT {
            assert_eq!(verdict(&mut aggregator, "a", &format!("n{n}"), 0), format!("create n{n}"));
        }
        assert_eq!(verdict(&mut aggregator, "a", "more", 0), "create (combined from similar events): more");
        assert_eq!(verdict(&mut aggregator, "a", "still more", 0), "repeat 2");
        assert_eq!(verdict(&mut aggregator, "a", "n3", 0), "repeat 2", "a known note keeps its event");
    }

    #[test]
    fn an_object_has_a_budget() {
        let mut aggregator = Aggregator::default();
        for _ in 0..BURST {
            assert_ne!(verdict(&mut aggregator, "a", "x", 0), "dropped");
        }
        assert_eq!(verdict(&mut aggregator, "a", "x", 1), "dropped");
        assert_eq!(verdict(&mut aggregator, "b", "x", 1), "create x", "others are not touched");
        assert_eq!(verdict(&mut aggregator, "a", "x", 300), "repeat 26");
        assert_eq!(verdict(&mut aggregator, "a", "x", 301), "dropped");
    }

    #[test]
    fn memory_and_notes_are_bounded() {
        let mut aggregator = Aggregator::default();
        for n in 0..3 * MEMORY_LIMIT {
            verdict(&mut aggregator, &format!("object-{n}"), "x", 0);
        }
        assert!(aggregator.series.len() <= MEMORY_LIMIT && aggregator.budgets.len() <= MEMORY_LIMIT);
        let long = shorten("é".repeat(NOTE_LIMIT));
        assert!(long.len() <= NOTE_LIMIT && long.ends_with("..."));
    }

    #[test]
    fn names_are_unique_and_short_enough() {
        let mut aggregator = Aggregator::default();
        let name = "n".repeat(NAME_LIMIT);
        let mut event = |text: &str| match aggregator.take("test", note(&name, text), at(0)) {
            Verdict::Create(event) => event.metadata.name.unwrap(),
            other => panic!("{other:?}"),
        };
        let (a, b) = (event("a"), event("b"));
        assert_ne!(a, b);
        assert_eq!(a.len(), NAME_LIMIT);
    }

    #[test]
    fn whatever_an_object_is_called_its_event_has_a_name() {
        let check = |object: &str, expected: &str| {
            let verdict = Aggregator::default().take("test", note(object, "x"), at(0));
            let Verdict::Create(event) = verdict else { panic!("{verdict:?}") };
            let name = event.metadata.name.unwrap();
            assert_eq!(name[..name.len() - STAMP_LEN], *expected, "{object}");
        };
        check("web-1.example", "web-1.example");
        check("système:lecteur", UNNAMED);
        check(&"é".repeat(NAME_LIMIT), UNNAMED);
        check("", UNNAMED);
        check("a..b", UNNAMED);
        let cut_at_a_dot = format!("{}.{}", "n".repeat(NAME_LIMIT - STAMP_LEN - 1), "tail");
        check(&cut_at_a_dot, &cut_at_a_dot[..NAME_LIMIT - STAMP_LEN - 1]);
    }
}

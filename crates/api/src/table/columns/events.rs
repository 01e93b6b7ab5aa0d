//! Events, which are the same objects in two groups under different field names.

use super::{Entry, OBJECT_NAME, identifying, text, wide};
use crate::Value;
use crate::resource::Column;
use crate::table::NAME_DESCRIPTION;
use crate::table::age::since;
use crate::table::cell::{Printer, text_at};
use crate::time::Timestamp;

pub(super) static ENTRIES: &[Entry] = &[("", "events", &EVENTS), ("events.k8s.io", "events", &EVENTS)];

static EVENTS: [Column; 10] = [
    text("Last Seen", "When it last happened", Printer::CallAt(last_seen)),
    text("Type", "Normal or Warning", Printer::Text("type", "")),
    text("Reason", "What happened, in one word", Printer::Text("reason", "")),
    text("Object", "To what", Printer::Call(object)),
    wide(text("Subobject", "To which part of it", Printer::Call(|e| subject(e, "fieldPath").to_owned()))),
    wide(text("Source", "Who tells", Printer::Call(source))),
    text("Message", "What happened", Printer::Call(message)),
    wide(text("First Seen", "When it first happened", Printer::CallAt(first_seen))),
    wide(text("Count", "How often it happened", Printer::Value(count))),
    wide(identifying("Name", NAME_DESCRIPTION, OBJECT_NAME)),
];

/// The text at the first of two paths that has one: core's name and the other group's.
fn either<'a>(event: &'a Value, core: &str, other: &str) -> Option<&'a str> {
    text_at(event, core).or_else(|| text_at(event, other))
}

fn subject<'a>(event: &'a Value, field: &str) -> &'a str {
    ["involvedObject", "regarding"]
        .iter()
        .find_map(|part| text_at(event.get(part)?, field))
        .unwrap_or_default()
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let first = either(event, "firstTimestamp", "deprecatedFirstTimestamp");
    since(first.or_else(|| text_at(event, "eventTime")), now)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    if event.at(&["series"]).is_some_and(|s| !s.is_null()) {
        return since(text_at(event, "series.lastObservedTime"), now);
    }
    match either(event, "lastTimestamp", "deprecatedLastTimestamp") {
        Some(time) => since(Some(time), now),
        None => first_seen(event, now),
    }
}

fn object(event: &Value) -> String {
    let kind = subject(event, "kind").to_lowercase();
    match subject(event, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let from =
        |field: &str| ["source", "deprecatedSource"].iter().find_map(|part| text_at(event.get(part)?, field));
    let controller = either(event, "reportingComponent", "reportingController");
    let component = from("component").or(controller).unwrap_or_default();
    match from("host").or_else(|| text_at(event, "reportingInstance")) {
        Some(host) => format!("{component}, {host}"),
        None => component.to_owned(),
    }
}

fn message(event: &Value) -> String {
    either(event, "message", "note").unwrap_or_default().trim().to_owned()
}

fn count(event: &Value) -> Value {
    let number = |path: &[&str]| event.i64_at(path).filter(|n| *n != 0);
    if event.at(&["series"]).is_some_and(|s| !s.is_null()) {
        return event.i64_at(&["series", "count"]).unwrap_or_default().into();
    }
    number(&["count"]).or_else(|| number(&["deprecatedCount"])).unwrap_or(1).into()
}

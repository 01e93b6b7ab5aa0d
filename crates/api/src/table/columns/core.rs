//! Namespaces, configuration, accounts, quotas, volumes' and services' simpler neighbours of the core group.

use super::{AGE, Entry, NAME, NAME_AND_AGE, PLAIN, text};
use crate::resource::Column;
use crate::table::cell::{self, Printer, condition, text_at};
use crate::{Map, Value};

pub(super) static ENTRIES: &[Entry] = &[
    ("", "namespaces", &NAMESPACES),
    ("", "configmaps", &CONFIG_MAPS),
    ("", "secrets", &SECRETS),
    ("", "serviceaccounts", &NAME_AND_AGE),
    ("", "limitranges", &PLAIN),
    ("", "resourcequotas", &QUOTAS),
    ("", "componentstatuses", &COMPONENT_STATUSES),
];

static NAMESPACES: [Column; 3] = [
    NAME,
    text("Status", "Whether the namespace is active or going away", Printer::Text("status.phase", "")),
    AGE,
];

static CONFIG_MAPS: [Column; 3] =
    [NAME, text("Data", "How many keys it holds", Printer::Value(config_map_keys)), AGE];

static SECRETS: [Column; 4] = [
    NAME,
    text("Type", "What kind of secret it holds", Printer::Text("type", "")),
    text("Data", "How many keys it holds", Printer::Count("data")),
    AGE,
];

static QUOTAS: [Column; 4] = [
    NAME,
    text("Request", "Used and allowed, but for limits", Printer::Call(requests)),
    text("Limit", "Used and allowed limits", Printer::Call(limits)),
    AGE,
];

static COMPONENT_STATUSES: [Column; 4] = [
    NAME,
    text("Status", "Whether the component is healthy", Printer::Call(component_status)),
    text("Message", "What the component says", Printer::Call(|c| component_text(c, "message"))),
    text("Error", "What went wrong", Printer::Call(|c| component_text(c, "error"))),
];

fn config_map_keys(object: &Value) -> Value {
    let count = |field| object.object_at(&[field]).map_or(0, Map::len);
    i64::try_from(count("data") + count("binaryData")).unwrap_or(i64::MAX).into()
}

fn requests(quota: &Value) -> String {
    usage(quota, |resource| !is_limit(resource))
}

fn limits(quota: &Value) -> String {
    usage(quota, is_limit)
}

fn is_limit(resource: &str) -> bool {
    resource.starts_with("limits.")
}

/// `cpu: 1/2, pods: 3/10` for the resources that `which` picks.
fn usage(quota: &Value, which: fn(&str) -> bool) -> String {
    let hard = quota.object_at(&["status", "hard"]).into_iter().flat_map(Map::iter);
    let used = quota.at(&["status", "used"]);
    let zero = || "0".to_owned();
    let parts: Vec<String> = hard
        .filter(|(resource, _)| which(resource))
        .map(|(resource, hard)| {
            let used = cell::text(used.and_then(|u| u.get(resource))).unwrap_or_else(zero);
            format!("{resource}: {used}/{}", cell::text(Some(hard)).unwrap_or_else(zero))
        })
        .collect();
    parts.join(", ")
}

fn component_status(component: &Value) -> String {
    match condition(component.array_at(&["conditions"]), "Healthy") {
        None => "Unknown",
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
    }
    .to_owned()
}

fn component_text(component: &Value, field: &str) -> String {
    let conditions = component.array_at(&["conditions"]);
    let healthy = conditions.iter().find(|c| c.str_at(&["type"]) == Some("Healthy"));
    healthy.and_then(|c| text_at(c, field)).unwrap_or_default().to_owned()
}

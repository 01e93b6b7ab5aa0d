//! Horizontal pod autoscalers, of both versions.

use super::{AGE, Entry, NAME, text};
use crate::Value;
use crate::resource::Column;
use crate::table::cell::{self, Printer, at};

pub(super) static ENTRIES: &[Entry] = &[("autoscaling", "horizontalpodautoscalers", &AUTOSCALERS)];

static AUTOSCALERS: [Column; 7] = [
    NAME,
    text("Reference", "What it scales", Printer::Call(reference)),
    text("Targets", "What it measures, and what it aims at", Printer::Call(targets)),
    text("MinPods", "The least number of pods", Printer::Text("spec.minReplicas", "<unset>")),
    text("MaxPods", "The greatest number of pods", Printer::Integer("spec.maxReplicas")),
    text("Replicas", "How many pods there are", Printer::Integer("status.currentReplicas")),
    AGE,
];

/// How many targets are shown.
const MAX: usize = 2;

fn reference(scaler: &Value) -> String {
    let field = |name: &str| scaler.str_at(&["spec", "scaleTargetRef", name]).unwrap_or_default();
    format!("{}/{}", field("kind"), field("name"))
}

fn targets(scaler: &Value) -> String {
    let specs = scaler.array_at(&["spec", "metrics"]);
    let statuses = scaler.array_at(&["status", "currentMetrics"]);
    let all: Vec<String> =
        specs.iter().enumerate().map(|(index, spec)| metric(spec, statuses.get(index))).collect();
    match all.len() {
        0 => version_1_target(scaler),
        len if len > MAX => format!("{} + {} more...", all[..MAX].join(", "), len - MAX),
        _ => all.join(", "),
    }
}

/// Version 1 knows one target only, the use of CPU.
fn version_1_target(scaler: &Value) -> String {
    match at(scaler, "spec.targetCPUUtilizationPercentage").and_then(Value::as_i64) {
        None => "<none>".to_owned(),
        Some(target) => {
            format!("cpu: {}/{target}%", percent(at(scaler, "status.currentCPUUtilizationPercentage")))
        }
    }
}

const UNKNOWN: &str = "<unknown>";

fn percent(value: Option<&Value>) -> String {
    value.and_then(Value::as_i64).map_or_else(|| UNKNOWN.to_owned(), |n| format!("{n}%"))
}

/// One target: what is measured and what is aimed at, in the form of its type.
fn metric(spec: &Value, status: Option<&Value>) -> String {
    let (part, named) = match spec.str_at(&["type"]) {
        Some("External") => ("external", false),
        Some("Pods") => ("pods", false),
        Some("Object") => ("object", false),
        Some("Resource") => ("resource", true),
        Some("ContainerResource") => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |field: &str| spec.at(&[part, "target", field]);
    let current = |field: &str| status.and_then(|s| s.at(&[part, "current", field]));
    let quantity =
        |value: Option<&Value>, absent: &str| cell::text(value).unwrap_or_else(|| absent.to_owned());
    let average = target("averageValue");
    let name = spec.str_at(&[part, "name"]).unwrap_or_default();
    match (named, average) {
        (true, Some(average)) => {
            format!("{name}: {}/{}", quantity(current("averageValue"), UNKNOWN), quantity(Some(average), "0"))
        }
        (true, None) => {
            let wanted =
                target("averageUtilization").map_or_else(|| "<auto>".to_owned(), |t| percent(Some(t)));
            format!("{name}: {}/{wanted}", percent(current("averageUtilization")))
        }
        (false, average) if part == "pods" => {
            format!("{}/{}", quantity(current("averageValue"), UNKNOWN), quantity(average, "0"))
        }
        (false, Some(average)) => {
            format!("{}/{} (avg)", quantity(current("averageValue"), UNKNOWN), quantity(Some(average), "0"))
        }
        (false, None) => {
            format!("{}/{}", quantity(current("value"), UNKNOWN), quantity(target("value"), "0"))
        }
    }
}

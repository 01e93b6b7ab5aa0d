//! Rules for probes and lifecycle hooks: what a container answers to.

use super::check::Pod;
use crate::kinds::check::{Check, between, is_set, number, text};
use crate::kinds::syntax::{http_header, port_name};
use crate::{Value, object};

/// The three probes and the hooks of a container that keeps running.
pub(super) fn check(c: &mut Check, pod: &Pod<'_>, container: &Value) {
    c.some(container, "lifecycle", |c, lifecycle| {
        for hook in ["postStart", "preStop"] {
            c.some(lifecycle, hook, |c, h| handler(c, pod, h, &["exec", "httpGet", "tcpSocket", "sleep"]));
        }
    });
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        c.some(container, kind, |c, p| probe(c, pod, p, kind));
    }
}

fn probe(c: &mut Check, pod: &Pod<'_>, probe: &Value, kind: &str) {
    handler(c, pod, probe, &["exec", "httpGet", "tcpSocket", "grpc"]);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        c.non_negative(probe, field);
    }
    let grace = number(probe, "terminationGracePeriodSeconds");
    if grace.is_some_and(|g| g <= 0) {
        c.at("terminationGracePeriodSeconds").invalid(grace, "must be greater than 0");
    }
    if kind == "readinessProbe" {
        if grace.is_some() {
            let detail = "must not be set for readinessProbes";
            c.at("terminationGracePeriodSeconds").invalid(grace, detail);
        }
    } else if number(probe, "successThreshold") != Some(1) {
        let threshold = number(probe, "successThreshold").unwrap_or(0);
        c.at("successThreshold").invalid(threshold, "must be 1");
    }
}

fn handler(c: &mut Check, pod: &Pod<'_>, handler: &Value, kinds: &[&str]) {
    let mut chosen = false;
    for kind in kinds.iter().filter(|kind| is_set(handler, kind)) {
        if std::mem::replace(&mut chosen, true) {
            c.at(kind).forbidden("may not specify more than 1 handler type");
        } else {
            c.field(handler, kind, |c, action| rules(c, pod, action, kind));
        }
    }
    if !chosen {
        c.here().required("must specify a handler type");
    }
}

fn rules(c: &mut Check, pod: &Pod<'_>, action: &Value, kind: &str) {
    match kind {
        "exec" if action.array_at(&["command"]).is_empty() => c.at("command").required(""),
        "httpGet" => {
            c.require(action, "path");
            port(c, action);
            c.one_of(action, "scheme", &["HTTP", "HTTPS"]);
            for header in action.array_at(&["httpHeaders"]) {
                c.at("httpHeaders").obeys(text(header, "name"), http_header);
            }
        }
        "tcpSocket" | "grpc" => port(c, action),
        "sleep" => {
            let seconds = number(action, "seconds").unwrap_or(0);
            if let Some(grace) = pod.grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                let detail =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                c.here().invalid(seconds, &detail);
            }
        }
        _ => {}
    }
}

/// A port by number or by name.
fn port(c: &mut Check, action: &Value) {
    match action.get("port") {
        Some(Value::String(name)) => c.at("port").obeys(name, port_name),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or(0);
            if !(1..=65_535).contains(&number) {
                c.at("port").invalid(object!(number), &between(1, 65_535));
            }
        }
    }
}

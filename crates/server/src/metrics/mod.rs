//! What the server counts, for Prometheus: `/metrics` and `/metrics/slis`, with upstream's names where it counts the same.
//!
//! Counters are atomics that are found once a request; a document is made of them when it is asked for. What other parts
//! know already, such as how many objects there are, is asked of them then.

mod histogram;
mod process;
pub(crate) mod requests;
pub mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use xebec_store::CommitError;

pub(crate) use self::histogram::Histogram;
use self::requests::Requests;
use self::text::{Kind, Text};
use crate::admission::Operation;
use crate::core::Core;
use crate::discovery::KUBERNETES_VERSION;
use crate::http::reply::Reply;

const COMMITS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0,
    6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
const ADMISSIONS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

/// All counters of one server.
#[derive(Debug)]
pub struct Metrics {
    /// What is counted of every request.
    pub(crate) requests: Requests,
    /// Requests that read, and that write.
    working: Arc<[AtomicI64; 2]>,
    commits: Histogram,
    failed_commits: AtomicU64,
    identified: [AtomicU64; 2],
    authorized: [AtomicU64; 2],
    /// By operation, step, and whether it was refused.
    admissions: [[[Histogram; 2]; 2]; 4],
}

/// A request that is worked on.
#[derive(Debug)]
pub(crate) struct Working {
    counters: Arc<[AtomicI64; 2]>,
    write: bool,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.counters[usize::from(self.write)].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The steps of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Plugins that may change the object.
    Admit,
    /// Plugins that may not.
    Validate,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(ADMISSIONS);
        let steps = || std::array::from_fn(|_| std::array::from_fn(|_| histogram()));
        Self {
            requests: Requests::default(),
            working: Arc::default(),
            commits: Histogram::new(COMMITS),
            failed_commits: AtomicU64::new(0),
            identified: Default::default(),
            authorized: Default::default(),
            admissions: std::array::from_fn(|_| steps()),
        }
    }
}

impl Metrics {
    /// A request is worked on until the answer is dropped.
    pub(crate) fn works(&self, write: bool) -> Working {
        self.working[usize::from(write)].fetch_add(1, Ordering::Relaxed);
        Working { counters: self.working.clone(), write }
    }

    /// A transaction was committed, or was not.
    pub(crate) fn committed<T>(&self, outcome: &Result<T, CommitError>, took: Duration) {
        self.commits.observe(took);
        // That others have written meanwhile is no fault of the store.
        if outcome.as_ref().is_err_and(|error| !matches!(error, CommitError::Conflict(_))) {
            self.failed_commits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Somebody has said who they are, and it was so, or was not.
    pub(crate) fn identified(&self, so: bool) {
        self.identified[usize::from(so)].fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody may do what they ask for, or may not.
    pub(crate) fn authorized(&self, may: bool) {
        self.authorized[usize::from(may)].fetch_add(1, Ordering::Relaxed);
    }

    /// A step of admission has ended.
    pub(crate) fn admitted(&self, operation: Operation, step: Step, refused: bool, took: Duration) {
        self.admissions[operation as usize][step as usize][usize::from(refused)].observe(took);
    }

    fn write(&self, out: &mut Text) {
        self.requests.write(out);
        out.family("apiserver_current_inflight_requests", Kind::Gauge, "Requests that are worked on");
        for (kind, count) in ["readOnly", "mutating"].iter().zip(self.working.iter()) {
            out.sample(&[("request_kind", kind)], count.load(Ordering::Relaxed));
        }
        let numbers = |counters: &[AtomicU64; 2]| {
            [counters[0].load(Ordering::Relaxed), counters[1].load(Ordering::Relaxed)]
        };
        let [failures, successes] = numbers(&self.identified);
        out.family(
            "authentication_attempts",
            Kind::Counter,
            "Requests by what came of asking who they are from",
        );
        out.sample(&[("result", "failure")], failures);
        out.sample(&[("result", "success")], successes);
        let [denied, allowed] = numbers(&self.authorized);
        out.family("authorization_attempts_total", Kind::Counter, "Requests by whether they were allowed");
        out.sample(&[("result", "allowed")], allowed);
        out.sample(&[("result", "denied")], denied);
        out.family(
            "etcd_request_duration_seconds",
            Kind::Histogram,
            "How long transactions took until they were durable",
        );
        self.commits.write(&[("operation", "txn")], out);
        out.family("etcd_requests_total", Kind::Counter, "Transactions");
        out.sample(&[("operation", "txn")], self.commits.count());
        out.family(
            "etcd_request_errors_total",
            Kind::Counter,
            "Transactions that the store could not commit",
        );
        out.sample(&[("operation", "txn")], self.failed_commits.load(Ordering::Relaxed));
        self.write_admissions(out);
    }

    fn write_admissions(&self, out: &mut Text) {
        out.family(
            "apiserver_admission_step_admission_duration_seconds",
            Kind::Histogram,
            "How long the steps of admission took",
        );
        for (steps, operation) in self.admissions.iter().zip(["CREATE", "UPDATE", "DELETE", "CONNECT"]) {
            for (outcomes, step) in steps.iter().zip(["admit", "validate"]) {
                for (histogram, refused) in outcomes.iter().zip(["false", "true"]) {
                    if histogram.count() > 0 {
                        histogram
                            .write(&[("operation", operation), ("rejected", refused), ("type", step)], out);
                    }
                }
            }
        }
    }
}

/// The document of all that is counted.
pub(crate) fn all(core: &Core) -> Reply {
    let mut text = Text::default();
    core.metrics.write(&mut text);
    core.flow.write(&mut text);
    core.audit.iter().for_each(|audit| audit.write(&mut text));
    write_objects(core, &mut text);
    process::write(&mut text);
    text.family("kubernetes_build_info", Kind::Gauge, "Which program this is");
    let own = format!("{KUBERNETES_VERSION}+xebec-{}", env!("CARGO_PKG_VERSION"));
    text.sample(&[("git_version", &own), ("major", "1"), ("minor", "36")], 1);
    reply(text)
}

/// How many objects there are of each resource.
fn write_objects(core: &Core, out: &mut Text) {
    let (table, snapshot) = (core.table.get(), core.store.snapshot());
    let mut objects: Vec<(&str, &str, usize)> = Vec::new();
    for row in table.rows() {
        let Ok(prefix) = row.prefix("") else { continue };
        objects.push((row.group(), row.resource(), snapshot.count(&prefix)));
    }
    objects.sort_unstable();
    out.family("apiserver_resource_objects", Kind::Gauge, "Objects that are stored");
    for (group, resource, count) in &objects {
        out.sample(&[("group", group), ("resource", resource)], count);
    }
    out.family("apiserver_storage_objects", Kind::Gauge, "The same, by upstream's earlier name");
    for (group, resource, count) in &objects {
        let dot = if group.is_empty() { "" } else { "." };
        out.sample(&[("resource", &format!("{resource}{dot}{group}"))], count);
    }
}

/// How the health checks went: what service levels are computed from.
pub(crate) fn slis(core: &Core) -> Reply {
    let mut text = Text::default();
    text.family("kubernetes_healthcheck", Kind::Gauge, "Whether a check passed when it was last asked");
    for (question, check, passed, failed, fails) in core.health.outcomes() {
        if passed + failed > 0 {
            text.sample(&[("name", check), ("type", question)], u8::from(!fails));
        }
    }
    text.family(
        "kubernetes_healthchecks_total",
        Kind::Counter,
        "How often a check was asked, by its outcome",
    );
    for (question, check, passed, failed, _) in core.health.outcomes() {
        for (status, count) in [("success", passed), ("error", failed)] {
            if count > 0 {
                text.sample(&[("name", check), ("status", status), ("type", question)], count);
            }
        }
    }
    reply(text)
}

fn reply(text: Text) -> Reply {
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(text::CONTENT_TYPE))];
    Reply::Prepared(Bytes::from(text.finish()), headers)
}

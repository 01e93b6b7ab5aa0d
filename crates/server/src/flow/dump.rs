//! How flow control stands: metrics, and upstream's tables under `/debug/api_priority_and_fairness/`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use http::StatusCode;

use super::level::{Counters, REFUSALS};
use super::{Entry, FlowControl};
use crate::http::reply::Reply;
use crate::metrics::text::{Kind, Text};

/// A table, by the last segment of its path.
pub(crate) fn dump(control: &FlowControl, table: &str) -> Option<Reply> {
    let text = match table {
        "dump_priority_levels" => levels(control),
        "dump_queues" => queues(control),
        "dump_requests" => requests(control),
        _ => return None,
    };
    Some(Reply::Text(StatusCode::OK, text))
}

/// Columns are separated as upstream separates them.
fn line(out: &mut String, columns: &[String]) {
    out.push_str(&columns.join(",\t"));
    out.push('\n');
}

fn head(columns: &[&str]) -> String {
    let mut out = String::new();
    line(&mut out, &columns.iter().map(ToString::to_string).collect::<Vec<_>>());
    out
}

fn levels(control: &FlowControl) -> String {
    let config = control.config();
    let mut out = head(&[
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ]);
    for level in &config.levels {
        let digest = level.level.digest();
        let schemas = config.schemas.iter().filter(|entry| entry.schema.level == level.spec.name);
        let counters: Vec<&Counters> = schemas.map(|entry| &*entry.counters).collect();
        let sum = |value: &dyn Fn(&Counters) -> u64| counters.iter().map(|c| value(c)).sum::<u64>();
        let [full, limit, late] = [0, 1, 2].map(|n| sum(&|c| c.refused[n].load(Ordering::Relaxed)));
        let running = counters.iter().map(|c| c.executing.load(Ordering::Relaxed)).sum::<i64>();
        let gone = sum(&|c| c.waited_in_vain.count()).saturating_sub(late);
        line(
            &mut out,
            &[
                level.spec.name.clone(),
                digest.queues.iter().filter(|queue| queue.waiting > 0).count().to_string(),
                (running == 0 && digest.waiting == 0).to_string(),
                "false".to_owned(),
                digest.waiting.to_string(),
                running.to_string(),
                sum(&|c| c.dispatched.load(Ordering::Relaxed)).to_string(),
                (full + limit).to_string(),
                late.to_string(),
                gone.to_string(),
            ],
        );
    }
    out
}

fn queues(control: &FlowControl) -> String {
    let mut out = head(&[
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
    ]);
    for level in &control.config().levels {
        for (n, queue) in level.level.digest().queues.iter().enumerate().take(level.spec.queuing.queues) {
            line(
                &mut out,
                &[
                    level.spec.name.clone(),
                    n.to_string(),
                    queue.waiting.to_string(),
                    queue.running.to_string(),
                    queue.running_seats.to_string(),
                    format!("{:.8}ss", queue.served),
                    queue.waiting_seats.to_string(),
                ],
            );
        }
    }
    out
}

fn requests(control: &FlowControl) -> String {
    let mut out = head(&[
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",
        "WaitedFor",
        "InitialSeats",
    ]);
    for level in &control.config().levels {
        for (queue, place, seats, waited, schema, flow) in level.level.waiting() {
            line(
                &mut out,
                &[
                    level.spec.name.clone(),
                    schema,
                    queue.to_string(),
                    place.to_string(),
                    flow,
                    format!("{waited:?}"),
                    seats.to_string(),
                ],
            );
        }
    }
    out
}

impl FlowControl {
    /// Writes its metrics.
    pub(crate) fn write(&self, out: &mut Text) {
        let config = self.config();
        let counter = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauge = |gauge: &AtomicI64| gauge.load(Ordering::Relaxed);
        let mut by_schema = |name, kind, help, value: &dyn Fn(&Counters) -> i64| {
            out.family(name, kind, help);
            for entry in &config.schemas {
                out.sample(&labels(entry), value(&entry.counters));
            }
        };
        by_schema(
            "apiserver_flowcontrol_dispatched_requests_total",
            Kind::Counter,
            "Requests that were let in",
            &|c| i64::try_from(counter(&c.dispatched)).unwrap_or(i64::MAX),
        );
        by_schema(
            "apiserver_flowcontrol_current_executing_requests",
            Kind::Gauge,
            "Requests that are worked on",
            &|c| gauge(&c.executing),
        );
        by_schema(
            "apiserver_flowcontrol_current_inqueue_requests",
            Kind::Gauge,
            "Requests that wait",
            &|c| gauge(&c.waiting),
        );
        out.family(
            "apiserver_flowcontrol_rejected_requests_total",
            Kind::Counter,
            "Requests that there was no room for",
        );
        for entry in &config.schemas {
            for (why, count) in REFUSALS.iter().zip(&entry.counters.refused) {
                let [schema, level] = labels(entry);
                out.sample(&[schema, level, ("reason", why.as_str())], counter(count));
            }
        }
        self.write_durations(out);
        self.write_levels(out);
    }

    fn write_durations(&self, out: &mut Text) {
        let config = self.config();
        out.family(
            "apiserver_flowcontrol_request_wait_duration_seconds",
            Kind::Histogram,
            "How long requests waited that had to wait",
        );
        for entry in &config.schemas {
            let [schema, level] = labels(entry);
            for (executed, waits) in
                [("true", &entry.counters.waited), ("false", &entry.counters.waited_in_vain)]
            {
                if waits.count() > 0 {
                    waits.write(&[("execute", executed), schema, level], out);
                }
            }
        }
        out.family(
            "apiserver_flowcontrol_request_execution_seconds",
            Kind::Histogram,
            "How long requests had their seats",
        );
        for entry in config.schemas.iter().filter(|entry| entry.counters.executed.count() > 0) {
            entry.counters.executed.write(&labels(entry), out);
        }
    }

    fn write_levels(&self, out: &mut Text) {
        let config = self.config();
        let levels: Vec<_> = config.levels.iter().map(|level| (level, level.level.digest())).collect();
        for (name, help, value) in [
            ("apiserver_flowcontrol_nominal_limit_seats", "Seats of a level by its share", 0),
            ("apiserver_flowcontrol_lower_limit_seats", "Seats that a level keeps", 1),
            ("apiserver_flowcontrol_upper_limit_seats", "Seats that a level has at most", 2),
            ("apiserver_flowcontrol_current_limit_seats", "Seats that a level has now", 3),
            ("apiserver_flowcontrol_current_executing_seats", "Seats that are taken", 4),
        ] {
            out.family(name, Kind::Gauge, help);
            for (level, digest) in &levels {
                let own = level.entitlement;
                let values = [own.nominal, own.lower, own.upper, digest.limit, digest.running_seats];
                out.sample(&[("priority_level", &level.spec.name)], values[value]);
            }
        }
    }
}

fn labels(entry: &Entry) -> [(&str, &str); 2] {
    [("flow_schema", &entry.schema.name), ("priority_level", &entry.schema.level)]
}

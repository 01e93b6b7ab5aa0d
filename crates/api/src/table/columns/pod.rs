//! Pods and pod templates. A pod's status is told by its phase, its conditions and each container's state.

use super::{AGE, Entry, NAME, text, wide};
use crate::Value;
use crate::resource::Column;
use crate::table::age::since;
use crate::table::cell::{Printer, condition, is_deleted, text_at};
use crate::time::Timestamp;

pub(super) static ENTRIES: &[Entry] = &[("", "pods", &PODS), ("", "podtemplates", &TEMPLATES)];

static PODS: [Column; 9] = [
    NAME,
    text("Ready", "How many containers are ready, of how many", Printer::Call(ready)),
    text("Status", "What the pod and its containers are doing", Printer::Call(status)),
    text("Restarts", "How often containers were restarted, and when last", Printer::CallAt(restarts)),
    AGE,
    wide(text("IP", "The pod's address", Printer::Call(address))),
    wide(text("Node", "The node that runs the pod", Printer::Text("spec.nodeName", "<none>"))),
    wide(text(
        "Nominated Node",
        "The node on which room is being made for the pod",
        Printer::Text("status.nominatedNodeName", "<none>"),
    )),
    wide(text(
        "Readiness Gates",
        "How many further conditions hold, of how many",
        Printer::Call(readiness_gates),
    )),
];

static TEMPLATES: [Column; 4] = [
    NAME,
    text("Containers", "The names of the template's containers", Printer::Containers("template")),
    text("Images", "The images of the template's containers", Printer::Images("template")),
    text("Pod Labels", "The labels that pods get", Printer::Labels("template.metadata.labels")),
];

/// What a pod's containers add up to.
#[derive(Default)]
struct Summary<'a> {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    last_restart: Option<&'a str>,
}

fn ready(pod: &Value) -> String {
    let summary = summarise(pod);
    format!("{}/{}", summary.ready, summary.total)
}

fn status(pod: &Value) -> String {
    summarise(pod).status
}

fn restarts(pod: &Value, now: Timestamp) -> String {
    let summary = summarise(pod);
    match summary.last_restart {
        Some(time) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, since(Some(time), now))
        }
        _ => summary.restarts.to_string(),
    }
}

fn address(pod: &Value) -> String {
    let ips = pod.array_at(&["status", "podIPs"]);
    ips.first().and_then(|ip| text_at(ip, "ip")).unwrap_or("<none>").to_owned()
}

fn readiness_gates(pod: &Value) -> String {
    let gates = pod.array_at(&["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = conditions(pod);
    let holds = |gate: &&Value| {
        gate.str_at(&["conditionType"]).and_then(|ty| condition(conditions, ty)) == Some("True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}

fn conditions(pod: &Value) -> &[Value] {
    pod.array_at(&["status", "conditions"])
}

fn summarise(pod: &Value) -> Summary<'_> {
    let sidecars: Vec<&str> = pod
        .array_at(&["spec", "initContainers"])
        .iter()
        .filter(|c| c.str_at(&["restartPolicy"]) == Some("Always"))
        .filter_map(|c| c.str_at(&["name"]))
        .collect();
    let mut summary = Summary {
        total: pod.array_at(&["spec", "containers"]).len() + sidecars.len(),
        status: phase_or_reason(pod),
        ..Summary::default()
    };
    let statuses = pod.array_at(&["status", "initContainerStatuses"]);
    let unfinished = init_containers(pod, statuses, &sidecars, &mut summary);
    if unfinished.is_none() || condition(conditions(pod), "Initialized") == Some("True") {
        // Once a pod is initialised, of the init containers looked at only sidecars count their restarts.
        let looked_at = unfinished.map_or(statuses.len(), |index| index + 1);
        (summary.restarts, summary.last_restart) = (0, None);
        statuses[..looked_at]
            .iter()
            .filter(|c| is_sidecar(c, &sidecars))
            .for_each(|c| summary.add_restarts(c));
        containers(pod, &mut summary);
    }
    if is_deleted(pod) {
        let phase = pod.str_at(&["status", "phase"]);
        if pod.str_at(&["status", "reason"]) == Some("NodeLost") {
            summary.status = "Unknown".to_owned();
        } else if !matches!(phase, Some("Succeeded" | "Failed")) {
            summary.status = "Terminating".to_owned();
        }
    }
    summary
}

fn phase_or_reason(pod: &Value) -> String {
    let gated = conditions(pod).iter().any(|c| {
        c.str_at(&["type"]) == Some("PodScheduled") && c.str_at(&["reason"]) == Some("SchedulingGated")
    });
    if gated {
        return "SchedulingGated".to_owned();
    }
    text_at(pod, "status.reason").or_else(|| text_at(pod, "status.phase")).unwrap_or_default().to_owned()
}

impl<'a> Summary<'a> {
    fn add_restarts(&mut self, container: &'a Value) {
        self.restarts += container.i64_at(&["restartCount"]).unwrap_or_default();
        let finished = text_at(container, "lastState.terminated.finishedAt");
        let later = |time: &str| {
            self.last_restart
                .and_then(Timestamp::parse)
                .is_none_or(|last| Timestamp::parse(time) > Some(last))
        };
        if finished.is_some_and(later) {
            self.last_restart = finished;
        }
    }
}

/// Goes through the init containers up to the first that is not done, and gives its index.
fn init_containers<'a>(
    pod: &Value,
    statuses: &'a [Value],
    sidecars: &[&str],
    summary: &mut Summary<'a>,
) -> Option<usize> {
    let count = pod.array_at(&["spec", "initContainers"]).len();
    for (index, container) in statuses.iter().enumerate() {
        summary.add_restarts(container);
        let terminated = container.at(&["state", "terminated"]);
        if terminated.is_some_and(|t| exit_code(t) == 0) {
            continue;
        }
        if is_sidecar(container, sidecars) && container.bool_at(&["started"]) == Some(true) {
            summary.ready += usize::from(container.bool_at(&["ready"]) == Some(true));
            continue;
        }
        let waiting = text_at(container, "state.waiting.reason").filter(|r| *r != "PodInitializing");
        summary.status = match (terminated, waiting) {
            (Some(terminated), _) => format!("Init:{}", termination(terminated)),
            (None, Some(reason)) => format!("Init:{reason}"),
            (None, None) => format!("Init:{index}/{count}"),
        };
        return Some(index);
    }
    None
}

fn is_sidecar(container: &Value, sidecars: &[&str]) -> bool {
    container.str_at(&["name"]).is_some_and(|name| sidecars.contains(&name))
}

fn containers<'a>(pod: &'a Value, summary: &mut Summary<'a>) {
    let (mut running, mut error) = (false, None);
    for container in pod.array_at(&["status", "containerStatuses"]).iter().rev() {
        summary.add_restarts(container);
        if let Some(reason) = text_at(container, "state.waiting.reason") {
            summary.status = reason.to_owned();
        } else if let Some(terminated) = container.at(&["state", "terminated"]) {
            summary.status = termination(terminated);
            if exit_code(terminated) != 0 {
                error = Some(summary.status.clone());
            }
        } else if container.bool_at(&["ready"]) == Some(true) && container.at(&["state", "running"]).is_some()
        {
            running = true;
            summary.ready += 1;
        }
    }
    // One container's end is not the pod's while another still runs.
    if summary.status == "Completed" {
        if running && condition(conditions(pod), "Ready") == Some("True") {
            summary.status = "Running".to_owned();
        } else if let Some(error) = error {
            summary.status = error;
        } else if running {
            summary.status = "NotReady".to_owned();
        }
    }
}

fn exit_code(terminated: &Value) -> i64 {
    terminated.i64_at(&["exitCode"]).unwrap_or_default()
}

fn termination(terminated: &Value) -> String {
    if let Some(reason) = text_at(terminated, "reason") {
        return reason.to_owned();
    }
    match terminated.i64_at(&["signal"]).unwrap_or_default() {
        0 => format!("ExitCode:{}", exit_code(terminated)),
        signal => format!("Signal:{signal}"),
    }
}

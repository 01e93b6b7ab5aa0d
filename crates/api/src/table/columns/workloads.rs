//! The controllers of pods: deployments, replica sets, stateful sets, daemon sets, jobs.

use super::{AGE, Entry, NAME, boolean, containers, images, integer, selector, text};
use crate::Value;
use crate::resource::Column;
use crate::table::age::between;
use crate::table::cell::{Printer, condition, is_deleted, text_at};
use crate::table::selector::label_selector;
use crate::time::Timestamp;

pub(super) static ENTRIES: &[Entry] = &[
    ("", "replicationcontrollers", &REPLICATION_CONTROLLERS),
    ("apps", "replicasets", &REPLICA_SETS),
    ("apps", "deployments", &DEPLOYMENTS),
    ("apps", "statefulsets", &STATEFUL_SETS),
    ("apps", "daemonsets", &DAEMON_SETS),
    ("apps", "controllerrevisions", &REVISIONS),
    ("batch", "jobs", &JOBS),
    ("batch", "cronjobs", &CRON_JOBS),
];

const DESIRED: Column = integer("Desired", "How many pods are wanted", Printer::Integer("spec.replicas"));
const CURRENT: Column = integer("Current", "How many pods there are", Printer::Integer("status.replicas"));
const READY: Column = integer("Ready", "How many pods are ready", Printer::Integer("status.readyReplicas"));
const READY_OF: Column = text("Ready", "How many pods are ready, of how many", Printer::Call(ready_of));

static REPLICATION_CONTROLLERS: [Column; 8] = [
    NAME,
    DESIRED,
    CURRENT,
    READY,
    AGE,
    containers("spec.template"),
    images("spec.template"),
    selector(Printer::Labels("spec.selector")),
];

static REPLICA_SETS: [Column; 8] = [
    NAME,
    DESIRED,
    CURRENT,
    READY,
    AGE,
    containers("spec.template"),
    images("spec.template"),
    selector(Printer::Selector("spec.selector")),
];

static DEPLOYMENTS: [Column; 8] = [
    NAME,
    READY_OF,
    text("Up-to-date", "How many pods have the newest template", Printer::Integer("status.updatedReplicas")),
    text(
        "Available",
        "How many pods have been ready for long enough",
        Printer::Integer("status.availableReplicas"),
    ),
    AGE,
    containers("spec.template"),
    images("spec.template"),
    selector(Printer::Call(|d| {
        label_selector(d.at(&["spec", "selector"])).unwrap_or("<invalid>".to_owned())
    })),
];

static STATEFUL_SETS: [Column; 5] =
    [NAME, READY_OF, AGE, containers("spec.template"), images("spec.template")];

static DAEMON_SETS: [Column; 11] = [
    NAME,
    integer(
        "Desired",
        "How many nodes should run the pod",
        Printer::Integer("status.desiredNumberScheduled"),
    ),
    integer("Current", "How many nodes run it and should", Printer::Integer("status.currentNumberScheduled")),
    integer("Ready", "On how many nodes it is ready", Printer::Integer("status.numberReady")),
    integer(
        "Up-to-date",
        "How many have the newest template",
        Printer::Integer("status.updatedNumberScheduled"),
    ),
    integer(
        "Available",
        "How many have been ready for long enough",
        Printer::Integer("status.numberAvailable"),
    ),
    text("Node Selector", "Which nodes run the pod", Printer::Labels("spec.template.spec.nodeSelector")),
    AGE,
    containers("spec.template"),
    images("spec.template"),
    selector(Printer::Selector("spec.selector")),
];

static REVISIONS: [Column; 4] = [
    NAME,
    text("Controller", "Whose revision it is", Printer::Call(controller)),
    text("Revision", "Its number", Printer::Integer("revision")),
    AGE,
];

static JOBS: [Column; 8] = [
    NAME,
    text("Status", "How far the job is", Printer::Call(job_status)),
    text("Completions", "How many pods have succeeded, of how many", Printer::Call(completions)),
    text("Duration", "How long the job took, or has been running", Printer::CallAt(duration)),
    AGE,
    containers("spec.template"),
    images("spec.template"),
    selector(Printer::Selector("spec.selector")),
];

static CRON_JOBS: [Column; 10] = [
    NAME,
    text("Schedule", "When jobs start", Printer::Text("spec.schedule", "")),
    text("Timezone", "The time zone of the schedule", Printer::Text("spec.timeZone", "<none>")),
    boolean("Suspend", "Whether no jobs are started", Printer::Call(suspended)),
    integer("Active", "How many jobs are running", Printer::Count("status.active")),
    text("Last Schedule", "When a job was last started", Printer::Age("status.lastScheduleTime", "<none>")),
    AGE,
    containers("spec.jobTemplate.spec.template"),
    images("spec.jobTemplate.spec.template"),
    selector(Printer::Selector("spec.jobTemplate.spec.selector")),
];

fn ready_of(object: &Value) -> String {
    let number = |path: &[&str]| object.i64_at(path).unwrap_or_default();
    format!("{}/{}", number(&["status", "readyReplicas"]), number(&["spec", "replicas"]))
}

fn controller(object: &Value) -> String {
    let owners = object.array_at(&["metadata", "ownerReferences"]);
    let Some(owner) = owners.iter().find(|o| o.bool_at(&["controller"]) == Some(true)) else {
        return "<none>".to_owned();
    };
    let field = |name: &str| owner.str_at(&[name]).unwrap_or_default();
    let kind = match field("apiVersion").rsplit_once('/') {
        Some((group, _)) => format!("{}.{group}", field("kind")),
        None => field("kind").to_owned(),
    };
    format!("{}/{}", kind.to_lowercase(), field("name"))
}

fn job_status(job: &Value) -> String {
    let conditions = job.array_at(&["status", "conditions"]);
    let holds = |ty: &&str| condition(conditions, ty) == Some("True");
    let ended = ["Complete", "Failed"].into_iter().find(holds);
    let deleted = is_deleted(job).then_some("Terminating");
    let going = || ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(holds);
    ended.or(deleted).or_else(going).unwrap_or("Running").to_owned()
}

fn completions(job: &Value) -> String {
    let succeeded = job.i64_at(&["status", "succeeded"]).unwrap_or_default();
    match (job.i64_at(&["spec", "completions"]), job.i64_at(&["spec", "parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallelism)) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = text_at(job, "status.startTime").and_then(Timestamp::parse) else {
        return String::new();
    };
    let end = text_at(job, "status.completionTime").and_then(Timestamp::parse);
    between(start, end.unwrap_or(now))
}

fn suspended(job: &Value) -> String {
    match job.bool_at(&["spec", "suspend"]) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
    .to_owned()
}

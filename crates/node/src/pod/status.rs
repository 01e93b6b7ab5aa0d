//! What is told about a pod: its `PodStatus` (core/v1) as a function of specification and state.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use xebec_sandbox::sandbox::Outcome;

use super::plan;
use super::state::{Container, Ended, Run, Stage, State};

/// What the ids of containers begin with.
pub(super) const ID_SCHEME: &str = "xebec://";
/// The reason of a container whose memory was over.
pub(super) const OOM_KILLED: &str = "OOMKilled";

/// What of the node stands in the status of its pods.
#[derive(Clone, Debug)]
pub struct Host {
    /// The node's address.
    pub ip: String,
}

/// The status of a pod. Conditions that others set (`old`) stay.
#[must_use]
pub fn status(pod: &Pod, state: &State, host: &Host, old: Option<&PodStatus>, now: SystemTime) -> PodStatus {
    let init = statuses(plan::init_containers(pod), pod, state, Place::Init, now);
    let main = statuses(plan::containers(pod), pod, state, Place::Main, now);
    let names = plan::ephemeral_containers(pod).iter().map(|c| c.name.as_str());
    let specs: Vec<Spec> = names.filter_map(|name| plan::spec(pod, name)).collect();
    let ephemeral = statuses(&specs, pod, state, Place::Ephemeral, now);
    let phase = phase(pod, state);
    let ip = match &state.sandbox {
        Stage::Ready(ip) => *ip,
        _ => None,
    };
    let ip = ip.map(|ip| ip.to_string()).or_else(|| old.and_then(|o| o.pod_ip.clone()));
    let stopping = state.stopping.as_ref();
    let mut status = PodStatus {
        phase: Some(phase.into()),
        host_ip: Some(host.ip.clone()),
        host_ips: Some(vec![HostIP { ip: host.ip.clone() }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        start_time: state.started_at.map(time),
        qos_class: old.and_then(|o| o.qos_class.clone()),
        reason: stopping.and_then(|s| s.reason.clone()),
        message: stopping.map(|s| s.message.clone()).filter(|m| !m.is_empty()),
        observed_generation: pod.metadata.generation,
        nominated_node_name: None,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..PodStatus::default()
    };
    status.conditions = Some(conditions(pod, state, &status, old, now));
    status
}

/// A time of the API.
#[must_use]
pub fn time(time: SystemTime) -> Time {
    let whole = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    Time(Timestamp::from_second(whole.as_second()).unwrap_or(whole))
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
fn phase(pod: &Pod, state: &State) -> &'static str {
    let find = |spec: &Spec| state.containers.get(&spec.name);
    let stopped = state.stopping.as_ref().is_some_and(|s| s.reason.is_some());
    let any_run = plan::containers(pod).iter().filter_map(find).any(Container::is_running);
    let all_ended = plan::containers(pod).iter().all(|c| find(c).is_some_and(|c| c.ended().is_some()));
    if plan::init_failed(pod, state) || (stopped && !any_run) {
        return "Failed";
    }
    let over = plan::is_over(pod, state) || (state.stopping.is_some() && all_ended);
    if over {
        let all_well = plan::containers(pod).iter().filter_map(find).all(Container::succeeded);
        return if all_well { "Succeeded" } else { "Failed" };
    }
    let begun = plan::containers(pod)
        .iter()
        .filter_map(find)
        .any(|c| c.is_running() || c.ended().is_some() || c.restarts > 0 || c.last.is_some());
    if begun { "Running" } else { "Pending" }
}

/// Which of a pod's lists a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Init,
    Main,
    Ephemeral,
}

fn statuses(specs: &[Spec], pod: &Pod, state: &State, place: Place, now: SystemTime) -> Vec<ContainerStatus> {
    let nothing = Container::default();
    specs
        .iter()
        .map(|spec| {
            let container = state.containers.get(&spec.name).unwrap_or(&nothing);
            let done = place == Place::Init && !plan::stays(spec) && container.succeeded();
            let ready = container.is_running() && container.ready && place != Place::Ephemeral;
            let current = current(container, pod, spec, state, place, now);
            // What waits for its next run shows there how this one ended.
            let last = container.ended().filter(|_| current.waiting.is_some()).or(container.last.as_ref());
            ContainerStatus {
                name: spec.name.clone(),
                image: spec.image.clone().unwrap_or_default(),
                image_id: container.image_id.clone(),
                container_id: container_id(container),
                ready: done || ready,
                started: Some(container.is_running() && container.started),
                restart_count: i32::try_from(container.restarts).unwrap_or(i32::MAX),
                last_state: last.map(terminated),
                state: Some(current),
                ..ContainerStatus::default()
            }
        })
        .collect()
}

fn container_id(container: &Container) -> Option<String> {
    let id = match &container.run {
        Run::Running { id, .. } => id,
        Run::Exited(ended) => &ended.id,
        _ => &container.last.as_ref()?.id,
    };
    Some(format!("{ID_SCHEME}{id}"))
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.into()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn current(
    container: &Container,
    pod: &Pod,
    spec: &Spec,
    state: &State,
    place: Place,
    now: SystemTime,
) -> ContainerState {
    match &container.run {
        Run::Running { since, .. } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(time(*since)) }),
            ..ContainerState::default()
        },
        Run::Failed { reason, message, .. } if plan::backs_off_at(container).is_some_and(|at| at <= now) => {
            let image = spec.image.as_deref().unwrap_or_default();
            let message = format!("Back-off pulling image {image:?}: {reason}: {message}");
            waiting("ImagePullBackOff", Some(message))
        }
        Run::Failed { reason, message, .. } => waiting(reason, Some(message.clone())),
        Run::Exited(ended) => {
            let stays_ended = state.stopping.is_some()
                || plan::is_over(pod, state)
                || container.backoff.delay().is_zero()
                || place == Place::Ephemeral
                || (place == Place::Init && !plan::stays(spec) && container.succeeded());
            if stays_ended {
                return terminated(ended);
            }
            let message = format!(
                "back-off {} restarting failed container={} pod={}_{}({})",
                short(container.backoff.delay().as_secs()),
                spec.name,
                pod.metadata.name.as_deref().unwrap_or_default(),
                pod.metadata.namespace.as_deref().unwrap_or_default(),
                pod.metadata.uid.as_deref().unwrap_or_default(),
            );
            waiting("CrashLoopBackOff", Some(message))
        }
        Run::Absent | Run::Starting => {
            let before_init = place == Place::Main
                && !plan::init_containers(pod).is_empty()
                && !plan::initialized(pod, state);
            let message = match (&state.sandbox, &state.volumes) {
                (Stage::Failed { message, .. }, _) | (_, Stage::Failed { message, .. }) => {
                    Some(message.clone())
                }
                _ => None,
            };
            waiting(
                if before_init || place == Place::Init { "PodInitializing" } else { "ContainerCreating" },
                message,
            )
        }
    }
}

/// `10s`, `1m20s`, `5m0s`: as Go writes durations.
fn short(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn terminated(ended: &Ended) -> ContainerState {
    let status = &ended.status;
    let signal = match status.outcome {
        Outcome::Signaled(signal) => Some(signal),
        Outcome::Exited(_) => None,
    };
    let reason = match status.code() {
        _ if ended.reason.is_some() => ended.reason.unwrap_or_default(),
        _ if status.oom_killed => OOM_KILLED,
        0 => "Completed",
        _ => "Error",
    };
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("{ID_SCHEME}{}", ended.id)),
        exit_code: status.code(),
        signal,
        reason: Some(reason.into()),
        message: (!ended.message.is_empty()).then(|| ended.message.clone()),
        started_at: Some(time(status.started_at)),
        finished_at: Some(time(status.finished_at)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// The conditions that the node answers for.
const OWN: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];

fn conditions(
    pod: &Pod,
    state: &State,
    status: &PodStatus,
    old: Option<&PodStatus>,
    now: SystemTime,
) -> Vec<PodCondition> {
    let over = matches!(status.phase.as_deref(), Some("Succeeded"));
    let known = old.and_then(|o| o.conditions.as_deref()).unwrap_or_default();
    let unready: Vec<&str> =
        status.container_statuses.iter().flatten().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let not_ready =
        |reason: &'static str| (reason, format!("containers with unready status: [{}]", unready.join(" ")));
    let initialized = match plan::initialized(pod, state) {
        true if over => Verdict { holds: true, reason: "PodCompleted", message: String::new() },
        true => Verdict::yes(),
        false => {
            let names: Vec<&str> = status
                .init_container_statuses
                .iter()
                .flatten()
                .filter(|c| !c.ready)
                .map(|c| c.name.as_str())
                .collect();
            Verdict::no(
                "ContainersNotInitialized",
                format!("containers with incomplete status: [{}]", names.join(" ")),
            )
        }
    };
    let containers_ready = match status.phase.as_deref() {
        Some("Succeeded") => Verdict::no("PodCompleted", String::new()),
        Some("Failed") => Verdict::no("PodFailed", String::new()),
        _ if unready.is_empty() => Verdict::yes(),
        _ => {
            let (reason, message) = not_ready("ContainersNotReady");
            Verdict::no(reason, message)
        }
    };
    let ready = match missing_gates(pod, known) {
        gates if containers_ready.holds && !gates.is_empty() => Verdict::no(
            "ReadinessGatesNotReady",
            format!("corresponding condition of pod readiness gate {gates:?} does not exist or is not True."),
        ),
        _ => containers_ready.clone(),
    };
    let sandbox =
        if state.sandbox.ready().is_some() { Verdict::yes() } else { Verdict::no("", String::new()) };
    let verdicts = [sandbox, initialized, containers_ready, ready];
    let mut out: Vec<PodCondition> = OWN
        .iter()
        .zip(verdicts)
        .map(|(kind, verdict)| verdict.condition(kind, known, pod.metadata.generation, now))
        .collect();
    out.extend(known.iter().filter(|c| !OWN.contains(&c.type_.as_str())).cloned());
    out
}

/// Readiness gates that are not met.
fn missing_gates(pod: &Pod, known: &[PodCondition]) -> Vec<String> {
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_deref()).unwrap_or_default();
    let met = |kind: &str| known.iter().any(|c| c.type_ == kind && c.status == "True");
    gates.iter().map(|g| g.condition_type.clone()).filter(|kind| !met(kind)).collect()
}

#[derive(Clone, Debug)]
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self { holds: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason, message }
    }

    fn condition(
        self,
        kind: &str,
        known: &[PodCondition],
        generation: Option<i64>,
        now: SystemTime,
    ) -> PodCondition {
        let status = if self.holds { "True" } else { "False" };
        let before = known.iter().find(|c| c.type_ == kind && c.status == status);
        PodCondition {
            type_: kind.into(),
            status: status.into(),
            reason: (!self.reason.is_empty()).then(|| self.reason.into()),
            message: (!self.message.is_empty()).then_some(self.message),
            last_transition_time: before
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(time(now))),
            observed_generation: generation,
            ..PodCondition::default()
        }
    }
}

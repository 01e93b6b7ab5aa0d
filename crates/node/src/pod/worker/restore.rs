//! What is known of a pod before its worker has seen anything: what the API remembers, and what lived on.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;
use xebec_sandbox::sandbox::{ContainerInfo, ContainerState, ExitStatus, Outcome};

use crate::pod::run::START_ERROR;
use crate::pod::state::{Container, Ended, Run, State, Stopping};

pub(super) fn killed(id: String, since: SystemTime, now: SystemTime) -> Ended {
    let outcome = Outcome::Signaled(9);
    let status = ExitStatus { outcome, oom_killed: false, started_at: since, finished_at: now };
    Ended { id, status, message: String::new(), reason: None }
}

/// The state that the API remembers: how often containers ran, and how they ended.
pub(super) fn restore(pod: &Pod) -> State {
    let mut state = State::default();
    let Some(status) = &pod.status else { return state };
    state.started_at = status.start_time.as_ref().map(|t| SystemTime::from(t.0));
    if let (Some("Failed"), Some(reason)) = (status.phase.as_deref(), &status.reason) {
        // The node has ended it before: that stands.
        state.stopping = Some(Stopping {
            deadline: SystemTime::now(),
            reason: Some(reason.clone()),
            message: status.message.clone().unwrap_or_default(),
            deleted: false,
        });
    }
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let all = lists.into_iter().flatten().flatten();
    for known in all {
        let id = known.container_id.as_deref().unwrap_or_default().trim_start_matches("xebec://").to_owned();
        let mut container = Container {
            restarts: u32::try_from(known.restart_count).unwrap_or(0),
            image_id: known.image_id.clone(),
            ..Container::default()
        };
        let states = known.state.as_ref();
        let now = SystemTime::now();
        if let Some(terminated) = states.and_then(|s| s.terminated.as_ref()) {
            let at = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
                time.as_ref().map_or(now, |t| SystemTime::from(t.0))
            };
            let outcome = Outcome::Exited(terminated.exit_code);
            let (started_at, finished_at) = (at(&terminated.started_at), at(&terminated.finished_at));
            let status = ExitStatus { outcome, oom_killed: false, started_at, finished_at };
            let message = terminated.message.clone().unwrap_or_default();
            let reason = terminated.reason.as_deref().filter(|r| *r == START_ERROR).map(|_| START_ERROR);
            container.run = Run::Exited(Ended { id, status, message, reason });
        } else if let Some(running) = states.and_then(|s| s.running.as_ref()) {
            // Whether it still runs, its sandbox will say; if there is none, it ended unseen.
            let since = running.started_at.as_ref().map_or(now, |t| SystemTime::from(t.0));
            container.run = Run::Exited(killed(id, since, now));
        } else if known.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            container.run = Run::Exited(killed(id, now, now));
        }
        state.containers.insert(known.name.clone(), container);
    }
    state
}

/// Takes over the containers of a sandbox that lived on.
pub(super) fn adopt(state: &mut State, found: &[ContainerInfo]) {
    for info in found {
        let Some(name) = info.labels.get("container") else { continue };
        let restart = info.labels.get("restart").and_then(|r| r.parse().ok()).unwrap_or(0);
        let container = state.containers.entry(name.clone()).or_default();
        if restart < container.restarts {
            continue;
        }
        container.restarts = restart;
        let id = info.id.as_str().to_owned();
        container.run = match &info.state {
            ContainerState::Running { started_at } => {
                container.started = true;
                container.ready = true;
                Run::Running { id, since: *started_at }
            }
            // Its end is taken in when the worker first looks at the sandbox.
            ContainerState::Exited(status) => Run::Running { id, since: status.started_at },
            // Made but never started: it is removed with its next run.
            ContainerState::Created => Run::Absent,
        };
    }
}

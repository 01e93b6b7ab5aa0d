//! What is known of a pod before its worker has seen anything: what the API remembers, and what lived on.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::{self as status, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use xebec_sandbox::sandbox::{ContainerInfo, ContainerState, ExitStatus, Outcome};

use crate::pod::plan;
use crate::pod::run::START_ERROR;
use crate::pod::state::{Container, Ended, Run, State, Stopping};
use crate::pod::status::{ID_SCHEME, OOM_KILLED};

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
        state.containers.insert(known.name.clone(), remembered(known, SystemTime::now()));
    }
    state
}

/// A container as the API remembers it; one that ran is taken to have ended, until its sandbox says otherwise.
fn remembered(known: &ContainerStatus, now: SystemTime) -> Container {
    let running = known.state.as_ref().and_then(|s| s.running.as_ref());
    let end = terminated(known.state.as_ref()).map(|end| ended(end, now));
    let mut last = terminated(known.last_state.as_ref()).map(|last| ended(last, now));
    let own = format!("{}-{}", known.name, known.restart_count);
    let run = match (end, running) {
        (Some(end), _) => Run::Exited(end),
        (None, Some(running)) => Run::Exited(killed(own, since(running.started_at.as_ref(), now), now)),
        // What waits for its next run shows the end of this one as that of the last.
        (None, None) => last.take_if(|last| last.id == own).map_or(Run::Absent, Run::Exited),
    };
    Container {
        run,
        last,
        restarts: u32::try_from(known.restart_count).unwrap_or(0),
        image_id: known.image_id.clone(),
        started: known.started == Some(true),
        ready: known.ready,
        ..Container::default()
    }
}

fn terminated(state: Option<&status::ContainerState>) -> Option<&ContainerStateTerminated> {
    state?.terminated.as_ref()
}

/// The id that a run had in its sandbox.
fn run_id(end: &ContainerStateTerminated) -> &str {
    end.container_id.as_deref().unwrap_or_default().trim_start_matches(ID_SCHEME)
}

fn since(time: Option<&Time>, now: SystemTime) -> SystemTime {
    time.map_or(now, |t| SystemTime::from(t.0))
}

/// How a run ended, as the API was told.
fn ended(told: &ContainerStateTerminated, now: SystemTime) -> Ended {
    let outcome = told.signal.filter(|s| *s > 0).map_or(Outcome::Exited(told.exit_code), Outcome::Signaled);
    let status = ExitStatus {
        outcome,
        oom_killed: told.reason.as_deref() == Some(OOM_KILLED),
        started_at: since(told.started_at.as_ref(), now),
        finished_at: since(told.finished_at.as_ref(), now),
    };
    Ended {
        id: run_id(told).to_owned(),
        status,
        message: told.message.clone().unwrap_or_default(),
        reason: told.reason.as_deref().filter(|r| *r == START_ERROR).map(|_| START_ERROR),
    }
}

/// What the API knows of a container.
fn known<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|known| known.name == name)
}

/// Takes over the containers of a sandbox. Of those that have ended, the worker takes in the end afterwards.
pub(super) fn adopt(state: &mut State, pod: &Pod, found: &[ContainerInfo]) {
    for info in found {
        let Some(name) = info.labels.get("container") else { continue };
        let restart = info.labels.get("restart").and_then(|r| r.parse().ok()).unwrap_or(0);
        let id = info.id.as_str().to_owned();
        let container = state.containers.entry(name.clone()).or_default();
        let told = known(pod, name);
        let states = told.into_iter().flat_map(|known| [known.state.as_ref(), known.last_state.as_ref()]);
        let end_is_told = states.filter_map(terminated).any(|end| run_id(end) == id);
        if restart < container.restarts || end_is_told {
            continue;
        }
        let runs = |known: &ContainerStatus| known.state.as_ref().is_some_and(|s| s.running.is_some());
        if restart > container.restarts || !told.is_some_and(runs) {
            // The API has not heard of this run: its probes begin anew.
            let spec = plan::spec(pod, name).unwrap_or_default();
            container.started = spec.startup_probe.is_none();
            container.ready = container.started && spec.readiness_probe.is_none();
        }
        if restart > container.restarts
            && let Run::Exited(before) = std::mem::take(&mut container.run)
        {
            container.last = Some(before);
        }
        container.restarts = restart;
        container.run = match &info.state {
            ContainerState::Running { started_at } => Run::Running { id, since: *started_at },
            ContainerState::Exited(status) => Run::Running { id, since: status.started_at },
            // Made but never started: it makes room for its next run.
            ContainerState::Created => Run::Absent,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::time::Duration;
    use xebec_sandbox::config::Signal;

    /// A pod whose container `a` has a readiness probe, and this status.
    fn pod(status: &Value) -> Pod {
        let probe = json!({"tcpSocket": {"port": 1}});
        let spec = json!({"containers": [{"name": "a", "readinessProbe": probe}]});
        serde_json::from_value(json!({"spec": spec, "status": {"containerStatuses": [status]}}))
            .expect("a pod")
    }

    fn status(restarts: i32, state: &Value, last: &Value) -> Value {
        json!({"name": "a", "restartCount": restarts, "image": "", "imageID": "i", "ready": true, "started": true,
               "state": state, "lastState": last})
    }

    fn end(run: u32, code: i32) -> Value {
        json!({"terminated": {"containerID": format!("xebec://a-{run}"), "exitCode": code, "message": "m",
                              "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}})
    }

    fn running() -> Value {
        json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    }

    /// `a-1:137` for what it does, and the same for its run before.
    fn show(state: &State) -> String {
        let container = &state.containers["a"];
        let show_end = |end: &Ended| format!("{}:{}", end.id, end.status.code());
        let run = match &container.run {
            Run::Running { id, .. } => format!("{id} runs"),
            Run::Exited(end) => show_end(end),
            _ => "waits".to_owned(),
        };
        let last = container.last.as_ref().map_or("none".to_owned(), show_end);
        format!("{run}, last {last}, {} restarts, ready {}", container.restarts, container.ready)
    }

    #[test]
    fn the_api_remembers() {
        let check = |restarts, state: Value, last: Value, want: &str| {
            assert_eq!(show(&restore(&pod(&status(restarts, &state, &last)))), want);
        };
        check(2, end(2, 3), end(1, 1), "a-2:3, last a-1:1, 2 restarts, ready true");
        check(2, running(), end(1, 1), "a-2:137, last a-1:1, 2 restarts, ready true");
        let waiting = || json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(2, waiting(), end(2, 1), "a-2:1, last none, 2 restarts, ready true");
        // Its image cannot be had again.
        check(2, waiting(), end(1, 1), "waits, last a-1:1, 2 restarts, ready true");
        check(0, waiting(), Value::Null, "waits, last none, 0 restarts, ready true");
    }

    #[test]
    fn containers_are_taken_over() {
        let info = |restart: u32, state: ContainerState| ContainerInfo {
            labels: BTreeMap::from([
                ("container".to_owned(), "a".to_owned()),
                ("restart".to_owned(), restart.to_string()),
            ]),
            state,
            id: format!("a-{restart}").parse().expect("an id"),
            created_at: SystemTime::UNIX_EPOCH,
            pid: None,
            log_path: None,
            stop_signal: Signal::TERM,
        };
        let check = |status: Value, found: ContainerInfo, want: &str| {
            let pod = pod(&status);
            let mut state = restore(&pod);
            adopt(&mut state, &pod, &[found]);
            assert_eq!(show(&state), want);
        };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let runs = || ContainerState::Running { started_at: at };
        let over = || {
            let outcome = Outcome::Exited(7);
            ContainerState::Exited(ExitStatus { outcome, oom_killed: false, started_at: at, finished_at: at })
        };
        let ready = status(1, &running(), &end(0, 1));
        check(ready.clone(), info(1, runs()), "a-1 runs, last a-0:1, 1 restarts, ready true");
        check(ready.clone(), info(1, over()), "a-1 runs, last a-0:1, 1 restarts, ready true");
        // An earlier run, which is kept for its log.
        check(ready.clone(), info(0, over()), "a-1:137, last a-0:1, 1 restarts, ready true");
        // A run that the API has not heard of is not ready before its probe says so.
        check(ready, info(2, runs()), "a-2 runs, last a-1:137, 2 restarts, ready false");
        check(
            status(1, &end(1, 3), &end(0, 1)),
            info(1, over()),
            "a-1:3, last a-0:1, 1 restarts, ready true",
        );
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        check(
            status(0, &waiting, &Value::Null),
            info(0, runs()),
            "a-0 runs, last none, 0 restarts, ready false",
        );
        let made = info(0, ContainerState::Created);
        check(status(0, &waiting, &Value::Null), made, "waits, last none, 0 restarts, ready false");
    }
}

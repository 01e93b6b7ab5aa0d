//! What a simulated node says of its pods. Pure.

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// What becomes of a pod on a simulated node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Script {
    /// Its containers run, and it is ready, as soon as the conditions of its readiness gates hold.
    #[default]
    Run,
    /// Its containers run, and it never becomes ready.
    NotReady,
    /// It stays pending, its containers waiting for this reason: `ImagePullBackOff`, `CreateContainerConfigError`.
    Wait(String),
    /// Its containers end well.
    Succeed,
    /// Its containers end with this code, and the pod fails, whatever its restart policy.
    Fail(i32),
    /// Its containers keep ending with this code, and are waited with (`CrashLoopBackOff`) before they are started again.
    CrashLoop(i32),
}

/// Where a pod runs.
pub(crate) struct Place<'a> {
    pub(crate) host_ip: &'a str,
    pub(crate) pod_ip: &'a str,
}

/// The patch of a pod's status that a script asks for; `None` when all is said, or the pod has ended.
pub(crate) fn status_patch(pod: &Pod, script: &Script, place: &Place<'_>, now: Timestamp) -> Option<Value> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let started = status.and_then(|status| status.start_time.as_ref());
    let started = started.map_or_else(|| now.clone(), |time| time.0.to_string());
    let spec = pod.spec.as_ref();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let known = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let said = known.iter().map(|known| known.state.clone()).collect::<Vec<_>>();
    let containers_ready = *script == Script::Run;
    let statuses = containers.iter().map(|container| container_status(container, script, &started)).collect();
    let wanted = json!({
        "phase": phase_of(script),
        "hostIP": place.host_ip, "hostIPs": [{"ip": place.host_ip}],
        "podIP": place.pod_ip, "podIPs": [{"ip": place.pod_ip}],
        "startTime": started,
        "containerStatuses": Value::Array(statuses),
        "initContainerStatuses": first.iter().map(|c| init_status(c, script, &started)).collect::<Vec<_>>(),
        "conditions": conditions(pod, script, containers_ready, &now),
    });
    let is_said = said.len() == containers.len()
        && phase == phase_of(script)
        && contains(&serde_json::to_value(status).unwrap_or_default(), &wanted);
    (!is_said).then(|| json!({"metadata": {"uid": pod.metadata.uid}, "status": wanted}))
}

/// Whether `actual` has all that is in `wanted`; of conditions, those of the same type.
fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
            let is_empty = wanted.as_array().is_some_and(Vec::is_empty);
            actual.get(key).map_or(is_empty, |actual| contains(actual, wanted))
        }),
        (Value::Array(actual), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| actual.iter().any(|actual| contains(actual, wanted)))
        }
        (actual, wanted) => actual == wanted,
    }
}

const fn phase_of(script: &Script) -> &'static str {
    match script {
        Script::Run | Script::NotReady | Script::CrashLoop(_) => "Running",
        Script::Wait(_) => "Pending",
        Script::Succeed => "Succeeded",
        Script::Fail(_) => "Failed",
    }
}

fn container_status(container: &Container, script: &Script, started: &str) -> Value {
    let running = json!({"running": {"startedAt": started}});
    let ended = |code: i32| {
        let reason = if code == 0 { "Completed" } else { "Error" };
        json!({"terminated": {
            "exitCode": code, "reason": reason, "startedAt": started, "finishedAt": started,
            "containerID": container_id(container)
        }})
    };
    let (state, last, restarts) = match script {
        Script::Run | Script::NotReady => (running, json!({}), 0),
        Script::Wait(reason) => (json!({"waiting": {"reason": reason}}), json!({}), 0),
        Script::Succeed => (ended(0), json!({}), 0),
        Script::Fail(code) => (ended(*code), json!({}), 0),
        Script::CrashLoop(code) => {
            let message = format!("back-off restarting failed container {}", container.name);
            (json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}), ended(*code), 3)
        }
    };
    let was_started = !matches!(script, Script::Wait(_));
    json!({
        "name": container.name, "image": container.image.clone().unwrap_or_default(),
        "imageID": "", "containerID": if was_started { container_id(container) } else { String::new() },
        "ready": *script == Script::Run, "started": matches!(script, Script::Run | Script::NotReady),
        "restartCount": restarts, "state": state, "lastState": last
    })
}

fn init_status(container: &Container, script: &Script, started: &str) -> Value {
    let script = if matches!(script, Script::Wait(_)) { script } else { &Script::Succeed };
    let mut status = container_status(container, script, started);
    status["ready"] = json!(*script == Script::Succeed);
    status
}

fn container_id(container: &Container) -> String {
    format!("simulated://{}", container.name)
}

fn conditions(pod: &Pod, script: &Script, containers_ready: bool, now: &str) -> Vec<Value> {
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let holds = |kind: &str| known.iter().any(|known| known.type_ == kind && known.status == "True");
    let ready = containers_ready && gates.iter().all(|gate| holds(&gate.condition_type));
    let is_initialized = !matches!(script, Script::Wait(_));
    let ended = match script {
        Script::Succeed => Some("PodCompleted"),
        Script::Fail(_) => Some("PodFailed"),
        _ => None,
    };
    let not_ready = ended.unwrap_or("ContainersNotReady");
    [
        ("PodReadyToStartContainers", ended.is_none(), None),
        ("Initialized", is_initialized, None),
        ("ContainersReady", containers_ready, (!containers_ready).then_some(not_ready)),
        (
            "Ready",
            ready,
            (!ready).then_some(if containers_ready { "ReadinessGatesNotReady" } else { not_ready }),
        ),
    ]
    .into_iter()
    .map(|(kind, status, reason)| condition(known, kind, status, reason, now))
    .collect()
}

fn condition(known: &[PodCondition], kind: &str, holds: bool, reason: Option<&str>, now: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let same = known.iter().find(|known| known.type_ == kind && known.status == status);
    let since = same.and_then(|known| known.last_transition_time.as_ref());
    let since = since.map_or_else(|| now.to_owned(), |time| time.0.to_string());
    let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": since});
    if let Some(reason) = reason {
        condition["reason"] = json!(reason);
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { host_ip: "10.0.0.1", pod_ip: "10.244.0.1" };

    fn pod(status: &Value, gates: &[&str]) -> Pod {
        let gates: Vec<_> = gates.iter().map(|gate| json!({"conditionType": gate})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "c", "image": "i"}], "readinessGates": gates},
            "status": status
        }))
        .expect("a pod")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn status_of<'a>(patch: &'a Value, kind: &str) -> &'a str {
        let conditions = patch["status"]["conditions"].as_array().expect("conditions");
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        found.and_then(|condition| condition["status"].as_str()).expect("the condition")
    }

    #[test]
    fn scripts_make_statuses() {
        for (script, phase, ready, restarts) in [
            (Script::Run, "Running", "True", 0),
            (Script::NotReady, "Running", "False", 0),
            (Script::Wait("ImagePullBackOff".into()), "Pending", "False", 0),
            (Script::Succeed, "Succeeded", "False", 0),
            (Script::Fail(3), "Failed", "False", 0),
            (Script::CrashLoop(1), "Running", "False", 3),
        ] {
            let patch = status_patch(&pod(&json!({}), &[]), &script, &PLACE, at(0)).expect("a patch");
            assert_eq!(patch["status"]["phase"], phase, "{script:?}");
            assert_eq!(status_of(&patch, "Ready"), ready, "{script:?}");
            assert_eq!(patch["status"]["containerStatuses"][0]["restartCount"], restarts, "{script:?}");
        }
    }

    #[test]
    fn what_is_said_is_not_said_again_and_what_has_ended_has_ended() {
        let patch = status_patch(&pod(&json!({}), &[]), &Script::Run, &PLACE, at(0)).expect("a patch");
        let running = pod(&patch["status"], &[]);
        assert_eq!(status_patch(&running, &Script::Run, &PLACE, at(9)), None);
        let patch = status_patch(&running, &Script::NotReady, &PLACE, at(9)).expect("it changes");
        let conditions = patch["status"]["conditions"].as_array().expect("conditions");
        let since: Vec<_> = conditions.iter().map(|c| c["lastTransitionTime"].as_str()).collect();
        let (then, now) = (Some("1970-01-01T00:00:00Z"), Some("1970-01-01T00:00:09Z"));
        assert_eq!(since, [then, then, now, now], "only what changes has a new time");
        let ended = pod(&json!({"phase": "Failed"}), &[]);
        assert_eq!(status_patch(&ended, &Script::Run, &PLACE, at(0)), None);
    }

    #[test]
    fn gates_hold_a_pod_back() {
        let closed = status_patch(&pod(&json!({}), &["a/b"]), &Script::Run, &PLACE, at(0)).expect("a patch");
        assert_eq!((status_of(&closed, "ContainersReady"), status_of(&closed, "Ready")), ("True", "False"));
        let open = pod(&json!({"conditions": [{"type": "a/b", "status": "True"}]}), &["a/b"]);
        let open = status_patch(&open, &Script::Run, &PLACE, at(0)).expect("a patch");
        assert_eq!(status_of(&open, "Ready"), "True");
    }
}

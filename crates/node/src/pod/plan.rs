//! What is to be done next for a pod.
//!
//! The order is upstream's: sandbox and volumes, init containers one after another (those that restart stay and count
//! once they have started), then all others together. At the end the others stop first, then the init containers that
//! stayed, then the sandbox goes.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container as Spec, EphemeralContainer, Pod};

use super::state::{Container, Run, Stage, State, Stopping};

/// Something to do. Each is under way from when it is planned until its outcome has changed the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's namespaces and network.
    CreateSandbox,
    /// Fill the pod's volumes.
    SetUpVolumes,
    /// Bring the files of its volumes up to date.
    RefreshVolumes,
    /// Pull the image if need be, make the container and start it.
    Start(String),
    /// Ask a container to end, and kill it when the time is over.
    Terminate {
        /// Its name.
        name: String,
        /// How long it may take.
        grace: Duration,
    },
    /// Kill a container whose time to end is over.
    Kill(String),
    /// Take down what is left of the sandbox.
    RemoveSandbox,
    /// Take down the volumes, and tell the API that the pod is gone.
    Finish,
}

/// What to do, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub actions: Vec<Action>,
    /// When time alone changes what is to be done.
    pub wake: Option<SystemTime>,
}

impl Plan {
    fn wake_at(&mut self, time: SystemTime) {
        self.wake = Some(self.wake.map_or(time, |earlier| earlier.min(time)));
    }
}

/// Plans the next steps of a pod.
#[must_use]
pub fn plan(pod: &Pod, state: &State, now: SystemTime) -> Plan {
    let mut plan = Plan::default();
    if state.finished {
        return plan;
    }
    if let Some(stopping) = &state.stopping {
        stop(pod, state, stopping, now, &mut plan);
        return plan;
    }
    if is_over(pod, state) {
        // What stayed beside the work ends with it; results and logs stay until the pod is deleted.
        let busy = stop_containers(pod, state, now + Duration::from_secs(30), now, &mut plan);
        if !busy && !matches!(state.sandbox, Stage::Absent) {
            take_down(state, now, &mut plan);
        }
        return plan;
    }
    if let Some(deadline) = active_deadline(pod, state) {
        plan.wake_at(deadline);
    }
    let sandbox = stage(&state.sandbox, Action::CreateSandbox, now, &mut plan);
    let volumes = stage(&state.volumes, Action::SetUpVolumes, now, &mut plan);
    if sandbox && volumes {
        refresh(state, now, &mut plan);
        run_containers(pod, state, now, &mut plan);
    }
    plan
}

fn refresh(state: &State, now: SystemTime, plan: &mut Plan) {
    match state.refresh {
        Some(due) if due <= now => plan.actions.push(Action::RefreshVolumes),
        Some(due) => plan.wake_at(due),
        None => {}
    }
}

/// When `activeDeadlineSeconds` are over.
#[must_use]
pub fn active_deadline(pod: &Pod, state: &State) -> Option<SystemTime> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    Some(state.started_at? + Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn stage<T>(stage: &Stage<T>, make: Action, now: SystemTime, plan: &mut Plan) -> bool {
    match stage {
        Stage::Ready(_) => return true,
        Stage::Absent => plan.actions.push(make),
        Stage::Failed { backoff, .. } => match backoff.waits(now) {
            Some(until) => plan.wake_at(until),
            None => plan.actions.push(make),
        },
        Stage::Busy(_) => {}
    }
    false
}

/// The description of one of the pod's containers of any kind.
#[must_use]
pub fn spec(pod: &Pod, name: &str) -> Option<Spec> {
    let own = containers(pod).iter().chain(init_containers(pod)).find(|c| c.name == name);
    own.cloned().or_else(|| ephemeral_containers(pod).iter().find(|c| c.name == name).map(plain))
}

/// Containers that somebody has added to look into the running pod.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec.as_ref().and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or_default()
}

/// An ephemeral container, described as others are.
fn plain(of: &EphemeralContainer) -> Spec {
    let of = of.clone();
    Spec {
        name: of.name,
        image: of.image,
        image_pull_policy: of.image_pull_policy,
        command: of.command,
        args: of.args,
        working_dir: of.working_dir,
        env: of.env,
        env_from: of.env_from,
        volume_mounts: of.volume_mounts,
        security_context: of.security_context,
        stdin: of.stdin,
        stdin_once: of.stdin_once,
        tty: of.tty,
        termination_message_path: of.termination_message_path,
        termination_message_policy: of.termination_message_policy,
        ..Spec::default()
    }
}

/// The init containers of a pod.
pub fn init_containers(pod: &Pod) -> &[Spec] {
    pod.spec.as_ref().and_then(|s| s.init_containers.as_deref()).unwrap_or_default()
}

/// The containers of a pod.
pub fn containers(pod: &Pod) -> &[Spec] {
    pod.spec.as_ref().map(|s| s.containers.as_slice()).unwrap_or_default()
}

/// Whether an init container stays and runs beside the others.
#[must_use]
pub fn stays(init: &Spec) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
}

/// The policy for an init container of a pod with this policy.
fn init_policy<'a>(spec: &Spec, policy: &'a str) -> &'a str {
    match policy {
        _ if stays(spec) => "Always",
        "Always" => "OnFailure",
        policy => policy,
    }
}

/// Whether a run that ended this way is followed by another.
fn restarts(policy: &str, code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Whether an init container has done its part.
fn init_done(spec: &Spec, container: &Container) -> bool {
    if stays(spec) { container.started && container.is_running() } else { container.succeeded() }
}

/// Whether a container that has ended is started again.
#[must_use]
pub fn is_restarted(pod: &Pod, state: &State, name: &str) -> bool {
    let Some(ended) = state.containers.get(name).and_then(Container::ended) else { return false };
    let init = init_containers(pod).iter().find(|spec| spec.name == name);
    let policy = match (init, restart_policy(pod)) {
        (Some(spec), policy) => init_policy(spec, policy),
        (None, _) if !containers(pod).iter().any(|spec| spec.name == name) => "Never",
        (_, policy) => policy,
    };
    restarts(policy, ended.status.code())
}

/// Whether the first phase is over: every init container has had its turn.
#[must_use]
pub fn initialized(pod: &Pod, state: &State) -> bool {
    // Once a main container has been made, init containers have done their part, whatever became of them since.
    let begun = containers(pod)
        .iter()
        .any(|c| state.containers.get(&c.name).is_some_and(|c| !matches!(c.run, Run::Absent)));
    begun
        || init_containers(pod)
            .iter()
            .all(|spec| state.containers.get(&spec.name).is_some_and(|c| init_done(spec, c)))
}

fn run_containers(pod: &Pod, state: &State, now: SystemTime, plan: &mut Plan) {
    run_own_containers(pod, state, now, plan);
    for ephemeral in ephemeral_containers(pod) {
        run(&plain(ephemeral), state.containers.get(&ephemeral.name), "Never", now, plan);
    }
}

fn run_own_containers(pod: &Pod, state: &State, now: SystemTime, plan: &mut Plan) {
    let policy = restart_policy(pod);
    let ready = initialized(pod, state);
    for spec in init_containers(pod) {
        let container = state.containers.get(&spec.name);
        let policy = init_policy(spec, policy);
        if !ready || stays(spec) {
            run(spec, container, policy, now, plan);
        }
        if !ready && !container.is_some_and(|c| init_done(spec, c)) {
            return;
        }
    }
    for spec in containers(pod) {
        run(spec, state.containers.get(&spec.name), policy, now, plan);
    }
}

fn run(spec: &Spec, container: Option<&Container>, policy: &str, now: SystemTime, plan: &mut Plan) {
    let start = || Action::Start(spec.name.clone());
    let Some(container) = container else {
        plan.actions.push(start());
        return;
    };
    let waits = match &container.run {
        Run::Absent => None,
        Run::Starting | Run::Running { .. } => return,
        Run::Failed { .. } => {
            if let Some(change) = backs_off_at(container).filter(|change| *change > now) {
                plan.wake_at(change);
            }
            container.pull.waits(now).or_else(|| container.backoff.waits(now))
        }
        Run::Exited(ended) if restarts(policy, ended.status.code()) => container.backoff.waits(now),
        Run::Exited(_) => return,
    };
    match waits {
        Some(until) => plan.wake_at(until),
        None => plan.actions.push(start()),
    }
}

/// When a container whose image could not be pulled is shown as waiting for the next try.
#[must_use]
pub fn backs_off_at(container: &Container) -> Option<SystemTime> {
    const SHOWN: Duration = Duration::from_secs(2);
    match &container.run {
        Run::Failed { reason: "ErrImagePull", since, .. } => Some(*since + SHOWN),
        _ => None,
    }
}

/// Whether the pod's work is done, well or not: nothing will be started again.
#[must_use]
pub fn is_over(pod: &Pod, state: &State) -> bool {
    let policy = restart_policy(pod);
    let ended_for_good = |spec: &Spec| {
        let ended = state.containers.get(&spec.name).and_then(Container::ended);
        ended.is_some_and(|e| !restarts(policy, e.status.code()))
    };
    init_failed(pod, state) || (!containers(pod).is_empty() && containers(pod).iter().all(ended_for_good))
}

/// Whether an init container failed and is not tried again.
#[must_use]
pub fn init_failed(pod: &Pod, state: &State) -> bool {
    restart_policy(pod) == "Never"
        && init_containers(pod).iter().any(|spec| {
            let ended = state.containers.get(&spec.name).and_then(Container::ended);
            !stays(spec) && ended.is_some_and(|e| e.status.code() != 0)
        })
}

fn stop(pod: &Pod, state: &State, stopping: &Stopping, now: SystemTime, plan: &mut Plan) {
    if stop_containers(pod, state, stopping.deadline, now, plan) {
        return;
    }
    match state.sandbox {
        Stage::Absent if !stopping.deleted => {}
        _ => take_down(state, now, plan),
    }
}

/// Takes down the sandbox, and when that is gone the rest; tried again and again, ever more slowly.
fn take_down(state: &State, now: SystemTime, plan: &mut Plan) {
    if let Some(until) = state.cleanup.waits(now) {
        return plan.wake_at(until);
    }
    match (&state.sandbox, &state.volumes) {
        (Stage::Busy(_), _) | (_, Stage::Busy(_)) => {}
        (Stage::Absent, _) => plan.actions.push(Action::Finish),
        (Stage::Ready(_) | Stage::Failed { .. }, _) => plan.actions.push(Action::RemoveSandbox),
    }
}

/// Ends what runs, those that stay after the others; whether there is anything left that runs.
fn stop_containers(pod: &Pod, state: &State, deadline: SystemTime, now: SystemTime, plan: &mut Plan) -> bool {
    let grace = deadline.duration_since(now).unwrap_or_default();
    let (stay, others): (Vec<_>, Vec<_>) = state
        .containers
        .iter()
        .partition(|(name, _)| init_containers(pod).iter().any(|spec| spec.name == **name && stays(spec)));
    for group in [others, stay] {
        let mut left = false;
        for (name, container) in group {
            match container.run {
                Run::Running { .. } => {
                    left = true;
                    if !container.terminating {
                        plan.actions.push(Action::Terminate { name: name.clone(), grace });
                    } else if deadline > now {
                        plan.wake_at(deadline);
                    } else if !container.killed {
                        plan.actions.push(Action::Kill(name.clone()));
                    }
                }
                Run::Starting => left = true,
                Run::Absent | Run::Failed { .. } | Run::Exited(_) => {}
            }
        }
        if left {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::backoff::Backoff;
    use crate::pod::state::Ended;
    use k8s_openapi::api::core::v1::PodSpec;
    use xebec_sandbox::sandbox::{ExitStatus, Outcome};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// `"a b | c s*"`: containers a and b; init containers c and s, the latter staying.
    fn pod(text: &str, policy: &str) -> Pod {
        let (main, init) = text.split_once('|').unwrap_or((text, ""));
        let spec = |name: &str| Spec {
            name: name.trim_end_matches('*').into(),
            restart_policy: name.ends_with('*').then(|| "Always".into()),
            ..Spec::default()
        };
        let list = |text: &str| text.split_whitespace().map(spec).collect::<Vec<_>>();
        let spec = PodSpec {
            containers: list(main),
            init_containers: Some(list(init)),
            restart_policy: Some(policy.into()),
            ..PodSpec::default()
        };
        Pod { spec: Some(spec), ..Pod::default() }
    }

    /// `"a:run b:0 c:1"`: a runs, b ended well, c with code 1; `start` is being started.
    fn state(text: &str) -> State {
        let container = |what: &str| {
            let run = match what {
                "run" => Run::Running { id: "x".into(), since: at(0) },
                "start" => Run::Starting,
                code => Run::Exited(ended(code.parse().expect("a code"))),
            };
            Container { started: what == "run", run, ..Container::default() }
        };
        let parse = |word: &str| {
            let (name, what) = word.split_once(':').expect("name:state");
            (name.to_owned(), container(what))
        };
        State {
            sandbox: Stage::Ready(None),
            volumes: Stage::Ready(()),
            containers: text.split_whitespace().map(parse).collect(),
            ..State::default()
        }
    }

    fn ended(code: i32) -> Ended {
        let status = ExitStatus {
            outcome: Outcome::Exited(code),
            oom_killed: false,
            started_at: at(0),
            finished_at: at(0),
        };
        Ended { id: "x".into(), status, message: String::new(), reason: None }
    }

    fn show(plan: &Plan) -> String {
        let word = |action: &Action| match action {
            Action::Start(name) => format!("start {name}"),
            Action::Terminate { name, grace } => format!("end {name} {}", grace.as_secs()),
            Action::Kill(name) => format!("kill {name}"),
            other => format!("{other:?}"),
        };
        plan.actions.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_pod_begins_with_its_sandbox_and_volumes() {
        assert_eq!(show(&plan(&pod("a", "Always"), &State::default(), at(0))), "CreateSandbox, SetUpVolumes");
        let busy = Stage::Busy(Backoff::default());
        let half = State { sandbox: Stage::Ready(None), volumes: busy.clone(), ..State::default() };
        assert_eq!(plan(&pod("a", "Always"), &half, at(0)), Plan::default());
        let mut failed = State { volumes: busy, ..State::default() };
        failed.sandbox.fail(String::new(), at(0));
        assert_eq!(plan(&pod("a", "Always"), &failed, at(1)).wake, Some(at(10)));
        assert_eq!(show(&plan(&pod("a", "Always"), &failed, at(10))), "CreateSandbox");
        // The next failure is waited for longer.
        failed.sandbox.begin();
        failed.sandbox.fail(String::new(), at(10));
        assert_eq!(plan(&pod("a", "Always"), &failed, at(11)).wake, Some(at(30)));
    }

    #[test]
    fn containers_start_in_order() {
        let check = |text: &str, policy: &str, now: &str, want: &str| {
            assert_eq!(show(&plan(&pod(text, policy), &state(now), at(0))), want, "{text} {policy} {now}");
        };
        check("a b", "Always", "", "start a, start b");
        check("a | c d", "Always", "", "start c");
        check("a | c d", "Always", "c:start", "");
        check("a | c d", "Always", "c:0", "start d");
        check("a | c d", "Always", "c:1", "start c");
        check("a | c d", "Never", "c:1", "RemoveSandbox");
        check("a | c d", "Always", "c:0 d:0", "start a");
        check("a | s* d", "Always", "s:start", "");
        check("a | s* d", "Always", "s:run", "start d");
        check("a | s* d", "Always", "s:run d:0", "start a");
        check("a | s* d", "Always", "s:1 d:0 a:run", "start s");
        check("a b", "Always", "a:0 b:run", "start a");
        check("a b", "OnFailure", "a:0 b:run", "");
        check("a b", "OnFailure", "a:0 b:0", "RemoveSandbox");
        check("a b", "OnFailure", "a:1 b:run", "start a");
        check("a b", "Never", "a:1 b:run", "");
        check("a | s*", "Never", "a:0 s:run", "end s 30");
        // What could not be taken down is tried again.
        let mut stuck = state("a:0");
        stuck.sandbox.fail("busy".into(), at(0));
        stuck.cleanup.failed(at(0), Duration::ZERO, false);
        let waiting = plan(&pod("a", "Never"), &stuck, at(1));
        assert_eq!((show(&waiting).as_str(), waiting.wake), ("", Some(at(10))));
        assert_eq!(show(&plan(&pod("a", "Never"), &stuck, at(10))), "RemoveSandbox");
        check("a", "Never", "a:0", "RemoveSandbox");
    }

    #[test]
    fn a_pod_ends_in_reverse_order() {
        let check = |now: &str, sandbox: Stage<Option<std::net::IpAddr>>, want: &str| {
            let stopping =
                Some(Stopping { deadline: at(20), reason: None, message: String::new(), deleted: true });
            let state = State { stopping, sandbox, ..state(now) };
            assert_eq!(show(&plan(&pod("a b | s*", "Always"), &state, at(5))), want, "{now}");
        };
        let busy = || Stage::Busy(Backoff::default());
        check("a:run b:run s:run", Stage::Ready(None), "end a 15, end b 15");
        check("a:0 b:run s:run", Stage::Ready(None), "end b 15");
        check("a:0 b:0 s:run", Stage::Ready(None), "end s 15");
        check("a:0 b:0 s:0", Stage::Ready(None), "RemoveSandbox");
        check("a:0 b:start s:0", Stage::Ready(None), "");
        check("a:0 b:0 s:0", busy(), "");
        check("a:0 b:0 s:0", Stage::Absent, "Finish");
    }

    #[test]
    fn what_does_not_end_in_time_is_killed() {
        let mut state = state("a:run");
        state.containers.values_mut().for_each(|c| c.terminating = true);
        let stopping = |deadline, deleted| {
            Some(Stopping { deadline: at(deadline), reason: None, message: String::new(), deleted })
        };
        state.stopping = stopping(20, true);
        let waiting = plan(&pod("a", "Always"), &state, at(5));
        assert_eq!((show(&waiting).as_str(), waiting.wake), ("", Some(at(20))));
        assert_eq!(show(&plan(&pod("a", "Always"), &state, at(20))), "kill a");
        // A pod that the node has ended stays, until somebody deletes it.
        state = State { sandbox: Stage::Absent, stopping: stopping(20, false), ..self::state("a:1") };
        assert_eq!(plan(&pod("a", "Always"), &state, at(30)), Plan::default());
        state.stopping = stopping(20, true);
        assert_eq!(show(&plan(&pod("a", "Always"), &state, at(30))), "Finish");
    }

    #[test]
    fn ephemeral_containers_run_once() {
        let mut pod = pod("a", "Always");
        if let Some(spec) = &mut pod.spec {
            let one = EphemeralContainer { name: "e".into(), ..EphemeralContainer::default() };
            spec.ephemeral_containers = Some(vec![one]);
        }
        assert_eq!(show(&plan(&pod, &state("a:run"), at(0))), "start e");
        assert_eq!(show(&plan(&pod, &state("a:run e:run"), at(0))), "");
        assert_eq!(show(&plan(&pod, &state("a:run e:1"), at(0))), "");
    }

    #[test]
    fn volumes_are_refreshed_when_due() {
        let due = State { refresh: Some(at(10)), ..state("a:run") };
        assert_eq!(plan(&pod("a", "Always"), &due, at(5)).wake, Some(at(10)));
        assert_eq!(show(&plan(&pod("a", "Always"), &due, at(10))), "RefreshVolumes");
    }

    #[test]
    fn what_crashes_waits() {
        let mut state = state("a:1");
        if let Some(a) = state.containers.get_mut("a") {
            a.backoff.failed(at(0), Duration::ZERO, true);
            a.backoff.failed(at(0), Duration::ZERO, true);
        }
        let waiting = plan(&pod("a", "Always"), &state, at(1));
        assert_eq!((show(&waiting).as_str(), waiting.wake), ("", Some(at(10))));
        assert_eq!(show(&plan(&pod("a", "Always"), &state, at(10))), "start a");
    }
}

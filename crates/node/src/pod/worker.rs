//! The owner of one pod: takes what happens, plans, has actions carried out, tells the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use xebec_sandbox::client::EventStream;
use xebec_sandbox::sandbox::{Change, ContainerInfo, ContainerState, ExitStatus, Sandbox};

use super::env::Addresses;
use super::plan::{self, Action, plan};
use super::probe::{self, Purpose, Report, Target};
use super::run::{self, Failure, Made, Start, Started};
use super::state::{Container, Ended, Run, Stage, State, Stopping};
use super::status::{self, Host as HostStatus};
use crate::events::Kind;
use crate::host::Host;

/// How much of a termination message is kept, in bytes.
const MAX_MESSAGE: usize = 4096;
/// How many reports of probes wait.
const REPORTS: usize = 64;

/// What a worker is told from outside.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The pod as the API has it.
    Pod(Arc<Pod>),
    /// The API has no such pod any more.
    Gone(Arc<Pod>),
}

/// What others may know of a pod.
#[derive(Clone)]
pub struct View {
    /// The pod as the API last had it.
    pub pod: Arc<Pod>,
    /// Its sandbox, while there is one.
    pub sandbox: Option<Arc<dyn Sandbox>>,
    /// Its state.
    pub state: State,
}

/// A pod's sandbox as it was found after a restart.
pub struct Found {
    /// The sandbox.
    pub sandbox: Arc<dyn Sandbox>,
    /// Its containers.
    pub containers: Vec<ContainerInfo>,
}

/// What became of an action.
enum Outcome {
    Sandbox(Result<Made, String>),
    Volumes(Result<BTreeMap<String, PathBuf>, String>),
    Started(String, Result<Started, Failure>),
    Terminated(String, Result<(), String>),
    SandboxRemoved(Result<(), String>),
    Finished(Result<(), String>),
}

/// The owner of one pod.
pub struct Worker {
    host: Arc<Host>,
    pod: Arc<Pod>,
    gone: bool,
    state: State,
    sandbox: Option<Arc<dyn Sandbox>>,
    events: Option<EventStream>,
    volumes: BTreeMap<String, PathBuf>,
    actions: JoinSet<Outcome>,
    probes: BTreeMap<String, JoinSet<()>>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    told: Option<PodStatus>,
    view: watch::Sender<View>,
}

impl Worker {
    /// A worker for a pod, and where its state can be seen.
    #[must_use]
    pub fn new(host: Arc<Host>, pod: Arc<Pod>, found: Option<Found>) -> (Self, watch::Receiver<View>) {
        let mut state = restore(&pod);
        let mut sandbox = None;
        if let Some(found) = found {
            let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
            state.sandbox = Stage::Ready(ip);
            adopt(&mut state, &found.containers);
            sandbox = Some(found.sandbox);
        }
        let (view, seen) =
            watch::channel(View { pod: pod.clone(), sandbox: sandbox.clone(), state: state.clone() });
        let worker = Self {
            told: pod.status.clone(),
            host,
            pod,
            gone: false,
            state,
            sandbox,
            events: None,
            volumes: BTreeMap::new(),
            actions: JoinSet::new(),
            probes: BTreeMap::new(),
            reports: mpsc::channel(REPORTS),
            view,
        };
        (worker, seen)
    }

    /// Works until the pod is gone, or `wanted` is closed: then its containers are left as they are.
    pub async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        self.state.started_at.get_or_insert_with(SystemTime::now);
        self.follow_sandbox().await;
        for name in self.running() {
            self.start_probes(&name);
        }
        loop {
            let current = wanted.borrow_and_update().clone();
            self.take(current);
            let wake = self.step();
            self.tell().await;
            self.show();
            if self.state.finished {
                return;
            }
            let timer = async {
                match wake {
                    Some(time) => {
                        tokio::time::sleep(time.duration_since(SystemTime::now()).unwrap_or_default()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let event = async {
                match &mut self.events {
                    Some(events) => events.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                Some(done) = self.actions.join_next(), if !self.actions.is_empty() => match done {
                    Ok(outcome) => self.outcome(outcome).await,
                    Err(error) => tracing::error!(%error, pod = self.name(), "an action has failed"),
                },
                event = event => self.sandbox_event(event).await,
                Some(report) = self.reports.1.recv() => self.report(&report),
                () = timer => {}
            }
        }
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    fn spec(&self, name: &str) -> Option<Spec> {
        let all = plan::containers(&self.pod).iter().chain(plan::init_containers(&self.pod));
        all.into_iter().find(|c| c.name == name).cloned()
    }

    fn running(&self) -> Vec<String> {
        let running = self.state.containers.iter().filter(|(_, c)| c.is_running());
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Takes the pod as the API has it now.
    fn take(&mut self, wanted: Wanted) {
        let now = SystemTime::now();
        match wanted {
            Wanted::Pod(pod) => {
                if pod.metadata.deletion_timestamp.is_some() {
                    let grace =
                        pod.metadata.deletion_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
                    let deadline = now + Duration::from_secs(grace.unwrap_or(30));
                    let stopping = self.state.stopping.get_or_insert(Stopping {
                        deadline,
                        reason: None,
                        message: String::new(),
                    });
                    stopping.deadline = stopping.deadline.min(deadline);
                }
                self.pod = pod;
            }
            Wanted::Gone(pod) => {
                self.pod = pod;
                self.gone = true;
                self.state.stopping.get_or_insert(Stopping {
                    deadline: now,
                    reason: None,
                    message: String::new(),
                });
            }
        }
        if self.state.stopping.is_none()
            && plan::active_deadline(&self.pod, &self.state).is_some_and(|d| d <= now)
        {
            self.state.stopping = Some(Stopping {
                deadline: now + Duration::from_secs(30),
                reason: Some("DeadlineExceeded"),
                message: "Pod was active on the node longer than the specified deadline".into(),
            });
        }
    }

    /// Plans, and begins what is planned; when to look again.
    fn step(&mut self) -> Option<SystemTime> {
        let now = SystemTime::now();
        let plan = plan(&self.pod, &self.state, now);
        for action in plan.actions {
            self.begin(action);
        }
        plan.wake
    }

    fn begin(&mut self, action: Action) {
        let (host, pod) = (self.host.clone(), self.pod.clone());
        match action {
            Action::CreateSandbox => {
                self.state.sandbox = Stage::Busy;
                self.actions.spawn(async move { Outcome::Sandbox(run::create_sandbox(&host, &pod).await) });
            }
            Action::SetUpVolumes => {
                self.state.volumes = Stage::Busy;
                let addresses = self.addresses();
                self.actions.spawn(async move {
                    Outcome::Volumes(run::set_up_volumes(&host, &pod, &addresses).await)
                });
            }
            Action::Start(name) => self.begin_start(name),
            Action::Terminate { name, grace } => self.begin_terminate(name, grace),
            Action::RemoveSandbox => {
                self.state.sandbox = Stage::Busy;
                self.events = None;
                self.probes.clear();
                let sandbox = self.sandbox.take();
                self.actions.spawn(async move {
                    Outcome::SandboxRemoved(run::remove_sandbox(&host, &pod, sandbox).await)
                });
            }
            Action::Finish => {
                self.state.sandbox = Stage::Busy;
                self.actions.spawn(async move { Outcome::Finished(run::finish(&host, &pod).await) });
            }
        }
    }

    fn addresses(&self) -> Addresses {
        let ip = self.state.sandbox.ready().copied().flatten();
        Addresses { pod: ip.map(|ip| ip.to_string()).unwrap_or_default(), host: self.host.ip() }
    }

    fn begin_start(&mut self, name: String) {
        let (Some(spec), Some(sandbox)) = (self.spec(&name), self.sandbox.clone()) else { return };
        let addresses = self.addresses();
        let container = self.state.containers.entry(name.clone()).or_default();
        if let Run::Exited(ended) = std::mem::take(&mut container.run) {
            container.restarts += 1;
            container.last = Some(ended);
        }
        container.run = Run::Starting;
        container.started = false;
        container.ready = false;
        container.terminating = false;
        let start = Start { sandbox, volumes: self.volumes.clone(), addresses, restart: container.restarts };
        let (host, pod) = (self.host.clone(), self.pod.clone());
        self.actions
            .spawn(async move { Outcome::Started(name, run::start(&host, &pod, &spec, start).await) });
    }

    fn begin_terminate(&mut self, name: String, grace: Duration) {
        let (Some(spec), Some(sandbox)) = (self.spec(&name), self.sandbox.clone()) else { return };
        let Some(container) = self.state.containers.get_mut(&name) else { return };
        let Run::Running { id, .. } = &container.run else { return };
        let id = id.clone();
        container.terminating = true;
        let (host, pod) = (self.host.clone(), self.pod.clone());
        self.actions.spawn(async move {
            let result = run::terminate(&host, &pod, &spec, &*sandbox, &id, grace).await;
            Outcome::Terminated(name, result)
        });
    }

    async fn outcome(&mut self, outcome: Outcome) {
        let now = SystemTime::now();
        match outcome {
            Outcome::Sandbox(Ok(made)) => {
                self.state.sandbox = Stage::Ready(made.ip);
                self.sandbox = Some(made.sandbox);
                self.follow_sandbox().await;
            }
            Outcome::Sandbox(Err(message)) => {
                self.host.events.pod(
                    &self.pod,
                    None,
                    Kind::Warning,
                    "FailedCreatePodSandBox",
                    message.clone(),
                );
                self.state.sandbox = failed(&self.state.sandbox, message, now);
            }
            Outcome::Volumes(Ok(volumes)) => {
                self.volumes = volumes;
                self.state.volumes = Stage::Ready(());
            }
            Outcome::Volumes(Err(message)) => {
                self.host.events.pod(&self.pod, None, Kind::Warning, "FailedMount", message.clone());
                self.state.volumes = failed(&self.state.volumes, message, now);
            }
            Outcome::Started(name, Ok(started)) => self.started(&name, started),
            Outcome::Started(name, Err(failure)) => self.not_started(&name, failure, now),
            Outcome::Terminated(name, result) => {
                if let Err(error) = result {
                    tracing::warn!(
                        pod = self.name(),
                        container = name,
                        error,
                        "a container could not be ended, trying again"
                    );
                    if let Some(container) = self.state.containers.get_mut(&name) {
                        container.terminating = false;
                    }
                }
            }
            Outcome::SandboxRemoved(Ok(())) => self.state.sandbox = Stage::Absent,
            Outcome::Finished(Ok(())) => self.state.finished = true,
            Outcome::SandboxRemoved(Err(error)) | Outcome::Finished(Err(error)) => {
                tracing::warn!(pod = self.name(), error, "the pod could not be taken down yet, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.state.sandbox = Stage::Absent;
            }
        }
    }

    fn started(&mut self, name: &str, started: Started) {
        let spec = self.spec(name).unwrap_or_default();
        let Some(container) = self.state.containers.get_mut(name) else { return };
        container.image_id = started.image_id;
        container.pull.clear();
        // Its end may have been reported before its start.
        if matches!(&container.run, Run::Exited(ended) if ended.id == started.id) {
            return;
        }
        container.run = Run::Running { id: started.id, since: started.since };
        container.started = spec.startup_probe.is_none();
        container.ready = container.started && spec.readiness_probe.is_none();
        self.start_probes(name);
    }

    fn not_started(&mut self, name: &str, failure: Failure, now: SystemTime) {
        if !failure.pulling {
            self.host.events.pod(
                &self.pod,
                Some(name),
                Kind::Warning,
                "Failed",
                format!("Error: {}", failure.message),
            );
        }
        let Some(container) = self.state.containers.get_mut(name) else { return };
        let backoff = if failure.pulling { &mut container.pull } else { &mut container.backoff };
        backoff.failed(now, Duration::ZERO, false);
        container.run = Run::Failed { reason: failure.reason, message: failure.message };
    }

    /// Takes part in what happens in the sandbox, what has happened before included.
    async fn follow_sandbox(&mut self) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        match sandbox.events().await {
            Ok(events) => self.events = Some(events),
            Err(error) => return self.sandbox_lost(&error.to_string()),
        }
        match sandbox.list().await {
            Ok(containers) => {
                for info in containers {
                    if let ContainerState::Exited(status) = info.state {
                        self.exited(info.id.as_str(), status).await;
                    }
                }
            }
            Err(error) => self.sandbox_lost(&error.to_string()),
        }
    }

    async fn sandbox_event(
        &mut self,
        event: Result<Option<xebec_sandbox::sandbox::Event>, xebec_sandbox::sandbox::SandboxError>,
    ) {
        match event {
            Ok(Some(event)) => {
                if let Change::Exited(status) = event.change {
                    self.exited(event.container.as_str(), status).await;
                }
            }
            Ok(None) => self.sandbox_lost("it ended"),
            Err(error) => self.sandbox_lost(&error.to_string()),
        }
    }

    /// The shim is gone, and every container with it.
    fn sandbox_lost(&mut self, why: &str) {
        tracing::warn!(pod = self.name(), why, "the pod's sandbox is gone");
        self.events = None;
        self.probes.clear();
        self.sandbox = None;
        self.state.sandbox = Stage::Absent;
        let now = SystemTime::now();
        for container in self.state.containers.values_mut() {
            if let Run::Running { id, since } = &container.run {
                container.run = Run::Exited(killed(id.clone(), *since, now));
            }
        }
        self.host.events.pod(
            &self.pod,
            None,
            Kind::Normal,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.",
        );
    }

    async fn exited(&mut self, id: &str, status: ExitStatus) {
        let Some(name) = self.name_of(id) else { return };
        self.probes.remove(&name);
        let message = self.termination_message(&name, id).await;
        let Some(container) = self.state.containers.get_mut(&name) else { return };
        let well = status.finished_at.duration_since(status.started_at).unwrap_or_default();
        container.backoff.failed(SystemTime::now(), well, true);
        container.ready = false;
        container.started = false;
        container.run = Run::Exited(Ended { id: id.to_owned(), status, message });
    }

    /// The container whose present run has this id.
    fn name_of(&self, id: &str) -> Option<String> {
        let mine = |(name, container): &(&String, &Container)| match &container.run {
            Run::Running { id: running, .. } => running == id,
            Run::Starting => format!("{name}-{}", container.restarts) == id,
            _ => false,
        };
        self.state.containers.iter().find(mine).map(|(name, _)| name.clone())
    }

    async fn termination_message(&self, name: &str, id: &str) -> String {
        let dir = self.host.pod_dir(run::uid(&self.pod));
        let fallback = self.spec(name).and_then(|s| s.termination_message_policy).as_deref()
            == Some("FallbackToLogsOnError");
        let path = dir.termination_message(id);
        let text = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "no termination message");
                Vec::new()
            }
        };
        if text.is_empty() && fallback {
            tracing::debug!(
                pod = self.name(),
                container = name,
                "the log is not read for a termination message"
            );
        }
        String::from_utf8_lossy(text.get(..MAX_MESSAGE).unwrap_or(&text)).into_owned()
    }

    fn start_probes(&mut self, name: &str) {
        let (Some(spec), Some(sandbox)) = (self.spec(name), self.sandbox.clone()) else { return };
        let Some(container) = self.state.containers.get(name) else { return };
        let Run::Running { id, .. } = &container.run else { return };
        let ip = self.state.sandbox.ready().copied().flatten();
        let (id, ports) = (id.clone(), Target::ports_of(&spec));
        let netns = self.host.netns.clone();
        let target = Target { container: name.to_owned(), id, sandbox, ip, netns, ports };
        let probes = match (container.started, &spec.startup_probe) {
            (false, Some(startup)) => vec![(Purpose::Startup, startup.clone())],
            _ => [(Purpose::Liveness, spec.liveness_probe), (Purpose::Readiness, spec.readiness_probe)]
                .into_iter()
                .filter_map(|(purpose, probe)| Some((purpose, probe?)))
                .collect(),
        };
        let set = self.probes.entry(name.to_owned()).or_default();
        for (purpose, probe) in probes {
            set.spawn(probe::run(purpose, probe, target.clone(), self.reports.0.clone()));
        }
    }

    fn report(&mut self, report: &Report) {
        let probed = self.spec(&report.container).is_some_and(|s| s.readiness_probe.is_some());
        let Some(container) = self.state.containers.get_mut(&report.container) else { return };
        if !matches!(&container.run, Run::Running { id, .. } if *id == report.id) {
            return;
        }
        let what = match report.purpose {
            Purpose::Startup => "Startup",
            Purpose::Liveness => "Liveness",
            Purpose::Readiness => "Readiness",
        };
        if let Err(why) = &report.verdict {
            let message = format!("{what} probe failed: {why}");
            self.host.events.pod(&self.pod, Some(&report.container), Kind::Warning, "Unhealthy", message);
        }
        match (report.purpose, report.verdict.is_ok()) {
            (Purpose::Readiness, ready) => container.ready = ready,
            (Purpose::Startup, true) => {
                container.started = true;
                container.ready = !probed;
                self.start_probes(&report.container);
            }
            (Purpose::Liveness, true) => {}
            (Purpose::Startup | Purpose::Liveness, false) => {
                let message = format!(
                    "Container {} failed {} probe, will be restarted",
                    report.container,
                    what.to_lowercase()
                );
                self.host.events.pod(&self.pod, Some(&report.container), Kind::Normal, "Killing", message);
                let grace = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
                let grace = Duration::from_secs(grace.and_then(|g| u64::try_from(g).ok()).unwrap_or(30));
                self.begin_terminate(report.container.clone(), grace);
            }
        }
    }

    /// Tells the API how the pod is, if that has changed.
    async fn tell(&mut self) {
        if self.gone || self.state.finished {
            return;
        }
        let old = self.pod.status.as_ref().or(self.told.as_ref());
        let host = HostStatus { ip: self.host.ip() };
        let new = status::status(&self.pod, &self.state, &host, old, SystemTime::now());
        if self.told.as_ref() == Some(&new) {
            return;
        }
        let api: Api<Pod> = Api::namespaced(
            self.host.client.clone(),
            self.pod.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let patch = serde_json::json!({"metadata": {"uid": self.pod.metadata.uid}, "status": new});
        match api.patch_status(self.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => self.told = Some(new),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                tracing::debug!(pod = self.name(), "the API has another pod of this name, or none");
            }
            Err(error) => tracing::warn!(pod = self.name(), %error, "the pod's status could not be told"),
        }
    }

    fn show(&self) {
        let view = View { pod: self.pod.clone(), sandbox: self.sandbox.clone(), state: self.state.clone() };
        self.view.send_replace(view);
    }
}

fn failed<T>(stage: &Stage<T>, message: String, now: SystemTime) -> Stage<T> {
    let mut backoff = match stage {
        Stage::Failed { backoff, .. } => *backoff,
        _ => super::backoff::Backoff::default(),
    };
    backoff.failed(now, Duration::ZERO, false);
    Stage::Failed { message, backoff }
}

fn killed(id: String, since: SystemTime, now: SystemTime) -> Ended {
    let outcome = xebec_sandbox::sandbox::Outcome::Signaled(9);
    let status = ExitStatus { outcome, oom_killed: false, started_at: since, finished_at: now };
    Ended { id, status, message: String::new() }
}

/// The state that the API remembers: how often containers ran, and how they ended.
fn restore(pod: &Pod) -> State {
    let mut state = State::default();
    let Some(status) = &pod.status else { return state };
    state.started_at = status.start_time.as_ref().map(|t| SystemTime::from(t.0));
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
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
            let outcome = xebec_sandbox::sandbox::Outcome::Exited(terminated.exit_code);
            let (started_at, finished_at) = (at(&terminated.started_at), at(&terminated.finished_at));
            let status = ExitStatus { outcome, oom_killed: false, started_at, finished_at };
            let message = terminated.message.clone().unwrap_or_default();
            container.run = Run::Exited(Ended { id, status, message });
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
fn adopt(state: &mut State, found: &[ContainerInfo]) {
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
            ContainerState::Exited(status) => {
                Run::Exited(Ended { id, status: status.clone(), message: String::new() })
            }
            // Made but never started: it is removed with its next run.
            ContainerState::Created => Run::Absent,
        };
    }
}

//! The owner of one pod: takes what happens, plans, has actions carried out, tells the API.

mod containers;
mod outcome;
mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use xebec_image::store::Lease;
use xebec_sandbox::client::EventStream;
use xebec_sandbox::config::ContainerId;
use xebec_sandbox::sandbox::{ContainerInfo, ContainerState, ExitStatus, Sandbox};

use self::restore::{adopt, restore};
use super::ask::Target;
use super::env::Surroundings;
use super::plan::{self, Action, plan};
use super::probe::Report;
use super::run::{self, Failure, Made, Start, Started};
use super::state::{Run, Stage, State, Stopping};
use super::status::{self, Host as HostStatus};
use super::volumes::{Contents, Places};
use crate::host::Host;
use crate::registration;

/// How many reports of probes wait.
const REPORTS: usize = 64;
/// How soon volumes that could not be brought up to date are tried again, if nothing changes before.
const REFRESH_RETRY: Duration = Duration::from_secs(60);
/// How long a container has to end when nothing says so.
const GRACE: Duration = Duration::from_secs(30);

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

/// What was found of a pod after a restart.
pub struct Found {
    /// Its sandbox, if that lived on.
    pub sandbox: Option<Arc<dyn Sandbox>>,
    /// Whether that says what runs in it; else it only makes room for another.
    pub answers: bool,
    /// Its containers; all of them ended, if the sandbox has.
    pub containers: Vec<ContainerInfo>,
    /// What keeps the image layers of each container, by its name.
    pub images: Images,
}

/// What keeps the image layers of containers, by their names.
pub type Images = BTreeMap<String, Arc<Vec<Lease>>>;

/// What became of an action.
enum Outcome {
    Sandbox(Result<Made, String>),
    Volumes(Contents, Result<Places, String>),
    Refreshed(Contents, Result<Places, String>),
    Started(String, Result<Started, Failure>),
    Terminated(String, Result<(), String>),
    SandboxRemoved(Option<Arc<dyn Sandbox>>, Result<(), String>),
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
    places: Places,
    /// What the volumes show; an action has it while it fills them.
    contents: Option<Contents>,
    images: Images,
    /// Ends of containers whose sandbox has not outlived the earlier server, to be taken in.
    ends: Vec<(ContainerId, ExitStatus)>,
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
        let mut images = Images::new();
        let mut ends = Vec::new();
        if let Some(found) = found {
            if found.sandbox.is_some() && !found.answers {
                state.sandbox.fail("the pod's sandbox does not answer".into(), SystemTime::now());
            } else if found.sandbox.is_some() {
                let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
                state.sandbox = Stage::Ready(ip);
            }
            adopt(&mut state, &pod, &found.containers);
            if found.sandbox.is_none() {
                let ended = |info: ContainerInfo| match info.state {
                    ContainerState::Exited(status) => Some((info.id, status)),
                    _ => None,
                };
                ends = found.containers.into_iter().filter_map(ended).collect();
            }
            sandbox = found.sandbox;
            images = found.images;
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
            places: Places::new(),
            contents: Some(Contents::default()),
            images,
            ends,
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
        for (id, status) in std::mem::take(&mut self.ends) {
            self.exited(id.as_str(), status).await;
        }
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
            let changes = async {
                match &mut self.contents {
                    Some(contents) => contents.changed().await,
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
                () = changes => self.contents_changed(),
                Some(report) = self.reports.1.recv() => self.report(&report),
                () = timer => {}
            }
        }
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    fn spec(&self, name: &str) -> Option<Spec> {
        plan::spec(&self.pod, name)
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
                    let grace = pod.metadata.deletion_grace_period_seconds;
                    self.delete(now + grace.map_or(GRACE, seconds));
                }
                let (old, new) = (&self.pod.metadata, &pod.metadata);
                if old.labels != new.labels || old.annotations != new.annotations {
                    self.state.refresh = Some(now);
                }
                self.pod = pod;
            }
            Wanted::Gone(pod) => {
                self.pod = pod;
                self.gone = true;
                self.delete(now);
            }
        }
        if self.state.stopping.is_none()
            && plan::active_deadline(&self.pod, &self.state).is_some_and(|d| d <= now)
        {
            self.state.stopping = Some(Stopping {
                deadline: now + self.grace(),
                reason: Some("DeadlineExceeded".into()),
                message: "Pod was active on the node longer than the specified deadline".into(),
                deleted: false,
            });
        }
    }

    /// The pod is to be gone at `deadline`.
    fn delete(&mut self, deadline: SystemTime) {
        let stopping = self.state.stopping.get_or_insert(Stopping {
            deadline,
            reason: None,
            message: String::new(),
            deleted: true,
        });
        stopping.deleted = true;
        stopping.deadline = stopping.deadline.min(deadline);
    }

    /// How long the pod's containers have to end.
    fn grace(&self) -> Duration {
        let declared = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        declared.map_or(GRACE, seconds)
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
            // What could not be removed before is in the way of a new one.
            Action::CreateSandbox if self.sandbox.is_some() => self.begin_removal(),
            Action::CreateSandbox => {
                self.state.sandbox.begin();
                self.actions.spawn(async move { Outcome::Sandbox(run::create_sandbox(&host, &pod).await) });
            }
            Action::SetUpVolumes => {
                self.state.volumes.begin();
                let (around, contents) = (self.around(), self.contents.take().unwrap_or_default());
                self.actions.spawn(async move {
                    let (contents, filled) = run::set_up_volumes(&host, &pod, &around, contents).await;
                    Outcome::Volumes(contents, filled)
                });
            }
            Action::RefreshVolumes => {
                // What is being brought up to date is looked at again afterwards.
                let Some(contents) = self.contents.take() else { return };
                self.state.refresh = None;
                let around = self.around();
                self.actions.spawn(async move {
                    let (contents, filled) = run::set_up_volumes(&host, &pod, &around, contents).await;
                    Outcome::Refreshed(contents, filled)
                });
            }
            Action::Start(name) => self.begin_start(name),
            Action::Terminate { name, grace } => self.begin_terminate(name, grace),
            Action::Kill(name) => self.begin_kill(name),
            Action::RemoveSandbox => self.begin_removal(),
            Action::Finish => {
                self.state.sandbox.begin();
                self.actions.spawn(async move { Outcome::Finished(run::finish(&host, &pod).await) });
            }
        }
    }

    fn begin_removal(&mut self) {
        self.state.sandbox.begin();
        self.events = None;
        self.probes.clear();
        let (host, pod, sandbox) = (self.host.clone(), self.pod.clone(), self.sandbox.take());
        self.actions.spawn(async move {
            let removed = run::remove_sandbox(&host, &pod, sandbox.as_deref()).await;
            Outcome::SandboxRemoved(sandbox, removed)
        });
    }

    fn around(&self) -> Surroundings {
        let ip = self.state.sandbox.ready().copied().flatten();
        Surroundings {
            pod: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host: self.host.ip(),
            allocatable: registration::allocatable(),
        }
    }

    fn begin_start(&mut self, name: String) {
        let (Some(spec), Some(sandbox)) = (self.spec(&name), self.sandbox.clone()) else { return };
        let (around, ip) = (self.around(), self.state.sandbox.ready().copied().flatten());
        let beside = self.beside(&name);
        let container = self.state.containers.entry(name.clone()).or_default();
        if let Run::Exited(ended) = std::mem::take(&mut container.run) {
            container.restarts += 1;
            container.last = Some(ended);
        }
        container.run = Run::Starting;
        container.started = false;
        container.ready = false;
        container.terminating = false;
        container.killed = false;
        container.early_end = None;
        let (volumes, restart) = (self.places.clone(), container.restarts);
        let start = Start { sandbox, volumes, around, ip, beside, restart };
        let (host, pod) = (self.host.clone(), self.pod.clone());
        self.actions
            .spawn(async move { Outcome::Started(name, run::start(&host, &pod, &spec, start).await) });
    }

    /// The run of the container that an ephemeral one is to look at.
    fn beside(&self, name: &str) -> Option<String> {
        let ephemeral = plan::ephemeral_containers(&self.pod).iter().find(|c| c.name == name)?;
        let target = ephemeral.target_container_name.as_ref()?;
        match &self.state.containers.get(target)?.run {
            Run::Running { id, .. } => Some(id.clone()),
            _ => None,
        }
    }

    /// A running container, to be asked something.
    fn target(&self, name: &str) -> Option<Target> {
        let Run::Running { id, .. } = &self.state.containers.get(name)?.run else { return None };
        Some(Target {
            container: name.to_owned(),
            id: id.clone(),
            sandbox: self.sandbox.clone()?,
            ip: self.state.sandbox.ready().copied().flatten(),
            netns: self.host.netns.clone(),
            ports: Target::ports_of(&self.spec(name)?),
        })
    }

    fn begin_terminate(&mut self, name: String, grace: Duration) {
        let (Some(spec), Some(target)) = (self.spec(&name), self.target(&name)) else { return };
        let Some(container) = self.state.containers.get_mut(&name) else { return };
        container.terminating = true;
        let (host, pod) = (self.host.clone(), self.pod.clone());
        self.actions.spawn(async move {
            let result = run::terminate(&host, &pod, &spec, &target, grace).await;
            Outcome::Terminated(name, result)
        });
    }

    fn begin_kill(&mut self, name: String) {
        let Some(target) = self.target(&name) else { return };
        let Some(container) = self.state.containers.get_mut(&name) else { return };
        container.killed = true;
        self.actions.spawn(async move {
            let result = run::kill(&*target.sandbox, &target.id).await;
            Outcome::Terminated(name, result)
        });
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

/// A grace period as it was declared; none is longer than the 136 years that 32 bits count, so that any can be added to a
/// time.
fn seconds(declared: i64) -> Duration {
    Duration::from_secs(u32::try_from(declared.max(0)).unwrap_or(u32::MAX).into())
}

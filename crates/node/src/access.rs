//! What the API server asks of the node's pods: their logs, commands in them, connections to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xebec_network::netns::Netns;
use xebec_sandbox::config::{ContainerId, ExecConfig};
use xebec_sandbox::sandbox::{BoxFuture, Sandbox};

use crate::host::Host;
use crate::logs::LogSource;
use crate::manager;
use crate::pod::plan;
use crate::pod::run::uid;
use crate::pod::state::{Container, Run as State};
use crate::pod::worker::View;
use crate::registration::MAX_PODS;
use crate::streams::{ContainerRef, PodError, PodRef, Pods, Process, Run};

/// How long a connection to a pod may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node's pods, as streams see them.
pub struct Access {
    host: Arc<Host>,
    pods: Arc<manager::Pods>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Access {
    /// Access to `pods`; what it waits for ends with `shutdown`.
    #[must_use]
    pub fn new(host: Arc<Host>, pods: Arc<manager::Pods>, shutdown: CancellationToken) -> Self {
        Self { host, pods, tasks: TaskTracker::new(), shutdown }
    }

    fn watch(&self, pod: &PodRef) -> Result<watch::Receiver<View>, PodError> {
        self.pods.watch(&pod.namespace, &pod.name).ok_or_else(|| PodError::PodNotFound(pod.clone()))
    }

    fn find(&self, container: &ContainerRef) -> Result<(View, Container), PodError> {
        let view = self.watch(&container.pod)?.borrow().clone();
        if plan::spec(&view.pod, &container.container).is_none() {
            return Err(PodError::ContainerNotFound(container.clone()));
        }
        let state = view.state.containers.get(&container.container).cloned().unwrap_or_default();
        Ok((view, state))
    }

    /// The sandbox and run of a container that runs.
    fn running(&self, container: &ContainerRef) -> Result<(Arc<dyn Sandbox>, ContainerId), PodError> {
        let (view, state) = self.find(container)?;
        let what = || PodError::NotRunning { container: container.clone(), state: describe(&state).into() };
        let (Some(sandbox), State::Running { id, .. }) = (view.sandbox, &state.run) else {
            return Err(what());
        };
        let id = id.parse().map_err(|_| what())?;
        Ok((sandbox, id))
    }
}

/// What a container does, in the words of its status.
fn describe(container: &Container) -> &str {
    match &container.run {
        State::Absent | State::Starting => "ContainerCreating",
        State::Failed { reason, .. } => reason,
        State::Running { .. } => "Running",
        State::Exited(ended) if ended.status.code() == 0 => "Completed",
        State::Exited(_) => "Error",
    }
}

impl Pods for Access {
    fn check_container(&self, container: &ContainerRef) -> Result<(), PodError> {
        self.running(container).map(drop)
    }

    fn check_pod(&self, pod: &PodRef) -> Result<(), PodError> {
        let view = self.watch(pod)?.borrow().clone();
        let connected = view.sandbox.is_some_and(|sandbox| sandbox.netns_path().is_some());
        if connected { Ok(()) } else { Err(PodError::PodNotRunning(pod.clone())) }
    }

    fn exec<'a>(
        &'a self,
        container: &'a ContainerRef,
        config: ExecConfig,
    ) -> BoxFuture<'a, Result<Process, PodError>> {
        Box::pin(async move {
            let (sandbox, id) = self.running(container)?;
            Ok(sandbox.exec(&id, config).await?.into())
        })
    }

    fn attach<'a>(&'a self, container: &'a ContainerRef) -> BoxFuture<'a, Result<Process, PodError>> {
        Box::pin(async move {
            let (sandbox, id) = self.running(container)?;
            Ok(sandbox.attach(&id).await?.into())
        })
    }

    fn log(&self, container: &ContainerRef, run: Run) -> Result<LogSource, PodError> {
        let (view, state) = self.find(container)?;
        let begun = matches!(state.run, State::Running { .. } | State::Exited(_)) || state.last.is_some();
        let dir = self.host.pod_dir(uid(&view.pod));
        let ended = CancellationToken::new();
        let restart = match run {
            Run::Current if !begun => {
                let reason = describe(&state).to_owned();
                return Err(PodError::Waiting { container: container.clone(), reason });
            }
            // While the next run is being made, the last one is what there is to read.
            Run::Current if !matches!(state.run, State::Running { .. } | State::Exited(_)) => {
                state.restarts.saturating_sub(1)
            }
            Run::Current => state.restarts,
            Run::Previous if state.restarts == 0 => return Err(PodError::NoPrevious(container.clone())),
            Run::Previous => state.restarts - 1,
        };
        match (&state.run, run) {
            (State::Running { id, .. }, Run::Current) => {
                let wait = until_ended(self.watch(&container.pod)?, container.container.clone(), id.clone());
                let (token, shutdown) = (ended.clone(), self.shutdown.clone());
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = wait => {}
                        () = shutdown.cancelled() => {}
                    }
                    token.cancel();
                });
            }
            _ => ended.cancel(),
        }
        Ok(LogSource { path: dir.log(&container.container, restart), ended })
    }

    fn list(&self) -> Vec<Arc<Pod>> {
        self.pods.list()
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "maxPods": MAX_PODS, "podPidsLimit": self.host.pod_processes,
            "clusterDNS": [self.host.dns.to_string()], "clusterDomain": self.host.domain
        })
    }

    fn dial<'a>(&'a self, pod: &'a PodRef, port: u16) -> BoxFuture<'a, Result<TcpStream, PodError>> {
        Box::pin(async move {
            let sandbox = self.watch(pod)?.borrow().sandbox.clone();
            let not_running = || PodError::PodNotRunning(pod.clone());
            let sandbox = sandbox.ok_or_else(not_running)?;
            let path = sandbox.netns_path().ok_or_else(not_running)?;
            let failed = |error: xebec_network::netns::NetnsError| {
                let source = std::io::Error::other(crate::pod::run::chain(&error));
                PodError::Dial { port, source }
            };
            let netns = Netns::open(path).map_err(failed)?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            netns.tcp_connect(address, PATIENCE).await.map_err(failed)
        })
    }
}

/// Ends when the run has.
async fn until_ended(mut view: watch::Receiver<View>, container: String, run: String) {
    let runs = |view: &View| {
        let state = view.state.containers.get(&container).map(|c| &c.run);
        matches!(state, Some(State::Running { id, .. }) if *id == run)
    };
    while runs(&view.borrow_and_update()) && view.changed().await.is_ok() {}
}

//! Shims: started for a pod each, found again after a restart of the server, and buried.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::mount::{UnmountFlags, unmount};
use tokio::task::JoinSet;

use super::Runtime;
use super::pod::ShimSandbox;
use crate::client::ShimClient;
use crate::config::{PodSandboxConfig, SandboxId};
use crate::sandbox::{
    ContainerInfo, ContainerState, ErrorKind, ExitStatus, Outcome, Recovered, Sandbox, SandboxError,
};
use crate::shim::{Record, STATE, members, netns_pin, pod_dir, user_pin};
use crate::wire::{EngineOptions, Request, Response, SandboxInfo, ShimOrder, ShimReport};

/// How long a shim that is killed has to be gone.
pub(super) const KILLED: Duration = Duration::from_secs(5);

/// Starting and finding shims.
#[derive(Debug, Clone)]
pub(super) struct Shims {
    pub(super) runtime: Arc<Runtime>,
    pub(super) options: EngineOptions,
}

impl Shims {
    pub(super) async fn create(&self, config: PodSandboxConfig) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let order = ShimOrder {
            run_dir: self.runtime.run_dir.clone(),
            engine: self.options.clone(),
            limits: self.runtime.limits,
            pod: config,
        };
        let shim_args = self.runtime.shim_args.clone();
        let info = blocking(move || start_shim(&order, &shim_args)).await?;
        Ok(Arc::new(self.handle(info)))
    }

    /// Looks at all pods at once: one whose shim hangs keeps no other waiting, and one that cannot be taken over keeps
    /// none from being found.
    pub(super) async fn recover(&self) -> Result<Vec<Recovered>, SandboxError> {
        let pods = self.runtime.run_dir.join("pods");
        let run_directory =
            |source| SandboxError::RunDirectory { action: "read", path: pods.clone(), source };
        let mut looks = JoinSet::new();
        for entry in fs::read_dir(&pods).map_err(run_directory)? {
            let name = entry.map_err(run_directory)?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse::<SandboxId>().ok()) {
                let shims = self.clone();
                looks.spawn(async move { (id.clone(), shims.recover_one(id).await) });
            }
        }
        let mut found = Vec::new();
        while let Some(look) = looks.join_next().await {
            match look {
                Ok((_, Ok(recovered))) => found.extend(recovered),
                Ok((id, Err(error))) => tracing::error!(%id, %error, "a pod of an earlier server is lost"),
                Err(error) => tracing::error!(%error, "looking at a pod of an earlier server has failed"),
            }
        }
        Ok(found)
    }

    /// `None` for a pod of another engine. A shim that does not answer is of no use to anybody: it is killed.
    async fn recover_one(&self, id: SandboxId) -> Result<Option<Recovered>, SandboxError> {
        let client = self.client(&id);
        match client.call(&Request::Info).await {
            Ok(Response::Info(info)) if info.engine == self.options.kind() => {
                Ok(Some(Recovered::Alive(Arc::new(self.handle(info)))))
            }
            Ok(Response::Info(_)) => Ok(None),
            Ok(other) => Err(client.unexpected(&other)),
            Err(error) if error.kind() == ErrorKind::Gone => self.bury(id).await,
            Err(SandboxError::Connection { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
                tracing::warn!(%id, "a shim does not answer and is killed");
                client.kill(KILLED).await?;
                self.bury(id).await
            }
            Err(error) => Err(error),
        }
    }

    async fn bury(&self, id: SandboxId) -> Result<Option<Recovered>, SandboxError> {
        let run_dir = self.runtime.run_dir.clone();
        let engine = self.options.kind();
        blocking(move || {
            let state = pod_dir(&run_dir, &id).join(STATE);
            let record = match fs::read(&state) {
                Ok(bytes) => serde_json::from_slice::<Record>(&bytes).ok(),
                Err(_) => None,
            };
            if record.as_ref().is_some_and(|record| record.info.engine != engine) {
                return Ok(None);
            }
            remove_remains(&run_dir, &id)?;
            // A pod without a readable record died while it was being created.
            let (labels, containers) =
                record.map(|record| (record.info.labels, record.containers)).unwrap_or_default();
            let containers = containers.into_iter().map(as_killed).collect();
            Ok(Some(Recovered::Dead { id, labels, containers }))
        })
        .await
    }

    fn client(&self, id: &SandboxId) -> ShimClient {
        ShimClient { id: id.clone(), directory: pod_dir(&self.runtime.run_dir, id) }
    }

    fn handle(&self, info: SandboxInfo) -> ShimSandbox {
        ShimSandbox {
            client: self.client(&info.id),
            netns: info.isolated_network.then(|| netns_pin(&self.runtime.run_dir, &info.id)),
            run_dir: self.runtime.run_dir.clone(),
            info,
        }
    }
}

/// A container of a dead shim: what lived in it was killed with it.
fn as_killed(mut info: ContainerInfo) -> ContainerInfo {
    const SIGKILL: i32 = 9;
    let finished_at = SystemTime::now();
    let started_at = match info.state {
        ContainerState::Exited(_) => return info,
        ContainerState::Running { started_at } => started_at,
        ContainerState::Created => finished_at,
    };
    let outcome = Outcome::Signaled(SIGKILL);
    info.state = ContainerState::Exited(ExitStatus { outcome, oom_killed: false, started_at, finished_at });
    info.pid = None;
    info
}

/// Runs what may block, off the asynchronous threads.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, SandboxError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SandboxError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(SandboxError::Refused {
                kind: ErrorKind::Internal,
                message: "the server is stopping".to_owned(),
            }),
        },
    }
}

/// Starts a pod's shim and waits for its report.
fn start_shim(order: &ShimOrder, shim_args: &[OsString]) -> Result<SandboxInfo, SandboxError> {
    let id = &order.pod.id;
    let directory = pod_dir(&order.run_dir, id);
    fs::create_dir(&directory).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => SandboxError::Refused {
            kind: ErrorKind::AlreadyExists,
            message: format!("there is a sandbox {id} already"),
        },
        _ => SandboxError::RunDirectory { action: "make", path: directory.clone(), source },
    })?;
    let report = run_shim(order, shim_args)
        .map_err(|source| SandboxError::Spawn { id: id.clone(), source })
        .and_then(|report| match report {
            ShimReport::Ready(info) => Ok(info),
            ShimReport::Failed { kind, message } => Err(SandboxError::Refused { kind, message }),
        });
    if report.is_err()
        && let Err(error) = remove_remains(&order.run_dir, id)
    {
        tracing::warn!(%id, %error, "what a failed sandbox left could not be removed");
    }
    report
}

fn run_shim(order: &ShimOrder, shim_args: &[OsString]) -> io::Result<ShimReport> {
    let mut child = Command::new("/proc/self/exe")
        .args(shim_args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let order = serde_json::to_vec(order).map_err(io::Error::other)?;
    let sent = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(&order),
        None => Ok(()),
    };
    // The child itself ends at once; its own child, the shim, holds the pipe until it reports.
    let output = child.wait_with_output()?;
    sent?;
    serde_json::from_slice(&output.stdout).map_err(|_| io::Error::other("it ended without a word"))
}

/// Removes what a dead shim left: its directory and the pin of its network.
pub(super) fn remove_remains(run_dir: &Path, id: &SandboxId) -> Result<(), SandboxError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| SandboxError::RunDirectory { action, path, source }
    };
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    absent_is_fine(kill_orphans(&user_pin(run_dir, id))).map_err(failed("kill the processes of", run_dir))?;
    for pin in [netns_pin(run_dir, id), user_pin(run_dir, id)] {
        match unmount(&pin, UnmountFlags::DETACH) {
            // Not there, or never mounted.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(failed("unmount", &pin)(error.into())),
        }
        absent_is_fine(fs::remove_file(&pin)).map_err(failed("remove", &pin))?;
    }
    let directory = pod_dir(run_dir, id);
    absent_is_fine(fs::remove_dir_all(&directory)).map_err(failed("remove", &directory))
}

/// Kills what a shim that died has left in its pod's user namespace.
fn kill_orphans(pin: &Path) -> io::Result<()> {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    let namespace = fs::File::open(pin)?;
    // A pin that was never mounted is an ordinary file.
    let filesystem = rustix::fs::fstatfs(&namespace)?;
    if u64::try_from(filesystem.f_type).is_ok_and(|magic| magic == NSFS_MAGIC) {
        members::kill(members::Kind::User, namespace.as_fd())?;
    }
    Ok(())
}

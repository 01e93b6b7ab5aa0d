//! The engines: how sandboxes are made, found again and removed.
//!
//! An engine starts a shim for each pod and talks to it; what a shim does is
//! described there. In the run directory:
//!
//! ```text
//!  pods/<id>/shim.sock    where the shim listens (0600)
//!  pods/<id>/state.json   the shim's containers, for the day it is found dead
//!  netns/pod-<id>         the pod's network namespace
//!  netns/user-<id>        the pod's user namespace
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustix::mount::{UnmountFlags, unmount};

use crate::client::{EventStream, Session, ShimClient};
use crate::config::{ContainerConfig, ContainerId, ExecConfig, PodSandboxConfig, SandboxId, Signal};
use crate::sandbox::{
    BoxFuture, ContainerInfo, ContainerState, Engine, EngineKind, ErrorKind, ExitStatus, Limits, Outcome,
    Recovered, Sandbox, SandboxError, Stats, Unavailable,
};
use crate::shim::{Record, STATE, members, netns_pin, pod_dir, user_pin};
use crate::wire::{EngineOptions, Request, Response, SandboxInfo, ShimOrder, ShimReport};

/// What every engine of a server has in common.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The keeper's run directory.
    pub run_dir: PathBuf,
    /// The hidden arguments with which this same program calls `shim::main`.
    pub shim_args: Vec<OsString>,
    /// What the keeper found can be limited.
    pub limits: Limits,
}

/// Linux containers in a nested user namespace.
#[derive(Debug, Clone)]
pub struct OciEngine {
    shims: Shims,
}

impl OciEngine {
    /// An engine over a keeper's run directory.
    #[must_use]
    pub fn new(runtime: Runtime) -> Self {
        Self { shims: Shims { runtime: Arc::new(runtime), options: EngineOptions::Oci } }
    }
}

impl Engine for OciEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Oci
    }

    /// Whatever let the keeper start is enough.
    fn available(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    fn create(&self, config: PodSandboxConfig) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>> {
        Box::pin(self.shims.create(config))
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<Recovered>, SandboxError>> {
        Box::pin(self.shims.recover())
    }
}

/// Containers on gVisor, a kernel in user space, by the external `runsc`.
///
/// Each container is a gVisor sandbox of its own; those of a pod share the
/// pod's network and volumes, but neither processes nor `/dev/shm`. A limit of
/// processes is not enforced.
#[derive(Debug, Clone)]
pub struct GvisorEngine {
    runtime: Arc<Runtime>,
    shims: Arc<OnceLock<Result<Shims, Unavailable>>>,
}

impl GvisorEngine {
    /// An engine over a keeper's run directory. `runsc` is looked for when it is first needed.
    #[must_use]
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime: Arc::new(runtime), shims: Arc::default() }
    }

    fn shims(&self) -> Result<&Shims, Unavailable> {
        let found = self.shims.get_or_init(|| {
            let runsc = find_runsc()?;
            let platform = choose_platform(&runsc)?;
            let options = EngineOptions::Gvisor { runsc, platform };
            Ok(Shims { runtime: Arc::clone(&self.runtime), options })
        });
        found.as_ref().map_err(Clone::clone)
    }
}

impl Engine for GvisorEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Gvisor
    }

    fn available(&self) -> Result<(), Unavailable> {
        self.shims().map(drop)
    }

    fn create(&self, config: PodSandboxConfig) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>> {
        Box::pin(async move { self.shims()?.create(config).await })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<Recovered>, SandboxError>> {
        Box::pin(async move {
            match self.shims() {
                Ok(shims) => shims.recover().await,
                // Without runsc there are no pods of this engine either.
                Err(_) => Ok(Vec::new()),
            }
        })
    }
}

fn unavailable(reason: String) -> Unavailable {
    Unavailable { engine: EngineKind::Gvisor, reason }
}

fn find_runsc() -> Result<PathBuf, Unavailable> {
    crate::bootstrap::find_program("runsc").ok_or_else(|| {
        unavailable(
            "`runsc` is missing; install it with `sudo apt install runsc`, or from gVisor's site".to_owned(),
        )
    })
}

/// The fastest way of catching system calls that this `runsc` offers and that needs no device.
fn choose_platform(runsc: &Path) -> Result<String, Unavailable> {
    let failed = |reason: String| unavailable(format!("`{} flags` {reason}", runsc.display()));
    let output = Command::new(runsc)
        .arg("flags")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let flags = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let platforms = flags.lines().find(|line| line.contains("which platform to use")).unwrap_or_default();
    ["systrap", "ptrace"]
        .into_iter()
        .find(|platform| platforms.contains(platform))
        .map(str::to_owned)
        .ok_or_else(|| failed("names no platform that Xebec can use (systrap or ptrace)".to_owned()))
}

/// Starting and finding shims.
#[derive(Debug, Clone)]
struct Shims {
    runtime: Arc<Runtime>,
    options: EngineOptions,
}

impl Shims {
    async fn create(&self, config: PodSandboxConfig) -> Result<Arc<dyn Sandbox>, SandboxError> {
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

    async fn recover(&self) -> Result<Vec<Recovered>, SandboxError> {
        let pods = self.runtime.run_dir.join("pods");
        let run_directory =
            |source| SandboxError::RunDirectory { action: "read", path: pods.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&pods).map_err(run_directory)? {
            let name = entry.map_err(run_directory)?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse::<SandboxId>().ok())
                && let Some(recovered) = self.recover_one(id).await?
            {
                found.push(recovered);
            }
        }
        Ok(found)
    }

    /// `None` for a pod of another engine.
    async fn recover_one(&self, id: SandboxId) -> Result<Option<Recovered>, SandboxError> {
        let client = self.client(&id);
        match client.call(&Request::Info).await {
            Ok(Response::Info(info)) if info.engine == self.options.kind() => {
                Ok(Some(Recovered::Alive(Arc::new(self.handle(info)))))
            }
            Ok(Response::Info(_)) => Ok(None),
            Ok(other) => Err(client.unexpected(&other)),
            Err(error) if error.kind() == ErrorKind::Gone => self.bury(id).await,
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
async fn blocking<T, F>(work: F) -> Result<T, SandboxError>
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
fn remove_remains(run_dir: &Path, id: &SandboxId) -> Result<(), SandboxError> {
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

/// A pod behind a shim's socket.
struct ShimSandbox {
    client: ShimClient,
    info: SandboxInfo,
    netns: Option<PathBuf>,
    run_dir: PathBuf,
}

impl Sandbox for ShimSandbox {
    fn id(&self) -> &SandboxId {
        &self.info.id
    }

    fn engine(&self) -> EngineKind {
        self.info.engine
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.info.labels
    }

    fn netns_path(&self) -> Option<&Path> {
        self.netns.as_deref()
    }

    fn limits(&self) -> Limits {
        self.info.limits
    }

    fn create_container(&self, config: ContainerConfig) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Create(Box::new(config))).await })
    }

    fn start<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Start(container.clone())).await })
    }

    fn signal<'a>(
        &'a self,
        container: &'a ContainerId,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Signal(container.clone(), signal)).await })
    }

    fn wait<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<ExitStatus, SandboxError>> {
        Box::pin(async move {
            match self.client.call(&Request::Wait(container.clone())).await? {
                Response::Exited(status) => Ok(status),
                other => Err(self.client.unexpected(&other)),
            }
        })
    }

    fn exec<'a>(
        &'a self,
        container: &'a ContainerId,
        config: ExecConfig,
    ) -> BoxFuture<'a, Result<Session, SandboxError>> {
        Box::pin(async move {
            let request = Request::Exec(container.clone(), Box::new(config));
            Ok(Session::new(self.client.stream(&request).await?))
        })
    }

    fn attach<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Session, SandboxError>> {
        Box::pin(
            async move { Ok(Session::new(self.client.stream(&Request::Attach(container.clone())).await?)) },
        )
    }

    fn stats<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Stats, SandboxError>> {
        Box::pin(async move {
            match self.client.call(&Request::Stats(container.clone())).await? {
                Response::Stats(stats) => Ok(stats),
                other => Err(self.client.unexpected(&other)),
            }
        })
    }

    fn remove_container<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::RemoveContainer(container.clone())).await })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ContainerInfo>, SandboxError>> {
        Box::pin(async move {
            match self.client.call(&Request::List).await? {
                Response::Containers(containers) => Ok(containers),
                other => Err(self.client.unexpected(&other)),
            }
        })
    }

    fn events(&self) -> BoxFuture<'_, Result<EventStream, SandboxError>> {
        Box::pin(async move { Ok(EventStream::new(self.client.stream(&Request::Events).await?)) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Stop).await })
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            match self.client.call_until_end(&Request::Remove).await {
                Ok(()) => {}
                // Gone already: only its remains are left to remove.
                Err(error) if error.kind() == ErrorKind::Gone => {}
                Err(error) => return Err(error),
            }
            let (run_dir, id) = (self.run_dir.clone(), self.info.id.clone());
            blocking(move || remove_remains(&run_dir, &id)).await
        })
    }
}

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

mod pod;
mod shims;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use self::shims::Shims;
use crate::config::PodSandboxConfig;
use crate::sandbox::{BoxFuture, Engine, EngineKind, Limits, Recovered, Sandbox, SandboxError, Unavailable};
use crate::wire::EngineOptions;

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

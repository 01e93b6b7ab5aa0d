//! The `Engine` and `Sandbox` traits: how the node agent runs pods without
//! knowing what isolates them.
//!
//! An `Engine` makes sandboxes of one kind and finds those that outlived a
//! server. A `Sandbox` is one pod: a handle to a process of its own (the shim)
//! that owns the pod's namespaces and containers and keeps running when the
//! server ends. Dropping a handle changes nothing; any number of handles may
//! exist.
//!
//! ```text
//!  create_container        start             exit
//!  ───────────────▶ Created ───▶ Running ─────────▶ Exited ──▶ (remove_container)
//!                      └───────────── signal KILL ────▲
//! ```
//!
//! Every change is an `Event`; nothing needs to be polled.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::client::{EventStream, Session};
use crate::config::{ContainerConfig, ContainerId, ExecConfig, PodSandboxConfig, SandboxId, Signal};

/// What every asynchronous operation here returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes sandboxes of one kind.
pub trait Engine: Send + Sync {
    /// Which kind.
    fn kind(&self) -> EngineKind;

    /// Whether this host can run it; the error says what to install or change.
    fn available(&self) -> Result<(), Unavailable>;

    /// Creates a pod: its namespaces exist and its network can be configured
    /// when this returns. No container runs yet.
    ///
    /// Fails with `AlreadyExists` when a sandbox of that id exists. A failed
    /// creation leaves nothing behind.
    fn create(&self, config: PodSandboxConfig) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>>;

    /// Finds the sandboxes of this engine in the run directory, after a server restart.
    fn recover(&self) -> BoxFuture<'_, Result<Vec<Recovered>, SandboxError>>;
}

/// The kinds of engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Linux containers in a nested user namespace.
    Oci,
    /// The same containers on a kernel in user space, by the external `runsc`.
    Gvisor,
}

impl EngineKind {
    /// The name as configuration spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::Gvisor => "gvisor",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an engine cannot be used on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {engine} engine is not available: {reason}")]
pub struct Unavailable {
    /// The engine.
    pub engine: EngineKind,
    /// What is missing and what to do about it.
    pub reason: String,
}

/// A sandbox found by `Engine::recover`.
pub enum Recovered {
    /// Its shim lives; the handle is as good as the one that `create` gave.
    Alive(Arc<dyn Sandbox>),
    /// Its shim is gone and with it every process of the pod. What it left in
    /// the run directory has been removed.
    Dead {
        /// The sandbox.
        id: SandboxId,
        /// The pod's labels.
        labels: BTreeMap<String, String>,
        /// The containers as last recorded; those that ran are reported as
        /// ended by `SIGKILL` now.
        containers: Vec<ContainerInfo>,
    },
}

/// One pod.
pub trait Sandbox: Send + Sync {
    /// The id it was created with.
    fn id(&self) -> &SandboxId;

    /// The engine that made it.
    fn engine(&self) -> EngineKind;

    /// The labels it was created with.
    fn labels(&self) -> &BTreeMap<String, String>;

    /// Where its network namespace is pinned; `None` with the host's network.
    fn netns_path(&self) -> Option<&Path>;

    /// Which limits are in force.
    fn limits(&self) -> Limits;

    /// Prepares a container: file system mounted, process waiting to be started.
    ///
    /// `AlreadyExists` for a second container of that id; `CommandNotFound`
    /// and `CommandNotRunnable` when its program cannot be run.
    fn create_container(&self, config: ContainerConfig) -> BoxFuture<'_, Result<(), SandboxError>>;

    /// Starts a created container. `InvalidState` when it was started before.
    fn start<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<(), SandboxError>>;

    /// Sends a signal to a container's first process; `KILL` ends every
    /// process of the container. Signalling an ended container succeeds.
    fn signal<'a>(
        &'a self,
        container: &'a ContainerId,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), SandboxError>>;

    /// Waits until a container has ended. Returns at once when it has.
    fn wait<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<ExitStatus, SandboxError>>;

    /// Runs a process inside a running container.
    fn exec<'a>(
        &'a self,
        container: &'a ContainerId,
        config: ExecConfig,
    ) -> BoxFuture<'a, Result<Session, SandboxError>>;

    /// Connects to a container's first process: its output from now on, and its input.
    fn attach<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Session, SandboxError>>;

    /// What a container uses now.
    fn stats<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Stats, SandboxError>>;

    /// Ends and forgets a container: its file system is unmounted, its exit
    /// status is gone. Its `writable` directory and logs stay. Succeeds when
    /// there is no such container.
    fn remove_container<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<(), SandboxError>>;

    /// Every container, ended ones included.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ContainerInfo>, SandboxError>>;

    /// Changes from now on. The stream ends when the sandbox does.
    fn events(&self) -> BoxFuture<'_, Result<EventStream, SandboxError>>;

    /// Kills every process of the pod; the containers stay listed as ended.
    fn stop(&self) -> BoxFuture<'_, Result<(), SandboxError>>;

    /// Ends the whole sandbox: processes, mounts, namespaces and shim are gone
    /// when this returns. Succeeds when they are gone already.
    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>>;
}

/// Which limits a host can enforce for containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, by a delegated cgroup.
    pub memory: bool,
    /// Number of processes of the pod, by a delegated cgroup or by the pod's user namespace.
    pub pids: bool,
    /// Processor time, by a delegated cgroup.
    pub cpu: bool,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// Prepared, not started.
    Created,
    /// Started.
    Running {
        /// When.
        started_at: SystemTime,
    },
    /// Ended.
    Exited(ExitStatus),
}

/// A container as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Its id.
    pub id: ContainerId,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: SystemTime,
    /// The process id of its first process, in the server's view.
    pub pid: Option<u32>,
    /// The labels it was created with.
    pub labels: BTreeMap<String, String>,
    /// Where its output is written.
    pub log_path: Option<PathBuf>,
    /// The signal that asks it to end.
    pub stop_signal: Signal,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// By itself or by a signal.
    pub outcome: Outcome,
    /// The kernel ended a process of the container because memory was short.
    pub oom_killed: bool,
    /// When it was started; equal to `finished_at` when it never was.
    pub started_at: SystemTime,
    /// When it ended.
    pub finished_at: SystemTime,
}

impl ExitStatus {
    /// The exit code as a shell reports it: 128 + the signal's number for a killed process.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self.outcome {
            Outcome::Exited(code) => code,
            Outcome::Signaled(signal) => 128 + signal,
        }
    }
}

/// How a process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It exited with this code.
    Exited(i32),
    /// The signal of this number ended it.
    Signaled(i32),
}

/// A change of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which container.
    pub container: ContainerId,
    /// What happened.
    pub change: Change,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// It was prepared.
    Created,
    /// It was started.
    Started,
    /// It ended.
    Exited(ExitStatus),
    /// It was removed.
    Removed,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time used since its start, by all its processes that still
    /// live (without a cgroup) or ever lived (with one).
    pub cpu: Duration,
    /// Memory in use that cannot be given back by dropping caches.
    pub memory_bytes: u64,
    /// Processes.
    pub processes: u64,
    /// Bytes of output that could not be written to the log, as when the disk was full.
    pub log_bytes_lost: u64,
}

/// Why an operation on a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The shim refused the request.
    #[error("{message}")]
    Refused {
        /// What kind of refusal.
        kind: ErrorKind,
        /// What failed and why, for a person.
        message: String,
    },
    /// The shim's process could not be started.
    #[error("cannot start the process that holds pod {id}")]
    Spawn {
        /// The sandbox.
        id: SandboxId,
        /// Why.
        source: std::io::Error,
    },
    /// The shim's process ended.
    #[error("the process that holds pod {id} is gone, and the pod with it")]
    Gone {
        /// The sandbox.
        id: SandboxId,
    },
    /// The connection to the shim broke.
    #[error("lost the connection to the process that holds pod {id}")]
    Connection {
        /// The sandbox.
        id: SandboxId,
        /// Why.
        source: std::io::Error,
    },
    /// The shim's answer does not follow the protocol.
    #[error("the process that holds pod {id} answered {what}")]
    Protocol {
        /// The sandbox.
        id: SandboxId,
        /// What is wrong with the answer.
        what: String,
    },
    /// The engine is not usable here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The run directory cannot be used.
    #[error("cannot {action} {path}")]
    RunDirectory {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl SandboxError {
    /// The kind of failure, for decisions.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Gone { .. } => ErrorKind::Gone,
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Spawn { .. }
            | Self::Connection { .. }
            | Self::Protocol { .. }
            | Self::RunDirectory { .. } => ErrorKind::Internal,
        }
    }
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// The configuration cannot be carried out; trying again will not help.
    InvalidConfig,
    /// There is no such container.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The container is not in a state that allows this.
    InvalidState,
    /// The program to run does not exist in the container.
    CommandNotFound,
    /// The program to run exists but cannot be executed.
    CommandNotRunnable,
    /// A bound was reached; the message names it.
    LimitReached,
    /// The sandbox is gone.
    Gone,
    /// The engine cannot be used on this host.
    Unavailable,
    /// Anything else: the message says what failed.
    Internal,
}

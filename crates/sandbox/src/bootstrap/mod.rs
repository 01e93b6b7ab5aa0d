//! How an ordinary user's process becomes a place where pods can run.
//!
//! ```text
//!  xebec up ── preflight ──▶ Keeper::spawn                     (host, the user's own id)
//!                │ clone: new user, mount, process and cgroup namespaces
//!                ▼
//!              keeper (process 1, user id 0 inside)            keeper::main
//!                ├─ server: started, restarted, its end ends all
//!                └─ shims, one per pod, adopted from the server
//! ```
//!
//! Inside, user id 0 is the user outside, and 1..=65535 are subordinate ids
//! that `newuidmap` and `newgidmap` grant. When the keeper ends, the kernel
//! kills every process of its process namespace and drops the mounts and
//! network namespaces with it: nothing can be left on the host.
//!
//! This module never runs a container and never keeps state on disk but for
//! `KeeperInfo` in the run directory, which each new keeper empties.

mod cgroup;
mod identity;
mod keeper;
mod preflight;
mod spawn;
mod stop;
mod supervise;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use identity::{Identity, IdentityError};
pub use keeper::main as keeper_main;
pub use preflight::{IdRange, Preflight, PreflightFailure, Problem, preflight};
pub use spawn::{Keeper, KeeperEnd};
pub use stop::stop;
pub use supervise::EXIT_FATAL;

use crate::sandbox::Limits;

/// How the keeper is to be started.
#[derive(Debug, Clone)]
pub struct KeeperConfig {
    /// Holds sockets and pinned namespaces. Absolute; made with mode 0700 and emptied.
    pub run_dir: PathBuf,
    /// Arguments with which this same program calls `keeper_main`.
    pub keeper_args: Vec<OsString>,
    /// The server: this same program again.
    pub server: ServerCommand,
    /// What the keeper's life depends on.
    pub lifetime: Lifetime,
    /// How long the server may take to stop before it is killed with everything else.
    pub stop_grace: Duration,
}

/// The server, as this same program with these arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerCommand {
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, whole but for `HOME` and `PATH`, which the keeper sets.
    pub env: Vec<(OsString, OsString)>,
}

/// What the keeper's life depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifetime {
    /// The process that spawned it: when that ends, however it does, the
    /// keeper stops. Output goes where that process's output goes.
    Foreground,
    /// Nothing. Output is appended to this file, made with mode 0600.
    Detached {
        /// The file.
        log: PathBuf,
    },
}

/// What the server can rely on, as the keeper recorded it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeeperInfo {
    /// The keeper's process id on the host.
    pub host_pid: u32,
    /// When that process began, which no other process of this number shares.
    pub began: Began,
    /// The user on whose behalf all runs.
    pub identity: Identity,
    /// The run directory.
    pub run_dir: PathBuf,
    /// Where the node's network namespace is pinned; loopback is up in it.
    pub node_netns: PathBuf,
    /// The limits that this host lets containers have.
    pub limits: Limits,
}

/// The begin of a process: the machine's boot, and the clock ticks from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    boot: String,
    ticks: u64,
}

impl Began {
    /// When the process of this number, or `self`, began.
    fn of(process: &str) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name before it, in parentheses, may hold anything; see proc_pid_stat(5), field 22.
        let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
        let ticks = ticks.and_then(|ticks| ticks.parse().ok()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{process}/stat tells no begin"))
        })?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { boot, ticks })
    }
}

impl KeeperInfo {
    const FILE: &'static str = "keeper.json";

    /// Reads what the keeper of a run directory recorded.
    pub fn load(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(Self::FILE);
        let bytes = fs::read(&path)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is of another version of Xebec ({error}); stop that with its own `xebec down`, or if it does \
                     not run any more, remove the file",
                    path.display()
                ),
            )
        })
    }

    fn save(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        let fresh = self.run_dir.join("keeper.new");
        fs::write(&fresh, bytes)?;
        fs::rename(fresh, self.run_dir.join(Self::FILE))
    }
}

/// Where pods' and the node's network namespaces are pinned.
pub(crate) fn netns_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("netns")
}

/// Why the keeper could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The host or the process lacks something.
    #[error(transparent)]
    Preflight(#[from] PreflightFailure),
    /// The run directory is not usable.
    #[error("the run directory {path} {problem}")]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// `newuidmap` or `newgidmap` refused.
    #[error("{program} did not grant the subordinate ids: {output}")]
    IdMapping {
        /// The program.
        program: PathBuf,
        /// What it said.
        output: String,
    },
    /// The keeper reported a failure.
    #[error("the keeper could not start: {message}")]
    Keeper {
        /// What it said.
        message: String,
    },
}

/// What goes to a new keeper, as one JSON document.
#[derive(Debug, Serialize, Deserialize)]
struct KeeperOrder {
    run_dir: PathBuf,
    identity: Identity,
    host_pid: u32,
    server: ServerCommand,
    stop_grace: Duration,
}

/// What a new keeper says, once.
#[derive(Debug, Serialize, Deserialize)]
enum KeeperReport {
    Ready(KeeperInfo),
    Failed(String),
}

/// The descriptors that a keeper is started with, beside the standard three.
mod descriptors {
    /// Where it reads its `KeeperOrder`.
    pub(super) const ORDER: i32 = 3;
    /// Where it writes its `KeeperReport`.
    pub(super) const REPORT: i32 = 4;
    /// Closed on the other side when the keeper must stop. Closed from the
    /// start in a detached keeper.
    pub(super) const LIFELINE: i32 = 5;
    /// The first number that is not passed on.
    pub(super) const END: i32 = 6;
}

/// Directories searched for programs, whatever the caller's environment says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds an installed program of the host.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

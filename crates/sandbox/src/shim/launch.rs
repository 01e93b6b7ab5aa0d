//! Creating a container's first process with the OCI runtime library.
//!
//! The library changes the process that calls it (working directory, OOM score,
//! whether it can be inspected) and may block, so it runs in a child of its
//! own. The container's process becomes a child of the shim all the same:
//!
//! ```text
//!  shim ──fork──▶ creator ──▶ library: intermediate ──▶ init
//!   ▲                │                (clone as siblings: children of the shim)
//!   └── pid ─────────┘
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::notify_socket::NotifySocket;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use super::finish::Finish;
use super::refusal::{Refusal, cannot};
use crate::config::ContainerId;
use crate::sandbox::ErrorKind;
use crate::sys::{self, Fork, SingleThreaded};

/// Where the library keeps its own files of each container.
const LIBRARY_ROOT: &str = "/lib";

/// How long the creation of a process, or its start, may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The standard streams of a process to be.
pub(crate) struct ChildStreams {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// How a process to be is connected.
pub(crate) enum Connection {
    Streams(ChildStreams),
    /// The library makes a terminal and sends it to this socket.
    Terminal {
        socket: PathBuf,
    },
}

/// A created process that waits to be started.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) pid: Pid,
    /// Closed when the program has been executed; carries a `Verdict` if it cannot be.
    verdict: OwnedFd,
    id: ContainerId,
}

/// What the children of this module tell the shim.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    Created(i32),
    Refused { kind: ErrorKind, message: String },
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { kind: refusal.kind, message: refusal.message }
    }
}

/// Creates the process of a bundle.
pub(crate) fn create(
    proof: SingleThreaded,
    id: &ContainerId,
    bundle: &Path,
    finish: Finish,
    connection: Connection,
) -> Result<Waiting, Refusal> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(cannot("make a pipe"));
    let (report_read, report_write) = pipe()?;
    let (verdict_read, verdict_write) = pipe()?;
    let creator = match sys::fork(proof).map_err(cannot("fork"))? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop((report_read, verdict_read));
            let executor = Launcher { finish, verdict: verdict_write.as_raw_fd() };
            let verdict = match build(id, bundle, executor, connection) {
                Ok(pid) => Verdict::Created(pid),
                Err(refusal) => refusal.into(),
            };
            sys::exit_now(i32::from(!tell(&report_write, &verdict)));
        }
    };
    drop((report_write, verdict_write, connection));
    let report = read_all(report_read, TIME_LIMIT);
    if report.is_err() {
        // It hangs, or is gone already.
        rustix::process::kill_process(creator, Signal::KILL).unwrap_or_default();
    }
    rustix::process::waitpid(Some(creator), WaitOptions::empty())
        .map_err(cannot("wait for the child that creates a container"))?;
    let failure = match parse(&report.map_err(cannot(format!("create container {id}")))?)? {
        Some(Verdict::Created(pid)) => {
            let pid = Pid::from_raw(pid)
                .ok_or_else(|| Refusal::new(ErrorKind::Internal, "the container's process has no id"))?;
            return Ok(Waiting { pid, verdict: verdict_read, id: id.clone() });
        }
        Some(Verdict::Refused { kind, message }) => Refusal::new(kind, message),
        None => Refusal::new(ErrorKind::Internal, format!("the creation of container {id} broke off")),
    };
    forget(id);
    // The process itself knows better than the library why it cannot run.
    match parse(&read_all(verdict_read, TIME_LIMIT).unwrap_or_default()) {
        Ok(Some(Verdict::Refused { kind, message })) => Err(Refusal::new(kind, message)),
        _ => Err(failure),
    }
}

fn build(
    id: &ContainerId,
    bundle: &Path,
    executor: Launcher,
    connection: Connection,
) -> Result<i32, Refusal> {
    let failed = |error: &dyn std::error::Error| {
        let mut message = format!("cannot create container {id}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Refusal::new(ErrorKind::Internal, message)
    };
    let mut builder = ContainerBuilder::new(id.to_string(), SyscallType::default())
        .with_root_path(LIBRARY_ROOT)
        .map_err(|error| failed(&error))?
        .with_executor(executor);
    builder = match connection {
        Connection::Streams(streams) => {
            builder.with_stdin(streams.stdin).with_stdout(streams.stdout).with_stderr(streams.stderr)
        }
        Connection::Terminal { socket } => builder.with_console_socket(Some(socket)),
    };
    let container = builder
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| failed(&error))?;
    let pid = container.pid().ok_or_else(|| {
        Refusal::new(ErrorKind::Internal, format!("container {id} was created without a process"))
    })?;
    Ok(pid.as_raw())
}

impl Waiting {
    /// Lets the program run. Returns when it does.
    pub(crate) fn start(self) -> Result<(), Refusal> {
        let id = self.id;
        let socket = Path::new(LIBRARY_ROOT).join(id.as_str()).join("notify.sock");
        let notified = NotifySocket::new(socket).notify_container_start();
        forget(&id);
        notified.map_err(|error| {
            Refusal::new(ErrorKind::Internal, format!("cannot start container {id}: {error}"))
        })?;
        let verdict = read_all(self.verdict, TIME_LIMIT).map_err(cannot(format!("start container {id}")))?;
        match parse(&verdict)? {
            Some(Verdict::Refused { kind, message }) => Err(Refusal::new(kind, message)),
            Some(Verdict::Created(_)) | None => Ok(()),
        }
    }
}

/// Removes the library's files of a container.
pub(crate) fn forget(id: &ContainerId) {
    let directory = Path::new(LIBRARY_ROOT).join(id.as_str());
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("xebec: cannot remove {}: {error}", directory.display());
        }
        _ => {}
    }
}

fn tell(pipe: &OwnedFd, verdict: &Verdict) -> bool {
    let Ok(bytes) = serde_json::to_vec(verdict) else { return false };
    rustix::io::write(pipe, &bytes).is_ok_and(|count| count == bytes.len())
}

/// Reads until the other side is closed, or fails when that takes too long.
pub(crate) fn read_all(pipe: OwnedFd, limit: Duration) -> std::io::Result<Vec<u8>> {
    const MAX_BYTES: u64 = 64 << 10;
    let timeout = rustix::time::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    loop {
        let mut watched = [PollFd::new(&pipe, PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) => return Err(std::io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut bytes = Vec::new();
    File::from(pipe).take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<Option<Verdict>, Refusal> {
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|error| {
        Refusal::new(ErrorKind::Internal, format!("a container's process reported nonsense: {error}"))
    })
}

/// The last step, as the library calls it.
#[derive(Clone)]
struct Launcher {
    finish: Finish,
    /// Open in the container's process until the program is executed.
    verdict: RawFd,
}

impl Launcher {
    fn refuse(&self, refusal: Refusal) {
        let bytes = serde_json::to_vec(&Verdict::from(refusal)).unwrap_or_default();
        let mut pipe = sys::borrowed_pipe(self.verdict);
        if let Err(error) = pipe.write_all(&bytes) {
            eprintln!("xebec: cannot report why a container does not start: {error}");
        }
    }
}

impl Executor for Launcher {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        self.finish.find_program().map(drop).map_err(|refusal| {
            let message = refusal.to_string();
            self.refuse(refusal);
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    /// The environment goes to the program alone.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let refusal = match self.finish.find_program() {
            Ok(program) => self.finish.run(&program),
            Err(refusal) => refusal,
        };
        let message = refusal.to_string();
        self.refuse(refusal);
        Err(ExecutorError::Other(message))
    }
}

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
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::notify_socket::NotifySocket;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::diagnosis::{Diagnosis, innermost};
use super::finish::Finish;
use super::refusal::{Refusal, cannot};
use crate::complaint::complain;
use crate::config::ContainerId;
use crate::sandbox::ErrorKind;
use crate::sys::{self, Fork, SingleThreaded};

/// Where the library keeps its own files of each container.
const LIBRARY_ROOT: &str = "/lib";

/// How long the creation of a process, or its start, may take.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(30);

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

/// How the creator's message begins when it succeeded; the process id follows.
const CREATED: u8 = b'p';

/// Creates the process of a bundle, which refers to `namespaces` by their numbers.
pub(crate) fn create(
    proof: SingleThreaded,
    id: &ContainerId,
    bundle: &Path,
    namespaces: &[RawFd],
    finish: Finish,
    connection: Connection,
) -> Result<Waiting, Refusal> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(cannot("make a pipe"));
    let (report_read, report_write) = pipe()?;
    let (verdict_read, verdict_write) = pipe()?;
    let (diagnosis_read, diagnosis_write) = pipe()?;
    let creator = match sys::fork(proof).map_err(cannot("fork"))? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop((report_read, verdict_read, diagnosis_read));
            Diagnosis::listen(diagnosis_write.as_raw_fd());
            let executor = Launcher { finish, verdict: verdict_write.as_raw_fd() };
            let keep =
                [namespaces, &[executor.verdict, report_write.as_raw_fd(), diagnosis_write.as_raw_fd()]]
                    .concat();
            let message = match prepare_creator(keep, &connection)
                .and_then(|()| build(id, bundle, executor, connection))
            {
                Ok(pid) => format!("p{pid}").into_bytes(),
                Err(refusal) => refusal.into_bytes(),
            };
            sys::exit_now(i32::from(rustix::io::write(&report_write, &message).is_err()));
        }
    };
    drop((report_write, verdict_write, diagnosis_write, connection));
    let report = read_report(&report_read, creator);
    if report.is_err() {
        // It hangs, or is gone already.
        rustix::process::kill_process(creator, Signal::KILL).unwrap_or_default();
    }
    rustix::process::waitpid(Some(creator), WaitOptions::empty())
        .map_err(cannot("wait for the child that creates a container"))?;
    let report = report.map_err(cannot(format!("create container {id}")))?;
    let failure = match report.split_first() {
        Some((&CREATED, digits)) => {
            let pid = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            let pid = pid.and_then(Pid::from_raw);
            let pid =
                pid.ok_or_else(|| Refusal::new(ErrorKind::Internal, "the container's process has no id"))?;
            return Ok(Waiting { pid, verdict: verdict_read, id: id.clone() });
        }
        Some(_) => Refusal::from_bytes(&report),
        None => Refusal::new(ErrorKind::Internal, format!("the creation of container {id} broke off")),
    };
    forget(id);
    // The process itself knows better than the library why it cannot run.
    match read_available(&verdict_read) {
        Ok(verdict) if !verdict.is_empty() => Err(Refusal::from_bytes(&verdict)),
        _ => Err(explain(failure, &diagnosis_read)),
    }
}

fn explain(mut failure: Refusal, diagnosis: &OwnedFd) -> Refusal {
    if let Some(cause) = read_available(diagnosis).ok().as_deref().and_then(innermost) {
        failure.message = format!("{} ({cause})", failure.message);
    }
    failure
}

/// Lets go of everything that is the shim's: what the container's process
/// cannot name, it cannot reach.
fn prepare_creator(mut keep: Vec<RawFd>, connection: &Connection) -> Result<(), Refusal> {
    if let Connection::Streams(ChildStreams { stdin, stdout, stderr }) = connection {
        keep.extend([stdin, stdout, stderr].map(AsRawFd::as_raw_fd));
    }
    sys::close_all_but(&keep).map_err(cannot("close descriptors"))?;
    sys::reset_signals().map_err(cannot("reset signals"))
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
        let verdict = read_verdict(&self.verdict).map_err(cannot(format!("start container {id}")))?;
        if verdict.is_empty() { Ok(()) } else { Err(Refusal::from_bytes(&verdict)) }
    }
}

/// Takes the terminal that the library has sent.
pub(crate) fn receive_terminal(listener: &UnixListener) -> Result<OwnedFd, Refusal> {
    listener.set_nonblocking(true).map_err(cannot("take the container's terminal"))?;
    // The library has sent it before it reported the container as created.
    let (stream, _) = listener.accept().map_err(cannot("take the container's terminal"))?;
    let (_, terminal) =
        super::join::receive(&stream.into()).map_err(cannot("take the container's terminal"))?;
    terminal.ok_or_else(|| Refusal::new(ErrorKind::Internal, "the container's terminal was not sent"))
}

/// Removes the library's files of a container.
pub(crate) fn forget(id: &ContainerId) {
    let directory = Path::new(LIBRARY_ROOT).join(id.as_str());
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            complain(format_args!("cannot remove {}: {error}", directory.display()));
        }
        _ => {}
    }
}

/// Most bytes of a message between the children and the shim.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Reads the creator's one message; nothing if it ends without. The pipe's end
/// is no sign: the container's process holds it open as well.
fn read_report(report: &OwnedFd, creator: Pid) -> std::io::Result<Vec<u8>> {
    let end = rustix::process::pidfd_open(creator, PidfdFlags::empty())?;
    await_readable(&[report, &end], TIME_LIMIT)?;
    rustix::io::ioctl_fionbio(report, true)?;
    read_message(report)
}

/// Reads what is in a pipe now.
fn read_available(pipe: &OwnedFd) -> std::io::Result<Vec<u8>> {
    rustix::io::ioctl_fionbio(pipe, true)?;
    read_message(pipe)
}

/// Reads one message, or nothing once the other side is closed.
fn read_verdict(pipe: &OwnedFd) -> std::io::Result<Vec<u8>> {
    await_readable(&[pipe], TIME_LIMIT)?;
    read_message(pipe)
}

fn read_message(pipe: &OwnedFd) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; MAX_MESSAGE_BYTES];
    match rustix::io::read(pipe, &mut bytes) {
        Ok(count) => bytes.truncate(count),
        Err(rustix::io::Errno::AGAIN) => bytes.clear(),
        Err(error) => return Err(error.into()),
    }
    Ok(bytes)
}

fn await_readable(descriptors: &[&OwnedFd], limit: Duration) -> std::io::Result<()> {
    let timeout = rustix::time::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    loop {
        let mut watched: Vec<_> = descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) => return Err(std::io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
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
        let mut pipe = sys::borrowed_pipe(self.verdict);
        if let Err(error) = pipe.write_all(&refusal.into_bytes()) {
            complain(format_args!("cannot report why a container does not start: {error}"));
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

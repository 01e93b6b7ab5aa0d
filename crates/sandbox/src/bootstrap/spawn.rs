//! The side of the bootstrap that stays on the host: makes the namespaces, has
//! ids mapped into them, and waits until the keeper is ready.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getrlimit, setrlimit,
};

use super::{
    BootstrapError, KeeperConfig, KeeperInfo, KeeperOrder, KeeperReport, Lifetime, PATH, Preflight, cgroup,
    descriptors,
};
use crate::sys::{self, Fork, SignalFd, SingleThreaded};

/// A keeper that runs.
#[derive(Debug)]
pub struct Keeper {
    info: KeeperInfo,
    pid: Pid,
    /// Held open: its end tells a foreground keeper to stop.
    lifeline: Option<OwnedFd>,
}

/// How a keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeeperEnd {
    /// 0 after an orderly stop, `EXIT_FATAL` when the server refused to start.
    pub code: i32,
}

impl From<WaitStatus> for KeeperEnd {
    fn from(status: WaitStatus) -> Self {
        let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
        Self { code: code.unwrap_or(1) }
    }
}

impl Keeper {
    /// Starts a keeper and returns when its server has been started.
    ///
    /// The calling process must have a single thread, and gets none.
    pub fn spawn(preflight: &Preflight, config: &KeeperConfig) -> Result<Self, BootstrapError> {
        let proof = SingleThreaded::prove().map_err(failed("make namespaces"))?;
        prepare_run_dir(&config.run_dir)?;
        let order = pipe()?;
        let report = pipe()?;
        let lifeline = pipe()?;
        let output = open_output(&config.lifetime)?;
        let null = File::open("/dev/null").map_err(failed("open /dev/null"))?;
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWCGROUP;
        let pid = match clone_with_share(proof, flags).map_err(failed("create the namespaces"))? {
            Fork::Parent(pid) => pid,
            Fork::Child => {
                drop((order.write, report.read, lifeline.write));
                let lifeline =
                    if config.lifetime == Lifetime::Foreground { Some(lifeline.read) } else { None };
                let streams = Streams { null, output, order: order.read, report: report.write, lifeline };
                let error = become_keeper(config, preflight, &streams);
                let message = format!("{error:#}");
                // Nobody is left to tell when even this fails; the exit code remains.
                let told = send_report(&streams.report, &KeeperReport::Failed(message)).is_ok();
                sys::exit_now(if told { 1 } else { 2 });
            }
        };
        drop((order.read, report.write, lifeline.read));
        let mut started = Started { pid, armed: true };
        map_ids(preflight, pid)?;
        if config.lifetime == Lifetime::Foreground {
            cgroup::step_aside();
        }
        let info = instruct(preflight, config, pid, order.write, report.read)?;
        started.armed = false;
        let lifeline = (config.lifetime == Lifetime::Foreground).then_some(lifeline.write);
        Ok(Self { info, pid, lifeline })
    }

    /// What the keeper recorded.
    #[must_use]
    pub const fn info(&self) -> &KeeperInfo {
        &self.info
    }

    /// Stays in the foreground until the keeper ends. `SIGTERM` and `SIGINT`
    /// ask it to stop; a second one makes it end at once.
    pub fn supervise(self) -> Result<KeeperEnd, BootstrapError> {
        let signals = SignalFd::open(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
            .map_err(failed("watch for signals"))?;
        let pidfd = rustix::process::pidfd_open(self.pid, PidfdFlags::empty())
            .map_err(io::Error::from)
            .map_err(failed("watch the keeper"))?;
        let mut asked = false;
        loop {
            let mut watched = [
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("wait for the keeper")(error.into())),
            }
            if !watched[1].revents().is_empty() {
                return self.wait();
            }
            while signals.next().map_err(failed("read a signal"))?.is_some() {
                let signal = if asked { Signal::KILL } else { Signal::TERM };
                asked = true;
                self.signal(signal)?;
            }
        }
    }

    /// How the keeper ended, if it has; else the keeper.
    pub fn try_wait(self) -> Result<Result<KeeperEnd, Self>, BootstrapError> {
        match rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(None) => Ok(Err(self)),
            Ok(Some((_, status))) => Ok(Ok(KeeperEnd::from(status))),
            Err(error) => Err(failed("look after the keeper")(error.into())),
        }
    }

    /// Asks the keeper to stop.
    pub fn terminate(&self) -> Result<(), BootstrapError> {
        self.signal(Signal::TERM)
    }

    /// Waits for the keeper's end.
    pub fn wait(self) -> Result<KeeperEnd, BootstrapError> {
        let status = wait_for(self.pid).map_err(failed("wait for the keeper"))?;
        drop(self.lifeline);
        Ok(KeeperEnd::from(status))
    }

    fn signal(&self, signal: Signal) -> Result<(), BootstrapError> {
        match rustix::process::kill_process(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(failed("signal the keeper")(error.into())),
        }
    }
}

/// Makes a child in new namespaces that has half of the processes that the user may have.
///
/// The kernel holds all processes in a user namespace together, at its owner, to the limit that the owner had when it was
/// made: pods that multiply without end, however many, leave their user room to stop them. A user with more than half of
/// them already has the namespaces without that.
fn clone_with_share(proof: SingleThreaded, flags: i32) -> io::Result<Fork> {
    let own = getrlimit(Resource::Nproc);
    let kernel = |name: &str| -> io::Result<Option<u64>> {
        Ok(fs::read_to_string(format!("/proc/sys/kernel/{name}"))?.trim().parse().ok())
    };
    let most = [own.current, kernel("pid_max")?, kernel("threads-max")?].into_iter().flatten().min();
    let share = Rlimit { current: most.map(|most| (most / 2).max(1)), maximum: own.maximum };
    setrlimit(Resource::Nproc, share)?;
    let made = sys::clone(proof, flags);
    if let Ok(Fork::Child) = made {
        return made;
    }
    setrlimit(Resource::Nproc, own)?;
    match made {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => sys::clone(proof, flags),
        made => made,
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> BootstrapError {
    move |source| BootstrapError::System { action, source }
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

fn pipe() -> Result<Pipe, BootstrapError> {
    let (read, write) =
        pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).map_err(failed("make a pipe"))?;
    Ok(Pipe { read, write })
}

/// A child that is killed and reaped unless it was started completely.
struct Started {
    pid: Pid,
    armed: bool,
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.armed {
            // It may have ended already; either way it is reaped below.
            rustix::process::kill_process(self.pid, Signal::KILL).unwrap_or_default();
            if let Err(error) = wait_for(self.pid) {
                tracing::warn!(%error, "cannot reap a keeper that failed to start");
            }
        }
    }
}

fn wait_for(pid: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn prepare_run_dir(path: &Path) -> Result<(), BootstrapError> {
    let problem = |problem: String| BootstrapError::RunDirectory { path: path.to_owned(), problem };
    if !path.is_absolute() {
        return Err(problem("must be an absolute path".to_owned()));
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(problem(format!("cannot be made: {error}")));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(|error| problem(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(problem("is not a directory".to_owned()));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(problem("must belong to the user alone; `chmod 0700` it, or remove it".to_owned()));
    }
    Ok(())
}

fn open_output(lifetime: &Lifetime) -> Result<Option<File>, BootstrapError> {
    let Lifetime::Detached { log } = lifetime else { return Ok(None) };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .map_err(failed("open the log file"))?;
    Ok(Some(file))
}

/// What the child gives the keeper.
struct Streams {
    null: File,
    output: Option<File>,
    order: OwnedFd,
    report: OwnedFd,
    lifeline: Option<OwnedFd>,
}

/// In the child: waits until ids are mapped and executes the keeper.
fn become_keeper(config: &KeeperConfig, preflight: &Preflight, streams: &Streams) -> BootstrapError {
    match try_become_keeper(config, preflight, streams) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

enum Never {}

fn try_become_keeper(
    config: &KeeperConfig,
    preflight: &Preflight,
    streams: &Streams,
) -> Result<Never, BootstrapError> {
    let mut go = [0];
    match rustix::io::read(&streams.order, &mut go) {
        Ok(1) => {}
        Ok(_) => return Err(failed("be started")(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(failed("be started")(error.into())),
    }
    become_root_inside().map_err(failed("become the first user inside"))?;
    rustix::process::setsid().map_err(io::Error::from).map_err(failed("leave the terminal"))?;
    let pass = |fd: &dyn AsFd, number| {
        sys::duplicate_onto(&fd.as_fd(), number).map_err(failed("pass a descriptor on"))
    };
    pass(&streams.null, 0)?;
    if let Some(output) = &streams.output {
        pass(output, 1)?;
        pass(output, 2)?;
    }
    // Each is first moved out of the way of the numbers it must get.
    let order = sys::duplicate_high(&streams.order).map_err(failed("pass a descriptor on"))?;
    let report = sys::duplicate_high(&streams.report).map_err(failed("pass a descriptor on"))?;
    let lifeline = streams.lifeline.as_ref().map(sys::duplicate_high).transpose();
    let lifeline = lifeline.map_err(failed("pass a descriptor on"))?;
    pass(&order, descriptors::ORDER)?;
    pass(&report, descriptors::REPORT)?;
    let mut end = descriptors::LIFELINE;
    if let Some(lifeline) = &lifeline {
        pass(lifeline, descriptors::LIFELINE)?;
        end = descriptors::END;
    }
    sys::close_on_exec_from(end).map_err(failed("keep descriptors from the keeper"))?;
    sys::reset_signals().map_err(failed("reset signals"))?;
    let args = [OsStr::new("xebec")].into_iter().chain(config.keeper_args.iter().map(AsRef::as_ref));
    let args = args.map(c_string).collect::<Result<Vec<_>, _>>()?;
    let mut home = b"HOME=".to_vec();
    home.extend_from_slice(preflight.identity.home.as_os_str().as_bytes());
    let env = [c_string(OsStr::from_bytes(&home))?, c_string(format!("PATH={PATH}").as_ref())?];
    Err(failed("execute the keeper")(sys::execute(&c"/proc/self/exe".to_owned(), &args, &env)))
}

fn become_root_inside() -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    Ok(())
}

fn c_string(text: &OsStr) -> Result<CString, BootstrapError> {
    CString::new(text.as_bytes()).map_err(|error| failed("pass the keeper's arguments")(error.into()))
}

/// Has id 0 mapped to the user and 1..=65535 to the subordinate ids.
fn map_ids(preflight: &Preflight, pid: Pid) -> Result<(), BootstrapError> {
    let identity = &preflight.identity;
    for (program, own, range) in [
        (&preflight.newuidmap, identity.uid, preflight.uids),
        (&preflight.newgidmap, identity.gid, preflight.gids),
    ] {
        let numbers = [0, own, 1, 1, range.start, crate::config::POD_IDS];
        let output = Command::new(program)
            .arg(pid.as_raw_nonzero().to_string())
            .args(numbers.map(|number| number.to_string()))
            .env_clear()
            .output()
            .map_err(failed("run the program that grants ids"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let output = if said.is_empty() { output.status.to_string() } else { said };
            return Err(BootstrapError::IdMapping { program: PathBuf::from(program), output });
        }
    }
    Ok(())
}

/// Sends the keeper its order and reads its report.
fn instruct(
    preflight: &Preflight,
    config: &KeeperConfig,
    pid: Pid,
    order: OwnedFd,
    report: OwnedFd,
) -> Result<KeeperInfo, BootstrapError> {
    let document = KeeperOrder {
        run_dir: config.run_dir.clone(),
        identity: preflight.identity.clone(),
        host_pid: pid.as_raw_nonzero().get().unsigned_abs(),
        server: config.server.clone(),
        stop_grace: config.stop_grace,
    };
    let mut bytes = vec![b'\n'];
    serde_json::to_writer(&mut bytes, &document)
        .map_err(|error| failed("write the keeper's order")(error.into()))?;
    let mut order = File::from(order);
    // A keeper that died before reading has reported why.
    let sent = order.write_all(&bytes);
    drop(order);
    let mut answer = Vec::new();
    File::from(report).read_to_end(&mut answer).map_err(failed("read the keeper's report"))?;
    match serde_json::from_slice(&answer) {
        Ok(KeeperReport::Ready(info)) => Ok(info),
        Ok(KeeperReport::Failed(message)) => Err(BootstrapError::Keeper { message }),
        Err(_) => {
            sent.map_err(failed("instruct the keeper"))?;
            Err(BootstrapError::Keeper { message: "it ended without a word".to_owned() })
        }
    }
}

pub(super) fn send_report(report: &impl AsFd, message: &KeeperReport) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let count = rustix::io::write(report, rest)?;
        rest = &rest[count..];
    }
    Ok(())
}

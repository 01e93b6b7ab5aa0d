//! Process 1 of Xebec's namespaces: holds them, starts the server again when
//! it dies, reaps what nobody else reaps, and ends everything by ending.
//!
//! It has one thread, one loop and next to no state, so that nothing can
//! bring it down that the kernel does not.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::spawn::send_report;
use super::supervise::{ServerEnd, Step, Supervisor};
use super::{Began, KeeperInfo, KeeperOrder, KeeperReport, PATH, cgroup, descriptors, netns_dir};
use crate::complaint::complain;
use crate::sandbox::Limits;
use crate::sys::{self, Fork, SignalFd, SingleThreaded};

/// Name of the node's network namespace in the run directory.
const NODE_NETNS: &str = "node";

/// Runs the keeper. The program calls this, as its first act, when it is
/// started with the hidden arguments of `KeeperConfig`.
pub fn main() -> ! {
    let report = match sys::inherited(descriptors::REPORT) {
        Ok(report) => report,
        Err(error) => {
            complain(format_args!("this command is started by `xebec up` only ({error})"));
            sys::exit_now(1);
        }
    };
    sys::close_inherited(descriptors::REPORT);
    let code = match prepare() {
        Ok((keeper, info)) => keeper.run(report, info),
        Err(error) => {
            if let Err(lost) = send_report(&report, &KeeperReport::Failed(error.to_string())) {
                complain(format_args!("{error} (and nobody listens: {lost})"));
            }
            1
        }
    };
    sys::exit_now(code)
}

/// Why the keeper could not prepare its namespaces.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
struct KeeperError {
    action: &'static str,
    source: io::Error,
}

fn failed<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> KeeperError {
    move |source| KeeperError { action, source: source.into() }
}

struct Keeper {
    proof: SingleThreaded,
    signals: SignalFd,
    lifeline: Option<OwnedFd>,
    server_args: Vec<CString>,
    server_env: Vec<CString>,
    supervisor: Supervisor,
    server: Option<Pid>,
}

fn prepare() -> Result<(Keeper, KeeperInfo), KeeperError> {
    let order = read_order().map_err(failed("read the order"))?;
    let lifeline = sys::inherited(descriptors::LIFELINE).ok();
    sys::close_inherited(descriptors::LIFELINE);
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    std::env::set_current_dir("/").map_err(failed("enter the root directory"))?;
    sys::join_fresh_keyring().map_err(failed("leave the caller's keys"))?;
    let signals = SignalFd::open(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(failed("watch for signals"))?;
    isolate_mounts()?;
    let proof = SingleThreaded::prove().map_err(failed("count threads"))?;
    cgroup::mount_hierarchy().map_err(failed("mount the control group hierarchy (version 2)"))?;
    let mut limits = cgroup::delegate();
    // Without a delegated group, the pod's user namespace bounds its processes.
    limits.pids = true;
    empty_run_dir(&order.run_dir).map_err(failed("empty the run directory"))?;
    let node_netns = pin_node_network(proof, &order.run_dir)?;
    let began = Began::of("self").map_err(failed("read when this process began"))?;
    let info = info(&order, began, node_netns, limits);
    info.save().map_err(failed("record what the server relies on"))?;
    let keeper = Keeper {
        proof,
        signals,
        lifeline,
        server_args: server_args(&order)?,
        server_env: server_env(&order)?,
        supervisor: Supervisor::new(Instant::now(), order.stop_grace),
        server: None,
    };
    Ok((keeper, info))
}

fn info(order: &KeeperOrder, began: Began, node_netns: PathBuf, limits: Limits) -> KeeperInfo {
    KeeperInfo {
        host_pid: order.host_pid,
        began,
        identity: order.identity.clone(),
        run_dir: order.run_dir.clone(),
        node_netns,
        limits,
    }
}

fn read_order() -> io::Result<KeeperOrder> {
    let mut bytes = Vec::new();
    File::from(sys::inherited(descriptors::ORDER)?).read_to_end(&mut bytes)?;
    sys::close_inherited(descriptors::ORDER);
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// Cuts the mounts off from the host's and shows the processes inside only.
fn isolate_mounts() -> Result<(), KeeperError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("make the mounts private"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(failed("mount /proc"))
}

fn empty_run_dir(run_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(run_dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::create_dir(run_dir.join("pods"))?;
    let netns = netns_dir(run_dir);
    fs::create_dir(&netns)?;
    // A file system of its own: it goes with the keeper, and a shim can drop
    // its copy of every pod's pin at once.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", &netns, "tmpfs", flags, Some(c"mode=0700,size=1m"))?;
    Ok(())
}

/// Makes the node's network namespace in a child, since this process must
/// stay in the host's.
fn pin_node_network(proof: SingleThreaded, run_dir: &Path) -> Result<PathBuf, KeeperError> {
    let pin = netns_dir(run_dir).join(NODE_NETNS);
    File::create_new(&pin).map_err(failed("make the pin of the node's network"))?;
    let (ready_read, ready_write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"))?;
    let (pinned_read, pinned_write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"))?;
    let child = match sys::fork(proof).map_err(failed("fork"))? {
        Fork::Parent(child) => child,
        Fork::Child => {
            drop(pinned_write);
            let made = sys::unshare(UnshareFlags::NEWNET).and_then(|()| loopback_up());
            let told = made.is_ok() && rustix::io::write(&ready_write, &[1]).is_ok();
            // Stays until the parent has pinned the namespace: the pipe's end.
            let waited = told && rustix::io::read(&pinned_read, &mut [0]).is_ok();
            sys::exit_now(if waited { 0 } else { made.err().and_then(|e| e.raw_os_error()).unwrap_or(1) });
        }
    };
    drop(ready_write);
    let ready = rustix::io::read(&ready_read, &mut [0]).map_err(failed("hear of the node's network"))?;
    let result = if ready == 1 {
        mount_bind(format!("/proc/{}/ns/net", child.as_raw_nonzero()), &pin)
            .map_err(failed("pin the node's network"))
    } else {
        Ok(())
    };
    drop(pinned_write);
    let ended = rustix::process::waitpid(Some(child), WaitOptions::empty())
        .map_err(failed("wait for the node's network"))?;
    result?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(pin),
        code => Err(KeeperError {
            action: "make the node's network namespace",
            source: io::Error::from_raw_os_error(code.unwrap_or(libc::EIO)),
        }),
    }
}

/// Turns the loopback interface of this process's network namespace on.
pub(crate) fn loopback_up() -> io::Result<()> {
    crate::netif::set_up(c"lo")?;
    // Proves it: an address of the interface can now be bound.
    std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)
}

fn server_args(order: &KeeperOrder) -> Result<Vec<CString>, KeeperError> {
    let args = [OsString::from("xebec")].into_iter().chain(order.server.args.iter().cloned());
    args.map(|arg| c_string(&arg)).collect()
}

fn server_env(order: &KeeperOrder) -> Result<Vec<CString>, KeeperError> {
    let own = [("HOME".into(), order.identity.home.clone().into_os_string()), ("PATH".into(), PATH.into())];
    let given = order.server.env.iter().filter(|(name, _)| name != "HOME" && name != "PATH").cloned();
    own.into_iter()
        .chain(given)
        .map(|(name, value)| {
            let mut variable = name;
            variable.push("=");
            variable.push(value);
            c_string(&variable)
        })
        .collect()
}

fn c_string(text: &OsStr) -> Result<CString, KeeperError> {
    CString::new(text.as_bytes()).map_err(failed("pass the server's arguments"))
}

impl Keeper {
    /// Runs until the end and gives the exit code.
    fn run(mut self, report: OwnedFd, info: KeeperInfo) -> i32 {
        let mut pending = Some((report, KeeperReport::Ready(info)));
        loop {
            match self.supervisor.step(Instant::now()) {
                Step::Start => {
                    if let Err(error) = self.start_server() {
                        complain(format_args!("cannot start the server: {error}"));
                        self.supervisor.start_failed();
                    } else if let Some((report, ready)) = pending.take()
                        && send_report(&report, &ready).is_err()
                    {
                        // Whoever asked for this keeper is gone.
                        self.supervisor.stop();
                    }
                }
                Step::AskToStop => self.ask_server_to_stop(),
                Step::Sleep(until) => {
                    if let Err(error) = self.sleep(until) {
                        complain(format_args!("the keeper cannot wait for events: {error}"));
                        return 1;
                    }
                }
                Step::End(code) => return code,
            }
        }
    }

    fn start_server(&mut self) -> io::Result<()> {
        match sys::fork(self.proof)? {
            Fork::Parent(pid) => {
                self.server = Some(pid);
                self.supervisor.started(Instant::now());
                Ok(())
            }
            Fork::Child => {
                let error = match sys::reset_signals() {
                    Ok(()) => {
                        sys::execute(&c"/proc/self/exe".to_owned(), &self.server_args, &self.server_env)
                    }
                    Err(error) => error,
                };
                complain(format_args!("cannot execute the server: {error}"));
                sys::exit_now(i32::from(super::EXIT_FATAL));
            }
        }
    }

    fn ask_server_to_stop(&self) {
        if let Some(server) = self.server
            && let Err(error) = rustix::process::kill_process(server, Signal::TERM)
        {
            complain(format_args!("cannot ask the server to stop: {error}"));
        }
    }

    fn sleep(&mut self, until: Option<Instant>) -> io::Result<()> {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            rustix::time::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut watched = vec![PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
        if let Some(lifeline) = &self.lifeline {
            watched.push(PollFd::from_borrowed_fd(lifeline.as_fd(), PollFlags::IN));
        }
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let cut = watched.get(1).is_some_and(|lifeline| !lifeline.revents().is_empty());
        if cut {
            self.lifeline = None;
            self.supervisor.stop();
        }
        while let Some(signal) = self.signals.next()? {
            if signal == libc::SIGCHLD {
                self.reap()?;
            } else {
                self.supervisor.stop();
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> io::Result<()> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == self.server => {
                    self.server = None;
                    let end = status
                        .exit_status()
                        .map(ServerEnd::Exited)
                        .or(status.terminating_signal().map(ServerEnd::Killed))
                        .unwrap_or(ServerEnd::Exited(1));
                    self.supervisor.ended(end, Instant::now());
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

//! From the server's order to a pod that can be given containers.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::mount::mount_bind;
use rustix::process::DumpableBehavior;

use super::container::Pod;
use super::group::PodGroup;
use super::refusal::{Refusal, cannot};
use super::root::Root;
use super::server::{Server, State};
use super::{gvisor, pod};
use crate::bootstrap::netns_dir;
use crate::complaint::complain;
use crate::config::{Network, SandboxId};
use crate::sandbox::ErrorKind;
use crate::sys::{self, Fork, SignalFd, SingleThreaded};
use crate::wire::{EngineOptions, SandboxInfo, ShimOrder, ShimReport};

/// The shim's socket in the pod's directory.
pub(crate) const SOCKET: &str = "shim.sock";

/// What a pod's directory in the run directory is called.
pub(crate) fn pod_dir(run_dir: &Path, id: &SandboxId) -> PathBuf {
    run_dir.join("pods").join(id.as_str())
}

/// Where a pod's network namespace is pinned.
pub(crate) fn netns_pin(run_dir: &Path, id: &SandboxId) -> PathBuf {
    netns_dir(run_dir).join(format!("pod-{id}"))
}

/// Where a pod's user namespace is pinned, so that whoever buries a dead shim
/// can tell the pod's processes from all others.
pub(crate) fn user_pin(run_dir: &Path, id: &SandboxId) -> PathBuf {
    netns_dir(run_dir).join(format!("user-{id}"))
}

/// Runs a shim. The program calls this, as its first act, when it is started
/// with the hidden arguments given to the engines.
pub fn main() -> ! {
    let result = match sys::close_from(3).and_then(|()| SingleThreaded::prove()) {
        Ok(proof) => leave_the_server(proof).map(|()| proof),
        Err(error) => Err(cannot("begin")(error)),
    };
    let started = result.and_then(start);
    let (report, server) = match started {
        Ok(server) => (ShimReport::Ready(server.info().clone()), Some(server)),
        Err(refusal) => (ShimReport::Failed { kind: refusal.kind, message: refusal.message }, None),
    };
    let told = tell(&report);
    let code = match (server, told) {
        (Some(server), Ok(())) => server.run(),
        // Nobody waits for this pod: the server died meanwhile.
        (_, Err(error)) => {
            complain(format_args!("a pod's creation was abandoned: {error}"));
            1
        }
        (None, Ok(())) => 1,
    };
    sys::exit_now(code)
}

/// Becomes a child of the keeper with a session of its own.
fn leave_the_server(proof: SingleThreaded) -> Result<(), Refusal> {
    match sys::fork(proof).map_err(cannot("leave the server"))? {
        Fork::Parent(_) => sys::exit_now(0),
        Fork::Child => {}
    }
    rustix::process::setsid().map_err(cannot("start a session"))?;
    rustix::thread::set_name(c"xebec-shim").map_err(cannot("take a name"))?;
    rustix::process::umask(Mode::empty());
    sys::reset_signals().map_err(cannot("reset signals"))?;
    sys::join_fresh_keyring().map_err(cannot("leave the server's keys"))?;
    std::env::set_current_dir("/").map_err(cannot("enter the root directory"))
}

fn start(proof: SingleThreaded) -> Result<Server, Refusal> {
    let mut order = read_order()?;
    if let EngineOptions::Gvisor { .. } = order.engine {
        // The kernel would count gVisor's own threads, not the container's.
        order.pod.limits.pids = None;
        order.limits.pids = false;
    }
    let signals = SignalFd::open(&[libc::SIGCHLD, libc::SIGPIPE, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(cannot("watch for signals"))?;
    let id = &order.pod.id;
    let directory = open_directory(&pod_dir(&order.run_dir, id))
        .map_err(cannot(format!("open the directory of pod {id}")))?;
    let namespaces = pod::create(proof, &order.pod)?;
    pin(&namespaces.user, &user_pin(&order.run_dir, id)).map_err(cannot("pin the pod's user namespace"))?;
    if let Some(net) = &namespaces.net {
        pin(net, &netns_pin(&order.run_dir, id)).map_err(cannot("pin the pod's network"))?;
    }
    let group = PodGroup::create(id, &order.pod.limits, order.limits)?;
    let listener = listen(&directory).map_err(cannot("listen for requests"))?;
    let root = Root::enter(&order.run_dir, order.pod.shm_bytes)?;
    if let EngineOptions::Gvisor { runsc, .. } = &order.engine {
        root.expose_program(runsc, Path::new(gvisor::PROGRAM))?;
    }
    // From here on nobody but root of the keeper's namespace looks into this
    // process or, until they run their programs, its children.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(cannot("close this process to inspection"))?;
    let info = SandboxInfo {
        id: order.pod.id.clone(),
        engine: order.engine.kind(),
        labels: order.pod.labels.clone(),
        limits: order.limits,
        isolated_network: order.pod.network == Network::Isolated,
        shim_pid: std::process::id(),
    };
    let pod = Pod {
        proof,
        engine: order.engine,
        hostname: order.pod.hostname,
        root: Rc::new(root),
        namespaces,
        network: order.pod.network,
        group,
        enforceable: order.limits,
    };
    Ok(Server::new(info, pod, State::new(directory), listener, signals))
}

fn read_order() -> Result<ShimOrder, Refusal> {
    const MAX_BYTES: u64 = 4 << 20;
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_BYTES).read_to_end(&mut bytes).map_err(cannot("read the order"))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::new(
            ErrorKind::Internal,
            format!("this command is started by the xebec server only ({error})"),
        )
    })
}

fn pin(namespace: &OwnedFd, place: &Path) -> io::Result<()> {
    File::create_new(place)?;
    Ok(mount_bind(format!("/proc/self/fd/{}", namespace.as_raw_fd()), place)?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Listens in a directory whose path may be too long for a socket's name.
fn listen(directory: &OwnedFd) -> io::Result<UnixListener> {
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Sends the report and lets go of the server's streams.
fn tell(report: &ShimReport) -> io::Result<()> {
    let bytes = serde_json::to_vec(report).map_err(io::Error::other)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&bytes)?;
    stdout.flush()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    sys::duplicate_onto(&null, 0)?;
    sys::duplicate_onto(&null, 1)
}

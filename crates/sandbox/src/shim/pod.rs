//! The namespaces that a pod's containers share.
//!
//! They are made by a child that enters them step by step while the shim, which
//! stays outside, maps the ids and then holds each namespace by a descriptor:
//!
//! ```text
//!  shim (keeper's user namespace)          child
//!                                          limit processes, become the owner
//!                                          new user namespace
//!  map 0..=65534 to 1..=65535   ◀── ready
//!                               ──▶ go     become root inside
//!                                          new network, ipc, uts namespaces
//!                                          host name, loopback, sysctls
//!  open /proc/<child>/ns/*      ◀── ready
//!                               ──▶ end    (stays as reaper if processes are shared)
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Gid, Pid, Resource, Rlimit, Uid, WaitOptions};
use rustix::thread::UnshareFlags;

use super::refusal::{Refusal, cannot};
use crate::config::{Network, POD_ID_SHIFT, POD_IDS, PodSandboxConfig};
use crate::sandbox::ErrorKind;
use crate::sys::{self, Fork, SingleThreaded};

/// A pod's namespaces, held open.
#[derive(Debug)]
pub(crate) struct PodNamespaces {
    pub(crate) user: OwnedFd,
    pub(crate) ipc: OwnedFd,
    pub(crate) uts: OwnedFd,
    /// `None` with the host's network.
    pub(crate) net: Option<OwnedFd>,
    /// The shared process namespace and its process 1.
    pub(crate) shared_pid: Option<SharedPid>,
}

/// A process namespace for all containers of a pod.
#[derive(Debug)]
pub(crate) struct SharedPid {
    pub(crate) namespace: OwnedFd,
    pub(crate) reaper: Pid,
}

/// Makes the namespaces. Runs in the keeper's mount namespace.
pub(crate) fn create(proof: SingleThreaded, config: &PodSandboxConfig) -> Result<PodNamespaces, Refusal> {
    validate(config)?;
    let (mut shim, child_end) = UnixStream::pair().map_err(cannot("make a socket pair"))?;
    let pid = match sys::fork(proof).map_err(cannot("fork"))? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(shim);
            let mut shim = child_end;
            let code = match inside(proof, config, &mut shim) {
                Ok(()) => 0,
                // The shim says "cannot make the namespaces" when even this is lost.
                Err(error) => i32::from(shim.write_all(format!("-{error}").as_bytes()).is_err()),
            };
            sys::exit_now(code);
        }
    };
    drop(child_end);
    let namespaces = outside(config, pid, &mut shim);
    drop(shim);
    // The child ends by itself: its socket is closed.
    rustix::process::waitpid(Some(pid), WaitOptions::empty())
        .map_err(cannot("wait for the child that makes the namespaces"))?;
    namespaces
}

fn validate(config: &PodSandboxConfig) -> Result<(), Refusal> {
    const MAX_HOSTNAME_BYTES: usize = 64;
    if config.hostname.len() > MAX_HOSTNAME_BYTES {
        return Err(Refusal::invalid(format!(
            "the host name `{}` has {} bytes; Linux allows {MAX_HOSTNAME_BYTES}",
            config.hostname,
            config.hostname.len()
        )));
    }
    for name in config.sysctls.keys() {
        if !is_namespaced_sysctl(name, config.network) {
            return Err(Refusal::invalid(format!(
                "the sysctl `{name}` is not separate for each pod, so a pod may not set it"
            )));
        }
    }
    Ok(())
}

/// Whether a kernel parameter belongs to a namespace that the pod has for itself.
fn is_namespaced_sysctl(name: &str, network: Network) -> bool {
    const IPC: [&str; 4] = ["kernel.sem", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni"];
    let name = name.replace('/', ".");
    let plain = name.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    });
    let ipc =
        IPC.contains(&name.as_str()) || name.starts_with("kernel.shm") || name.starts_with("fs.mqueue.");
    plain && (ipc || network == Network::Isolated && name.starts_with("net."))
}

/// The shim's side of the conversation.
fn outside(config: &PodSandboxConfig, child: Pid, stream: &mut UnixStream) -> Result<PodNamespaces, Refusal> {
    await_ready(stream)?;
    let proc = format!("/proc/{}", child.as_raw_nonzero());
    let map = format!("0 {POD_ID_SHIFT} {POD_IDS}");
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("{proc}/{file}"), &map).map_err(cannot(format!("write the pod's {file}")))?;
    }
    stream.write_all(b"+").map_err(cannot("continue the pod's creation"))?;
    await_ready(stream)?;
    let hold = |kind: &str| {
        rustix::fs::open(format!("{proc}/ns/{kind}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(cannot(format!("hold the pod's {kind} namespace")))
    };
    let mut namespaces = PodNamespaces {
        user: hold("user")?,
        ipc: hold("ipc")?,
        uts: hold("uts")?,
        net: (config.network == Network::Isolated).then(|| hold("net")).transpose()?,
        shared_pid: None,
    };
    stream.write_all(b"+").map_err(cannot("continue the pod's creation"))?;
    if config.share_process_namespace {
        namespaces.shared_pid = Some(hold_reaper(stream, child)?);
    }
    Ok(namespaces)
}

fn hold_reaper(stream: &mut UnixStream, child: Pid) -> Result<SharedPid, Refusal> {
    await_ready(stream)?;
    let namespace = rustix::fs::open(
        format!("/proc/{}/ns/pid_for_children", child.as_raw_nonzero()),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(cannot("hold the pod's process namespace"))?;
    let mut pid = [0; 4];
    stream.read_exact(&mut pid).map_err(cannot("learn the pod's reaper"))?;
    let reaper = Pid::from_raw(i32::from_be_bytes(pid))
        .ok_or_else(|| Refusal::new(ErrorKind::Internal, "the pod's reaper has no process id"))?;
    Ok(SharedPid { namespace, reaper })
}

/// Reads one `+`, or `-` and an error text.
fn await_ready(stream: &mut UnixStream) -> Result<(), Refusal> {
    let failed = |message: String| Refusal::new(ErrorKind::Internal, message);
    let mut verdict = [0];
    match stream.read_exact(&mut verdict) {
        Ok(()) if verdict == *b"+" => Ok(()),
        Ok(()) => {
            let mut message = String::new();
            stream.read_to_string(&mut message).map_err(cannot("read why the pod's creation failed"))?;
            Err(failed(message))
        }
        Err(error) => Err(failed(format!("cannot make the pod's namespaces: {error}"))),
    }
}

/// The child's side: ends when the shim has all it needs.
fn inside(proof: SingleThreaded, config: &PodSandboxConfig, stream: &mut UnixStream) -> Result<(), Refusal> {
    become_owner(config).map_err(cannot("prepare the owner of the pod's user namespace"))?;
    sys::unshare(UnshareFlags::NEWUSER).map_err(cannot("make the pod's user namespace"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(cannot("let the shim map the pod's ids"))?;
    signal_and_wait(stream)?;
    become_root().map_err(cannot("become root of the pod"))?;
    let mut kinds = UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if config.network == Network::Isolated {
        kinds |= UnshareFlags::NEWNET;
    }
    sys::unshare(kinds).map_err(cannot("make the pod's namespaces"))?;
    if config.network == Network::Isolated {
        rustix::system::sethostname(config.hostname.as_bytes()).map_err(cannot("set the host name"))?;
        crate::netif::set_up(c"lo").map_err(cannot("turn the loopback interface on"))?;
        allow_low_ports_and_ping()?;
    }
    for (name, value) in &config.sysctls {
        write_sysctl(name, value).map_err(cannot(format!("set the sysctl `{name}` to `{value}`")))?;
    }
    signal_and_wait(stream)?;
    if config.share_process_namespace {
        start_reaper(proof, stream)?;
        signal_end(stream)?;
    }
    Ok(())
}

fn signal_and_wait(stream: &mut UnixStream) -> Result<(), Refusal> {
    stream.write_all(b"+").map_err(cannot("reach the shim"))?;
    stream.read_exact(&mut [0]).map_err(cannot("hear from the shim"))
}

/// Waits until the shim closes its side.
fn signal_end(stream: &mut UnixStream) -> Result<(), Refusal> {
    stream.read_to_end(&mut Vec::new()).map(drop).map_err(cannot("hear from the shim"))
}

/// Takes on a user id of the pod's own and the pod's process limit.
///
/// The kernel counts the processes of a user namespace at its owner, and holds
/// them to the limit that the owner had when it made the namespace. All pods'
/// owners must therefore differ, or their processes would be counted together.
fn become_owner(config: &PodSandboxConfig) -> io::Result<()> {
    if let limit @ Some(_) = config.limits.pids {
        rustix::process::setrlimit(Resource::Nproc, Rlimit { current: limit, maximum: limit })?;
    }
    let owner = Uid::from_raw(owner_id(std::os::unix::process::parent_id()));
    Ok(rustix::thread::set_thread_res_uid(owner, owner, owner)?)
}

/// A user id in 1..=65535 that no other living shim (told apart by `shim_pid`) uses
/// unless process ids run past 65535, where two pods may come to share a limit.
fn owner_id(shim_pid: u32) -> u32 {
    POD_ID_SHIFT + shim_pid % POD_IDS
}

fn become_root() -> io::Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

/// What containers expect today: no capability is needed to listen on port 80 or to ping.
fn allow_low_ports_and_ping() -> Result<(), Refusal> {
    write_sysctl("net.ipv4.ip_unprivileged_port_start", "0").map_err(cannot("open the low ports"))?;
    write_sysctl("net.ipv4.ping_group_range", &format!("0 {}", POD_IDS - 1)).map_err(cannot("allow ping"))
}

fn write_sysctl(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)
}

/// Starts process 1 of the shared process namespace, as the shim's child, and tells its id.
fn start_reaper(proof: SingleThreaded, stream: &mut UnixStream) -> Result<(), Refusal> {
    sys::unshare(UnshareFlags::NEWPID).map_err(cannot("make the pod's process namespace"))?;
    match sys::clone(proof, libc::CLONE_PARENT).map_err(cannot("start the pod's reaper"))? {
        Fork::Parent(pid) => {
            stream.write_all(b"+").map_err(cannot("reach the shim"))?;
            stream.write_all(&pid.as_raw_nonzero().get().to_be_bytes()).map_err(cannot("reach the shim"))
        }
        Fork::Child => sys::exit_now(i32::from(super::reaper::run().is_err())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pods_own_sysctls_may_be_set() {
        let check = |name: &str, isolated: bool, host: bool| {
            assert_eq!(is_namespaced_sysctl(name, Network::Isolated), isolated, "{name}");
            assert_eq!(is_namespaced_sysctl(name, Network::Host), host, "{name}");
        };
        check("net.core.somaxconn", true, false);
        check("net/ipv4/tcp_syncookies", true, false);
        check("kernel.shmmax", true, true);
        check("kernel.sem", true, true);
        check("kernel.msgmax", true, true);
        check("fs.mqueue.msg_max", true, true);
        check("kernel.core_pattern", false, false);
        check("kernel.semaphore", false, false);
        check("vm.swappiness", false, false);
        check("net..core", false, false);
        check("net.../../kernel.core_pattern", false, false);
        check("kernel.shm/../core_pattern", false, false);
        check("", false, false);
    }

    #[test]
    fn owners_are_pod_ids() {
        for pid in [1, 2, 65_534, 65_535, 65_536, 4_194_304] {
            assert!((1..=65_535).contains(&owner_id(pid)), "{pid}");
        }
        assert_ne!(owner_id(1000), owner_id(1001));
    }
}

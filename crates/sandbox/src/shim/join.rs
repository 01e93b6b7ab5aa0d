//! Running a process in the pod: inside a container, or beside the containers
//! for a program (gVisor's) that makes a container of its own.
//!
//! For containers this is not left to the runtime library: in version 0.7 its
//! process for this joins every namespace of the container but the user
//! namespace, so it would keep the rights of the user who started Xebec.
//!
//! ```text
//!  shim ──fork──▶ A: group, limits; user, mount, pid, net, ipc, uts, cgroup namespaces
//!   ▲             └─clone as sibling─▶ B: streams or terminal, directory, ids, `Finish`
//!   └── pid of B ─┘
//! ```
//!
//! From its first moment in the container, B holds no descriptor but its
//! streams and two close-on-exec pipes to the shim, so nothing of the host can
//! be reached through it, and it cannot be inspected until it runs its program.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions};
use rustix::pty::OpenptFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::finish::Finish;
use super::launch::{ChildStreams, TIME_LIMIT};
use super::pod::PodNamespaces;
use super::process::{Streams, set_size};
use super::refusal::{Refusal, cannot};
use super::user::ResolvedUser;
use crate::capabilities::Capabilities;
use crate::config::{POD_ID_SHIFT, TerminalSize};
use crate::sandbox::ErrorKind;
use crate::sys::{self, Fork, SingleThreaded};

/// The namespaces that a running container has for itself, held open.
#[derive(Debug)]
pub(crate) struct ContainerNamespaces {
    mount: OwnedFd,
    pid: OwnedFd,
    cgroup: OwnedFd,
}

impl ContainerNamespaces {
    /// Opens those of a process.
    pub(crate) fn of(pid: Pid) -> Result<Self, Refusal> {
        let open = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", pid.as_raw_nonzero());
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(cannot(format!("hold the container's {kind} namespace")))
        };
        Ok(Self { mount: open("mnt")?, pid: open("pid")?, cgroup: open("cgroup")? })
    }

    pub(crate) fn mount(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    pub(crate) fn pid(&self) -> BorrowedFd<'_> {
        self.pid.as_fd()
    }
}

/// Where and as whom to run.
pub(crate) struct Join<'a> {
    pub(crate) pod: &'a PodNamespaces,
    pub(crate) place: Place<'a>,
    /// The container's control group, where one was delegated.
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) pids_limit: Option<u64>,
    pub(crate) user: &'a ResolvedUser,
    pub(crate) cwd: &'a Path,
    pub(crate) finish: &'a Finish,
}

/// Where in the pod.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In a container that runs.
    Container(&'a ContainerNamespaces),
    /// In process, mount and cgroup namespaces of its own, as their first process.
    Beside,
}

/// What the process shall be connected to.
#[derive(Clone, Copy)]
pub(crate) enum Connect {
    Pipes { input: bool },
    Terminal { size: Option<TerminalSize> },
}

/// Starts the process. Returns when its program runs.
pub(crate) fn start(
    proof: SingleThreaded,
    join: &Join<'_>,
    connect: Connect,
) -> Result<(Pid, Streams), Refusal> {
    let (mut streams, child_streams) = match connect {
        Connect::Pipes { input } => {
            let owner = (join.user.uid + POD_ID_SHIFT, join.user.gid + POD_ID_SHIFT);
            let (streams, child) = Streams::pipes(input, owner)?;
            (streams, Some(child))
        }
        Connect::Terminal { .. } => (Streams::default(), None),
    };
    let (shim_end, child_end) = message_pair().map_err(cannot("make a socket pair"))?;
    let helper = match sys::fork(proof).map_err(cannot("fork"))? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(shim_end);
            let result = enter(proof, join, connect, child_streams, &child_end);
            let code = match result {
                Ok(()) => 0,
                Err(refusal) => i32::from(!refuse(&child_end, refusal)),
            };
            sys::exit_now(code);
        }
    };
    drop((child_end, child_streams));
    let answer = hear(&shim_end);
    rustix::process::waitpid(Some(helper), WaitOptions::empty())
        .map_err(cannot("wait for the child that enters a container"))?;
    let (pid, terminal) = answer?;
    if let Some(terminal) = terminal {
        streams = Streams::terminal(terminal)?;
    }
    Ok((pid, streams))
}

/// What the children say, in order: B's id (from A), B's terminal if it has
/// one, and nothing more, or why the program cannot run.
fn hear(socket: &OwnedFd) -> Result<(Pid, Option<OwnedFd>), Refusal> {
    set_socket_timeout(socket, Timeout::Recv, Some(TIME_LIMIT)).map_err(cannot("hear from a container"))?;
    let mut pid = None;
    let mut terminal = None;
    loop {
        let (bytes, descriptor) = receive(socket).map_err(cannot("enter the container"))?;
        terminal = descriptor.or(terminal);
        match bytes.first() {
            None => break,
            Some(b'{') => return Err(Refusal::from_bytes(&bytes)),
            Some(b'p') => pid = std::str::from_utf8(&bytes[1..]).ok().and_then(|text| text.parse().ok()),
            Some(_) => {}
        }
    }
    let pid = pid.and_then(Pid::from_raw);
    pid.map(|pid| (pid, terminal))
        .ok_or_else(|| Refusal::new(ErrorKind::Internal, "a process broke off while entering the container"))
}

/// A pair of sockets that keep messages apart.
fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Says why the program cannot run; whether that was said.
fn refuse(socket: &OwnedFd, refusal: Refusal) -> bool {
    send(socket, &refusal.into_bytes(), None).is_ok()
}

pub(super) fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    const MAX_BYTES: usize = 8 << 10;
    let mut bytes = vec![0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    bytes.truncate(received.bytes);
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((bytes, descriptor))
}

/// A: enters the container's namespaces and starts B in them.
fn enter(
    proof: SingleThreaded,
    join: &Join<'_>,
    connect: Connect,
    streams: Option<ChildStreams>,
    socket: &OwnedFd,
) -> Result<(), Refusal> {
    if let Some(group) = &join.cgroup {
        fs::write(group.join("cgroup.procs"), "0").map_err(cannot("join the container's control group"))?;
    }
    if let limit @ Some(_) = join.pids_limit {
        rustix::process::setrlimit(Resource::Nproc, Rlimit { current: limit, maximum: limit })
            .map_err(cannot("limit the number of processes"))?;
    }
    let user = join.pod.user.as_fd();
    enter_namespace(user, LinkNameSpaceType::User, "user")?;
    become_pod_root().map_err(cannot("become root of the pod"))?;
    // Nobody may join the host's network, and nobody left it.
    if let Some(net) = &join.pod.net {
        enter_namespace(net.as_fd(), LinkNameSpaceType::Network, "network")?;
    }
    enter_namespace(join.pod.ipc.as_fd(), LinkNameSpaceType::InterProcessCommunication, "ipc")?;
    enter_namespace(join.pod.uts.as_fd(), LinkNameSpaceType::HostNameAndNISDomainName, "uts")?;
    match join.place {
        Place::Container(namespaces) => {
            enter_namespace(namespaces.pid.as_fd(), LinkNameSpaceType::ProcessID, "process")?;
            enter_namespace(namespaces.cgroup.as_fd(), LinkNameSpaceType::ControlGroup, "cgroup")?;
            enter_namespace(namespaces.mount.as_fd(), LinkNameSpaceType::Mount, "mount")?;
        }
        Place::Beside => {
            sys::unshare(UnshareFlags::NEWPID).map_err(cannot("make a process namespace"))?;
        }
    }
    match sys::clone(proof, libc::CLONE_PARENT).map_err(cannot("start a process in the container"))? {
        Fork::Parent(pid) => {
            let said = format!("p{}", pid.as_raw_nonzero());
            send(socket, said.as_bytes(), None).map_err(cannot("report the process"))
        }
        Fork::Child => {
            let refusal = match settle(join, connect, streams, socket) {
                Ok(program) => join.finish.run(&program),
                Err(refusal) => refusal,
            };
            sys::exit_now(if refuse(socket, refusal) { 126 } else { 127 });
        }
    }
}

fn enter_namespace(fd: BorrowedFd<'_>, kind: LinkNameSpaceType, name: &str) -> Result<(), Refusal> {
    rustix::thread::move_into_link_name_space(fd, Some(kind))
        .map_err(cannot(format!("enter the container's {name} namespace")))
}

/// Mounts that fit the first process of a process namespace.
fn settle_beside() -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    Ok(mount("devpts", "/dev/pts", "devpts", flags, Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5"))?)
}

fn become_pod_root() -> io::Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

/// B: becomes what the program shall find. Gives the program's path.
fn settle(
    join: &Join<'_>,
    connect: Connect,
    streams: Option<ChildStreams>,
    socket: &OwnedFd,
) -> Result<PathBuf, Refusal> {
    if let Place::Beside = join.place {
        settle_beside().map_err(cannot("prepare the mounts of gVisor"))?;
    }
    sys::reset_signals().map_err(cannot("reset signals"))?;
    rustix::process::setsid().map_err(cannot("start a session"))?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    match (streams, connect) {
        (Some(streams), _) => {
            connect_streams(&streams.stdin, &streams.stdout, &streams.stderr)
                .map_err(cannot("connect the process's streams"))?;
        }
        (None, Connect::Terminal { size }) => {
            let master = take_terminal(join.user, size).map_err(cannot("make a terminal"))?;
            send(socket, b"t", Some(&master)).map_err(cannot("report the terminal"))?;
        }
        (None, Connect::Pipes { .. }) => unreachable!("pipes are made by the shim"),
    }
    sys::close_all_but(&[socket.as_raw_fd()]).map_err(cannot("close descriptors"))?;
    // Root of the pod may lack a right that the user has, and the other way round.
    let entered = enter_directory(join.cwd).is_ok();
    assume_user(join)?;
    if !entered {
        enter_directory(join.cwd)?;
    }
    join.finish.find_program()
}

fn connect_streams(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    // The shim's own first three descriptors are taken, so none of these is one.
    sys::duplicate_onto(stdin, 0)?;
    sys::duplicate_onto(stdout, 1)?;
    sys::duplicate_onto(stderr, 2)
}

/// Makes a terminal of the container's own, and makes it this process's.
fn take_terminal(user: &ResolvedUser, size: Option<TerminalSize>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    verify_multiplexer(&master)?;
    rustix::pty::unlockpt(&master)?;
    let terminal = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    rustix::fs::fchown(&terminal, Some(Uid::from_raw(user.uid)), None)?;
    if let Some(size) = size {
        set_size(&master, size)?;
    }
    rustix::process::ioctl_tiocsctty(&terminal)?;
    connect_streams(&terminal, &terminal, &terminal)?;
    Ok(master)
}

/// The container may have put anything at that path; only the real thing will do.
fn verify_multiplexer(master: &OwnedFd) -> io::Result<()> {
    const DEVPTS_MAGIC: i64 = 0x1cd1;
    const MULTIPLEXER_INODE: u64 = 2;
    let stat = rustix::fs::fstat(master)?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let filesystem = rustix::fs::fstatfs(master)?;
    if filesystem.f_type == DEVPTS_MAGIC && stat.st_ino == MULTIPLEXER_INODE && device == (5, 2) {
        Ok(())
    } else {
        Err(io::Error::other("the container's /dev/pts/ptmx is not a terminal multiplexer"))
    }
}

/// Changes the directory, and checks that it is inside the container: a path
/// such as `/proc/self/fd/7` could lead anywhere.
fn enter_directory(path: &Path) -> Result<(), Refusal> {
    let refused = |error: io::Error| {
        Refusal::invalid(format!("cannot enter the directory `{}`: {error}", path.display()))
    };
    rustix::process::chdir(path).map_err(|error| refused(error.into()))?;
    match rustix::process::getcwd(Vec::new()) {
        Ok(cwd) if cwd.to_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(_) => {
            rustix::process::chdir("/").map_err(|error| refused(error.into()))?;
            Err(refused(io::Error::other("it is outside of the container")))
        }
    }
}

/// Takes on the user, keeping just the capabilities that are still needed.
fn assume_user(join: &Join<'_>) -> Result<(), Refusal> {
    let user = join.user;
    let groups: Vec<_> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let needed = join.finish.needed_capabilities();
    let change = || -> io::Result<()> {
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_keep_capabilities(true)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        rustix::thread::set_keep_capabilities(false)?;
        Capabilities::raise_permitted()?;
        needed.confine()
    };
    change().map_err(cannot("become the container's user"))
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(borrowed) = &borrowed {
        control.push(SendAncillaryMessage::ScmRights(borrowed));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

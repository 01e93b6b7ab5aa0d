//! Containers made with the OCI runtime library.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde_json::Value;

use super::container::{Pod, Prepared};
use super::finish::Finish;
use super::join::{self, Connect, ContainerNamespaces, Join, Place};
use super::launch::{self, Connection, Waiting};
use super::members;
use super::process::Streams;
use super::refusal::{Refusal, cannot};
use super::root::open_in;
use super::spec::namespace;
use super::user::ResolvedUser;
use crate::capabilities::Capabilities;
use crate::config::{ContainerConfig, ContainerId, POD_ID_SHIFT, Stdin};
use crate::sandbox::Stats;
use crate::seccomp::Filter;

/// A container whose process exists from its creation on.
pub(super) struct OciContainer {
    pub(super) pid: Pid,
    id: ContainerId,
    waiting: Option<Waiting>,
    namespaces: ContainerNamespaces,
    /// Its first process is not the first of its process namespace.
    shares_processes: bool,
    finish: Finish,
}

impl OciContainer {
    pub(super) fn create(
        pod: &Pod,
        config: &ContainerConfig,
        prepared: &mut Prepared,
        beside: Option<BorrowedFd<'_>>,
    ) -> Result<(Self, Streams), Refusal> {
        let finish = Finish {
            args: config.args.clone(),
            env: prepared.env.clone(),
            filter: Filter::of(&config.seccomp).map_err(|error| Refusal::invalid(error.to_string()))?,
            capabilities: Capabilities::of(&config.capabilities),
            no_new_privileges: config.no_new_privileges,
        };
        let mut document =
            pod.describe(config, prepared, namespaces(pod, beside), finish.needed_capabilities())?;
        // The real environment goes to the program alone; the library looks
        // for nothing but these two.
        document["process"]["env"] = serde_json::json!(["PATH=/", "HOME=/"]);
        prepared.write_bundle(&document)?;
        let (waiting, streams) = launch(pod, config, prepared, &finish, beside)?;
        let namespaces = ContainerNamespaces::of(waiting.pid)?;
        let id = config.id.clone();
        let shares_processes = beside.is_some() || pod.namespaces.shared_pid.is_some();
        let pid = waiting.pid;
        Ok((Self { pid, id, waiting: Some(waiting), namespaces, shares_processes, finish }, streams))
    }

    /// Its process namespace.
    pub(super) fn processes(&self) -> BorrowedFd<'_> {
        self.namespaces.pid()
    }

    pub(super) fn start(&mut self) -> Result<(), Refusal> {
        self.waiting.take().map_or(Ok(()), Waiting::start)
    }

    pub(super) fn exec(
        &self,
        pod: &Pod,
        finish: ExecFinish<'_>,
        connect: Connect,
    ) -> Result<(Pid, Streams), Refusal> {
        let finish_all = Finish { args: finish.args, env: finish.env, ..self.finish.clone() };
        let join = Join {
            pod: &pod.namespaces,
            place: Place::Container(&self.namespaces),
            cgroup: pod.group.as_ref().map(|group| group.container_directory(&self.id)),
            pids_limit: finish.pids_limit,
            user: finish.user,
            cwd: finish.cwd,
            finish: &finish_all,
        };
        join::start(pod.proof, &join, connect)
    }

    /// Opens a file of the container.
    pub(super) fn open_in_root(&self, path: &Path) -> io::Result<OwnedFd> {
        let root = format!("/proc/{}/root", self.pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        open_in(&root, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
    }

    /// Ends what is left when the first process has ended.
    pub(super) fn kill_rest(&self) -> io::Result<()> {
        if self.shares_processes {
            members::kill(members::Kind::Mount, self.namespaces.mount())?;
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> io::Result<Stats> {
        if self.shares_processes {
            members::stats(members::Kind::Mount, self.namespaces.mount())
        } else {
            members::stats(members::Kind::Process, self.namespaces.pid())
        }
    }
}

impl Drop for OciContainer {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            launch::forget(&self.id);
        }
    }
}

/// What a further process in a container is started with.
pub(super) struct ExecFinish<'a> {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) user: &'a ResolvedUser,
    pub(super) cwd: &'a Path,
    pub(super) pids_limit: Option<u64>,
}

fn namespaces(pod: &Pod, beside: Option<BorrowedFd<'_>>) -> Vec<Value> {
    let held = |fd: &dyn AsRawFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let pod = &pod.namespaces;
    let shared_pid = pod.shared_pid.as_ref().map(|shared| held(&shared.namespace));
    let shared_pid = beside.map(|processes| held(&processes)).or(shared_pid);
    let mut list = vec![
        namespace("user", Some(&held(&pod.user))),
        namespace("ipc", Some(&held(&pod.ipc))),
        namespace("uts", Some(&held(&pod.uts))),
        namespace("pid", shared_pid.as_deref()),
        namespace("mount", None),
        namespace("cgroup", None),
    ];
    list.extend(pod.net.as_ref().map(|net| namespace("network", Some(&held(net)))));
    list
}

fn launch(
    pod: &Pod,
    config: &ContainerConfig,
    prepared: &Prepared,
    finish: &Finish,
    beside: Option<BorrowedFd<'_>>,
) -> Result<(Waiting, Streams), Refusal> {
    let held = &pod.namespaces;
    let namespaces: Vec<_> = [&held.user, &held.ipc, &held.uts]
        .into_iter()
        .chain(&held.net)
        .chain(held.shared_pid.as_ref().map(|shared| &shared.namespace))
        .map(AsRawFd::as_raw_fd)
        .chain(beside.map(|processes| processes.as_raw_fd()))
        .collect();
    let bundle = prepared.stage.bundle();
    let create =
        |connection| launch::create(pod.proof, &config.id, &bundle, &namespaces, finish.clone(), connection);
    let user = &prepared.user;
    if config.tty {
        let socket = prepared.stage.path().join("console.sock");
        let listener = UnixListener::bind(&socket).map_err(cannot("listen for the terminal"))?;
        let waiting = create(Connection::Terminal { socket })?;
        let terminal = launch::receive_terminal(&listener)?;
        // The library leaves it to root, whoever the process is.
        let shown = format!("/proc/{}/fd/0", waiting.pid.as_raw_nonzero());
        std::os::unix::fs::chown(shown, Some(user.uid + POD_ID_SHIFT), None)
            .map_err(cannot("give the terminal to its user"))?;
        Ok((waiting, Streams::terminal(terminal)?))
    } else {
        let owner = (user.uid + POD_ID_SHIFT, user.gid + POD_ID_SHIFT);
        let (streams, child) = Streams::pipes(config.stdin != Stdin::None, owner)?;
        Ok((create(Connection::Streams(child))?, streams))
    }
}

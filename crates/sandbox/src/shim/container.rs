//! One container of the pod: how it is created, and what is known of it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde_json::Value;

use super::finish::Finish;
use super::group::PodGroup;
use super::join::{Connect, ContainerNamespaces, Join};
use super::launch::{self, Connection, Waiting};
use super::log::Log;
use super::pod::PodNamespaces;
use super::process::Streams;
use super::refusal::{Refusal, cannot};
use super::root::{Root, Stage, open_in};
use super::spec::{self, PreparedMount, SpecInput, namespace};
use super::user::{self, ResolvedUser};
use super::{join, members};
use crate::capabilities::Capabilities;
use crate::config::{
    ContainerConfig, EnvVar, ExecConfig, MountSource, Network, POD_ID_SHIFT, Principal, Stdin,
};
use crate::sandbox::{ContainerInfo, ContainerState, ErrorKind, Limits, Stats};
use crate::seccomp::Filter;
use crate::sys::SingleThreaded;

/// What containers of a pod have in common.
pub(super) struct Pod {
    pub(super) proof: SingleThreaded,
    pub(super) root: Rc<Root>,
    pub(super) namespaces: PodNamespaces,
    pub(super) network: Network,
    pub(super) group: Option<PodGroup>,
    pub(super) enforceable: Limits,
}

/// A container.
pub(super) struct Container {
    pub(super) config: ContainerConfig,
    pub(super) state: ContainerState,
    pub(super) created_at: SystemTime,
    pub(super) pid: Pid,
    /// The key of its first process.
    pub(super) process: u64,
    pub(super) log: Option<Log>,
    /// Somebody's input was taken; with `Stdin::Once` nobody else's is.
    pub(super) input_used: bool,
    waiting: Option<Waiting>,
    namespaces: ContainerNamespaces,
    user: ResolvedUser,
    finish: Finish,
}

impl Container {
    /// Creates a container whose program waits to be started.
    pub(super) fn create(
        pod: &Pod,
        config: ContainerConfig,
        process: u64,
    ) -> Result<(Self, Streams), Refusal> {
        validate(&config)?;
        let log = config.log.as_ref().map(|log| Log::open(&pod.root, log)).transpose()?;
        let mut stage = pod.root.make_stage(&config.id)?;
        stage.mount_rootfs(&config.rootfs)?;
        let user = user::resolve(&config.user, |path| stage.open_in_rootfs(path))?;
        // A directory that cannot be made is reported when it cannot be entered.
        stage.make_directory(&config.cwd).unwrap_or_default();
        let finish = Finish {
            args: config.args.clone(),
            env: spec::environment(&config, &user),
            filter: Filter::of(&config.seccomp).map_err(|error| Refusal::invalid(error.to_string()))?,
            capabilities: Capabilities::of(&config.capabilities),
            no_new_privileges: config.no_new_privileges,
        };
        pod.write_bundle(&mut stage, &config, &user, &finish)?;
        let (waiting, streams) = pod.launch(&stage, &config, &user, &finish)?;
        let namespaces = ContainerNamespaces::of(waiting.pid)?;
        let container = Self {
            state: ContainerState::Created,
            created_at: SystemTime::now(),
            pid: waiting.pid,
            process,
            log,
            input_used: false,
            waiting: Some(waiting),
            namespaces,
            user,
            finish,
            config,
        };
        Ok((container, streams))
    }

    /// Lets the program run.
    pub(super) fn start(&mut self) -> Result<(), Refusal> {
        match (&self.state, self.waiting.take()) {
            (ContainerState::Created, Some(waiting)) => {
                waiting.start()?;
                self.state = ContainerState::Running { started_at: SystemTime::now() };
                Ok(())
            }
            _ => Err(Refusal::new(
                ErrorKind::InvalidState,
                format!("container {} was started before", self.config.id),
            )),
        }
    }

    /// Runs a further process in it.
    pub(super) fn exec(&self, pod: &Pod, config: &ExecConfig) -> Result<(Pid, Streams), Refusal> {
        if !matches!(self.state, ContainerState::Running { .. }) {
            return Err(Refusal::new(
                ErrorKind::InvalidState,
                format!("container {} is not running", self.config.id),
            ));
        }
        validate_command(&config.args, &config.env)?;
        let user = match &config.user {
            Some(user) => user::resolve(user, |path| self.open_in_root(path))?,
            None => self.user.clone(),
        };
        let finish = Finish {
            args: config.args.clone(),
            env: overlay(&self.finish.env, &config.env, config.tty),
            ..self.finish.clone()
        };
        let connect = if config.tty {
            Connect::Terminal { size: config.size }
        } else {
            Connect::Pipes { input: config.stdin }
        };
        let join = Join {
            user_namespace: &pod.namespaces.user,
            namespaces: &self.namespaces,
            host_network: pod.network == Network::Host,
            cgroup: pod.group.as_ref().map(|group| group.container_directory(&self.config.id)),
            pids_limit: self.config.limits.pids,
            user: &user,
            cwd: config.cwd.as_deref().unwrap_or(&self.config.cwd),
            finish: &finish,
        };
        join::start(pod.proof, &join, connect)
    }

    fn open_in_root(&self, path: &Path) -> io::Result<OwnedFd> {
        let root = format!("/proc/{}/root", self.pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        open_in(&root, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
    }

    /// Ends what is left of a container whose first process has ended.
    pub(super) fn kill_rest(&self, pod: &Pod) -> io::Result<()> {
        if pod.namespaces.shared_pid.is_some() {
            members::kill(members::Kind::Mount, self.namespaces.mount())?;
        }
        Ok(())
    }

    pub(super) fn stats(&self, pod: &Pod) -> Result<Stats, Refusal> {
        let group = pod.group.as_ref().map(|group| group.container_directory(&self.config.id));
        let counted = group.as_deref().and_then(super::group::stats);
        let mut stats = match counted {
            Some(stats) => stats,
            None if pod.namespaces.shared_pid.is_some() => {
                members::stats(members::Kind::Mount, self.namespaces.mount())
                    .map_err(cannot("read what the container uses"))?
            }
            None => members::stats(members::Kind::Process, self.namespaces.pid())
                .map_err(cannot("read what the container uses"))?,
        };
        stats.log_bytes_lost = self.log.as_ref().map_or(0, Log::lost_bytes);
        Ok(stats)
    }

    pub(super) fn info(&self) -> ContainerInfo {
        let ended = matches!(self.state, ContainerState::Exited(_));
        ContainerInfo {
            id: self.config.id.clone(),
            state: self.state.clone(),
            created_at: self.created_at,
            pid: (!ended).then(|| self.pid.as_raw_nonzero().get().unsigned_abs()),
            labels: self.config.labels.clone(),
            log_path: self.config.log.as_ref().map(|log| log.path.clone()),
            stop_signal: self.config.stop_signal,
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            launch::forget(&self.config.id);
        }
    }
}

impl Pod {
    fn write_bundle(
        &self,
        stage: &mut Stage<'_>,
        config: &ContainerConfig,
        user: &ResolvedUser,
        finish: &Finish,
    ) -> Result<(), Refusal> {
        let mounts = config.mounts.iter().map(|mount| match &mount.source {
            MountSource::Bind { path, sub_path } => Ok(PreparedMount::Bind {
                source: stage.stage_bind(path, sub_path.as_deref(), mount.read_only)?,
                destination: mount.destination.clone(),
                read_only: mount.read_only,
            }),
            MountSource::Tmpfs { size_bytes, mode } => Ok(PreparedMount::Tmpfs {
                destination: mount.destination.clone(),
                size_bytes: *size_bytes,
                mode: *mode,
                read_only: mount.read_only,
            }),
        });
        let mounts = mounts.collect::<Result<Vec<_>, Refusal>>()?;
        let mut config = config.clone();
        if let Some(score) = config.limits.oom_score_adj {
            config.limits.oom_score_adj = Some(score.max(own_oom_score().unwrap_or(0)));
        }
        let mut document = spec::build(&SpecInput {
            config: &config,
            user,
            rootfs: stage.rootfs(),
            mounts,
            namespaces: self.namespace_list(),
            network: self.network,
            cgroup: self.group.as_ref().map(|group| group.container(&config.id)),
            enforceable: self.enforceable,
            capabilities: finish.needed_capabilities(),
        });
        // The real environment goes to the program alone; the library looks
        // for nothing but these two.
        document["process"]["env"] = serde_json::json!(["PATH=/", "HOME=/"]);
        std::fs::write(stage.bundle().join("config.json"), document.to_string())
            .map_err(cannot("write the container's description"))
    }

    fn namespace_list(&self) -> Vec<Value> {
        let held = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let pod = &self.namespaces;
        let shared_pid = pod.shared_pid.as_ref().map(|shared| held(&shared.namespace));
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
        &self,
        stage: &Stage<'_>,
        config: &ContainerConfig,
        user: &ResolvedUser,
        finish: &Finish,
    ) -> Result<(Waiting, Streams), Refusal> {
        let pod = &self.namespaces;
        let namespaces: Vec<_> = [&pod.user, &pod.ipc, &pod.uts]
            .into_iter()
            .chain(&pod.net)
            .chain(pod.shared_pid.as_ref().map(|shared| &shared.namespace))
            .map(AsRawFd::as_raw_fd)
            .collect();
        let create = |connection| {
            launch::create(self.proof, &config.id, &stage.bundle(), &namespaces, finish.clone(), connection)
        };
        if config.tty {
            let socket = stage.path().join("console.sock");
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
}

fn own_oom_score() -> Option<i32> {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

fn validate(config: &ContainerConfig) -> Result<(), Refusal> {
    validate_command(&config.args, &config.env)?;
    let absolute = |what: &str, path: &Path| {
        if path.is_absolute() {
            Ok(())
        } else {
            Err(Refusal::invalid(format!("{what} `{}` is not an absolute path", path.display())))
        }
    };
    absolute("the working directory", &config.cwd)?;
    for mount in &config.mounts {
        absolute("the mount destination", &mount.destination)?;
        if mount.destination == Path::new("/") {
            return Err(Refusal::invalid("a mount over the container's root directory"));
        }
    }
    if let (Principal::Name(name), _) | (_, Some(Principal::Name(name))) =
        (&config.user.user, &config.user.group)
        && name.is_empty()
    {
        return Err(Refusal::invalid("a user or group without a name"));
    }
    Ok(())
}

fn validate_command(args: &[String], env: &[EnvVar]) -> Result<(), Refusal> {
    let texts = args.iter().chain(env.iter().flat_map(|variable| [&variable.name, &variable.value]));
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(Refusal::invalid("an argument or variable contains a NUL character"));
    }
    match env.iter().find(|variable| variable.name.is_empty() || variable.name.contains('=')) {
        Some(variable) => {
            Err(Refusal::invalid(format!("`{}` is no name for an environment variable", variable.name)))
        }
        None => Ok(()),
    }
}

/// An environment with some variables replaced or added.
fn overlay(base: &[String], over: &[EnvVar], tty: bool) -> Vec<String> {
    let name_of = |variable: &str| variable.split_once('=').map_or(variable, |(name, _)| name).to_owned();
    let mut env = base.to_vec();
    if tty && !env.iter().any(|variable| name_of(variable) == "TERM") {
        env.push("TERM=xterm".to_owned());
    }
    for variable in over {
        env.retain(|known| name_of(known) != variable.name);
        env.push(format!("{}={}", variable.name, variable.value));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_environments() {
        let base = ["PATH=/bin".to_owned(), "A=1".to_owned()];
        let over = [EnvVar { name: "A".into(), value: "2=3".into() }];
        assert_eq!(overlay(&base, &over, false), ["PATH=/bin", "A=2=3"]);
        assert_eq!(overlay(&base, &[], true), ["PATH=/bin", "A=1", "TERM=xterm"]);
    }

    #[test]
    fn commands() {
        let variable = |name: &str, value: &str| vec![EnvVar { name: name.into(), value: value.into() }];
        let check = |args: &[&str], env: Vec<EnvVar>, valid: bool| {
            let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(validate_command(&args, &env).is_ok(), valid, "{args:?} {env:?}");
        };
        check(&["a", ""], variable("A", ""), true);
        check(&["a\0"], Vec::new(), false);
        check(&[], variable("", "x"), false);
        check(&[], variable("A=B", "x"), false);
        check(&[], variable("A", "\0"), false);
    }
}

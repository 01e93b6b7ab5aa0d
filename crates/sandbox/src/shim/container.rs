//! One container of the pod: how it is created, and what is known of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};
use std::rc::Rc;
use std::time::SystemTime;

use rustix::process::Pid;
use serde_json::Value;

use super::group::{self, PodGroup};
use super::gvisor::GvisorContainer;
use super::join::Connect;
use super::log::Log;
use super::oci::{ExecFinish, OciContainer};
use super::pod::PodNamespaces;
use super::process::Streams;
use super::refusal::{Refusal, cannot};
use super::root::{Root, Stage};
use super::spec::{self, PreparedMount, SpecInput};
use super::user::{self, ResolvedUser};
use crate::capabilities::Capabilities;
use crate::config::{ContainerConfig, EnvVar, ExecConfig, MountSource, Network, Principal, Signal};
use crate::sandbox::{ContainerInfo, ContainerState, ErrorKind, Limits, Stats};
use crate::sys::SingleThreaded;
use crate::wire::EngineOptions;

/// What containers of a pod have in common.
pub(super) struct Pod {
    pub(super) proof: SingleThreaded,
    pub(super) engine: EngineOptions,
    pub(super) root: Rc<Root>,
    pub(super) namespaces: PodNamespaces,
    pub(super) hostname: String,
    pub(super) network: Network,
    pub(super) group: Option<PodGroup>,
    pub(super) enforceable: Limits,
}

/// A container.
pub(super) struct Container {
    pub(super) config: ContainerConfig,
    pub(super) state: ContainerState,
    pub(super) created_at: SystemTime,
    /// The key of its first process.
    pub(super) process: u64,
    pub(super) log: Option<Log>,
    /// Somebody's input was taken; with `Stdin::Once` nobody else's is.
    pub(super) input_used: bool,
    user: ResolvedUser,
    env: Vec<String>,
    runner: Runner,
}

/// What runs a container.
enum Runner {
    Oci(OciContainer),
    Gvisor(Box<GvisorContainer>),
}

/// What a container needs before an engine takes over.
pub(super) struct Prepared {
    pub(super) stage: Stage,
    pub(super) user: ResolvedUser,
    pub(super) env: Vec<String>,
}

/// A process that has been started.
pub(super) type Started = (Pid, Streams);

impl Container {
    /// Creates a container whose program waits to be started; its process,
    /// unless the engine only makes one then.
    pub(super) fn create(
        pod: &Pod,
        config: ContainerConfig,
        process: u64,
        beside: Option<&Self>,
    ) -> Result<(Self, Option<Started>), Refusal> {
        validate(&config)?;
        let shared = beside.map(Self::shared_processes).transpose()?;
        let log = config.log.as_ref().map(|log| Log::open(&pod.root, log)).transpose()?;
        let mut prepared = pod.prepare(&config)?;
        let (user, env) = (prepared.user.clone(), prepared.env.clone());
        let (runner, started) = match &pod.engine {
            EngineOptions::Oci => {
                let (container, streams) = OciContainer::create(pod, &config, &mut prepared, shared)?;
                let pid = container.pid;
                (Runner::Oci(container), Some((pid, streams)))
            }
            EngineOptions::Gvisor { .. } if shared.is_some() => return Err(no_shared_kernel()),
            EngineOptions::Gvisor { platform, .. } => {
                let container = GvisorContainer::create(pod, &config, prepared, platform)?;
                (Runner::Gvisor(Box::new(container)), None)
            }
        };
        let container = Self {
            state: ContainerState::Created,
            created_at: SystemTime::now(),
            process,
            log,
            input_used: false,
            user,
            env,
            runner,
            config,
        };
        Ok((container, started))
    }

    /// The process namespace of a container that runs, for another to join.
    fn shared_processes(&self) -> Result<BorrowedFd<'_>, Refusal> {
        match (&self.runner, &self.state) {
            (Runner::Oci(container), ContainerState::Running { .. }) => Ok(container.processes()),
            (Runner::Oci(_), _) => Err(Refusal::new(
                ErrorKind::InvalidState,
                format!("container {} is not running, so that nothing can see its processes", self.config.id),
            )),
            (Runner::Gvisor(_), _) => Err(no_shared_kernel()),
        }
    }

    /// Lets the program run; gives its process if that is only made now.
    pub(super) fn start(&mut self, pod: &Pod) -> Result<Option<Started>, Refusal> {
        if self.state != ContainerState::Created {
            return Err(Refusal::new(
                ErrorKind::InvalidState,
                format!("container {} was started before", self.config.id),
            ));
        }
        let started = match &mut self.runner {
            Runner::Oci(container) => container.start().map(|()| None),
            Runner::Gvisor(container) => container.start(pod).map(Some),
        }?;
        self.state = ContainerState::Running { started_at: SystemTime::now() };
        Ok(started)
    }

    /// Runs a further process in it.
    pub(super) fn exec(&mut self, pod: &Pod, config: &ExecConfig) -> Result<Started, Refusal> {
        if !matches!(self.state, ContainerState::Running { .. }) {
            return Err(Refusal::new(
                ErrorKind::InvalidState,
                format!("container {} is not running", self.config.id),
            ));
        }
        validate_command(&config.args, &config.env)?;
        let user = match &config.user {
            Some(user) => user::resolve(user, |path| match &self.runner {
                Runner::Oci(container) => container.open_in_root(path),
                Runner::Gvisor(container) => container.open_in_root(path),
            })?,
            None => self.user.clone(),
        };
        let finish = ExecFinish {
            args: config.args.clone(),
            env: overlay(&self.env, &config.env, config.tty),
            user: &user,
            cwd: config.cwd.as_deref().unwrap_or(&self.config.cwd),
            pids_limit: self.config.limits.pids,
        };
        let connect = if config.tty {
            Connect::Terminal { size: config.size }
        } else {
            Connect::Pipes { input: config.stdin }
        };
        match &mut self.runner {
            Runner::Oci(container) => container.exec(pod, finish, connect),
            Runner::Gvisor(container) => container.exec(pod, &finish, &self.config, connect),
        }
    }

    /// Sends a signal to its first process, the shim's child `pid`.
    pub(super) fn signal(&self, pod: &Pod, pid: Pid, signal: Signal) -> Result<(), Refusal> {
        match &self.runner {
            Runner::Gvisor(container) if signal != Signal::KILL => container.signal(pod, signal),
            Runner::Gvisor(_) | Runner::Oci(_) => crate::sys::send_signal(pid, signal.number())
                .map_err(cannot(format!("send {signal} to container {}", self.config.id))),
        }
    }

    /// Ends what is left of a container whose first process has ended.
    pub(super) fn kill_rest(&self) -> io::Result<()> {
        match &self.runner {
            Runner::Oci(container) => container.kill_rest(),
            // Everything was in the process namespace that just ended.
            Runner::Gvisor(_) => Ok(()),
        }
    }

    pub(super) fn stats(&self, pod: &Pod) -> Result<Stats, Refusal> {
        let directory = pod.group.as_ref().map(|group| group.container_directory(&self.config.id));
        let mut stats = match (directory.as_deref().and_then(group::stats), &self.runner) {
            (Some(stats), _) => stats,
            (None, Runner::Oci(container)) => {
                container.stats().map_err(cannot("read what the container uses"))?
            }
            (None, Runner::Gvisor(container)) => container.stats(pod)?,
        };
        stats.log_bytes_lost = self.log.as_ref().map_or(0, Log::lost_bytes);
        Ok(stats)
    }

    /// As `list` shows it, with its process's id.
    pub(super) fn info(&self, pid: Option<Pid>) -> ContainerInfo {
        ContainerInfo {
            id: self.config.id.clone(),
            state: self.state.clone(),
            created_at: self.created_at,
            pid: pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()),
            labels: self.config.labels.clone(),
            log_path: self.config.log.as_ref().map(|log| log.path.clone()),
            stop_signal: self.config.stop_signal,
        }
    }
}

fn no_shared_kernel() -> Refusal {
    Refusal::invalid("containers on gVisor have a kernel each and cannot see each other's processes")
}

impl Pod {
    fn prepare(&self, config: &ContainerConfig) -> Result<Prepared, Refusal> {
        let stage = self.root.make_stage(&config.id)?;
        stage.mount_rootfs(&config.rootfs)?;
        let user = user::resolve(&config.user, |path| stage.open_in_rootfs(path))?;
        // A directory that cannot be made is reported when it cannot be entered.
        stage.make_directory(&config.cwd).unwrap_or_default();
        let env = spec::environment(config, &user);
        Ok(Prepared { stage, user, env })
    }

    /// The container's description for an OCI runtime, its mounts put in place.
    pub(super) fn describe(
        &self,
        config: &ContainerConfig,
        prepared: &mut Prepared,
        namespaces: Vec<Value>,
        capabilities: Capabilities,
    ) -> Result<Value, Refusal> {
        let stage = &mut prepared.stage;
        let mut own = Vec::new();
        for path in &config.image_volumes {
            let source = stage.stage_own(path)?;
            own.push(PreparedMount::Bind { source, destination: path.clone(), read_only: false });
        }
        let mounts = config.mounts.iter().map(|mount| match &mount.source {
            MountSource::Bind { path, sub_path } => Ok(PreparedMount::Bind {
                source: stage.stage_bind(path, sub_path.as_deref(), mount.read_only)?,
                destination: mount.destination.clone(),
                read_only: mount.read_only,
            }),
            MountSource::Memory { name, size_bytes, sub_path } => Ok(PreparedMount::Bind {
                source: stage.stage_memory(name, *size_bytes, sub_path.as_deref(), mount.read_only)?,
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
        own.extend(mounts.collect::<Result<Vec<_>, Refusal>>()?);
        let mut config = config.clone();
        if let Some(score) = config.limits.oom_score_adj {
            config.limits.oom_score_adj = Some(score.max(own_oom_score().unwrap_or(0)));
        }
        Ok(spec::build(&SpecInput {
            config: &config,
            user: &prepared.user,
            rootfs: prepared.stage.rootfs(),
            mounts: own,
            namespaces,
            network: self.network,
            cgroup: self.group.as_ref().map(|group| group.container(&config.id)),
            enforceable: self.enforceable,
            capabilities,
        }))
    }
}

impl Prepared {
    pub(super) fn write_bundle(&self, document: &Value) -> Result<(), Refusal> {
        std::fs::write(self.stage.bundle().join("config.json"), document.to_string())
            .map_err(cannot("write the container's description"))
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
    let destinations = config.mounts.iter().map(|mount| &mount.destination).chain(&config.image_volumes);
    for destination in destinations {
        absolute("the mount destination", destination)?;
        let place = destination.display();
        if destination.components().any(|component| component == Component::ParentDir) {
            return Err(Refusal::invalid(format!("the mount destination `{place}` contains `..`")));
        }
        // Over the kernel's files, a volume could pretend to be one of them.
        if destination == Path::new("/") || destination.starts_with("/proc") {
            return Err(Refusal::invalid(format!("nothing may be mounted at `{place}`")));
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

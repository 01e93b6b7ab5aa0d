//! Containers on gVisor: a kernel in user space, by the external `runsc`.
//!
//! Each container is a gVisor sandbox of its own. `runsc` runs as root of the
//! pod, in the pod's user and network namespace, as the first process of a
//! process and mount namespace that the shim makes for it: whatever it starts
//! ends with it.
//!
//! Networking is gVisor's `host` mode, where the host is the pod's network
//! namespace: sockets are the kernel's, everything else is gVisor's. Its own
//! network stack (`sandbox` mode) refuses to start on kernels that show
//! `net.core.rmem_default` in every network namespace, which its older
//! versions take for the host's.
//!
//! Seccomp profiles do not apply: the container's calls never reach the kernel,
//! and `runsc` confines itself. A limit of processes neither: they are no
//! processes of the kernel's.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use super::container::{Pod, Prepared};
use super::finish::Finish;
use super::join::{self, Connect, ContainerNamespaces, Join, Place};
use super::oci::ExecFinish;
use super::process::Streams;
use super::refusal::{Refusal, cannot};
use super::spec::namespace;
use super::user::ResolvedUser;
use crate::capabilities::Capabilities;
use crate::config::{ContainerConfig, ContainerId, POD_ID_SHIFT, Signal, Stdin};
use crate::sandbox::{ErrorKind, Stats};
use crate::seccomp::Filter;

/// Where the shim shows the `runsc` program to the pod.
pub(super) const PROGRAM: &str = "/runsc";

/// How long a container may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
const START_POLL: Duration = Duration::from_millis(10);

/// A container that comes into being when it is started.
pub(super) struct GvisorContainer {
    id: ContainerId,
    platform: String,
    connect: Connect,
    prepared: Prepared,
    execs: u32,
    running: Option<Running>,
}

struct Running {
    pid: Pid,
    namespaces: ContainerNamespaces,
}

/// `runsc` knows no mount option that holds for the mounts below, such as `rro`, and gives up. What is to be read only
/// is so already where the shim shows it.
fn forget_recursive_options(document: &mut Value) {
    for mount in document["mounts"].as_array_mut().into_iter().flatten() {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "rro");
        }
    }
}

impl GvisorContainer {
    pub(super) fn create(
        pod: &Pod,
        config: &ContainerConfig,
        mut prepared: Prepared,
        platform: &str,
    ) -> Result<Self, Refusal> {
        check_program(config, &prepared)?;
        let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| namespace(kind, None)).to_vec();
        let capabilities = Capabilities::of(&config.capabilities);
        let mut document = pod.describe(config, &mut prepared, namespaces, capabilities)?;
        document["hostname"] = json!(pod.hostname);
        document["process"]["terminal"] = json!(config.tty);
        forget_recursive_options(&mut document);
        prepared.write_bundle(&document)?;
        let state = prepared.stage.path().join("runsc");
        fs::create_dir(&state)
            .and_then(|()| std::os::unix::fs::chown(&state, Some(POD_ID_SHIFT), Some(POD_ID_SHIFT)))
            .map_err(cannot("prepare gVisor's directory"))?;
        if let Some(group) = &pod.group {
            group.create_container(&config.id, &config.limits, pod.enforceable)?;
        }
        let connect = if config.tty {
            Connect::Terminal { size: None }
        } else {
            Connect::Pipes { input: config.stdin != Stdin::None }
        };
        Ok(Self {
            id: config.id.clone(),
            platform: platform.to_owned(),
            connect,
            prepared,
            execs: 0,
            running: None,
        })
    }

    /// Starts the sandbox and the container's program in it.
    pub(super) fn start(&mut self, pod: &Pod) -> Result<(Pid, Streams), Refusal> {
        let bundle = self.prepared.stage.bundle();
        let args = ["run", "--bundle", &bundle.to_string_lossy(), self.id.as_str()].map(str::to_owned);
        let (pid, streams) = self.invoke(pod, Place::Beside, &args, self.connect)?;
        let namespaces = ContainerNamespaces::of(pid)?;
        self.running = Some(Running { pid, namespaces });
        self.await_running(pod)?;
        Ok((pid, streams))
    }

    /// Waits until the sandbox can be talked to, or has ended again.
    fn await_running(&self, pod: &Pod) -> Result<(), Refusal> {
        #[derive(Deserialize)]
        struct State {
            status: String,
        }
        let limit = Instant::now() + START_LIMIT;
        while Instant::now() < limit {
            let answer = self.ask(pod, &["state", self.id.as_str()].map(str::to_owned));
            if self.has_ended() {
                // Its exit code and what it wrote tell the rest.
                return Ok(());
            }
            let (code, output) = answer?;
            let state = serde_json::from_slice::<State>(&output);
            if code == 0 && state.is_ok_and(|state| state.status == "running") {
                return Ok(());
            }
            std::thread::sleep(START_POLL);
        }
        Err(Refusal::new(
            ErrorKind::Internal,
            format!("gVisor did not start container {} within {} seconds", self.id, START_LIMIT.as_secs()),
        ))
    }

    pub(super) fn exec(
        &mut self,
        pod: &Pod,
        finish: &ExecFinish<'_>,
        config: &ContainerConfig,
        connect: Connect,
    ) -> Result<(Pid, Streams), Refusal> {
        let names = Capabilities::of(&config.capabilities).names();
        let process = json!({
            "terminal": matches!(connect, Connect::Terminal { .. }),
            "user": {
                "uid": finish.user.uid,
                "gid": finish.user.gid,
                "additionalGids": finish.user.groups,
            },
            "args": finish.args,
            "env": finish.env,
            "cwd": finish.cwd,
            "capabilities": { "bounding": names, "effective": names, "permitted": names },
            "noNewPrivileges": config.no_new_privileges,
        });
        self.execs += 1;
        let file = self.prepared.stage.path().join(format!("exec-{}.json", self.execs));
        fs::write(&file, process.to_string()).map_err(cannot("describe the process"))?;
        let args = ["exec", "--process", &file.to_string_lossy(), self.id.as_str()].map(str::to_owned);
        self.invoke(pod, self.place()?, &args, connect)
    }

    /// Sends a signal to the container's first process.
    pub(super) fn signal(&self, pod: &Pod, signal: Signal) -> Result<(), Refusal> {
        let number = signal.number().to_string();
        let answer = self.ask(pod, &["kill", self.id.as_str(), &number].map(str::to_owned));
        if self.has_ended() {
            return Ok(());
        }
        let (code, output) = answer?;
        if code == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output).trim().to_owned();
        Err(Refusal::new(
            ErrorKind::Internal,
            format!("gVisor did not send {signal} to container {}: {said}", self.id),
        ))
    }

    pub(super) fn stats(&self, pod: &Pod) -> Result<Stats, Refusal> {
        let (_, output) = self.ask(pod, &["events", "--stats", self.id.as_str()].map(str::to_owned))?;
        parse_stats(&output).ok_or_else(|| {
            let said = String::from_utf8_lossy(&output).trim().to_owned();
            Refusal::new(ErrorKind::Internal, format!("gVisor gave no statistics of {}: {said}", self.id))
        })
    }

    /// Opens a file of the container, as its layers had it.
    pub(super) fn open_in_root(&self, path: &Path) -> io::Result<std::os::fd::OwnedFd> {
        self.prepared.stage.open_in_rootfs(path)
    }

    /// Whether the sandbox has come to its end, which nobody has noted yet.
    fn has_ended(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = |pid| !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None));
        self.running.as_ref().is_some_and(|running| ended(running.pid))
    }

    fn place(&self) -> Result<Place<'_>, Refusal> {
        match &self.running {
            Some(running) => Ok(Place::Container(&running.namespaces)),
            None => Err(Refusal::new(ErrorKind::InvalidState, format!("container {} does not run", self.id))),
        }
    }

    /// Runs `runsc` to its end; gives its exit code and all it wrote.
    fn ask(&self, pod: &Pod, args: &[String]) -> Result<(i32, Vec<u8>), Refusal> {
        const MAX_BYTES: u64 = 64 << 10;
        let (pid, streams) = self.invoke(pod, self.place()?, args, Connect::Pipes { input: false })?;
        let mut output = Vec::new();
        for stream in [streams.stdout, streams.stderr].into_iter().flatten() {
            rustix::io::ioctl_fionbio(&stream, false).map_err(cannot("read what gVisor says"))?;
            fs::File::from(stream)
                .take(MAX_BYTES)
                .read_to_end(&mut output)
                .map_err(cannot("read what gVisor says"))?;
        }
        let ended = rustix::process::waitpid(Some(pid), WaitOptions::empty())
            .map_err(cannot("wait for gVisor's answer"))?;
        let code = ended.and_then(|(_, status)| status.exit_status()).unwrap_or(-1);
        Ok((code, output))
    }

    fn invoke(
        &self,
        pod: &Pod,
        place: Place<'_>,
        args: &[String],
        connect: Connect,
    ) -> Result<(Pid, Streams), Refusal> {
        let state = self.prepared.stage.path().join("runsc");
        let mut all = vec![
            PROGRAM.to_owned(),
            format!("--root={}", state.display()),
            format!("--platform={}", self.platform),
            "--network=host".to_owned(),
            // The shim has put it into the container's group already.
            "--ignore-cgroups".to_owned(),
            // Files are the pod's alone, but volumes may be shared with others.
            "--file-access-mounts=shared".to_owned(),
        ];
        all.extend_from_slice(args);
        let finish = Finish {
            args: all,
            env: vec!["PATH=/".to_owned(), "HOME=/".to_owned()],
            filter: Filter::default(),
            capabilities: Capabilities::ALL,
            no_new_privileges: false,
        };
        let root = ResolvedUser { uid: 0, gid: 0, groups: Vec::new(), home: "/".to_owned() };
        let join = Join {
            pod: &pod.namespaces,
            place,
            cgroup: pod.group.as_ref().map(|group| group.container_directory(&self.id)),
            pids_limit: None,
            user: &root,
            cwd: Path::new("/"),
            finish: &finish,
        };
        join::start(pod.proof, &join, connect)
    }
}

/// Refuses a program that is nowhere in the image, as gVisor would only say at
/// the start, in the container's output.
fn check_program(config: &ContainerConfig, prepared: &Prepared) -> Result<(), Refusal> {
    let name =
        config.args.first().filter(|name| !name.is_empty()).ok_or_else(|| {
            Refusal::invalid("a container needs a program to run, and its arguments are empty")
        })?;
    let path = prepared.env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("");
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![config.cwd.join(name)]
    } else {
        path.split(':').map(|directory| config.cwd.join(directory).join(name)).collect()
    };
    let mounted = |path: &Path| config.mounts.iter().any(|mount| path.starts_with(&mount.destination));
    let exists = |path: &PathBuf| prepared.stage.open_in_rootfs(path).is_ok() || mounted(path);
    if candidates.iter().any(exists) {
        Ok(())
    } else {
        Err(Refusal::new(
            ErrorKind::CommandNotFound,
            format!("the program `{name}` is not in the container (PATH is {path})"),
        ))
    }
}

fn parse_stats(output: &[u8]) -> Option<Stats> {
    let event: Value = serde_json::from_slice(output).ok()?;
    let number = |path: &str| event.pointer(path).and_then(Value::as_u64);
    Some(Stats {
        cpu: Duration::from_nanos(number("/data/cpu/usage/total")?),
        memory_bytes: number("/data/memory/usage/usage")?,
        processes: number("/data/pids/current")?,
        log_bytes_lost: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        let text = br#"{"type":"stats","id":"c","data":{"cpu":{"usage":{"total":5000}},
            "memory":{"usage":{"limit":0,"usage":2547712,"failcnt":0}},"pids":{"current":2}}}"#;
        let stats = parse_stats(text).unwrap();
        assert_eq!((stats.cpu.as_micros(), stats.memory_bytes, stats.processes), (5, 2_547_712, 2));
        assert!(parse_stats(b"no").is_none());
        assert!(parse_stats(b"{}").is_none());
    }
}

//! A container's description for an OCI runtime.
//!
//! Specification: OCI runtime 1.2. Pure: what is mounted, looked up or opened
//! beforehand comes in as values.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::root::{SHM, tmpfs_files};
use super::user::ResolvedUser;
use crate::capabilities::Capabilities;
use crate::config::{ContainerConfig, KernelFiles, Network, ResourceLimits};
use crate::sandbox::Limits;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container's description is made of, beside its configuration.
pub(crate) struct SpecInput<'a> {
    pub(crate) config: &'a ContainerConfig,
    pub(crate) user: &'a ResolvedUser,
    pub(crate) rootfs: PathBuf,
    pub(crate) mounts: Vec<PreparedMount>,
    pub(crate) namespaces: Vec<Value>,
    pub(crate) network: Network,
    /// Absolute in the hierarchy; `None` where none was delegated.
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) enforceable: Limits,
    pub(crate) capabilities: Capabilities,
}

/// A mount of the configuration, ready to be made.
pub(crate) enum PreparedMount {
    Bind { source: PathBuf, destination: PathBuf, read_only: bool },
    Tmpfs { destination: PathBuf, size_bytes: u64, mode: u32, read_only: bool },
}

/// A namespace to join (by path) or to make.
pub(crate) fn namespace(kind: &str, path: Option<&Path>) -> Value {
    match path {
        Some(path) => json!({ "type": kind, "path": path }),
        None => json!({ "type": kind }),
    }
}

/// The whole environment of a container's first process.
pub(crate) fn environment(config: &ContainerConfig, user: &ResolvedUser) -> Vec<String> {
    let mut variables: Vec<(&str, &str)> = Vec::new();
    let mut set = |name, value| match variables.iter_mut().find(|(known, _)| *known == name) {
        Some(variable) => variable.1 = value,
        None => variables.push((name, value)),
    };
    set("PATH", DEFAULT_PATH);
    // Always set: the runtime library would otherwise ask the C library, which
    // may load code from the container's file system to answer.
    set("HOME", &user.home);
    if config.tty {
        set("TERM", "xterm");
    }
    for variable in &config.env {
        set(&variable.name, &variable.value);
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The description, as the `config.json` of a bundle.
pub(crate) fn build(input: &SpecInput<'_>) -> Value {
    let config = input.config;
    let protected = config.kernel_files == KernelFiles::Protected;
    let names = input.capabilities.names();
    let none: [&str; 0] = [];
    let mut process = json!({
        "terminal": config.tty,
        "user": {
            "uid": input.user.uid,
            "gid": input.user.gid,
            "additionalGids": input.user.groups,
            "umask": 0o022,
        },
        "args": config.args,
        "env": environment(config, input.user),
        "cwd": config.cwd,
        "capabilities": {
            "bounding": names,
            "effective": names,
            "permitted": names,
            "inheritable": none,
            "ambient": none,
        },
        "noNewPrivileges": config.no_new_privileges,
    });
    if let Some(pids) = config.limits.pids {
        process["rlimits"] = json!([{ "type": "RLIMIT_NPROC", "soft": pids, "hard": pids }]);
    }
    if let Some(score) = config.limits.oom_score_adj {
        process["oomScoreAdj"] = json!(score);
    }
    json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": input.rootfs, "readonly": config.read_only_rootfs },
        "mounts": mounts(input),
        "linux": {
            "namespaces": input.namespaces,
            "cgroupsPath": cgroup_path(input),
            "resources": resources(&config.limits, input.enforceable, input.cgroup.is_some()),
            "maskedPaths": if protected { &MASKED[..] } else { &[] },
            "readonlyPaths": if protected { &READ_ONLY[..] } else { &[] },
        },
    })
}

/// The runtime library insists on a group; where it may not make one, it goes on without.
fn cgroup_path(input: &SpecInput<'_>) -> PathBuf {
    input.cgroup.clone().unwrap_or_else(|| PathBuf::from("/xebec-not-delegated"))
}

fn resources(limits: &ResourceLimits, enforceable: Limits, group: bool) -> Value {
    let mut resources = json!({});
    if !group {
        return resources;
    }
    if let (Some(bytes), true) = (limits.memory_bytes, enforceable.memory) {
        // Swap would only hide the limit.
        resources["memory"] = json!({ "limit": bytes, "swap": bytes });
    }
    if enforceable.cpu {
        const PERIOD_US: u64 = 100_000;
        let mut cpu = json!({});
        if let Some(millis) = limits.cpu_millis {
            cpu["period"] = json!(PERIOD_US);
            cpu["quota"] = json!((millis * PERIOD_US / 1000).max(1000));
        }
        if let Some(millis) = limits.cpu_request_millis {
            cpu["shares"] = json!((millis * 1024 / 1000).clamp(2, 262_144));
        }
        resources["cpu"] = cpu;
    }
    if let (Some(pids), true) = (limits.pids, enforceable.pids) {
        resources["pids"] = json!({ "limit": pids });
    }
    resources
}

fn mounts(input: &SpecInput<'_>) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "mode=755", "size=1m", "nr_inodes=1024"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "bind", SHM, &["rbind", "nosuid", "noexec", "nodev"]),
    ];
    match input.network {
        Network::Isolated => {
            mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
        }
        // A sysfs shows the network devices of its mounter's network, and
        // only the owner of that network may mount one.
        Network::Host => {
            mounts.push(mount("/sys", "bind", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro", "rro"]));
            mounts.push(mount(
                "/sys/fs/cgroup",
                "tmpfs",
                "tmpfs",
                &["nosuid", "noexec", "nodev", "size=0", "ro"],
            ));
        }
    }
    if input.cgroup.is_some() {
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]));
    }
    mounts.extend(input.mounts.iter().map(prepared));
    mounts
}

fn prepared(mount: &PreparedMount) -> Value {
    match mount {
        PreparedMount::Bind { source, destination, read_only } => {
            let options: &[&str] = if *read_only { &["rbind", "ro", "rro"] } else { &["rbind", "rw"] };
            json!({ "destination": destination, "type": "bind", "source": source, "options": options })
        }
        PreparedMount::Tmpfs { destination, size_bytes, mode, read_only } => {
            let options = [
                "nosuid".to_owned(),
                "nodev".to_owned(),
                if *read_only { "ro" } else { "rw" }.to_owned(),
                format!("size={size_bytes}"),
                format!("nr_inodes={}", tmpfs_files(*size_bytes)),
                format!("mode={mode:o}"),
            ];
            json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnvVar, Rootfs};

    fn config() -> ContainerConfig {
        let rootfs = Rootfs { lower: vec!["/layer".into()], writable: "/writable".into() };
        ContainerConfig::new("app".parse().unwrap(), rootfs, vec!["true".into()])
    }

    fn user() -> ResolvedUser {
        ResolvedUser { uid: 7, gid: 8, groups: vec![9], home: "/srv".into() }
    }

    fn spec(config: &ContainerConfig, network: Network, cgroup: Option<&str>) -> Value {
        build(&SpecInput {
            config,
            user: &user(),
            rootfs: "/c/app/rootfs".into(),
            mounts: Vec::new(),
            namespaces: Vec::new(),
            network,
            cgroup: cgroup.map(PathBuf::from),
            enforceable: Limits { memory: true, pids: true, cpu: true },
            capabilities: Capabilities::of(&config.capabilities),
        })
    }

    #[test]
    fn the_environment_has_defaults_that_can_be_changed() {
        let mut config = config();
        config.tty = true;
        let variable = |name: &str, value: &str| EnvVar { name: name.into(), value: value.into() };
        config.env = vec![variable("A", "1"), variable("PATH", "/bin"), variable("A", "2=3")];
        let env = environment(&config, &user());
        assert_eq!(env, ["PATH=/bin", "HOME=/srv", "TERM=xterm", "A=2=3"]);
    }

    #[test]
    fn secure_defaults_and_their_named_weakening() {
        let mut config = config();
        let spec_of = |config: &ContainerConfig| spec(config, Network::Isolated, None);
        let strict = spec_of(&config);
        assert_eq!(strict["process"]["noNewPrivileges"], true);
        assert_eq!(strict["linux"]["maskedPaths"].as_array().unwrap().len(), MASKED.len());
        assert_eq!(strict["process"]["capabilities"]["inheritable"], json!([]));
        config.kernel_files = KernelFiles::DangerUnmasked;
        let weak = spec_of(&config);
        assert_eq!(weak["linux"]["maskedPaths"], json!([]));
        assert_eq!(weak["linux"]["readonlyPaths"], json!([]));
    }

    #[test]
    fn limits_appear_only_with_a_group() {
        let mut config = config();
        config.limits.memory_bytes = Some(1 << 20);
        config.limits.cpu_millis = Some(250);
        config.limits.cpu_request_millis = Some(100);
        config.limits.pids = Some(10);
        let without = spec(&config, Network::Isolated, None);
        assert_eq!(without["linux"]["resources"], json!({}));
        assert_eq!(without["process"]["rlimits"][0]["hard"], 10);
        let with = spec(&config, Network::Isolated, Some("/xebec-pods/p/app"));
        let expected = json!({
            "memory": { "limit": 1 << 20, "swap": 1 << 20 },
            "cpu": { "period": 100_000, "quota": 25_000, "shares": 102 },
            "pids": { "limit": 10 },
        });
        assert_eq!(with["linux"]["resources"], expected);
    }

    #[test]
    fn sysfs_is_bound_where_it_cannot_be_mounted() {
        let kind = |network| {
            let spec = spec(&config(), network, None);
            let mounts = spec["mounts"].as_array().unwrap().clone();
            mounts.into_iter().find(|mount| mount["destination"] == "/sys").unwrap()["type"].clone()
        };
        assert_eq!(kind(Network::Isolated), "sysfs");
        assert_eq!(kind(Network::Host), "bind");
    }
}

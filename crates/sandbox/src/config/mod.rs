//! What a caller asks of a sandbox: the pod, its containers, the processes
//! run inside them.
//!
//! Owns the vocabulary and the checks on it (names, capability spellings); it
//! never touches the system. Every type here travels unchanged between the
//! server and the shim, so each is serialisable.
//!
//! Sizes are bytes, ids are the container's own (0 is root inside the pod);
//! `host_id` says which id owns a file that the container must own.

mod capability;
mod signal;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use capability::CAPABILITIES;
pub use capability::{CapabilityName, UnknownCapability};
pub use signal::{Signal, UnknownSignal};

/// Number of user and of group ids that exist inside a pod: 0..=65534.
pub const POD_IDS: u32 = 65_535;

/// How far pod ids are shifted in the server's view: pod id `n` is `n + 1` there.
pub const POD_ID_SHIFT: u32 = 1;

/// Most bytes of a pod or container id.
pub const MAX_ID_BYTES: usize = 128;

/// The id, in the server's user namespace, of a pod's user or group `id`.
///
/// Files that a container must own (volumes, snapshots) are given this owner.
/// Returns `None` for an id that does not exist inside a pod.
#[must_use]
pub const fn host_id(id: u32) -> Option<u32> {
    if id < POD_IDS { Some(id + POD_ID_SHIFT) } else { None }
}

/// An id that is no usable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a valid id: 1 to {MAX_ID_BYTES} characters of [A-Za-z0-9_.-], starting with a letter or digit"
)]
pub struct InvalidId {
    /// What was offered.
    pub value: String,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text, safe as a file name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(value: String) -> Result<Self, InvalidId> {
                if is_valid_id(&value) { Ok(Self(value)) } else { Err(InvalidId { value }) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type! {
    /// Names one pod sandbox within a run directory; a pod's UID serves well.
    SandboxId
}
id_type! {
    /// Names one container within its sandbox. A restarted container needs a new id.
    ContainerId
}

pub(crate) fn is_valid_id(value: &str) -> bool {
    value.len() <= MAX_ID_BYTES
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// One pod: what its containers share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodSandboxConfig {
    /// The sandbox's name.
    pub id: SandboxId,
    /// Host name inside the pod, at most 64 bytes; ignored with `Network::Host`.
    pub hostname: String,
    /// Where the pod's network stack is.
    pub network: Network,
    /// Namespaced kernel parameters (`net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`).
    pub sysctls: BTreeMap<String, String>,
    /// Limits over all containers of the pod together.
    pub limits: ResourceLimits,
    /// Size of the `/dev/shm` that the pod's containers share.
    pub shm_bytes: u64,
    /// One process namespace for all containers, with a reaper as process 1.
    pub share_process_namespace: bool,
    /// Kept with the sandbox and given back by `recover`; not interpreted.
    pub labels: BTreeMap<String, String>,
}

impl PodSandboxConfig {
    /// A pod with its own network, the default shared memory and no limits.
    #[must_use]
    pub fn new(id: SandboxId, hostname: impl Into<String>) -> Self {
        Self {
            id,
            hostname: hostname.into(),
            network: Network::Isolated,
            sysctls: BTreeMap::new(),
            limits: ResourceLimits::default(),
            shm_bytes: 64 << 20,
            share_process_namespace: false,
            labels: BTreeMap::new(),
        }
    }
}

/// Where a pod's network stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// A fresh network namespace, loopback up, pinned where `netns_path` says;
    /// it is owned by the pod's user namespace and the server may configure it.
    Isolated,
    /// The host's network, without any capability over it.
    Host,
}

/// One container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The container's name within the pod.
    pub id: ContainerId,
    /// The file system that the container starts from.
    pub rootfs: Rootfs,
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// The whole environment, in order; a later variable wins. `PATH` and `HOME` get defaults.
    pub env: Vec<EnvVar>,
    /// Working directory, absolute; created when it is missing.
    pub cwd: PathBuf,
    /// Who the first process runs as.
    pub user: ContainerUser,
    /// Directories of the root file system that exist and can be written, even where the rest cannot; absolute.
    pub image_volumes: Vec<PathBuf>,
    /// Mounts over the root file system, in order.
    pub mounts: Vec<Mount>,
    /// Changes to the default capabilities.
    pub capabilities: CapabilityChange,
    /// The root file system cannot be written; mounts can.
    pub read_only_rootfs: bool,
    /// No program gains privileges by being started (setuid, file capabilities).
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: SeccompProfile,
    /// Which kernel files are hidden or read-only.
    pub kernel_files: KernelFiles,
    /// Give the container a terminal.
    pub tty: bool,
    /// Whether there is standard input, and how it ends.
    pub stdin: Stdin,
    /// Limits of this container.
    pub limits: ResourceLimits,
    /// Where output is written; without it, only attached clients see it.
    pub log: Option<LogConfig>,
    /// The signal that asks the container to end; reported back by `list`.
    pub stop_signal: Signal,
    /// The running container whose processes this one sees, and ends with; its own only without it.
    pub process_namespace_of: Option<ContainerId>,
    /// Kept with the container and given back by `list`; not interpreted.
    pub labels: BTreeMap<String, String>,
}

impl ContainerConfig {
    /// A container with the secure defaults: default capabilities and filter,
    /// no new privileges, root inside the pod, no mounts, no input, no log.
    #[must_use]
    pub fn new(id: ContainerId, rootfs: Rootfs, args: Vec<String>) -> Self {
        Self {
            id,
            rootfs,
            args,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: ContainerUser::default(),
            image_volumes: Vec::new(),
            mounts: Vec::new(),
            capabilities: CapabilityChange::default(),
            read_only_rootfs: false,
            no_new_privileges: true,
            seccomp: SeccompProfile::RuntimeDefault,
            kernel_files: KernelFiles::Protected,
            tty: false,
            stdin: Stdin::None,
            limits: ResourceLimits::default(),
            log: None,
            stop_signal: Signal::TERM,
            process_namespace_of: None,
            labels: BTreeMap::new(),
        }
    }
}

/// The layers of a container's root file system. Owners in the layers are
/// already shifted (`host_id`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rootfs {
    /// Unpacked layers, the topmost first; 1 to 128.
    pub lower: Vec<PathBuf>,
    /// A directory of this container's own, on a local file system; `upper`
    /// and `work` are made inside. It holds what the container writes.
    pub writable: PathBuf,
}

/// Most layers in a root file system.
pub const MAX_LAYERS: usize = 128;

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Non-empty, without `=` or NUL.
    pub name: String,
    /// Without NUL.
    pub value: String,
}

/// Whom a container's process runs as. Names are looked up in the container's
/// own `/etc/passwd` and `/etc/group`, and so are the user's further groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUser {
    /// The user.
    pub user: Principal,
    /// The group; without it the user's group in `/etc/passwd`, else 0.
    pub group: Option<Principal>,
    /// Supplementary groups, in addition to those that `/etc/group` names.
    pub supplementary_groups: Vec<u32>,
}

impl ContainerUser {
    /// A user and group by number.
    #[must_use]
    pub fn ids(uid: u32, gid: u32) -> Self {
        Self { user: Principal::Id(uid), group: Some(Principal::Id(gid)), supplementary_groups: Vec::new() }
    }
}

/// A user or a group, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Principal {
    /// By number.
    Id(u32),
    /// By name, as the image's files have it.
    Name(String),
}

impl Default for Principal {
    fn default() -> Self {
        Self::Id(0)
    }
}

/// A mount inside a container. Propagation is always private.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container. Symlinks in it are resolved inside
    /// the container's root and cannot lead out of it.
    pub destination: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
    /// The mount, and with `Bind` every mount below it, cannot be written.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    /// A file or directory of the server's view.
    Bind {
        /// The volume, absolute. It must exist; its last component may be a symlink.
        path: PathBuf,
        /// A path below `path`, resolved so that symlinks cannot lead out of
        /// `path`; missing directories are made with the volume's owner.
        sub_path: Option<PathBuf>,
    },
    /// A file system in memory that belongs to the pod: every container that
    /// names it sees the same files, and it is empty when it is first named.
    Memory {
        /// Its name within the pod, as ids are.
        name: String,
        /// Most bytes it holds.
        size_bytes: u64,
        /// As with `Bind`.
        sub_path: Option<PathBuf>,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Most bytes it holds.
        size_bytes: u64,
        /// Mode of its root, such as `0o1777`.
        mode: u32,
    },
}

/// Changes to the default capabilities: first `drop`, then `add`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityChange {
    /// Given in addition. They hold inside the pod's user namespace only.
    pub add: Vec<CapabilityName>,
    /// Taken away.
    pub drop: Vec<CapabilityName>,
}

/// The system call filter of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeccompProfile {
    /// The sandbox's own allow-list.
    RuntimeDefault,
    /// A profile in the format of the OCI runtime specification's `linux.seccomp`, as JSON.
    Localhost(String),
    /// No filter: the whole kernel interface is open to the container.
    DangerUnconfined,
}

/// Which kernel files are hidden or read-only in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KernelFiles {
    /// The usual masked and read-only paths below `/proc` and `/sys`.
    Protected,
    /// None of them.
    DangerUnmasked,
}

/// A container's standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stdin {
    /// `/dev/null`.
    None,
    /// Open as long as the container lives; attached clients come and go.
    Open,
    /// Ends when the first attached client ends its input or leaves.
    Once,
}

/// Limits on what may be used. A limit that the host cannot enforce is not an
/// error; `Limits` of the sandbox says which are in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Most memory.
    pub memory_bytes: Option<u64>,
    /// Most processor time, in thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Weight among neighbours when the processor is short, in thousandths of a processor.
    pub cpu_request_millis: Option<u64>,
    /// Most processes and threads.
    pub pids: Option<u64>,
    /// -1000..=1000: how readily the kernel ends the process when memory is
    /// short. Values below the server's own are raised to it. Containers only.
    pub oom_score_adj: Option<i32>,
}

/// Where a container's output goes, in the CRI log format:
/// `<RFC 3339 time> stdout|stderr F|P <text>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The current file, absolute, in an existing directory. Older files are
    /// `<path>.1` (the newest) to `<path>.<max_files - 1>`.
    pub path: PathBuf,
    /// A file that reached this size is rotated.
    pub max_bytes: u64,
    /// Most files, the current one included; at least 1.
    pub max_files: u32,
}

impl LogConfig {
    /// A log of at most 5 files of 10 MiB.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, max_bytes: 10 << 20, max_files: 5 }
    }
}

/// A process started inside a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecConfig {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Variables over those of the container.
    pub env: Vec<EnvVar>,
    /// Working directory; the container's without it.
    pub cwd: Option<PathBuf>,
    /// User; the container's without it.
    pub user: Option<ContainerUser>,
    /// Give the process a terminal; its output is then all `stdout`.
    pub tty: bool,
    /// Whether the caller will send standard input.
    pub stdin: bool,
    /// The terminal's first size.
    pub size: Option<TerminalSize>,
}

impl ExecConfig {
    /// Runs `args` without input and terminal, as the container's user.
    #[must_use]
    pub fn new(args: Vec<String>) -> Self {
        Self { args, env: Vec::new(), cwd: None, user: None, tty: false, stdin: false, size: None }
    }
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in ["a", "0", "app.1", "a_b-c", &"x".repeat(MAX_ID_BYTES)] {
            assert_eq!(good.parse::<ContainerId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "é", "a\0", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert!(bad.parse::<SandboxId>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<SandboxId>("\"../x\"").is_err());
    }

    #[test]
    fn ids_are_shifted_within_the_pod() {
        assert_eq!(host_id(0), Some(1));
        assert_eq!(host_id(65_534), Some(65_535));
        assert_eq!(host_id(65_535), None);
    }
}

//! Control groups of the pod and its containers, where the host delegated any.
//!
//! The keeper shows the hierarchy at `/sys/fs/cgroup` and has made
//! `xebec-pods` in it if it may. Specification: Linux, control group v2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::refusal::{Refusal, cannot};
use crate::complaint::complain;
use crate::config::{ContainerId, ResourceLimits, SandboxId};
use crate::sandbox::{Limits, Stats};

const HIERARCHY: &str = "/sys/fs/cgroup";
const PODS: &str = "xebec-pods";

/// The group of a pod.
#[derive(Debug)]
pub(crate) struct PodGroup {
    /// Below the hierarchy's root, without a leading `/`.
    path: PathBuf,
}

impl PodGroup {
    /// Makes the pod's group and sets its limits; `None` where nothing was delegated.
    pub(crate) fn create(
        id: &SandboxId,
        limits: &ResourceLimits,
        enforceable: Limits,
    ) -> Result<Option<Self>, Refusal> {
        let path = Path::new(PODS).join(id.as_str());
        if !Path::new(HIERARCHY).join(PODS).is_dir() {
            return Ok(None);
        }
        let group = Self { path };
        make(&group.directory(), limits, enforceable)?;
        // The containers' groups get the same controllers.
        for controller in ["memory", "pids", "cpu"] {
            // What is not enforceable cannot be handed on either.
            fs::write(group.directory().join("cgroup.subtree_control"), format!("+{controller}"))
                .unwrap_or_default();
        }
        Ok(Some(group))
    }

    /// A container's group, absolute in the hierarchy as the runtime library wants it.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        Path::new("/").join(&self.path).join(id.as_str())
    }

    /// Where a container's group is in the file system.
    pub(crate) fn container_directory(&self, id: &ContainerId) -> PathBuf {
        self.directory().join(id.as_str())
    }

    /// Makes a container's group, for an engine that does not.
    pub(crate) fn create_container(
        &self,
        id: &ContainerId,
        limits: &ResourceLimits,
        enforceable: Limits,
    ) -> Result<(), Refusal> {
        make(&self.container_directory(id), limits, enforceable)
    }

    /// Kills everything in a container's group and removes it.
    pub(crate) fn remove_container(&self, id: &ContainerId) {
        let directory = self.container_directory(id);
        if directory.exists() {
            // Kernels before 5.14 lack the file; the process namespace's end does the same.
            fs::write(directory.join("cgroup.kill"), "1").unwrap_or_default();
            remove(&directory);
        }
    }

    /// Removes the pod's group, once its processes are gone.
    pub(crate) fn remove(&self) {
        remove(&self.directory());
    }

    fn directory(&self) -> PathBuf {
        Path::new(HIERARCHY).join(&self.path)
    }
}

fn make(directory: &Path, limits: &ResourceLimits, enforceable: Limits) -> Result<(), Refusal> {
    fs::create_dir(directory).map_err(cannot("make a control group"))?;
    let set = |file: &str, value: String| {
        fs::write(directory.join(file), value).map_err(cannot(format!("set {file} of a control group")))
    };
    if let (Some(bytes), true) = (limits.memory_bytes, enforceable.memory) {
        set("memory.max", bytes.to_string())?;
    }
    if let (Some(pids), true) = (limits.pids, directory.join("pids.max").exists()) {
        set("pids.max", pids.to_string())?;
    }
    if let (Some(millis), true) = (limits.cpu_millis, enforceable.cpu) {
        const PERIOD_US: u64 = 100_000;
        set("cpu.max", format!("{} {PERIOD_US}", (millis * PERIOD_US / 1000).max(1000)))?;
    }
    Ok(())
}

/// Removes a group, for which its last process may need a moment to go.
fn remove(directory: &Path) {
    const ATTEMPTS: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(2);
    for _ in 0..ATTEMPTS {
        match fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                complain(format_args!("cannot remove the control group {}: {error}", directory.display()));
                return;
            }
            Ok(()) => return,
        }
    }
}

/// Whether the kernel killed a process of a group for want of memory.
pub(crate) fn oom_killed(group: &Path) -> bool {
    fs::read_to_string(group.join("memory.events"))
        .ok()
        .and_then(|text| field(&text, "oom_kill"))
        .is_some_and(|count| count > 0)
}

/// What a group uses; `None` where it counts nothing.
pub(crate) fn stats(group: &Path) -> Option<Stats> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    let memory = number("memory.current")?;
    let inactive = field(&read("memory.stat")?, "inactive_file")?;
    Some(Stats {
        cpu: Duration::from_micros(field(&read("cpu.stat")?, "usage_usec")?),
        memory_bytes: memory.saturating_sub(inactive),
        processes: number("pids.current")?,
        log_bytes_lost: 0,
    })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "low 0\noom 1\noom_kill 2\noom_kill_group 3\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "max"), None);
        assert_eq!(field("", "oom"), None);
    }
}

//! Whether the machine runs out of something: the node's conditions `MemoryPressure`, `DiskPressure` and `PIDPressure`.
//!
//! New pods stay away from a node under pressure (its taints see to that). None is evicted because of it.

use std::fs;
use std::io;
use std::path::Path;

use crate::host::kernel_processes;
use crate::registration::read;

/// Memory: as upstream's `memory.available<100Mi`.
const MEMORY: u64 = 100 << 20;
/// A disk has enough with this many bytes free, however large it is.
const DISK: u64 = 1 << 30;
/// … and with this share of it, however small it is, in percent.
const DISK_SHARE: u64 = 5;
/// Files and processes, in percent.
const SHARE: u64 = 5;

/// Something that there is a limited amount of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Memory, swap not counted.
    Memory,
    /// Bytes and files on the disk of the pods' volumes, logs and images.
    Disk,
    /// Processes and threads.
    Processes,
}

impl Resource {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Processes];

    /// The type of the node's condition.
    pub(crate) const fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Processes => "PIDPressure",
        }
    }

    /// The reasons of that condition: without and with pressure.
    pub(crate) const fn reasons(self) -> (&'static str, &'static str) {
        match self {
            Self::Memory => ("KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"),
            Self::Disk => ("KubeletHasNoDiskPressure", "KubeletHasDiskPressure"),
            Self::Processes => ("KubeletHasSufficientPID", "KubeletHasInsufficientPID"),
        }
    }

    /// What there is too little of; `None` if there is enough, or nobody can tell. `already` is whether there was too
    /// little before: then it takes twice as much to be enough, so that the answer does not change with every file.
    pub(crate) fn shortage(self, disk: &Path, already: bool) -> Option<String> {
        let levels = match self {
            Self::Memory => vec![memory()?],
            Self::Disk => space(disk)?,
            Self::Processes => [processes(), own_processes()].into_iter().flatten().collect(),
        };
        levels.into_iter().find_map(|level| level.shortage(already))
    }
}

/// How much there is of something, and how much there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    what: &'static str,
    free: u64,
    least: u64,
}

impl Level {
    fn shortage(self, already: bool) -> Option<String> {
        let least = if already { self.least.saturating_mul(2) } else { self.least };
        let Self { what, free, .. } = self;
        (free < least).then(|| format!("{free} {what} are free, {least} are needed"))
    }
}

fn percent(total: u64, share: u64) -> u64 {
    u64::try_from(u128::from(total) * u128::from(share) / 100).unwrap_or(u64::MAX)
}

fn memory() -> Option<Level> {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(Level { what: "bytes of memory", free: kib.saturating_mul(1024), least: MEMORY })
}

fn space(path: &Path) -> Option<Vec<Level>> {
    let disk = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let least = DISK.min(percent(bytes(disk.f_blocks), DISK_SHARE));
    // A file system without a limit of files has none at all.
    Some(vec![
        Level { what: "bytes of disk", free: bytes(disk.f_bavail), least },
        Level { what: "files", free: disk.f_favail, least: percent(disk.f_files, SHARE) },
    ])
}

fn processes() -> Option<Level> {
    let most = kernel_processes()?;
    // `0.01 0.02 0.00 1/345 6789`: 345 threads.
    let load = read("/proc/loadavg");
    let used: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Level { what: "processes", free: most.saturating_sub(used), least: percent(most, SHARE) })
}

/// Those of the pods, which have a limit of their own together.
fn own_processes() -> Option<Level> {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nproc).current?;
    let threads = |entry: io::Result<fs::DirEntry>| -> Option<u64> {
        let name = entry.ok()?.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        // One that ends meanwhile counts no more.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(17)?.parse().ok()
    };
    let used: u64 = fs::read_dir("/proc").ok()?.filter_map(threads).sum();
    let free = most.saturating_sub(used);
    Some(Level { what: "processes of this user", free, least: percent(most, SHARE) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_enough_or_not() {
        let level = |free| Level { what: "files", free, least: 100 };
        assert_eq!(level(100).shortage(false), None);
        assert_eq!(level(99).shortage(false), Some("99 files are free, 100 are needed".into()));
        assert_eq!(level(199).shortage(true), Some("199 files are free, 200 are needed".into()));
        assert_eq!(level(200).shortage(true), None);
        assert_eq!(Level { what: "files", free: 0, least: 0 }.shortage(true), None);
    }

    #[test]
    fn this_machine_can_tell() {
        assert!(memory().is_some_and(|level| level.free > 0));
        assert!(processes().is_some_and(|level| level.free > 0));
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
        let own = own_processes();
        assert_eq!(own.is_some(), limit.is_some());
        assert!(own.is_none_or(|level| limit.is_some_and(|limit| level.free < limit)));
        let disk = space(Path::new("/")).expect("there is a disk");
        assert!(disk[0].free > 0 && disk[0].least <= DISK);
    }
}

//! Which processes belong to a container or a pod, by their namespaces.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::sandbox::Stats;

/// The kind of namespace that tells processes apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Its processes', unless the pod shares one.
    Process,
    /// Its mounts'.
    Mount,
    /// Its users', which all containers of a pod share.
    User,
}

impl Kind {
    const fn file(self) -> &'static str {
        match self {
            Self::Process => "pid",
            Self::Mount => "mnt",
            Self::User => "user",
        }
    }
}

/// The ids, as the shim sees them, of the processes in a namespace.
pub(crate) fn of(kind: Kind, namespace: BorrowedFd<'_>) -> io::Result<Vec<Pid>> {
    let wanted = rustix::fs::fstat(namespace)?;
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A process may end at any moment; then it is no member.
        let found = rustix::fs::stat(format!("/proc/{}/ns/{}", pid.as_raw_nonzero(), kind.file()));
        if found.is_ok_and(|found| (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)) {
            members.push(pid);
        }
    }
    Ok(members)
}

/// Kills the processes of a namespace until none is left.
pub(crate) fn kill(kind: Kind, namespace: BorrowedFd<'_>) -> io::Result<()> {
    // Each round kills all there are. A killed process takes a moment to end,
    // and one that forks meanwhile makes another round necessary.
    const ROUNDS: u32 = 500;
    const PAUSE: Duration = Duration::from_millis(2);
    for _ in 0..ROUNDS {
        let members = of(kind, namespace)?;
        let living = members.iter().filter(|pid| !is_zombie(**pid)).count();
        if living == 0 {
            return Ok(());
        }
        for pid in members {
            match rustix::process::kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::other("its processes multiply faster than they can be killed"))
}

/// What the processes of a namespace use together.
pub(crate) fn stats(kind: Kind, namespace: BorrowedFd<'_>) -> io::Result<Stats> {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let mut stats = Stats::default();
    for pid in of(kind, namespace)? {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_nonzero()));
        let Ok(stat) = read("stat") else { continue };
        let Some(cpu_ticks) = cpu_ticks(&stat) else { continue };
        stats.processes += 1;
        stats.cpu += Duration::from_millis(cpu_ticks.saturating_mul(1000) / ticks);
        if let Some((resident, shared)) = read("statm").ok().as_deref().and_then(resident_pages) {
            stats.memory_bytes += resident.saturating_sub(shared) * page;
        }
    }
    Ok(stats)
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| after_name(&stat).is_none_or(|rest| rest.starts_with(['Z', 'X'])))
}

/// What follows the program's name, which may contain anything.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = after_name(stat)?.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_pages(statm: &str) -> Option<(u64, u64)> {
    let mut fields = statm.split(' ').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_lines() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 20";
        assert_eq!(cpu_ticks(stat), Some(12));
        assert_eq!(cpu_ticks("12 (a"), None);
        assert_eq!(resident_pages("100 20 5 1 0 9 0"), Some((20, 5)));
        assert_eq!(resident_pages(""), None);
    }
}

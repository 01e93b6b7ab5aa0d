//! The control group hierarchy that the keeper shows to everything inside.
//!
//! Specification: Linux, control group v2. The keeper has a cgroup namespace of
//! its own, so the hierarchy's root is the group that Xebec was started in. On
//! hosts that (also) use version 1, only version 2 is shown: the OCI runtime
//! library refuses to work with a mixture.
//!
//! ```text
//!  / (delegated to the user, or not)
//!  ├─ xebec-keeper    keeper, server, shims
//!  ├─ xebec-caller    who started the keeper in the foreground
//!  └─ xebec-pods/<pod>/<container>
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use crate::sandbox::Limits;

/// Where the hierarchy is mounted inside.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

const KEEPER_GROUP: &str = "xebec-keeper";
const CALLER_GROUP: &str = "xebec-caller";
const POD_GROUP: &str = "xebec-pods";

/// Mounts version 2 of the hierarchy over whatever is at its place.
pub(super) fn mount_hierarchy() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("cgroup2", ROOT, "cgroup2", flags, None)?)
}

/// Prepares the hierarchy for pods if it was delegated; says which limits work.
pub(super) fn delegate() -> Limits {
    delegate_below(Path::new(ROOT)).unwrap_or_default()
}

/// Fails with the reason why nothing was delegated.
fn delegate_below(root: &Path) -> io::Result<Limits> {
    let keeper = root.join(KEEPER_GROUP);
    make_group(&keeper)?;
    fs::write(keeper.join("cgroup.procs"), "0")?;
    let pods = root.join(POD_GROUP);
    make_group(&pods)?;
    let enabled = |controller: &str| {
        let change = format!("+{controller}");
        [root, &pods].iter().all(|group| fs::write(group.join("cgroup.subtree_control"), &change).is_ok())
    };
    Ok(Limits { memory: enabled("memory"), pids: enabled("pids"), cpu: enabled("cpu") })
}

fn make_group(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Moves this process out of its group into one below it, so that the group
/// may hand controllers on. Does nothing where the group is not delegated:
/// then there are no limits to lose.
pub(super) fn step_aside() {
    let Some(own) = own_group() else { return };
    let group = own.join(CALLER_GROUP);
    if make_group(&group).is_ok() && fs::write(group.join("cgroup.procs"), "0").is_err() {
        // An empty group that cannot be used should not stay; if it does, it harms nobody.
        fs::remove_dir(&group).unwrap_or_default();
    }
}

fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    Some(hierarchy_mount(&mounts)?.join(path))
}

fn hierarchy_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        (root == "/" && filesystem.starts_with("cgroup2 ")).then(|| PathBuf::from(mount_point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchy_among_mounts() {
        let check = |lines: &str, expected: Option<&str>| {
            assert_eq!(hierarchy_mount(lines).as_deref(), expected.map(Path::new), "{lines}");
        };
        let v1 = "30 28 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        check(v1, None);
        check(
            &format!("{v1}40 28 0:30 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw"),
            Some("/sys/fs/cgroup/unified"),
        );
        check("40 28 0:30 /part /sys/fs/cgroup rw - cgroup2 cgroup2 rw", None);
        check("garbage", None);
    }
}

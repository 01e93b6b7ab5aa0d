//! Whether this host can run Xebec for this user, and if not, what to change.
//!
//! Reads what can be read and tries the rest in a child that vanishes. Changes
//! nothing. All problems are reported at once, each with its remedy.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::WaitOptions;

use super::{Identity, IdentityError, find_program};
use crate::config::POD_IDS;
use crate::sys::{self, Fork, SingleThreaded};

/// Subordinate ids that Xebec needs, of users and of groups.
const NEEDED_IDS: u32 = 65_536;

/// The first kernel in which all needed parts work for ordinary users:
/// overlay mounts, and process limits that count per user namespace.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// Proof that the host can run Xebec for a user, and what was found out on the way.
#[derive(Debug, Clone)]
pub struct Preflight {
    /// The user.
    pub identity: Identity,
    pub(super) uids: IdRange,
    pub(super) gids: IdRange,
    pub(super) newuidmap: PathBuf,
    pub(super) newgidmap: PathBuf,
}

/// Consecutive ids on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// Everything that stands in the way.
#[derive(Debug)]
pub struct PreflightFailure {
    /// One or more problems.
    pub problems: Vec<Problem>,
}

impl fmt::Display for PreflightFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PreflightFailure {}

/// One thing that stands in the way, and what removes it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The process is root's.
    #[error(
        "Xebec does not run as root; run it as an ordinary user, or let it become one: xebec up --user NAME"
    )]
    StartedAsRoot,
    /// The process's user is not in the user data base.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The process started threads before.
    #[error("cannot prepare namespaces")]
    Process(#[source] io::Error),
    /// The kernel lacks needed parts.
    #[error("Linux {found} is too old; Xebec needs Linux {}.{} or newer", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    KernelTooOld {
        /// Its release.
        found: String,
    },
    /// A kernel setting forbids what is needed.
    #[error("{what}; allow it with `sudo sysctl -w {setting}`")]
    Setting {
        /// What is forbidden.
        what: &'static str,
        /// The assignment that allows it.
        setting: &'static str,
    },
    /// A program is missing.
    #[error(
        "`{program}` is missing; install it with `sudo apt install {package}` (or what has it elsewhere)"
    )]
    MissingProgram {
        /// Its name.
        program: &'static str,
        /// The Debian package.
        package: &'static str,
    },
    /// A program that grants ids has lost its own privilege.
    #[error(
        "{program} can grant no ids: it is neither setuid root nor has file capabilities; reinstall the package uidmap"
    )]
    NoPrivilege {
        /// The program.
        program: PathBuf,
    },
    /// The user has too few subordinate ids.
    #[error(
        "user `{user}` has no {NEEDED_IDS} consecutive ids in {file}; add them with \
         `echo {user}:{free}:{NEEDED_IDS} | sudo tee -a {file}`"
    )]
    NoSubordinateIds {
        /// The user.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The first id behind every range in the file.
        free: u32,
    },
    /// Something needed was tried and refused.
    #[error("{what} ({error}){hint}")]
    Refused {
        /// What was refused.
        what: &'static str,
        /// The kernel's reason.
        error: io::Error,
        /// What to do.
        hint: &'static str,
    },
}

/// Checks the host for the user of this process, which must have one thread.
pub fn preflight() -> Result<Preflight, PreflightFailure> {
    let single = |problem: Problem| PreflightFailure { problems: vec![problem] };
    if rustix::process::geteuid().is_root() {
        return Err(single(Problem::StartedAsRoot));
    }
    let identity = Identity::current().map_err(|error| single(error.into()))?;
    let mut problems = Vec::new();
    let mut note = |result: Result<(), Problem>| problems.extend(result.err());
    note(check_kernel());
    note(try_namespaces(&identity).map_err(explain));
    let newuidmap = locate("newuidmap");
    let newgidmap = locate("newgidmap");
    let uids = subordinate_ids("/etc/subuid", &identity);
    let gids = subordinate_ids("/etc/subgid", &identity);
    match (newuidmap, newgidmap, uids, gids) {
        (Ok(newuidmap), Ok(newgidmap), Ok(uids), Ok(gids)) if problems.is_empty() => {
            Ok(Preflight { identity, uids, gids, newuidmap, newgidmap })
        }
        (newuidmap, newgidmap, uids, gids) => {
            problems.extend([newuidmap.err(), newgidmap.err(), uids.err(), gids.err()].into_iter().flatten());
            Err(PreflightFailure { problems })
        }
    }
}

fn check_kernel() -> Result<(), Problem> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match kernel_version(&release) {
        Some(version) if version < OLDEST_KERNEL => Err(Problem::KernelTooOld { found: release }),
        // An unreadable release is no reason to stop: the trial below decides.
        _ => Ok(()),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The setting that forbids what was refused, if there is one. A setting alone
/// proves nothing: a security profile may make an exception for this program.
fn explain(refused: Problem) -> Problem {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    check_settings(read).err().unwrap_or(refused)
}

fn check_settings(read: impl Fn(&str) -> Option<String>) -> Result<(), Problem> {
    let is = |name: &str, value: &str| read(name).is_some_and(|text| text.trim() == value);
    let forbidden = |what, setting| Err(Problem::Setting { what, setting });
    if is("user/max_user_namespaces", "0") {
        forbidden("user namespaces are turned off", "user.max_user_namespaces=65536")
    } else if is("kernel/unprivileged_userns_clone", "0") {
        forbidden("user namespaces are turned off for ordinary users", "kernel.unprivileged_userns_clone=1")
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        forbidden(
            "AppArmor takes the rights of user namespaces away from ordinary users",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else {
        Ok(())
    }
}

fn locate(program: &'static str) -> Result<PathBuf, Problem> {
    const SETUID: u32 = 0o4000;
    use std::os::unix::fs::MetadataExt;
    let path = find_program(program).ok_or(Problem::MissingProgram { program, package: "uidmap" })?;
    let setuid = fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & SETUID != 0);
    let capable = rustix::fs::getxattr(&path, c"security.capability", &mut [0_u8; 64]).is_ok();
    if setuid || capable { Ok(path) } else { Err(Problem::NoPrivilege { program: path }) }
}

fn subordinate_ids(file: &'static str, identity: &Identity) -> Result<IdRange, Problem> {
    // A missing file grants nothing, as an empty one.
    let text = fs::read_to_string(file).unwrap_or_default();
    find_range(&text, identity).ok_or_else(|| Problem::NoSubordinateIds {
        user: identity.name.clone(),
        file,
        free: first_free(&text),
    })
}

fn ranges(text: &str) -> impl Iterator<Item = (&str, IdRange)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let start = fields.next()?.trim().parse().ok()?;
        let count = fields.next()?.trim().parse().ok()?;
        Some((owner, IdRange { start, count }))
    })
}

fn find_range(text: &str, identity: &Identity) -> Option<IdRange> {
    let uid = identity.uid.to_string();
    ranges(text)
        .filter(|(owner, _)| *owner == identity.name || *owner == uid)
        .map(|(_, range)| range)
        .find(|range| range.count >= NEEDED_IDS && range.start > 0)
}

fn first_free(text: &str) -> u32 {
    const FIRST: u32 = 100_000;
    ranges(text).map(|(_, range)| range.start.saturating_add(range.count)).fold(FIRST, u32::max)
}

/// The steps that are tried, with what is said when one is refused.
const TRIALS: [(&str, &str); 4] = [
    (
        "this process may not create a user namespace",
        "; a container or security module around it forbids this",
    ),
    ("user ids cannot be mapped", "; a container or security module around it forbids this"),
    (
        "a fresh /proc cannot be mounted",
        "; this happens inside containers that hide parts of /proc: start the outer one with unmasked /proc",
    ),
    (
        "an overlay file system cannot be mounted in a user namespace",
        "; load it with `sudo modprobe overlay`",
    ),
];

/// Tries in a child what the keeper will do.
fn try_namespaces(identity: &Identity) -> Result<(), Problem> {
    let proof = SingleThreaded::prove().map_err(Problem::Process)?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| Problem::Process(error.into()))?;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    let refused = |step: usize, error: io::Error| {
        let (what, hint) = TRIALS[step];
        Problem::Refused { what, error, hint }
    };
    let child = match sys::clone(proof, flags).map_err(|error| refused(0, error))? {
        Fork::Parent(child) => child,
        Fork::Child => {
            let verdict = match trial(identity) {
                Ok(()) => [u8::MAX, 0, 0],
                Err((step, error)) => {
                    let errno = u16::try_from(error.raw_os_error().unwrap_or(libc::EIO)).unwrap_or(u16::MAX);
                    let [high, low] = errno.to_be_bytes();
                    [step, high, low]
                }
            };
            let told = rustix::io::write(&writer, &verdict).is_ok();
            sys::exit_now(i32::from(!told));
        }
    };
    drop(writer);
    let mut verdict = [0; 3];
    let count = rustix::io::read(&reader, &mut verdict).map_err(|error| Problem::Process(error.into()))?;
    rustix::process::waitpid(Some(child), WaitOptions::empty())
        .map_err(|error| Problem::Process(error.into()))?;
    match (count, verdict) {
        (3, [u8::MAX, ..]) => Ok(()),
        (3, [step, high, low]) => Err(refused(
            usize::from(step).min(TRIALS.len() - 1),
            io::Error::from_raw_os_error(i32::from(u16::from_be_bytes([high, low]))),
        )),
        _ => Err(Problem::Process(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn trial(identity: &Identity) -> Result<(), (u8, io::Error)> {
    let at = |step: u8| move |error: io::Error| (step, error);
    fs::write("/proc/self/setgroups", "deny").map_err(at(1))?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", identity.uid)).map_err(at(1))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", identity.gid)).map_err(at(1))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(io::Error::from)
        .map_err(at(0))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(io::Error::from).map_err(at(2))?;
    try_overlay().map_err(at(3))
}

fn try_overlay() -> io::Result<()> {
    mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), None)?;
    for directory in ["lower", "upper", "work", "merged"] {
        fs::create_dir(Path::new("/tmp").join(directory))?;
    }
    let options = c"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr";
    Ok(mount("overlay", "/tmp/merged", "overlay", MountFlags::empty(), Some(options))?)
}

const _: () = assert!(NEEDED_IDS > POD_IDS, "a pod's ids must fit into the user's subordinate ids");

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Identity {
        Identity { name: "ann".into(), uid: 1000, gid: 1000, home: "/home/ann".into() }
    }

    #[test]
    fn subordinate_ranges() {
        let check = |text: &str, expected: Option<u32>| {
            assert_eq!(find_range(text, &ann()).map(|range| range.start), expected, "{text:?}");
        };
        check("ann:100000:65536\n", Some(100_000));
        check("1000:200000:65536\n", Some(200_000));
        check("bob:100000:65536\nann:165536:65536", Some(165_536));
        check("ann:1:1000\nann:300000:131072", Some(300_000));
        check("ann:100000:65535", None);
        check("ann:0:65536", None);
        check("anna:100000:65536", None);
        check("# ann\nann:x:y\nann", None);
        check("", None);
        assert_eq!(first_free("ann:100000:65536\nbob:10:20"), 165_536);
        assert_eq!(first_free(""), 100_000);
    }

    #[test]
    fn kernel_versions() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("5.14.0"), Some((5, 14)));
        assert_eq!(kernel_version("next"), None);
    }

    #[test]
    fn each_forbidding_setting_names_its_remedy() {
        let check = |set: &str, value: &str, remedy: Option<&str>| {
            let result = check_settings(|name| (name == set).then(|| format!("{value}\n")));
            let message = result.err().map(|problem| problem.to_string());
            assert_eq!(
                message.as_deref().is_some_and(|message| message.contains(remedy.unwrap_or("sysctl"))),
                remedy.is_some(),
                "{set}={value}: {message:?}"
            );
        };
        check("user/max_user_namespaces", "0", Some("user.max_user_namespaces=65536"));
        check("user/max_user_namespaces", "96365", None);
        check("kernel/unprivileged_userns_clone", "0", Some("kernel.unprivileged_userns_clone=1"));
        check("kernel/unprivileged_userns_clone", "1", None);
        check(
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            Some("kernel.apparmor_restrict_unprivileged_userns=0"),
        );
        check("none", "0", None);
    }

    #[test]
    fn missing_ids_name_the_line_to_add() {
        let problem = Problem::NoSubordinateIds { user: "ann".into(), file: "/etc/subuid", free: 165_536 };
        assert!(problem.to_string().contains("echo ann:165536:65536 | sudo tee -a /etc/subuid"), "{problem}");
    }
}

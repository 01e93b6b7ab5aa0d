//! Real namespaces for tests and benches, without root.
//!
//! The program runs itself again as root of a user namespace with its own mount and process namespaces, as
//! Xebec's keeper does, and there makes a node's and some pods' network namespaces. Started as root it first
//! becomes an ordinary user. When it ends, the kernel ends everything that it made.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const INSIDE: &str = "XEBEC_TEST_INSIDE";
const TEST_USER: &str = "xebec-test";

/// Which network namespace the program itself is in: the stand-in for the host's.
#[derive(Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "each program that includes this module uses one")]
pub(crate) enum Host {
    /// The machine's own, over which the program has no power.
    Machine,
    /// A private one, and `/dev/net/tun` openable where that can be had.
    Private,
}

/// Runs `main` inside.
pub(crate) fn run(host: Host, main: impl FnOnce() -> Result<()>) -> ExitCode {
    let inside = || allow_many_files().and_then(|()| main());
    let outcome = if env::var_os(INSIDE).is_some() { inside() } else { run_inside(host) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As a server must that has thousands of connections: the usual soft limit is 1,024.
fn allow_many_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn run_inside(host: Host) -> Result<()> {
    let program = env::current_exe()?;
    if !rustix::process::geteuid().is_root() {
        return wait_for(host, &[], &program);
    }
    ensure_user()?;
    let copy = readable_copy(&program)?;
    let open_tun = "d=$(mktemp -d) && mount -t tmpfs -o dev tmpfs $d && mknod -m 666 $d/tun c 10 200 && \
                    mount --bind $d/tun /dev/net/tun && umount -l $d && rmdir $d; exec \"$@\"";
    let mut prefix = match host {
        Host::Machine => Vec::new(),
        Host::Private => vec!["unshare", "-m", "sh", "-c", open_tun, "sh"],
    };
    prefix.extend(["runuser", "-u", TEST_USER, "--"]);
    let outcome = wait_for(host, &prefix, &copy);
    fs::remove_dir_all(copy.parent().context("the copy has a directory of its own")?)?;
    outcome
}

fn wait_for(host: Host, prefix: &[&str], program: &Path) -> Result<()> {
    let flags = if host == Host::Private { "-Urnmpf" } else { "-Urmpf" };
    let mut words: Vec<_> = prefix.iter().map(OsString::from).collect();
    words.extend(["unshare", flags, "--map-auto", "--mount-proc", "--kill-child", "--"].map(OsString::from));
    words.push(program.into());
    words.extend(env::args_os().skip(1));
    let status = Command::new(&words[0]).args(&words[1..]).env(INSIDE, "1").current_dir("/").status()?;
    ensure!(status.success(), "inside the namespaces: {status}");
    Ok(())
}

/// An ordinary user with a range of subordinate ids.
fn ensure_user() -> Result<()> {
    let has_range = |file: &str| {
        fs::read_to_string(file).is_ok_and(|t| t.lines().any(|l| l.starts_with(&format!("{TEST_USER}:"))))
    };
    if !fs::read_to_string("/etc/passwd")?.lines().any(|l| l.starts_with(&format!("{TEST_USER}:"))) {
        let made = Command::new("useradd").args(["--system", "--create-home", TEST_USER]).status()?;
        ensure!(made.success(), "useradd {TEST_USER} failed");
    }
    for (file, flag) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        if !has_range(file) {
            let added = Command::new("usermod").args([flag, "1000000-1065535", TEST_USER]).status()?;
            ensure!(added.success(), "usermod {flag} {TEST_USER} failed");
        }
    }
    Ok(())
}

/// The build directory may be closed to the ordinary user.
fn readable_copy(program: &Path) -> Result<PathBuf> {
    let directory = env::temp_dir().join(format!("xebec-test-{}", std::process::id()));
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let copy = directory.join("program");
    fs::copy(program, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// A directory of pinned network namespaces: `node` and those of pods.
pub(crate) struct Lab {
    directory: PathBuf,
}

static LABS: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// A fresh directory in this process's private mount namespace, with the node's namespace in it.
    pub(crate) fn new() -> Result<Self> {
        let root = Path::new("/tmp/xebec-lab");
        if LABS.load(Ordering::Relaxed) == 0 {
            sh("mount -t tmpfs tmpfs /tmp")?;
            fs::create_dir(root)?;
        }
        let directory = root.join(LABS.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&directory)?;
        let lab = Self { directory };
        lab.pin(&lab.node(), &["-n"])?;
        Ok(lab)
    }

    /// Where the node's namespace is pinned.
    pub(crate) fn node(&self) -> PathBuf {
        self.directory.join("node")
    }

    /// Pins a new network namespace that belongs to a nested user namespace, as a pod's shim does.
    pub(crate) fn pod(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        self.pin(&path, &["-U", "-r", "-n"])?;
        Ok(path)
    }

    /// Ends a pod's namespace, once nothing else holds it.
    #[allow(dead_code, reason = "not every program that includes this module ends pods")]
    pub(crate) fn unpin(&self, path: &Path) -> Result<()> {
        sh(&format!("umount -l {}", path.display()))
    }

    fn pin(&self, path: &Path, unshare: &[&str]) -> Result<()> {
        fs::write(path, "")?;
        let mut holder = Command::new("unshare")
            .args(unshare)
            .args(["sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = holder.stdout.take().context("stdout was piped")?;
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "unshare {unshare:?} did not start");
        let pinned = sh(&format!("mount --bind /proc/{}/ns/net {}", holder.id(), path.display()));
        holder.kill()?;
        holder.wait()?;
        pinned
    }
}

/// Runs one shell command.
pub(crate) fn sh(command: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", command]).status()?;
    if !status.success() {
        bail!("{command}: {status}");
    }
    Ok(())
}

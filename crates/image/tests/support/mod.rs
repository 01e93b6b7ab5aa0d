//! What the integration tests share: being root of a user namespace, programs of the system, temporary places.

#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod registry;
#[path = "../../src/testing.rs"]
pub(crate) mod testing;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where tests in a user namespace may write.
const DIR_VARIABLE: &str = "XEBEC_IMAGE_TEST_DIR";
/// The first id that stands for 1 in the namespace, when root maps ids of its own choice.
const SUBORDINATE: u32 = 200_000;

/// A temporary directory that the process may use, whoever it is.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    match std::env::var_os(DIR_VARIABLE) {
        Some(dir) => tempfile::tempdir_in(dir).expect("a temporary directory"),
        None => tempfile::tempdir().expect("a temporary directory"),
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the ignored tests of this program as the root of the host, in a mount namespace of their own; somebody else
/// has no way to.
pub(crate) fn run_ignored_tests_as_root() {
    if is_root() {
        let exe = std::env::current_exe().expect("the test program");
        let mut command = Command::new("unshare");
        command.arg("--mount").arg(exe);
        run(command, "as root of the host");
    }
}

/// Runs the ignored tests of this program as root of a new user and mount namespace with 65,536 ids, owned by nobody
/// special.
pub(crate) fn run_ignored_tests_in_user_namespace() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let exe = dir.path().join("tests");
    fs::copy(std::env::current_exe().expect("the test program"), &exe).expect("copied");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("opened for others");
    let holder = is_root().then(Holder::start);
    let mut command = match &holder {
        Some(holder) => {
            chown(dir.path(), Some(SUBORDINATE), Some(SUBORDINATE)).expect("root may chown");
            holder.enter()
        }
        None => {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-auto", "--map-root-user", "--mount"]);
            command
        }
    };
    command.arg(&exe).env(DIR_VARIABLE, dir.path());
    run(command, "in a user namespace");
    if let Some(holder) = holder {
        // Files of ids that only the namespace knows are removed from inside it.
        let inner = holder.enter().arg("rm").arg("-rf").args(entries(dir.path())).status();
        assert!(inner.expect("rm runs").success());
    }
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
}

fn run(mut command: Command, how: &str) {
    let output = command
        .args(["--ignored", "--test-threads=2"])
        .output()
        .unwrap_or_else(|e| panic!("cannot start {command:?} (util-linux and uidmap are needed): {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !text.contains("running 0 tests"),
        "{how}: {text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A process that keeps a user namespace whose ids root has mapped: 0 and 1..=65535 to subordinate ids.
struct Holder(Child);

impl Holder {
    fn start() -> Self {
        let mut child = Command::new("unshare")
            .args(["--user", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux is needed");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        assert_eq!(line, "ready\n", "user namespaces must be allowed");
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", child.id());
            fs::write(path, format!("0 {SUBORDINATE} 65536")).expect("root maps ids");
        }
        Self(child)
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.0.id().to_string();
        command.args(["--target", &pid, "--user", "--setuid", "0", "--setgid", "0"]);
        command.args(["unshare", "--mount"]);
        command
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait();
        assert!(status.is_ok_and(|status| status.success()), "the holder ends with its input");
    }
}

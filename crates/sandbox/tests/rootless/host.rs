//! The part of the tests that stays on the host: it starts keepers, with the
//! other cases inside or with a server that plays a role, and watches what
//! becomes of them.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use xebec_sandbox::bootstrap::{
    BootstrapError, EXIT_FATAL, Identity, IdentityError, Keeper, KeeperConfig, Lifetime, Preflight, Problem,
    ServerCommand, preflight,
};

use crate::harness::{Case, HUNG};

const USER: &str = "xebec-test";

type HostCase = (&'static str, fn(&Host));

const CASES: [HostCase; 7] = [
    ("pods_outlive_the_server", pods_outlive_the_server),
    ("nothing_outlives_the_keeper", nothing_outlives_the_keeper),
    ("a_foreground_keeper_ends_with_its_caller", a_foreground_keeper_ends_with_its_caller),
    ("a_detached_keeper_outlives_its_caller", a_detached_keeper_outlives_its_caller),
    ("a_server_that_crashes_is_started_again", a_server_that_crashes_is_started_again),
    ("a_server_that_refuses_is_not_started_again", a_server_that_refuses_is_not_started_again),
    ("run_directories_must_be_private", run_directories_must_be_private),
];

/// Runs all cases that the arguments name.
pub(crate) fn run(inside: &[Case]) -> ! {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        let names = inside.iter().map(|case| case.name).chain(CASES.iter().map(|(name, _)| *name));
        names.for_each(|name| println!("{name}: test"));
        std::process::exit(0);
    }
    let filters: Vec<String> = args.into_iter().filter(|arg| !arg.starts_with('-')).collect();
    refuse_root();
    become_ordinary();
    let host = Host { preflight: checked() };
    let mut failed = !host.run_inside(&filters);
    for (name, case) in CASES {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&host))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed |= !passed;
    }
    std::process::exit(i32::from(failed));
}

/// As root, nothing works but becoming somebody else.
fn refuse_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let failure = preflight().expect_err("root was accepted");
    assert!(matches!(failure.problems[..], [Problem::StartedAsRoot]), "{failure}");
    let root = Identity::lookup("root").expect("root is known");
    assert!(matches!(root.assume(), Err(IdentityError::IsRoot(_))));
}

/// Becomes an ordinary user if this process is root's.
fn become_ordinary() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let identity = Identity::lookup(USER).unwrap_or_else(|_| {
        let made = Command::new("useradd").args(["--create-home", USER]).status().expect("run useradd");
        assert!(made.success(), "useradd {USER}: {made}");
        Identity::lookup(USER).expect("the user was made")
    });
    identity.assume().expect("become the test user");
    assert!(matches!(identity.assume(), Err(IdentityError::NotRoot(_))));
    assert_eq!(Identity::current().expect("the test user"), identity);
}

fn checked() -> Preflight {
    preflight().unwrap_or_else(|failure| panic!("this machine cannot run the tests:\n{failure}"))
}

/// A directory that goes with the value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("xebec-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).expect("make the test directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_else(|error| eprintln!("{}: {error}", self.0.display()));
    }
}

struct Host {
    preflight: Preflight,
}

impl Host {
    fn run_inside(&self, filters: &[String]) -> bool {
        let scratch = Scratch::new();
        let config = config(&scratch.0, "server", filters);
        let keeper = Keeper::spawn(&self.preflight, &config).expect("start the keeper");
        keeper.supervise().expect("supervise the keeper").code == 0
    }

    /// Starts a keeper whose server plays a role in the directory.
    fn start(&self, scratch: &Scratch, role: &str) -> Keeper {
        let config = config(&scratch.0, "role", &[role.to_owned()]);
        Keeper::spawn(&self.preflight, &config).expect("start the keeper")
    }
}

/// The configuration of a keeper whose server is started with these arguments.
pub(crate) fn config(directory: &Path, mode: &str, args: &[String]) -> KeeperConfig {
    let mut server = vec![mode.into(), directory.as_os_str().to_owned()];
    server.extend(args.iter().map(Into::into));
    KeeperConfig {
        run_dir: directory.join("run"),
        keeper_args: vec!["keeper".into()],
        server: ServerCommand { args: server, env: vec![("GIVEN".into(), "to the server".into())] },
        lifetime: Lifetime::Foreground,
        stop_grace: Duration::from_secs(10),
    }
}

/// Waits until something is so, within the limit of a case.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + HUNG;
    while !so() {
        assert!(Instant::now() < end, "{what}: did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pods_outlive_the_server(host: &Host) {
    let scratch = Scratch::new();
    let keeper = host.start(&scratch, "die-and-recover");
    assert_eq!(keeper.wait().expect("the keeper's end").code, 0, "see the server's words above");
}

/// What tells a keeper's processes from all others.
struct Traces {
    user_namespace: PathBuf,
    /// Subordinate ids.
    ids: std::ops::Range<u32>,
}

fn traces(keeper: u32) -> Traces {
    let map = fs::read_to_string(format!("/proc/{keeper}/uid_map")).expect("the id map");
    let row = map.lines().nth(1).expect("a row of subordinate ids");
    let numbers: Vec<u32> = row.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    Traces {
        user_namespace: fs::read_link(format!("/proc/{keeper}/ns/user")).expect("the user namespace"),
        ids: numbers[1]..numbers[1] + numbers[2],
    }
}

/// Processes that run in the user namespace of a keeper, or that its user's
/// subordinate ids own.
fn remains(traces: &Traces) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("read /proc").map(Result::unwrap) {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        let uid: u32 = uid.split_whitespace().next().and_then(|uid| uid.parse().ok()).unwrap_or_default();
        let inside = fs::read_link(path.join("ns/user")).is_ok_and(|link| link == traces.user_namespace);
        if inside || traces.ids.contains(&uid) {
            found.push(format!("{} {}", path.display(), status.lines().next().unwrap_or_default()));
        }
    }
    found
}

fn nothing_outlives_the_keeper(host: &Host) {
    let scratch = Scratch::new();
    let keeper = host.start(&scratch, "fill");
    eventually("the pods run", || scratch.0.join("ready").exists());
    let pid = keeper.info().host_pid;
    let traces = traces(pid);
    assert!(remains(&traces).len() >= 6, "{:?}", remains(&traces));
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill the keeper");
    assert_eq!(keeper.wait().expect("the keeper's end").code, 137);
    // The keeper itself ends last, so nothing needs to be waited for.
    assert_eq!(remains(&traces), Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(&*scratch.0.to_string_lossy()), "{mounts}");
    // The next keeper cleans up what the dead one left in the directory.
    let keeper = host.start(&scratch, "clean");
    assert_eq!(keeper.wait().expect("the keeper's end").code, 0);
}

fn caller(scratch: &Scratch, lifetime: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["role".as_ref(), scratch.0.as_os_str(), "call".as_ref(), lifetime.as_ref()]);
    command
}

/// The process id that the caller writes when the keeper runs, and the server says that it does.
fn keeper_of(scratch: &Scratch) -> Pid {
    let (pid, ready) = (scratch.0.join("pid"), scratch.0.join("ready"));
    let written = || fs::read_to_string(&pid).ok().and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
    eventually("the server runs", || written().is_some() && ready.exists());
    written().expect("a process id")
}

fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

fn a_foreground_keeper_ends_with_its_caller(_: &Host) {
    let scratch = Scratch::new();
    let mut child = caller(&scratch, "foreground").spawn().expect("start the caller");
    let keeper = keeper_of(&scratch);
    assert!(!is_gone(keeper));
    child.kill().expect("kill the caller");
    assert_eq!(child.wait().expect("the caller's end").signal(), Some(9));
    eventually("the keeper ends", || is_gone(keeper));
    assert!(scratch.0.join("stopped").exists(), "the server was not asked to stop");
}

fn a_detached_keeper_outlives_its_caller(_: &Host) {
    let scratch = Scratch::new();
    let mut child = caller(&scratch, "detached").spawn().expect("start the caller");
    let keeper = keeper_of(&scratch);
    assert!(child.wait().expect("the caller's end").success());
    assert!(!is_gone(keeper));
    let log = fs::metadata(scratch.0.join("log")).expect("the log");
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
    rustix::process::kill_process(keeper, Signal::TERM).expect("ask the keeper to stop");
    eventually("the keeper ends", || is_gone(keeper));
    assert!(scratch.0.join("stopped").exists(), "the server was not asked to stop");
    assert!(fs::read_to_string(scratch.0.join("log")).expect("the log").contains("the server says hello"));
}

fn a_server_that_crashes_is_started_again(host: &Host) {
    let scratch = Scratch::new();
    let keeper = host.start(&scratch, "crash-twice");
    assert_eq!(keeper.wait().expect("the keeper's end").code, 0);
    assert_eq!(fs::read_to_string(scratch.0.join("runs")).expect("the count"), "xxx");
}

fn a_server_that_refuses_is_not_started_again(host: &Host) {
    let scratch = Scratch::new();
    let keeper = host.start(&scratch, "refuse");
    assert_eq!(keeper.wait().expect("the keeper's end").code, i32::from(EXIT_FATAL));
    assert_eq!(fs::read_to_string(scratch.0.join("runs")).expect("the count"), "x");
}

fn run_directories_must_be_private(host: &Host) {
    let scratch = Scratch::new();
    let mut config = config(&scratch.0, "role", &["refuse".to_owned()]);
    fs::create_dir(&config.run_dir).expect("make a directory");
    fs::set_permissions(&config.run_dir, fs::Permissions::from_mode(0o755)).expect("open it");
    let refused = |config: &KeeperConfig, part: &str| match Keeper::spawn(&host.preflight, config) {
        Err(error @ BootstrapError::RunDirectory { .. }) => {
            assert!(error.to_string().contains(part), "{error}");
        }
        other => panic!("{part}: {other:?}"),
    };
    refused(&config, "chmod 0700");
    config.run_dir = scratch.0.join("none/run");
    refused(&config, "cannot be made");
    config.run_dir = "run".into();
    refused(&config, "absolute");
    let link = scratch.0.join("link");
    std::os::unix::fs::symlink("/tmp", &link).expect("make a link");
    config.run_dir = link;
    refused(&config, "not a directory");
}

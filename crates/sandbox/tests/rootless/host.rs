//! The part of the tests that stays on the host: it starts keepers, with the
//! other cases inside or with a server that plays a role, and watches what
//! becomes of them.

use std::collections::HashSet;
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
    let mut failed = !delegated_passes(&filters);
    become_ordinary();
    let host = Host { preflight: checked() };
    failed |= !host.run_inside("server", &filters);
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

/// Runs the cases for which a delegated control group makes a difference, in
/// one. Only root can delegate a group; otherwise nothing is run.
fn delegated_passes(filters: &[String]) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let Some(group) = delegate_group(&test_user()) else {
        println!("skipped: there is no control group hierarchy of version 2 to delegate from");
        return true;
    };
    let status = Command::new("/proc/self/exe").arg("delegated").arg(group).args(filters).status();
    status.expect("run the cases in a delegated group").success()
}

/// Makes a control group that belongs to a user, as a service manager would.
fn delegate_group(identity: &Identity) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let group = Path::new(mount).join("xebec-test");
    if !group.exists() {
        fs::create_dir(&group).expect("make a control group");
    }
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        let owner = (Some(identity.uid), Some(identity.gid));
        std::os::unix::fs::chown(group.join(file), owner.0, owner.1).expect("delegate the group");
    }
    Some(group)
}

/// The process that runs in the delegated group.
pub(crate) fn run_delegated() -> ! {
    let args: Vec<String> = std::env::args().skip(2).collect();
    let (group, filters) = args.split_first().expect("the group");
    fs::write(Path::new(group).join("cgroup.procs"), "0").expect("enter the group");
    become_ordinary();
    let passed = Host { preflight: checked() }.run_inside("delegated-server", filters);
    std::process::exit(i32::from(!passed));
}

/// Becomes an ordinary user if this process is root's.
fn become_ordinary() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let identity = test_user();
    identity.assume().expect("become the test user");
    assert!(matches!(identity.assume(), Err(IdentityError::NotRoot(_))));
    assert_eq!(Identity::current().expect("the test user"), identity);
}

fn test_user() -> Identity {
    Identity::lookup(USER).unwrap_or_else(|_| {
        let made = Command::new("useradd").args(["--create-home", USER]).status().expect("run useradd");
        assert!(made.success(), "useradd {USER}: {made}");
        Identity::lookup(USER).expect("the user was made")
    })
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
    fn run_inside(&self, mode: &str, filters: &[String]) -> bool {
        let scratch = Scratch::new();
        let config = config(&scratch.0, mode, filters);
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

/// A process: its id, and the time of its start, which tells it from a later one.
type Process = (u32, u64);

/// Every process of the host, with its parent.
fn processes() -> Vec<(Process, u32)> {
    let entries = fs::read_dir("/proc").expect("read /proc").map(Result::unwrap);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(((pid, fields[19].parse().ok()?), fields[1].parse().ok()?))
    })
    .collect()
}

/// A keeper's process and all below it, and its user namespace.
struct Traces {
    user_namespace: PathBuf,
    tree: HashSet<Process>,
}

fn traces(keeper: u32) -> Traces {
    let all = processes();
    let mut tree: HashSet<Process> =
        all.iter().map(|(own, _)| *own).filter(|(pid, _)| *pid == keeper).collect();
    loop {
        let below = |parent: &u32| tree.iter().any(|(pid, _)| pid == parent);
        let found: HashSet<Process> =
            all.iter().filter(|(_, parent)| below(parent)).map(|(own, _)| *own).collect();
        if found.is_subset(&tree) {
            break;
        }
        tree.extend(found);
    }
    Traces {
        user_namespace: fs::read_link(format!("/proc/{keeper}/ns/user")).expect("the user namespace"),
        tree,
    }
}

/// Processes of the traces that still live.
fn remains(traces: &Traces) -> Vec<Process> {
    let inside = |(pid, _): &Process| {
        fs::read_link(format!("/proc/{pid}/ns/user")).is_ok_and(|link| link == traces.user_namespace)
    };
    processes()
        .into_iter()
        .map(|(own, _)| own)
        .filter(|own| traces.tree.contains(own) || inside(own))
        .collect()
}

fn nothing_outlives_the_keeper(host: &Host) {
    let scratch = Scratch::new();
    let keeper = host.start(&scratch, "fill");
    eventually("the pods run", || scratch.0.join("ready").exists());
    let pid = keeper.info().host_pid;
    let traces = traces(pid);
    assert!(remains(&traces).len() >= 12, "{:?}", remains(&traces));
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill the keeper");
    assert_eq!(keeper.wait().expect("the keeper's end").code, 137);
    // The keeper itself ends last, so nothing needs to be waited for.
    assert_eq!(remains(&traces), Vec::<Process>::new());
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

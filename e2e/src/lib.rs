//! A cluster for tests: the real program, started as an ordinary user, asked by the real kubectl.
//!
//! `cargo xtask test` says where the programs are: `XEBEC_BIN`, `XEBEC_KUBECTL`, `XEBEC_HELM`, `XEBEC_PYTHON` (which
//! has the package `kubernetes`), and in `XEBEC_IMAGE` the
//! archive of an image called `xebec.local/busybox:demo`.

pub mod converter;
pub mod load;
pub mod registry;

use std::io::{Seek as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The user that tests become when they are started as root; `XEBEC_TEST_USER` names another.
const USER: &str = "xebec-test";

/// How long a test waits for what a cluster does by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A case's name, and what it does.
pub type Case = (&'static str, fn(&Cluster) -> Result<()>);

/// Cases that run on the same cluster, some of them at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// How many run at once; more than one only for cases that do not see each other.
    pub at_once: usize,
    /// The cases.
    pub cases: &'a [Case],
}

/// Starts a cluster, runs the cases on it in order, and says how each went: the `main` of a test. Arguments choose cases by
/// parts of their names.
#[must_use]
pub fn run(cases: &[Case]) -> ExitCode {
    run_groups(&[Group { at_once: 1, cases }])
}

/// Starts a cluster and runs group after group on it. Arguments are parts of names: only such cases run.
#[must_use]
pub fn run_groups(groups: &[Group<'_>]) -> ExitCode {
    run_on(Cluster::up, groups)
}

/// Runs group after group on a cluster that is started so.
#[must_use]
pub fn run_on(start: impl FnOnce() -> Result<Cluster>, groups: &[Group<'_>]) -> ExitCode {
    // A runner of tests asks for their names: they make one.
    if std::env::args().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let cluster = match start() {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("the cluster does not start: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for group in groups {
        let (good, bad) = run_group(&cluster, group);
        passed += good;
        failed += bad;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a group; how many cases passed, and how many failed.
fn run_group(cluster: &Cluster, group: &Group<'_>) -> (usize, usize) {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let cases: Vec<&Case> = group
        .cases
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part)))
        .collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((name, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            match case(cluster) {
                Ok(()) => println!("ok      {:>6} ms  {name}", begun.elapsed().as_millis()),
                Err(error) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    println!("FAILED  {name}: {error:#}\n{}", cluster.log());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..group.at_once {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner();
    (cases.len() - failed, failed)
}

/// A cluster that is taken down at its end.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    data: PathBuf,
    bind: String,
    user: Option<String>,
    xebec: PathBuf,
    kubectl: PathBuf,
    /// What `up` is told besides.
    arguments: Vec<String>,
}

/// The path of a program that the environment names.
///
/// # Errors
/// It does not.
pub fn program(variable: &str) -> Result<PathBuf> {
    let path =
        std::env::var_os(variable).with_context(|| format!("{variable} is not set: run cargo xtask test"))?;
    Ok(PathBuf::from(path))
}

/// Whether the test is run by root.
///
/// # Errors
/// There is no `/proc`.
pub fn is_root() -> Result<bool> {
    let meta = std::fs::metadata("/proc/self")?;
    Ok(std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

impl Cluster {
    /// Starts a cluster on free ports.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn up() -> Result<Self> {
        Self::up_on(None)
    }

    /// Starts a cluster on free ports, always with these arguments.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn up_with(arguments: &[&str]) -> Result<Self> {
        Self::prepare(None, arguments)
    }

    /// Starts a cluster on free ports whose data is in this directory, or in one of the test's own.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn up_on(data: Option<PathBuf>) -> Result<Self> {
        Self::prepare(data, &[])
    }

    fn prepare(data: Option<PathBuf>, arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("xebec-e2e-").tempdir_in("/var/tmp")?;
        let user = is_root()?.then(|| std::env::var("XEBEC_TEST_USER").unwrap_or_else(|_| USER.into()));
        let xebec = dir.path().join("xebec");
        std::fs::copy(program("XEBEC_BIN")?, &xebec).context("copying the program")?;
        std::fs::copy(program("XEBEC_IMAGE")?, dir.path().join("image.tar")).context("copying the image")?;
        let data = data.unwrap_or_else(|| dir.path().join("data"));
        std::fs::create_dir_all(&data)?;
        if let Some(user) = &user {
            ensure_user(user)?;
            succeed(Command::new("chown").arg(user).arg(&data))?;
            succeed(Command::new("chmod").arg("755").arg(dir.path()))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let cluster = Self {
            dir,
            data,
            bind: format!("127.0.0.1:{port}"),
            user,
            xebec,
            kubectl: program("XEBEC_KUBECTL")?,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        };
        cluster.start()?;
        Ok(cluster)
    }

    /// Starts the cluster on its data.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start(&self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts the cluster on its data, with more arguments.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_with(&self, arguments: &[&str]) -> Result<()> {
        let own: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.xebec(&[&["up", "--detach", "--bind", &self.bind], &own[..], arguments].concat()).map(drop)
    }

    /// What `up` is told besides.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A path for files of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `xebec` as the ordinary user; its standard output.
    ///
    /// # Errors
    /// It fails; the message has what it said.
    pub fn xebec(&self, arguments: &[&str]) -> Result<String> {
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(&self.xebec);
                command
            }
            None => Command::new(&self.xebec),
        };
        command.env("XEBEC_DATA_DIR", self.data());
        succeed(command.args(arguments).current_dir(self.dir.path()))
    }

    /// Runs `kubectl`; its standard output.
    ///
    /// # Errors
    /// It fails; the message has what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        succeed(&mut self.kubectl_command(arguments))
    }

    /// Runs `kubectl` with a document on its standard input.
    ///
    /// # Errors
    /// It fails; the message has what it said.
    pub fn kubectl_with(&self, arguments: &[&str], document: &str) -> Result<String> {
        let mut file = tempfile::tempfile()?;
        file.write_all(document.as_bytes())?;
        file.rewind()?;
        let mut command = self.kubectl_command(arguments);
        command.stdin(file);
        succeed(&mut command)
    }

    /// What a failing `kubectl` says.
    ///
    /// # Errors
    /// It succeeds.
    pub fn kubectl_fails(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl_command(arguments).output()?;
        ensure!(!output.status.success(), "kubectl {arguments:?} succeeds");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// `kubectl` for this cluster.
    #[must_use]
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).env("KUBECONFIG", self.data().join("kubeconfig"));
        command.env("HOME", self.dir.path()).stdin(Stdio::null());
        command
    }

    /// An object as JSON.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// `xebec status` as JSON.
    ///
    /// # Errors
    /// No cluster runs.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.xebec(&["status", "-o", "json"])?)?)
    }

    /// The last lines of what the cluster logged.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("xebec.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The user who runs the cluster.
    ///
    /// # Errors
    /// The system does not say.
    pub fn user(&self) -> Result<String> {
        match &self.user {
            Some(user) => Ok(user.clone()),
            None => Ok(succeed(Command::new("id").arg("-un"))?.trim().to_owned()),
        }
    }

    /// The directory of everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.xebec(&["down", "--purge"]) {
            eprintln!("the cluster could not be taken down: {error:#}");
        }
    }
}

fn ensure_user(user: &str) -> Result<()> {
    let known = std::fs::read_to_string("/etc/passwd")?.lines().any(|l| l.starts_with(&format!("{user}:")));
    if !known {
        succeed(Command::new("useradd").args(["--create-home", user]))?;
    }
    Ok(())
}

/// Runs a program; its standard output.
///
/// # Errors
/// It fails; the message has what it said.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output: Output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tries until it works, for at most `limit`; the last failure if it never does.
///
/// # Errors
/// The last failure.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

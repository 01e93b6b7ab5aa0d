//! `cargo xtask demo`: a cluster, an application, and what it answers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, is_root, run, target};
use crate::{clients, image, packages};

const USER: &str = "xebec";
/// The name of the demonstration's image.
pub(crate) const IMAGE: &str = "xebec.local/busybox:demo";
const ADDRESS: &str = "127.0.0.1:30080";

/// A cluster of the demonstration's own.
struct Demo {
    root: PathBuf,
    data: PathBuf,
    kubectl: PathBuf,
    user: Option<&'static str>,
}

/// Shows a cluster; with `once` it is taken down again.
///
/// # Errors
/// The first step that fails.
pub(crate) fn run_demo(once: bool) -> Result<()> {
    packages::for_demo()?;
    run(&mut cargo(&["build", "--release", "--package", "xebec"]))?;
    let demo = Demo::prepare()?;
    let shown = demo.show();
    if once || shown.is_err() {
        demo.xebec(&["down", "--purge"])?;
    }
    shown
}

impl Demo {
    fn prepare() -> Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent directory")?;
        let target = target()?;
        let root = if is_root() { PathBuf::from("/var/tmp/xebec-demo") } else { target.join("demo") };
        fs::create_dir_all(&root)?;
        let kubectl = clients::find("kubectl", &target.join("clients"))?;
        // The README's tour goes on with it.
        clients::find("helm", &target.join("clients"))?;
        let demo = Self { data: root.join("data"), kubectl, user: is_root().then_some(USER), root };
        // A program that still runs cannot be written to, but it can be replaced.
        let (program, fresh) = (demo.root.join("xebec"), demo.root.join("xebec.new"));
        fs::copy(target.join("release/xebec"), &fresh).context("copying the program")?;
        fs::rename(&fresh, &program).context("replacing the program")?;
        if demo.data.exists() {
            // An earlier demonstration, perhaps of an earlier version, may still run.
            demo.xebec(&["down", "--purge"])?;
        }
        fs::copy(top.join("examples/hello/hello.yaml"), demo.root.join("hello.yaml"))
            .context("copying the example")?;
        if demo.user.is_some() {
            ensure_user()?;
            fs::create_dir_all(&demo.data)?;
            run(Command::new("chown").args([USER]).arg(&demo.data))?;
        }
        Ok(demo)
    }

    /// Runs `xebec` as an ordinary user.
    fn xebec(&self, arguments: &[&str]) -> Result<()> {
        let program = self.root.join("xebec");
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        run(command.args(arguments).arg("--data-dir").arg(&self.data).current_dir(&self.root))
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        run(Command::new(&self.kubectl).args(arguments).env("KUBECONFIG", self.data.join("kubeconfig")))
    }

    fn show(&self) -> Result<()> {
        let mut times = Vec::new();
        let mut timed = |what: &'static str, step: &dyn Fn() -> Result<()>| -> Result<()> {
            let begun = Instant::now();
            step()?;
            times.push((what, begun.elapsed()));
            Ok(())
        };
        timed("cluster ready", &|| self.xebec(&["up", "--detach"]))?;
        let image = target()?.join("busybox.tar");
        image::write(&image, IMAGE)?;
        let archive = self.root.join("busybox.tar");
        fs::copy(&image, &archive).context("copying the image")?;
        timed("image imported", &|| self.xebec(&["image", "import", &archive.display().to_string()]))?;
        let manifest = self.root.join("hello.yaml").display().to_string();
        timed("application applied", &|| self.kubectl(&["apply", "-f", &manifest]))?;
        timed("three pods ready", &|| {
            self.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        })?;
        let mut answer = String::new();
        let begun = Instant::now();
        while answer.is_empty() && begun.elapsed() < Duration::from_secs(5) {
            answer = ask().unwrap_or_default();
        }
        if !answer.contains("Hello from Xebec.") {
            bail!("the application at {ADDRESS} answered {answer:?}");
        }
        self.kubectl(&["get", "nodes,deployments,pods,services", "-o", "wide"])?;
        println!("\nhttp://{ADDRESS}/ answers: {}", answer.trim());
        for (what, took) in times {
            println!("  {what:<20} {:>6} ms", took.as_millis());
        }
        println!(
            "\nlook around:  export KUBECONFIG={0}/kubeconfig\n              {2} get all --all-namespaces\nstop:         {1} down --data-dir {0}",
            self.data.display(),
            self.root.join("xebec").display(),
            self.kubectl.display(),
        );
        Ok(())
    }
}

/// The answer of the application, from outside of the cluster.
fn ask() -> Result<String> {
    let mut stream = TcpStream::connect(ADDRESS)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

/// Started as root: an ordinary user with subordinate ids runs the cluster.
fn ensure_user() -> Result<()> {
    let known = fs::read_to_string("/etc/passwd")?.lines().any(|l| l.starts_with(&format!("{USER}:")));
    if !known {
        run(Command::new("useradd").args(["--create-home", "--shell", "/usr/sbin/nologin", USER]))?;
    }
    Ok(())
}

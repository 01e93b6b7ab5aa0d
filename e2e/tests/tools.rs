//! Other people's tools: helm with a chart, Python's client library, an OCI registry.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xebec_e2e::registry::Registry;
use xebec_e2e::{Case, Cluster, PATIENCE, eventually, program, succeed};

const CASES: [Case; 3] = [
    ("helm installs, upgrades, rolls back and uninstalls a chart", helm),
    ("a Python program uses the kubernetes package", python),
    ("an image comes from a registry", registry),
];

fn main() -> ExitCode {
    xebec_e2e::run(&CASES)
}

fn helm(cluster: &Cluster) -> Result<()> {
    cluster.xebec(&["image", "import", &cluster.path("image.tar").display().to_string()])?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/chart");
    let helm = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(program("XEBEC_HELM")?);
        command.args(arguments).env("KUBECONFIG", cluster.data().join("kubeconfig"));
        succeed(command.env("HOME", cluster.root()).stdin(Stdio::null()))
    };
    ensure!(helm(&["install", "greet", chart, "--wait", "--timeout=60s"])?.contains("STATUS: deployed"));
    greets("Hello from a chart.")?;
    helm(&["upgrade", "greet", chart, "--set", "greeting=Changed.,replicas=1", "--wait", "--timeout=60s"])?;
    greets("Changed.")?;
    let history = helm(&["history", "greet"])?;
    ensure!(history.contains("superseded") && history.contains("Upgrade complete"), "{history}");
    helm(&["rollback", "greet", "1", "--wait", "--timeout=60s"])?;
    greets("Hello from a chart.")?;
    let listed = helm(&["list", "-o", "json"])?;
    ensure!(listed.contains("\"revision\":\"3\""), "{listed}");
    ensure!(helm(&["get", "manifest", "greet"])?.contains("kind: Deployment"));
    helm(&["uninstall", "greet", "--wait", "--timeout=60s"])?;
    let gone = cluster.kubectl_fails(&["get", "deployment", "greet"])?;
    ensure!(gone.contains("not found"), "{gone}");
    Ok(())
}

/// Waits until the chart's application says something.
fn greets(wanted: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let mut stream = TcpStream::connect("127.0.0.1:30081")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.ends_with(wanted), "the application answers {text:?}");
        Ok(())
    })
}

fn python(cluster: &Cluster) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/hello.py");
    let mut command = Command::new(program("XEBEC_PYTHON")?);
    let said = succeed(command.arg(script).env("KUBECONFIG", cluster.data().join("kubeconfig")))?;
    for wanted in [
        "server v1.36",
        "created hello-python",
        "watched MODIFIED Running",
        "logged hello from Python",
        "executed run inside",
        "applied b",
        "refused 404 Not Found",
        "done",
    ] {
        ensure!(said.contains(wanted), "{wanted:?} is missing in:\n{said}");
    }
    Ok(())
}

fn registry(cluster: &Cluster) -> Result<()> {
    let registry = Registry::start(cluster)?;
    let image = registry.push(&cluster.path("image.tar"), "team/busybox:1")?;
    cluster.xebec(&["image", "pull", &image])?;
    let listed = cluster.xebec(&["image", "ls"])?;
    ensure!(listed.contains("team/busybox:1"), "{listed}");
    cluster.xebec(&["image", "rm", &image])?;
    let arguments = ["run", "pulled", "--image", &image, "--image-pull-policy=Always", "--restart=Never"];
    cluster.kubectl(&[&arguments[..], &["--", "echo", "from the registry"]].concat())?;
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    cluster.kubectl(&["wait", done, "pod/pulled", "--timeout=60s"])?;
    let said = cluster.kubectl(&["logs", "pulled"])?;
    ensure!(said == "from the registry\n", "{said}");
    let described = cluster.kubectl(&["describe", "pod", "pulled"])?;
    ensure!(described.contains("Successfully pulled image"), "{described}");
    let id = cluster.get(&["pod", "pulled"])?["status"]["containerStatuses"][0]["imageID"].clone();
    ensure!(id.as_str().is_some_and(|id| id.contains("@sha256:")), "the image's id is {id}");
    let absent = format!("{}/team/absent:1", registry.address());
    let refused = cluster.xebec(&["image", "pull", &absent]);
    let text = format!("{:#}", refused.err().context("an absent image is pulled")?);
    ensure!(text.contains("team/absent:1"), "{text}");
    Ok(())
}

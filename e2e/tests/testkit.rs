//! kubectl on a cluster that is inside a test process.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use xebec_testkit::Cluster;

/// What kubectl says, which has to succeed.
async fn kubectl(home: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(xebec_e2e::program("XEBEC_KUBECTL")?);
    command.env("HOME", home).env("KUBECONFIG", home.join("kubeconfig")).args(arguments);
    let output = command.output().await.context("starting kubectl")?;
    ensure!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reaches_a_cluster_inside_a_test() -> Result<()> {
    let cluster = Cluster::builder().serve_tls().start().await?;
    cluster.node("n1").ready().await?;
    let home = tempfile::tempdir().context("a directory for kubectl")?;
    let kubeconfig = cluster.kubeconfig().context("a cluster that listens has a kubeconfig")?;
    tokio::fs::write(home.path().join("kubeconfig"), kubeconfig).await?;
    let kubectl = async |arguments: &[&str]| kubectl(home.path(), arguments).await;

    kubectl(&["create", "deployment", "web", "--image=example.com/web:1", "--replicas=2"]).await?;
    kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await?;
    let pods = kubectl(&["get", "pods", "--selector=app=web", "--no-headers"]).await?;
    let running = pods.lines().filter(|line| line.contains("1/1") && line.contains("Running")).count();
    ensure!(running == 2, "{pods}");
    let who = kubectl(&["auth", "whoami", "--output=jsonpath={.status.userInfo.username}"]).await?;
    ensure!(who == "xebec-admin", "{who}");
    kubectl(&["delete", "deployment", "web", "--wait", "--timeout=60s"]).await?;
    cluster.stop().await?;
    Ok(())
}

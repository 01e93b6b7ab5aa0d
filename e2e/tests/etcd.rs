//! Two servers on one etcd: each is the cluster, and one can die.

use std::collections::HashSet;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xebec_e2e::load::Target;
use xebec_e2e::{Case, Cluster, Group, PATIENCE, eventually, run_on, succeed};
use xebec_store::contract::EtcdProcess;

const CASES: [Case; 4] = [
    ("a server with other keys, or an etcd without TLS far away, is refused", refused),
    ("what one server writes the other shows, and controllers act once", together),
    ("a server killed under load loses no acknowledged write, and another goes on", killed),
    ("a server that comes back is one of them again", back),
];

/// How long another server may take to lead: a lease, and some.
const TAKES_OVER: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let etcd = EtcdProcess::start();
    let start = || Cluster::up_with(&["--store", &etcd.address(), "--node-name", "one"]);
    run_on(start, &[Group { at_once: 1, cases: &CASES }])
}

/// Another server of the same cluster.
fn second(first: &Cluster) -> Result<Cluster> {
    let store = first.arguments().get(1).context("a store")?;
    let pki = first.data().join("pki").display().to_string();
    Cluster::up_with(&["--store", store, "--node-name", "two", "--pki", &pki])
}

fn refused(first: &Cluster) -> Result<()> {
    let store = first.arguments().get(1).context("a store")?;
    let other = first.data().join("other").display().to_string();
    let up = ["up", "--data-dir", &other, "--bind", "127.0.0.1:0", "--store", store];
    let text = format!("{:#}", first.xebec(&up).err().context("other keys are taken")?);
    ensure!(text.contains("another certificate authority") && text.contains("--pki"), "{text}");
    let far = first.xebec(&[
        "up",
        "--data-dir",
        &other,
        "--bind",
        "127.0.0.1:0",
        "--store",
        "etcd://192.0.2.1:2379",
    ]);
    let text = format!("{:#}", far.err().context("plain text is taken")?);
    ensure!(text.contains("--store-ca") && text.contains("another machine"), "{text}");
    Ok(())
}

fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{containers: [{{name: a, image: xebec.local/absent, imagePullPolicy: Never}}]}}\n"
    )
}

/// How many pods the controllers have ever made for a deployment, by what they say of it.
fn made(cluster: &Cluster, name: &str) -> Result<usize> {
    let events = cluster.get(&["events", "--field-selector", "reason=SuccessfulCreate"])?;
    let of = |event: &&Value| {
        event["message"].as_str().is_some_and(|text| text.contains(&format!("pod: {name}-")))
    };
    Ok(events["items"].as_array().into_iter().flatten().filter(of).count())
}

/// Waits until so many pods of a deployment are there, no more were ever made.
fn has_pods(cluster: &Cluster, name: &str, wanted: usize, limit: Duration) -> Result<()> {
    let label = format!("app={name}");
    eventually(limit, || {
        let pods = cluster.get(&["pods", "-l", &label])?;
        let found = pods["items"].as_array().map_or(0, Vec::len);
        ensure!(found == wanted, "{found} pods, not {wanted}");
        let made = made(cluster, name)?;
        ensure!(made == wanted, "{made} pods were made, not {wanted}");
        Ok(())
    })
}

fn leader(cluster: &Cluster, lease: &str) -> Result<String> {
    let lease = cluster.get(&["lease", lease, "-n", "kube-system"])?;
    Ok(lease["spec"]["holderIdentity"].as_str().context("a holder")?.to_owned())
}

fn together(one: &Cluster) -> Result<()> {
    let two = second(one)?;
    eventually(PATIENCE, || {
        let nodes = two.kubectl(&["get", "nodes", "-o", "name"])?;
        ensure!(nodes == "node/one\nnode/two\n", "{nodes}");
        Ok(())
    })?;
    for (number, pair) in [[one, &two], [&two, one]].iter().cycle().take(20).enumerate() {
        let name = format!("shared-{number}");
        pair[0].kubectl(&["create", "configmap", &name, "--from-literal=a=b"])?;
        ensure!(pair[1].get(&["configmap", &name])?["data"]["a"] == "b");
        pair[1].kubectl(&["label", "configmap", &name, "seen=yes"])?;
        ensure!(pair[0].get(&["configmap", &name])?["metadata"]["labels"]["seen"] == "yes");
        pair[0].kubectl(&["delete", "configmap", &name])?;
        let gone = pair[1].kubectl_fails(&["get", "configmap", &name])?;
        ensure!(gone.contains("not found"), "{gone}");
    }
    for lease in ["kube-controller-manager", "kube-scheduler"] {
        ensure!(leader(&two, lease)?.starts_with("one_"), "{lease} is led by another");
    }
    two.kubectl_with(&["apply", "-f", "-"], &deployment("once", 3))?;
    has_pods(one, "once", 3, PATIENCE)?;
    one.kubectl(&["delete", "deployment", "once", "--wait=false"]).map(drop)
}

/// The leader dies. Its watchers go on at the other from the version that they have seen, as client-go does.
fn killed(one: &Cluster) -> Result<()> {
    let two = second(one)?;
    one.kubectl_with(&["apply", "-f", "-"], &deployment("taken", 2))?;
    has_pods(one, "taken", 2, PATIENCE)?;
    let listed = one.kubectl(&["get", "--raw", "/api/v1/namespaces/default/configmaps"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let seen = listed["metadata"]["resourceVersion"].as_str().context("a version")?;
    let target = Target::of(one)?;
    let load = std::thread::spawn(move || -> Result<Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(target.create_until_broken("default", "load", 16))
    });
    std::thread::sleep(Duration::from_millis(700));
    let keeper = one.status()?["pids"]["keeper"].as_u64().context("a process id")?;
    succeed(Command::new("kill").args(["-9", &keeper.to_string()]))?;
    let Ok(acknowledged) = load.join() else { bail!("the load panics") };
    let acknowledged = acknowledged?;
    ensure!(acknowledged.len() > 50, "only {} writes were acknowledged", acknowledged.len());
    let list = two.kubectl(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])?;
    let stored: HashSet<&str> = list.split_ascii_whitespace().collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !stored.contains(name.as_str())).collect();
    ensure!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    let path =
        format!("/api/v1/namespaces/default/configmaps?watch=true&resourceVersion={seen}&timeoutSeconds=5");
    let events = two.kubectl(&["get", "--raw", &path])?;
    let mut last = 0;
    let mut watched = HashSet::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line)?;
        ensure!(event["type"] == "ADDED", "{line}");
        let metadata = &event["object"]["metadata"];
        let version: u64 = metadata["resourceVersion"].as_str().context("a version")?.parse()?;
        ensure!(version > last, "{version} comes after {last}");
        last = version;
        watched.insert(metadata["name"].as_str().context("a name")?.to_owned());
    }
    let missed: Vec<&String> = acknowledged.iter().filter(|name| !watched.contains(*name)).collect();
    ensure!(missed.is_empty(), "the watch missed {missed:?}");
    two.kubectl(&["scale", "deployment", "taken", "--replicas=3"])?;
    has_pods(&two, "taken", 3, TAKES_OVER)?;
    for lease in ["kube-controller-manager", "kube-scheduler"] {
        eventually(TAKES_OVER, || {
            ensure!(leader(&two, lease)?.starts_with("two_"), "{lease} is led by another");
            Ok(())
        })?;
    }
    two.kubectl(&["delete", "configmaps", "--all", "--wait=false"])?;
    two.kubectl(&["delete", "deployment", "taken", "--wait=false"]).map(drop)
}

fn back(one: &Cluster) -> Result<()> {
    one.xebec(&["down"])?;
    one.start()?;
    one.kubectl(&["create", "configmap", "again"])?;
    // The second was stopped in order, and has given its leases back.
    one.kubectl_with(&["apply", "-f", "-"], &deployment("back", 1))?;
    has_pods(one, "back", 1, TAKES_OVER)
}

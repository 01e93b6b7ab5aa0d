//! Pods, from their first to their last moment, through the real kubectl.
//!
//! Each case has pods of its own names, so that those of the first groups run at the same time. The last cases stop and
//! start the cluster itself.

mod environment;
mod images;
mod isolation;
mod lifecycle;
mod network;
mod probes;
mod restart;
mod streams;
mod volumes;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xebec_e2e::{Case, Cluster, Group};

/// The image of all pods here.
const IMAGE: &str = "xebec.local/busybox:demo";

/// How long `kubectl wait` waits.
const TIMEOUT: &str = "--timeout=60s";

const PREPARE: [Case; 1] = [("the image is imported", image_is_imported)];

fn main() -> ExitCode {
    let together: Vec<Case> = [
        lifecycle::CASES.as_slice(),
        probes::CASES.as_slice(),
        streams::CASES.as_slice(),
        volumes::CASES.as_slice(),
        environment::CASES.as_slice(),
        images::CASES.as_slice(),
        isolation::CASES.as_slice(),
        network::CASES.as_slice(),
    ]
    .concat();
    xebec_e2e::run_groups(&[
        Group { at_once: 1, cases: &PREPARE },
        Group { at_once: 6, cases: &together },
        Group { at_once: 1, cases: &restart::CASES },
    ])
}

fn image_is_imported(cluster: &Cluster) -> Result<()> {
    cluster.xebec(&["image", "import", &cluster.path("image.tar").display().to_string()])?;
    cluster.kubectl(&["wait", "--for=create", "serviceaccount/default", TIMEOUT]).map(drop)
}

/// A container called `main` that runs a script, with more fields.
fn shell(script: &str, more: Value) -> Value {
    container("main", script, more)
}

fn container(name: &str, script: &str, more: Value) -> Value {
    merge(json!({"name": name, "image": IMAGE, "command": ["sh", "-c", script]}), more)
}

/// The fields of both objects.
fn merge(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Object(other)) = (one.as_object_mut(), other) {
        one.extend(other);
    }
    one
}

/// Makes a pod of one container.
fn run(cluster: &Cluster, name: &str, container: Value) -> Result<()> {
    create(cluster, name, json!({ "containers": Value::Array(vec![container]) }))
}

/// Makes a pod that is not restarted and has little time to end, unless its specification says otherwise.
fn create(cluster: &Cluster, name: &str, spec: Value) -> Result<()> {
    let defaults = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"case": name}, "annotations": {"note": "a note"}},
        "spec": merge(defaults, spec),
    });
    object(cluster, &pod)
}

/// Makes any object.
fn object(cluster: &Cluster, object: &Value) -> Result<()> {
    cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).map(drop)
}

/// Waits until a field of a pod has a value.
fn field(cluster: &Cluster, pod: &str, path: &str, value: &str) -> Result<()> {
    let condition = format!("--for=jsonpath={{{path}}}={value}");
    let waited = cluster.kubectl(&["wait", &condition, &format!("pod/{pod}"), TIMEOUT]);
    waited.map(drop).with_context(|| describe(cluster, pod))
}

fn phase(cluster: &Cluster, pod: &str, phase: &str) -> Result<()> {
    field(cluster, pod, ".status.phase", phase)
}

fn ready(cluster: &Cluster, pod: &str) -> Result<()> {
    let waited = cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), TIMEOUT]);
    waited.map(drop).with_context(|| describe(cluster, pod))
}

/// What `kubectl describe` says, for the message of a failure.
fn describe(cluster: &Cluster, pod: &str) -> String {
    cluster.kubectl(&["describe", "pod", pod]).unwrap_or_else(|error| format!("{error:#}"))
}

/// Runs a script in a pod until it is over; what it wrote.
fn output_of(cluster: &Cluster, name: &str, spec: Value) -> Result<String> {
    create(cluster, name, spec)?;
    phase(cluster, name, "Succeeded")
        .with_context(|| cluster.kubectl(&["logs", name]).unwrap_or_else(|error| format!("{error:#}")))?;
    cluster.kubectl(&["logs", name])
}

/// The status of a pod's container.
fn status(cluster: &Cluster, pod: &str, container: &str) -> Result<Value> {
    let pod = cluster.get(&["pod", pod])?;
    let all = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut statuses = all.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    let found = statuses.find(|status| status["name"] == container).cloned();
    found.with_context(|| format!("container {container} has no status: {}", pod["status"]))
}

/// The messages of a pod's events of one reason.
fn events(cluster: &Cluster, pod: &str, reason: &str) -> Result<Vec<Value>> {
    let selector = format!("involvedObject.name={pod},reason={reason}");
    let list = cluster.get(&["events", "--field-selector", &selector])?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Runs a command that must end with this code; its standard output.
fn code(command: &mut Command, want: i32) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(want), "{command:?}: {}\n{out}\n{err}", output.status);
    Ok(out.into_owned())
}

//! What whoever runs a cluster asks of it: health, metrics, the audit log, flow control, keys.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

const CASES: [Case; 6] = [
    ("health by checks", health),
    ("metrics", metrics),
    ("the audit log", audit),
    ("flow control", flow_control),
    ("the key of secrets is changed", rotation),
    ("an audit policy of one's own", policy),
];

fn main() -> ExitCode {
    xebec_e2e::run(&CASES)
}

/// Fails unless `text` has all of `wanted`.
fn has(text: &str, wanted: &[&str]) -> Result<()> {
    for part in wanted {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}

fn raw(cluster: &Cluster, path: &str) -> Result<String> {
    cluster.kubectl(&["get", "--raw", path])
}

fn health(cluster: &Cluster) -> Result<()> {
    let ready = raw(cluster, "/readyz?verbose")?;
    has(&ready, &["[+]ping ok\n", "[+]etcd ok\n", "[+]shutdown ok\n", "readyz check passed\n"])?;
    has(&raw(cluster, "/livez?verbose&exclude=tasks")?, &["[+]tasks excluded: ok\n", "livez check passed"])?;
    let one = raw(cluster, "/readyz/etcd")?;
    ensure!(one == "ok", "{one}");
    has(&cluster.kubectl_fails(&["get", "--raw", "/readyz/nonsense"])?, &["NotFound"])
}

fn metrics(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "configmap", "counted"])?;
    let metrics = raw(cluster, "/metrics")?;
    has(
        &metrics,
        &[
            "# TYPE apiserver_request_total counter\n",
            "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\"",
            "apiserver_longrunning_requests{",
            "apiserver_storage_objects{resource=\"configmaps\"}",
            "etcd_request_duration_seconds_bucket{operation=\"txn\",le=\"0.005\"}",
            "process_resident_memory_bytes ",
        ],
    )?;
    has(&raw(cluster, "/metrics/slis")?, &["kubernetes_healthchecks_total{name=\"ping\""])
}

/// The events of the audit log.
fn events(cluster: &Cluster) -> Result<Vec<Value>> {
    let text = fs::read_to_string(cluster.data().join("audit/audit.log")).context("reading the audit log")?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Waits for an event about an object.
fn event(cluster: &Cluster, verb: &str, name: &str) -> Result<Value> {
    eventually(PATIENCE, || {
        let about = |event: &Value| event["verb"] == verb && event["objectRef"]["name"] == name;
        events(cluster)?.into_iter().find(about).with_context(|| format!("no {verb} of {name} is recorded"))
    })
}

fn audit(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "secret", "generic", "seen", "--from-literal=a=hidden-text"])?;
    cluster.kubectl(&[
        "get",
        "secret",
        "seen",
        "-o",
        "yaml",
        "--as=system:admin",
        "--as-group=system:masters",
    ])?;
    let made = event(cluster, "create", "seen")?;
    ensure!(made["apiVersion"] == "audit.k8s.io/v1" && made["kind"] == "Event", "{made}");
    ensure!(made["level"] == "Metadata" && made["stage"] == "ResponseComplete", "{made}");
    ensure!(made["responseStatus"]["code"] == 201 && made.get("requestObject").is_none(), "{made}");
    ensure!(made["userAgent"].as_str().is_some_and(|agent| agent.starts_with("kubectl/")), "{made}");
    let read = event(cluster, "get", "seen")?;
    ensure!(read["impersonatedUser"]["username"] == "system:admin", "{read}");
    ensure!(read["annotations"]["authorization.k8s.io/decision"] == "allow", "{read}");
    let log = fs::read_to_string(cluster.data().join("audit/audit.log"))?;
    ensure!(!log.contains("hidden-text") && !log.contains("aGlkZGVuLXRleHQ"), "no bodies are recorded");
    ensure!(!log.contains("\"resource\":\"leases\""), "heartbeats are not recorded");
    Ok(())
}

fn flow_control(cluster: &Cluster) -> Result<()> {
    let columns = "custom-columns=NAME:.metadata.name,LEVEL:.spec.priorityLevelConfiguration.name,\
                   DANGLING:.status.conditions[0].status";
    let schemas = cluster.kubectl(&["get", "flowschemas", "-o", columns])?;
    let is_sorted = |name: &str, level: &str| {
        schemas.lines().any(|line| line.split_whitespace().eq([name, level, "False"]))
    };
    ensure!(is_sorted("exempt", "exempt") && is_sorted("service-accounts", "workload-low"), "{schemas}");
    let table = raw(cluster, "/debug/api_priority_and_fairness/dump_priority_levels")?;
    has(&table, &["PriorityLevelName,\t", "node-high,\t", "catch-all,\t"])?;
    let metrics = raw(cluster, "/metrics")?;
    let heartbeat = "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"system-node-high\",\
                     priority_level=\"node-high\"} 0\n";
    ensure!(!metrics.contains(heartbeat), "the node has sent heartbeats:\n{metrics}");
    let verbose = cluster.kubectl_command(&["get", "ns", "-v=8"]).output()?;
    let headers = String::from_utf8_lossy(&verbose.stderr).to_lowercase();
    has(&headers, &["x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid", "audit-id"])
}

fn rotation(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "secret", "generic", "kept", "--from-literal=a=b"])?;
    let said = cluster.xebec(&["secrets", "rotate"])?;
    has(&said, &["key 2 seals now", "1 older key removed"])?;
    let keys = cluster.data().join("pki");
    ensure!(keys.join("encryption-2.key").exists() && !keys.join("encryption.key").exists(), "{said}");
    cluster.xebec(&["down"])?;
    cluster.start()?;
    let kept = cluster.kubectl(&["get", "secret", "kept", "-o", "jsonpath={.data.a}"])?;
    ensure!(kept == "Yg==", "{kept}");
    has(&cluster.xebec(&["secrets", "rotate"])?, &["key 3 seals now"])
}

fn policy(cluster: &Cluster) -> Result<()> {
    let file = cluster.path("policy.yaml");
    fs::write(&file, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Nothing}]\n")?;
    let path = file.to_string_lossy().into_owned();
    cluster.xebec(&["down"])?;
    let refused = cluster.start_with(&["--audit-policy", &path]).map(drop).expect_err("no such level");
    has(&format!("{refused:#}"), &["policy.yaml cannot be used", "Nothing"])?;
    let rules =
        "[{level: RequestResponse, resources: [{group: '', resources: [configmaps]}], verbs: [create]}]";
    fs::write(&file, format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n"))?;
    cluster.start_with(&["--audit-policy", &path, "--audit-blocking", "--shutdown-delay", "1"])?;
    cluster.kubectl(&["create", "configmap", "whole", "--from-literal=a=shown"])?;
    let event = event(cluster, "create", "whole")?;
    ensure!(event["requestObject"]["data"]["a"] == "shown", "{event}");
    let complete = events(cluster)?
        .into_iter()
        .find(|e| e["stage"] == "ResponseComplete" && e["objectRef"]["name"] == "whole");
    let uid = complete.as_ref().map(|event| &event["responseObject"]["metadata"]["uid"]);
    ensure!(uid.is_some_and(Value::is_string), "{complete:?}");
    Ok(())
}

//! Probes, and what follows from their verdicts.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::{container, create, describe, object, ready, run, shell, status};

pub(crate) const CASES: [Case; 3] = [
    ("a container that is not alive is restarted", liveness),
    ("liveness waits for the startup probe", startup),
    ("what is not ready gets no traffic", readiness),
];

fn liveness(cluster: &Cluster) -> Result<()> {
    let check = |pod: &str, kinds: &[(&str, Value, &str)]| -> Result<()> {
        let settings = json!({"periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1});
        let probed = |(name, what, _): &(&str, Value, &str)| {
            let probe = crate::merge(settings.clone(), what.clone());
            container(name, "sleep 1000", json!({ "livenessProbe": probe }))
        };
        let mut containers: Vec<Value> = kinds.iter().map(probed).collect();
        containers.push(container("server", "exec httpd -f -p 8081 -h /www", json!({})));
        create(cluster, pod, json!({"restartPolicy": "Always", "containers": containers}))?;
        for (name, _, why) in kinds {
            eventually(PATIENCE, || {
                let status = status(cluster, pod, name)?;
                ensure!(status["restartCount"].as_u64() > Some(0), "{status}");
                Ok(())
            })?;
            let text = describe(cluster, pod);
            let why = format!("Liveness probe failed: {why}");
            ensure!(text.contains(&why), "no {why:?} in {text}");
            let killed = format!("Container {name} failed liveness probe, will be restarted");
            ensure!(text.contains(&killed), "no {killed:?} in {text}");
        }
        Ok(())
    };
    check(
        "liveness",
        &[
            ("exec", json!({"exec": {"command": ["ls", "/absent"]}}), "exit code 1: ls: /absent"),
            (
                "http",
                json!({"httpGet": {"port": 8081, "path": "/absent"}}),
                "HTTP probe failed with statuscode: 404",
            ),
            ("tcp", json!({"tcpSocket": {"port": 8099}}), "cannot connect to 10.42."),
        ],
    )?;
    // What speaks plain HTTP is neither asked in TLS nor in gRPC with success.
    check(
        "liveness-more",
        &[
            ("https", json!({"httpGet": {"port": 8081, "scheme": "HTTPS"}}), ""),
            ("grpc", json!({"grpc": {"port": 8081}}), ""),
        ],
    )
}

fn startup(cluster: &Cluster) -> Result<()> {
    let started = |threshold: u32| json!({"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": threshold});
    let probes = json!({"startupProbe": started(30), "livenessProbe": started(1)});
    run(cluster, "startup", shell("sleep 3; touch /tmp/up; sleep 1000", probes))?;
    ready(cluster, "startup")?;
    let status = status(cluster, "startup", "main")?;
    ensure!(status["restartCount"] == 0 && status["started"] == true, "{status}");
    Ok(())
}

fn readiness(cluster: &Cluster) -> Result<()> {
    object(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "readiness"},
            "spec": {"selector": {"case": "readiness"}, "ports": [{"port": 80}]},
        }),
    )?;
    let probe = json!({"readinessProbe": {
        "exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}});
    run(cluster, "readiness", shell("touch /tmp/up; sleep 1000", probe))?;
    let endpoint = |wanted: bool| {
        eventually(PATIENCE, || {
            let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=readiness"])?;
            let ready = &slices["items"][0]["endpoints"][0]["conditions"]["ready"];
            ensure!(*ready == wanted, "{slices}");
            Ok(())
        })
    };
    endpoint(true)?;
    cluster.kubectl(&["exec", "readiness", "--", "rm", "/tmp/up"])?;
    endpoint(false)?;
    let shown = cluster.kubectl(&["get", "pod", "readiness"])?;
    ensure!(shown.contains("0/1"), "{shown}");
    cluster.kubectl(&["exec", "readiness", "--", "touch", "/tmp/up"])?;
    endpoint(true)
}

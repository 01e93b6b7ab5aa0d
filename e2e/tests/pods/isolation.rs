//! What a container may not do, and what holds it to that.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::{container, create, describe, field, object, output_of, phase, ready, run, shell, status};

pub(crate) const CASES: [Case; 5] = [
    ("the security context holds", security_context),
    ("root is refused where it must not be", no_root),
    ("a fork bomb stays in its pod", fork_bomb),
    ("a memory limit holds, or the pod says that it does not", memory_limit),
    ("gVisor runs a pod", gvisor),
];

fn security_context(cluster: &Cluster) -> Result<()> {
    let script = "id -u; id -g; id -G; touch /new 2>&1; echo ok > /v/f && stat -c %g /v/f; \
                  grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status; [ -s /proc/kcore ] || echo masked; \
                  { echo x > /proc/sys/kernel/hostname; } 2>&1; ls /sys/firmware | wc -l";
    let more = json!({
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
                            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    let text = output_of(
        cluster,
        "security",
        json!({
            "securityContext": {"fsGroup": 3000},
            "containers": [shell(&format!("{script}; true"), more)],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }),
    )?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines[..3] == ["1000", "2000", "2000 3000"], "{text}");
    for part in [
        "touch: /new: Read-only file system",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
        "masked",
        "can't create /proc/sys/kernel/hostname: Read-only file system\n0\n",
    ] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    ensure!(lines[4] == "3000", "a new file is not the group's: {text}");
    // Without any of that: root of the pod, but not of anything else.
    let text = output_of(
        cluster,
        "defaults",
        json!({"containers": [shell(
        "id -u; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; awk '{print $1, ($3 < 70000)}' /proc/self/uid_map; \
         mount -t tmpfs t /tmp 2>/dev/null || echo refused", json!({}))]}),
    )?;
    ensure!(text == "0\nNoNewPrivs:\t1\nSeccomp:\t2\n0 1\nrefused\n", "{text:?}");
    Ok(())
}

fn no_root(cluster: &Cluster) -> Result<()> {
    run(cluster, "no-root", shell("true", json!({"securityContext": {"runAsNonRoot": true}})))?;
    field(
        cluster,
        "no-root",
        ".status.containerStatuses[0].state.waiting.reason",
        "CreateContainerConfigError",
    )?;
    let status = status(cluster, "no-root", "main")?;
    ensure!(status.to_string().contains("runAsNonRoot and image will run as root"), "{status}");
    Ok(())
}

fn fork_bomb(cluster: &Cluster) -> Result<()> {
    run(cluster, "bomb", shell("f() { f | f & }; f; while true; do sleep 1; done", json!({})))?;
    field(cluster, "bomb", ".status.phase", "Running")?;
    let text = output_of(cluster, "beside-bomb", json!({"containers": [shell("echo usable", json!({}))]}))?;
    ensure!(text == "usable\n", "{text:?}");
    let begun = Instant::now();
    cluster.kubectl(&["delete", "pod", "bomb", "--timeout=60s"])?;
    println!("a fork bomb is gone after {} ms", begun.elapsed().as_millis());
    Ok(())
}

fn memory_limit(cluster: &Cluster) -> Result<()> {
    let limited = json!({"resources": {"limits": {"memory": "16Mi"}}});
    let notes = cluster.status()?["notes"].to_string();
    if notes.contains("memory limits are not enforced") {
        create(cluster, "memory", json!({"containers": [shell("sleep 1000", limited)]}))?;
        ready(cluster, "memory")?;
        return eventually(PATIENCE, || {
            let text = describe(cluster, "memory");
            ensure!(text.contains("LimitsNotEnforced") && text.contains("memory"), "{text}");
            Ok(())
        });
    }
    run(cluster, "memory", shell("a=x; while true; do a=$a$a; done", limited))?;
    phase(cluster, "memory", "Failed")?;
    let ended = status(cluster, "memory", "main")?["state"]["terminated"].clone();
    ensure!(ended["reason"] == "OOMKilled" && ended["exitCode"] == 137, "{ended}");
    Ok(())
}

fn gvisor(cluster: &Cluster) -> Result<()> {
    object(
        cluster,
        &json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "gvisor",
        }),
    )?;
    let serve = "dmesg; echo inside > /www/x; exec httpd -f -p 8080 -h /www";
    create(
        cluster,
        "gvisor",
        json!({
            "runtimeClassName": "gvisor", "containers": [container("main", serve, json!({}))],
        }),
    )?;
    ready(cluster, "gvisor")?;
    eventually(PATIENCE, || {
        let text = cluster.kubectl(&["logs", "gvisor"])?;
        ensure!(text.contains("gVisor"), "{text}");
        Ok(())
    })?;
    let said = cluster.kubectl(&["exec", "gvisor", "--", "sh", "-c", "dmesg | grep -c gVisor"])?;
    ensure!(said.trim() != "0", "{said}");
    let ip = cluster.kubectl(&["get", "pod", "gvisor", "-o", "jsonpath={.status.podIP}"])?;
    let script = format!("until wget -q -O - http://{ip}:8080/x 2>/dev/null; do sleep 0.2; done");
    let text = output_of(cluster, "gvisor-client", json!({"containers": [shell(&script, json!({}))]}))?;
    ensure!(text == "inside\n", "{text}");
    cluster.kubectl(&["delete", "pod", "gvisor", "--timeout=30s"]).map(drop)
}

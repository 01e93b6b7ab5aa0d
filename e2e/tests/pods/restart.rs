//! Pods while the server dies and comes back, and what is left of them at the end.

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::{create, events, images, phase, ready, shell, status};

pub(crate) const CASES: [Case; 5] = [
    ("pods run on while the server is killed and comes back", killed_server),
    ("a pod whose holder is killed gets another", killed_shim),
    ("the layers of running containers stay", images::held_layers),
    ("nothing is left of a cluster that is down", nothing_left),
    ("what weakens isolation waits until it is allowed", dangers),
];

fn killed_server(cluster: &Cluster) -> Result<()> {
    let script = "[ -f /v/ran ] || { touch /v/ran; exit 3; }; \
                  i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done";
    let probe = json!({"exec": {"command": ["test", "-f", "/v/ran"]}});
    let more = json!({"readinessProbe": probe, "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let volume = json!({"name": "v", "emptyDir": {}});
    create(
        cluster,
        "ticks",
        json!({"restartPolicy": "Always", "containers": [shell(script, more)], "volumes": [volume]}),
    )?;
    ready(cluster, "ticks")?;
    let before = status(cluster, "ticks", "main")?;
    ensure!(before["lastState"]["terminated"]["exitCode"] == 3 && before["restartCount"] == 1, "{before}");
    let since = |cluster: &Cluster| -> Result<Value> {
        let pod = cluster.get(&["pod", "ticks"])?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
        Ok(ready.context("no condition Ready")?["lastTransitionTime"].clone())
    };
    let ready_since = since(cluster)?;
    kill_server(cluster)?;
    let last = |text: String| text.lines().last().map(str::to_owned).unwrap_or_default();
    let first = eventually(PATIENCE, || cluster.kubectl(&["logs", "ticks", "--tail=1"]).map(last))?;
    eventually(PATIENCE, || {
        let now = cluster.kubectl(&["logs", "ticks", "--tail=1"]).map(last)?;
        ensure!(now != first, "the log stands still at {now}");
        Ok(())
    })?;
    let all = cluster.kubectl(&["logs", "ticks"])?;
    let complete = all.lines().enumerate().all(|(i, line)| line == format!("tick {i}"));
    ensure!(complete, "the log has a gap: {all}");
    let after = status(cluster, "ticks", "main")?;
    ensure!(before == after, "{before} {after}");
    ensure!(since(cluster)? == ready_since, "it was not ready for a while");
    let server = cluster.status()?["pids"]["server"].as_u64().context("no server")?;
    let limits = std::fs::read_to_string(format!("/proc/{server}/limits"))?;
    let files: Vec<&str> = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .map(|line| line.split_whitespace().collect())
        .context("it has a limit of open files")?;
    ensure!(files[0] == files[1], "the server may open fewer files than it could: {files:?}");
    let said = cluster.kubectl(&["exec", "ticks", "--", "echo", "hello"])?;
    ensure!(said == "hello\n", "{said}");
    Ok(())
}

fn dangers(cluster: &Cluster) -> Result<()> {
    let unconfined = json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}});
    let label = "pod-security.kubernetes.io/enforce=privileged";
    cluster.kubectl(&["label", "--overwrite", "namespace", "default", label])?;
    let script = "grep ^Seccomp: /proc/self/status; ls /sys/class/net";
    create(cluster, "daring", json!({"hostNetwork": true, "containers": [shell(script, unconfined)]}))?;
    let refused = |part: &str| {
        eventually(PATIENCE, || {
            let status = status(cluster, "daring", "main")?;
            let message = status["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
            ensure!(message.contains(part), "{status}");
            Ok(())
        })
    };
    refused(
        "hostNetwork is not allowed on this node; start it with --danger-allow host-network to allow it",
    )?;
    cluster.xebec(&["down"])?;
    cluster.start_with(&["--danger-allow", "host-network"])?;
    refused("container main: seccompProfile Unconfined is not allowed")?;
    cluster.xebec(&["down"])?;
    cluster.start_with(&["--danger-allow", "host-network,unconfined"])?;
    phase(cluster, "daring", "Succeeded")?;
    let said = cluster.kubectl(&["logs", "daring"])?;
    ensure!(said.starts_with("Seccomp:\t0\n"), "{said}");
    Ok(())
}

/// The parent of a container's first process is what holds the pod.
fn killed_shim(cluster: &Cluster) -> Result<()> {
    create(
        cluster,
        "shimless",
        json!({"restartPolicy": "Always", "containers": [shell("exec sleep 9753", json!({}))]}),
    )?;
    ready(cluster, "shimless")?;
    let runs = |pid: &String| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\09753\0")
    };
    let container = all_processes()?.into_iter().find(runs).context("the container has no process")?;
    let status_text = std::fs::read_to_string(format!("/proc/{container}/status"))?;
    let shim = status_text.lines().find_map(|line| line.strip_prefix("PPid:")).context("it has a parent")?;
    let killed = Command::new("kill").args(["-9", shim.trim()]).status()?;
    ensure!(killed.success(), "the shim cannot be killed");
    eventually(PATIENCE, || {
        let status = status(cluster, "shimless", "main")?;
        ensure!(status["restartCount"] == 1 && status["ready"] == true, "{status}");
        Ok(())
    })?;
    ensure!(!events(cluster, "shimless", "SandboxChanged")?.is_empty(), "nothing tells why");
    ensure!(cluster.kubectl(&["exec", "shimless", "--", "echo", "back"])? == "back\n", "it cannot be used");
    Ok(())
}

/// Kills the server; its keeper starts another.
pub(crate) fn kill_server(cluster: &Cluster) -> Result<()> {
    let pid = cluster.status()?["pids"]["server"].as_u64().context("no server")?;
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    ensure!(killed.success(), "the server cannot be killed");
    Ok(())
}

fn nothing_left(cluster: &Cluster) -> Result<()> {
    let range = subordinate_ids(&cluster.user()?)?;
    let here = cluster.root().display().to_string();
    let keeper = cluster.status()?["pids"]["keeper"].as_u64().context("no keeper")?;
    let mut pids = processes_of(&range)?;
    ensure!(!pids.is_empty(), "no container runs as one of the ids {range:?}");
    pids.push(keeper.to_string());
    let outside = namespaces("self");
    let mut inside: BTreeSet<String> = pids.iter().flat_map(|pid| namespaces(pid)).collect();
    inside.retain(|namespace| !outside.contains(namespace));
    cluster.xebec(&["down"])?;
    let left = processes_of(&range)?;
    ensure!(left.is_empty(), "processes are left: {left:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&here), "mounts are left: {mounts}");
    let mut still = Vec::new();
    for pid in all_processes()? {
        let shared: Vec<String> = namespaces(&pid).intersection(&inside).cloned().collect();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // One that has ended, and that nobody has asked for yet, has nothing any more.
        if !shared.is_empty() && !status.contains("State:\tZ") {
            still.push((pid, shared));
        }
    }
    ensure!(still.is_empty(), "namespaces are left: {still:?}");
    cluster.start()
}

/// The ids that a user's containers have outside.
fn subordinate_ids(user: &str) -> Result<Range<u64>> {
    let text = std::fs::read_to_string("/etc/subuid")?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{user}:")));
    let (first, count) =
        line.and_then(|l| l.split_once(':')).with_context(|| format!("{user} has no ids"))?;
    let first: u64 = first.parse()?;
    Ok(first..first + count.parse::<u64>()?)
}

fn all_processes() -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir("/proc")?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = entries.collect::<Result<_>>()?;
    Ok(names.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect())
}

/// Processes that run as one of these ids. One that ends meanwhile is none.
fn processes_of(ids: &Range<u64>) -> Result<Vec<String>> {
    let runs_as = |pid: &String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let uid =
            status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
        uid.is_some_and(|uid: u64| ids.contains(&uid))
    };
    Ok(all_processes()?.into_iter().filter(runs_as).collect())
}

/// The namespaces of a process, as far as they may be seen.
fn namespaces(pid: &str) -> BTreeSet<String> {
    let link = |kind: &&str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let links = ["user", "mnt", "pid", "net", "ipc", "uts"].iter().filter_map(link);
    links.map(|path| path.display().to_string()).collect()
}

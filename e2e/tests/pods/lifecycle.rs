//! How pods begin, go on and end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::{
    IMAGE, TIMEOUT, container, create, describe, events, field, output_of, phase, ready, run, shell, status,
};

pub(crate) const CASES: [Case; 11] = [
    ("init containers run in order, and again when they fail", init_containers),
    ("a sidecar runs beside the others and ends after them", sidecar),
    ("restart policies", restart_policies),
    ("a container that always ends is backed off", crash_loop),
    ("how a container ended", endings),
    ("one that ignores the request to end is killed", ignores_term),
    ("an image that does not exist", missing_image),
    ("a command that does not exist", missing_command),
    ("hooks after the start and before the stop", hooks),
    ("a deadline ends a pod", deadline),
    ("events are few and count", event_counts),
];

fn shared(volume: &str) -> (Value, Value) {
    let mounts = json!({"volumeMounts": [{"name": volume, "mountPath": "/v"}]});
    (mounts, json!([{"name": volume, "emptyDir": {}}]))
}

fn init_containers(cluster: &Cluster) -> Result<()> {
    let (mounts, volumes) = shared("v");
    let flaky = "if [ -e /v/tried ]; then echo two >> /v/log; else touch /v/tried; exit 1; fi";
    let text = output_of(
        cluster,
        "inits",
        json!({
            "restartPolicy": "OnFailure",
            "initContainers": [
                container("one", "sleep 0.5; echo one >> /v/log", mounts.clone()),
                container("two", flaky, mounts.clone()),
            ],
            "containers": [shell("cat /v/log", mounts)],
            "volumes": volumes,
        }),
    )?;
    ensure!(text == "one\ntwo\n", "{text:?}");
    let (one, two) = (status(cluster, "inits", "one")?, status(cluster, "inits", "two")?);
    ensure!(one["restartCount"] == 0 && two["restartCount"] == 1, "{one} {two}");
    create(
        cluster,
        "init-fails",
        json!({
            "initContainers": [container("one", "exit 4", json!({}))], "containers": [shell("true", json!({}))],
        }),
    )?;
    phase(cluster, "init-fails", "Failed")?;
    let shown = cluster.kubectl(&["get", "pod", "init-fails"])?;
    ensure!(shown.contains("Init:Error"), "{shown}");
    Ok(())
}

fn sidecar(cluster: &Cluster) -> Result<()> {
    let (mounts, volumes) = shared("v");
    let side = "trap 'echo stopped; exit 0' TERM; touch /v/up; echo up; while true; do sleep 0.1; done";
    let probe =
        json!({"restartPolicy": "Always", "startupProbe": {"exec": {"command": ["test", "-e", "/v/up"]}}});
    let text = output_of(
        cluster,
        "sidecar",
        json!({
            "terminationGracePeriodSeconds": 5,
            "initContainers": [container("side", side, crate::merge(probe, mounts.clone()))],
            "containers": [shell("ls /v", mounts)],
            "volumes": volumes,
        }),
    )?;
    ensure!(text == "up\n", "{text:?}");
    let side = cluster.kubectl(&["logs", "sidecar", "-c", "side"])?;
    ensure!(side == "up\nstopped\n", "{side:?}");
    Ok(())
}

fn restart_policies(cluster: &Cluster) -> Result<()> {
    let check = |name: &str, policy: &str, script: &str, want: &str, restarts: u64| -> Result<()> {
        let (mounts, volumes) = shared("v");
        create(
            cluster,
            name,
            json!({
                "restartPolicy": policy, "containers": [shell(script, mounts)], "volumes": volumes,
            }),
        )?;
        phase(cluster, name, want)?;
        let status = status(cluster, name, "main")?;
        ensure!(status["restartCount"] == restarts, "{name}: {status}");
        Ok(())
    };
    check("never-good", "Never", "exit 0", "Succeeded", 0)?;
    check("never-bad", "Never", "exit 1", "Failed", 0)?;
    check("failure-good", "OnFailure", "exit 0", "Succeeded", 0)?;
    check("failure-once", "OnFailure", "[ -e /v/f ] || { touch /v/f; exit 1; }", "Succeeded", 1)
}

fn crash_loop(cluster: &Cluster) -> Result<()> {
    create(cluster, "crash", json!({"restartPolicy": "Always", "containers": [shell("exit 2", json!({}))]}))?;
    field(cluster, "crash", ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")?;
    let shown = cluster.kubectl(&["get", "pods", "crash"])?;
    ensure!(shown.contains("CrashLoopBackOff"), "{shown}");
    let status = status(cluster, "crash", "main")?;
    ensure!(
        status["state"]["waiting"]["message"].as_str().is_some_and(|m| m.starts_with("back-off 10s")),
        "{status}"
    );
    ensure!(status["lastState"]["terminated"]["exitCode"] == 2, "{status}");
    eventually(PATIENCE, || {
        let text = describe(cluster, "crash");
        ensure!(text.contains("Back-off restarting failed container main in pod crash"), "{text}");
        Ok(())
    })
}

fn endings(cluster: &Cluster) -> Result<()> {
    let check = |name: &str, script: &str, more: Value, want: Value| -> Result<()> {
        run(cluster, name, shell(script, more))?;
        let finished = if want["exitCode"] == 0 { "Succeeded" } else { "Failed" };
        phase(cluster, name, finished)?;
        let ended = status(cluster, name, "main")?["state"]["terminated"].clone();
        for (key, value) in want.as_object().into_iter().flatten() {
            ensure!(ended[key] == *value, "{name}: {ended}");
        }
        Ok(())
    };
    let none = || json!({});
    check("end-good", "true", none(), json!({"reason": "Completed", "exitCode": 0, "message": null}))?;
    let note = "echo -n because > /dev/termination-log; exit 3";
    check("end-bad", note, none(), json!({"reason": "Error", "exitCode": 3, "message": "because"}))?;
    let elsewhere = json!({"terminationMessagePath": "/tmp/why"});
    check(
        "end-elsewhere",
        "echo -n moved > /tmp/why",
        elsewhere,
        json!({"exitCode": 0, "message": "moved"}),
    )?;
    let fallback = || json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    check("end-log", "echo first; echo last >&2; exit 1", fallback(), json!({"message": "first\nlast\n"}))?;
    check("end-log-unused", "echo fine", fallback(), json!({"exitCode": 0, "message": null}))?;
    check(
        "end-killed",
        "kill -9 $$; kill -9 1; sh -c 'kill -9 $PPID'; exit 9",
        none(),
        json!({"exitCode": 9}),
    )
}

fn ignores_term(cluster: &Cluster) -> Result<()> {
    run(
        cluster,
        "stubborn",
        shell("trap 'echo asked' TERM; echo up; while true; do sleep 0.1; done", json!({})),
    )?;
    ready(cluster, "stubborn")?;
    let follower = cluster.kubectl_command(&["logs", "-f", "stubborn"]).stdout(Stdio::piped()).spawn()?;
    cluster.kubectl(&["delete", "pod", "stubborn", "--timeout=20s"])?;
    let text = String::from_utf8_lossy(&follower.wait_with_output()?.stdout).into_owned();
    ensure!(text.starts_with("up\nasked\n"), "{text:?}");
    Ok(())
}

fn missing_image(cluster: &Cluster) -> Result<()> {
    create(
        cluster,
        "no-image",
        json!({
            "containers": [{"name": "main", "image": "127.0.0.1:1/absent:1", "command": ["true"]}],
        }),
    )?;
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    field(cluster, "no-image", reason, "ErrImagePull")?;
    let message = status(cluster, "no-image", "main")?["state"]["waiting"]["message"].clone();
    ensure!(message.as_str().is_some_and(|m| m.contains("127.0.0.1:1/absent:1")), "{message}");
    field(cluster, "no-image", reason, "ImagePullBackOff")?;
    let shown = cluster.kubectl(&["get", "pod", "no-image"])?;
    ensure!(shown.contains("ImagePullBackOff"), "{shown}");
    eventually(PATIENCE, || {
        let text = describe(cluster, "no-image");
        ensure!(text.contains("Back-off pulling image") && text.contains("xebec image import"), "{text}");
        Ok(())
    })?;
    let never = json!({"name": "main", "image": "xebec.local/absent:1", "imagePullPolicy": "Never"});
    create(cluster, "never-pulled", json!({"containers": [never]}))?;
    field(cluster, "never-pulled", reason, "ErrImageNeverPull")?;
    create(cluster, "bad-image", json!({"containers": [{"name": "main", "image": "Not An Image"}]}))?;
    field(cluster, "bad-image", reason, "InvalidImageName")
}

fn missing_command(cluster: &Cluster) -> Result<()> {
    let absent = json!({"name": "main", "image": IMAGE, "command": ["/absent"]});
    run(cluster, "no-command", absent.clone())?;
    phase(cluster, "no-command", "Failed")?;
    let ended = status(cluster, "no-command", "main")?["state"]["terminated"].clone();
    ensure!(ended["reason"] == "StartError" && ended["exitCode"] == 128, "{ended}");
    ensure!(ended["message"].as_str().is_some_and(|m| m.contains("/absent")), "{ended}");
    create(cluster, "no-command-again", json!({"restartPolicy": "Always", "containers": [absent]}))?;
    field(
        cluster,
        "no-command-again",
        ".status.containerStatuses[0].state.waiting.reason",
        "CrashLoopBackOff",
    )?;
    let status = status(cluster, "no-command-again", "main")?;
    ensure!(status["lastState"]["terminated"]["reason"] == "StartError", "{status}");
    Ok(())
}

fn hooks(cluster: &Cluster) -> Result<()> {
    let script = "trap 'echo asked; exit 0' TERM; while ! [ -e /tmp/hook ]; do sleep 0.1; done; echo hooked; \
                  while true; do sleep 0.1; done";
    let exec = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let lifecycle = json!({"lifecycle": {
        "postStart": exec("touch /tmp/hook"), "preStop": exec("echo stopping > /proc/1/fd/1"),
    }});
    create(
        cluster,
        "hooks",
        json!({
            "terminationGracePeriodSeconds": 10, "containers": [shell(script, lifecycle)],
        }),
    )?;
    ready(cluster, "hooks")?;
    let mut follower = cluster.kubectl_command(&["logs", "-f", "hooks"]).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(follower.stdout.take().context("it is piped")?);
    let mut text = String::new();
    // The pod may go as soon as somebody follows it.
    output.read_line(&mut text)?;
    cluster.kubectl(&["delete", "pod", "hooks", TIMEOUT])?;
    output.read_to_string(&mut text)?;
    follower.wait()?;
    ensure!(text == "hooked\nstopping\nasked\n", "{text:?}");
    // A hook that speaks to another host is beyond the standard that holds by default.
    let label = "pod-security.kubernetes.io/enforce=privileged";
    cluster.kubectl(&["label", "--overwrite", "namespace", "default", label])?;
    let api = json!({"scheme": "HTTPS", "host": "10.43.0.1", "port": 443, "path": "/healthz"});
    let more = json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}, "postStart": {"httpGet": api}}});
    run(cluster, "hook-http", shell("sleep 1000", more))?;
    ready(cluster, "hook-http")?;
    let failing = json!({"lifecycle": {"postStart": exec("echo no >&2; exit 5")}});
    create(
        cluster,
        "hook-fails",
        json!({"restartPolicy": "Always", "containers": [shell("sleep 1000", failing)]}),
    )?;
    eventually(PATIENCE, || {
        ensure!(!events(cluster, "hook-fails", "FailedPostStartHook")?.is_empty(), "no event");
        Ok(())
    })?;
    eventually(PATIENCE, || {
        let status = status(cluster, "hook-fails", "main")?;
        ensure!(status["restartCount"].as_u64() > Some(0), "{status}");
        Ok(())
    })
}

fn deadline(cluster: &Cluster) -> Result<()> {
    create(
        cluster,
        "deadline",
        json!({"activeDeadlineSeconds": 1, "containers": [shell("sleep 1000", json!({}))]}),
    )?;
    phase(cluster, "deadline", "Failed")?;
    field(cluster, "deadline", ".status.reason", "DeadlineExceeded")
}

fn event_counts(cluster: &Cluster) -> Result<()> {
    let probe = json!({"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}});
    run(cluster, "events", shell("sleep 1000", probe))?;
    eventually(PATIENCE, || {
        let unhealthy = events(cluster, "events", "Unhealthy")?;
        ensure!(unhealthy.len() == 1 && unhealthy[0]["count"].as_u64() >= Some(3), "{unhealthy:?}");
        Ok(())
    })?;
    let text = describe(cluster, "events");
    for reason in ["Scheduled", "Pulled", "Created", "Started", "Unhealthy"] {
        ensure!(text.contains(reason), "no {reason} in {text}");
    }
    let sorted = cluster.kubectl(&[
        "get",
        "events",
        "--sort-by=.lastTimestamp",
        "--field-selector=involvedObject.name=events",
    ])?;
    ensure!(sorted.contains("Unhealthy"), "{sorted}");
    Ok(())
}

//! Volumes: what is in them, how it is owned, and how it follows what it was made from.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::{container, create, events, field, object, output_of, ready, run, shell};

pub(crate) const CASES: [Case; 7] = [
    ("files of config maps and secrets", files),
    ("files follow their objects", files_follow),
    ("an empty directory is shared, one in memory is bounded", empty_directories),
    ("files belong to the group that the pod names", group),
    ("a token in a volume is accepted", token),
    ("files of the pod's own fields", downward),
    ("a volume that cannot be filled says why", missing),
];

fn files(cluster: &Cluster) -> Result<()> {
    object(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"},
            "data": {"a": "text of a", "b": "text of b"}, "binaryData": {"c": "AAEC"},
        }),
    )?;
    object(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "files"}, "stringData": {"key": "hidden"},
        }),
    )?;
    let script = "cat /some/dir/a.txt; echo; stat -L -c '%a %u' /some/dir/a.txt /some/b /secret/key; ls /some | tr '\\n' ' '; \
                  cat /etc/one; echo; cat /secret/key; echo; od -An -tx1 /all/c; touch /all/new 2>&1";
    let mounts = json!({"volumeMounts": [
        {"name": "some", "mountPath": "/some"}, {"name": "all", "mountPath": "/all"},
        {"name": "secret", "mountPath": "/secret"}, {"name": "all", "mountPath": "/etc/one", "subPath": "b"},
    ]});
    let text = output_of(
        cluster,
        "files",
        json!({
            "containers": [shell(&format!("{script}; true"), mounts)],
            "volumes": [
                {"name": "some", "configMap": {"name": "files", "defaultMode": 0o440, "items": [
                    {"key": "a", "path": "dir/a.txt", "mode": 0o400}, {"key": "b", "path": "b"}]}},
                {"name": "all", "configMap": {"name": "files"}},
                {"name": "secret", "secret": {"secretName": "files", "defaultMode": 0o400}},
            ],
        }),
    )?;
    let want = "text of a\n400 0\n440 0\n400 0\nb dir text of b\nhidden\n 00 01 02\ntouch: /all/new: Read-only file system\n";
    ensure!(text == want, "{text:?} is not {want:?}");
    Ok(())
}

fn files_follow(cluster: &Cluster) -> Result<()> {
    let map = |text: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "follow"}, "data": {"a": text},
        })
    };
    object(cluster, &map("old"))?;
    object(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "follow"}, "stringData": {"s": "old"},
        }),
    )?;
    let mounts = json!({"volumeMounts": [
        {"name": "map", "mountPath": "/map"}, {"name": "both", "mountPath": "/both"},
        {"name": "map", "mountPath": "/one", "subPath": "a"},
    ]});
    create(
        cluster,
        "follow-files",
        json!({
            "containers": [shell("sleep 1000", mounts)],
            "volumes": [
                {"name": "map", "configMap": {"name": "follow"}},
                {"name": "both", "projected": {"sources": [
                    {"secret": {"name": "follow"}},
                    {"configMap": {"name": "late", "optional": true}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]}},
            ],
        }),
    )?;
    ready(cluster, "follow-files")?;
    let read = |script: &str| cluster.kubectl(&["exec", "follow-files", "--", "sh", "-c", script]);
    let before = read("cat /map/a /both/s /one; ls /both")?;
    ensure!(before == "oldoldoldlabels\ns\n", "{before}");
    cluster.kubectl_with(&["replace", "-f", "-"], &map("new").to_string())?;
    cluster.kubectl(&["patch", "secret", "follow", "-p", r#"{"stringData":{"s":"newer"}}"#])?;
    cluster.kubectl(&["create", "configmap", "late", "--from-literal=l=late"])?;
    cluster.kubectl(&["label", "pod", "follow-files", "more=yes"])?;
    eventually(PATIENCE, || {
        let after = read("cat /map/a /both/s /one /both/l; grep more /both/labels")?;
        ensure!(after == "newneweroldlatemore=\"yes\"\n", "{after}");
        Ok(())
    })
}

fn empty_directories(cluster: &Cluster) -> Result<()> {
    let mounts = json!({"volumeMounts": [{"name": "disk", "mountPath": "/disk"}, {"name": "mem", "mountPath": "/mem"}]});
    let writer = "echo hello > /disk/f; echo quick > /mem/f; \
                  dd if=/dev/zero of=/mem/big bs=64k count=64 2>/dev/null || echo full; rm /mem/big; touch /disk/done";
    let reader = "while ! [ -e /disk/done ]; do sleep 0.1; done; cat /disk/f /mem/f; stat -f -c %T /mem; stat -c %a /disk";
    let text = output_of(
        cluster,
        "empty",
        json!({
            "initContainers": [container("first", "echo init > /mem/init", mounts.clone())],
            "containers": [shell(&format!("cat /mem/init; {reader}"), mounts.clone()), container("writer", writer, mounts)],
            "volumes": [
                {"name": "disk", "emptyDir": {}},
                {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        }),
    )?;
    ensure!(text == "init\nhello\nquick\ntmpfs\n777\n", "{text:?}");
    let writer = cluster.kubectl(&["logs", "empty", "-c", "writer"])?;
    ensure!(writer == "full\n", "{writer:?}");
    Ok(())
}

fn group(cluster: &Cluster) -> Result<()> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-group"}, "data": {"a": "text"},
    });
    object(cluster, &map)?;
    let mounts =
        json!({"volumeMounts": [{"name": "own", "mountPath": "/own"}, {"name": "map", "mountPath": "/map"}]});
    let script = "touch /own/new; cat /map/a; echo; cd /var/run/secrets/kubernetes.io/serviceaccount; \
                  stat -L -c '%u %g %a' /own /own/new /map /map/a token; test -r token && echo readable";
    let volumes = json!([
        {"name": "own", "emptyDir": {}}, {"name": "map", "configMap": {"name": "of-group", "defaultMode": 0o400}},
    ]);
    let pod = |security: Value| json!({"securityContext": security, "containers": [shell(script, mounts.clone())], "volumes": volumes});
    let text = output_of(cluster, "group", pod(json!({"runAsUser": 1000, "fsGroup": 3000})))?;
    let want = "text\n0 3000 2777\n1000 3000 644\n0 3000 2755\n0 3000 440\n1000 3000 640\nreadable\n";
    ensure!(text == want, "{text:?} is not {want:?}");
    let text = output_of(cluster, "user", pod(json!({"runAsUser": 0})))?;
    let want = "text\n0 0 777\n0 0 644\n0 0 755\n0 0 400\n0 0 600\nreadable\n";
    ensure!(text == want, "{text:?} is not {want:?}");
    create(cluster, "no-group", pod(json!({"fsGroup": 100_000})))?;
    eventually(PATIENCE, || {
        let why = events(cluster, "no-group", "FailedMount")?;
        ensure!(
            why.iter().any(|e| e.to_string().contains("fsGroup 100000 is not one of the ids")),
            "{why:?}"
        );
        Ok(())
    })
}

fn token(cluster: &Cluster) -> Result<()> {
    let mounts = json!({"volumeMounts": [{"name": "t", "mountPath": "/t"}]});
    let script = "cat /t/token; echo; cd /var/run/secrets/kubernetes.io/serviceaccount; cat namespace; echo; \
                  head -n1 ca.crt; test -s token && echo own";
    let text = output_of(
        cluster,
        "token",
        json!({
            "containers": [shell(script, mounts)],
            "volumes": [{"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]}}],
        }),
    )?;
    let (token, rest) = text.split_once('\n').context("no token")?;
    ensure!(rest == "default\n-----BEGIN CERTIFICATE-----\nown\n", "{rest:?}");
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
    });
    let answer = cluster.kubectl_with(&["create", "-o", "json", "-f", "-"], &review.to_string())?;
    let answer: Value = serde_json::from_str(&answer)?;
    let user = &answer["status"]["user"];
    ensure!(answer["status"]["authenticated"] == true, "{answer}");
    ensure!(user["username"] == "system:serviceaccount:default:default", "{answer}");
    ensure!(user["extra"]["authentication.kubernetes.io/pod-name"][0] == "token", "{answer}");
    Ok(())
}

fn downward(cluster: &Cluster) -> Result<()> {
    let more = json!({
        "volumeMounts": [{"name": "d", "mountPath": "/d"}],
        "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
    });
    let text = output_of(
        cluster,
        "downward",
        json!({
            "containers": [shell("cat /d/labels /d/note; echo; cat /d/memory; echo; stat -L -c %a /d/memory", more)],
            "volumes": [{"name": "d", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['note']"}},
                {"path": "memory", "mode": 0o400, "resourceFieldRef": {
                    "containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}},
            ]}}],
        }),
    )?;
    ensure!(text == "case=\"downward\"a note\n64\n400\n", "{text:?}");
    Ok(())
}

fn missing(cluster: &Cluster) -> Result<()> {
    create(
        cluster,
        "missing-volume",
        json!({
            "containers": [shell("cat /v/k", json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}))],
            "volumes": [{"name": "v", "configMap": {"name": "not-yet"}}],
        }),
    )?;
    eventually(PATIENCE, || {
        let text = crate::describe(cluster, "missing-volume");
        ensure!(text.contains("FailedMount") && text.contains("configmap \"not-yet\" not found"), "{text}");
        Ok(())
    })?;
    // Nobody has to wait for a back-off once it is there.
    cluster.kubectl(&["create", "configmap", "not-yet", "--from-literal=k=v"])?;
    field(cluster, "missing-volume", ".status.phase", "Succeeded")?;
    run(
        cluster,
        "missing-env",
        shell(
            "true",
            json!({"env": [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}]}),
        ),
    )?;
    field(
        cluster,
        "missing-env",
        ".status.containerStatuses[0].state.waiting.reason",
        "CreateContainerConfigError",
    )?;
    let status = crate::status(cluster, "missing-env", "main")?;
    ensure!(status.to_string().contains("secret \\\"absent\\\" not found"), "{status}");
    Ok(())
}

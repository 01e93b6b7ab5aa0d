//! Pods run as a service account, and get its token mounted (ServiceAccount).

use xebec_api::{Status, Value, meta, object};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::{convert, read};

/// Where the token stands in a container.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long the mounted token lasts; the node renews it before.
const TOKEN_SECONDS: i64 = 3607;
/// A pod of a node's own, which no account stands behind.
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn mutate(
    core: &Core,
    attributes: &Attributes<'_>,
    pod: &mut Value,
    _old: Option<&Value>,
) -> Result<(), Status> {
    if attributes.operation != Operation::Create
        || !attributes.is("", "pods")
        || meta::annotation(pod, MIRROR).is_some()
    {
        return Ok(());
    }
    if pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default().is_empty() {
        pod.set(&["spec", "serviceAccountName"], "default");
    }
    let name = pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default().to_owned();
    pod.set(&["spec", "serviceAccount"], name.as_str());
    let account = account(core, attributes.target.namespace, &name, pod)?;
    let wanted = pod.bool_at(&["spec", "automountServiceAccountToken"]);
    let wanted = wanted.or_else(|| account.bool_at(&["automountServiceAccountToken"])).unwrap_or(true);
    if wanted {
        mount_token(core, pod)?;
    }
    let own_secrets = pod.array_at(&["spec", "imagePullSecrets"]);
    if own_secrets.is_empty() && !account.array_at(&["imagePullSecrets"]).is_empty() {
        pod.set(&["spec", "imagePullSecrets"], account.array_at(&["imagePullSecrets"]).to_vec());
    }
    Ok(())
}

pub(super) fn validate(
    core: &Core,
    attributes: &Attributes<'_>,
    pod: &Value,
    _old: Option<&Value>,
) -> Result<(), Status> {
    if attributes.operation != Operation::Create || !attributes.is("", "pods") {
        return Ok(());
    }
    if meta::annotation(pod, MIRROR).is_some() {
        let named = pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default();
        if !named.is_empty() {
            let why = "a mirror pod may not reference service accounts";
            return Err(Status::forbidden("", "pods", meta::name(pod), why));
        }
        return Ok(());
    }
    let name = pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default();
    account(core, attributes.target.namespace, name, pod).map(|_| ())
}

fn account(core: &Core, namespace: &str, name: &str, pod: &Value) -> Result<Value, Status> {
    let table = core.table.get();
    let row = table.row("", "serviceaccounts").ok_or_else(Status::no_such_path)?;
    let snapshot = core.store.snapshot();
    let record = read::find(&snapshot, row, namespace, name).map_err(|_| {
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        Status::forbidden("", "pods", meta::name(pod), why)
    })?;
    convert::stored_object(record)
}

/// Adds the projected volume with token, authority and namespace, and mounts it where nothing else is mounted.
fn mount_token(core: &Core, pod: &mut Value) -> Result<(), Status> {
    let mounted = |container: &Value| {
        container.array_at(&["volumeMounts"]).iter().any(|m| m.str_at(&["mountPath"]) == Some(MOUNT_PATH))
    };
    let mut volume = None;
    for list in ["initContainers", "containers"] {
        let count = pod.array_at(&["spec", list]).len();
        for i in 0..count {
            let Some(containers) = pod.make(&["spec", list]).as_array_mut() else { break };
            if mounted(&containers[i]) {
                continue;
            }
            let name = match &volume {
                Some(name) => String::clone(name),
                None => volume.insert(meta::generated_name("kube-api-access-", core.random()?)).clone(),
            };
            let mount = object!({"name": (name), "readOnly": true, "mountPath": MOUNT_PATH});
            push(containers[i].make(&["volumeMounts"]), mount);
        }
    }
    if let Some(name) = volume {
        push(pod.make(&["spec", "volumes"]), token_volume(&name));
    }
    Ok(())
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = Value::Array(vec![item]),
    }
}

fn token_volume(name: &str) -> Value {
    object!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                ]}}
            ]
        }
    })
}

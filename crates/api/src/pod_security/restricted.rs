//! The checks of the level `restricted`: what a hardened pod says of itself.

use super::baseline::{adds_other, bad_seccomp, profile, seccomp_violation};
use super::{Find, Pod, Setters, Values, Violation, name, plural, quoted, security};
use crate::Value;

/// Volumes that lead to nothing but the API and claims.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// All others, in the order in which they are looked for.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// A pod of Windows has no such field, which its validation holds.
pub(super) fn unless_windows(pod: &Pod<'_>, find: Find) -> Option<Violation> {
    if pod.is_windows() { None } else { find(pod) }
}

/// Root in a user namespace is not the host's.
pub(super) fn if_host_users(pod: &Pod<'_>, find: Find) -> Option<Violation> {
    if pod.has_own_users() { None } else { find(pod) }
}

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let containers = pod.containers_that(|container| {
        security(container, "allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false)
    });
    (!containers.is_empty()).then(|| {
        let detail = format!("{containers} must set securityContext.allowPrivilegeEscalation=false");
        Violation::new("allowPrivilegeEscalation != false", detail)
    })
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let dropped = |container: &Value| {
        let dropped = container.array_at(&["securityContext", "capabilities", "drop"]);
        dropped.iter().any(|name| name.as_str() == Some("ALL"))
    };
    let keeping = pod.containers_that(|container| !dropped(container));
    let mut found = Values::default();
    let adding = pod.containers_that(|c| adds_other(c, |name| name == "NET_BIND_SERVICE", &mut found));
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(r#"{keeping} must set securityContext.capabilities.drop=["ALL"]"#));
    }
    if !adding.is_empty() {
        let what = found.quoted();
        details.push(format!("{adding} must not include {what} in securityContext.capabilities.add"));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = Values::default();
    let mut bad = Vec::new();
    for volume in pod.spec.array_at(&["volumes"]) {
        let is = |source: &str| volume.get(source).is_some_and(|source| !source.is_null());
        if !VOLUMES.iter().any(|source| is(source)) {
            bad.push(name(volume));
            types.add(OTHER_VOLUMES.into_iter().find(|source| is(source)).unwrap_or("unknown"));
        }
    }
    if bad.is_empty() {
        return None;
    }
    let (volumes, uses) = (plural(bad.len(), "volume", "volumes"), plural(bad.len(), "uses", "use"));
    let kinds = plural(types.len(), "restricted volume type", "restricted volume types");
    let detail = format!("{volumes} {} {uses} {kinds} {}", quoted(&bad), types.quoted());
    Some(Violation::new("restricted volume types", detail))
}

pub(super) fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    let said = |holder: &Value| security(holder, "runAsNonRoot").and_then(Value::as_bool);
    let reason = "runAsNonRoot != true";
    let setters = pod.setters(|holder| said(holder) == Some(false));
    if !setters.is_empty() {
        return Some(Violation::new(
            reason,
            format!("{setters} must not set securityContext.runAsNonRoot=false"),
        ));
    }
    if said(pod.spec) == Some(true) {
        return None;
    }
    let silent = pod.containers_that(|container| said(container).is_none());
    let detail = || format!("pod or {silent} must set securityContext.runAsNonRoot=true");
    (!silent.is_empty()).then(|| Violation::new(reason, detail()))
}

pub(super) fn user(pod: &Pod<'_>) -> Option<Violation> {
    let setters: Setters<'_> =
        pod.setters(|holder| security(holder, "runAsUser").and_then(Value::as_i64) == Some(0));
    (!setters.is_empty())
        .then(|| Violation::new("runAsUser=0", format!("{setters} must not set runAsUser=0")))
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let (setters, found) = bad_seccomp(pod);
    if !setters.is_empty() {
        return Some(seccomp_violation(&setters, &found));
    }
    if profile(pod.spec, "seccompProfile").is_some() {
        return None;
    }
    let silent = pod.containers_that(|container| profile(container, "seccompProfile").is_none());
    (!silent.is_empty()).then(|| {
        let must = r#"must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#;
        Violation::new("seccompProfile", format!("pod or {silent} {must}"))
    })
}

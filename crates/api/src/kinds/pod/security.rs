//! Rules for security contexts of pods and containers.

use std::collections::HashSet;

use super::check::Pod;
use crate::kinds::check::{Check, is_set, is_true, text};
use crate::kinds::syntax::local_path;
use crate::{Value, names};

/// The highest user or group id.
const MAX_ID: i64 = 2_147_483_647;

/// Checks the security context of a pod.
pub(super) fn pod(c: &mut Check, spec: &Value) {
    c.some(spec, "securityContext", |c, context| {
        for field in ["fsGroup", "runAsUser", "runAsGroup"] {
            c.range(context, field, 0, MAX_ID);
        }
        c.each(context, "supplementalGroups", |c, id| {
            let id = id.as_i64().unwrap_or(0);
            if !(0..=MAX_ID).contains(&id) {
                c.here().invalid(id, &crate::kinds::check::between(0, MAX_ID));
            }
        });
        if is_true(spec, "shareProcessNamespace") && is_true(spec, "hostPID") {
            let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
            c.at("shareProcessNamespace").invalid(true, detail);
        }
        sysctls(c, spec, context);
        c.one_of_if_set(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
        profiles(c, context);
        c.one_of_if_set(context, "supplementalGroupsPolicy", &["Merge", "Strict"]);
        c.one_of_if_set(context, "seLinuxChangePolicy", &["MountOption", "Recursive"]);
    });
}

/// Checks the security context of a container.
pub(super) fn container(c: &mut Check, pod: &Pod<'_>, container: &Value) {
    c.some(container, "securityContext", |c, context| {
        c.range(context, "runAsUser", 0, MAX_ID);
        c.range(context, "runAsGroup", 0, MAX_ID);
        c.one_of_if_set(context, "procMount", &["Default", "Unmasked"]);
        if context.str_at(&["procMount"]) == Some("Unmasked") && pod.host_users {
            c.at("procMount").invalid("Unmasked", "`hostUsers` must be false to use `Unmasked`");
        }
        if context.bool_at(&["allowPrivilegeEscalation"]) == Some(false) {
            if is_true(context, "privileged") {
                let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
                c.here().invalid(context.clone(), detail);
            }
            let added = context.array_at(&["capabilities", "add"]);
            if added.iter().any(|name| name.as_str() == Some("CAP_SYS_ADMIN")) {
                let detail =
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
                c.here().invalid(context.clone(), detail);
            }
        }
        profiles(c, context);
    });
}

fn profiles(c: &mut Check, context: &Value) {
    c.some(context, "seccompProfile", |c, profile| {
        if profile_type(c, profile, "type is required when seccompProfile is set") {
            match profile.str_at(&["localhostProfile"]) {
                None => c.at("localhostProfile").required("must be set when seccomp type is Localhost"),
                Some(path) => c.at("localhostProfile").obeys(path, local_path),
            }
        } else if is_set(profile, "localhostProfile") {
            let detail = "can only be set when seccomp type is Localhost";
            c.at("localhostProfile").invalid(profile.clone(), detail);
        }
    });
    c.some(context, "appArmorProfile", |c, profile| {
        if profile_type(c, profile, "type is required when appArmorProfile is set") {
            let name = text(profile, "localhostProfile");
            if name.trim().is_empty() {
                c.at("localhostProfile").required("must be set when AppArmor type is Localhost");
            } else if name.trim() != name {
                c.at("localhostProfile").invalid(name, "must not be padded with whitespace");
            }
            if name.len() > 4095 {
                c.at("localhostProfile").too_long(4095);
            }
        } else if is_set(profile, "localhostProfile")
            && matches!(text(profile, "type"), "RuntimeDefault" | "Unconfined")
        {
            let detail = "can only be set when AppArmor type is Localhost";
            c.at("localhostProfile").invalid(text(profile, "localhostProfile"), detail);
        }
    });
}

/// Whether the profile is one of the node's own.
fn profile_type(c: &mut Check, profile: &Value, absent: &str) -> bool {
    match text(profile, "type") {
        "Localhost" => return true,
        "" => c.at("type").required(absent),
        _ => c.one_of(profile, "type", &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    false
}

fn sysctls(c: &mut Check, spec: &Value, context: &Value) {
    let mut seen = HashSet::new();
    c.each(context, "sysctls", |c, sysctl| {
        let Some(name) = c.require(sysctl, "name") else { return };
        if !is_sysctl(name) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            c.at("name").invalid(name, detail);
        } else if !seen.insert(name) {
            c.at("name").duplicate(name);
        }
        match sysctl_namespace(name) {
            Some("net") if is_true(spec, "hostNetwork") => {
                c.at("name").invalid(name, "may not be specified when 'hostNetwork' is true");
            }
            Some("ipc") if is_true(spec, "hostIPC") => {
                c.at("name").invalid(name, "may not be specified when 'hostIPC' is true");
            }
            _ => {}
        }
    });
}

fn is_sysctl(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let segment = |s: &str| {
        !s.is_empty() && s.bytes().all(inner) && !s.starts_with(['-', '_']) && !s.ends_with(['-', '_'])
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

/// The namespace that a kernel parameter belongs to.
fn sysctl_namespace(name: &str) -> Option<&'static str> {
    let name = name.replace('/', ".");
    match name.as_str() {
        "kernel.sem" => Some("ipc"),
        name if name.starts_with("net.") => Some("net"),
        name if ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p)) => Some("ipc"),
        _ => None,
    }
}

/// What a pod in a user namespace of its own cannot share with the host.
pub(super) fn host_users(c: &mut Check, pod: &Pod<'_>) {
    if pod.host_users {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if is_true(pod.spec, field) {
            c.at(shown).forbidden(detail);
        }
    }
    for list in super::containers::LISTS {
        c.each(pod.spec, list, |c, container| {
            if !container.array_at(&["volumeDevices"]).is_empty() {
                c.at("volumeDevices").forbidden(detail);
            }
        });
    }
}

const WINDOWS_POD: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
];

const WINDOWS_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// What the named operating system does not have.
pub(super) fn operating_system(c: &mut Check, spec: &Value) {
    let Some(os) = spec.get("os").filter(|os| !os.is_null()) else { return };
    let (of_pod, of_container, detail): (&[&str], &[&str], _) = match text(os, "name") {
        "" => return c.at("os").field("name").required(""),
        "linux" => {
            (&["windowsOptions"], &["windowsOptions"], "windows options cannot be set for a linux pod")
        }
        "windows" => (&WINDOWS_POD, &WINDOWS_CONTAINER, "cannot be set for a windows pod"),
        other => return c.at("os").not_supported(other, &["linux", "windows"]),
    };
    let refuse = |c: &mut Check, context: &Value, fields: &[&str]| {
        for field in fields.iter().filter(|field| is_set(context, field)) {
            c.at(field).forbidden(detail);
        }
    };
    c.field(spec, "securityContext", |c, context| refuse(c, context, of_pod));
    if text(os, "name") == "windows" {
        refuse(c, spec, &["hostUsers", "shareProcessNamespace"]);
        for field in ["hostPID", "hostIPC"].iter().filter(|field| is_true(spec, field)) {
            c.at(field).forbidden(detail);
        }
    }
    for list in super::containers::LISTS {
        c.each(spec, list, |c, container| {
            c.field(container, "securityContext", |c, context| refuse(c, context, of_container));
        });
    }
}

/// Profiles that older annotations name have to say the same as the fields.
pub(super) fn annotations(c: &mut Check, metadata: &Value, spec: &Value) {
    let annotation = |key: &str| metadata.str_at(&["annotations", key]);
    let pod = annotation("seccomp.security.alpha.kubernetes.io/pod");
    c.field(spec, "securityContext", |c, context| seccomp_matches(c, context, pod));
    for list in super::containers::LISTS {
        c.each(spec, list, |c, container| {
            let key = format!("container.seccomp.security.alpha.kubernetes.io/{}", text(container, "name"));
            let named = annotation(&key);
            c.field(container, "securityContext", |c, context| seccomp_matches(c, context, named));
        });
    }
}

fn seccomp_matches(c: &mut Check, context: &Value, annotation: Option<&str>) {
    let (Some(annotation), Some(profile)) = (annotation, context.get("seccompProfile")) else { return };
    let differs = "seccomp type in annotation and field must match";
    c.within("seccompProfile", |c| match text(profile, "type") {
        "Unconfined" if annotation != "unconfined" => c.at("type").forbidden(differs),
        "RuntimeDefault" if !matches!(annotation, "runtime/default" | "docker/default") => {
            c.at("type").forbidden(differs);
        }
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => c.at("type").forbidden(differs),
            Some(path) if path != text(profile, "localhostProfile") => {
                c.at("localhostProfile").forbidden("seccomp profile in annotation and field must match");
            }
            Some(_) => {}
        },
        _ => {}
    });
}

/// The names of the host that a pod may not take.
pub(super) fn host_name(c: &mut Check, spec: &Value) {
    let Some(name) = spec.str_at(&["hostnameOverride"]) else { return };
    for field in ["setHostnameAsFQDN", "hostNetwork"].iter().filter(|field| is_true(spec, field)) {
        c.at("hostnameOverride").forbidden(&format!("may not be specified when {field} is true"));
    }
    if name.len() > 64 {
        c.at("hostnameOverride").too_long(64);
    }
    c.at("hostnameOverride").obeys(name, names::dns_subdomain);
}

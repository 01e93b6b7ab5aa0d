//! The checks of the level `baseline`: nothing that is known to lead out of a container.

use super::{Names, Pod, Setters, Values, Violation, name, plural, quoted, security};
use crate::Value;

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Capabilities that containers have anyway.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kernel settings that are a pod's own, and from which minor version on they count as such.
const SYSCTLS: [(u64, &str); 12] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = Values::default();
    let setters = pod.setters(|holder| {
        let ty =
            profile(holder, "appArmorProfile").filter(|ty| !matches!(*ty, "RuntimeDefault" | "Localhost"));
        ty.into_iter().for_each(|ty| values.add(ty));
        ty.is_some()
    });
    let is_bad = |(key, value): &(&str, &str)| {
        let is_good = matches!(*value, "" | "runtime/default") || value.starts_with("localhost/");
        key.starts_with(APP_ARMOR) && !is_good
    };
    let mut annotations: Vec<String> =
        pod.annotations().filter(is_bad).map(|(key, value)| format!("{key}={value:?}")).collect();
    annotations.sort();
    let mut who: Vec<String> = Vec::new();
    who.extend((!setters.is_empty()).then(|| setters.to_string()));
    who.extend(
        (!annotations.is_empty()).then(|| plural(annotations.len(), "annotation", "annotations").into()),
    );
    if who.is_empty() {
        return None;
    }
    let all: Vec<&String> = values.0.iter().chain(&annotations).collect();
    let reason = plural(all.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    let who = who.join(" and ");
    Some(Violation::new(reason, format!("{who} must not set AppArmor profile type to {}", quoted(&all))))
}

/// The type of a profile, if there is one.
pub(super) fn profile<'a>(holder: &'a Value, field: &str) -> Option<&'a str> {
    security(holder, field).map(|profile| profile.str_at(&["type"]).unwrap_or_default())
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let mut found = Values::default();
    let containers = pod
        .containers_that(|container| adds_other(container, |name| CAPABILITIES.contains(&name), &mut found));
    violation(&containers, "non-default capabilities", || {
        format!("must not include {} in securityContext.capabilities.add", found.quoted())
    })
}

/// Whether a container adds capabilities that it may not, which are noted.
pub(super) fn adds_other(container: &Value, may: impl Fn(&str) -> bool, found: &mut Values) -> bool {
    let added = container.array_at(&["securityContext", "capabilities", "add"]).iter();
    let mut any = false;
    for other in added.filter_map(Value::as_str).filter(|name| !may(name)) {
        found.add(other);
        any = true;
    }
    any
}

/// The violation of containers that do something, if any do.
fn violation(containers: &Names<'_>, reason: &str, what: impl FnOnce() -> String) -> Option<Violation> {
    (!containers.is_empty()).then(|| Violation::new(reason, format!("{containers} {}", what())))
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let asked: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec.bool_at(&[field]) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    (!asked.is_empty()).then(|| Violation::new("host namespaces", asked.join(", ")))
}

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let is_host = |volume: &&Value| volume.get("hostPath").is_some_and(|path| !path.is_null());
    let volumes: Vec<&str> = pod.spec.array_at(&["volumes"]).iter().filter(is_host).map(name).collect();
    let detail = || format!("{} {}", plural(volumes.len(), "volume", "volumes"), quoted(&volumes));
    (!volumes.is_empty()).then(|| Violation::new("hostPath volumes", detail()))
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut found = Values::default();
    let containers = pod.containers_that(|container| {
        let ports = container.array_at(&["ports"]).iter().filter_map(|port| port.i64_at(&["hostPort"]));
        let ports: Vec<i64> = ports.filter(|port| *port != 0).collect();
        ports.iter().for_each(|port| found.add(port.to_string()));
        !ports.is_empty()
    });
    violation(&containers, "hostPort", || {
        let ports = plural(found.len(), "hostPort", "hostPorts");
        format!("{} {ports} {}", containers.uses(), found.plain())
    })
}

/// Probes and hooks speak to the pod, not to another host.
pub(super) fn handler_hosts(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = Values::default();
    let mut containers = pod.containers_that(|container| {
        let mut any = false;
        for handler in HANDLERS.iter().filter_map(|path| container.at(path)) {
            for how in ["httpGet", "tcpSocket"] {
                let host = handler.str_at(&[how, "host"]).filter(|host| !host.is_empty());
                host.into_iter().for_each(|host| hosts.add(host));
                any |= host.is_some();
            }
        }
        any
    });
    containers.0.sort_unstable();
    containers.0.dedup();
    violation(&containers, "probe or lifecycle host", || {
        let what = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
        format!("{} {what} {}", containers.uses(), hosts.quoted())
    })
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let containers =
        pod.containers_that(|c| security(c, "privileged").and_then(Value::as_bool) == Some(true));
    violation(&containers, "privileged", || "must not set securityContext.privileged=true".into())
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut found = Values::default();
    let containers = pod.containers_that(|container| {
        let other = security(container, "procMount").and_then(Value::as_str).filter(|how| *how != "Default");
        other.into_iter().for_each(|how| found.add(how));
        other.is_some()
    });
    violation(&containers, "procMount", || {
        format!("must not set securityContext.procMount to {}", found.quoted())
    })
}

pub(super) fn proc_mount_of_host_users(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

pub(super) fn selinux(pod: &Pod<'_>) -> Option<Violation> {
    selinux_of(pod, &SELINUX_TYPES[..4])
}

pub(super) fn selinux_with_engines(pod: &Pod<'_>) -> Option<Violation> {
    selinux_of(pod, &SELINUX_TYPES)
}

fn selinux_of(pod: &Pod<'_>, types: &[&str]) -> Option<Violation> {
    let mut found = Values::default();
    let (mut user, mut role) = (false, false);
    let setters = pod.setters(|holder| {
        let Some(options) = security(holder, "seLinuxOptions") else { return false };
        let text = |field: &str| options.str_at(&[field]).unwrap_or_default();
        let (ty, has_user, has_role) = (text("type"), !text("user").is_empty(), !text("role").is_empty());
        let other = !types.contains(&ty);
        if other {
            found.add(ty);
        }
        user |= has_user;
        role |= has_role;
        other || has_user || has_role
    });
    if setters.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if found.len() > 0 {
        what.push(format!("{} {}", plural(found.len(), "type", "types"), found.quoted()));
    }
    what.extend(user.then(|| "user may not be set".to_owned()));
    what.extend(role.then(|| "role may not be set".to_owned()));
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Some(Violation::new("seLinuxOptions", detail))
}

/// As profiles were chosen before there was a field.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let mut found = Values::default();
    let containers: Vec<&str> = pod.containers().map(name).collect();
    for (key, value) in pod.annotations() {
        let of_container =
            key.strip_prefix(SECCOMP_OF_CONTAINER).is_some_and(|name| containers.contains(&name));
        let is_good =
            matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        if (of_container || key == SECCOMP_OF_POD) && !is_good {
            found.add(format!("{key}={value:?}"));
        }
    }
    let what = plural(found.len(), "annotation", "annotations");
    (found.len() > 0).then(|| Violation::new("seccompProfile", format!("forbidden {what} {}", found.plain())))
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let (setters, found) = bad_seccomp(pod);
    (!setters.is_empty()).then(|| seccomp_violation(&setters, &found))
}

/// Who chooses a profile that is none.
pub(super) fn bad_seccomp<'a>(pod: &Pod<'a>) -> (Setters<'a>, Values) {
    let mut found = Values::default();
    let setters = pod.setters(|holder| {
        let bad =
            profile(holder, "seccompProfile").filter(|ty| !matches!(*ty, "RuntimeDefault" | "Localhost"));
        bad.into_iter().for_each(|ty| found.add(ty));
        bad.is_some()
    });
    (setters, found)
}

pub(super) fn seccomp_violation(setters: &Setters<'_>, found: &Values) -> Violation {
    let what = found.quoted();
    Violation::new(
        "seccompProfile",
        format!("{setters} must not set securityContext.seccompProfile.type to {what}"),
    )
}

pub(super) fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_at(pod, 0)
}

pub(super) fn sysctls_1_27(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_at(pod, 27)
}

pub(super) fn sysctls_1_29(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_at(pod, 29)
}

pub(super) fn sysctls_1_32(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_at(pod, 32)
}

fn sysctls_at(pod: &Pod<'_>, minor: u64) -> Option<Violation> {
    let is_own = |name: &&str| SYSCTLS.iter().any(|(since, own)| own == name && *since <= minor);
    let wanted = pod.spec.array_at(&["securityContext", "sysctls"]).iter().map(name);
    let others: Vec<&str> = wanted.filter(|name| !is_own(name)).collect();
    (!others.is_empty()).then(|| Violation::new("forbidden sysctls", others.join(", ")))
}

pub(super) fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|holder| {
        security(holder, "windowsOptions").and_then(|options| options.bool_at(&["hostProcess"])) == Some(true)
    });
    (!setters.is_empty()).then(|| {
        let detail = format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
        Violation::new("hostProcess", detail)
    })
}

//! What this node does for no pod, or only when whoever runs it has allowed it.
//!
//! A pod that asks for more than it gets would run with less than it relies on, or open the machine: it waits instead,
//! with the reason in its status, and runs once the reason is gone.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::plan;

/// Ways to weaken a pod's isolation that whoever runs the node can allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dangers {
    /// Pods may use the host's network, its loopback included.
    pub host_network: bool,
    /// Containers may make every system call that the kernel allows their user.
    pub unconfined: bool,
    /// Containers may see the files of `/proc` that are masked.
    pub unmasked: bool,
}

/// Why this node does not run the pod, and what to do about it; `None` if it does.
#[must_use]
pub fn refusal(pod: &Pod, allowed: Dangers) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let containers = plan::init_containers(pod).iter().chain(plan::containers(pod));
    of_pod(spec, allowed)
        .or_else(|| containers.into_iter().find_map(|container| refusal_of(pod, container, allowed)))
}

/// Why this node does not run a container of the pod; one that was added to a running pod included.
#[must_use]
pub fn refusal_of(pod: &Pod, container: &Container, allowed: Dangers) -> Option<String> {
    let asked = of_container(container, pod.spec.as_ref()?, allowed)?;
    Some(format!("container {}: {asked}", container.name))
}

/// A field that weakens isolation, and is not allowed here.
fn danger(field: &str, flag: &str) -> String {
    format!("{field} is not allowed on this node; start it with --danger-allow {flag} to allow it")
}

fn unsupported(field: &str, instead: &str) -> String {
    format!("{field} is not supported by this node; {instead}")
}

fn of_pod(spec: &PodSpec, allowed: Dangers) -> Option<String> {
    let security = spec.security_context.as_ref();
    let windows = spec.os.as_ref().is_some_and(|os| os.name != "linux");
    let strict = security.and_then(|s| s.supplemental_groups_policy.as_deref()) == Some("Strict");
    let claims = spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty());
    let all = [
        (spec.host_network == Some(true) && !allowed.host_network, danger("hostNetwork", "host-network")),
        (spec.host_pid == Some(true), unsupported("hostPID", "its pods see their own processes only")),
        (spec.host_ipc == Some(true), unsupported("hostIPC", "its pods share memory among themselves only")),
        (windows, unsupported("an os other than linux", "choose another node")),
        (spec.set_hostname_as_fqdn == Some(true), unsupported("setHostnameAsFQDN", "leave it out")),
        (strict, unsupported("supplementalGroupsPolicy Strict", "use Merge")),
        (claims, unsupported("a resource claim", "it has no device drivers")),
    ];
    all.into_iter().find_map(|(asked, why)| asked.then_some(why))
}

fn of_container(container: &Container, pod: &PodSpec, allowed: Dangers) -> Option<String> {
    let security = container.security_context.clone().unwrap_or_default();
    let of_pod = pod.security_context.clone().unwrap_or_default();
    let seccomp = security.seccomp_profile.or(of_pod.seccomp_profile);
    let seccomp = seccomp.map(|profile| profile.type_).unwrap_or_default();
    let app_armor = security.app_armor_profile.or(of_pod.app_armor_profile);
    let host_port = container.ports.iter().flatten().find_map(|p| p.host_port.filter(|port| *port != 0));
    let host_port = host_port.filter(|_| pod.host_network != Some(true)).unwrap_or(0);
    let mounts = || container.volume_mounts.iter().flatten();
    let shared = mounts().any(|m| m.mount_propagation.as_deref().is_some_and(|p| p != "None"));
    let recursive = mounts().any(|m| m.recursive_read_only.as_deref() == Some("Enabled"));
    let devices = container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty());
    let once = container.restart_policy.is_some() && !plan::stays(container);
    let rules = container.restart_policy_rules.as_ref().is_some_and(|rules| !rules.is_empty());
    let all = [
        (
            security.privileged == Some(true),
            unsupported("a privileged container", "add the capabilities it needs"),
        ),
        (seccomp == "Unconfined" && !allowed.unconfined, danger("seccompProfile Unconfined", "unconfined")),
        (
            security.proc_mount.as_deref() == Some("Unmasked") && !allowed.unmasked,
            danger("procMount Unmasked", "unmasked"),
        ),
        (seccomp == "Localhost", unsupported("a seccomp profile of the host", "use RuntimeDefault")),
        (
            app_armor.is_some_and(|profile| profile.type_ == "Localhost"),
            unsupported("an AppArmor profile of the host", "use RuntimeDefault"),
        ),
        (host_port != 0, unsupported(&format!("hostPort {host_port}"), "use a Service of type NodePort")),
        (shared, unsupported("mountPropagation", "its mounts are private")),
        (recursive, unsupported("recursiveReadOnly Enabled", "use IfPossible")),
        (devices, unsupported("a block volume", "use a file system")),
        (once, unsupported("a container's restartPolicy", "set the pod's")),
        (rules, unsupported("restartPolicyRules", "set the pod's restartPolicy")),
    ];
    all.into_iter().find_map(|(asked, why)| asked.then_some(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_node_does_not_do() {
        let check = |spec: serde_json::Value, allowed: Dangers, want: Option<&str>| {
            let pod: Pod = serde_json::from_value(json!({ "spec": spec })).expect("a pod");
            let got = refusal(&pod, allowed);
            assert_eq!(got.is_some(), want.is_some(), "{spec}: {got:?}");
            assert!(got.unwrap_or_default().contains(want.unwrap_or_default()), "{spec}");
        };
        let none = Dangers::default();
        let all = Dangers { host_network: true, unconfined: true, unmasked: true };
        let one =
            |field: &str, value: serde_json::Value| json!({"containers": [{"name": "a", field: value}]});
        let with = |value: serde_json::Value| one("securityContext", value);
        check(one("image", json!("x")), none, None);
        let host = json!({"hostNetwork": true,
                          "containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
        check(host.clone(), none, Some("--danger-allow host-network"));
        check(host, all, None);
        check(json!({"hostPID": true, "containers": []}), all, Some("hostPID"));
        check(one("ports", json!([{"containerPort": 80, "hostPort": 80}])), all, Some("hostPort 80"));
        let unconfined = json!({"seccompProfile": {"type": "Unconfined"}});
        check(with(unconfined.clone()), none, Some("container a: seccompProfile Unconfined is not allowed"));
        check(with(unconfined.clone()), all, None);
        check(
            json!({"securityContext": unconfined, "containers": [{"name": "a"}]}),
            none,
            Some("Unconfined"),
        );
        check(with(json!({"procMount": "Unmasked"})), none, Some("--danger-allow unmasked"));
        check(with(json!({"privileged": true})), all, Some("privileged"));
        check(one("restartPolicy", json!("Never")), all, Some("restartPolicy"));
        let sidecar = json!({"containers": [], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
        check(sidecar, none, None);
        let mount = json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]);
        check(one("volumeMounts", mount), all, Some("mountPropagation"));
        let debugger: Pod =
            serde_json::from_value(json!({"spec": {"containers": [], "ephemeralContainers": [
            {"name": "e", "securityContext": {"privileged": true}}]}}))
            .expect("a pod");
        assert_eq!(refusal(&debugger, none), None);
        let refused = refusal_of(&debugger, &plan::spec(&debugger, "e").expect("it is there"), all);
        assert!(
            refused
                .is_some_and(|why| why.starts_with("container e: a privileged container is not supported"))
        );
    }
}

//! What the author of a pod, or of a template for pods, is warned of.

use super::containers::LISTS;
use crate::kinds::check::{Check, filled, is_set, number, text};
use crate::kinds::warnings::{
    address, address_here, claim, host_name, node_expressions, node_label, whole_bytes,
};
use crate::kinds::warnings::{annotations, warned};
use crate::{FieldPath, Map, Value, meta};

/// Warns of a new pod. Updates come from programs, which do not read.
pub(super) fn of_pod(pod: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    warned(|c| {
        host_name(c, meta::name(pod), "the Pod's hostname");
        holder(c, pod, false);
    })
}

/// Warns of the template that the walk stands at.
pub(in crate::kinds) fn template(c: &mut Check, template: &Value) {
    holder(c, template, true);
}

const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

/// Volumes that no longer work.
const GONE: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Warns of what has metadata and the specification of a pod.
fn holder(c: &mut Check, holder: &Value, is_template: bool) {
    c.field(holder, "spec", scheduling);
    annotations(
        c,
        holder,
        &[
            (
                "scheduler.alpha.kubernetes.io/critical-pod",
                "non-functional in v1.16+; use the \"priorityClassName\" field instead",
            ),
            (
                "security.alpha.kubernetes.io/sysctls",
                "non-functional in v1.11+; use the \"sysctls\" field instead",
            ),
            (
                "security.alpha.kubernetes.io/unsafe-sysctls",
                "non-functional in v1.11+; use the \"sysctls\" field instead",
            ),
        ],
    );
    c.field(holder, "spec", |c, spec| {
        c.each(spec, "volumes", |c, volume| {
            for (field, reported, message) in GONE {
                if is_set(volume, field) {
                    c.at(reported).warn(message);
                }
            }
            c.some(volume, "ephemeral", |c, source| {
                c.some(source, "volumeClaimTemplate", |c, template| c.field(template, "spec", claim));
            });
        });
    });
    super::overlaps::warn(c, holder);
    c.field(holder, "spec", |c, spec| {
        repeats(c, spec, "hostAliases", "ip");
        repeats(c, spec, "imagePullSecrets", "name");
        c.each(spec, "imagePullSecrets", |c, secret| {
            if filled(secret, "name").is_none() {
                c.at("name").warn("invalid empty name \"\"");
            }
        });
        whole_bytes(c, spec.get("overhead"), &["overhead"], &BYTES);
    });
    if holder.at(&["spec", "securityContext", "seccompProfile"]).is_none() {
        annotations(c, holder, &[(SECCOMP_POD, SECCOMP)]);
    }
    each_container(
        c,
        holder,
        |c, container| {
            if container.at(&["securityContext", "seccompProfile"]).is_none() {
                annotations(
                    c,
                    holder,
                    &[(&format!("{SECCOMP_CONTAINER}{}", text(container, "name")), SECCOMP)],
                );
            }
            if is_template {
                app_armor(c, holder, container);
            }
        },
        |c, container| {
            for list in ["limits", "requests"] {
                whole_bytes(c, container.at(&["resources", list]), &["resources", list], &BYTES);
            }
            hidden_variables(c, container);
        },
    );
    ports(c, holder);
    c.field(holder, "spec", |c, spec| {
        if number(spec, "terminationGracePeriodSeconds").is_some_and(|n| n < 0) {
            c.at("terminationGracePeriodSeconds")
                .warn("must be >= 0; negative values are invalid and will be treated as 1");
        }
        pod_affinity(c, spec);
        c.some(spec, "dnsConfig", |c, config| {
            c.each(config, "nameservers", |c, server| address_here(c, server.as_str().unwrap_or_default()));
        });
        c.each(spec, "hostAliases", |c, alias| address(c, alias, "ip"));
    });
}

/// Walks all containers: first where the pod stands, then where the container does.
fn each_container(
    c: &mut Check,
    holder: &Value,
    outside: impl Fn(&mut Check, &Value),
    mut inside: impl FnMut(&mut Check, &Value),
) {
    for list in LISTS {
        for (i, container) in holder.array_at(&["spec", list]).iter().enumerate() {
            outside(c, container);
            c.within("spec", |c| c.within(list, |c| c.within_index(i, |c| inside(c, container))));
        }
    }
}

fn scheduling(c: &mut Check, spec: &Value) {
    for label in spec.object_at(&["nodeSelector"]).into_iter().flat_map(Map::keys) {
        if let Some(message) = node_label(label) {
            c.at("nodeSelector").key(label).warn(message);
        }
    }
    c.some(spec, "affinity", |c, affinity| {
        c.some(affinity, "nodeAffinity", |c, nodes| {
            c.some(nodes, "requiredDuringSchedulingIgnoredDuringExecution", |c, selector| {
                c.each(selector, "nodeSelectorTerms", |c, term| node_expressions(c, term, false));
            });
            c.each(nodes, "preferredDuringSchedulingIgnoredDuringExecution", |c, term| {
                c.field(term, "preference", |c, term| node_expressions(c, term, true));
            });
        });
    });
    c.each(spec, "topologySpreadConstraints", |c, constraint| {
        let key = text(constraint, "topologyKey");
        if let Some(message) = node_label(key) {
            c.at("topologyKey").warn(format!("{key} is {message}"));
        }
        if !is_set(constraint, "labelSelector") {
            c.at("labelSelector").warn(NO_SELECTOR);
        }
    });
}

fn pod_affinity(c: &mut Check, spec: &Value) {
    let missing = |c: &mut Check, term: &Value| {
        if !is_set(term, "labelSelector") {
            c.at("labelSelector").warn(NO_SELECTOR);
        }
    };
    c.some(spec, "affinity", |c, affinity| {
        for kind in ["podAffinity", "podAntiAffinity"] {
            c.some(affinity, kind, |c, pods| {
                c.each(pods, "requiredDuringSchedulingIgnoredDuringExecution", missing);
                c.each(pods, "preferredDuringSchedulingIgnoredDuringExecution", |c, term| {
                    c.field(term, "podAffinityTerm", missing);
                });
            });
        }
    });
}

fn repeats(c: &mut Check, spec: &Value, list: &str, field: &str) {
    let mut seen = Vec::new();
    c.each(spec, list, |c, item| {
        let value = text(item, field);
        if seen.contains(&value) {
            c.at(field).warn(format!("duplicate {field} {value:?}"));
        }
        seen.push(value);
    });
}

/// An annotation that says what the field for it does not.
fn app_armor(c: &mut Check, holder: &Value, container: &Value) {
    let key = format!("{APP_ARMOR}{}", text(container, "name"));
    let Some(annotation) = holder.str_at(&["metadata", "annotations", &key]) else { return };
    let of_pod = holder.at(&["spec", "securityContext", "appArmorProfile"]);
    let agrees = of_pod.is_some_and(|profile| match (text(profile, "type"), annotation) {
        ("Unconfined", "unconfined") | ("RuntimeDefault", "runtime/default") => true,
        ("Localhost", name) => name.strip_prefix("localhost/") == Some(text(profile, "localhostProfile")),
        _ => false,
    });
    if container.at(&["securityContext", "appArmorProfile"]).is_none() && !agrees {
        let message = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
        annotations(c, holder, &[(&key, message)]);
    }
}

/// A variable may be set anew only by what builds on its old value.
fn hidden_variables(c: &mut Check, container: &Value) {
    let mut seen = Vec::new();
    c.each(container, "env", |c, variable| {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        let reference = format!("$({name})");
        let builds = !is_set(variable, "valueFrom") && value != reference && value.contains(&reference);
        if seen.contains(&name) && !builds {
            c.here().warn(format!(
                "hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
        seen.push(name);
    });
}

/// Ports that are there twice, in one container or in two.
fn ports(c: &mut Check, holder: &Value) {
    let mut all: Vec<(FieldPath, &Value)> = Vec::new();
    let mut named: Vec<(FieldPath, &str)> = Vec::new();
    for list in LISTS {
        for (i, container) in holder.array_at(&["spec", list]).iter().enumerate() {
            let at = |c: &Check| c.path().field("spec").field(list).index(i).field("ports");
            for (j, port) in container.array_at(&["ports"]).iter().enumerate() {
                let here = at(c).index(j);
                c.within("spec", |c| {
                    c.within(list, |c| {
                        c.within_index(i, |c| {
                            c.within("ports", |c| c.within_index(j, |c| port_warnings(c, port, &all)));
                        });
                    });
                });
                all.push((here, port));
            }
        }
    }
    for (here, port) in &all {
        let Some(name) = filled(port, "name") else { continue };
        if let Some((other, _)) = named.iter().find(|(_, other)| *other == name) {
            let message = format!(
                "duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
            );
            c.warn_at(here.clone(), message);
        } else {
            named.push((here.clone(), name));
        }
    }
}

fn port_warnings(c: &mut Check, port: &Value, before: &[(FieldPath, &Value)]) {
    let host = |port: &Value| number(port, "hostPort").unwrap_or(0);
    let same_port = |other: &Value| {
        number(other, "containerPort") == number(port, "containerPort")
            && text(other, "protocol") == text(port, "protocol")
    };
    let ip = text(port, "hostIP");
    if !ip.is_empty() && host(port) == 0 {
        c.here().warn(format!(
            "hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
            text(port, "name"),
            number(port, "containerPort").unwrap_or(0),
            text(port, "protocol"),
        ));
    }
    for (path, other) in before.iter().filter(|(_, other)| same_port(other)) {
        let other_ip = text(other, "hostIP");
        let what = if ip == other_ip && host(port) == host(other) {
            "duplicate"
        } else if host(port) == 0 || host(other) == 0 {
            "overlapping"
        } else if host(port) == host(other) && ip.is_empty() != other_ip.is_empty() {
            "dangerously ambiguous"
        } else {
            continue;
        };
        c.here().warn(format!("{what} port definition with {path}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{json, with};

    fn check(changes: &[(&str, &str)], want: &[&str]) {
        let base = json(r#"{"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}"#);
        assert_eq!(of_pod(&with(&base, changes), None), want, "{changes:?}");
    }

    #[test]
    fn names_and_nodes() {
        check(&[], &[]);
        let warnings = of_pod(&json(r#"{"metadata": {"name": "a.b"}}"#), None);
        let start = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS \
                     label is recommended: [";
        assert!(warnings[0].starts_with(start), "{warnings:?}");
        assert!(of_pod(&json(r#"{"metadata": {"name": "a.b"}}"#), Some(&Value::Null)).is_empty());
        check(
            &[
                ("spec.nodeSelector", r#"{"beta.kubernetes.io/os": "linux"}"#),
                (
                    "spec.affinity",
                    r#"{"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"preference":
                        {"matchExpressions": [{"key": "a", "values": ["a b"]}]}}]}, "podAffinity":
                        {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}"#,
                ),
                ("spec.topologySpreadConstraints", r#"[{"topologyKey": "beta.kubernetes.io/arch"}]"#),
            ],
            &[
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: a b is invalid, a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                "spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        );
    }

    #[test]
    fn volumes_and_annotations() {
        check(
            &[
                (
                    "spec.volumes",
                    r#"[{"name": "a", "gitRepo": {}}, {"name": "b", "ephemeral": {"volumeClaimTemplate":
                    {"spec": {"resources": {"requests": {"storage": "1m"}}}}}}]"#,
                ),
                (
                    "metadata.annotations",
                    r#"{"security.alpha.kubernetes.io/sysctls": "", "seccomp.security.alpha.kubernetes.io/pod": "",
                        "container.seccomp.security.alpha.kubernetes.io/c": "",
                        "container.apparmor.security.beta.kubernetes.io/c": "unconfined"}"#,
                ),
                ("spec.hostAliases", r#"[{"ip": "::0"}, {"ip": "::0"}]"#),
                ("spec.imagePullSecrets", r#"[{"name": "a"}, {"name": "a"}, {}]"#),
                ("spec.overhead", r#"{"memory": "1m"}"#),
                ("spec.terminationGracePeriodSeconds", "-1"),
            ],
            &[
                "metadata.annotations[security.alpha.kubernetes.io/sysctls]: non-functional in v1.11+; use the \"sysctls\" field instead",
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "spec.volumes[1].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value \"1m\" is invalid, must be an integer",
                "spec.hostAliases[1].ip: duplicate ip \"::0\"",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
                "spec.overhead[memory]: fractional byte value \"1m\" is invalid, must be an integer",
                "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                "metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                "spec.hostAliases[0].ip: IPv6 address \"::0\" should be in RFC 5952 canonical format (\"::\")",
                "spec.hostAliases[1].ip: IPv6 address \"::0\" should be in RFC 5952 canonical format (\"::\")",
            ],
        );
        let annotated = |profile: &str| {
            json(&format!(
                r#"{{"metadata": {{"annotations": {{"container.apparmor.security.beta.kubernetes.io/c": "localhost/x"}}}},
                    "spec": {{"containers": [{{"name": "c"}}], "securityContext": {{"appArmorProfile": {profile}}}}}}}"#
            ))
        };
        let count = |profile: &str| warned(|c| template(c, &annotated(profile))).len();
        assert_eq!(count(r#"{"type": "Localhost", "localhostProfile": "x"}"#), 0);
        assert_eq!(count(r#"{"type": "Unconfined"}"#), 1);
    }

    #[test]
    fn containers() {
        check(
            &[
                (
                    "spec.containers.0.env",
                    r#"[{"name": "A", "value": "a"}, {"name": "A", "value": "$(A):b"}, {"name": "A",
                    "value": "c"}, {"name": "A", "valueFrom": {}}]"#,
                ),
                ("spec.containers.0.resources", r#"{"limits": {"memory": "1500m", "cpu": "1m"}}"#),
                (
                    "spec.containers.0.ports",
                    r#"[{"name": "p", "containerPort": 80, "protocol": "TCP"}, {"name": "p",
                    "containerPort": 80, "protocol": "TCP", "hostPort": 80}]"#,
                ),
                (
                    "spec.containers.1",
                    r#"{"name": "d", "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort":
                    80, "protocol": "TCP", "hostPort": 80, "hostIP": "1.2.3.4"}, {"containerPort": 1, "protocol": "TCP",
                    "hostIP": "1.2.3.4"}]}"#,
                ),
            ],
            &[
                "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].env[3]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[1]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[1].ports[0]",
                "spec.containers[1].ports[2]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol:TCP HostIP:1.2.3.4}",
                "spec.containers[0].ports[1]: duplicate port name \"p\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]",
            ],
        );
    }
}

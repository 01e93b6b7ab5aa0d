//! Rules for containers: of the pod's work, of its start, and for looking into it.

use std::collections::HashSet;

use super::check::Pod;
use super::{env, mounts, probes, requirements, security, volumes};
use crate::kinds::check::{Check, filled, is_set, number, text};
use crate::kinds::fill::is_zero;
use crate::kinds::syntax::port_name;
use crate::{Value, names};

/// The lists of containers of a pod, in the order in which they are walked.
pub(super) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Checks all containers of a pod.
pub(super) fn check(c: &mut Check, pod: &Pod<'_>) {
    regular(c, pod);
    init(c, pod);
    ephemeral(c, pod);
}

fn regular(c: &mut Check, pod: &Pod<'_>) {
    if pod.spec.array_at(&["containers"]).is_empty() {
        return c.at("containers").required("");
    }
    let mut seen = HashSet::new();
    c.each(pod.spec, "containers", |c, container| {
        common(c, pod, container);
        let name = text(container, "name");
        if !seen.insert(name) {
            c.at("name").duplicate(name);
        }
        probes::check(c, pod, container);
        restart_policy(c, container);
    });
    let mut ports = HashSet::new();
    c.each(pod.spec, "containers", |c, container| host_ports(c, container, &mut ports));
}

fn init(c: &mut Check, pod: &Pod<'_>) {
    let mut seen: HashSet<&str> = names_in(pod.spec, "containers").collect();
    c.each(pod.spec, "initContainers", |c, container| {
        common(c, pod, container);
        restart_policy(c, container);
        let name = text(container, "name");
        if !seen.insert(name) {
            c.at("name").duplicate(name);
        }
        host_ports(c, container, &mut HashSet::new());
        if super::resources::is_sidecar(container) {
            return probes::check(c, pod, container);
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if is_set(container, field) {
                c.at(field).forbidden("may not be set for init containers without restartPolicy=Always");
            }
        }
        c.each(container, "resizePolicy", |c, policy| {
            if text(policy, "restartPolicy") == "RestartContainer" {
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                c.at("restartPolicy").invalid("RestartContainer", detail);
            }
        });
    });
}

fn ephemeral(c: &mut Check, pod: &Pod<'_>) {
    const REFUSED: [&str; 7] = [
        "lifecycle",
        "livenessProbe",
        "ports",
        "readinessProbe",
        "resources",
        "restartPolicy",
        "startupProbe",
    ];
    let others: HashSet<&str> =
        names_in(pod.spec, "containers").chain(names_in(pod.spec, "initContainers")).collect();
    let mut seen = others.clone();
    c.each(pod.spec, "ephemeralContainers", |c, container| {
        common(c, pod, container);
        image_spaces(c, container);
        let name = text(container, "name");
        if !seen.insert(name) {
            c.at("name").duplicate(name);
        }
        if let Some(target) = filled(container, "targetContainerName").filter(|t| !others.contains(t)) {
            c.at("targetContainerName").not_found(target);
        }
        for field in REFUSED {
            let empty = |v: &Value| {
                v.is_null()
                    || is_zero(v)
                    || v.as_array().is_some_and(<[Value]>::is_empty)
                    || *v == Value::object()
            };
            if !container.get(field).is_none_or(empty) {
                c.at(field).forbidden("cannot be set for an Ephemeral Container");
            }
        }
        c.each(container, "volumeMounts", |c, mount| {
            for field in ["subPath", "subPathExpr"] {
                if filled(mount, field).is_some() {
                    c.at(field).forbidden("cannot be set for an Ephemeral Container");
                }
            }
        });
    });
}

fn names_in<'v>(spec: &'v Value, list: &str) -> impl Iterator<Item = &'v str> {
    spec.array_at(&[list]).iter().map(|container| text(container, "name"))
}

/// Rules that all containers share.
fn common(c: &mut Check, pod: &Pod<'_>, container: &Value) {
    c.require_name(container, "name", names::dns_label);
    c.require(container, "image");
    c.require_one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]);
    ports(c, container);
    env::check(c, container);
    mounts::mounts(c, pod, container);
    mounts::devices(c, pod, container);
    volumes::pull_policy(c, container, "imagePullPolicy");
    requirements::container(c, container, &pod.claims);
    resize_policy(c, pod, container);
    security::container(c, pod, container);
}

/// A pod's image has no space around it; a template's may, as a mark for tools that replace it.
pub(super) fn image_spaces(c: &mut Check, container: &Value) {
    let image = text(container, "image");
    if image.trim().len() != image.len() {
        c.at("image").invalid(image, "must not have leading or trailing whitespace");
    }
}

fn ports(c: &mut Check, container: &Value) {
    let mut seen = HashSet::new();
    c.each(container, "ports", |c, port| {
        if let Some(name) = filled(port, "name") {
            if port_name(name).is_err() {
                c.at("name").obeys(name, port_name);
            } else if !seen.insert(name) {
                c.at("name").duplicate(name);
            }
        }
        match number(port, "containerPort") {
            None | Some(0) => c.at("containerPort").required(""),
            Some(_) => c.range(port, "containerPort", 1, 65_535),
        }
        if number(port, "hostPort") != Some(0) {
            c.range(port, "hostPort", 1, 65_535);
        }
        c.require_one_of(port, "protocol", &["SCTP", "TCP", "UDP"]);
    });
}

fn host_ports(c: &mut Check, container: &Value, seen: &mut HashSet<String>) {
    c.each(container, "ports", |c, port| {
        let Some(number) = number(port, "hostPort").filter(|n| *n != 0) else { return };
        let identity = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
        if !seen.insert(identity.clone()) {
            c.at("hostPort").duplicate(identity);
        }
    });
}

fn resize_policy(c: &mut Check, pod: &Pod<'_>, container: &Value) {
    let mut seen = HashSet::new();
    for (i, policy) in container.array_at(&["resizePolicy"]).iter().enumerate() {
        c.within("resizePolicy", |c| {
            let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
            if !seen.insert(resource) {
                c.here().index(i).duplicate(resource);
            }
            for (value, allowed) in
                [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])]
            {
                if value.is_empty() {
                    c.here().required("");
                } else if !allowed.contains(&value) {
                    c.here().not_supported(value, &allowed);
                }
            }
            if text(pod.spec, "restartPolicy") == "Never" && restart != "NotRequired" {
                let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
                c.here().invalid(restart, detail);
            }
        });
    }
}

fn restart_policy(c: &mut Check, container: &Value) {
    let rules = container.array_at(&["restartPolicyRules"]);
    if is_set(container, "restartPolicy") {
        c.one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"]);
    } else if !rules.is_empty() {
        c.at("restartPolicy").required("must specify restartPolicy when restart rules are used");
    }
    if rules.len() > 20 {
        c.at("restartPolicyRules").too_many(rules.len(), 20);
    }
    c.each(container, "restartPolicyRules", |c, rule| {
        c.one_of(rule, "action", &["Restart", "RestartAllContainers"]);
        if !is_set(rule, "exitCodes") {
            return c.at("exitCodes").required("must be specified");
        }
        c.field(rule, "exitCodes", |c, codes| {
            c.one_of(codes, "operator", &["In", "NotIn"]);
            let values = codes.array_at(&["values"]).len();
            if values > 255 {
                c.at("values").too_many(values, 255);
            }
        });
    });
}

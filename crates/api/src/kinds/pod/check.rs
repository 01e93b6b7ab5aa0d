//! Rules for the specification of a pod, by itself or in a template.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{containers, env, requirements, scheduling, security, volumes};
use crate::error::Cause;
use crate::kinds::address;
use crate::kinds::check::{self, Check, filled, is_set, is_true, number, text};
use crate::names::{self, Fault};
use crate::{Map, Value};

/// What parts of a pod's specification are checked against.
pub(super) struct Pod<'v> {
    pub(super) spec: &'v Value,
    /// Volumes that are sound, by name.
    pub(super) volumes: BTreeMap<&'v str, &'v Value>,
    /// Names of claims to devices.
    pub(super) claims: BTreeSet<&'v str>,
    /// How long containers have to end, in seconds.
    pub(super) grace: Option<i64>,
    /// Whether it shares the host's users.
    pub(super) host_users: bool,
    /// Whether it is a pod's own, not a template's.
    pub(super) is_pod: bool,
}

/// What is wrong with a new pod.
pub(super) fn create(pod: &Value) -> Vec<Cause> {
    check::run(|c| {
        whole_pod(c, pod);
        c.field(pod, "spec", |c, spec| {
            if !spec.array_at(&["ephemeralContainers"]).is_empty() {
                c.at("ephemeralContainers").forbidden("cannot be set on create");
            }
            if filled(spec, "nodeName").is_some() && !spec.array_at(&["schedulingGates"]).is_empty() {
                c.at("nodeName").forbidden("cannot be set until all schedulingGates have been cleared");
            }
            security::annotations(c, pod.get("metadata").unwrap_or(&Value::Null), spec);
        });
    })
}

/// The rules that hold for a pod whether it is new or changed.
pub(super) fn whole_pod(c: &mut Check, pod: &Value) {
    let name = pod.str_at(&["metadata", "name"]).unwrap_or_default();
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let pod_spec = pod.get("spec").unwrap_or(&Value::Null);
    c.within("metadata", |c| annotations(c, metadata, pod_spec));
    c.field(pod, "spec", |c, s| {
        spec(c, s, name, true);
        if filled(s, "serviceAccountName").is_none() {
            c.each(s, "volumes", |c, volume| {
                c.field(volume, "projected", |c, projected| {
                    c.each(projected, "sources", |c, source| {
                        if is_set(source, "serviceAccountToken") {
                            let detail = "must not be specified when serviceAccountName is not set";
                            c.at("serviceAccountToken").forbidden(detail);
                        }
                    });
                });
            });
        }
        for list in ["containers", "initContainers"] {
            c.each(s, list, containers::image_spaces);
        }
    });
}

/// Checks a pod template where the walk stands.
pub(in crate::kinds) fn template(c: &mut Check, template: &Value) {
    let metadata = template.get("metadata").unwrap_or(&Value::Null);
    let pod_spec = template.get("spec").unwrap_or(&Value::Null);
    // Upstream leaves out `metadata` in these paths.
    c.labels(metadata, "labels");
    annotations(c, metadata, pod_spec);
    c.field(template, "spec", |c, s| {
        spec(c, s, "", false);
        security::annotations(c, metadata, s);
        if !s.array_at(&["ephemeralContainers"]).is_empty() {
            c.at("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template");
        }
    });
}

/// Annotations that mean something to a pod.
pub(super) fn annotations(c: &mut Check, metadata: &Value, spec: &Value) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    for key in metadata.object_at(&["annotations"]).into_iter().flat_map(Map::keys) {
        c.at("annotations").obeys(key, |key| names::qualified(&key.to_ascii_lowercase()));
    }
    let annotation = |key: &str| metadata.str_at(&["annotations", key]);
    if let (Some(value), None) = (annotation(MIRROR), filled(spec, "nodeName")) {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        c.at("annotations").key(MIRROR).invalid(value, detail);
    }
    if let Some(cost) = annotation(COST) {
        let signed = cost.strip_prefix('-').unwrap_or(cost);
        let plain = signed == "0" && cost == "0" || signed.starts_with(|d: char| matches!(d, '1'..='9'));
        if !plain || cost.parse::<i32>().is_err() {
            c.at("annotations").key(COST).invalid(cost, "must be a 32bit integer");
        }
    }
}

/// Checks a pod's specification where the walk stands; `name` is the pod's, empty in a template.
pub(super) fn spec(c: &mut Check, spec: &Value, name: &str, is_pod: bool) {
    let grace = number(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        c.at("terminationGracePeriodSeconds").required("");
    }
    let volumes = volumes::check(c, spec, name, is_pod);
    let claims =
        spec.array_at(&["resourceClaims"]).iter().map(|claim| text(claim, "name")).filter(|n| !n.is_empty());
    let pod = Pod {
        spec,
        volumes,
        claims: claims.collect(),
        grace,
        host_users: spec.bool_at(&["hostUsers"]) != Some(false),
        is_pod,
    };
    resource_claims(c, spec);
    containers::check(c, &pod);
    requirements::whole(c, spec);
    host_network(c, &pod);
    c.require_one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"]);
    c.require_one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    c.labels(spec, "nodeSelector");
    security::pod(c, spec);
    scheduling::affinity(c, spec);
    dns_config(c, spec);
    scheduling::gates(c, spec);
    scheduling::spread(c, spec);
    security::host_users(c, &pod);
    security::host_name(c, spec);
    plain_fields(c, spec);
    scheduling::tolerations(c, spec);
    host_aliases(c, spec);
    requirements::overhead(c, spec);
    security::operating_system(c, spec);
    for list in containers::LISTS {
        c.each(spec, list, |c, container| env::file_volumes(c, &pod, container));
    }
}

fn plain_fields(c: &mut Check, spec: &Value) {
    c.name(spec, "serviceAccountName", names::dns_subdomain);
    c.name(spec, "nodeName", names::dns_subdomain);
    c.range(spec, "activeDeadlineSeconds", 1, i32::MAX.into());
    c.name(spec, "hostname", names::dns_label);
    c.name(spec, "subdomain", names::dns_label);
    c.name(spec, "priorityClassName", names::dns_subdomain);
    if let Some(class) = spec.str_at(&["runtimeClassName"]) {
        c.at("runtimeClassName").obeys(class, names::dns_subdomain);
    }
    if is_set(spec, "preemptionPolicy") {
        c.require_one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    }
}

fn resource_claims(c: &mut Check, spec: &Value) {
    let mut seen = HashSet::new();
    c.each(spec, "resourceClaims", |c, claim| {
        if let Some(name) = c.require(claim, "name") {
            if seen.insert(name) {
                c.at("name").obeys(name, names::dns_label);
            } else {
                c.at("name").duplicate(name);
            }
        }
        let fault = match (is_set(claim, "resourceClaimName"), is_set(claim, "resourceClaimTemplateName")) {
            (true, true) => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            (false, false) => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => None,
        };
        if let Some(fault) = fault {
            c.here().invalid(claim.clone(), fault);
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if let Some(name) = claim.str_at(&[field]) {
                c.at(field).obeys(name, names::dns_subdomain);
            }
        }
    });
}

/// On the host's network, a container's port is the host's.
fn host_network(c: &mut Check, pod: &Pod<'_>) {
    if !is_true(pod.spec, "hostNetwork") {
        return;
    }
    c.each(pod.spec, "containers", |c, container| {
        c.each(container, "ports", |c, port| {
            let host = number(port, "hostPort").unwrap_or(0);
            let given = pod.is_pod || host != 0;
            if given && Some(host) != number(port, "containerPort") {
                c.at("hostPort").invalid(host, "must match `containerPort` when `hostNetwork` is true");
            }
        });
    });
}

fn host_aliases(c: &mut Check, spec: &Value) {
    c.each(spec, "hostAliases", |c, alias| {
        c.at("ip").obeys(text(alias, "ip"), |ip| address::ip(ip).map(|_| ()));
        c.each(alias, "hostnames", |c, name| {
            c.here().obeys(name.as_str().unwrap_or_default(), names::dns_subdomain);
        });
    });
}

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

fn dns_config(c: &mut Check, spec: &Value) {
    let none = text(spec, "dnsPolicy") == "None";
    if none && !is_set(spec, "dnsConfig") {
        return c.at("dnsConfig").required("must provide `dnsConfig` when `dnsPolicy` is None");
    }
    c.some(spec, "dnsConfig", |c, config| {
        let servers = config.array_at(&["nameservers"]);
        let searches = config.array_at(&["searches"]);
        if none && servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return c.at("nameservers").required(detail);
        }
        if servers.len() > MAX_NAMESERVERS {
            let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
            c.at("nameservers").invalid(servers.to_vec(), &detail);
        }
        c.each(config, "nameservers", |c, server| {
            c.here().obeys(server.as_str().unwrap_or_default(), |ip| address::ip(ip).map(|_| ()));
        });
        if searches.len() > MAX_SEARCHES {
            let detail = format!("must not have more than {MAX_SEARCHES} search paths");
            c.at("searches").invalid(searches.to_vec(), &detail);
        }
        let chars: usize = searches.iter().map(|s| s.as_str().map_or(0, str::len) + 1).sum();
        if chars > MAX_SEARCH_CHARS + 1 {
            let detail = format!(
                "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
            );
            c.at("searches").invalid(searches.to_vec(), &detail);
        }
        c.each(config, "searches", |c, search| {
            let search = search.as_str().unwrap_or_default();
            if search != "." {
                c.here().obeys(search.strip_suffix('.').unwrap_or(search), subdomain_with_underscores);
            }
        });
        c.each(config, "options", |c, option| {
            if filled(option, "name").is_none() {
                c.here().required("must not be empty");
            }
        });
    });
}

/// A subdomain whose labels may have underscores, as names of services in DNS do.
fn subdomain_with_underscores(text: &str) -> Result<(), Fault> {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        label.bytes().all(|b| alnum(b) || matches!(b, b'-' | b'_'))
            && label.bytes().next().is_some_and(alnum)
            && label.bytes().last().is_some_and(alnum)
    };
    let ok = text.len() <= 253 && text.split('.').all(label);
    ok.then_some(()).ok_or_else(|| {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
         start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')"
            .into()
    })
}

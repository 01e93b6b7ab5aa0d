//! What clients are warned of, in more than one kind: what still works but should not be relied upon.

use super::check::{Check, Spot, filled, run, text};
use super::pod::warnings::template;
use super::volumes::quantity;
use crate::error::{Cause, CauseKind};
use crate::{FieldPath, Map, Value, meta, names};

/// Walks an object that is to be warned of.
pub(super) fn warned(walk: impl FnOnce(&mut Check)) -> Vec<String> {
    let shown = |warning: &Cause| match warning.field.as_str() {
        "" => warning.message.clone(),
        path => format!("{path}: {}", warning.message),
    };
    run(walk).iter().map(shown).collect()
}

/// Warns of a workload whose template for pods stands at `path`; a new one also of its name if pods are named after it.
pub(super) fn workload(object: &Value, old: Option<&Value>, path: &[&str], names_pods: bool) -> Vec<String> {
    warned(|c| {
        if names_pods && old.is_none() {
            host_name(c, meta::name(object), "Pod names and hostnames");
        }
        if is_news(object, old)
            && let Some(found) = object.at(path)
        {
            c.within(&path.join("."), |c| template(c, found));
        }
    })
}

/// Whether the specification is new or changed, so that it is worth a warning.
pub(super) fn is_news(object: &Value, old: Option<&Value>) -> bool {
    let generation = |object: &Value| object.i64_at(&["metadata", "generation"]);
    old.is_none_or(|old| generation(old) != generation(object))
}

impl Check {
    /// Warns without saying where.
    pub(super) fn warn(&mut self, message: impl Into<String>) {
        self.warn_at(FieldPath::root(), message);
    }

    /// Warns of what stands at another path.
    pub(super) fn warn_at(&mut self, field: FieldPath, message: impl Into<String>) {
        self.extend(vec![Cause { kind: CauseKind::Invalid, field, message: message.into() }]);
    }
}

impl Spot<'_> {
    /// Warns of what stands here.
    pub(super) fn warn(self, message: impl Into<String>) {
        let message = message.into();
        self.report(|field| Cause { kind: CauseKind::Invalid, field, message });
    }
}

/// A name that the names of pods are made of should do as the name of a host.
pub(super) fn host_name(c: &mut Check, name: &str, used: &str) {
    if let Err(fault) = names::dns_label(name) {
        c.at("metadata.name").warn(format!(
            "this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{fault}]"
        ));
    }
}

/// What is said of a label of nodes that has had its time.
pub(super) fn node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// Warns of old labels in the expressions of a selector of nodes.
pub(super) fn node_expressions(c: &mut Check, term: &Value, with_values: bool) {
    c.each(term, "matchExpressions", |c, expression| {
        let key = text(expression, "key");
        if let Some(message) = node_label(key) {
            c.at("key").warn(format!("{key} is {message}"));
        }
        if with_values {
            c.each(expression, "values", |c, value| {
                let value = value.as_str().unwrap_or_default();
                if let Err(fault) = names::label_value(value) {
                    c.here().warn(format!("{value} is invalid, {fault}"));
                }
            });
        }
    });
}

/// Warns of amounts of bytes that are not whole.
pub(super) fn whole_bytes(c: &mut Check, list: Option<&Value>, path: &[&str], resources: &[&str]) {
    for resource in resources {
        let amount = quantity(list.and_then(|list| list.get(resource)));
        if let Some(amount) = amount.filter(|amount| amount.millis() % 1000 != 0) {
            let spot = c.at(&path.join(".")).key(resource);
            spot.warn(format!("fractional byte value \"{amount}\" is invalid, must be an integer"));
        }
    }
}

/// Warns of what a claim to a volume asks for.
pub(super) fn claim(c: &mut Check, spec: &Value) {
    for list in ["requests", "limits"] {
        whole_bytes(c, spec.at(&["resources", list]), &["resources", list], &["storage"]);
    }
}

/// The annotation that named a class before there was a field for it.
pub(super) const CLASS_ANNOTATION: (&str, &str) = (
    "volume.beta.kubernetes.io/storage-class",
    "deprecated since v1.8; use \"storageClassName\" attribute instead",
);

/// Warns of annotations that fields have taken the place of.
pub(super) fn annotations(c: &mut Check, object: &Value, old: &[(&str, &str)]) {
    for (key, message) in old {
        if object.at(&["metadata", "annotations", key]).is_some() {
            c.at("metadata.annotations").key(key).warn(*message);
        }
    }
}

/// Warns of labels in the selector that the walk stands at.
pub(super) fn selected_labels(c: &mut Check, selector: &Value) {
    node_expressions(c, selector, false);
    for label in selector.object_at(&["matchLabels"]).into_iter().flat_map(Map::keys) {
        if let Some(message) = node_label(label) {
            c.at("matchLabels").field(label).warn(message);
        }
    }
}

/// Warns of an address that is not written as it should be.
pub(super) fn address(c: &mut Check, owner: &Value, field: &str) {
    if let Some(text) = filled(owner, field) {
        c.within(field, |c| address_here(c, text));
    }
}

/// Warns of an address where the walk stands.
pub(super) fn address_here(c: &mut Check, text: &str) {
    if let Ok(ip) = text.parse::<std::net::Ipv6Addr>()
        && ip.to_ipv4_mapped().is_none()
        && ip.to_string() != text
    {
        c.here().warn(format!("IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{ip}\")"));
    }
}

/// Warns of a range of addresses where the walk stands.
pub(super) fn range_here(c: &mut Check, text: &str) {
    let parsed = text
        .split_once('/')
        .and_then(|(ip, length)| Some((ip.parse::<std::net::Ipv6Addr>().ok()?, length.parse::<u8>().ok()?)));
    if let Some((ip, length)) = parsed
        && ip.to_ipv4_mapped().is_none()
        && format!("{ip}/{length}") != text
    {
        let detail =
            format!("IPv6 CIDR value \"{text}\" should be in RFC 5952 canonical format (\"{ip}/{length}\")");
        c.here().warn(detail);
    }
}

#[cfg(test)]
mod tests {

    use crate::kinds::check::testing::json;
    use crate::kinds::of;

    fn check(group: &str, resource: &str, object: &str, want: &[&str]) {
        assert_eq!((of(group, resource).warnings)(&json(object), None), want, "{resource}");
    }

    #[test]
    fn volumes_and_claims() {
        check(
            "",
            "persistentvolumes",
            r#"{"metadata": {"annotations": {"volume.beta.kubernetes.io/mount-options": "a"}},
                "spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}, "nodeAffinity": {"required":
                  {"nodeSelectorTerms": [{"matchExpressions": [{"key": "beta.kubernetes.io/os"}]}]}}}}"#,
            &[
                "metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use \"mountOptions\" attribute instead",
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ],
        );
        check(
            "",
            "persistentvolumeclaims",
            r#"{"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "a"}},
                "spec": {"resources": {"requests": {"storage": "0.5"}, "limits": {"storage": "1"}}}}"#,
            &[
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead",
                "spec.resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer",
            ],
        );
        check(
            "storage.k8s.io",
            "storageclasses",
            r#"{"allowedTopologies": [{"matchLabelExpressions": [{"key": "failure-domain.beta.kubernetes.io/zone"}]}]}"#,
            &[
                "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
            ],
        );
        check(
            "storage.k8s.io",
            "csistoragecapacities",
            r#"{"nodeTopology": {"matchLabels": {"beta.kubernetes.io/arch": "a"}}}"#,
            &[
                "nodeTopology.matchLabels.beta.kubernetes.io/arch: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
            ],
        );
        check(
            "node.k8s.io",
            "runtimeclasses",
            r#"{"scheduling": {"nodeSelector": {"node-role.kubernetes.io/master": "", "a": "b"}}}"#,
            &["scheduling.nodeSelector: use \"node-role.kubernetes.io/control-plane\" instead"],
        );
    }

    #[test]
    fn addresses() {
        check(
            "",
            "services",
            r#"{"spec": {"type": "ClusterIP", "clusterIP": "::0", "clusterIPs": ["::0"], "sessionAffinity": "None",
                "loadBalancerSourceRanges": ["::0/64", "10.0.0.0/8"]}}"#,
            &[
                "spec.clusterIPs[0]: IPv6 address \"::0\" should be in RFC 5952 canonical format (\"::\")",
                "spec.loadBalancerSourceRanges[0]: IPv6 CIDR value \"::0/64\" should be in RFC 5952 canonical format (\"::/64\")",
            ],
        );
        check(
            "discovery.k8s.io",
            "endpointslices",
            r#"{"addressType": "FQDN", "endpoints": [{"addresses": ["::0", "10.0.0.1"]}]}"#,
            &[
                "spec.addressType: FQDN endpoints are deprecated",
                "endpoints[0].addresses[0]: IPv6 address \"::0\" should be in RFC 5952 canonical format (\"::\")",
            ],
        );
        check(
            "networking.k8s.io",
            "networkpolicies",
            r#"{"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "::0/8", "except": ["::0/9"]}}]}]}}"#,
            &[
                "spec.ingress[0].from[0].ipBlock.cidr: IPv6 CIDR value \"::0/8\" should be in RFC 5952 canonical format (\"::/8\")",
                "spec.ingress[0].from[0].ipBlock.except[0]: IPv6 CIDR value \"::0/9\" should be in RFC 5952 canonical format (\"::/9\")",
            ],
        );
    }

    #[test]
    fn workloads() {
        const SPEC: &str = r#"{"containers": [{"name": "c", "env": [{"name": "A"}, {"name": "A"}]}]}"#;
        let hides = |path: &str| {
            format!(
                "{path}.env[1]: hides previous definition of \"A\", which may be dropped when using apply"
            )
        };
        let of_template =
            json(&format!(r#"{{"metadata": {{"name": "a"}}, "spec": {{"template": {{"spec": {SPEC}}}}}}}"#));
        let want = [hides("spec.template.spec.containers[0]")];
        let apps = ["daemonsets", "deployments", "replicasets", "statefulsets"].map(|name| ("apps", name));
        for (group, resource) in apps.into_iter().chain([("", "replicationcontrollers"), ("batch", "jobs")]) {
            let warnings = of(group, resource).warnings;
            assert_eq!(warnings(&of_template, None), want, "{resource}");
            assert_eq!(warnings(&of_template, Some(&of_template)), [""; 0], "{resource}");
        }
        let template = json(&format!(r#"{{"template": {{"spec": {SPEC}}}}}"#));
        assert_eq!(
            (of("", "podtemplates").warnings)(&template, None),
            [hides("template.spec.containers[0]")]
        );
        let cron_job = json(&format!(
            r#"{{"metadata": {{"name": "a"}}, "spec": {{"jobTemplate": {{"spec": {{"template": {{"spec": {SPEC}}}}}}}}}}}"#
        ));
        let want = [hides("spec.jobTemplate.spec.template.spec.containers[0]")];
        assert_eq!((of("batch", "cronjobs").warnings)(&cron_job, None), want);
        let big = r#"{"metadata": {"name": "a"},
            "spec": {"completionMode": "Indexed", "completions": 100001, "parallelism": 10001}}"#;
        let job = (of("batch", "jobs").warnings)(&json(big), None);
        assert!(job.len() == 1 && job[0].starts_with("spec: In Indexed Jobs"), "{job:?}");
    }
}

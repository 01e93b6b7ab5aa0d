//! Scopes: which pods and claims a quota is about.

use crate::Value;

/// One condition of a quota's scopes.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    name: &'a str,
    operator: &'a str,
    values: &'a [Value],
}

/// The conditions of a quota, all of which must hold.
pub(super) fn of(quota: &Value) -> impl Iterator<Item = Scope<'_>> {
    let plain = quota.array_at(&["spec", "scopes"]).iter().filter_map(Value::as_str);
    let plain = plain.map(|name| Scope { name, operator: "Exists", values: &[] });
    let selected = quota.array_at(&["spec", "scopeSelector", "matchExpressions"]).iter().map(|e| Scope {
        name: e.str_at(&["scopeName"]).unwrap_or_default(),
        operator: e.str_at(&["operator"]).unwrap_or_default(),
        values: e.array_at(&["values"]),
    });
    plain.chain(selected)
}

pub(super) fn has_pod(scope: &Scope<'_>, pod: &Value) -> bool {
    match scope.name {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => scope.holds(pod.str_at(&["spec", "priorityClassName"])),
        "CrossNamespacePodAffinity" => looks_elsewhere(pod),
        _ => false,
    }
}

pub(super) fn has_claim(scope: &Scope<'_>, claim: &Value) -> bool {
    let classes = [
        &["spec", "volumeAttributesClassName"][..],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    scope.name == "VolumeAttributesClass"
        && classes.into_iter().filter_map(|path| claim.str_at(path)).any(|class| scope.holds(Some(class)))
}

impl Scope<'_> {
    fn holds(&self, value: Option<&str>) -> bool {
        let value = value.filter(|value| !value.is_empty());
        let listed = || value.is_some_and(|value| self.values.iter().any(|v| v.as_str() == Some(value)));
        match self.operator {
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "In" => listed(),
            "NotIn" => !listed(),
            _ => false,
        }
    }
}

/// Whether a pod ends by itself after some time.
pub(super) fn is_terminating(pod: &Value) -> bool {
    pod.i64_at(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

/// All containers of a pod that it is made with.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"].into_iter().flat_map(|list| pod.array_at(&["spec", list]))
}

/// Whether a pod asks for neither CPU nor memory.
fn is_best_effort(pod: &Value) -> bool {
    let asks = |resources: &Value| {
        ["requests", "limits"].into_iter().any(|which| {
            let wanted = super::amounts(resources.at(&[which]));
            ["cpu", "memory"]
                .into_iter()
                .any(|name| wanted.get(name).is_some_and(|amount| amount.signum() > 0))
        })
    };
    let of_containers = containers(pod).filter_map(|container| container.get("resources"));
    !of_containers.chain(pod.at(&["spec", "resources"])).any(asks)
}

/// Whether a pod's place depends on pods of other namespaces.
fn looks_elsewhere(pod: &Value) -> bool {
    let elsewhere = |term: &Value| {
        !term.array_at(&["namespaces"]).is_empty()
            || term.get("namespaceSelector").is_some_and(|s| !s.is_null())
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when: &'static str| pod.array_at(&["spec", "affinity", kind, when]).iter();
        let preferred = terms("preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = preferred.filter_map(|weighted| weighted.get("podAffinityTerm"));
        terms("requiredDuringSchedulingIgnoredDuringExecution").chain(preferred).any(elsewhere)
    })
}

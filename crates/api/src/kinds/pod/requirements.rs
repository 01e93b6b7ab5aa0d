//! Rules for requests and limits, and for names and amounts of resources anywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::resources::{self, HUGE_PAGES, aggregate, is_pod_level};
use crate::kinds::check::{Check, NOT_NEGATIVE, filled, text};
use crate::quantity::Quantity;
use crate::{Value, names};

/// Names without a prefix that mean something.
const STANDARD: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

/// Names of things that are counted.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Whether the name is one of Kubernetes' own.
pub(in crate::kinds) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether the name is that of something that nodes or quotas count and Kubernetes does not know.
pub(in crate::kinds) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified(&format!("requests.{name}")).is_ok()
}

/// Whether more of the resource may be asked for at most than at least.
pub(in crate::kinds) fn can_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Whether only whole numbers make sense.
pub(in crate::kinds) fn is_whole(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// Checks a name of a resource where the walk stands; whether it is sound.
pub(in crate::kinds) fn resource_name(c: &mut Check, name: &str) -> bool {
    let before = c.count();
    c.here().obeys(name, names::qualified);
    let standard = STANDARD.binary_search(&name).is_ok()
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-");
    if c.count() == before && !name.contains('/') && !standard {
        c.here().invalid(name, "must be a standard resource type or fully qualified");
    }
    c.count() == before
}

/// Checks a name of what a container can ask for, where the walk stands.
pub(in crate::kinds) fn container_resource(c: &mut Check, name: &str) {
    resource_name(c, name);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with(HUGE_PAGES) {
            c.here().invalid(name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        c.here().invalid(name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource(c: &mut Check, name: &str) {
    if resource_name(c, name) && !is_pod_level(name) {
        c.here().not_supported(name, &["cpu", "hugepages-", "memory"]);
    }
}

/// Checks an amount where the walk stands.
pub(in crate::kinds) fn amount(c: &mut Check, name: &str, value: &Value) {
    let Some(quantity) = value.as_str().and_then(|t| t.parse::<Quantity>().ok()) else { return };
    if quantity.signum() < 0 {
        c.here().invalid(value.clone(), NOT_NEGATIVE);
    }
    if is_whole(name) && quantity.millis() % 1000 != 0 {
        c.here().invalid(value.clone(), "must be an integer");
    }
}

/// Checks the resources of a container.
pub(super) fn container(c: &mut Check, container: &Value, claims: &BTreeSet<&str>) {
    c.some(container, "resources", |c, r| {
        requirements(c, r, container_resource);
        claim_names(c, r, claims);
    });
}

/// Checks what running a pod costs beside its containers.
pub(super) fn overhead(c: &mut Check, spec: &Value) {
    c.within("overhead", |c| limits(c, spec.get("overhead")));
}

/// Checks a list of resources as if it were limits.
pub(in crate::kinds) fn limits(c: &mut Check, list: Option<&Value>) {
    if let Some(list) = list.filter(|list| !list.is_null()) {
        requirements(c, &crate::object!({"limits": (list.clone())}), container_resource);
    }
}

/// Checks what a pod as a whole asks for.
pub(super) fn whole(c: &mut Check, spec: &Value) {
    c.some(spec, "resources", |c, r| {
        if spec.str_at(&["os", "name"]) == Some("windows") {
            return c.here().forbidden("may not be set for a windows pod");
        }
        if !r.array_at(&["claims"]).is_empty() {
            c.at("claims").forbidden("claims may not be set for Resources at pod-level");
        }
        requirements(c, r, pod_resource);
        consistent(c, spec, r);
    });
}

fn requirements(c: &mut Check, r: &Value, name_rules: fn(&mut Check, &str)) {
    let limits = resources::list(r.object_at(&["limits"]));
    c.entries(r, "limits", |c, name, value| {
        name_rules(c, name);
        amount(c, name, value);
        huge_pages(c, name, value);
    });
    for (name, value) in r.object_at(&["requests"]).into_iter().flat_map(crate::Map::iter) {
        c.within("requests", |c| {
            c.within_key(name, |c| {
                name_rules(c, name);
                amount(c, name, value);
            });
        });
        let request = value.as_str().and_then(|t| t.parse::<Quantity>().ok()).unwrap_or(Quantity::ZERO);
        let fault = match limits.get(name) {
            Some(limit) if request != *limit && !can_overcommit(name) => {
                Some(format!("must be equal to {name} limit of {limit}"))
            }
            Some(limit) if request > *limit => {
                Some(format!("must be less than or equal to {name} limit of {limit}"))
            }
            None if !can_overcommit(name) => {
                c.at("limits").required("Limit must be set for non overcommitable resources");
                None
            }
            _ => None,
        };
        if let Some(fault) = fault {
            c.at("requests").invalid(value.clone(), &fault);
        }
        c.within("requests", |c| c.within_key(name, |c| huge_pages(c, name, value)));
    }
    let has = |test: fn(&str) -> bool| {
        ["limits", "requests"]
            .iter()
            .filter_map(|which| r.object_at(&[which]))
            .any(|list| list.keys().any(test))
    };
    if has(|name| name.starts_with(HUGE_PAGES)) && !has(|name| matches!(name, "cpu" | "memory")) {
        c.here().forbidden("HugePages require cpu or memory");
    }
}

/// Huge pages come whole.
fn huge_pages(c: &mut Check, name: &str, value: &Value) {
    let Some(size) = name.strip_prefix(HUGE_PAGES) else { return };
    let amount = value.as_str().and_then(|t| t.parse::<Quantity>().ok()).unwrap_or(Quantity::ZERO);
    let page = size.parse::<Quantity>().map_or(0, Quantity::units);
    if page <= 0 || amount.units() % page != 0 {
        c.here().invalid(value.clone(), &format!("{amount} is not positive integer multiple of {name}"));
    }
}

fn claim_names(c: &mut Check, r: &Value, claims: &BTreeSet<&str>) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    c.each(r, "claims", |c, claim| {
        let Some(name) = filled(claim, "name") else { return c.here().required("") };
        let request = text(claim, "request");
        c.name(claim, "request", names::dns_label);
        let overlaps = seen.contains(&(name, ""))
            || seen.contains(&(name, request))
            || (request.is_empty() && seen.iter().any(|(other, _)| *other == name));
        if overlaps {
            let shown = if request.is_empty() || seen.contains(&(name, "")) {
                name.to_owned()
            } else {
                format!("{name}/{request}")
            };
            c.here().duplicate(shown);
        }
        seen.insert((name, request));
        if !claims.contains(name) {
            let known: Vec<&str> = claims.iter().copied().collect();
            let rest =
                if known.is_empty() { " which is empty".into() } else { format!(": {}", known.join(", ")) };
            c.here()
                .not_found_in(name, &format!("must be one of the names in pod.spec.resourceClaims{rest}"));
        }
    });
}

/// Containers together ask for no more than the pod, and none has a higher limit.
fn consistent(c: &mut Check, spec: &Value, r: &Value) {
    let requests = resources::list(r.object_at(&["requests"]));
    let limits = resources::list(r.object_at(&["limits"]));
    let compare = |c: &mut Check, which: &str, own: &BTreeMap<String, Quantity>, only: fn(&str) -> bool| {
        for (name, sum) in aggregate(spec, which) {
            if let Some(amount) = own.get(&name).filter(|amount| only(&name) && sum > **amount) {
                let detail = format!("must be greater than or equal to aggregate container {which} of {sum}");
                c.at(which).key(&name).invalid(amount.to_string(), &detail);
            }
        }
    };
    compare(c, "requests", &requests, |_| true);
    compare(c, "limits", &limits, |name| name.starts_with(HUGE_PAGES));
    for (i, container) in spec.array_at(&["containers"]).iter().enumerate() {
        for (name, limit) in resources::list(container.object_at(&["resources", "limits"])) {
            if let Some(most) = limits.get(&name).filter(|most| limit > **most) {
                let detail = format!("must be less than or equal to pod limits of {most}");
                let spot = c.at("containers").index(i).key(&name).field("limits");
                spot.invalid(limit.to_string(), &detail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{json, lines};

    #[test]
    fn requests_and_limits() {
        let check = |text: &str, want: &[&str]| {
            let value = json(&format!("{{\"resources\": {text}}}"));
            let claims = BTreeSet::from(["gpu"]);
            assert_eq!(lines(&run(|c| container(c, &value, &claims))), want, "{text}");
        };
        check(r#"{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}"#, &[]);
        check(
            r#"{"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}"#,
            &[r#"resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#],
        );
        check(
            r#"{"requests": {"cpu": "-1"}}"#,
            &[r#"resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0"#],
        );
        check(
            r#"{"limits": {"disk": "1"}}"#,
            &[
                r#"resources.limits[disk]: Invalid value: "disk": must be a standard resource type or fully qualified"#,
                r#"resources.limits[disk]: Invalid value: "disk": must be a standard resource for containers"#,
            ],
        );
        check(
            r#"{"limits": {"pods": "1"}}"#,
            &[r#"resources.limits[pods]: Invalid value: "pods": must be a standard resource for containers"#],
        );
        check(r#"{"limits": {"a.b/gpu": "1"}, "requests": {"a.b/gpu": "1"}}"#, &[]);
        check(
            r#"{"limits": {"a.b/gpu": "1500m"}}"#,
            &[r#"resources.limits[a.b/gpu]: Invalid value: "1500m": must be an integer"#],
        );
        check(
            r#"{"requests": {"a.b/gpu": "1"}}"#,
            &["resources.limits: Required value: Limit must be set for non overcommitable resources"],
        );
        check(
            r#"{"limits": {"hugepages-2Mi": "3Mi"}}"#,
            &[
                r#"resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
                "resources: Forbidden: HugePages require cpu or memory",
            ],
        );
        check(r#"{"claims": [{"name": "gpu"}]}"#, &[]);
        check(
            r#"{"claims": [{"name": "gpu", "request": "a"}, {"name": "gpu"}, {"name": "x"}, {}]}"#,
            &[
                r#"resources.claims[1]: Duplicate value: "gpu""#,
                r#"resources.claims[2]: Not found: "x": must be one of the names in pod.spec.resourceClaims: gpu"#,
                "resources.claims[3]: Required value",
            ],
        );
    }

    #[test]
    fn a_pod_as_a_whole() {
        let check = |text: &str, want: &[&str]| {
            assert_eq!(lines(&run(|c| whole(c, &json(text)))), want, "{text}");
        };
        check(r#"{"resources": {"limits": {"cpu": "1"}}}"#, &[]);
        check(
            r#"{"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}},
                "containers": [{"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}]}"#,
            &[
                r#"resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2"#,
                r#"resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1"#,
            ],
        );
        check(
            r#"{"resources": {"limits": {"a.b/gpu": "1"}}}"#,
            &[
                r#"resources.limits[a.b/gpu]: Unsupported value: "a.b/gpu": supported values: "cpu", "hugepages-", "memory""#,
            ],
        );
        check(
            r#"{"resources": {"claims": [{"name": "a"}]}}"#,
            &["resources.claims: Forbidden: claims may not be set for Resources at pod-level"],
        );
    }
}

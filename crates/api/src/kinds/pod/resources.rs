//! Amounts of resources in a pod: sums over containers, defaults that follow from them, the quality-of-service class.

use std::collections::BTreeMap;

use crate::quantity::Quantity;
use crate::{Map, Value};

/// Amounts by resource name.
pub(in crate::kinds) type List = BTreeMap<String, Quantity>;

/// Reads a resource list; what is no quantity is left out.
pub(in crate::kinds) fn list(map: Option<&Map>) -> List {
    let read = |(name, value): (&str, &Value)| Some((name.to_owned(), value.as_str()?.parse().ok()?));
    map.into_iter().flat_map(Map::iter).filter_map(read).collect()
}

fn add(to: &mut List, more: &List) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |have| have.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut List, floor: &List) {
    for (name, amount) in floor {
        let most = to.get(name).map_or(*amount, |have| *have.max(amount));
        to.insert(name.clone(), most);
    }
}

/// Whether an init container keeps running beside the containers (a sidecar).
pub(super) fn is_sidecar(container: &Value) -> bool {
    container.str_at(&["restartPolicy"]) == Some("Always")
}

/// What all containers together need at most at one time; `which` is `requests` or `limits`.
pub(super) fn aggregate(spec: &Value, which: &str) -> List {
    let of = |container: &Value| list(container.object_at(&["resources", which]));
    let mut total = List::new();
    spec.array_at(&["containers"]).iter().for_each(|c| add(&mut total, &of(c)));
    let mut sidecars = List::new();
    let mut peak = List::new();
    for container in spec.array_at(&["initContainers"]) {
        let mut needed = of(container);
        if is_sidecar(container) {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed.clone_from(&sidecars);
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut peak, &needed);
    }
    raise(&mut total, &peak);
    total
}

/// Whether a pod as a whole may ask for the resource.
pub(super) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES)
}

/// What names of huge pages start with.
pub(super) const HUGE_PAGES: &str = "hugepages-";

/// Gives each request that is absent the limit of the same name.
pub(super) fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = resources.object_at(&["limits"]).cloned() else { return };
    let requests = resources.entry("requests").make_object();
    for (name, amount) in limits {
        if !requests.contains(&name) {
            requests.insert(name, amount);
        }
    }
}

/// Completes what a pod asks for as a whole, from its containers and its own limits.
pub(super) fn fill_pod_level(spec: &mut Value) {
    let has = |spec: &Value, which: &str| {
        spec.object_at(&["resources", which]).is_some_and(|list| !list.is_empty())
    };
    if !has(spec, "limits") && !has(spec, "requests") {
        return;
    }
    for (name, amount) in aggregate(spec, "limits") {
        let absent = spec.at(&["resources", "requests", &name]).is_none()
            && spec.at(&["resources", "limits", &name]).is_none();
        if name.starts_with(HUGE_PAGES) && absent {
            spec.set(&["resources", "limits", &name], amount.to_string());
        }
    }
    if !has(spec, "limits") {
        return;
    }
    for (name, amount) in aggregate(spec, "requests") {
        let wanted = is_pod_level(&name) && !name.starts_with(HUGE_PAGES);
        if wanted && spec.at(&["resources", "requests", &name]).is_none() {
            spec.set(&["resources", "requests", &name], amount.to_string());
        }
    }
    let limits = spec.object_at(&["resources", "limits"]).cloned().unwrap_or_default();
    for (name, amount) in limits {
        if is_pod_level(&name) && spec.at(&["resources", "requests", &name]).is_none() {
            spec.set(&["resources", "requests", &name], amount);
        }
    }
}

/// Rounds requests and limits up to thousandths, the finest that the API keeps.
pub(in crate::kinds) fn round(resources: &mut Value) {
    for which in ["limits", "requests"] {
        if let Some(list) = resources.get_mut(which) {
            round_list(list);
        }
    }
}

/// Rounds the amounts of a resource list up to thousandths.
pub(in crate::kinds) fn round_list(list: &mut Value) {
    let Some(map) = list.as_object_mut() else { return };
    for (_, value) in map.iter_mut() {
        let Some(exact) = value.as_str().and_then(|s| s.parse::<Quantity>().ok()) else { continue };
        let millis = exact.millis();
        // Amounts near the cap do not fit a count of thousandths; they are whole anyway.
        let rounded = Quantity::from_millis(millis);
        if rounded != exact && millis != i64::MAX && millis != i64::MIN {
            *value = rounded.to_string().into();
        }
    }
}

/// The quality-of-service class: `Guaranteed`, `Burstable` or `BestEffort`.
pub(super) fn qos_class(spec: &Value) -> &'static str {
    let whole = spec.at(&["resources"]).filter(|r| r.as_object().is_some());
    let parts: Vec<&Value> = match whole {
        Some(resources) => vec![resources],
        None => ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.array_at(&[list]))
            .map(|c| c.get("resources").unwrap_or(&Value::Null))
            .collect(),
    };
    let (mut requests, mut limits) = (List::new(), List::new());
    let mut limited = true;
    for part in parts {
        let counted = |which: &str| {
            let mut amounts = list(part.object_at(&[which]));
            amounts.retain(|name, amount| matches!(name.as_str(), "cpu" | "memory") && amount.signum() > 0);
            amounts
        };
        let part_limits = counted("limits");
        // For a pod as a whole, an absent list of limits does not count against it here: it has no limits to equal below.
        limited &= part_limits.len() == 2
            || (whole.is_some() && part.object_at(&["limits"]).is_none_or(Map::is_empty));
        add(&mut requests, &counted("requests"));
        add(&mut limits, &part_limits);
    }
    match (requests.is_empty() && limits.is_empty(), limited && requests == limits) {
        (true, _) => "BestEffort",
        (_, true) => "Guaranteed",
        _ => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn classes() {
        let check = |spec: Value, want: &str| assert_eq!(qos_class(&spec), want, "{spec:?}");
        let all = object!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}});
        let none = object!({});
        let zero = object!({"resources": {"limits": {"cpu": "0"}}});
        let some = object!({"resources": {"requests": {"cpu": "1"}}});
        check(object!({"containers": [(none.clone())]}), "BestEffort");
        check(object!({"containers": [(zero)]}), "BestEffort");
        check(object!({"containers": [(all.clone())]}), "Guaranteed");
        check(object!({"containers": [(all.clone())], "initContainers": [(none)]}), "Burstable");
        check(object!({"containers": [(all), (some.clone())]}), "Burstable");
        check(object!({"containers": [(some)]}), "Burstable");
        check(object!({"containers": [{}], "resources": {"requests": {"cpu": "1"}}}), "Burstable");
        let whole = object!({"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}});
        check(object!({"containers": [{}], "resources": (whole)}), "Guaranteed");
    }

    #[test]
    fn init_containers_peak_and_sidecars_add() {
        let of = |cpu: &str| object!({"requests": {"cpu": (cpu)}});
        let spec = object!({
            "containers": [{"resources": (of("1"))}, {"resources": (of("500m"))}],
            "initContainers": [
                {"resources": (of("4"))},
                {"restartPolicy": "Always", "resources": (of("1"))},
                {"resources": (of("3500m"))}
            ]
        });
        assert_eq!(aggregate(&spec, "requests")["cpu"].to_string(), "4500m");
    }

    #[test]
    fn a_pod_as_a_whole() {
        let mut spec = object!({
            "containers": [{"resources": {"requests": {"cpu": "1"}, "limits": {"hugepages-2Mi": "4Mi"}}}],
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}
        });
        fill_pod_level(&mut spec);
        let want = object!({
            "limits": {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "1", "memory": "1Gi", "hugepages-2Mi": "4Mi"}
        });
        assert_eq!(spec.at(&["resources"]), Some(&want));
    }

    #[test]
    fn amounts_round_up() {
        let mut list = object!({"cpu": "1n", "memory": "1.5Gi", "x": "99999999999E", "bad": 3});
        round_list(&mut list);
        assert_eq!(list, object!({"cpu": "1m", "memory": "1.5Gi", "x": "99999999999E", "bad": 3}));
    }
}

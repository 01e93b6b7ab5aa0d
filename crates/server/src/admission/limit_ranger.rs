//! LimitRanges: what containers of a new pod have unless they say otherwise, and what pods, their containers and claims for
//! storage may have at least, at most, and as limit in proportion to their request (LimitRanger).

use xebec_api::quantity::Quantity;
use xebec_api::quota::{Amounts, amounts, specified};
use xebec_api::{Status, Value, meta};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::convert;

/// Says on a pod what was added to it.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) fn mutate(core: &Core, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !attributes.is("", "pods") || attributes.operation != Operation::Create {
        return Ok(());
    }
    let ranges = ranges(core, attributes.target.namespace)?;
    ranges.iter().for_each(|range| add_defaults(range, pod));
    Ok(())
}

pub(super) fn validate(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let row = &attributes.target.served.row;
    let about = (row.group(), row.resource(), attributes.target.part.name(), attributes.operation);
    let checked = matches!(
        about,
        ("", "pods" | "persistentvolumeclaims", "", Operation::Create)
            | ("", "persistentvolumeclaims", "", Operation::Update)
            | ("", "pods", "resize", Operation::Update)
    );
    if !checked || old.is_some_and(meta::is_deleting) {
        return Ok(());
    }
    for range in ranges(core, attributes.target.namespace)? {
        let faults = match row.resource() {
            "pods" => faults_of_pod(&range, object),
            _ => faults_of_claim(&range, object),
        };
        let why = match faults.as_slice() {
            [] => continue,
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        return Err(Status::forbidden("", row.resource(), meta::name(object), why));
    }
    Ok(())
}

fn ranges(core: &Core, namespace: &str) -> Result<Vec<Value>, Status> {
    let table = core.table.get();
    let prefix = table.row("", "limitranges").ok_or_else(Status::no_such_path)?.prefix(namespace)?;
    core.store.snapshot().range(&prefix, None).map(|record| convert::stored_object(record)).collect()
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let limits = range.array_at(&["spec", "limits"]).iter();
    limits.filter(move |limit| limit.str_at(&["type"]) == Some(kind))
}

fn add_defaults(range: &Value, pod: &mut Value) {
    let (mut requests, mut most) = (Amounts::new(), Amounts::new());
    for limit in limits(range, "Container") {
        requests.extend(amounts(limit.get("defaultRequest")));
        most.extend(amounts(limit.get("default")));
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers =
            pod.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container.str_at(&["name"]).unwrap_or_default().to_owned();
            for (field, word, defaults) in [("requests", "request", &requests), ("limits", "limit", &most)] {
                let added = add_missing(container, field, defaults);
                if !added.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", added.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.set(&["metadata", "annotations", ANNOTATION], note);
    }
}

/// Fills in what a container's requests or limits lack; their names.
fn add_missing(container: &mut Value, field: &str, defaults: &Amounts) -> Vec<String> {
    let has = amounts(container.at(&["resources", field]));
    let missing: Vec<_> = defaults.iter().filter(|(name, _)| !has.contains_key(*name)).collect();
    for (name, amount) in &missing {
        container.make(&["resources", field]).make_object().insert(&***name, amount.to_string());
    }
    missing.iter().map(|(name, _)| name.to_string()).collect()
}

fn faults_of_claim(range: &Value, claim: &Value) -> Vec<String> {
    let requests = amounts(claim.at(&["spec", "resources", "requests"]));
    let mut faults = Vec::new();
    for limit in limits(range, "PersistentVolumeClaim") {
        let bounds = |field: &str| amounts(limit.get(field));
        let use_of = |name: &str| Use {
            name: name.to_owned(),
            of: "PersistentVolumeClaim",
            request: requests.get(name).copied(),
            limit: None,
        };
        faults.extend(bounds("min").iter().filter_map(|(name, least)| use_of(name).below(*least)));
        faults.extend(bounds("max").iter().filter_map(|(name, most)| use_of(name).request_above(*most)));
    }
    faults
}

fn faults_of_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for limit in limits(range, "Container") {
        for list in ["containers", "initContainers"] {
            for container in pod.array_at(&["spec", list]) {
                let of = |field: &str| amounts(container.at(&["resources", field]));
                check(limit, "Container", &of("requests"), &of("limits"), &mut faults);
            }
        }
    }
    for limit in limits(range, "Pod") {
        check(limit, "Pod", &specified(pod, "requests"), &specified(pod, "limits"), &mut faults);
    }
    faults
}

fn check(limit: &Value, of: &'static str, requests: &Amounts, most: &Amounts, faults: &mut Vec<String>) {
    let bounds = |field: &str| amounts(limit.get(field));
    let use_of = |name: &str| Use {
        name: name.to_owned(),
        of,
        request: requests.get(name).copied(),
        limit: most.get(name).copied(),
    };
    faults.extend(bounds("min").iter().filter_map(|(name, least)| use_of(name).below(*least)));
    faults.extend(bounds("max").iter().filter_map(|(name, most)| use_of(name).above(*most)));
    let ratios = bounds("maxLimitRequestRatio");
    faults.extend(ratios.iter().filter_map(|(name, most)| use_of(name).disproportionate(*most)));
}

/// What something wants of a resource.
struct Use {
    name: String,
    of: &'static str,
    request: Option<Quantity>,
    limit: Option<Quantity>,
}

impl Use {
    fn below(&self, least: Quantity) -> Option<String> {
        let bound = format!("minimum {} usage per {} is {least}", self.name, self.of);
        match (self.request, self.limit) {
            (None, _) => Some(format!("{bound}.  No request is specified")),
            (Some(request), _) if request < least => Some(format!("{bound}, but request is {request}")),
            (_, Some(limit)) if limit < least => Some(format!("{bound}, but limit is {limit}")),
            _ => None,
        }
    }

    fn above(&self, most: Quantity) -> Option<String> {
        let bound = format!("maximum {} usage per {} is {most}", self.name, self.of);
        match (self.request, self.limit) {
            (_, None) => Some(format!("{bound}.  No limit is specified")),
            (_, Some(limit)) if limit > most => Some(format!("{bound}, but limit is {limit}")),
            (Some(request), _) if request > most => Some(format!("{bound}, but request is {request}")),
            _ => None,
        }
    }

    fn request_above(&self, most: Quantity) -> Option<String> {
        let bound = format!("maximum {} usage per {} is {most}", self.name, self.of);
        match self.request {
            None => Some(format!("{bound}.  No request is specified")),
            Some(request) if request > most => Some(format!("{bound}, but request is {request}")),
            Some(_) => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "upstream compares ratios as floats too")]
    fn disproportionate(&self, most: Quantity) -> Option<String> {
        let bound = format!("{} max limit to request ratio per {} is {most}", self.name, self.of);
        let some = |amount: Option<Quantity>| amount.filter(|amount| amount.signum() != 0);
        let Some(request) = some(self.request) else {
            return Some(format!("{bound}, but no request is specified or request is 0"));
        };
        let Some(limit) = some(self.limit) else {
            return Some(format!("{bound}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.millis() as f64 / request.millis() as f64;
        (ratio * 1000.0 > most.millis() as f64).then(|| format!("{bound}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    fn range(limit: Value) -> Value {
        object!({"spec": {"limits": [(limit)]}})
    }

    fn pod(resources: Value) -> Value {
        object!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a", "resources": (resources)}], "initContainers": [{"name": "i"}]
        }})
    }

    #[test]
    fn what_containers_lack_is_filled_in() {
        let limits = object!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}});
        let mut pod = pod(object!({"limits": {"cpu": "2"}}));
        add_defaults(&range(limits), &mut pod);
        let of = |list: &'static str| pod.array_at(&["spec", list])[0].get("resources").cloned();
        assert_eq!(
            of("containers"),
            Some(object!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}}))
        );
        assert_eq!(
            of("initContainers"),
            Some(object!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}))
        );
        assert_eq!(
            meta::annotation(&pod, ANNOTATION),
            Some(
                "LimitRanger plugin set: cpu request for container a; memory limit for container a; \
                 cpu request for init container i; cpu, memory limit for init container i"
            )
        );
        let mut same = pod.clone();
        add_defaults(&range(object!({"type": "Pod", "default": {"cpu": "1"}})), &mut same);
        assert_eq!(same, pod);
    }

    #[test]
    fn what_is_out_of_bounds_is_told() {
        let check = |limit: Value, resources: Value, want: &[&str]| {
            let mut pod = pod(resources);
            pod.remove_at(&["spec", "initContainers"]);
            assert_eq!(faults_of_pod(&range(limit), &pod), want);
        };
        let both =
            |request: &str, limit: &str| object!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        let min = || object!({"type": "Container", "min": {"cpu": "100m"}});
        check(min(), both("100m", "1"), &[]);
        check(min(), object!({}), &["minimum cpu usage per Container is 100m.  No request is specified"]);
        check(min(), both("50m", "1"), &["minimum cpu usage per Container is 100m, but request is 50m"]);
        let max = || object!({"type": "Pod", "max": {"cpu": "1"}});
        check(max(), both("1", "1"), &[]);
        check(max(), object!({}), &["maximum cpu usage per Pod is 1.  No limit is specified"]);
        check(max(), both("1", "2"), &["maximum cpu usage per Pod is 1, but limit is 2"]);
        let ratio = || object!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        check(ratio(), both("500m", "1"), &[]);
        check(
            ratio(),
            both("400m", "1"),
            &["cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000"],
        );
        check(
            ratio(),
            object!({"limits": {"cpu": "1"}}),
            &[
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ],
        );
    }

    #[test]
    fn claims_have_bounds_too() {
        let limits = || object!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
        let check = |storage: &str, want: &[&str]| {
            let claim = object!({"spec": {"resources": {"requests": {"storage": storage}}}});
            assert_eq!(faults_of_claim(&range(limits()), &claim), want);
        };
        check("1Gi", &[]);
        check("3Gi", &["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]);
        check("1Mi", &["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]);
    }
}

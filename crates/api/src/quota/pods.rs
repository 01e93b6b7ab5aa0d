//! What pods use.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Amounts, add, amounts, scopes};
use crate::quantity::Quantity;
use crate::time::Timestamp;
use crate::{Key, Value};

/// What is counted by more names than its own.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What containers must ask for where it is limited.
const REQUIRED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const HUGE_PAGES: &str = "hugepages-";

pub(super) fn knows(name: &str) -> bool {
    if name == "pods" || COMPUTE.contains(&name) || name.starts_with(HUGE_PAGES) {
        return true;
    }
    match name.split_once('.') {
        Some(("requests", what)) => {
            COMPUTE.contains(&what) || what.starts_with(HUGE_PAGES) || is_extended(what)
        }
        Some(("limits", what)) => COMPUTE.contains(&what),
        _ => false,
    }
}

/// Whether a name is that of a device and the like, which nodes offer under a domain.
fn is_extended(name: &str) -> bool {
    name.contains('/')
        && (!name.contains("kubernetes.io/") || name.starts_with("deviceclass.resource.kubernetes.io/"))
}

pub(super) fn usage(pod: &Value, now: Timestamp) -> Amounts {
    if !lives(pod, now) {
        return Amounts::new();
    }
    by_quota_names(&total(pod, "requests"), &total(pod, "limits"))
}

/// Whether a pod has neither ended nor outlived its deletion.
fn lives(pod: &Value, now: Timestamp) -> bool {
    let ended = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
    let deleted = pod.str_at(&["metadata", "deletionTimestamp"]).and_then(Timestamp::parse);
    let grace = pod.i64_at(&["metadata", "deletionGracePeriodSeconds"]);
    let overdue = deleted.zip(grace).is_some_and(|(deleted, grace)| {
        now > deleted.after(Duration::from_secs(u64::try_from(grace).unwrap_or_default()))
    });
    !ended && !overdue
}

fn by_quota_names(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".into(), Quantity::from_units(1))]);
    for (name, amount) in requests {
        let computed = COMPUTE.contains(&&**name) || name.starts_with(HUGE_PAGES);
        if computed {
            used.insert(name.clone(), *amount);
        }
        if computed || is_extended(name) {
            used.insert(format!("requests.{name}").as_str().into(), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&&***name)) {
        used.insert(format!("limits.{name}").as_str().into(), *amount);
    }
    used
}

/// The requests or limits that count of a pod, its overhead included.
fn total(pod: &Value, which: &str) -> Amounts {
    let mut sum = together(pod, which, |list, container| {
        let list = if list == "containers" { "containerStatuses" } else { "initContainerStatuses" };
        of_container(container, pod.array_at(&["status", list]), which)
    });
    let overhead = amounts(pod.at(&["spec", "overhead"]));
    let counted = overhead
        .into_iter()
        .filter(|(name, _)| which == "requests" || sum.get(name).is_some_and(|amount| amount.signum() > 0));
    let counted = counted.collect();
    add(&mut sum, &counted);
    sum
}

/// The requests or limits that a pod's specification comes to, without overhead.
#[must_use]
pub fn specified(pod: &Value, which: &str) -> Amounts {
    together(pod, which, |_, container| amounts(container.at(&["resources", which])))
}

/// What the containers of a pod, of which each wants `wanted`, come to: containers and those that stay beside them run
/// together, others that come first one after another; what the pod says of itself counts instead.
fn together(pod: &Value, which: &str, wanted: impl Fn(&str, &Value) -> Amounts) -> Amounts {
    let mut sum = Amounts::new();
    for container in pod.array_at(&["spec", "containers"]) {
        add(&mut sum, &wanted("containers", container));
    }
    let (mut peak, mut beside) = (Amounts::new(), Amounts::new());
    for container in pod.array_at(&["spec", "initContainers"]) {
        let mut own = wanted("initContainers", container);
        if container.str_at(&["restartPolicy"]) == Some("Always") {
            add(&mut sum, &own);
            add(&mut beside, &own);
            raise(&mut peak, &beside);
        } else {
            add(&mut own, &beside);
            raise(&mut peak, &own);
        }
    }
    raise(&mut sum, &peak);
    sum.extend(amounts(pod.at(&["spec", "resources", which])));
    sum
}

/// What a container wants, or still has when that is more: it may be about to be resized.
fn of_container(container: &Value, statuses: &[Value], which: &str) -> Amounts {
    let mut own = amounts(container.at(&["resources", which]));
    let name = container.str_at(&["name"]);
    if let Some(status) = statuses.iter().find(|status| status.str_at(&["name"]) == name) {
        raise(&mut own, &amounts(status.at(&["resources", which])));
        if which == "requests" {
            raise(&mut own, &amounts(status.at(&["allocatedResources"])));
        }
    }
    own
}

/// Makes amounts at least as large as others.
fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        if to.get(name).is_none_or(|have| have < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

pub(super) fn unsaid(names: &[&str], pod: &Value) -> Option<String> {
    if pod.object_at(&["spec", "resources"]).is_some_and(|resources| !resources.is_empty()) {
        return None;
    }
    let required: BTreeSet<&str> = REQUIRED.into_iter().filter(|name| names.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in scopes::containers(pod) {
        let said = by_quota_names(
            &amounts(container.at(&["resources", "requests"])),
            &amounts(container.at(&["resources", "limits"])),
        );
        for name in required.iter().filter(|name| !said.contains_key(&Key::from(**name))) {
            missing.entry(name).or_default().insert(container.str_at(&["name"]).unwrap_or_default());
        }
    }
    let texts = missing.iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    });
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| format!("must specify {}", texts.join("; ")))
}

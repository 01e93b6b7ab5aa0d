//! What a quota counts, and what its status should be. Pure.

use std::collections::{BTreeMap, BTreeSet};

use xebec_api::Value;
use xebec_api::quota::{Amounts, Evaluator, Limits, add, amounts};
use xebec_api::time::Timestamp;

use crate::runtime::discovery::ResourceId;

/// The resources that are counted by other names than `count/…`.
const NAMED: [(&str, &str); 8] = [
    ("", "pods"),
    ("", "services"),
    ("", "persistentvolumeclaims"),
    ("", "configmaps"),
    ("", "resourcequotas"),
    ("", "replicationcontrollers"),
    ("", "secrets"),
    ("resource.k8s.io", "resourceclaims"),
];

/// The resources that a quota limits the use of.
pub fn counted(quota: &Value) -> BTreeSet<ResourceId> {
    let id = |group: &str, plural: &str| ResourceId { group: group.to_owned(), plural: plural.to_owned() };
    let mut all = BTreeSet::new();
    for name in Limits::Wanted.names(quota) {
        if let Some(counted) = name.strip_prefix("count/") {
            let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
            all.insert(id(group, plural));
        }
        let known = NAMED.into_iter().find(|(group, plural)| Evaluator::of(group, plural).knows(name));
        all.extend(known.map(|(group, plural)| id(group, plural)));
    }
    all
}

/// Whether more of an object of the resource is to be known than that it exists.
pub fn wants_contents(id: &ResourceId) -> bool {
    matches!(
        (id.group.as_str(), id.plural.as_str()),
        ("", "pods" | "services" | "persistentvolumeclaims") | ("resource.k8s.io", "resourceclaims")
    )
}

/// A count under way.
#[derive(Debug)]
pub struct Count<'a> {
    quota: &'a Value,
    now: Timestamp,
    used: Amounts,
}

impl<'a> Count<'a> {
    /// Begins a count for a quota.
    pub fn new(quota: &'a Value, now: Timestamp) -> Self {
        Self { quota, now, used: Amounts::new() }
    }

    /// Counts objects of a resource, given whole; all that the quota limits and they could use counts as zero at least.
    pub fn add<'o>(&mut self, id: &ResourceId, objects: impl IntoIterator<Item = &'o Value>) {
        let evaluator = Evaluator::of(&id.group, &id.plural);
        for name in Limits::Wanted.names(self.quota).filter(|name| evaluator.knows(name)) {
            self.used.entry(name.into()).or_insert(xebec_api::quantity::Quantity::ZERO);
        }
        for object in objects {
            if evaluator.concerns(self.quota, Limits::Wanted, object) {
                add(&mut self.used, &evaluator.usage(object, self.now));
            }
        }
    }

    /// The merge patch that makes the status say so, unless it does.
    pub fn patch(mut self) -> Option<serde_json::Value> {
        let wanted = amounts(self.quota.at(&["spec", "hard"]));
        self.used.retain(|name, _| wanted.contains_key(name));
        let at = |field: &'static str| amounts(self.quota.at(&["status", field]));
        let (hard, used) = (at("hard"), at("used"));
        let changes = |old: &Amounts, new: &Amounts| {
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            let gone = gone.map(|name| (name.to_string(), serde_json::Value::Null));
            let set = new.iter().filter(|(name, amount)| old.get(*name) != Some(amount));
            let set = set.map(|(name, amount)| (name.to_string(), amount.to_string().into()));
            gone.chain(set).collect::<BTreeMap<String, serde_json::Value>>()
        };
        let (hard, used) = (changes(&hard, &wanted), changes(&used, &self.used));
        if hard.is_empty() && used.is_empty() {
            return None;
        }
        let text = |field: &'static str| self.quota.str_at(&["metadata", field]);
        Some(serde_json::json!({
            "metadata": {"uid": text("uid"), "resourceVersion": text("resourceVersion")},
            "status": {"hard": hard, "used": used},
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use xebec_api::object;

    use super::*;

    fn id(group: &str, plural: &str) -> ResourceId {
        ResourceId { group: group.into(), plural: plural.into() }
    }

    #[test]
    fn names_tell_what_is_counted() {
        let check = |name: &str, want: &[ResourceId]| {
            let mut quota = object!({});
            quota.make(&["spec", "hard"]).make_object().insert(name, "1");
            assert_eq!(counted(&quota).into_iter().collect::<Vec<_>>(), want, "{name}");
        };
        check("pods", &[id("", "pods")]);
        check("requests.example.com/gpu", &[id("", "pods")]);
        check("count/pods", &[id("", "pods")]);
        check("secrets", &[id("", "secrets")]);
        check("count/deployments.apps", &[id("apps", "deployments")]);
        check("count/widgets.example.com", &[id("example.com", "widgets")]);
        check("services.nodeports", &[id("", "services")]);
        check("gold.storageclass.storage.k8s.io/requests.storage", &[id("", "persistentvolumeclaims")]);
        check("gpu.deviceclass.resource.k8s.io/devices", &[id("resource.k8s.io", "resourceclaims")]);
        check("something.else", &[]);
    }

    #[test]
    fn the_status_follows_what_there_is() {
        let now = Timestamp::parse("2026-01-01T00:00:00Z").expect("a time");
        let pod = |phase: &str| {
            object!({"status": {"phase": phase}, "spec": {"containers": [
                {"name": "a", "resources": {"requests": {"cpu": "500m"}}}
            ]}})
        };
        let check = |status: Value, pods: &[Value], want: Option<serde_json::Value>| {
            let quota = object!({
                "metadata": {"uid": "u", "resourceVersion": "7"},
                "spec": {"hard": {"cpu": "2", "pods": "3"}}, "status": (status)
            });
            let mut count = Count::new(&quota, now);
            count.add(&id("", "pods"), pods);
            assert_eq!(count.patch().map(|patch| patch["status"].clone()), want);
        };
        let hard = || object!({"cpu": "2", "pods": "3"});
        check(
            object!({}),
            &[],
            Some(json!({"hard": {"cpu": "2", "pods": "3"}, "used": {"cpu": "0", "pods": "0"}})),
        );
        let counted = object!({"hard": (hard()), "used": {"cpu": "1000m", "pods": "2"}});
        check(counted.clone(), &[pod("Running"), pod("Pending"), pod("Failed")], None);
        check(counted, &[pod("Running")], Some(json!({"hard": {}, "used": {"cpu": "500m", "pods": "1"}})));
        check(
            object!({"hard": {"secrets": "1"}, "used": {"secrets": "0", "cpu": "0", "pods": "0"}}),
            &[],
            Some(json!({"hard": {"secrets": null, "cpu": "2", "pods": "3"}, "used": {"secrets": null}})),
        );
    }
}

//! What the rest of a definition's instances means for it: what its condition says, and whether it can go. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::record::{Definition, DefinitionCondition};
use crate::runtime::clock::{api_time, until};
use crate::runtime::discovery::{ApiKind, ResourceId};

/// The finalizer of this controller.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const TERMINATING: &str = "Terminating";
const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(60);

/// What has become of the instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instances {
    /// The resource was never served, so there cannot be any.
    Never,
    /// None is left.
    Gone,
    /// So many are left; how many each finalizer holds back.
    Left(usize, BTreeMap<String, usize>),
    /// They could not be deleted or counted: why.
    Failed(String),
}

impl Instances {
    /// What a list of those that are left says.
    pub fn counted(left: &[ObjectMeta]) -> Self {
        if left.is_empty() {
            return Self::Gone;
        }
        let mut finalizers = BTreeMap::new();
        for finalizer in left.iter().flat_map(|meta| meta.finalizers.iter().flatten()) {
            *finalizers.entry(finalizer.clone()).or_insert(0) += 1;
        }
        Self::Left(left.len(), finalizers)
    }

    /// Whether the definition may go.
    pub fn let_go(&self) -> bool {
        matches!(self, Self::Never | Self::Gone)
    }
}

/// Whether the definition is being deleted and waits for this controller.
pub fn is_waiting(definition: &Definition) -> bool {
    let mut finalizers = definition.metadata.finalizers.iter().flatten();
    definition.metadata.deletion_timestamp.is_some() && finalizers.any(|finalizer| finalizer == FINALIZER)
}

/// Whether the resource has ever been served.
pub fn is_established(definition: &Definition) -> bool {
    let mut conditions = definition.status.conditions.iter();
    conditions.any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// The resource in a version that the server speaks; `None` when it speaks none.
pub fn resource(definition: &Definition) -> Option<ApiKind> {
    let spec = &definition.spec;
    let version = spec.versions.iter().find(|version| version.served)?;
    Some(ApiKind {
        id: ResourceId { group: spec.group.clone(), plural: spec.names.plural.clone() },
        version: version.name.clone(),
        kind: spec.names.kind.clone(),
        namespaced: spec.scope == "Namespaced",
        verbs: ["deletecollection", "list"].map(str::to_owned).into(),
    })
}

/// The namespaces of the instances whose deletion has not begun; the empty one stands for cluster scope.
pub fn untouched(instances: &[ObjectMeta]) -> BTreeSet<&str> {
    let untouched = instances.iter().filter(|meta| meta.deletion_timestamp.is_none());
    untouched.map(|meta| meta.namespace.as_deref().unwrap_or_default()).collect()
}

/// The merge patch that reports on the instances and, when none is left, lets go of the definition; `None` when there
/// is nothing new to say. It holds for the revision that it was made from.
pub fn patch(definition: &Definition, instances: &Instances, now: Timestamp) -> Option<Value> {
    let conditions = conditions(&definition.status.conditions, instances, now);
    if conditions == definition.status.conditions && !instances.let_go() {
        return None;
    }
    let meta = &definition.metadata;
    let mut patch = json!({
        "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version },
        "status": { "conditions": conditions },
    });
    if instances.let_go() {
        let others = meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER);
        patch["metadata"]["finalizers"] = others.cloned().collect();
    }
    Some(patch)
}

/// When to look again at what goes without an event: a quarter of the time that it has taken so far.
pub fn look_again_after(definition: &Definition, now: Timestamp) -> Duration {
    let since = definition.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    (until(since, now) / 4).clamp(SOONEST, LATEST)
}

/// The conditions with the one that this controller sets; it keeps its time while it stays `True` or `False`.
fn conditions(
    before: &[DefinitionCondition],
    instances: &Instances,
    now: Timestamp,
) -> Vec<DefinitionCondition> {
    let (status, reason, message) = verdict(instances);
    let mut conditions = before.to_vec();
    let standing = conditions.iter().position(|condition| condition.type_ == TERMINATING);
    let since = standing.map(|at| &conditions[at]).filter(|condition| condition.status == status);
    let condition = DefinitionCondition {
        type_: TERMINATING.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since
            .and_then(|condition| condition.last_transition_time.clone())
            .or_else(|| Some(api_time(now).0.to_string())),
        observed_generation: since.and_then(|condition| condition.observed_generation),
    };
    match standing {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    conditions
}

fn verdict(instances: &Instances) -> (&'static str, &'static str, String) {
    match instances {
        Instances::Never => ("False", "NeverEstablished", "resource was never established".to_owned()),
        Instances::Gone => ("False", "InstanceDeletionCompleted", "removed all instances".to_owned()),
        Instances::Failed(why) => ("True", "InstanceDeletionFailed", why.clone()),
        Instances::Left(count, finalizers) => {
            let mut text = format!("CustomResource deletion is in progress: {count} instances are left");
            if !finalizers.is_empty() {
                let each = finalizers.iter().map(|(name, count)| format!("{name} holds {count}"));
                text += &format!("; of the finalizers on them {}", each.collect::<Vec<_>>().join(", "));
            }
            ("True", "InstanceDeletionInProgress", text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_767_225_600).unwrap()
    }

    fn definition(deleted: bool, finalizers: &[&str], conditions: &Value) -> Definition {
        let mut definition: Definition = serde_json::from_value(json!({
            "metadata": {"name": "widgets.example.com", "uid": "u", "resourceVersion": "7", "finalizers": finalizers},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [
                    {"name": "v2", "served": false, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                    {"name": "v1", "served": true, "storage": false},
                ],
            },
            "status": {"conditions": conditions},
        }))
        .unwrap();
        definition.metadata.deletion_timestamp = deleted.then(|| api_time(now()));
        definition
    }

    fn instance(namespace: &str, deleted: bool, finalizers: &[&str]) -> ObjectMeta {
        ObjectMeta {
            namespace: Some(namespace.to_owned()),
            deletion_timestamp: deleted.then(|| api_time(now())),
            finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn only_a_definition_that_goes_and_waits_is_cleaned_up() {
        let check = |deleted: bool, finalizers: &[&str], waits: bool| {
            assert_eq!(is_waiting(&definition(deleted, finalizers, &json!([]))), waits, "{finalizers:?}");
        };
        check(true, &["x", FINALIZER], true);
        check(true, &["x"], false);
        check(true, &[], false);
        check(false, &[FINALIZER], false);
    }

    #[test]
    fn instances_are_reached_through_a_version_that_is_served() {
        let mut definition = definition(true, &[], &json!([]));
        assert_eq!(
            resource(&definition).unwrap().path(Some("a")),
            "/apis/example.com/v1/namespaces/a/widgets"
        );
        definition.spec.versions.truncate(1);
        assert_eq!(resource(&definition), None);
    }

    #[test]
    fn what_is_being_deleted_is_not_deleted_again() {
        let instances = [instance("a", true, &["f"]), instance("b", false, &[]), instance("b", false, &[])];
        assert_eq!(untouched(&instances).into_iter().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_condition_says_what_a_definition_waits_for() {
        let pending = json!([
            {"type": "Established", "status": "True", "reason": "r", "message": "m"},
            {"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
             "lastTransitionTime": "2025-12-31T00:00:00Z"},
        ]);
        let definition = definition(true, &["x", FINALIZER], &pending);
        let check = |instances: &Instances, condition: Value, finalizers: Option<Value>| {
            let patch = patch(&definition, instances, now()).unwrap();
            assert_eq!(patch["status"]["conditions"][1], condition);
            assert_eq!(patch["status"]["conditions"][0]["type"], "Established");
            assert_eq!(patch["metadata"].get("finalizers"), finalizers.as_ref());
            assert_eq!(patch["metadata"]["resourceVersion"], "7");
        };
        let terminating = |status: &str, reason: &str, message: &str, since: &str| {
            json!({"type": "Terminating", "status": status, "reason": reason, "message": message,
                   "lastTransitionTime": since})
        };
        let (before, changed) = ("2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z");
        check(
            &Instances::counted(&[instance("a", true, &["f", "g"]), instance("b", true, &["g"])]),
            terminating(
                "True",
                "InstanceDeletionInProgress",
                "CustomResource deletion is in progress: 2 instances are left; of the finalizers on them f holds 1, \
                 g holds 2",
                before,
            ),
            None,
        );
        check(
            &Instances::Failed("no way".to_owned()),
            terminating("True", "InstanceDeletionFailed", "no way", before),
            None,
        );
        check(
            &Instances::counted(&[]),
            terminating("False", "InstanceDeletionCompleted", "removed all instances", changed),
            Some(json!(["x"])),
        );
        check(
            &Instances::Never,
            terminating("False", "NeverEstablished", "resource was never established", changed),
            Some(json!(["x"])),
        );
    }

    #[test]
    fn nothing_new_is_not_written() {
        let left = Instances::Left(1, BTreeMap::new());
        let mut definition = definition(true, &[FINALIZER], &json!([]));
        definition.status.conditions = conditions(&[], &left, now());
        assert_eq!(patch(&definition, &left, now()), None);
        assert!(patch(&definition, &Instances::Gone, now()).is_some());
    }
}

//! ReplicaSets under planning: what is there, with the changes that the plan makes so far.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::limits::{Strategy, replicas};
use crate::runtime::object::{ObjectKey, Uid, annotation, is_deleting};
use crate::runtime::writer::{merge_diff, to_value};

/// The place of a ReplicaSet in the history of rollouts, and of a Deployment's newest.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets do not inherit.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];
/// The most bytes of earlier revisions that are kept in [`REVISION_HISTORY`].
const HISTORY_BYTES: usize = 2000;

/// One ReplicaSet of a Deployment.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// As it is, or as it will be created.
    set: Cow<'a, ReplicaSet>,
    /// Whether it is on the server.
    exists: bool,
    /// `spec.replicas` as planned.
    pub replicas: i32,
    annotations: BTreeMap<String, String>,
    min_ready_seconds: Option<i32>,
}

/// A change of the number of pods, for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaling {
    /// The ReplicaSet's name.
    pub name: String,
    /// `spec.replicas` before.
    pub from: i32,
    /// `spec.replicas` after.
    pub to: i32,
}

impl<'a> Draft<'a> {
    /// A ReplicaSet that is on the server.
    pub fn existing(set: &'a ReplicaSet) -> Self {
        Self::new(Cow::Borrowed(set), true)
    }

    /// A ReplicaSet that is to be created.
    pub fn fresh(set: ReplicaSet) -> Draft<'static> {
        Draft::new(Cow::Owned(set), false)
    }

    fn new(set: Cow<'a, ReplicaSet>, exists: bool) -> Self {
        let spec = set.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(i32::from(exists));
        let min_ready_seconds = spec.and_then(|spec| spec.min_ready_seconds);
        let annotations = set.metadata.annotations.clone().unwrap_or_default();
        Self { set, exists, replicas, annotations, min_ready_seconds }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or("")
    }

    /// Its uid; empty before it is created.
    pub fn uid(&self) -> Uid {
        Uid::of(&self.set.metadata)
    }

    /// When it was created; what is not created yet is youngest.
    pub fn created(&self) -> Timestamp {
        self.set.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0)
    }

    /// Its template.
    pub fn template(&self) -> Option<&PodTemplateSpec> {
        self.set.spec.as_ref()?.template.as_ref()
    }

    /// Its status.
    pub fn status(&self) -> Cow<'_, ReplicaSetStatus> {
        self.set.status.as_ref().map_or_else(|| Cow::Owned(ReplicaSetStatus::default()), Cow::Borrowed)
    }

    /// `status.availableReplicas`.
    pub fn available(&self) -> i32 {
        self.status().available_replicas.unwrap_or(0)
    }

    /// How many pods are available for certain: as many as reported, but none while the report is older than the
    /// last change of size, which may since have taken some away, and never more than are planned to stay.
    pub fn surely_available(&self) -> i32 {
        if self.is_observed() { self.available().min(self.replicas) } else { 0 }
    }

    /// Whether its status is about its present spec.
    pub fn is_observed(&self) -> bool {
        self.status().observed_generation.unwrap_or(0) >= self.set.metadata.generation.unwrap_or(0)
    }

    /// How many of its pods are being deleted; `None` when its controller does not count them.
    pub fn terminating(&self) -> Option<i32> {
        let status = self.status();
        let unobserved = status.observed_generation.is_none();
        status.terminating_replicas.or(unobserved.then_some(0))
    }

    /// Its revision; 0 when it has none.
    pub fn revision(&self) -> i64 {
        self.annotations.get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
    }

    /// What `spec.replicas` of the Deployment was when this was last scaled for it.
    pub fn recorded_desired(&self) -> Option<i32> {
        self.annotations.get(DESIRED_REPLICAS)?.parse().ok()
    }

    /// How many pods the Deployment might have had then, surge included.
    pub fn recorded_max(&self) -> Option<i32> {
        self.annotations.get(MAX_REPLICAS)?.parse().ok()
    }

    /// Whether it can be deleted as history: empty, reported so, and not already going.
    pub fn is_spent(&self) -> bool {
        let status = self.status();
        status.replicas == 0 && self.replicas == 0 && self.is_observed() && !self.is_deleting()
    }

    /// Whether its deletion has begun.
    pub fn is_deleting(&self) -> bool {
        is_deleting(&self.set.metadata)
    }

    /// Its key and uid.
    pub fn identity(&self) -> (ObjectKey, Uid) {
        (ObjectKey::of(&self.set.metadata), self.uid())
    }

    /// Sets the number of pods.
    pub fn scale(&mut self, to: i32, deployment: &Deployment) {
        self.replicas = to;
        self.record_sizes(deployment);
    }

    /// Notes for which size of the Deployment this is scaled.
    pub fn record_sizes(&mut self, deployment: &Deployment) {
        let desired = replicas(deployment);
        let most = desired.saturating_add(Strategy::of(deployment).max_surge());
        self.annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
        self.annotations.insert(MAX_REPLICAS.to_owned(), most.to_string());
    }

    /// Makes it the newest: its revision is at least `revision`, and it has what it inherits from the Deployment.
    pub fn lead(&mut self, deployment: &Deployment, revision: i64) {
        for (key, value) in deployment.metadata.annotations.iter().flatten() {
            if !OWN_ANNOTATIONS.contains(&key.as_str()) {
                self.annotations.insert(key.clone(), value.clone());
            }
        }
        let last = self.annotations.get(REVISION).cloned();
        if self.revision() < revision {
            self.annotations.insert(REVISION.to_owned(), revision.to_string());
            if let Some(last) = last {
                self.remember(&last);
            }
        }
        self.min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    }

    fn remember(&mut self, revision: &str) {
        let history = self.annotations.get(REVISION_HISTORY).map_or("", String::as_str);
        let mut revisions: Vec<&str> = history.split(',').filter(|each| !each.is_empty()).collect();
        revisions.push(revision);
        while revisions.len() > 1 && revisions.join(",").len() > HISTORY_BYTES {
            revisions.remove(0);
        }
        let joined = revisions.join(",");
        self.annotations.insert(REVISION_HISTORY.to_owned(), joined);
    }

    /// The change of size that this plans, if any.
    pub fn scaling(&self) -> Option<Scaling> {
        let spec = self.set.spec.as_ref();
        let from = if self.exists { spec.and_then(|spec| spec.replicas).unwrap_or(1) } else { 0 };
        let to = self.replicas;
        (from != to).then(|| Scaling { name: self.name().to_owned(), from, to })
    }

    /// The object to create, when it is to be created.
    pub fn creation(&self) -> Option<ReplicaSet> {
        if self.exists {
            return None;
        }
        let mut set = self.set.clone().into_owned();
        set.metadata.annotations = Some(self.annotations.clone());
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(self.replicas);
            spec.min_ready_seconds = self.min_ready_seconds;
        }
        Some(set)
    }

    /// The JSON merge patch that brings what is there to what is planned.
    pub fn patch(&self) -> Option<Value> {
        if !self.exists {
            return None;
        }
        let mut patch = serde_json::Map::new();
        let mut metadata = serde_json::Map::new();
        let before = to_value(&self.set.metadata.annotations.clone().unwrap_or_default());
        if let Some(annotations) = merge_diff(&before, &to_value(&self.annotations)) {
            metadata.insert("annotations".to_owned(), annotations);
        }
        let spec = self.set.spec.as_ref();
        let mut changes = serde_json::Map::new();
        if self.scaling().is_some() {
            changes.insert("replicas".to_owned(), json!(self.replicas));
        }
        let min_ready = spec.and_then(|spec| spec.min_ready_seconds);
        if min_ready.unwrap_or(0) != self.min_ready_seconds.unwrap_or(0) {
            changes.insert("minReadySeconds".to_owned(), json!(self.min_ready_seconds));
        }
        if metadata.is_empty() && changes.is_empty() {
            return None;
        }
        metadata.insert("uid".to_owned(), json!(self.set.metadata.uid));
        metadata.insert("resourceVersion".to_owned(), json!(self.set.metadata.resource_version));
        patch.insert("metadata".to_owned(), Value::Object(metadata));
        if !changes.is_empty() {
            patch.insert("spec".to_owned(), Value::Object(changes));
        }
        Some(Value::Object(patch))
    }
}

/// The sum of planned sizes.
pub fn total_replicas<'a>(drafts: impl IntoIterator<Item = &'a Draft<'a>>) -> i32 {
    drafts.into_iter().map(|draft| draft.replicas).sum()
}

/// The revision annotation of a Deployment.
pub fn deployment_revision(deployment: &Deployment) -> Option<&str> {
    annotation(&deployment.metadata, REVISION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(annotations: &Value) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "ns", "uid": "u", "resourceVersion": "5",
                         "annotations": annotations},
            "spec": {"replicas": 2, "selector": {}, "minReadySeconds": 4}
        }))
        .unwrap()
    }

    fn deployment(annotations: &Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "annotations": annotations},
            "spec": {"replicas": 8, "minReadySeconds": 4, "selector": {}, "template": {}}
        }))
        .unwrap()
    }

    #[test]
    fn leading_inherits_annotations_and_keeps_history() {
        let check = |own: Value, inherited: Value, revision, expected: Option<Value>| {
            let set = set(&own);
            let mut draft = Draft::existing(&set);
            draft.lead(&deployment(&inherited), revision);
            let changed = draft.patch().map(|patch| patch["metadata"]["annotations"].clone());
            assert_eq!(changed, expected, "{own} {inherited} {revision}");
        };
        check(json!({REVISION: "3"}), json!({}), 3, None);
        check(json!({REVISION: "5"}), json!({}), 3, None);
        check(json!({}), json!({}), 1, Some(json!({REVISION: "1"})));
        check(json!({REVISION: "1"}), json!({}), 3, Some(json!({REVISION: "3", REVISION_HISTORY: "1"})));
        let history = json!({REVISION: "3", REVISION_HISTORY: "1,2"});
        check(history, json!({}), 9, Some(json!({REVISION: "9", REVISION_HISTORY: "1,2,3"})));
        let inherited =
            json!({"team": "a", REVISION: "7", "kubectl.kubernetes.io/last-applied-configuration": "{}"});
        check(json!({REVISION: "1"}), inherited, 1, Some(json!({"team": "a"})));
    }

    #[test]
    fn patches_say_only_what_changes() {
        let set = set(&json!({REVISION: "1"}));
        let mut draft = Draft::existing(&set);
        assert_eq!(draft.patch(), None);
        draft.scale(6, &deployment(&json!({})));
        assert_eq!(draft.scaling(), Some(Scaling { name: "web-1".to_owned(), from: 2, to: 6 }));
        let patch = json!({
            "metadata": {"uid": "u", "resourceVersion": "5",
                         "annotations": {DESIRED_REPLICAS: "8", MAX_REPLICAS: "10"}},
            "spec": {"replicas": 6}
        });
        assert_eq!(draft.patch(), Some(patch));
    }

    #[test]
    fn history_is_bounded() {
        let long = (1000..1500).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let set = set(&json!({REVISION: "1500", REVISION_HISTORY: long}));
        let mut draft = Draft::existing(&set);
        draft.lead(&deployment(&json!({})), 1501);
        let history = &draft.annotations[REVISION_HISTORY];
        assert!(history.len() <= HISTORY_BYTES && history.ends_with(",1500"));
    }
}

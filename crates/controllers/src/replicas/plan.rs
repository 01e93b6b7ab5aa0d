//! How many pods to make, which to delete, and what to report. Pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::rank::choose_victims;
use crate::pod::PodRecord;
use crate::runtime::clock::api_time;
use crate::runtime::object::Labels;

/// The most pods that one plan creates or deletes; the rest follows when these are visible.
pub const BURST: usize = 500;

/// What an owner asks for.
#[derive(Debug, Clone)]
pub struct Desired {
    /// `spec.replicas`.
    pub replicas: i32,
    /// `spec.minReadySeconds`.
    pub min_ready: Duration,
    /// The labels of the template.
    pub template_labels: Labels,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Whether the owner is being deleted: it then only reports.
    pub deleting: bool,
    /// Whether pods that are going are counted in the status.
    pub counts_terminating: bool,
}

/// The status of a ReplicaSet or ReplicationController.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Active pods.
    pub replicas: i32,
    /// Active pods with all labels of the template.
    #[serde(rename = "fullyLabeledReplicas", skip_serializing_if = "is_zero")]
    pub fully_labeled: i32,
    /// Ready pods.
    #[serde(rename = "readyReplicas", skip_serializing_if = "is_zero")]
    pub ready: i32,
    /// Pods that have been ready for long enough.
    #[serde(rename = "availableReplicas", skip_serializing_if = "is_zero")]
    pub available: i32,
    /// Pods that are being deleted.
    #[serde(rename = "terminatingReplicas", skip_serializing_if = "Option::is_none")]
    pub terminating: Option<i32>,
    /// The generation that this reports on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `ReplicaFailure` and what others have put there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The API leaves these counts out when they are zero.
fn is_zero(count: &i32) -> bool {
    *count == 0
}

/// A condition of the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in CamelCase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many pods to create.
    pub create: usize,
    /// The pods to delete.
    pub delete: Vec<Arc<PodRecord>>,
    /// What to report of the pods as they are now.
    pub status: ReplicaStatus,
    /// When a pod becomes available by the mere passing of time.
    pub wake_after: Option<Duration>,
}

/// Plans for an owner of the pods `owned`. `related` gives the pods of the whole workload, asked for only when
/// pods must go.
pub fn plan(
    desired: &Desired,
    last: &ReplicaStatus,
    owned: &[Arc<PodRecord>],
    related: impl FnOnce() -> Vec<Arc<PodRecord>>,
    now: Timestamp,
) -> Plan {
    let active: Vec<_> = owned.iter().filter(|pod| pod.is_active()).cloned().collect();
    let wanted = usize::try_from(desired.replicas).unwrap_or(0);
    let (mut create, mut delete) = (0, Vec::new());
    if !desired.deleting && active.len() < wanted {
        create = (wanted - active.len()).min(BURST);
    } else if !desired.deleting && active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST);
        delete = choose_victims(&active, &related(), surplus, desired.min_ready, now);
    }
    let waits = active.iter().filter_map(|pod| pod.time_to_available(desired.min_ready, now));
    let wake_after = waits.filter(|wait| !wait.is_zero()).min();
    Plan { create, delete, status: status(desired, last, owned, &active, now), wake_after }
}

fn status(
    desired: &Desired,
    last: &ReplicaStatus,
    owned: &[Arc<PodRecord>],
    active: &[Arc<PodRecord>],
    now: Timestamp,
) -> ReplicaStatus {
    let count = |holds: &dyn Fn(&PodRecord) -> bool| to_i32(active.iter().filter(|pod| holds(pod)).count());
    let labelled = |pod: &PodRecord| {
        desired.template_labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
    };
    let going = || to_i32(owned.iter().filter(|pod| pod.deleting.is_some() && !pod.is_finished()).count());
    ReplicaStatus {
        replicas: to_i32(active.len()),
        fully_labeled: count(&labelled),
        ready: count(&|pod| pod.ready.is_true),
        available: count(&|pod| pod.is_available(desired.min_ready, now)),
        terminating: desired.counts_terminating.then(going),
        observed_generation: desired.generation,
        conditions: last.conditions.clone(),
    }
}

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What went wrong with creating or deleting pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFailure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl ReplicaStatus {
    /// Adds or removes the condition `ReplicaFailure`. One that stands keeps its time and text, so that a repeated
    /// failure does not rewrite the status over and over.
    pub fn with_failure(mut self, failure: Option<&ReplicaFailure>, now: Timestamp) -> Self {
        let standing = self.conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
        match failure {
            None => self.conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
            Some(_) if standing => {}
            Some(failure) => self.conditions.push(Condition {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(api_time(now)),
                reason: Some(failure.reason.to_owned()),
                message: Some(failure.message.clone()),
            }),
        }
        self
    }
}

/// The sizes of the batches in which `total` pods are created: 1, 2, 4 and so on, so that an owner whose pods are
/// all refused causes one refusal and not hundreds.
pub fn slow_start(total: usize) -> impl Iterator<Item = usize> {
    let (mut left, mut size) = (total, 1);
    std::iter::from_fn(move || {
        let batch = size.min(left);
        left -= batch;
        size *= 2;
        (batch > 0).then_some(batch)
    })
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Phase;
    use crate::pod::tests::pod;
    use std::collections::BTreeMap;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    /// `r` ready, `n` not ready, `t` going, `f` failed, `y` ready for 3 s, `u` ready and without labels.
    fn pods(kinds: &str) -> Vec<Arc<PodRecord>> {
        let record = |(index, kind): (usize, char)| {
            let mut pod = PodRecord::of(&pod("ns", &format!("p{index}")));
            pod.phase = if kind == 'f' { Phase::Failed } else { Phase::Running };
            pod.ready.is_true = "ryu".contains(kind);
            let age = if kind == 'y' { 3 } else { 1000 };
            pod.ready.since = Some(Timestamp::from_second(1_000_000 - age).unwrap());
            pod.deleting = (kind == 't').then(now);
            if kind != 'u' {
                pod.labels = Labels::from(&BTreeMap::from([("app".to_owned(), "web".to_owned())]));
            }
            Arc::new(pod)
        };
        kinds.chars().enumerate().map(record).collect()
    }

    fn desired(replicas: i32) -> Desired {
        Desired {
            replicas,
            min_ready: Duration::from_secs(10),
            template_labels: Labels::from(&BTreeMap::from([("app".to_owned(), "web".to_owned())])),
            generation: Some(4),
            deleting: false,
            counts_terminating: true,
        }
    }

    #[test]
    fn makes_up_the_difference() {
        let check = |replicas, kinds: &str, create, delete: &[&str]| {
            let plan = plan(&desired(replicas), &ReplicaStatus::default(), &pods(kinds), Vec::new, now());
            let victims: Vec<_> = plan.delete.iter().map(|pod| pod.key.name().to_owned()).collect();
            assert_eq!(
                (plan.create, victims),
                (create, delete.iter().map(|p| (*p).to_owned()).collect()),
                "{kinds}"
            );
        };
        check(3, "", 3, &[]);
        check(3, "rrr", 0, &[]);
        check(3, "rtf", 2, &[]);
        check(1, "rnr", 0, &["p1", "p0"]);
        check(0, "rt", 0, &["p0"]);
        check(-1, "", 0, &[]);
        check(2000, "", BURST, &[]);
    }

    #[test]
    fn reports_what_is_there() {
        let mut deleting = desired(9);
        deleting.deleting = true;
        let plan = plan(&deleting, &ReplicaStatus::default(), &pods("rrnytfu"), Vec::new, now());
        assert_eq!(plan.create, 0, "an owner that goes makes nothing");
        let expected = ReplicaStatus {
            replicas: 5,
            fully_labeled: 4,
            ready: 4,
            available: 3,
            terminating: Some(1),
            observed_generation: Some(4),
            conditions: Vec::new(),
        };
        assert_eq!(plan.status, expected);
        assert_eq!(plan.wake_after, Some(Duration::from_secs(7)), "p3 becomes available without an event");
    }

    #[test]
    fn a_failure_is_reported_once_and_taken_back() {
        let failure = |message: &str| ReplicaFailure { reason: "FailedCreate", message: message.to_owned() };
        let first = ReplicaStatus::default().with_failure(Some(&failure("quota")), now());
        assert_eq!(first.conditions[0].message.as_deref(), Some("quota"));
        let later = Timestamp::from_second(2_000_000).unwrap();
        assert_eq!(first.clone().with_failure(Some(&failure("other")), later), first);
        assert_eq!(first.with_failure(None, later), ReplicaStatus::default());
    }

    #[test]
    fn batches_double() {
        for (total, batches) in [(0, vec![]), (1, vec![1]), (6, vec![1, 2, 3]), (7, vec![1, 2, 4])] {
            assert_eq!(slow_start(total).collect::<Vec<_>>(), batches);
        }
    }
}

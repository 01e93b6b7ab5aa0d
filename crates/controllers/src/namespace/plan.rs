//! What the remains of a namespace mean: whether it can go, and what its conditions say. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::runtime::clock::{api_time, until};

/// The finalizer of this controller.
pub const FINALIZER: &str = "kubernetes";

const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(60);

/// What is left of a namespace after one attempt to remove it all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Group versions about which the server could not tell.
    pub undiscovered: Vec<String>,
    /// What could not be deleted or counted, and why.
    pub failures: Vec<String>,
    /// How many objects are left, by resource.
    pub objects: BTreeMap<String, usize>,
    /// How many objects each finalizer holds back.
    pub finalizers: BTreeMap<String, usize>,
}

impl Remains {
    /// Counts what is left of one resource.
    pub fn count(&mut self, resource: &str, left: &[ObjectMeta]) {
        if left.is_empty() {
            return;
        }
        self.objects.insert(resource.to_owned(), left.len());
        for finalizer in left.iter().flat_map(|meta| meta.finalizers.iter().flatten()) {
            *self.finalizers.entry(finalizer.clone()).or_insert(0) += 1;
        }
    }

    /// Whether, with what goes first looked at, the rest may follow: nothing of it is left, and none of it is beyond
    /// knowing.
    pub fn lets_others_go(&self) -> bool {
        self.failures.is_empty() && self.objects.is_empty()
    }

    /// Whether nothing is left, for certain.
    pub fn is_nothing(&self) -> bool {
        self.undiscovered.is_empty() && self.failures.is_empty() && self.objects.is_empty()
    }
}

/// Whether the namespace is being deleted and waits for this controller.
pub fn is_waiting(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.into_iter().any(|finalizer| finalizer == FINALIZER)
}

/// Takes this controller's finalizer out.
pub fn let_go(namespace: &mut Namespace) {
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
}

/// When to look again at what goes without an event: a quarter of the time that it has taken so far.
pub fn look_again_after(namespace: &Namespace, now: Timestamp) -> Duration {
    let since = namespace.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    (until(since, now) / 4).clamp(SOONEST, LATEST)
}

/// The conditions that describe `remains`; those that say the same as before keep their time.
pub fn conditions(
    before: &[NamespaceCondition],
    remains: &Remains,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let mut conditions = before.to_vec();
    for verdict in verdicts(remains) {
        let status = if verdict.holds { "True" } else { "False" };
        let standing = conditions.iter().position(|condition| condition.type_ == verdict.type_);
        let since = standing.map(|at| &conditions[at]).filter(|condition| condition.status == status);
        let condition = NamespaceCondition {
            type_: verdict.type_.to_owned(),
            status: status.to_owned(),
            last_transition_time: since
                .and_then(|condition| condition.last_transition_time.clone())
                .or_else(|| Some(api_time(now))),
            reason: Some(verdict.reason.to_owned()),
            message: Some(verdict.message),
        };
        match standing {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

struct Verdict {
    type_: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(type_: &'static str, trouble: Option<(&'static str, String)>, fine: (&'static str, &str)) -> Self {
        let holds = trouble.is_some();
        let (reason, message) = trouble.unwrap_or_else(|| (fine.0, fine.1.to_owned()));
        Self { type_, holds, reason, message }
    }
}

fn verdicts(remains: &Remains) -> [Verdict; 5] {
    let list = |texts: &[String]| texts.join(", ");
    let undiscovered = (!remains.undiscovered.is_empty()).then(|| {
        ("DiscoveryFailed", format!("Discovery failed for some groups: {}", list(&remains.undiscovered)))
    });
    let failures = (!remains.failures.is_empty()).then(|| {
        let text = format!("Failed to delete all resource types, {} remaining: ", remains.failures.len());
        ("ContentDeletionFailed", text + &list(&remains.failures))
    });
    let objects = (!remains.objects.is_empty()).then(|| {
        let each = remains
            .objects
            .iter()
            .map(|(resource, count)| format!("{resource} has {count} resource instances"));
        let text = format!("Some resources are remaining: {}", list(&each.collect::<Vec<_>>()));
        ("SomeResourcesRemain", text)
    });
    let finalizers = (!remains.finalizers.is_empty()).then(|| {
        let each =
            remains.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
        let text = "Some content in the namespace has finalizers remaining: ".to_owned();
        ("SomeFinalizersRemain", text + &list(&each.collect::<Vec<_>>()))
    });
    [
        Verdict::new(
            "NamespaceDeletionDiscoveryFailure",
            undiscovered,
            ("ResourcesDiscovered", "All resources were discovered"),
        ),
        Verdict::new(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All group versions were understood"),
        ),
        Verdict::new(
            "NamespaceDeletionContentFailure",
            failures,
            ("ContentDeleted", "All content was deleted, and may be waiting for finalizers"),
        ),
        Verdict::new("NamespaceContentRemaining", objects, ("ContentRemoved", "All content is gone")),
        Verdict::new(
            "NamespaceFinalizersRemaining",
            finalizers,
            ("ContentHasNoFinalizers", "No finalizer holds any content back"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn meta(finalizers: &[&str]) -> ObjectMeta {
        let finalizers = finalizers.iter().map(|name| (*name).to_owned()).collect();
        ObjectMeta { finalizers: Some(finalizers), ..ObjectMeta::default() }
    }

    #[test]
    fn conditions_say_what_holds_a_namespace_back() {
        let mut remains = Remains::default();
        remains.count("pods.", &[meta(&["example.com/a"]), meta(&["example.com/a", "b"])]);
        remains.count("configmaps.", &[]);
        assert!(!remains.is_nothing());
        let described: Vec<_> = conditions(&[], &remains, now())
            .into_iter()
            .map(|condition| (condition.status, condition.reason.unwrap(), condition.message.unwrap()))
            .filter(|(status, ..)| status == "True")
            .map(|(_, reason, message)| format!("{reason}: {message}"))
            .collect();
        assert_eq!(
            described,
            [
                "SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances",
                "SomeFinalizersRemain: Some content in the namespace has finalizers remaining: \
                 b in 1 resource instances, example.com/a in 2 resource instances",
            ]
        );
    }

    #[test]
    fn what_is_beyond_knowing_holds_a_namespace_back() {
        let check = |remains: Remains, lets_others_go, is_nothing| {
            assert_eq!(
                (remains.lets_others_go(), remains.is_nothing()),
                (lets_others_go, is_nothing),
                "{remains:?}"
            );
        };
        check(Remains::default(), true, true);
        let text = || vec!["something".to_owned()];
        check(Remains { failures: text(), ..Remains::default() }, false, false);
        check(Remains { undiscovered: text(), ..Remains::default() }, true, false);
        check(
            Remains { objects: BTreeMap::from([("pods.".to_owned(), 1)]), ..Remains::default() },
            false,
            false,
        );
    }

    #[test]
    fn conditions_keep_their_time_while_they_say_the_same() {
        let remains = Remains { undiscovered: vec!["a/v1".to_owned()], ..Remains::default() };
        let first = conditions(&[], &remains, now());
        let later = Timestamp::from_second(2_000_000).unwrap();
        assert_eq!(conditions(&first, &remains, later), first);
        let better = conditions(&first, &Remains::default(), later);
        assert_eq!((better[0].status.as_str(), better.len()), ("False", 5));
        assert_eq!(better[0].last_transition_time, Some(api_time(later)));
        assert_eq!(better[1], first[1]);
    }

    #[test]
    fn only_a_namespace_that_goes_and_waits_is_emptied() {
        let check = |namespace: Value, waiting: bool| {
            let mut parsed: Namespace = serde_json::from_value(namespace.clone()).unwrap();
            assert_eq!(is_waiting(&parsed), waiting, "{namespace}");
            let_go(&mut parsed);
            assert!(!is_waiting(&parsed));
        };
        let deleted = "2026-01-01T00:00:00Z";
        check(json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}}), false);
        check(
            json!({"metadata": {"deletionTimestamp": deleted}, "spec": {"finalizers": ["kubernetes", "x"]}}),
            true,
        );
        check(json!({"metadata": {"deletionTimestamp": deleted}, "spec": {"finalizers": ["x"]}}), false);
        check(json!({"metadata": {"deletionTimestamp": deleted}}), false);
    }

    #[test]
    fn looks_become_rarer() {
        for (age, wait_ms) in [(0, 500), (2, 500), (40, 10_000), (100_000, 60_000)] {
            let deleted = Timestamp::from_second(1_000_000 - age).unwrap();
            let namespace: Namespace =
                serde_json::from_value(json!({"metadata": {"deletionTimestamp": deleted.to_string()}}))
                    .unwrap();
            assert_eq!(look_again_after(&namespace, now()).as_millis(), wait_ms, "after {age} s");
        }
    }
}

//! Plans of single steps, case by case. Whole rollouts are walked through in `tests/rollout.rs`.

#![allow(clippy::needless_pass_by_value, reason = "cases read better as literals")]

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::{Observed, Plan, plan};
use super::status::find;
use crate::runtime::object::Uid;

const NOW: i64 = 1_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// A Deployment named `web` whose template has image `v3`.
fn deployment(replicas: i32, spec: Value, status: Value) -> Deployment {
    let mut whole = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 7},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("v3")},
    });
    merge(&mut whole["spec"], spec);
    whole["status"] = status;
    serde_json::from_value(whole).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// `image replicas available` and optionally `of desired/max`, the sizes it was last scaled for.
fn set(index: i64, text: &str) -> Arc<ReplicaSet> {
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or("");
    let image = word();
    let (replicas, available) = (number(word()), number(word()));
    let mut annotations = json!({"deployment.kubernetes.io/revision": (index + 1).to_string()});
    if word() == "of" {
        let (desired, most) = word().split_once('/').unwrap();
        annotations["deployment.kubernetes.io/desired-replicas"] = json!(desired);
        annotations["deployment.kubernetes.io/max-replicas"] = json!(most);
    }
    let created = Timestamp::from_second(NOW - 1000 + index).unwrap();
    let set = json!({
        "metadata": {"name": image, "namespace": "ns", "uid": format!("uid-{image}"), "generation": 1,
                     "creationTimestamp": created.to_string(), "annotations": annotations},
        "spec": {"replicas": replicas, "selector": {}, "template": template(image)},
        "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available,
                   "terminatingReplicas": 0, "observedGeneration": 1},
    });
    Arc::new(serde_json::from_value(set).unwrap())
}

fn number(text: &str) -> i32 {
    text.parse().unwrap()
}

fn plan_for(deployment: &Deployment, sets: &[&str], running: &[(&str, usize)]) -> Plan {
    let sets: Vec<_> = (0..).zip(sets).map(|(index, text)| set(index, text)).collect();
    let running: BTreeMap<_, _> =
        running.iter().map(|(image, pods)| (Uid::new(&format!("uid-{image}")), *pods)).collect();
    plan(&Observed { deployment, sets: &sets, running: &running, now: now() })
}

/// `+3` for a new ReplicaSet, `v1=2` for a changed size.
fn sizes(plan: &Plan) -> String {
    let created = plan.create.iter().map(|set| format!("+{}", set.spec.as_ref().unwrap().replicas.unwrap()));
    let patched = plan.patch.iter().filter_map(|(key, patch)| {
        patch["spec"]["replicas"].as_i64().map(|replicas| format!("{}={replicas}", key.name()))
    });
    created.chain(patched).collect::<Vec<_>>().join(" ")
}

fn progress(plan: &Plan) -> String {
    let condition = find(&plan.status, "Progressing");
    condition.map_or(String::new(), |c| format!("{} {}", c.status, c.reason.clone().unwrap_or_default()))
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"strategy": {"type": "RollingUpdate",
           "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}})
}

#[test]
fn rolling_updates_move_within_their_limits() {
    let check = |replicas, surge: Value, unavailable: Value, sets: &[&str], expected: &str| {
        let deployment = deployment(replicas, rolling(surge.clone(), unavailable.clone()), json!({}));
        assert_eq!(
            sizes(&plan_for(&deployment, sets, &[])),
            expected,
            "{replicas} {surge} {unavailable} {sets:?}"
        );
    };
    let (one, none, quarter) = (|| json!(1), || json!(0), || json!("25%"));
    check(3, one(), none(), &[], "+3");
    check(0, quarter(), quarter(), &[], "+0");
    check(10, json!(3), json!(2), &["v1 10 10"], "+3 v1=8");
    check(3, one(), none(), &["v1 3 3"], "+1");
    check(3, one(), none(), &["v1 3 3", "v3 1 0"], "");
    check(3, one(), none(), &["v1 3 3", "v3 1 1"], "v1=2");
    check(3, one(), none(), &["v1 2 2", "v3 1 1"], "v3=2");
    check(3, none(), one(), &["v1 3 3"], "+0 v1=2");
    check(3, none(), one(), &["v1 2 2", "v3 0 0"], "v3=1");
    check(3, one(), none(), &["v1 1 1", "v3 3 3"], "v1=0");
    check(3, one(), none(), &["v1 0 0", "v3 3 3"], "");
    // Unhealthy old pods go first, and all of them may, since they help nobody.
    check(10, json!(3), json!(2), &["v1 10 8", "v3 3 0"], "v1=8");
    check(4, none(), one(), &["v1 2 0", "v2 2 2", "v3 0 0"], "v1=1");
    check(4, json!(4), none(), &["v1 4 1", "v3 4 4"], "v1=0");
    // A rollover: the third template arrives while the second is on its way.
    check(10, json!(3), json!(2), &["v1 8 8", "v2 5 0"], "+0 v2=0");
    // Too many new ones.
    check(2, one(), none(), &["v3 5 5"], "v3=2");
    // Going back to a template that is still there takes its ReplicaSet up again.
    check(3, one(), none(), &["v3 0 0", "v2 3 3"], "v3=1");
}

#[test]
fn recreate_waits_until_the_last_old_pod_has_gone() {
    let check = |sets: &[&str], running: &[(&str, usize)], expected: &str| {
        let deployment = deployment(3, json!({"strategy": {"type": "Recreate"}}), json!({}));
        assert_eq!(sizes(&plan_for(&deployment, sets, running)), expected, "{sets:?} {running:?}");
    };
    check(&[], &[], "+3");
    check(&["v1 3 3"], &[("v1", 3)], "v1=0");
    check(&["v1 0 0"], &[("v1", 1)], "");
    check(&["v1 0 0"], &[("v1", 0)], "+3");
    check(&["v1 0 0", "v3 0 0"], &[("v1", 0)], "v3=3");
    check(&["v1 0 0", "v3 3 1"], &[("v1", 0), ("v3", 3)], "");
}

#[test]
fn scaling_keeps_the_shares_of_a_rollout() {
    let check = |replicas, paused: bool, sets: &[&str], expected: &str| {
        let mut spec = rolling(json!("25%"), json!("25%"));
        merge(&mut spec, json!({"paused": paused}));
        let plan = plan_for(&deployment(replicas, spec, json!({})), sets, &[]);
        assert_eq!(sizes(&plan), expected, "{replicas} {paused} {sets:?}");
    };
    check(5, false, &["v3 3 3 of 3/4"], "v3=5");
    check(5, true, &[], "");
    check(5, true, &["v1 3 3 of 3/4"], "v1=5");
    check(0, true, &["v1 3 3 of 3/4"], "v1=0");
    check(5, true, &["v1 0 0", "v3 0 0"], "v3=5");
    check(5, true, &["v1 0 0", "v2 0 0"], "v2=5");
    // A finished newest one takes the others' pods away.
    check(5, true, &["v1 2 2 of 5/7", "v3 5 5 of 5/7"], "v1=0");
    // 10 pods with 3 of surge become 20 with 5: 13 are 25.
    check(20, false, &["v1 8 8 of 10/13", "v3 5 5 of 10/13"], "v1=15 v3=10");
    check(5, false, &["v1 8 8 of 10/13", "v3 5 5 of 10/13"], "v1=4 v3=3");
    check(0, false, &["v1 8 8 of 10/13", "v3 5 5 of 10/13"], "v1=0 v3=0");
    // What was sized by hand to the same number is taken note of, and the rollout goes on.
    check(5, false, &["v1 5 5 of 3/4"], "");
}

#[test]
fn resizing_by_hand_to_the_wanted_size_does_not_stop_a_rollout() {
    let deployment = deployment(5, rolling(json!(1), json!(0)), json!({}));
    let noted = plan_for(&deployment, &["v1 5 5 of 3/4"], &[]);
    let annotations = &noted.patch[0].1["metadata"]["annotations"];
    assert_eq!(annotations["deployment.kubernetes.io/desired-replicas"], json!("5"));
    assert_eq!(sizes(&plan_for(&deployment, &["v1 5 5 of 5/6"], &[])), "+1");
}

#[test]
fn history_goes_when_a_rollout_is_complete() {
    let check = |limit: Value, sets: &[&str], expected: &[&str]| {
        let spec = json!({"revisionHistoryLimit": limit});
        let plan = plan_for(&deployment(2, spec, json!({})), sets, &[]);
        let deleted: Vec<_> = plan.delete.iter().map(|(key, _)| key.name().to_owned()).collect();
        assert_eq!(deleted, expected, "{limit} {sets:?}");
    };
    let complete = ["v0 0 0", "v1 0 0", "v2 0 0", "v3 2 2"];
    check(json!(10), &complete, &[]);
    check(json!(1), &complete, &["v0", "v1"]);
    check(json!(0), &complete, &["v0", "v1", "v2"]);
    check(json!(null), &complete, &[]);
    check(json!(0), &["v0 0 0", "v1 1 1", "v3 2 2"], &[]);
}

#[test]
fn progress_is_judged() {
    let ago = |seconds: i64| Timestamp::from_second(NOW - seconds).unwrap().to_string();
    let status = |reason: &str, seconds, updated: i32, available: i32| {
        json!({"replicas": 3, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available,
               "conditions": [{"type": "Progressing", "status": "True", "reason": reason,
                               "lastUpdateTime": ago(seconds), "lastTransitionTime": ago(seconds)}]})
    };
    let check = |deadline: Value, status: Value, sets: &[&str], expected: (&str, Option<u64>)| {
        let mut spec = rolling(json!(1), json!(0));
        merge(&mut spec, json!({"progressDeadlineSeconds": deadline}));
        let plan = plan_for(&deployment(3, spec, status.clone()), sets, &[]);
        let wake = plan.wake_after.map(|wait| wait.as_secs());
        assert_eq!((progress(&plan).as_str(), wake), expected, "{deadline} {status} {sets:?}");
    };
    let limit = || json!(60);
    check(limit(), json!({}), &[], ("True NewReplicaSetCreated", Some(61)));
    check(limit(), json!({}), &["v3 3 3"], ("True NewReplicaSetAvailable", None));
    check(limit(), json!({}), &["v3 3 0"], ("True ReplicaSetUpdated", Some(61)));
    let rolling_on = ["v1 2 2", "v3 2 1"];
    check(limit(), status("ReplicaSetUpdated", 30, 2, 3), &rolling_on, ("True ReplicaSetUpdated", Some(31)));
    check(limit(), status("ReplicaSetUpdated", 30, 1, 3), &rolling_on, ("True ReplicaSetUpdated", Some(61)));
    check(
        limit(),
        status("ReplicaSetUpdated", 61, 2, 3),
        &rolling_on,
        ("False ProgressDeadlineExceeded", None),
    );
    check(
        limit(),
        status("NewReplicaSetAvailable", 900, 3, 3),
        &["v3 3 2"],
        ("True NewReplicaSetAvailable", None),
    );
    check(json!(null), status("ReplicaSetUpdated", 61, 2, 3), &rolling_on, ("", None));
    check(json!(i32::MAX), status("ReplicaSetUpdated", 61, 2, 3), &rolling_on, ("", None));
}

#[test]
fn pausing_stops_the_clock() {
    let condition = |reason: &str| {
        json!({"conditions": [{"type": "Progressing", "status": "Unknown", "reason": reason,
               "lastUpdateTime": "1970-01-01T00:00:00Z"}]})
    };
    let check = |paused: bool, status: Value, expected: &str| {
        let spec = json!({"paused": paused, "progressDeadlineSeconds": 60});
        let plan = plan_for(&deployment(3, spec, status.clone()), &["v1 3 3 of 3/4", "v3 1 0 of 3/4"], &[]);
        assert_eq!(progress(&plan), expected, "{paused} {status}");
    };
    check(true, json!({}), "Unknown DeploymentPaused");
    check(true, condition("DeploymentPaused"), "Unknown DeploymentPaused");
    check(false, condition("DeploymentPaused"), "True ReplicaSetUpdated");
    check(true, condition("ProgressDeadlineExceeded"), "Unknown ProgressDeadlineExceeded");
}

#[test]
fn status_counts_and_revision_follow_the_sets() {
    let mut spec = rolling(json!(1), json!(0));
    merge(&mut spec, json!({"progressDeadlineSeconds": 60}));
    let plan = plan_for(&deployment(3, spec, json!({"collisionCount": 2})), &["v1 2 2", "v3 2 1"], &[]);
    let status = &plan.status;
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
        status.unavailable_replicas,
        status.terminating_replicas,
        status.collision_count,
    ];
    assert_eq!(counts, [Some(4), Some(2), Some(3), Some(3), Some(1), Some(0), Some(2)]);
    assert_eq!(status.observed_generation, Some(7));
    assert_eq!(find(status, "Available").unwrap().status, "True");
    assert_eq!(plan.revision.as_deref(), Some("2"));
}

#[test]
fn a_new_set_is_told_apart_by_its_hash() {
    let plan = plan_for(&deployment(3, json!({"minReadySeconds": 5}), json!({})), &["v1 3 3"], &[]);
    let set = plan.create.unwrap();
    let name = set.metadata.name.clone().unwrap();
    let hash = name.strip_prefix("web-").unwrap();
    let spec = set.spec.unwrap();
    let labelled = json!({"app": "web", "pod-template-hash": hash});
    let template = serde_json::to_value(spec.template).unwrap();
    assert_eq!(serde_json::to_value(spec.selector.match_labels).unwrap(), labelled);
    assert_eq!(template["metadata"]["labels"], labelled);
    assert_eq!(serde_json::to_value(set.metadata.labels).unwrap(), labelled);
    assert_eq!(spec.min_ready_seconds, Some(5));
    let owner = &set.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Deployment", "d", Some(true)));
    let annotations = set.metadata.annotations.unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "2");
    assert_eq!(annotations["deployment.kubernetes.io/max-replicas"], "4");
}

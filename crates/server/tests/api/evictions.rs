//! Evictions: what a disruption budget holds back, given the status that its controller would write.

use xebec_api::{Value, json, object};

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn tree(text: &str) -> Value {
    json::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Makes a pod that runs on a node, ready or not.
async fn running(client: &Client, name: &str, ready: bool) {
    let pod = object!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "a"}]}
    });
    client.send(Call::post(PODS, &pod)).await.expect(201).expect("made");
    let ready = if ready { "True" } else { "False" };
    let status =
        object!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    let written = client.send(Call::patch(format!("{PODS}/{name}/status"), MERGE_PATCH, &status)).await;
    written.expect(200).expect("runs");
}

/// A cluster in which pods can be made.
async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = admin.send(Call::post(accounts, &object!({"metadata": {"name": "default"}}))).await;
    account.expect(201).expect("made");
    (cluster, admin)
}

#[tokio::test]
async fn the_pod_says_why_it_goes() {
    let (_cluster, admin) = start().await;
    running(&admin, "good", true).await;
    let evict = async |name: &str, preconditions: Value| {
        let eviction = object!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name},
            "deleteOptions": {"preconditions": (preconditions)}
        });
        admin.send(Call::post(format!("{PODS}/good/eviction"), &eviction)).await
    };
    for name in ["other", ""] {
        let text = evict(name, object!({})).await.refused(400, "BadRequest").expect("another pod is meant");
        assert_eq!(text, "name in URL does not match name in Eviction object");
    }
    for other in [object!({"uid": "nonsense"}), object!({"resourceVersion": "1"})] {
        let text = evict("good", other).await.refused(409, "Conflict").expect("it is another one");
        assert!(text.contains("Precondition failed"), "{text}");
    }
    let pod = admin.get(&format!("{PODS}/good")).await.expect(200).expect("there");
    assert!(pod.at(&["metadata", "deletionTimestamp"]).is_none());
    let same = object!({
        "uid": (pod.str_at(&["metadata", "uid"]).expect("a UID")),
        "resourceVersion": (pod.str_at(&["metadata", "resourceVersion"]).expect("a version"))
    });
    let answer = evict("good", same).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let pod = admin.get(&format!("{PODS}/good")).await.expect(200).expect("it has time to end");
    assert!(pod.at(&["metadata", "deletionTimestamp"]).is_some());
    let target = pod.array_at(&["status", "conditions"]).iter();
    let target = target.into_iter().find(|c| c.str_at(&["type"]) == Some("DisruptionTarget"));
    let target = target.expect("it says why");
    for (field, text) in
        [("status", "True"), ("reason", "EvictionByEvictionAPI"), ("message", "Eviction API: evicting")]
    {
        assert_eq!(target.str_at(&[field]), Some(text));
    }
}

#[tokio::test]
async fn a_budget_holds_back_what_it_covers() {
    let (_cluster, admin) = start().await;
    running(&admin, "good", true).await;
    running(&admin, "bad", false).await;
    const WEB: &str = r#""selector": {"matchLabels": {"app": "web"}}"#;
    const EMPTY: &str = r#""selector": {}"#;
    const ALWAYS: &str = r#""selector": {}, "unhealthyPodEvictionPolicy": "AlwaysAllow""#;
    const NONE_LEFT: &str =
        r#"{"observedGeneration": 1, "disruptionsAllowed": 0, "desiredHealthy": 2, "currentHealthy": 1}"#;
    const ENOUGH: &str =
        r#"{"observedGeneration": 1, "disruptionsAllowed": 0, "desiredHealthy": 1, "currentHealthy": 1}"#;
    const ONE_LEFT: &str =
        r#"{"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 1, "currentHealthy": 2}"#;
    const UNSEEN: &str = r#"{"disruptionsAllowed": 1, "desiredHealthy": 1, "currentHealthy": 2}"#;
    let needs = "The disruption budget b needs 2 healthy pods and has 1 currently";
    let unseen = "The disruption budget b is still being processed by the server.";
    for (spec, status, pod, refusal) in [
        (WEB, ONE_LEFT, "good", None),
        (WEB, NONE_LEFT, "good", Some(needs)),
        (EMPTY, NONE_LEFT, "good", Some(needs)),
        // No selector is about no pod.
        (r#""minAvailable": 1"#, NONE_LEFT, "good", None),
        (r#""selector": null"#, NONE_LEFT, "good", None),
        (r#""selector": {"matchLabels": {"app": "db"}}"#, NONE_LEFT, "good", None),
        (EMPTY, UNSEEN, "good", Some(unseen)),
        // What is not ready is not counted, so it costs nothing where enough others are.
        (WEB, NONE_LEFT, "bad", Some(needs)),
        (WEB, ENOUGH, "bad", None),
        (ALWAYS, NONE_LEFT, "bad", None),
        (ALWAYS, NONE_LEFT, "good", Some(needs)),
    ] {
        let budget = tree(&format!(r#"{{"metadata": {{"name": "b"}}, "spec": {{{spec}}}}}"#));
        admin
            .send(Call::post(BUDGETS, &budget))
            .await
            .expect(201)
            .unwrap_or_else(|why| panic!("{spec}: {why}"));
        let status = object!({"status": (tree(status))});
        let written = admin.send(Call::patch(format!("{BUDGETS}/b/status"), MERGE_PATCH, &status)).await;
        written.expect(200).unwrap_or_else(|why| panic!("{spec}: {why}"));
        let eviction = object!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod},
            "deleteOptions": {"dryRun": ["All"]}
        });
        let answer = admin.send(Call::post(format!("{PODS}/{pod}/eviction"), &eviction)).await;
        let what = format!("{pod} with {spec} and {status:?}");
        match refusal {
            None => assert_eq!(answer.code, 201, "{what}: {}", answer.text()),
            Some(cause) => {
                let text =
                    answer.refused(429, "TooManyRequests").unwrap_or_else(|why| panic!("{what}: {why}"));
                assert_eq!(
                    text, "Cannot evict pod as it would violate the pod's disruption budget.",
                    "{what}"
                );
                let found = answer.json().array_at(&["details", "causes"])[0].clone();
                assert_eq!(found, object!({"reason": "DisruptionBudget", "message": cause}), "{what}");
            }
        }
        admin.send(Call::delete(format!("{BUDGETS}/b"))).await.expect(200).expect("gone");
    }
}

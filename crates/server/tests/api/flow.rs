//! API priority and fairness, as clients see it.

use std::time::Duration;

use http::header::HeaderName;
use xebec_api::{Value, meta, object};

use crate::client::{Answer, Call, Client};
use crate::cluster::Cluster;

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

fn header(answer: &Answer, name: &str) -> String {
    let value = answer.headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// A request of somebody else, whom the administrator acts as.
async fn as_user(admin: &Client, user: &str, path: &str) -> Answer {
    let name = |text: &'static str| HeaderName::from_static(text);
    let call = Call::get(path)
        .header(name("impersonate-user"), user)
        .header(name("impersonate-group"), "system:authenticated");
    admin.send(call).await
}

fn level(name: &str, shares: i64) -> Value {
    object!({
        "metadata": {"name": name},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": shares, "lendablePercent": 0, "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"}
            }
        }
    })
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    object!({
        "metadata": {"name": name},
        "spec": {
            "matchingPrecedence": 1000, "priorityLevelConfiguration": {"name": level},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": user}}],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true
                }],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
            }]
        }
    })
}

async fn made(admin: &Client, resource: &str, object: &Value) -> String {
    let answer = admin.send(Call::post(format!("{GROUP}/{resource}"), object)).await;
    meta::uid(&answer.expect(201).expect("made")).to_owned()
}

/// Waits until something holds of an object.
async fn until(admin: &Client, path: &str, holds: impl Fn(&Answer) -> bool) {
    let found = async {
        while !holds(&admin.get(path).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found)
        .await
        .unwrap_or_else(|_| panic!("{path} never is so"));
}

/// Waits for the status of a schema's condition.
async fn until_dangling(admin: &Client, schema: &str, status: &str) {
    let path = format!("{GROUP}/flowschemas/{schema}");
    let is = |answer: &Answer| {
        let object = answer.json();
        object.array_at(&["status", "conditions"]).iter().any(|condition| {
            condition.str_at(&["type"]) == Some("Dangling") && condition.str_at(&["status"]) == Some(status)
        })
    };
    until(admin, &path, is).await;
}

const SCHEMA_UID: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL_UID: &str = "x-kubernetes-pf-prioritylevel-uid";

#[tokio::test]
async fn requests_are_sorted() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let schema_uid = made(&admin, "flowschemas", &schema("mine", "mine", "noxu")).await;
    until_dangling(&admin, "mine", "True").await;
    let answer = as_user(&admin, "noxu", "/version").await;
    assert_eq!(answer.code, 200);
    assert_ne!(header(&answer, SCHEMA_UID), schema_uid, "a schema without a level sorts nothing");
    let level_uid = made(&admin, "prioritylevelconfigurations", &level("mine", 10)).await;
    until_dangling(&admin, "mine", "False").await;
    for (path, code) in [("/version", 200), ("/api/v1/nodes", 403), ("/apis", 200)] {
        let answer = as_user(&admin, "noxu", path).await;
        assert_eq!(answer.code, code, "{path}");
        assert_eq!(
            (header(&answer, SCHEMA_UID), header(&answer, LEVEL_UID)),
            (schema_uid.clone(), level_uid.clone())
        );
    }
    let other = as_user(&admin, "foo", "/version").await;
    assert!(!header(&other, SCHEMA_UID).is_empty() && !header(&other, LEVEL_UID).is_empty());
    assert_ne!(header(&other, SCHEMA_UID), schema_uid);
    let exempt = admin.get(&format!("{GROUP}/flowschemas/exempt")).await.json();
    let own = admin.get("/api/v1/namespaces").await;
    assert_eq!(header(&own, SCHEMA_UID), meta::uid(&exempt));
    let metrics = admin.get("/metrics").await.text();
    for line in [
        r#"apiserver_flowcontrol_nominal_limit_seats{priority_level="mine"} 24"#,
        r#"apiserver_flowcontrol_dispatched_requests_total{flow_schema="mine",priority_level="mine"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    for (table, text) in [
        ("dump_priority_levels", "PriorityLevelName,\tActiveQueues,\tIsIdle"),
        ("dump_priority_levels", "mine,\t0,\ttrue,\tfalse,\t0,\t0,\t1,\t0,\t0,\t0\n"),
        ("dump_queues", "workload-low,\t127,\t0,\t0,\t0,\t0.00000000ss,\t0\n"),
        ("dump_requests", "PriorityLevelName,\tFlowSchemaName,"),
    ] {
        let answer = admin.get(&format!("/debug/api_priority_and_fairness/{table}")).await;
        assert!(answer.text().contains(text), "{table}: {}", answer.text());
    }
}

#[tokio::test]
async fn who_finds_no_seat_is_told_to_come_again() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    made(&admin, "prioritylevelconfigurations", &level("none", 0)).await;
    made(&admin, "flowschemas", &schema("none", "none", "noxu")).await;
    until_dangling(&admin, "none", "False").await;
    let answer = as_user(&admin, "noxu", "/apis").await;
    let text = answer.refused(429, "TooManyRequests").expect("no seats");
    assert!(text.starts_with(r#"too many requests are under way in priority level "none""#), "{text}");
    assert_eq!(
        (header(&answer, "retry-after").as_str(), header(&answer, SCHEMA_UID).is_empty()),
        ("1", false)
    );
    assert_eq!(as_user(&admin, "noxu", "/livez").await.code, 200, "health is always answered");
    as_user(&admin, "foo", "/apis").await.expect(200).expect("others are not kept out");
    let metrics = admin.get("/metrics").await.text();
    let line = r#"apiserver_flowcontrol_rejected_requests_total{flow_schema="none",priority_level="none",reason="concurrency-limit"} 1"#;
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[tokio::test]
async fn what_must_be_there_comes_back() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    for path in ["flowschemas/exempt", "prioritylevelconfigurations/catch-all"] {
        let path = format!("{GROUP}/{path}");
        let before = admin.get(&path).await.expect(200).expect("there");
        admin.send(Call::delete(&path)).await.expect(200).expect("deleted");
        until(&admin, &path, |answer| answer.code == 200 && meta::uid(&answer.json()) != meta::uid(&before))
            .await;
    }
    let path = format!("{GROUP}/flowschemas/probes");
    admin.send(Call::delete(&path)).await.expect(200).expect("deleted");
    until_dangling(&admin, "catch-all", "False").await;
    assert_eq!(admin.get(&path).await.code, 404, "what is only suggested stays away");
}

//! Admission webhooks: who is asked, what they are told, and what becomes of their answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Response, StatusCode};
use xebec_api::{Value, json, object};

use crate::client::{Answer, Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;
use crate::hooks::Hook;
use crate::{Checked, ensure};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const VALIDATING: &str = "ValidatingWebhookConfiguration";
const MUTATING: &str = "MutatingWebhookConfiguration";

fn path(kind: &str) -> String {
    let resource = if kind == VALIDATING { "validating" } else { "mutating" };
    format!("/apis/admissionregistration.k8s.io/v1/{resource}webhookconfigurations")
}

/// A webhook for all that is done to ConfigMaps, with these members besides.
fn webhook(hook: &Hook, name: &str, more: &Value) -> Value {
    let mut webhook = object!({
        "name": name, "clientConfig": (hook.client_config()), "sideEffects": "None",
        "admissionReviewVersions": ["v1", "v1beta1"],
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]}]
    });
    for (key, value) in more.as_object().into_iter().flat_map(xebec_api::Map::iter) {
        webhook.set(&[key], value.clone());
    }
    webhook
}

async fn install(admin: &Client, kind: &str, webhooks: Vec<Value>) -> Checked {
    let configuration = object!({"metadata": {"name": "test"}, "webhooks": webhooks});
    let answer = admin.send(Call::post(path(kind), &configuration)).await;
    ensure!(answer.warnings().is_empty(), "{:?}", answer.warnings());
    answer.expect(201).map(drop)
}

fn map(name: &str) -> Value {
    object!({"metadata": {"name": name, "labels": {"name": name}}, "data": {"a": "1"}})
}

async fn make(admin: &Client, name: &str) -> Answer {
    admin.send(Call::post(MAPS, &map(name))).await
}

fn patch(operations: &Value) -> Value {
    object!({"allowed": true, "patchType": "JSONPatch", "patch": (STANDARD.encode(json::to_vec(operations)))})
}

/// Denies what it is called for with a status.
async fn denying() -> Hook {
    Hook::reviewing(|_| {
        object!({
            "allowed": false, "warnings": ["careful"],
            "status": {"message": "not today", "reason": "Teapot", "code": 418}
        })
    })
    .await
}

#[tokio::test]
async fn a_webhook_denies_every_operation() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    make(&admin, "there").await.expect(201)?;
    let hook = denying().await;
    install(&admin, VALIDATING, vec![webhook(&hook, "deny.example.com", &Value::Null)]).await?;
    let one = format!("{MAPS}/there");
    let calls = [
        ("CREATE", Call::post(MAPS, &map("new"))),
        ("UPDATE", Call::put(&*one, &map("there"))),
        ("UPDATE", Call::patch(&*one, MERGE_PATCH, &object!({"data": {"a": "2"}}))),
        ("DELETE", Call::delete(&*one)),
        ("DELETE", Call::delete(MAPS)),
    ];
    for (at, (operation, call)) in calls.into_iter().enumerate() {
        let answer = admin.send(call).await;
        let message = answer.refused(418, "Teapot")?;
        assert_eq!(message, r#"admission webhook "deny.example.com" denied the request: not today"#);
        let request = hook.requests().pop().ok_or("the webhook was asked")?;
        assert_eq!(hook.requests().len(), at + 1, "each is shown once");
        assert_eq!(request.str_at(&["operation"]), Some(operation));
        let name = if operation == "CREATE" { "new" } else { "there" };
        assert_eq!(
            (request.str_at(&["name"]), request.str_at(&["namespace"])),
            (Some(name), Some("default"))
        );
        let is_there = |field: &str| request.object_at(&[field]).is_some();
        assert_eq!(
            (is_there("object"), is_there("oldObject")),
            (operation != "DELETE", operation != "CREATE")
        );
        assert_eq!(request.str_at(&["userInfo", "username"]), Some("admin"));
    }
    let path = hook.seen()[0].0.clone();
    assert_eq!(path, "/review?timeout=10s");
    admin.send(Call::delete(format!("{}/test", self::path(VALIDATING)))).await.expect(200)?;
    make(&admin, "new").await.expect(201).map(drop)
}

#[tokio::test]
async fn webhooks_change_objects_one_after_the_other() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    // The first adds `first` once the second has added `second`, so it has to be called again.
    let first = Hook::reviewing(|request| match request.at(&["object", "data", "second"]) {
        Some(_) => patch(&object!([{"op": "add", "path": "/data/first", "value": "yes"}])),
        None => object!({"allowed": true}),
    })
    .await;
    let second =
        Hook::reviewing(|_| patch(&object!([{"op": "add", "path": "/data/second", "value": "yes"}]))).await;
    let again = object!({"reinvocationPolicy": "IfNeeded"});
    let hooks = vec![
        webhook(&first, "first.example.com", &again),
        webhook(&second, "second.example.com", &object!({"admissionReviewVersions": ["v1beta1"]})),
    ];
    install(&admin, MUTATING, hooks).await?;
    let made = make(&admin, "patched").await.expect(201)?;
    assert_eq!(made.at(&["data"]), Some(&object!({"a": "1", "first": "yes", "second": "yes"})));
    assert_eq!((first.requests().len(), second.requests().len()), (2, 1));
    assert_eq!(second.seen()[0].1.str_at(&["apiVersion"]), Some("admission.k8s.io/v1beta1"));
    Ok(())
}

#[tokio::test]
async fn what_a_webhook_leaves_out_has_its_default() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = Hook::reviewing(|_| {
        patch(&object!([{"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "b", "image": "b"}}]))
    })
    .await;
    let rules = object!({"rules": [{
        "operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]
    }]});
    install(&admin, MUTATING, vec![webhook(&hook, "a.example.com", &rules)]).await?;
    let deployment = object!({
        "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}
        }}
    });
    let made = admin
        .send(Call::post("/apis/apps/v1/namespaces/default/deployments", &deployment))
        .await
        .expect(201)?;
    let added = &made.array_at(&["spec", "template", "spec", "containers"])[1];
    assert_eq!(added.str_at(&["imagePullPolicy"]), Some("Always"));
    let told = &hook.requests()[0];
    assert_eq!(told.at(&["kind"]), Some(&object!({"group": "apps", "version": "v1", "kind": "Deployment"})));
    assert_eq!(told.str_at(&["object", "apiVersion"]), Some("apps/v1"));
    Ok(())
}

#[tokio::test]
async fn a_webhook_that_fails_is_treated_by_its_policy() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let broken = Hook::start(&["localhost"], |_, _| {
        let mut response = Response::new("no".into());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
    .await;
    let other = Hook::start(&["other.example.com"], |_, _| Response::new("{}".into())).await;
    let silent = Hook::start(&["localhost"], |_, _| Response::new("{}".into())).await;
    let gone = object!({"clientConfig": {
        "service": {"namespace": "default", "name": "gone", "path": "/x"}, "caBundle": (silent.bundle.as_str())
    }});
    let cases = [
        (
            webhook(&broken, "a.example.com", &Value::Null),
            "failed to call webhook: an error on the server (\"no\"",
        ),
        (webhook(&other, "a.example.com", &Value::Null), "certificate"),
        (
            webhook(&silent, "a.example.com", &Value::Null),
            "received invalid webhook response: webhook response was absent",
        ),
        (webhook(&silent, "a.example.com", &gone), "service \"gone\" not found"),
    ];
    for (hook, want) in cases {
        install(&admin, VALIDATING, vec![hook.clone()]).await?;
        let message = make(&admin, "refused").await.refused(500, "InternalError")?;
        let begin = "Internal error occurred: failed calling webhook \"a.example.com\": ";
        ensure!(message.starts_with(begin) && message.contains(want), "{message}");
        let mut lenient = hook;
        lenient.set(&["failurePolicy"], "Ignore");
        let patch = object!({"webhooks": [(lenient)]});
        let one = format!("{}/test", path(VALIDATING));
        admin.send(Call::patch(&*one, MERGE_PATCH, &patch)).await.expect(200)?;
        make(&admin, "ignored").await.expect(201)?;
        admin.send(Call::delete(&*one)).await.expect(200)?;
        admin.send(Call::delete(format!("{MAPS}/ignored"))).await.expect(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_webhook_is_not_waited_for_longer_than_it_says() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    // It takes connections, and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let hook = denying().await;
    let url = format!("https://localhost:{port}/slow");
    let slow =
        object!({"timeoutSeconds": 1, "clientConfig": {"url": (url), "caBundle": (hook.bundle.as_str())}});
    install(&admin, VALIDATING, vec![webhook(&hook, "slow.example.com", &slow)]).await?;
    let message = make(&admin, "late").await.refused(500, "InternalError")?;
    ensure!(message.contains("/slow?timeout=1s\": context deadline exceeded"), "{message}");
    drop(listener);
    Ok(())
}

#[tokio::test]
async fn selectors_and_conditions_say_who_is_shown() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = denying().await;
    let only = object!({
        "objectSelector": {"matchExpressions": [{"key": "name", "operator": "NotIn", "values": ["free"]}]},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        "matchConditions": [
            {"name": "not-mine", "expression": "object.metadata.name != 'mine'"},
            {"name": "not-theirs", "expression": "request.operation != 'CREATE' || request.name != 'theirs'"}
        ]
    });
    install(&admin, VALIDATING, vec![webhook(&hook, "a.example.com", &only)]).await?;
    for (name, code) in [("free", 201), ("mine", 201), ("theirs", 201), ("other", 418)] {
        make(&admin, name).await.expect(code)?;
    }
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    admin.send(Call::post(elsewhere, &map("other"))).await.expect(201)?;
    assert_eq!(hook.requests().len(), 1);
    let bad = object!({"matchConditions": [{"name": "bad", "expression": "... [] bad expression"}]});
    let configuration =
        object!({"metadata": {"name": "bad"}, "webhooks": [(webhook(&hook, "b.example.com", &bad))]});
    let message = admin.send(Call::post(path(MUTATING), &configuration)).await.refused(422, "Invalid")?;
    ensure!(
        message.contains("webhooks[0].matchConditions[0].expression")
            && message.contains("compilation failed"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn another_version_of_the_same_counts() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = denying().await;
    let rules = |policy: &str| {
        object!({"matchPolicy": policy, "rules": [{
            "operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
            "resources": ["horizontalpodautoscalers"]
        }]})
    };
    let scaler = object!({
        "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
            "metrics": [{"type": "Resource", "resource":
                {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}
    });
    let make = Call::post("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", &scaler);
    install(&admin, VALIDATING, vec![webhook(&hook, "a.example.com", &rules("Equivalent"))]).await?;
    admin.send(make.clone()).await.expect(418)?;
    let told = &hook.requests()[0];
    assert_eq!(told.i64_at(&["object", "spec", "targetCPUUtilizationPercentage"]), Some(80));
    assert_eq!(
        (told.str_at(&["kind", "version"]), told.str_at(&["requestKind", "version"])),
        (Some("v1"), Some("v2"))
    );
    let exact = object!({"webhooks": [(webhook(&hook, "a.example.com", &rules("Exact")))]});
    admin.send(Call::patch(format!("{}/test", path(VALIDATING)), MERGE_PATCH, &exact)).await.expect(200)?;
    admin.send(make).await.expect(201).map(drop)
}

#[tokio::test]
async fn nobody_can_lock_the_configurations() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = denying().await;
    let all = object!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    install(&admin, VALIDATING, vec![webhook(&hook, "all.example.com", &all)]).await?;
    make(&admin, "refused").await.expect(418)?;
    let one = format!("{}/test", path(VALIDATING));
    let label = object!({"metadata": {"labels": {"a": "b"}}});
    admin.send(Call::patch(&*one, MERGE_PATCH, &label)).await.expect(200)?;
    admin.send(Call::delete(&*one)).await.expect(200)?;
    // The server itself writes meanwhile, which is shown.
    let group = |request: &Value| request.str_at(&["resource", "group"]).map(str::to_owned);
    let own = hook.requests().iter().filter_map(group).any(|group| group == "admissionregistration.k8s.io");
    ensure!(!own, "a configuration was shown to a webhook");
    make(&admin, "allowed").await.expect(201).map(drop)
}

#[tokio::test]
async fn warnings_are_passed_on_and_subresources_are_named() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = Hook::reviewing(|_| object!({"allowed": true, "warnings": ["think twice"]})).await;
    let below = object!({"rules": [
        {"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]},
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/binding"]}
    ]});
    install(&admin, VALIDATING, vec![webhook(&hook, "a.example.com", &below)]).await?;
    let pod = object!({"containers": [{"name": "a", "image": "a"}]});
    let deployment = object!({
        "metadata": {"name": "a"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": (pod.clone())}}
    });
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    admin.send(Call::post(deployments, &deployment)).await.expect(201)?;
    let scale = object!({"spec": {"replicas": 3}});
    let answer = admin.send(Call::patch(format!("{deployments}/a/scale"), MERGE_PATCH, &scale)).await;
    ensure!(answer.warnings().iter().any(|w| w.contains("think twice")), "{:?}", answer.warnings());
    let told = hook.requests().pop().ok_or("the webhook was asked")?;
    assert_eq!(
        (told.str_at(&["kind", "kind"]), told.str_at(&["subResource"])),
        (Some("Scale"), Some("scale"))
    );
    assert_eq!(
        (told.i64_at(&["object", "spec", "replicas"]), told.i64_at(&["oldObject", "spec", "replicas"])),
        (Some(3), Some(1))
    );
    let account = object!({"metadata": {"name": "default"}});
    admin.send(Call::post("/api/v1/namespaces/default/serviceaccounts", &account)).await.expect(201)?;
    let pods = "/api/v1/namespaces/default/pods";
    admin.send(Call::post(pods, &object!({"metadata": {"name": "a"}, "spec": (pod)}))).await.expect(201)?;
    let binding = object!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    admin.send(Call::post(format!("{pods}/a/binding"), &binding)).await.expect(201)?;
    let told = hook.requests().pop().ok_or("the webhook was asked")?;
    assert_eq!(
        (told.str_at(&["object", "kind"]), told.str_at(&["operation"])),
        (Some("Binding"), Some("CREATE"))
    );
    Ok(())
}

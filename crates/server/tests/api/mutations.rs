//! Mutating admission policies: what they make of an object, and what becomes of it afterwards.

use xebec_api::{Value, json, object};

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;
use crate::hooks::Hook;
use crate::{Checked, ensure};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn tree(text: &str) -> Value {
    json::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn apply(expression: &str) -> Value {
    object!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    object!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

/// A policy for a resource that is made or changed, with these members besides.
fn policy(name: &str, (group, resource): (&str, &str), mutations: Vec<Value>, more: &str) -> Value {
    let mut policy = object!({"metadata": {"name": name}, "spec": {
        "reinvocationPolicy": "Never", "mutations": mutations,
        "matchConstraints": {"resourceRules": [{
            "operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]
        }]}
    }});
    for (key, value) in tree(more).as_object().into_iter().flat_map(xebec_api::Map::iter) {
        policy.set(&["spec", key], value.clone());
    }
    policy
}

/// Puts a policy in force.
async fn enforce(admin: &Client, policy: &Value) -> Checked {
    let answer = admin.send(Call::post(POLICIES, policy)).await;
    ensure!(answer.warnings().is_empty(), "{:?}", answer.warnings());
    answer.expect(201)?;
    let name = xebec_api::meta::name(policy);
    let binding = object!({"metadata": {"name": name}, "spec": {"policyName": name}});
    admin.send(Call::post(BINDINGS, &binding)).await.expect(201).map(drop)
}

async fn lift(admin: &Client, name: &str) -> Checked {
    for path in [BINDINGS, POLICIES] {
        admin.send(Call::delete(format!("{path}/{name}"))).await.expect(200)?;
    }
    Ok(())
}

fn deployment(name: &str) -> Value {
    object!({
        "metadata": {"name": name, "annotations": {"own": "1"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}
        }}
    })
}

fn map(data: &str) -> Value {
    object!({"metadata": {"name": "a"}, "data": (tree(data))})
}

/// What becomes of a ConfigMap, which is not made.
async fn tried(admin: &Client, object: &Value) -> Checked<Value> {
    let made = admin.send(Call::post(format!("{MAPS}?dryRun=All"), object)).await.expect(201)?;
    Ok(made.get("data").cloned().unwrap_or_default())
}

const APPS: (&str, &str) = ("apps", "deployments");
const CORE: (&str, &str) = ("", "configmaps");

#[tokio::test]
async fn configurations_are_laid_over_objects() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let mutations = vec![
        apply(r#"Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}"#),
        apply("Object{spec: Object.spec{replicas: object.spec.replicas + variables.more}}"),
        apply(
            r#"Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
                containers: [Object.spec.template.spec.containers{name: "side", image: "side:1"}]}}}}"#,
        ),
    ];
    let more = r#"{"variables": [{"name": "more", "expression": "1336"}]}"#;
    enforce(&admin, &policy("all", APPS, mutations, more)).await?;
    let made = admin.send(Call::post(DEPLOYMENTS, &deployment("a"))).await.expect(201)?;
    let annotations = made.at(&["metadata", "annotations"]);
    assert_eq!(annotations, Some(&object!({"own": "1", "mutated-by": "admission-policy"})));
    assert_eq!(made.i64_at(&["spec", "replicas"]), Some(1337));
    let containers = made.array_at(&["spec", "template", "spec", "containers"]);
    let names: Vec<_> = containers.iter().filter_map(|c| c.str_at(&["name"])).collect();
    assert_eq!(names, ["a", "side"]);
    assert_eq!(containers[1].str_at(&["imagePullPolicy"]), Some("IfNotPresent"), "it has its defaults");
    // Nobody owns what the policy added.
    let owners = made.at(&["metadata", "managedFields"]).ok_or("it has owners")?;
    let owned = String::from_utf8_lossy(&json::to_vec(owners)).into_owned();
    ensure!(!owned.contains("mutated-by") && !owned.contains("side"), "{owned}");
    lift(&admin, "all").await?;
    let kept = admin.get(&format!("{DEPLOYMENTS}/a")).await.expect(200)?;
    assert_eq!(kept.i64_at(&["spec", "replicas"]), Some(1337), "what is stored stays");
    Ok(())
}

#[tokio::test]
async fn patches_change_objects() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let check = async |expression: &str, want: &str| -> Checked {
        enforce(&admin, &policy("p", CORE, vec![patch(expression)], "{}")).await?;
        let data = tried(&admin, &map(r#"{"a": "1"}"#)).await?;
        ensure!(data == tree(want), "{expression}: {data:?}");
        lift(&admin, "p").await
    };
    check("[JSONPatch{op: 'add', path: '/data/b', value: object.data.a + '2'}]", r#"{"a": "1", "b": "12"}"#)
        .await?;
    check(
        "[JSONPatch{op: 'test', path: '/data/a', value: '2'}, JSONPatch{op: 'remove', path: '/data/a'}]",
        r#"{"a": "1"}"#,
    )
    .await?;
    check(
        "[JSONPatch{op: 'move', from: '/data/a', path: '/data/c'}, JSONPatch{op: 'replace', path: '/data/c', value: 'z'}]",
        r#"{"c": "z"}"#,
    )
    .await?;
    check("[JSONPatch{op: 'replace', path: '/data', value: Object.data{k: 'v'}}]", r#"{"k": "v"}"#).await?;
    check("object.data.size() > 3 ? [JSONPatch{op: 'remove', path: '/data'}] : []", r#"{"a": "1"}"#).await?;
    let labels = "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'x/y': 'old'}},
        JSONPatch{op: 'replace', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y'), value: 'new'}]";
    enforce(&admin, &policy("p", CORE, vec![patch(labels)], "{}")).await?;
    let made = admin.send(Call::post(MAPS, &map("{}"))).await.expect(201)?;
    assert_eq!(made.at(&["metadata", "labels"]), Some(&object!({"x/y": "new"})));
    Ok(())
}

#[tokio::test]
async fn policies_that_fail_say_so() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    for (mutation, want) in [
        (
            apply("Object{data: Object.wrong{a: '1'}}"),
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.data\"",
        ),
        (
            apply("Object{nothing: 1}"),
            "error applying patch: failed to convert patch object to typed object: .nothing",
        ),
        (
            apply("Object{metadata: Object.metadata{annotations: {'a': object.data.none}}}"),
            "resulted in error: no such key: data",
        ),
        (patch("[JSONPatch{op: 'remove', path: '/none'}]"), "JSON Patch: "),
        (patch("[JSONPatch{op: 'add', path: '/data', value: {'a': 1}}]"), "data.a"),
    ] {
        let strict = policy("p", CORE, vec![mutation.clone()], "{}");
        enforce(&admin, &strict).await?;
        let answer = admin.send(Call::post(MAPS, &map("{}"))).await;
        let message = answer.refused(403, "Invalid")?;
        ensure!(message.starts_with("policy 'p' with binding 'p' denied request: "), "{message}");
        ensure!(message.contains(want), "{mutation:?}: {message}");
        let cause = answer.json().array_at(&["details", "causes"])[0].str_at(&["message"]).map(str::to_owned);
        assert_eq!(cause, Some(message));
        lift(&admin, "p").await?;
        enforce(&admin, &policy("p", CORE, vec![mutation], r#"{"failurePolicy": "Ignore"}"#)).await?;
        let data = tried(&admin, &map(r#"{"k": "v"}"#)).await?;
        assert_eq!(data, tree(r#"{"k": "v"}"#));
        lift(&admin, "p").await?;
    }
    let set = apply("Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'c'}}}}");
    enforce(&admin, &policy("p", APPS, vec![set], "{}")).await?;
    let answer = admin.send(Call::post(DEPLOYMENTS, &deployment("a"))).await;
    let message = answer.refused(403, "Invalid")?;
    let want = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector";
    ensure!(message.ends_with(want), "{message}");
    Ok(())
}

#[tokio::test]
async fn policies_are_asked_again_when_they_want() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let second = patch("[JSONPatch{op: 'add', path: '/data/second', value: 'yes'}]");
    enforce(&admin, &policy("b-second", CORE, vec![second], "{}")).await?;
    // The first sees what the second did only when it is asked again.
    let first =
        patch("has(object.data.second) ? [JSONPatch{op: 'add', path: '/data/first', value: 'saw it'}] : []");
    for (again, want) in [
        ("Never", r#"{"a": "1", "second": "yes"}"#),
        ("IfNeeded", r#"{"a": "1", "first": "saw it", "second": "yes"}"#),
    ] {
        let more = format!(r#"{{"reinvocationPolicy": "{again}"}}"#);
        enforce(&admin, &policy("a-first", CORE, vec![first.clone()], &more)).await?;
        let data = tried(&admin, &map(r#"{"a": "1"}"#)).await?;
        ensure!(data == tree(want), "{again}: {data:?}");
        lift(&admin, "a-first").await?;
    }
    Ok(())
}

#[tokio::test]
async fn policies_come_before_webhooks_and_other_policies() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = Hook::reviewing(|request| match request.at(&["object", "data", "policy"]) {
        Some(_) => object!({"allowed": true}),
        None => object!({"allowed": false}),
    })
    .await;
    let configuration = object!({"metadata": {"name": "test"}, "webhooks": [{
        "name": "sees.example.com", "clientConfig": (hook.client_config()), "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]}]
    }]});
    let hooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    admin.send(Call::post(hooks, &configuration)).await.expect(201)?;
    admin.send(Call::post(MAPS, &map("{}"))).await.refused(400, "")?;
    let add = patch("[JSONPatch{op: 'add', path: '/data/policy', value: 'yes'}]");
    enforce(&admin, &policy("p", CORE, vec![add], "{}")).await?;
    let validating = object!({"metadata": {"name": "v"}, "spec": {
        "matchConstraints": {"resourceRules": [{
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]
        }]},
        "validations": [{"expression": "object.data.policy == 'yes'"}]
    }});
    let group = "/apis/admissionregistration.k8s.io/v1";
    admin.send(Call::post(format!("{group}/validatingadmissionpolicies"), &validating)).await.expect(201)?;
    let binding =
        object!({"metadata": {"name": "v"}, "spec": {"policyName": "v", "validationActions": ["Deny"]}});
    admin
        .send(Call::post(format!("{group}/validatingadmissionpolicybindings"), &binding))
        .await
        .expect(201)?;
    let data = tried(&admin, &map(r#"{"a": "1"}"#)).await;
    assert_eq!(data?, tree(r#"{"a": "1", "policy": "yes"}"#));
    Ok(())
}

#[tokio::test]
async fn bindings_give_parameters_and_conditions_hold() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let params = object!({"metadata": {"name": "params"}, "data": {"value": "given"}});
    admin.send(Call::post(MAPS, &params)).await.expect(201)?;
    let more = r#"{"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "wants", "expression": "has(object.data.wants)"}]}"#;
    let add = patch(
        "[JSONPatch{op: 'add', path: '/data/p', value: params.data.value + ' in ' + namespaceObject.metadata.name}]",
    );
    admin.send(Call::post(POLICIES, &policy("p", CORE, vec![add], more))).await.expect(201)?;
    let binding = object!({"metadata": {"name": "p"}, "spec": {"policyName": "p", "paramRef": {
        "name": "params", "parameterNotFoundAction": "Deny"
    }}});
    admin.send(Call::post(BINDINGS, &binding)).await.expect(201)?;
    assert_eq!(tried(&admin, &map(r#"{"a": "1"}"#)).await?, tree(r#"{"a": "1"}"#));
    let data = tried(&admin, &map(r#"{"wants": "1"}"#)).await?;
    assert_eq!(data, tree(r#"{"p": "given in default", "wants": "1"}"#));
    admin.send(Call::delete(format!("{MAPS}/params"))).await.expect(200)?;
    let message = admin.send(Call::post(MAPS, &map(r#"{"wants": "1"}"#))).await.refused(403, "Forbidden")?;
    let want = "policy 'p' with binding 'p' denied request: failed to configure binding: no params found for policy binding \
                with `Deny` parameterNotFoundAction";
    assert_eq!(message, want);
    Ok(())
}

#[tokio::test]
async fn scales_and_custom_resources_are_changed() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    admin.send(Call::post(DEPLOYMENTS, &deployment("a"))).await.expect(201)?;
    let least =
        apply("Object{spec: Object.spec{replicas: object.spec.replicas < 3 ? 3 : object.spec.replicas}}");
    enforce(&admin, &policy("scale", ("apps", "deployments/scale"), vec![least], "{}")).await?;
    let scale =
        Call::patch(format!("{DEPLOYMENTS}/a/scale"), MERGE_PATCH, &object!({"spec": {"replicas": 2}}));
    let scaled = admin.send(scale).await.expect(200)?;
    assert_eq!(scaled.i64_at(&["spec", "replicas"]), Some(3));
    let definition = tree(
        r#"{"metadata": {"name": "crons.stable.example.com"}, "spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crons", "singular": "cron", "kind": "Cron"}, "versions": [{"name": "v1",
            "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec":
            {"type": "object", "properties": {"replicas": {"type": "integer"}, "names": {"type": "array",
            "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}}}}}]}}"#,
    );
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    admin.send(Call::post(definitions, &definition)).await.expect(201)?;
    let change = apply(
        "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{replicas: 7, names: ['x', 'b']}}",
    );
    enforce(&admin, &policy("crons", ("stable.example.com", "crons"), vec![change], "{}")).await?;
    let cron = object!({
        "apiVersion": "stable.example.com/v1", "kind": "Cron", "metadata": {"name": "a"}, "spec": {"names": ["a", "b"]}
    });
    let made = admin
        .send(Call::post("/apis/stable.example.com/v1/namespaces/default/crons", &cron))
        .await
        .expect(201)?;
    assert_eq!(made.i64_at(&["spec", "replicas"]), Some(7));
    assert_eq!(made.at(&["metadata", "labels"]), Some(&object!({"a": "b"})));
    let names: Vec<_> = made.array_at(&["spec", "names"]).iter().filter_map(Value::as_str).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    Ok(())
}

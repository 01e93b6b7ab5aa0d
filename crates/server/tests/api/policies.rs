//! Admission policies: what they are asked about, what they see, and what becomes of what they say.

use xebec_api::{Value, json, object};
use xebec_server::audit::Policy as AuditPolicy;

use crate::audit::{events, settings};
use crate::client::{APPLY_PATCH, Answer, Call, Client, MERGE_PATCH};
use crate::cluster::{Cluster, settle};
use crate::{Checked, ensure};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn tree(text: &str) -> Value {
    json::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A policy for ConfigMaps that are made or changed, unless `more` says otherwise.
fn policy(name: &str, more: &str) -> Value {
    let mut policy = object!({"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": [{
        "operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]
    }]}}});
    for (key, value) in tree(more).as_object().into_iter().flat_map(xebec_api::Map::iter) {
        policy.set(&["spec", key], value.clone());
    }
    policy
}

fn binding(name: &str, actions: &[&str], more: &str) -> Value {
    let mut binding = object!({
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": (actions.to_vec())}
    });
    for (key, value) in tree(more).as_object().into_iter().flat_map(xebec_api::Map::iter) {
        binding.set(&["spec", key], value.clone());
    }
    binding
}

/// Puts a policy in force.
async fn enforce(admin: &Client, policy: &Value, binding: &Value) -> Checked {
    admin.send(Call::post(POLICIES, policy)).await.expect(201)?;
    let answer = admin.send(Call::post(BINDINGS, binding)).await;
    ensure!(answer.warnings().is_empty(), "{:?}", answer.warnings());
    answer.expect(201).map(drop)
}

/// A policy of ConfigMaps that refuses.
async fn deny(admin: &Client, name: &str, more: &str) -> Checked {
    enforce(admin, &policy(name, more), &binding(name, &["Deny"], "{}")).await
}

async fn lift(admin: &Client, name: &str) -> Checked {
    for path in [BINDINGS, POLICIES] {
        admin.send(Call::delete(format!("{path}/{name}"))).await.expect(200)?;
    }
    Ok(())
}

fn map(name: &str, data: &str) -> Value {
    object!({"metadata": {"name": name, "labels": {"name": name}}, "data": (tree(data))})
}

/// Whether a ConfigMap may be made; it is not.
async fn tried(client: &Client, object: &Value) -> Answer {
    client.send(Call::post(format!("{MAPS}?dryRun=All"), object)).await
}

fn deployment(name: &str, replicas: i64) -> Value {
    object!({
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}
        }}
    })
}

/// What the server refuses a call with, as invalid.
async fn refusal(client: &Client, call: Call) -> Checked<String> {
    client.send(call).await.refused(422, "Invalid")
}

#[tokio::test]
async fn a_policy_refuses_deployments() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let rules = r#"{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}, "resourceRules": [
        {"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]}"#;
    let more = format!(
        r#"{{"matchConstraints": {rules}, "validations": [
            {{"expression": "object.spec.replicas > 1", "messageExpression": "'wants more than 1, got ' + string(object.spec.replicas)"}},
            {{"expression": "namespaceObject.metadata.name == 'default'", "message": "another namespace"}}]}}"#
    );
    deny(&admin, "replicas", &more).await?;
    let answer = admin.send(Call::post(DEPLOYMENTS, &deployment("one", 1))).await;
    let message = "ValidatingAdmissionPolicy 'replicas' with binding 'replicas' denied request: wants more than 1, got 1";
    assert_eq!(answer.refused(422, "Invalid")?, format!("deployments.apps \"one\" is forbidden: {message}"));
    let details = object!({
        "name": "one", "group": "apps", "kind": "deployments", "causes": [{"message": message}]
    });
    assert_eq!(answer.json().get("details"), Some(&details));
    admin.send(Call::post(DEPLOYMENTS, &deployment("two", 2))).await.expect(201)?;
    let one = format!("{DEPLOYMENTS}/two");
    refusal(&admin, Call::patch(&*one, MERGE_PATCH, &object!({"spec": {"replicas": 0}}))).await?;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    admin.send(Call::post(sets, &deployment("one", 1))).await.expect(201)?;
    admin
        .send(Call::post("/api/v1/namespaces", &object!({"metadata": {"name": "other"}})))
        .await
        .expect(201)?;
    let other = "/apis/apps/v1/namespaces/other/deployments";
    admin.send(Call::post(other, &deployment("one", 1))).await.expect(201)?;
    // Neither without its binding, nor with one that is about something else.
    admin.send(Call::delete(format!("{BINDINGS}/replicas"))).await.expect(200)?;
    admin.send(Call::post(format!("{DEPLOYMENTS}?dryRun=All"), &deployment("one", 1))).await.expect(201)?;
    let elsewhere = r#"{"matchResources": {"namespaceSelector": {"matchLabels": {"no": "where"}}}}"#;
    admin.send(Call::post(BINDINGS, &binding("replicas", &["Deny"], elsewhere))).await.expect(201)?;
    admin.send(Call::post(DEPLOYMENTS, &deployment("one", 1))).await.expect(201).map(drop)
}

#[tokio::test]
async fn expressions_refer_to_variables() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let more = r#"{"variables": [
            {"name": "count", "expression": "object.data.size()"},
            {"name": "odd", "expression": "variables.count % 2 == 1"},
            {"name": "broken", "expression": "int(object.data.none)"}],
        "validations": [
            {"expression": "variables.count > 1", "messageExpression": "'only ' + string(variables.count)"},
            {"expression": "variables.odd"},
            {"expression": "!has(object.data.fail) || variables.broken == 1"}]}"#;
    deny(&admin, "odd", more).await?;
    let check = async |data: &str, want: &str| -> Checked {
        let answer = tried(&admin, &map("a", data)).await;
        if want.is_empty() {
            return answer.expect(201).map(drop);
        }
        let message = answer.refused(422, "Invalid")?;
        ensure!(message.ends_with(want), "{message}");
        Ok(())
    };
    check(r#"{"a": "1"}"#, "denied request: only 1").await?;
    check(r#"{"a": "1", "b": "2"}"#, "denied request: failed expression: variables.odd").await?;
    check(r#"{"a": "1", "b": "2", "c": "3"}"#, "").await?;
    check(
        r#"{"a": "1", "b": "2", "fail": "3"}"#,
        "expression '!has(object.data.fail) || variables.broken == 1' resulted in error: composited variable \"broken\" fails \
         to evaluate: no such key: none",
    )
    .await
}

#[tokio::test]
async fn types_are_checked() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let definition = tree(
        r#"{"metadata": {"name": "crontabs.stable.example.com"}, "spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab"}, "versions": [{"name": "v1",
            "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec":
            {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}}}]}}"#,
    );
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    admin.send(Call::post(definitions, &definition)).await.expect(201)?;
    let rules = r#"{"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["stable.example.com"], "apiVersions": ["v1"],
        "resources": ["crontabs"]}]}"#;
    let good = r#"[{"expression": "object.spec.replicas > 1 && object.metadata.labels['a'] == 'b'"}]"#;
    let bad =
        r#"[{"expression": "object.spec.replicas > '1'"}, {"expression": "object.spec.maxRetries < 10"}]"#;
    let more =
        |validations: &str| format!(r#"{{"matchConstraints": {rules}, "validations": {validations}}}"#);
    let made = admin.send(Call::post(POLICIES, &policy("types", &more(good)))).await.expect(201)?;
    let status = object!({"observedGeneration": 1, "typeChecking": {}});
    assert_eq!(made.get("status"), Some(&status));
    let patch = object!({"spec": {"validations": (tree(bad))}});
    let path = format!("{POLICIES}/types");
    let changed = admin.send(Call::patch(&*path, MERGE_PATCH, &patch)).await.expect(200)?;
    assert_eq!(changed.i64_at(&["status", "observedGeneration"]), Some(2));
    let found = changed.array_at(&["status", "typeChecking", "expressionWarnings"]);
    let wanted = [
        ("spec.validations[0].expression", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("spec.validations[1].expression", "undefined field 'maxRetries'"),
    ];
    assert_eq!(found.len(), wanted.len());
    for (found, (field, text)) in found.iter().zip(wanted) {
        let warning = found.str_at(&["warning"]).unwrap_or_default();
        ensure!(found.str_at(&["fieldRef"]) == Some(field) && warning.contains(text), "{found:?}");
        ensure!(warning.starts_with("stable.example.com/v1, Kind=CronTab: ERROR: "), "{warning}");
    }
    // What others write into the status stays.
    let condition = object!({"status": {"conditions": [{
        "type": "Seen", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
    }]}});
    let seen =
        admin.send(Call::patch(format!("{path}/status"), MERGE_PATCH, &condition)).await.expect(200)?;
    assert_eq!(seen.array_at(&["status", "conditions"]).len(), 1);
    assert_eq!(seen.array_at(&["status", "typeChecking", "expressionWarnings"]).len(), 2);
    let applied = object!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "types"}, "spec": {"auditAnnotations": [{"key": "key", "valueExpression": "'1'"}]}
    });
    let apply = Call::patch(format!("{path}?fieldManager=test"), APPLY_PATCH, &applied);
    let applied = admin.send(apply).await.expect(200)?;
    assert_eq!(applied.i64_at(&["status", "observedGeneration"]), Some(3));
    Ok(())
}

#[tokio::test]
async fn expressions_must_compile() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let bad = policy(
        "bad",
        r#"{"failurePolicy": "Never", "variables": [{"name": "a", "expression": "variables.b"}],
            "validations": [{"expression": "object.x"}, {"expression": "true", "messageExpression": "1"}]}"#,
    );
    let message = refusal(&admin, Call::post(POLICIES, &bad)).await?;
    for want in [
        "spec.failurePolicy: Unsupported value: \"Never\"",
        "spec.variables[0].expression: Invalid value: \"variables.b\": compilation failed: ERROR: <input>:1:10: undefined field 'b'",
        "spec.validations[0].expression: Invalid value: \"object.x\": must evaluate to bool but got dyn",
        "spec.validations[1].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
    ] {
        ensure!(message.contains(want), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn actions_warn_and_record() -> Checked {
    let (settings, path, _directory) = settings(AuditPolicy::default());
    let cluster = Cluster::start_with(settings).await;
    let admin = cluster.admin().await;
    let more = r#"{"validations": [{"expression": "true"}, {"expression": "has(object.data.a)", "message": "wants a"}],
        "auditAnnotations": [{"key": "size", "valueExpression": "'has ' + string(object.data.size())"},
            {"key": "none", "valueExpression": "has(object.data.z) ? 'z' : ''"}]}"#;
    enforce(&admin, &policy("soft", more), &binding("soft", &["Warn", "Audit"], "{}")).await?;
    let answer = admin.send(Call::post(MAPS, &map("soft", r#"{"b": "1"}"#))).await;
    answer.expect(201)?;
    let text =
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'soft' with binding 'soft': wants a\"";
    assert_eq!(answer.warnings(), [text]);
    let fine = admin.send(Call::post(MAPS, &map("fine", r#"{"a": "1"}"#))).await;
    fine.expect(201)?;
    assert_eq!(fine.warnings(), [""; 0]);
    let log = events(&path);
    let annotations = |name: &str| {
        let of = |event: &&Value| event.str_at(&["objectRef", "name"]) == Some(name);
        let event = log.iter().rfind(of).unwrap_or_else(|| panic!("{log:?}"));
        let text = |key: &str| event.object_at(&["annotations"])?.get(key)?.as_str().map(str::to_owned);
        let failure = text("validation.policy.admission.k8s.io/validation_failure");
        (text("soft/size"), text("soft/none"), failure.map(|text| tree(&text)))
    };
    let failure = object!([{
        "message": "wants a", "policy": "soft", "binding": "soft", "expressionIndex": 1,
        "validationActions": ["Warn", "Audit"]
    }]);
    assert_eq!(annotations("soft"), (Some("has 1".into()), None, Some(failure)));
    assert_eq!(annotations("fine"), (Some("has 1".into()), None, None));
    Ok(())
}

#[tokio::test]
async fn reasons_and_messages() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    for (validation, code, reason, want) in [
        (r#"{"expression": "false"}"#, 422, "Invalid", "failed expression: false"),
        (r#"{"expression": "false", "message": " no "}"#, 422, "Invalid", "denied request: no"),
        (
            r#"{"expression": "false", "reason": "Forbidden", "message": "no"}"#,
            403,
            "Forbidden",
            "denied request: no",
        ),
        (
            r#"{"expression": "false", "reason": "RequestEntityTooLarge", "message": "no"}"#,
            413,
            "RequestEntityTooLarge",
            "denied request: no",
        ),
        // A message that is of no use is not taken.
        (
            r#"{"expression": "false", "message": "no", "messageExpression": "object.none"}"#,
            422,
            "Invalid",
            "must evaluate to string",
        ),
        (
            r#"{"expression": "false", "message": "no", "messageExpression": "string(object.none)"}"#,
            422,
            "Invalid",
            "denied request: no",
        ),
        (
            r#"{"expression": "false", "message": "no", "messageExpression": "'a\\nb'"}"#,
            422,
            "Invalid",
            "denied request: no",
        ),
        (r#"{"expression": "object.none > 1"}"#, 422, "Invalid", "resulted in error: no such key: none"),
    ] {
        let made = policy("p", &format!(r#"{{"validations": [{validation}]}}"#));
        let answer = admin.send(Call::post(POLICIES, &made)).await;
        if answer.code == 422 {
            let message = answer.refused(code, reason)?;
            ensure!(message.contains(want), "{validation}: {message}");
            continue;
        }
        answer.expect(201)?;
        admin.send(Call::post(BINDINGS, &binding("p", &["Deny"], "{}"))).await.expect(201)?;
        let message = tried(&admin, &map("a", "{}")).await.refused(code, reason)?;
        ensure!(message.ends_with(want), "{validation}: {message}");
        lift(&admin, "p").await?;
    }
    Ok(())
}

#[tokio::test]
async fn policies_match_what_they_say() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let rule =
        r#"{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]}"#;
    let named = r#"{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"], "resourceNames": ["a"]}"#;
    let old =
        r#"{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v2"], "resources": ["configmaps"]}"#;
    let no = r#""validations": [{"expression": "false"}]"#;
    for (more, refused) in [
        (format!(r#"{{"matchConstraints": {{"resourceRules": [{rule}]}}, {no}}}"#), true),
        (format!(r#"{{"matchConstraints": {{"resourceRules": [{named}]}}, {no}}}"#), true),
        (
            format!(
                r#"{{"matchConstraints": {{"resourceRules": [{rule}], "excludeResourceRules": [{named}]}}, {no}}}"#
            ),
            false,
        ),
        (format!(r#"{{"matchConstraints": {{"resourceRules": [{old}]}}, {no}}}"#), false),
        (
            format!(
                r#"{{"matchConstraints": {{"resourceRules": [{rule}], "objectSelector": {{"matchLabels": {{"name": "a"}}}}}}, {no}}}"#
            ),
            true,
        ),
        (
            format!(
                r#"{{"matchConstraints": {{"resourceRules": [{rule}], "objectSelector": {{"matchLabels": {{"name": "b"}}}}}}, {no}}}"#
            ),
            false,
        ),
        (
            format!(
                r#"{{"matchConditions": [{{"name": "c", "expression": "object.metadata.name == 'b'"}}], {no}}}"#
            ),
            false,
        ),
        (
            format!(
                r#"{{"matchConditions": [{{"name": "c", "expression": "request.userInfo.username == 'admin'"}}], {no}}}"#
            ),
            true,
        ),
        // Conditions and validations that give nothing.
        (format!(r#"{{"matchConditions": [{{"name": "c", "expression": "object.none"}}], {no}}}"#), true),
        (
            r#"{"failurePolicy": "Ignore", "validations": [{"expression": "object.none == 1"}]}"#.to_owned(),
            false,
        ),
        (
            format!(
                r#"{{"failurePolicy": "Ignore", "matchConditions": [{{"name": "c", "expression": "object.none == 1"}}], {no}}}"#
            ),
            false,
        ),
    ] {
        let made = policy("p", &more);
        let answer = admin.send(Call::post(POLICIES, &made)).await;
        if answer.code == 422 {
            ensure!(answer.text().contains("must evaluate to bool but got dyn"), "{more}: {}", answer.text());
            continue;
        }
        answer.expect(201)?;
        admin.send(Call::post(BINDINGS, &binding("p", &["Deny"], "{}"))).await.expect(201)?;
        let answer = tried(&admin, &map("a", "{}")).await;
        ensure!(answer.code == if refused { 422 } else { 201 }, "{more}: {}", answer.text());
        lift(&admin, "p").await?;
    }
    Ok(())
}

#[tokio::test]
async fn policies_match_equivalent_versions() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let scalers = "namespaces/default/horizontalpodautoscalers";
    let scaler = object!({
        "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}, "targetCPUUtilizationPercentage": 50}
    });
    for (matching, code) in [("Equivalent", 422), ("Exact", 201)] {
        let more = format!(
            r#"{{"matchConstraints": {{"matchPolicy": "{matching}", "resourceRules": [{{"operations": ["CREATE"],
                "apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers"]}}]}},
                "validations": [{{"expression": "object.spec.metrics.size() == 0 && request.requestKind.version == 'v1'"}}]}}"#
        );
        deny(&admin, "scalers", &more).await?;
        let call = Call::post(format!("/apis/autoscaling/v1/{scalers}?dryRun=All"), &scaler);
        let answer = admin.send(call).await;
        ensure!(answer.code == code, "{matching}: {}", answer.text());
        lift(&admin, "scalers").await?;
    }
    Ok(())
}

#[tokio::test]
async fn deletions_scales_and_posts_are_judged() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let rules = r#"{"resourceRules": [{"operations": ["DELETE", "UPDATE"], "apiGroups": ["", "apps"], "apiVersions": ["v1"],
        "resources": ["configmaps", "deployments/scale"]}, {"operations": ["CREATE"], "apiGroups": [""],
        "apiVersions": ["v1"], "resources": ["serviceaccounts/token"]}]}"#;
    let more = format!(
        r#"{{"matchConstraints": {rules}, "validations": [
            {{"expression": "request.operation != 'DELETE' || (object == null && oldObject.data.keep != 'yes')", "message": "kept"}},
            {{"expression": "!has(request.subResource) || request.subResource != 'scale' || object.spec.replicas < 5", "message": "large"}},
            {{"expression": "!has(request.subResource) || request.subResource != 'token'", "message": "no token"}}]}}"#
    );
    deny(&admin, "mixed", &more).await?;
    for (name, data) in [("kept", r#"{"keep": "yes"}"#), ("gone", r#"{"keep": "no"}"#)] {
        admin.send(Call::post(MAPS, &map(name, data))).await.expect(201)?;
    }
    let message = refusal(&admin, Call::delete(format!("{MAPS}/kept"))).await?;
    ensure!(message.ends_with("denied request: kept"), "{message}");
    admin.send(Call::delete(format!("{MAPS}/gone"))).await.expect(200)?;
    admin.send(Call::post(DEPLOYMENTS, &deployment("a", 1))).await.expect(201)?;
    let scale = |replicas: i64| {
        let patch = object!({"spec": {"replicas": replicas}});
        Call::patch(format!("{DEPLOYMENTS}/a/scale"), MERGE_PATCH, &patch)
    };
    let message = refusal(&admin, scale(9)).await?;
    ensure!(message.ends_with("denied request: large"), "{message}");
    admin.send(scale(2)).await.expect(200)?;
    let account = "/api/v1/namespaces/default/serviceaccounts";
    admin.send(Call::post(account, &object!({"metadata": {"name": "a"}}))).await.expect(201)?;
    let message = refusal(&admin, Call::post(format!("{account}/a/token"), &object!({"spec": {}}))).await?;
    ensure!(message.ends_with("denied request: no token"), "{message}");
    Ok(())
}

#[tokio::test]
async fn bindings_give_parameters() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    for (name, most) in [("one", "1"), ("three", "3")] {
        let object = object!({
            "metadata": {"name": name, "labels": {"limits": "yes"}}, "stringData": {}, "type": most
        });
        admin.send(Call::post(secrets, &object)).await.expect(201)?;
    }
    let more = r#"{"paramKind": {"apiVersion": "v1", "kind": "Secret"}, "validations": [
        {"expression": "params == null || object.data.size() <= int(params.type)", "messageExpression": "'at most ' + params.type"}]}"#;
    admin.send(Call::post(POLICIES, &policy("sized", more))).await.expect(201)?;
    let two = map("two", r#"{"a": "1", "b": "2"}"#);
    let check = async |reference: &str, want: &str| -> Checked {
        let more = format!(r#"{{"paramRef": {reference}}}"#);
        let more = if reference.is_empty() { "{}" } else { &more };
        admin.send(Call::post(BINDINGS, &binding("sized", &["Deny"], more))).await.expect(201)?;
        let answer = tried(&admin, &two).await;
        match want {
            "" => drop(answer.expect(201)?),
            want => {
                let message = answer.refused(422, "Invalid")?;
                ensure!(message.ends_with(want), "{reference}: {message}");
            }
        }
        admin.send(Call::delete(format!("{BINDINGS}/sized"))).await.expect(200).map(drop)
    };
    check("", "").await?;
    check(r#"{"name": "one", "parameterNotFoundAction": "Deny"}"#, "at most 1").await?;
    check(r#"{"name": "three", "parameterNotFoundAction": "Deny"}"#, "").await?;
    check(
        r#"{"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Deny"}"#,
        "at most 1",
    )
    .await?;
    let none =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    check(r#"{"name": "none", "parameterNotFoundAction": "Deny"}"#, none).await?;
    check(r#"{"name": "none", "parameterNotFoundAction": "Allow"}"#, "").await?;
    check(r#"{"name": "one", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}"#, none).await?;
    let unknown = r#"{"paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"}, "validations": [{"expression": "true"}]}"#;
    deny(&admin, "unknown", unknown).await?;
    let message = tried(&admin, &two).await.refused(422, "Invalid")?;
    let want = "ValidatingAdmissionPolicy 'unknown' denied request: failed to configure policy: failed to find resource \
                referenced by paramKind: 'example.com/v1, Kind=Limit'";
    ensure!(message.ends_with(want), "{message}");
    Ok(())
}

#[tokio::test]
async fn cluster_wide_parameters_have_no_namespace() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let more = r#"{"paramKind": {"apiVersion": "v1", "kind": "Namespace"}, "validations": [
        {"expression": "params.metadata.name == 'default'"}]}"#;
    admin.send(Call::post(POLICIES, &policy("p", more))).await.expect(201)?;
    let check = async |reference: &str, want: &str| -> Checked {
        let more = format!(r#"{{"paramRef": {reference}}}"#);
        admin.send(Call::post(BINDINGS, &binding("p", &["Deny"], &more))).await.expect(201)?;
        let answer = tried(&admin, &map("a", "{}")).await;
        ensure!(answer.text().contains(want), "{reference}: {}", answer.text());
        admin.send(Call::delete(format!("{BINDINGS}/p"))).await.expect(200).map(drop)
    };
    check(r#"{"name": "default", "parameterNotFoundAction": "Deny"}"#, "\"kind\":\"ConfigMap\"").await?;
    check(
        r#"{"name": "default", "namespace": "default", "parameterNotFoundAction": "Deny"}"#,
        "paramRef.namespace must not be provided for a cluster-scoped `paramKind`",
    )
    .await
}

#[tokio::test]
async fn expressions_ask_authorization() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = cluster.user("jane", None).await;
    crate::cluster::trust(&admin, &jane, "jane").await;
    let more = r#"{"validations": [
        {"expression": "authorizer.group('').resource('nodes').check('get').allowed()", "message": "no nodes"},
        {"expression": "authorizer.requestResource.check('get').allowed()", "message": "not even this"}]}"#;
    deny(&admin, "asks", more).await?;
    tried(&admin, &map("a", "{}")).await.expect(201)?;
    let message = tried(&jane, &map("a", "{}")).await.refused(422, "Invalid")?;
    ensure!(message.ends_with("denied request: no nodes"), "{message}");
    Ok(())
}

#[tokio::test]
async fn policies_are_subject_to_none() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let all = r#"{"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*/*"]}]}, "validations": [{"expression": "false", "message": "nothing goes"}]}"#;
    deny(&admin, "all", all).await?;
    tried(&admin, &map("a", "{}")).await.refused(422, "Invalid")?;
    let hooks = format!("{GROUP}/validatingwebhookconfigurations");
    let hook = object!({"metadata": {"name": "a"}});
    refusal(&admin, Call::post(hooks, &hook)).await?;
    admin
        .send(Call::post(POLICIES, &policy("b", r#"{"validations": [{"expression": "true"}]}"#)))
        .await
        .expect(201)?;
    lift(&admin, "all").await?;
    tried(&admin, &map("a", "{}")).await.expect(201).map(drop)
}

#[tokio::test]
async fn what_costs_too_much_fails() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let costly = "lists.range(100000).all(x, x + 1 > 0)";
    let validations: Vec<Value> =
        (0..30).map(|n| object!({"expression": (format!("{costly} && {n} >= 0"))})).collect();
    let mut many = policy("many", "{}");
    many.set(&["spec", "validations"], validations);
    enforce(&admin, &many, &binding("many", &["Deny"], "{}")).await?;
    let message = tried(&admin, &map("a", "{}")).await.refused(422, "Invalid")?;
    let want = "validation failed due to running out of cost budget, no further validation rules will be run";
    ensure!(message.ends_with(want), "{message}");
    lift(&admin, "many").await?;
    let one = r#"{"variables": [{"name": "v", "expression": "lists.range(10000000).all(x, x >= 0)"}],
        "validations": [{"expression": "variables.v"}]}"#;
    deny(&admin, "one", one).await?;
    let message = tried(&admin, &map("a", "{}")).await.refused(422, "Invalid")?;
    ensure!(message.contains("composited variable \"v\" fails to evaluate: "), "{message}");
    Ok(())
}

#[tokio::test]
async fn nobody_uses_parameters_that_they_may_not_read() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = cluster.user("jane", None).await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let (group, all) = ("rbac.authorization.k8s.io", "*");
    let rule = |group: &str, resource: &str| object!({"verbs": [all], "apiGroups": [group], "resources": [resource]});
    let role = |name: &str, rules: Vec<Value>| object!({"metadata": {"name": name}, "rules": rules});
    let bound = |name: &str| {
        object!({
            "metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]
        })
    };
    let give = async |name: &str, rules: Vec<Value>| -> Checked {
        admin.send(Call::post(format!("{rbac}/clusterroles"), &role(name, rules))).await.expect(201)?;
        admin
            .send(Call::post(format!("{rbac}/clusterrolebindings"), &bound(name)))
            .await
            .expect(201)
            .map(drop)
    };
    give("policies", vec![rule("admissionregistration.k8s.io", "*")]).await?;
    settle(&jane, POLICIES).await;
    let wanting = policy(
        "p",
        r#"{"paramKind": {"apiVersion": "v1", "kind": "Secret"}, "validations": [{"expression": "params != null"}]}"#,
    );
    let giving = binding(
        "p",
        &["Deny"],
        r#"{"paramRef": {"name": "a", "namespace": "default", "parameterNotFoundAction": "Deny"}}"#,
    );
    let message = jane.send(Call::post(POLICIES, &wanting)).await.refused(403, "Forbidden")?;
    let want = "must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)";
    ensure!(message.ends_with(want), "{message}");
    let message = jane.send(Call::post(BINDINGS, &giving)).await.refused(403, "Forbidden")?;
    ensure!(message.contains("unable to get policy p to determine"), "{message}");
    admin.send(Call::post(POLICIES, &wanting)).await.expect(201)?;
    let message = jane.send(Call::post(BINDINGS, &giving)).await.refused(403, "Forbidden")?;
    ensure!(
        message.ends_with("does not have \"get\" permission on the object referenced by paramRef"),
        "{message}"
    );
    // What she leaves as it is she may write.
    let patch = object!({"spec": {"failurePolicy": "Ignore"}});
    jane.send(Call::patch(format!("{POLICIES}/p"), MERGE_PATCH, &patch)).await.expect(200)?;
    give("secrets", vec![rule("", "secrets")]).await?;
    settle(&jane, "/api/v1/secrets").await;
    jane.send(Call::post(BINDINGS, &giving)).await.expect(201).map(drop)
}

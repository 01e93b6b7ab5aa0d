//! Rules of custom resources: what a definition may ask for, and what its objects are held to.

use http::Method;
use xebec_api::{Value, json, object};

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/rules.example.com/v1/namespaces/default/widgets";

fn definition(spec: &str) -> Value {
    let schema = format!(
        r#"{{"type": "object", "properties": {{"spec": {spec}, "status": {{"type": "object",
        "properties": {{"ready": {{"type": "integer"}}}}, "x-kubernetes-validations": [{{"rule": "self.ready >= 0"}}]}}}}}}"#
    );
    let schema = json::from_slice(schema.as_bytes()).expect("a schema");
    object!({
        "metadata": {"name": "widgets.rules.example.com"},
        "spec": {
            "group": "rules.example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": (schema)}
            }]
        }
    })
}

fn widget(name: &str, spec: &str) -> Value {
    let spec = json::from_slice(spec.as_bytes()).expect("a spec");
    object!({"apiVersion": "rules.example.com/v1", "kind": "Widget", "metadata": {"name": (name)}, "spec": (spec)})
}

async fn define(client: &Client, spec: &str) {
    client.send(Call::post(DEFINITIONS, &definition(spec))).await.expect(201).expect("defined");
}

/// What the server says of a call that it refuses.
async fn refusal(client: &Client, call: Call) -> String {
    let answer = client.send(call).await.expect(422).expect("refused");
    answer.str_at(&["message"]).unwrap_or_default().to_owned()
}

const SPEC: &str = r#"{"type": "object",
    "x-kubernetes-validations": [
        {"rule": "self.min <= self.max", "messageExpression": "'min is more than ' + (self.max > 9 ? 'nine' : 'it may be')",
         "fieldPath": ".min", "reason": "FieldValueForbidden"},
        {"rule": "self.large.all(x, self.large.all(y, x == y))"}],
    "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"},
        "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed is fixed"}]},
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "large": {"type": "array", "maxItems": 725, "items": {"type": "integer"}},
        "ports": {"type": "array", "maxItems": 10, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "port": {"type": "integer",
                "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}}}}}"#;

#[tokio::test]
async fn objects_are_held_to_the_rules() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    define(&admin, SPEC).await;
    let create = |name: &str, spec: &str| Call::post(WIDGETS, &widget(name, spec));

    let good =
        r#"{"min": 1, "max": 2, "fixed": "a", "name": "x", "large": [], "ports": [{"id": "a", "port": 5}]}"#;
    admin.send(create("good", good)).await.expect(201).expect("made");
    let wrong = refusal(&admin, create("a", r#"{"min": 3, "max": 2, "large": []}"#)).await;
    assert!(wrong.ends_with("spec.min: Forbidden: min is more than it may be"), "{wrong}");
    let wrong = refusal(&admin, create("a", r#"{"min": 1, "max": 2, "large": [1, 2]}"#)).await;
    let all = "spec: Invalid value: failed rule: self.large.all(x, self.large.all(y, x == y))";
    assert!(wrong.ends_with(all), "{wrong}");
    let wrong = refusal(&admin, create("a", r#"{"min": 1, "max": 2}"#)).await;
    assert!(wrong.contains("no such key: large evaluating rule: self.large.all("), "{wrong}");
    let wrong = refusal(&admin, create("a", r#"{"min": 1, "max": 2, "large": [], "name": "X1"}"#)).await;
    assert!(
        wrong.ends_with("spec.name: Invalid value: \"X1\": spec.name in body should match '^[a-z]+$'"),
        "{wrong}"
    );
    let many = format!(r#"{{"min": 1, "max": 2, "large": [{}1]}}"#, "1,".repeat(724));
    let wrong = refusal(&admin, create("a", &many)).await;
    assert!(
        wrong.contains("no further validation rules will be run due to call cost exceeds limit for rule"),
        "{wrong}"
    );
    let wrong = refusal(&admin, create("a", &format!(r#"{{"large": [{}1]}}"#, "1,".repeat(725)))).await;
    assert!(
        wrong.contains("some validation rules were not checked because the object was invalid"),
        "{wrong}"
    );

    let patch = |body: &str| {
        let body = json::from_slice(body.as_bytes()).expect("a patch");
        Call::patch(format!("{WIDGETS}/good"), MERGE_PATCH, &body)
    };
    let wrong = refusal(&admin, patch(r#"{"spec": {"fixed": "b"}}"#)).await;
    assert!(wrong.ends_with("spec.fixed: Invalid value: \"b\": fixed is fixed"), "{wrong}");
    let wrong =
        refusal(&admin, patch(r#"{"spec": {"ports": [{"id": "b", "port": 1}, {"id": "a", "port": 4}]}}"#))
            .await;
    assert!(wrong.ends_with("spec.ports[1].port: Invalid value: 4: failed rule: self >= oldSelf"), "{wrong}");
    admin.send(patch(r#"{"spec": {"ports": [{"id": "a", "port": 6}]}}"#)).await.expect(200).expect("patched");

    let status = object!({"status": {"ready": (-1)}});
    let status = Call::patch(format!("{WIDGETS}/good/status"), MERGE_PATCH, &status);
    let wrong = refusal(&admin, status).await;
    assert!(wrong.ends_with("status: Invalid value: failed rule: self.ready >= 0"), "{wrong}");
}

#[tokio::test]
async fn definitions_are_refused_with_upstream_s_words() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    for (spec, want) in [
        (
            r#"{"type": "object", "properties": {"x": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.z == 100"}]}"#,
            "undefined field 'z'",
        ),
        (r#"{"type": "object", "x-kubernetes-validations": [{"rule": "self = 42"}]}"#, "Syntax error"),
        (
            r#"{"type": "object", "properties": {"x": {"type": "array", "items": {"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "self.all(s, s == 'string constant')"}]}}}}"#,
            "exceeds budget",
        ),
        (
            r#"{"type": "object", "properties": {"x": {"type": "array", "maxItems": 3, "items": {"type": "integer",
            "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}"#,
            "oldSelf cannot be used on the uncorrelatable portion of the schema within",
        ),
    ] {
        let wrong = refusal(&admin, Call::post(DEFINITIONS, &definition(spec))).await;
        assert!(wrong.contains(want), "{wrong}");
    }
}

#[tokio::test]
async fn what_was_invalid_may_stay_as_it_is() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let schema = |limit: &str| {
        format!(
            r#"{{"type": "object", "properties": {{"other": {{"type": "string"}},
                "name": {{"type": "string" {limit}}}, "list": {{"type": "object", "properties": {{"n": {{"type": "integer"}}}}
                {}}}}}}}"#,
            if limit.is_empty() { "" } else { r#", "x-kubernetes-validations": [{"rule": "self.n > 5"}]"# }
        )
    };
    define(&admin, &schema("")).await;
    let old = widget("a", r#"{"name": "long", "list": {"n": 1}}"#);
    admin.send(Call::post(WIDGETS, &old)).await.expect(201).expect("made");
    let stricter = definition(&schema(r#", "maxLength": 2"#));
    let path = format!("{DEFINITIONS}/widgets.rules.example.com");
    let patch =
        object!({"spec": {"versions": (stricter.at(&["spec", "versions"]).cloned().expect("versions"))}});
    admin.send(Call::patch(path, MERGE_PATCH, &patch)).await.expect(200).expect("stricter");

    let patch = |body: Value| Call::patch(format!("{WIDGETS}/a"), MERGE_PATCH, &body);
    let answer = admin.send(patch(object!({"spec": {"other": "x"}}))).await;
    assert_eq!(answer.warnings(), [r#"299 - "spec.list: Invalid value: failed rule: self.n > 5""#]);
    answer.expect(200).expect("what is wrong did not change");
    let wrong = refusal(&admin, patch(object!({"spec": {"name": "loong"}}))).await;
    assert!(wrong.contains("spec.name: Too long: may not be more than 2 bytes"), "{wrong}");
    let wrong = refusal(&admin, patch(object!({"spec": {"list": {"n": 2}}}))).await;
    assert!(wrong.ends_with("spec.list: Invalid value: failed rule: self.n > 5"), "{wrong}");
    let refused = Call::new(Method::POST, WIDGETS)
        .body("application/json", json::to_vec(&widget("b", r#"{"name": "long"}"#)));
    refusal(&admin, refused).await;
}

#[tokio::test]
async fn formats_of_texts_hold() -> crate::Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let definition = "metadata: {name: dates.formats.example.com}
spec: {group: formats.example.com, scope: Namespaced, names: {plural: dates, singular: date, kind: Date, listKind: DateList},
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {
    spec: {type: object, properties: {at: {type: string, format: date-time}, x: {type: string, format: shape}}}}}}}]}";
    let made = admin.send(Call::new(Method::POST, DEFINITIONS).body(crate::client::YAML, definition)).await;
    made.expect(201)?;
    assert_eq!(made.warnings(), [r#"299 - "unrecognized format \"shape\"""#]);
    let dates = "/apis/formats.example.com/v1/namespaces/default/dates";
    let date = |at: &str| object!({"metadata": {"name": "a"}, "spec": {"at": at, "x": "anything"}});
    let refused = admin.send(Call::post(dates, &date("today"))).await.refused(422, "Invalid")?;
    let want = r#"Date.formats.example.com "a" is invalid: spec.at: Invalid value: "today": spec.at in body must be of type date-time: "today""#;
    assert_eq!(refused, want);
    admin.send(Call::post(dates, &date("2026-01-31T09:00:00Z"))).await.expect(201).map(drop)
}

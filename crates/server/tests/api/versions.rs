//! Custom resources of several versions, and a definition that comes to store another one.

use http::Method;
use xebec_api::{Value, meta, object};

use crate::client::{Call, Client, MERGE_PATCH, YAML};
use crate::cluster::Cluster;

const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/shades.turn.example.com";

/// A definition whose second version lacks a field of the first and has one with a default.
fn definition(stored: &str, revision: &str) -> String {
    let version = |name: &str, fields: &str| {
        format!(
            "  - name: {name}
    served: true
    storage: {}
    schema: {{openAPIV3Schema: {{type: object, properties: {{
      spec: {{type: object, properties: {{a: {{type: string}}, {fields}}}}}}}}}}}
",
            name == stored
        )
    };
    format!(
        "metadata: {{name: shades.turn.example.com, resourceVersion: '{revision}'}}
spec:
  group: turn.example.com
  scope: Namespaced
  names: {{plural: shades, singular: shade, kind: Shade, listKind: ShadeList}}
  versions:
{}{}",
        version("v1", "old: {type: string}"),
        version("v2", "new: {type: string, default: given}")
    )
}

fn shades(version: &str) -> String {
    format!("/apis/turn.example.com/{version}/namespaces/default/shades")
}

/// What tells the versions apart: the name, and the fields that only one has.
fn shape(object: &Value) -> (&str, Option<&str>, Option<&str>) {
    let text = |path: &[&'static str]| object.str_at(path);
    (text(&["apiVersion"]).unwrap_or_default(), text(&["spec", "old"]), text(&["spec", "new"]))
}

const FIRST: (&str, Option<&str>, Option<&str>) = ("turn.example.com/v1", Some("o"), None);
const SECOND: (&str, Option<&str>, Option<&str>) = ("turn.example.com/v2", None, Some("given"));

async fn make(client: &Client, name: &str) {
    let object = object!({"metadata": {"name": name}, "spec": {"a": "b", "old": "o"}});
    client.send(Call::post(shades("v1"), &object)).await.expect(201).expect("made");
}

/// Whether a get, a list and a watch all show the object `x` so.
async fn looks(client: &Client, version: &str, want: (&str, Option<&str>, Option<&str>)) {
    let collection = shades(version);
    let got = client.get(&format!("{collection}/x")).await.expect(200).expect("got");
    let listed = client.get(&collection).await.expect(200).expect("listed");
    let mut watch = client.watch(&format!("{collection}?watch=true")).await.expect("watched");
    let event = watch.next().await.expect("an event").expect("one that is there");
    let seen = [&got, &listed.array_at(&["items"])[0], event.get("object").expect("an object")];
    assert_eq!(seen.map(shape), [want; 3], "{version}");
}

#[tokio::test]
async fn a_definition_may_change_the_version_that_is_stored() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let defined = DEFINITION.rsplit_once('/').expect("a collection").0;
    let made = Call::new(Method::POST, defined).body(YAML, definition("v1", ""));
    admin.send(made).await.expect(201).expect("defined");
    make(&admin, "x").await;
    looks(&admin, "v1", FIRST).await;
    looks(&admin, "v2", SECOND).await;

    let mut watch = admin.watch(&format!("{}?watch=true", shades("v2"))).await.expect("watched");
    watch.next().await.expect("an event").expect("what is there");
    let labelled = object!({"metadata": {"labels": {"a": "b"}}});
    let labelled = admin.send(Call::patch(DEFINITION, MERGE_PATCH, &labelled)).await;
    let labelled = labelled.expect(200).expect("labelled");
    make(&admin, "y").await;
    let event = watch.next().await.expect("in time").expect("a definition of the same meaning ends nothing");
    assert_eq!(event.at(&["object"]).map(shape), Some(SECOND));
    let other = definition("v2", meta::resource_version(&labelled));
    let other = admin.send(Call::new(Method::PUT, DEFINITION).body(YAML, other)).await;
    let other = other.expect(200).expect("changed");
    assert_eq!(other.array_at(&["status", "storedVersions"]), ["v1", "v2"].map(Value::from));
    assert_eq!(watch.next().await.expect("in time"), None, "what was opened on the old row ends");

    // The object is still stored as it was written, and nobody can tell.
    looks(&admin, "v1", FIRST).await;
    looks(&admin, "v2", SECOND).await;
    let annotated = object!({"metadata": {"annotations": {"a": "b"}}});
    let annotated = admin.send(Call::patch(format!("{}/x", shades("v1")), MERGE_PATCH, &annotated)).await;
    let annotated = annotated.expect(200).expect("annotated");
    assert_eq!(annotated.i64_at(&["metadata", "generation"]), Some(1), "another version wants nothing else");
    looks(&admin, "v2", SECOND).await;
    looks(&admin, "v1", (FIRST.0, None, None)).await;
    let gone = admin.send(Call::delete(format!("{}/y", shades("v1")))).await;
    gone.expect(200).expect("what is stored in the old version can be deleted");
}

#[tokio::test]
async fn what_is_stored_follows_a_schema_that_changes() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let defined = DEFINITION.rsplit_once('/').expect("a collection").0;
    let made = Call::new(Method::POST, defined).body(YAML, definition("v1", ""));
    let made = admin.send(made).await.expect(201).expect("defined");
    make(&admin, "x").await;
    // The stored version loses a field, and comes to have another with a default.
    let changed = definition("v1", meta::resource_version(&made)).replace("old: {", "new: {default: late, ");
    let changed = admin.send(Call::new(Method::PUT, DEFINITION).body(YAML, changed)).await;
    changed.expect(200).expect("changed");
    looks(&admin, "v1", (FIRST.0, None, Some("late"))).await;
    make(&admin, "y").await;
    looks(&admin, "v1", (FIRST.0, None, Some("late"))).await;
    let labelled = object!({"metadata": {"labels": {"a": "b"}}});
    let labelled = admin.send(Call::patch(format!("{}/x", shades("v1")), MERGE_PATCH, &labelled)).await;
    assert_eq!(shape(&labelled.expect(200).expect("labelled")), (FIRST.0, None, Some("late")));
    looks(&admin, "v1", (FIRST.0, None, Some("late"))).await;
}

//! A CustomResourceDefinition of anybody: validated as a new object is, turned into a row, published as OpenAPI, and an
//! instance decoded, defaulted, validated and shown by it.
//!
//! What validation accepts becomes a row; decoding and defaulting an instance twice is the same as once.
#![no_main]

use std::sync::LazyLock;

use xebec_api::builtin::{self, Docs};
use xebec_api::openapi::{Documents, Resource};
use xebec_api::structural::{self, Strictness};
use xebec_api::table::Renderer;
use xebec_api::time::Timestamp;
use xebec_api::{Value, crd, json, kinds};
use xebec_fuzz::{Choices, choices, generate, target};

static DOCS: LazyLock<Docs> = LazyLock::new(Docs::unpack);

/// What stands around the schema.
const HEAD: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"as.x.io"},"spec":{"group":"x.io","scope":"Namespaced","names":{"plural":"as","kind":"A"},"versions":[{"name":"v1","served":true,"storage":true}]}}"#;

/// A schema, a line's end, an instance.
const SEEDS: [&str; 9] = [
    r#"{"type":"object","properties":{"spec":{"type":"object","required":["a"],"properties":{"a":{"type":"string","default":"x","enum":["x","y"],"pattern":"^x$"},"n":{"type":"integer","minimum":0,"maximum":10,"multipleOf":2,"format":"int32"}}}}}
{"spec":{"a":"y","n":3,"z":1}}"#,
    r#"{"type":"object","properties":{"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"maxItems":3,"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"},"v":{"x-kubernetes-int-or-string":true}}}}}}
{"l":[{"k":"a","v":1},{"k":"a","v":"1"},null]}"#,
    r#"{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"e":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}}
{"e":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"x":null},"q":{"r":[{}]}}"#,
    r#"{"type":"object","properties":{"m":{"type":"object","additionalProperties":{"type":"number","nullable":true}},"s":{"type":"array","x-kubernetes-list-type":"set","uniqueItems":true,"items":{"type":"string"}}}}
{"m":{"a":1.5,"b":null},"s":["a","a"]}"#,
    r#"{"type":"object","properties":{"o":{"type":"string","oneOf":[{"minLength":1},{"maxLength":2}],"anyOf":[{"pattern":"a"}],"not":{"enum":["z"]},"allOf":[{"format":"date-time"}]}}}
{"o":"2026-01-31T09:00:00Z"}"#,
    r#"{"type":"object","properties":{"d":{"type":"object","default":{"a":{"b":1}},"properties":{"a":{"type":"object","properties":{"b":{"type":"integer","default":2}}}}}},"x-kubernetes-validations":[{"rule":"self.d.a.b > 0","message":"m"}]}
{"d":{"a":{}}}"#,
    r#"{"type":"object","properties":{"status":{"type":"object","properties":{"replicas":{"type":"integer","format":"int64"}}}},"description":"d","title":"t","externalDocs":{"url":"x"},"example":1}
{"status":{"replicas":9223372036854775807}}"#,
    r##"{"type":"object","$ref":"#/x","definitions":{},"items":[{}],"properties":{"a":{"type":"array","items":{"type":"array","items":{"type":"array"}}}}}
{"a":[[[]]]}"##,
    "!\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{9}abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789ABCDEF",
];

fn definition_kind() -> &'static kinds::Kind {
    kinds::of("apiextensions.k8s.io", "customresourcedefinitions")
}

/// The definition as a write leaves it; `None` if it is not of the right shape at all.
fn written(mut definition: Value) -> Option<Value> {
    let schema = builtin::schema();
    let node = builtin::kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").expect("it is built in");
    if !structural::decode(&mut definition, schema.at(node), Strictness::BuiltIn).mistyped.is_empty() {
        return None;
    }
    (definition_kind().defaults)(&mut definition, "v1");
    (definition_kind().prepare_create)(&mut definition);
    Some(definition)
}

fn instance(mut object: Value, schema: xebec_api::SchemaRef<'_>) -> Value {
    structural::decode(&mut object, schema, Strictness::Custom);
    let mut again = object.clone();
    let second = structural::decode(&mut again, schema, Strictness::Custom);
    assert!(second.unknown.is_empty(), "{second:?}");
    assert_eq!(again, object, "decoding twice differs");
    structural::default(&mut object, schema);
    let mut again = object.clone();
    structural::default(&mut again, schema);
    assert_eq!(again, object, "defaulting twice differs");
    object
}

fn check(definition: Value, instances: impl Fn(xebec_api::SchemaRef<'_>) -> Value) {
    let Some(definition) = written(definition) else { return };
    let valid = (definition_kind().validate)(&definition).is_empty();
    let row = match crd::resource(&definition) {
        Ok(row) => row,
        Err(causes) => {
            assert!(!valid, "validation accepts what makes no row: {causes:?}");
            return;
        }
    };
    if !valid {
        return;
    }
    for version in &row.versions {
        let object = instance(instances(version.root()), version.root());
        drop(structural::validate(&object, version.root()));
        drop(Renderer::new(&version.columns).cells(&object, Timestamp::from_unix(0)));
    }
    let documents = Documents::new(vec![Resource { row: &row, definition: Some(&definition) }], "v1.36.0");
    for key in documents.keys() {
        let document = documents.v3(&key, &DOCS).expect("its key was listed");
        json::from_slice(&document).expect("a document is JSON");
    }
    json::from_slice(&documents.v2(&DOCS)).expect("a document is JSON");
    drop(documents.v2_protobuf(&DOCS));
}

target!("api_crd", SEEDS, |data| {
    let mut definition = json::from_slice(HEAD.as_bytes()).expect("it is JSON");
    let versions = definition.make(&["spec", "versions"]).as_array_mut().expect("it is a list");
    if let Some((b'!', rest)) = data.split_first() {
        let schema = builtin::schema();
        let node = builtin::definition(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion",
        );
        let mut choices = Choices::new(rest);
        let mut version = generate::object(&mut choices, schema.at(node.expect("it is built in")));
        version.set(&["storage"], true);
        version.set(&["served"], true);
        *versions = vec![version];
        let rest = choices.rest();
        check(definition, |schema| generate::object(&mut Choices::new(rest), schema));
        return;
    }
    let (schema, object) = choices::halves(data, b'\n');
    let (Ok(schema), Ok(object)) = (json::from_slice(schema), json::from_slice(object)) else { return };
    if object.as_object().is_none() {
        return;
    }
    versions[0].set(&["schema", "openAPIV3Schema"], schema);
    check(definition, |_| object.clone());
});

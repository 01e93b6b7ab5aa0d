//! Cases over one small schema, built by hand.

use std::borrow::Cow;

use super::*;
use crate::schema::{
    Constraints, DefaultValue, Merge, NO_CONSTRAINTS, NO_DOC, Node, PatchStrategy, Property, Schema, Type,
};
use crate::{NodeId, Value, json, object};

fn node(ty: Type) -> Node {
    Node {
        name: "".into(),
        ty,
        props_start: 0,
        props_len: 0,
        items: NodeId::ANY,
        merge: Merge::Granular,
        keys: Cow::Borrowed(&[]),
        preserve_unknown: false,
        embedded_resource: false,
        nullable: false,
        constraints: NO_CONSTRAINTS,
        doc: NO_DOC,
    }
}

fn property(name: &'static str, at: u32, required: bool, default: Option<&'static str>) -> Property {
    Property {
        name: name.into(),
        node: NodeId(at),
        required,
        patch: PatchStrategy::Replace,
        merge_key: "".into(),
        default: default.map(DefaultValue::Json),
        doc: NO_DOC,
    }
}

/// `{cpu: quantity, items: [{name!, port = 80}] keyed by name, labels: {string}, n: int32, open: any, when: time}`
fn schema() -> Schema {
    let object = |start, len| Node { props_start: start, props_len: len, ..node(Type::Object) };
    let keyed =
        Node { items: NodeId(7), merge: Merge::Keyed, keys: vec!["name".into()].into(), ..node(Type::List) };
    Schema {
        nodes: vec![
            node(Type::Any),
            object(0, 6),
            node(Type::Quantity),
            keyed,
            Node { items: NodeId(8), ..node(Type::Map) },
            Node { constraints: 0, ..node(Type::Int32) },
            node(Type::Time),
            object(6, 2),
            node(Type::String),
        ]
        .into(),
        props: vec![
            property("cpu", 2, false, None),
            property("items", 3, false, None),
            property("labels", 4, false, None),
            property("n", 5, false, None),
            property("open", 0, false, None),
            property("when", 6, false, None),
            property("name", 8, true, None),
            property("port", 5, false, Some("80")),
        ]
        .into(),
        constraints: vec![Constraints { maximum: Some((100.0, false)), ..Constraints::default() }],
    }
}

fn text(value: &Value) -> String {
    String::from_utf8(json::to_vec(value)).expect("JSON is UTF-8")
}

#[test]
fn decoding_prunes_and_canonicalises() {
    let schema = schema();
    let check = |input: &str, want: &str, unknown: &[&str], mistyped: &[&str]| {
        let mut value = json::from_slice(input.as_bytes()).expect(input);
        let found = decode(&mut value, schema.at(NodeId(1)), Strictness::BuiltIn);
        assert_eq!(text(&value), want, "{input}");
        assert_eq!(found.unknown.iter().map(|p| p.as_str()).collect::<Vec<_>>(), unknown, "{input}");
        assert_eq!(found.mistyped.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), mistyped, "{input}");
    };
    check(r#"{"cpu":"1000m","n":null,"x":1}"#, r#"{"cpu":"1"}"#, &["x"], &[]);
    check(r#"{"cpu":2}"#, r#"{"cpu":"2"}"#, &[], &[]);
    check(r#"{"items":[{"name":"a","y":{}}]}"#, r#"{"items":[{"name":"a"}]}"#, &["items[0].y"], &[]);
    check(r#"{"open":{"a":null,"b":[1]}}"#, r#"{"open":{"a":null,"b":[1]}}"#, &[], &[]);
    check(r#"{"labels":{"a":null,"b":"c"}}"#, r#"{"labels":{"a":"","b":"c"}}"#, &[], &[]);
    check(r#"{"when":"2026-01-01T01:00:00+01:00"}"#, r#"{"when":"2026-01-01T00:00:00Z"}"#, &[], &[]);
    check(
        r#"{"n":"x","cpu":"1x","labels":{"a":1}}"#,
        r#"{"cpu":"1x","labels":{"a":1},"n":"x"}"#,
        &[],
        &["cpu", "labels.a", "n"],
    );
    check(r#"{"n":3000000000}"#, r#"{"n":3000000000}"#, &[], &["n"]);
    check(r#"{"items":{}}"#, r#"{"items":{}}"#, &[], &["items"]);
}

#[test]
fn defaults_fill_what_is_absent() {
    let schema = schema();
    let check = |input: &str, want: &str| {
        let mut value = json::from_slice(input.as_bytes()).expect(input);
        default(&mut value, schema.at(NodeId(1)));
        assert_eq!(text(&value), want, "{input}");
    };
    check(
        r#"{"items":[{"name":"a"},{"name":"b","port":1}]}"#,
        r#"{"items":[{"name":"a","port":80},{"name":"b","port":1}]}"#,
    );
    check("{}", "{}");
}

#[test]
fn validation_names_each_fault() {
    let schema = schema();
    let check = |value: Value, want: &[&str]| {
        let causes = validate(&value, schema.at(NodeId(1)));
        assert_eq!(causes.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{value:?}");
    };
    check(object!({"items": [{"name": "a"}], "n": 100}), &[]);
    check(object!({"items": [{"port": 1}]}), &["items[0].name: Required value"]);
    check(
        object!({"items": [{"name": "a"}, {"name": "a"}]}),
        &[r#"items[1]: Duplicate value: {"name":"a"}"#],
    );
    check(object!({"n": 101}), &["n: Invalid value: 101: should be less than or equal to 100"]);
}

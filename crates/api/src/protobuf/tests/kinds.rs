//! Every kind of the table, with random objects that have many zero values.

use super::super::{Message, decode, decode_object, encode, encode_object};
use crate::generated::protobuf::{MESSAGES, PARTIAL_OBJECT};
use crate::protobuf::table::{Field, Kind, Row, Shape, row};
use crate::schema::{SchemaRef, Type};
use crate::{Key, Map, Value, builtin, object};

/// xorshift64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// A tree of the type, as decoding gives it but for what it shows of absent fields.
    pub(super) fn tree(&mut self, schema: SchemaRef<'_>, depth: usize) -> Value {
        match schema.ty() {
            Type::String => self.of(&["", "a", "a text that is not kept inline: é"]).into(),
            Type::Bytes => self.of(&["", "AA==", "AAECAwQ="]).into(),
            Type::Time => self.of(&["1970-01-01T00:00:00Z", "1969-12-31T00:00:01Z"]).into(),
            Type::MicroTime => {
                self.of(&["1969-12-31T23:59:59.999999Z", "2026-11-23T05:26:02.000000Z"]).into()
            }
            Type::Quantity => self.of(&["0", "500m", "1Gi"]).into(),
            Type::IntOrString => self.of(&[Value::Int(0), Value::Int(-1), "".into(), "50%".into()]),
            Type::Int32 => self.of(&[0, 1, i32::MIN, i32::MAX]).into(),
            Type::Int64 => self.of(&[0, 1, i64::MIN, i64::MAX]).into(),
            Type::Number => self.of(&[Value::Int(0), Value::Float(0.5), Value::Int(-3)]),
            Type::Boolean => self.of(&[true, false]).into(),
            Type::List => {
                let len = if depth > 12 { 0 } else { self.below(3) };
                Value::Array((0..len).map(|_| self.tree(schema.items(), depth + 1)).collect())
            }
            Type::Map => {
                let len = if depth > 12 { 0 } else { self.below(3) };
                let member = |i: usize| (Key::from(["a/b", ""][i]), self.tree(schema.items(), depth + 1));
                Value::Object((0..len).map(member).collect())
            }
            Type::Any => self.free(schema, depth),
            Type::Object => self.object(schema, depth),
        }
    }

    fn free(&mut self, schema: SchemaRef<'_>, depth: usize) -> Value {
        let props = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let props = schema.go(builtin::definition(props).expect("a definition"));
        let deep = depth > 5;
        match schema.node.name.rsplit('.').next() {
            Some("JSONSchemaPropsOrBool") if deep || self.below(2) == 0 => self.of(&[true, false]).into(),
            Some("JSONSchemaPropsOrStringArray") if deep || self.below(2) == 0 => object!(["a", ""]),
            Some("JSONSchemaPropsOrArray") if deep || self.below(2) == 0 => object!([{"type": "a"}, {}]),
            Some(name) if name.starts_with("JSONSchemaPropsOr") => self.tree(props, depth + 1),
            _ => self.of(&[object!({"a": [1, {}]}), object!({"b": ""})]),
        }
    }

    fn object(&mut self, schema: SchemaRef<'_>, depth: usize) -> Value {
        let few = if depth > 5 { schema.properties().len() } else { 3 };
        let mut map = Map::new();
        for property in schema.properties() {
            // What an object is stands in the envelope alone.
            if !matches!(property.name.as_ref(), "apiVersion" | "kind") && self.below(few) < 2 {
                map.insert(property.name.as_ref(), self.tree(schema.go(property.node), depth + 1));
            }
        }
        Value::Object(map)
    }
}

/// What is written is read, once and again; decoding neither loses nor shows anything but zeros.
#[test]
fn every_kind_goes_both_ways() {
    let schema = builtin::schema();
    for (node, group, version, kind) in builtin::kinds() {
        let message = Message::of_node(node).unwrap_or_else(|| panic!("{kind} has a message"));
        for seed in 0..8 {
            let tree = if seed == 0 { Value::object() } else { Random::new(seed).tree(schema.at(node), 0) };
            let bytes = encode(&tree, message);
            let back = decode(&bytes, message).unwrap_or_else(|e| panic!("{group} {version} {kind}: {e}"));
            assert_eq!(
                decode(&encode(&back, message), message).as_ref(),
                Ok(&back),
                "{group} {version} {kind}"
            );
            assert_eq!(bare(back), bare(tree), "{group} {version} {kind}");
        }
    }
}

/// The tree without zeros that JSON may leave out; pointers to zero are told apart in the tests beside this one.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let members = map.into_iter().map(|(key, value)| (key, bare(value)));
            Value::Object(members.filter(|(_, v)| !is_empty(v)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(bare).collect()),
        scalar => scalar,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Int(int) => *int == 0,
        Value::Bool(bool) => !bool,
        Value::Null | Value::Float(_) => false,
    }
}

#[test]
fn kinds_have_messages_and_others_have_none() {
    let check = |api_version: &str, kind: &str, want: bool| {
        assert_eq!(Message::of(api_version, kind).is_some(), want, "{api_version} {kind}");
    };
    check("v1", "Pod", true);
    check("v1", "PodList", true);
    check("v1", "Status", true);
    check("apps/v1", "Deployment", true);
    check("apps/v1", "DeleteOptions", true);
    check("policy/v1", "Eviction", true);
    check("meta.k8s.io/v1", "PartialObjectMetadata", true);
    check("meta.k8s.io/v1", "PartialObjectMetadataList", true);
    check("meta.k8s.io/v1", "Table", false);
    check("apps/v1beta1", "Deployment", false);
    check("example.com/v1", "Widget", false);
    check("", "", false);
}

/// Lists are put together from their items, which supposes this of every list.
#[test]
fn lists_have_metadata_and_items() {
    for (node, _, _, kind) in builtin::kinds().filter(|(.., kind)| kind.ends_with("List")) {
        let Some(message) = Message::of_node(node) else { panic!("{kind} has a message") };
        let fields: Vec<_> = message.0.fields().iter().map(|f| (f.number, f.name, f.shape)).collect();
        let discovery = matches!(kind, "APIGroupList" | "APIResourceList");
        assert!(
            discovery || fields == [(1, "metadata", Shape::One), (2, "items", Shape::List)],
            "{kind}: {fields:?}"
        );
    }
}

#[test]
fn the_table_is_sound() {
    for message in &MESSAGES {
        let fields = message.fields();
        assert!(fields.len() <= 64 && fields.is_sorted_by(|a, b| a.number < b.number));
        assert!(message.by_name().map(|place| fields[place].name).is_sorted_by(|a, b| a < b));
        assert!(members(message) < 256);
        for field in fields {
            if let Kind::Message(inner) = field.kind {
                assert_eq!(row(inner).node == 0 && inner < PARTIAL_OBJECT, field.shape == Shape::Inline);
            }
        }
    }
}

/// How many members an object of the message can have.
fn members(message: &Row) -> usize {
    let inner = |field: &Field| match (field.shape, field.kind) {
        (Shape::Inline, Kind::Message(inner)) => members(row(inner)),
        _ => 1,
    };
    message.fields().iter().map(inner).sum()
}

#[test]
fn metadata_of_any_object() {
    let object = object!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}]
    });
    let bytes = encode_object(&object).expect("a message");
    assert_eq!(decode_object(&bytes).expect("a message"), object);
}

use super::super::tests::{builtins, cron_tab, documents};
use super::*;
use crate::builtin::Docs;

/// The value of a field on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(self) -> &'a [u8] {
        let Wire::Bytes(bytes) = self else { panic!("{self:?} is not of a length") };
        bytes
    }

    fn text(self) -> &'a str {
        std::str::from_utf8(self.bytes()).expect("a string is UTF-8")
    }
}

/// The fields of a message, to its very last byte.
fn fields(mut bytes: &[u8]) -> Vec<(u32, Wire<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = u32::try_from(varint(&mut bytes)).expect("a tag has 32 bits");
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut bytes)),
            1 => {
                let (double, rest) = bytes.split_first_chunk().expect("a double has eight bytes");
                bytes = rest;
                Wire::Double(f64::from_le_bytes(*double))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length fits");
                let (inside, rest) = bytes.split_at(length);
                bytes = rest;
                Wire::Bytes(inside)
            }
            other => panic!("there is no wire type {other}"),
        };
        assert!(tag >> 3 > 0, "fields are numbered from 1");
        fields.push((tag >> 3, wire));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a number ends");
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number has ten bytes at most");
}

/// All fields at the end of `path`.
fn find<'a>(message: &'a [u8], path: &[u32]) -> Vec<Wire<'a>> {
    let found = fields(message).into_iter().filter(|(number, _)| Some(number) == path.first());
    found
        .flat_map(|(_, wire)| if path.len() > 1 { find(wire.bytes(), &path[1..]) } else { vec![wire] })
        .collect()
}

/// The value of the pair of `name` in the field `number`.
fn named<'a>(message: &'a [u8], number: u32, name: &str) -> &'a [u8] {
    let pairs = find(message, &[number]);
    let pair = pairs.into_iter().find(|pair| find(pair.bytes(), &[NAME])[0].text() == name);
    find(pair.unwrap_or_else(|| panic!("{name} is not there")).bytes(), &[VALUE])[0].bytes()
}

/// The tree that a message was made of.
fn read_message(message: &Message, bytes: &[u8]) -> Value {
    let mut tree = Value::object();
    for (number, wire) in fields(bytes) {
        let pair = |kind: &Kind| {
            let parts = fields(wire.bytes());
            assert_eq!(parts.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [NAME, VALUE]);
            (parts[0].1.text(), read(kind, parts[1].1))
        };
        let member = message.members.iter().find(|(_, known, _)| *known == number);
        let (name, value) = match (member, &message.others) {
            (Some((name, _, Each(kind))), _) => {
                let mut items = tree.get(name).and_then(Value::as_array).unwrap_or_default().to_vec();
                items.push(read(kind, wire));
                (*name, Value::Array(items))
            }
            (Some((name, _, kind)), _) => (*name, read(kind, wire)),
            (None, Some((others, kind))) if *others == number => pair(kind),
            _ => {
                assert_eq!(Some(number), message.extensions);
                pair(&Any)
            }
        };
        tree.make_object().insert(name, value);
    }
    tree
}

#[expect(clippy::cast_possible_truncation, reason = "the cases have whole numbers")]
fn read(kind: &Kind, wire: Wire<'_>) -> Value {
    match (kind, wire) {
        (Flag, Wire::Varint(flag)) => Value::Bool(flag == 1),
        (Integer, Wire::Varint(integer)) => Value::Int(integer.cast_signed()),
        (Number, Wire::Double(double)) if double.fract() == 0.0 => Value::Int(double as i64),
        (Number, Wire::Double(double)) => Value::Float(double),
        (Text, wire) => wire.text().into(),
        (Any, wire) => json::from_slice(find(wire.bytes(), &[YAML])[0].bytes()).expect("JSON is YAML"),
        (Nested(message), wire) => read_message(message, wire.bytes()),
        (Inside(number, Each(kind)), wire) => {
            Value::Array(find(wire.bytes(), &[*number]).into_iter().map(|item| read(kind, item)).collect())
        }
        (Inside(number, OneOrMore(kind)), wire) => match find(wire.bytes(), &[*number]).as_slice() {
            [one] => read(kind, *one),
            more => Value::Array(more.iter().map(|item| read(kind, *item)).collect()),
        },
        (Inside(number, kind), wire) => read(kind, only(wire, *number)),
        (OneOf(choices), wire) => {
            let chosen = fields(wire.bytes())[0].0;
            let (_, _, kind) = choices.iter().find(|(_, n, _)| *n == chosen).expect("a field of the choice");
            read(kind, only(wire, chosen))
        }
        (_, wire) => panic!("{wire:?} is not how its field is written"),
    }
}

fn only(wire: Wire<'_>, number: u32) -> Wire<'_> {
    let [(found, inside)] = fields(wire.bytes())[..] else { panic!("one field is expected") };
    assert_eq!(found, number);
    inside
}

/// A custom resource whose schema has all that version 2 keeps.
fn rich_schema() -> Value {
    json::from_slice(
        br#"{
            "type": "object",
            "externalDocs": {"description": "more", "url": "https://example.com"},
            "properties": {
                "spec": {
                    "title": "Spec",
                    "type": "object",
                    "required": ["text", "number"],
                    "minProperties": 1,
                    "maxProperties": 300,
                    "example": {"text": "a: b\n", "number": 2},
                    "x-kubernetes-validations": [{"rule": "self.number > 1", "message": "\"more\""}],
                    "properties": {
                        "text": {"type": "string", "format": "byte", "minLength": 1, "maxLength": 5000000000, "pattern": "^\\w+$", "enum": ["a", "1", ""]},
                        "number": {"type": "number", "minimum": -1.5, "exclusiveMinimum": true, "maximum": 7, "exclusiveMaximum": false, "multipleOf": 0.5},
                        "list": {"type": "array", "minItems": 0, "maxItems": 3, "uniqueItems": false, "items": {"type": "integer", "enum": [1, null]}},
                        "none": {"type": "object", "additionalProperties": false},
                        "map": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}},
                        "x-like-an-extension": {"type": "boolean"},
                        "empty": {"type": "object", "properties": {}}
                    }
                }
            }
        }"#,
    )
    .expect("it is JSON")
}

#[test]
fn nothing_of_the_document_is_lost() {
    let mut rows = builtins();
    rows.push(cron_tab(Some(rich_schema())));
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let tree = json::from_slice(&documents.v2(&docs)).expect("the document is JSON");
    let got = read_message(&DOCUMENT, &documents.v2_protobuf(&docs));
    for section in tree.as_object().expect("an object").keys() {
        let pairs = |tree: &Value| match tree.get(section) {
            Some(Value::Object(members)) => members.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect(),
            other => vec![(String::new(), other.cloned().unwrap_or_default())],
        };
        let (got, want) = (pairs(&got), pairs(&tree));
        assert_eq!(got.len(), want.len(), "{section}");
        got.into_iter().zip(want).for_each(|(got, want)| assert_eq!(got, want, "{section}"));
    }
}

/// By the numbers of `OpenAPIv2.proto`, without the table.
#[test]
fn fields_are_where_clients_look() {
    let mut rows = builtins();
    rows.push(cron_tab(Some(rich_schema())));
    let document = documents(&rows).v2_protobuf(&Docs::unpack());
    let text = |message: &[u8], path: &[u32], want: &str| {
        let found: Vec<&str> = find(message, path).into_iter().map(Wire::text).collect();
        assert_eq!(found, [want], "{path:?}");
    };
    text(&document, &[1], "2.0");
    text(&document, &[2, 1], "Kubernetes");
    text(&document, &[12, 1, 1], "BearerToken");
    text(&document, &[13, 1, 2, 2, 3], "header");

    let paths = find(&document, &[8])[0].bytes();
    let pods = named(paths, 2, "/api/v1/namespaces/{namespace}/pods");
    text(pods, &[9, 1, 2, 4, 4], "namespace");
    text(pods, &[4, 5], "createCoreV1NamespacedPod");
    text(pods, &[4, 8, 1, 1, 5, 1], "#/definitions/io.k8s.api.core.v1.Pod");
    let created = named(find(pods, &[4, 9])[0].bytes(), 1, "201");
    text(created, &[1, 2, 1, 1], "#/definitions/io.k8s.api.core.v1.Pod");
    assert!(find(pods, &[4, 8, 1, 2, 3, 4]).contains(&Wire::Bytes(b"fieldValidation")));
    text(named(find(pods, &[4])[0].bytes(), 13, "x-kubernetes-action"), &[2], r#""post""#);

    let definitions = find(&document, &[9])[0].bytes();
    let review = named(definitions, 1, "io.k8s.api.authentication.v1.TokenReview");
    text(review, &[22, 1], "object");
    text(review, &[19], "spec");
    let kinds = r#"[{"group":"authentication.k8s.io","kind":"TokenReview","version":"v1"}]"#;
    text(named(review, 31, "x-kubernetes-group-version-kind"), &[2], kinds);
    let pod = find(named(definitions, 1, "io.k8s.api.core.v1.PodSpec"), &[25])[0].bytes();
    text(named(pod, 1, "containers"), &[23, 1, 1], "#/definitions/io.k8s.api.core.v1.Container");
}

#[test]
fn schemas_on_the_wire() {
    let check = |schema: &str, want: &[u8]| {
        let mut out = Vec::new();
        let schema_tree = json::from_slice(schema.as_bytes()).expect(schema);
        write_message(&mut out, &SCHEMA, schema_tree.as_object().expect("an object"));
        assert_eq!(out, want, "{schema}");
    };
    check("{}", b"");
    check(r#"{"type":"string"}"#, b"\xb2\x01\x08\x0a\x06string");
    check(r#"{"type":["a","b"]}"#, b"\xb2\x01\x06\x0a\x01a\x0a\x01b");
    check(r#"{"items":{"$ref":"x"}}"#, b"\xba\x01\x05\x0a\x03\x0a\x01x");
    check(r#"{"additionalProperties":false}"#, b"\xaa\x01\x02\x10\x00");
    check(r#"{"additionalProperties":{"format":"x"}}"#, b"\xaa\x01\x05\x0a\x03\x12\x01x");
    check(r#"{"properties":{"a":{}}}"#, b"\xca\x01\x07\x0a\x05\x0a\x01a\x12\x00");
    check(r#"{"default":{"a":1}}"#, b"\x2a\x09\x12\x07{\"a\":1}");
    check(r#"{"enum":[null]}"#, b"\xa2\x01\x06\x12\x04null");
    check(r#"{"maxLength":300}"#, b"\x58\xac\x02");
    check(r#"{"minLength":-1}"#, b"\x60\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    check(r#"{"maximum":1}"#, b"\x39\0\0\0\0\0\0\xf0\x3f");
    check(r#"{"x-a":"b"}"#, b"\xfa\x01\x0c\x0a\x03x-a\x12\x05\x12\x03\"b\"");
    // What the message has no place for.
    check(r#"{"nullable":true,"title":1}"#, b"");
    let long = "a".repeat(200);
    check(&format!(r#"{{"$ref":"{long}"}}"#), &[b"\x0a\xc8\x01", long.as_bytes()].concat());
}

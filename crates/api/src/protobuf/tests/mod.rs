//! The encoding against bytes written by hand, and against a reader that shares no code with it.

mod envelopes;
mod hostile;
mod kinds;
mod zeros;

use super::{Message, decode, encode};
use crate::{Value, json, object};

/// A field's payload.
pub(super) enum Part<'a> {
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Message(&'a [(u8, Part<'a>)]),
}

pub(super) use Part::{Bytes, Int, Message as Msg, Text};

/// Writes fields with numbers below 16, in the order given.
pub(super) fn wire(fields: &[(u8, Part<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, part) in fields {
        let payload = match part {
            Int(int) => {
                out.push(number << 3);
                varint(&mut out, int.cast_unsigned());
                continue;
            }
            Text(text) => text.as_bytes().to_vec(),
            Bytes(bytes) => bytes.to_vec(),
            Msg(fields) => wire(fields),
        };
        out.push(number << 3 | 2);
        varint(&mut out, payload.len() as u64);
        out.extend(payload);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What stands in a message at a path of field numbers: `3` for a varint, `"a"` for bytes, one word per occurrence.
pub(super) fn read(message: &[u8], path: &[u64]) -> String {
    let mut found = Vec::new();
    collect(message, path, &mut found);
    found.join(" ")
}

fn collect(mut rest: &[u8], path: &[u64], found: &mut Vec<String>) {
    let take = |rest: &mut &[u8]| -> u64 {
        let end = rest.iter().position(|b| *b < 0x80).expect("a varint ends");
        let value = rest[..=end].iter().rev().fold(0, |all, b| all << 7 | u64::from(b & 0x7f));
        *rest = &rest[end + 1..];
        value
    };
    while !rest.is_empty() {
        let tag = take(&mut rest);
        let value = take(&mut rest);
        let payload = match tag & 7 {
            0 => None,
            2 => {
                let (payload, after) = rest.split_at(usize::try_from(value).expect("a length"));
                rest = after;
                Some(payload)
            }
            other => panic!("wire type {other}"),
        };
        match (path, payload) {
            ([number], None) if tag >> 3 == *number => found.push(value.cast_signed().to_string()),
            ([number], Some(payload)) if tag >> 3 == *number => {
                found.push(format!("{:?}", String::from_utf8_lossy(payload)));
            }
            ([number, inner @ ..], Some(payload)) if tag >> 3 == *number => collect(payload, inner, found),
            _ => {}
        }
    }
}

pub(super) fn message(api_version: &str, kind: &str) -> Message {
    Message::of(api_version, kind).unwrap_or_else(|| panic!("{api_version} {kind} has a message"))
}

pub(super) fn definition(name: &str) -> Message {
    let node = crate::builtin::definition(&format!("io.k8s.{name}")).expect(name);
    Message::of_node(node).expect(name)
}

pub(super) fn tree(text: &str) -> Value {
    json::from_slice(text.as_bytes()).expect(text)
}

#[test]
fn a_config_map_byte_by_byte() {
    let object = object!({
        "metadata": {"name": "a", "labels": {"x": "y", "b": ""}},
        "data": {"k": "v"}, "binaryData": {"z": "AAE="}
    });
    let metadata: &[u8] = &[
        0x0a, 1, b'a', // name
        0x12, 0, 0x1a, 0, 0x22, 0, 0x2a, 0, 0x32,
        0, // generateName, namespace, selfLink, uid, resourceVersion
        0x38, 0, // generation
        0x42, 0, // creationTimestamp
        0x5a, 5, 0x0a, 1, b'b', 0x12, 0, // labels, by their keys
        0x5a, 6, 0x0a, 1, b'x', 0x12, 1, b'y',
    ];
    let mut want = vec![0x0a, u8::try_from(metadata.len()).expect("short")];
    want.extend(metadata);
    want.extend([0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v']);
    want.extend([0x1a, 7, 0x0a, 1, b'z', 0x12, 2, 0, 1]);
    assert_eq!(encode(&object, message("v1", "ConfigMap")), want);
    assert_eq!(decode(&want, message("v1", "ConfigMap")).expect("a message"), object);
}

#[test]
fn embedded_structs_are_messages_on_the_wire_only() {
    let volume = tree(r#"{"name":"v","emptyDir":{"medium":"Memory","sizeLimit":"1Gi"}}"#);
    let bytes = encode(&volume, definition("api.core.v1.Volume"));
    assert_eq!(read(&bytes, &[1]), r#""v""#);
    assert_eq!(read(&bytes, &[2, 2, 1]), r#""Memory""#);
    assert_eq!(read(&bytes, &[2, 2, 2, 1]), r#""1Gi""#);
    assert_eq!(decode(&bytes, definition("api.core.v1.Volume")).expect("a message"), volume);
    // Nothing was sent of the embedded struct: the fields of its values are shown nevertheless.
    let debugger = decode(&[], definition("api.core.v1.EphemeralContainer")).expect("a message");
    assert_eq!(debugger, tree(r#"{"name":"","resources":{}}"#));
}

/// A type's property in both forms: how it stands in JSON, and what is read at a path of numbers.
#[test]
fn special_types() {
    let check = |name: &str, json: &str, reads: &[(&[u64], &str)]| {
        let want = tree(json);
        let bytes = encode(&want, definition(name));
        for (path, text) in reads {
            assert_eq!(read(&bytes, path), *text, "{json} at {path:?}");
        }
        assert_eq!(decode(&bytes, definition(name)).expect(json), want, "{json}");
    };
    let meta = "apimachinery.pkg.apis.meta.v1";
    check(
        &format!("{meta}.ManagedFieldsEntry"),
        r#"{"fieldsV1":{"f:a":{}},"time":"1969-12-31T23:59:59Z"}"#,
        &[(&[7, 1], r#""{\"f:a\":{}}""#), (&[4, 1], "-1"), (&[4, 2], "0")],
    );
    check(
        "api.coordination.v1.LeaseSpec",
        r#"{"leaseDurationSeconds":0,"renewTime":"2026-11-23T05:26:02.000123Z"}"#,
        &[(&[2], "0"), (&[4, 1], "1795411562"), (&[4, 2], "123000")],
    );
    check(
        "api.core.v1.HTTPGetAction",
        r#"{"port":"http"}"#,
        &[(&[2, 1], "1"), (&[2, 2], "0"), (&[2, 3], r#""http""#)],
    );
    check("api.core.v1.HTTPGetAction", r#"{"port":-80}"#, &[(&[2, 1], "0"), (&[2, 2], "-80")]);
    check(
        "api.authentication.v1.UserInfo",
        r#"{"extra":{"k":["a","b"],"none":[]}}"#,
        &[(&[4, 1], r#""k" "none""#), (&[4, 2, 1], r#""a" "b""#)],
    );
    check(
        "api.core.v1.PodSecurityContext",
        r#"{"runAsUser":0,"supplementalGroups":[5,0]}"#,
        &[(&[2], "0"), (&[4], "5 0")],
    );
    check("api.core.v1.Secret", r#"{"data":{"a":"","b":"/w=="},"metadata":{}}"#, &[(&[2, 1], r#""a" "b""#)]);
    let schema = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    check(
        schema,
        r#"{"additionalProperties":{"type":"string"},"default":{"a":[1]},"enum":["a",null,3],"items":{"type":"x"}}"#,
        &[(&[30, 1], "1"), (&[30, 2, 5], r#""string""#), (&[8, 1], r#""{\"a\":[1]}""#)],
    );
    check(
        schema,
        r#"{"additionalItems":false,"dependencies":{"a":["b"],"c":{"maximum":2}},"items":[{"minimum":-0.5}]}"#,
        &[(&[33, 1], "0"), (&[32, 2, 2], r#""b""#)],
    );
}

#[test]
fn packed_numbers_are_read() {
    let name = "api.core.v1.PodSecurityContext";
    let check = |fields: &[(u8, Part<'_>)], want: &str| {
        assert_eq!(decode(&wire(fields), definition(name)).expect(want), tree(want));
    };
    check(&[(4, Bytes(&[1, 0x80, 1]))], r#"{"supplementalGroups":[1,128]}"#);
    check(&[(4, Int(7)), (4, Bytes(&[1])), (4, Int(8))], r#"{"supplementalGroups":[7,1,8]}"#);
    check(&[(4, Bytes(&[]))], r#"{"supplementalGroups":[]}"#);
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut bytes = wire(&[(15, Int(1)), (1, Text("a")), (14, Text("x"))]);
    bytes.extend([13 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 12 << 3 | 5, 0, 0, 0, 0]);
    // A field whose number takes two bytes.
    bytes.extend([0x80 | 1 << 3 | 2, 0x3f, 1, 0]);
    let got = decode(&bytes, definition("api.core.v1.EnvVar")).expect("a message");
    assert_eq!(got, tree(r#"{"name":"a"}"#));
}

#[test]
fn fields_may_come_in_any_order() {
    let bytes = wire(&[
        (11, Msg(&[(1, Text("z")), (2, Text("1"))])),
        (1, Text("a")),
        (11, Msg(&[(2, Text("2")), (1, Text("b"))])),
        (11, Msg(&[(1, Text("z")), (2, Text("3"))])),
        (14, Text("f1")),
        (3, Text("n")),
        (14, Text("f2")),
        (11, Msg(&[(1, Text("none"))])),
    ]);
    let got = decode(&bytes, definition("apimachinery.pkg.apis.meta.v1.ObjectMeta")).expect("a message");
    let want =
        r#"{"finalizers":["f1","f2"],"labels":{"b":"2","none":"","z":"3"},"name":"a","namespace":"n"}"#;
    assert_eq!(got, tree(want));
}

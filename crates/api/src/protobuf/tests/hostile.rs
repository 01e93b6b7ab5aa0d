//! Messages made to hurt: cut, changed, deep, and of many values from few bytes.

use super::super::{DecodeError, Fault, MAX_DEPTH, Message, decode, decode_object, encode, encode_object};
use super::kinds::Random;
use super::{Bytes, Int, Msg, Part, Text, definition, message, wire};
use crate::{Value, builtin, json, object};

fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(values).sum::<usize>(),
        _ => 1,
    }
}

/// Reading gives an error, or a tree within the limits that can be written and read again.
fn survive(bytes: &[u8], message: Message) {
    let Ok(tree) = decode(bytes, message) else { return };
    assert!(values(&tree) <= bytes.len() + 2048, "{} values of {} bytes", values(&tree), bytes.len());
    json::from_slice(&json::to_vec(&tree)).expect("a tree can be stored as JSON");
    assert_eq!(decode(&encode(&tree, message), message), Ok(tree));
}

#[test]
fn cut_and_changed_messages_are_errors_or_other_messages() {
    let schema = builtin::schema();
    let mut random = Random::new(7);
    for (node, ..) in builtin::kinds() {
        let message = Message::of_node(node).expect("a message");
        let bytes = encode(&Random::new(u64::from(node.0)).tree(schema.at(node), 0), message);
        for _ in 0..8 {
            survive(&bytes[..random.below(bytes.len() + 1)], message);
            let mut changed = bytes.clone();
            for _ in 0..=random.below(4) {
                if let Some(byte) = changed.get_mut(random.below(bytes.len().max(1))) {
                    *byte = u8::try_from(random.below(256)).expect("a byte");
                }
            }
            survive(&changed, message);
        }
    }
}

#[test]
fn noise_is_survived() {
    let mut random = Random::new(3);
    for (node, ..) in builtin::kinds() {
        let message = Message::of_node(node).expect("a message");
        for len in [1, 7, 40, 300] {
            // Small bytes are likelier to be tags and lengths.
            let noise: Vec<u8> = (0..len).map(|_| u8::try_from(random.below(44)).expect("a byte")).collect();
            survive(&noise, message);
        }
    }
}

#[test]
fn faults_name_their_field() {
    let check = |path: &[u8], field: (u8, Part<'_>), at: &str, fault: Fault| {
        let pod = path.iter().rev().fold(wire(&[field]), |inner, number| wire(&[(*number, Bytes(&inner))]));
        let got = decode(&pod, message("v1", "Pod"));
        assert_eq!(got, Err(DecodeError { at: at.to_owned(), fault }));
    };
    check(&[2, 2], (1, Int(1)), "spec.containers[0].name", Fault::WireType);
    check(&[2, 2], (1, Bytes(&[0xff])), "spec.containers[0].name", Fault::Utf8);
    check(&[2, 2, 6], (3, Text("x")), "spec.containers[0].ports[0].containerPort", Fault::WireType);
    check(&[2, 1, 2, 2], (1, Int(1)), "spec.volumes[0].emptyDir.medium", Fault::WireType);
    check(&[1, 8], (1, Int(i64::MAX)), "metadata.creationTimestamp", Fault::Time);
    check(&[1, 11], (2, Int(1)), "metadata.labels[]", Fault::WireType);
    let limit = wire(&[(1, Text("cpu")), (2, Msg(&[(1, Text("1x"))]))]);
    let at = "spec.containers[0].resources.limits[cpu]";
    check(&[2, 2, 8], (1, Bytes(&limit)), at, Fault::Quantity("1x".into()));
    let twice = wire(&[(1, Text("a")), (1, Text("b"))]);
    check(&[], (1, Bytes(&twice)), "metadata.name", Fault::Twice);
    let got = decode(&[0x0b], message("v1", "Pod"));
    assert_eq!(got, Err(Fault::Group.into()));
    assert_eq!(decode(&[0x02], message("v1", "Pod")), Err(Fault::Number.into()));
    assert_eq!(decode(&[0x80; 11], message("v1", "Pod")), Err(Fault::Varint.into()));
    assert_eq!(decode(&[0x0f], message("v1", "Pod")), Err(Fault::WireType.into()));
    let revision =
        |text| decode(&wire(&[(2, Msg(&[(1, Text(text))]))]), message("apps/v1", "ControllerRevision"));
    let error = revision("{").expect_err("cut").to_string();
    assert!(error.starts_with("data: the raw value is not JSON: "), "{error}");
    assert!(revision("{}").is_ok());
}

#[test]
fn numbers_that_json_cannot_hold() {
    let schema = definition("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let maximum = |float: f64| decode(&[[9 << 3 | 1].as_slice(), &float.to_le_bytes()].concat(), schema);
    assert_eq!(maximum(2.5), Ok(object!({"maximum": (Value::Float(2.5))})));
    assert_eq!(maximum(2.0), Ok(object!({"maximum": 2})));
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(maximum(float).expect_err("not finite").fault, Fault::NotFinite);
    }
    let port = |ty| decode(&wire(&[(2, Msg(&[(1, Int(ty))]))]), definition("api.core.v1.HTTPGetAction"));
    assert_eq!(port(2).expect_err("neither").fault, Fault::IntOrString(2));
}

#[test]
fn depth_is_limited_to_what_can_be_stored() {
    let schema = definition("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let not = |levels: usize, inner: Value| (0..levels).fold(inner, |tree, _| object!({"not": (tree)}));
    let read = |tree: &Value| decode(&encode(tree, schema), schema);
    let deep = not(MAX_DEPTH - 1, Value::object());
    assert_eq!(read(&deep).as_ref(), Ok(&deep));
    assert_eq!(json::from_slice(&json::to_vec(&deep)).expect("as deep as JSON may be"), deep);
    let deeper = not(MAX_DEPTH, Value::object());
    assert_eq!(read(&deeper).expect_err("too deep").fault, Fault::Depth);
    assert!(json::from_slice(&json::to_vec(&deeper)).is_err());
    // What is raw counts together with what is around it.
    let raw = |levels| (0..levels).fold(Value::Int(1), |tree, _| Value::Array(vec![tree]));
    let around = |levels| not(50, object!({"default": (raw(levels))}));
    assert_eq!(read(&around(MAX_DEPTH - 51)), Ok(around(MAX_DEPTH - 51)));
    assert_eq!(read(&around(MAX_DEPTH - 50)).expect_err("too deep").fault, Fault::Depth);
}

/// Two bytes make a container of several values; what is made is bounded by what was sent.
#[test]
fn few_bytes_make_few_values() {
    let empty = |count: usize| [0x12, 0].repeat(count);
    let spec = |count: usize| decode(&empty(count), definition("api.core.v1.PodSpec"));
    assert!(spec(100).is_ok());
    assert!(matches!(spec(100_000).expect_err("too many").fault, Fault::Values { .. }));
    // As many values as bytes can say: that is allowed, in any order of the keys.
    let labels: Vec<u8> = (0..50_000u32)
        .rev()
        .flat_map(|i| wire(&[(11, Msg(&[(1, Text(&format!("{i:06}"))), (2, Text(""))]))]))
        .collect();
    let meta = decode(&labels, definition("apimachinery.pkg.apis.meta.v1.ObjectMeta")).expect("labels");
    assert_eq!(meta.object_at(&["labels"]).map(crate::Map::len), Some(50_000));
    // Two maps by turns.
    let turns: Vec<u8> = (0..20_000u32)
        .rev()
        .flat_map(|i| {
            let key = format!("{i:06}");
            wire(&[(11, Msg(&[(1, Text(&key))])), (12, Msg(&[(1, Text(&key))]))])
        })
        .collect();
    let meta = decode(&turns, definition("apimachinery.pkg.apis.meta.v1.ObjectMeta")).expect("by turns");
    assert_eq!(meta.object_at(&["annotations"]).map(crate::Map::len), Some(20_000));
}

#[test]
fn a_length_beyond_the_end_allocates_nothing() {
    for length in [[0xff, 0xff, 0xff, 0xff, 0x0f].as_slice(), &[0xff; 9], &[0x7f]] {
        let bytes = [[0x0a].as_slice(), length].concat();
        assert!(decode(&bytes, message("v1", "Pod")).is_err());
        assert!(decode_object(&[b"k8s\0".as_slice(), &bytes].concat()).is_err());
    }
    assert!(encode_object(&object!({"apiVersion": "v1", "kind": "Pod"})).is_some());
}

//! Envelopes, lists put together, frames.

use super::super::{
    DecodeError, Envelope, Fault, List, decode_object, encode, encode_object, frame, open, seal,
};
use super::{Bytes, Int, Msg, Part, Text, message, read, wire};
use crate::object;

fn body(fields: &[(u8, Part<'_>)]) -> Vec<u8> {
    [b"k8s\0".as_slice(), &wire(fields)].concat()
}

#[test]
fn an_object_in_its_envelope() {
    let object = object!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {}, "status": {}});
    let bytes = encode_object(&object).expect("a kind with a message");
    let message = encode(&object, message("v1", "Namespace"));
    let want = body(&[
        (1, Msg(&[(1, Text("v1")), (2, Text("Namespace"))])),
        (2, Bytes(&message)),
        (3, Text("")),
        (4, Text("")),
    ]);
    assert_eq!(bytes, want);
    assert_eq!(seal("v1", "Namespace", &message), want);
    assert_eq!(open(&bytes), Ok(Envelope { api_version: "v1", kind: "Namespace", raw: &message }));
    assert_eq!(decode_object(&bytes).expect("a namespace"), object);
    assert_eq!(encode_object(&object!({"apiVersion": "example.com/v1", "kind": "Widget"})), None);
    assert_eq!(encode_object(&object!({})), None);
}

#[test]
fn what_is_no_envelope_is_refused() {
    let check = |bytes: &[u8], want: Fault| {
        assert_eq!(decode_object(bytes), Err(DecodeError::from(want.clone())), "{want}");
    };
    let ty = || (1, Msg(&[(1, Text("v1")), (2, Text("Namespace"))]));
    check(b"", Fault::Magic);
    check(b"{\"kind\":\"Namespace\"}", Fault::Magic);
    check(b"k8s", Fault::Magic);
    let kind =
        |api_version: &str, kind: &str| Fault::Kind { api_version: api_version.into(), kind: kind.into() };
    check(b"k8s\0", kind("", ""));
    check(&body(&[(1, Msg(&[(1, Text("a/v1")), (2, Text("B"))]))]), kind("a/v1", "B"));
    check(&body(&[ty(), (3, Text("gzip"))]), Fault::Content("gzip".into()));
    check(&body(&[ty(), (4, Text("application/json"))]), Fault::Content("application/json".into()));
    check(&body(&[ty(), (2, Int(1))]), Fault::WireType);
    check(&body(&[(1, Msg(&[(1, Int(1))]))]), Fault::WireType);
    check(b"k8s\0\x12\x05a", Fault::Truncated);
    // Fields that later versions may add do not matter.
    assert!(
        decode_object(&body(&[ty(), (9, Int(1)), (4, Text("application/vnd.kubernetes.protobuf"))])).is_ok()
    );
}

#[test]
fn a_list_of_its_items_messages() {
    let item = |name: &str| object!({"metadata": {"name": name}, "data": {"k": (name.repeat(100))}});
    let items = [item("a"), item("b"), item("c")];
    let metadata = object!({"resourceVersion": "9", "continue": "x", "remainingItemCount": 0});
    for count in 0..=items.len() {
        let list = object!({
            "apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": (metadata.clone()), "items": (items[..count].to_vec())
        });
        let messages: Vec<_> = items[..count].iter().map(|i| encode(i, message("v1", "ConfigMap"))).collect();
        let mut bytes = List::head("v1", "ConfigMapList", &metadata, messages.iter().map(Vec::len));
        for message in &messages {
            bytes.extend(List::item(message.len()));
            bytes.extend(message);
        }
        bytes.extend(List::tail());
        assert_eq!(bytes, encode_object(&list).expect("a list"), "{count} items");
        assert_eq!(decode_object(&bytes).expect("a list"), list, "{count} items");
    }
}

#[test]
fn a_frame_of_a_watch() {
    let object = seal("v1", "Namespace", &wire(&[(1, Msg(&[(1, Text("a"))]))]));
    let bytes = frame("ADDED", &object);
    let (length, event) = bytes.split_at(4);
    assert_eq!(length, u32::try_from(event.len()).expect("short").to_be_bytes());
    assert_eq!(read(event, &[1]), r#""ADDED""#);
    assert_eq!(read(event, &[2, 1]), format!("{:?}", String::from_utf8_lossy(&object)));
}

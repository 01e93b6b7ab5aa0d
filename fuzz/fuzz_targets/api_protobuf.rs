//! Enveloped protobuf to a tree and back: what an encoder wrote of a tree reads as a tree with the same bytes, and JSON
//! keeps that tree.
#![no_main]

use xebec_api::protobuf::{self, Message};
use xebec_api::{Value, builtin, json};
use xebec_fuzz::{Choices, generate, target};

fn seeds() -> Vec<Vec<u8>> {
    let schema = builtin::schema();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for (number, (node, group, version, kind)) in builtin::kinds().enumerate() {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let noise: Vec<u8> = (0..400_usize).map(|at| (at * 37 + number * 11 + at * at) as u8).collect();
        let mut object = generate::object(&mut Choices::new(&noise), schema.at(node));
        object.set(&["apiVersion"], api_version);
        object.set(&["kind"], kind);
        seeds.extend(protobuf::encode_object(&object));
    }
    seeds
}

fn check(object: &Value) {
    let Some(encoded) = protobuf::encode_object(object) else { return };
    let Ok(decoded) = protobuf::decode_object(&encoded) else { return };
    let again = protobuf::encode_object(&decoded).expect("the kind has a message");
    let twice = protobuf::decode_object(&again).expect("what was decoded and encoded can be decoded");
    assert_eq!(decoded, twice);
    assert_eq!(protobuf::encode_object(&twice).as_ref(), Some(&again));
    let text = json::to_vec(&decoded);
    assert_eq!(json::from_slice(&text).map(|tree| json::to_vec(&tree)).ok(), Some(text));
}

target!("api_protobuf", seeds(), |data| {
    if let Ok(object) = protobuf::decode_object(data) {
        check(&object);
    }
    // The same bytes as a bare message.
    for (api_version, kind) in [("v1", "Pod"), ("apps/v1", "Deployment"), ("v1", "Node"), ("v1", "DeleteOptions")] {
        let message = Message::of(api_version, kind).expect("it is built in");
        if let Ok(mut object) = protobuf::decode(data, message) {
            object.set(&["apiVersion"], api_version);
            object.set(&["kind"], kind);
            check(&object);
        }
    }
});

//! The three patch types on objects of built-in kinds and on any JSON.
//!
//! Applying a merge patch three times is the same as twice. (Twice is not always as once: nulls in a list that takes the
//! place of an object stay, those in a list that takes the place of a list go.)
#![no_main]

use xebec_api::patch::{json_patch, merge, strategic};
use xebec_api::{Value, builtin, json};
use xebec_fuzz::{Choices, choices, generate, target};

const SEEDS: [&str; 8] = [
    "J{\"a\":{\"b\":[1,2,3]}}\n[{\"op\":\"add\",\"path\":\"/a/b/-\",\"value\":4},{\"op\":\"move\",\"from\":\"/a/b/0\",\"path\":\"/c\"}]",
    "J{\"a\":[1]}\n[{\"op\":\"test\",\"path\":\"/a/0\",\"value\":1},{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/-\"},{\"op\":\"remove\",\"path\":\"/a/-1\"}]",
    "J{\"~\":{\"/\":1}}\n[{\"op\":\"replace\",\"path\":\"/~0/~1\",\"value\":null},{\"op\":\"replace\",\"path\":\"\",\"value\":{}}]",
    "M{\"a\":{\"b\":1,\"c\":2}}\n{\"a\":{\"b\":null,\"d\":{\"e\":null}}}",
    "P{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"b\"},{\"name\":\"c\"}]}}\n{\"spec\":{\"containers\":[{\"name\":\"a\",\"$patch\":\"delete\"}],\"$setElementOrder/containers\":[{\"name\":\"c\"}]}}",
    "P{\"metadata\":{\"finalizers\":[\"a\",\"b\"]}}\n{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"a\"],\"$setElementOrder/finalizers\":[\"b\"]}}",
    "P{\"spec\":{\"volumes\":[{\"name\":\"v\",\"emptyDir\":{}}]}}\n{\"spec\":{\"volumes\":[{\"name\":\"v\",\"$retainKeys\":[\"name\",\"hostPath\"],\"hostPath\":{\"path\":\"/\"}}],\"$patch\":\"merge\"}}",
    "G\u{3}\u{9}\u{1}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

fn merged(object: &Value, patch: &Value) {
    let Ok(once) = merge::apply(object.clone(), patch.clone()) else { return };
    let twice = merge::apply(once, patch.clone()).expect("it applied before");
    let thrice = merge::apply(twice.clone(), patch.clone()).expect("it applied before");
    assert_eq!(twice, thrice, "a merge patch applied again differs");
}

fn strategically(object: &Value, patch: &Value, name: &str) {
    let schema = builtin::schema();
    let node = schema.at(builtin::kind("", "v1", name).expect("it is built in"));
    if let Ok(result) = strategic::apply(object.clone(), patch.clone(), node) {
        json::from_slice(&json::to_vec(&result)).expect("a patched object can be stored");
    }
}

target!("api_patch", SEEDS, |data| {
    let Some((how, rest)) = data.split_first() else { return };
    if *how == b'G' {
        let schema = builtin::schema();
        let mut choices = Choices::new(rest);
        let kind = *choices.pick(&["Pod", "Service", "Node", "Event", "PersistentVolumeClaim"]);
        let node = schema.at(builtin::kind("", "v1", kind).expect("it is built in"));
        let object = generate::object(&mut choices, node);
        let patch = generate::object(&mut choices, node);
        merged(&object, &patch);
        strategically(&object, &patch, kind);
        return;
    }
    let (object, patch) = choices::halves(rest, b'\n');
    let (Ok(object), Ok(patch)) = (json::from_slice(object), json::from_slice(patch)) else { return };
    match how {
        b'J' => drop(json_patch::apply(object, patch)),
        b'M' => merged(&object, &patch),
        _ => strategically(&object, &patch, "Pod"),
    }
});

//! Documents made to hurt: deep, long, and of wrong types.

use super::properties::Random;
use super::{Desk, VERSION, gadget, tree, typed};
use crate::fields::walk::{compare, owned};
use crate::fields::{FieldSet, OneShape, Target, update};
use crate::{Value, json};

#[test]
fn documents_of_wrong_types_are_errors() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let keys =
            ["f:a", "k:{}", "k:{\"a\":1}", "v:1", "i:1", ".", "x", "f", "", "k:", "v:{", "i:-", "é:", "ff:"];
        let mut document = random.free(5);
        rename(&mut document, &mut random, &keys);
        // Reading gives a set or an error; a set comes back.
        if let Ok(set) = FieldSet::from_value(&document) {
            assert_eq!(FieldSet::from_value(&set.to_value()).expect("its own writing"), set);
        }
    }
}

fn rename(value: &mut Value, random: &mut Random, keys: &[&str]) {
    match value {
        Value::Object(map) => {
            let members = std::mem::take(map).into_iter().map(|(_, mut inner)| {
                rename(&mut inner, random, keys);
                let at = usize::try_from(random.below(keys.len() as u64)).expect("small");
                (keys[at].into(), inner)
            });
            *map = members.collect();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, random, keys)),
        _ => {}
    }
}

/// As deep as the parser lets through.
#[test]
fn deep_documents_are_read() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{}{{}}{}", open.repeat(levels), close.repeat(levels))
    };
    let deep = nested(r#"{"f:a":"#, "}", 126);
    let set = FieldSet::from_value(&tree(&deep)).expect("a set");
    assert_eq!(String::from_utf8(set.to_json()).expect("UTF-8"), deep);
    assert!(json::from_slice(nested(r#"{"f:a":"#, "}", 200).as_bytes()).is_err());

    let schema = gadget();
    let object = tree(&format!(r#"{{"spec":{{"free":{}}}}}"#, nested(r#"{"a":"#, "}", 120)));
    assert_eq!(owned(&object, schema.root()).expect("told").len(), 120);
    let changes = compare(&tree("{}"), &object, schema.root()).expect("told");
    assert_eq!(changes.written.len(), 122);
    // An element that holds a deep value inside its key.
    let key = format!("v:{}{}", "[".repeat(100), "]".repeat(100));
    let document = Value::from(crate::Map::from_iter([(key.as_str().into(), Value::object())]));
    assert_eq!(FieldSet::from_value(&document).expect("a set").to_value(), document);
}

/// Lists as long as a body can hold: each operation is a sort and a pass, so this ends soon.
#[test]
fn long_lists_are_no_burden() {
    const LEN: i64 = 100_000;
    let schema = gadget();
    let colors = |range: &mut dyn Iterator<Item = i64>| -> Value {
        let mut object = typed("{}");
        object.set(&["spec", "colors"], Value::Array(range.map(|i| Value::from(format!("c{i}"))).collect()));
        object
    };
    let (mut old, mut new) = (colors(&mut (0..LEN)), colors(&mut (0..LEN).rev().map(|i| i + LEN / 2)));
    let changes = compare(&old, &new, schema.root()).expect("told");
    let half = usize::try_from(LEN / 2).expect("small");
    assert_eq!((changes.written.len(), changes.removed.len()), (half, half));

    let mut desk = Desk::new();
    desk.put_tree("a", &mut old);
    desk.put_tree("b", &mut new);
    let text = String::from_utf8(json::to_vec(&colors(&mut (0..LEN).map(|i| i * 2)))).expect("UTF-8");
    desk.force("c", &text);
    assert_eq!(desk.live.array_at(&["spec", "colors"]).len(), usize::try_from(LEN + LEN / 2).expect("small"));
    desk.apply("c", r#"{"spec":{"title":"t"}}"#);
    assert_eq!(desk.live.array_at(&["spec", "colors"]).len(), half * 2);
}

#[test]
fn many_managers_are_no_burden() {
    let schema = gadget();
    let target = Target {
        schema: schema.root(),
        api_version: VERSION,
        kind: "Gadget",
        subresource: "",
        reset: &[],
        manager: "me",
        now: "2026-01-01T00:00:00Z",
    };
    let entry = |i: usize| {
        format!(
            r#"{{"manager":"m{}","operation":"Update","apiVersion":"{VERSION}","fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{"f:limits":{{"f:l{i}":{{}}}}}}}}}}"#,
            i % 9_000
        )
    };
    let entries: Vec<String> = (0..10_000).map(entry).collect();
    let mut new = typed(&format!(
        r#"{{"metadata":{{"managedFields":[{}]}},"spec":{{"title":"t"}}}}"#,
        entries.join(",")
    ));
    update(&target, &Value::object(), &mut new, &mut OneShape(&[VERSION])).expect("tracked");
    let kept = new.array_at(&["metadata", "managedFields"]);
    assert_eq!(kept.len(), 10);
    let bucket = kept.iter().find(|e| e.str_at(&["manager"]) == Some("ancient-changes")).expect("a bucket");
    let limits = bucket.object_at(&["fieldsV1", "f:spec", "f:limits"]).expect("fields").len();
    // Of the thousand managers that came twice the last entry counts; nine entries are not the oldest.
    assert_eq!(limits, 9_000 - 8);
}

#[test]
fn patches_of_any_shape_give_a_result_or_an_error() {
    use crate::patch::{json_patch, merge, strategic};
    let schema = gadget();
    let mut results = 0;
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let (object, mut patch) = (random.gadget(), random.gadget());
        if random.below(3) == 0 {
            patch.set(&["spec"], random.free(4));
        }
        let directives = [
            "$patch",
            "$retainKeys",
            "$setElementOrder/parts",
            "$deleteFromPrimitiveList/colors",
            "parts",
            "name",
            "spec",
        ];
        if random.below(2) == 0 {
            rename(&mut patch, &mut random, &directives);
        }
        results += u32::from(strategic::apply(object.clone(), patch.clone(), schema.root()).is_ok());
        results += u32::from(merge::apply(object.clone(), patch.clone()).is_ok());
        let operation = |random: &mut Random| {
            let mut operation = random.free(1);
            operation.set(
                &["op"],
                ["add", "remove", "replace", "move", "copy", "test"]
                    [usize::try_from(random.below(6)).expect("small")],
            );
            operation.set(
                &["path"],
                ["", "/spec", "/spec/parts/0", "/spec/colors/-", "//", "/spec/free/a"]
                    [usize::try_from(random.below(6)).expect("small")],
            );
            operation.set(
                &["from"],
                ["", "/spec", "/spec/parts", "/metadata"][usize::try_from(random.below(4)).expect("small")],
            );
            operation
        };
        let operations: Vec<Value> = (0..4).map(|_| operation(&mut random)).collect();
        results += u32::from(json_patch::apply(object, Value::Array(operations)).is_ok());
    }
    assert!(results > 3000, "only {results} patches applied");
}

//! `fieldsV1` of anybody: what is read is written so that it reads as the same set.
#![no_main]

use xebec_api::fields::{self, Element, FieldSet};
use xebec_api::json;
use xebec_fuzz::target;

const SEEDS: [&str; 5] = [
    r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{}}}"#,
    r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{}}}}"#,
    r#"{"f:metadata":{"f:finalizers":{"v:\"x\"":{},"v:1":{},"v:1.5":{},"v:null":{},"v:{\"a\":[1]}":{}}},"i:0":{},"i:-1":{}}"#,
    r#"{"metadata":{"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}},"time":"2026-01-31T09:00:00Z"}]}}"#,
    r#"{"f:":{},"x:y":{},".":{}}"#,
];

target!("api_fields", SEEDS, |data| {
    let Ok(value) = json::from_slice(data) else { return };
    drop(fields::check_entries(&value));
    for key in value.as_object().into_iter().flat_map(xebec_api::Map::keys) {
        if let Ok(Some(element)) = Element::from_key(key) {
            let again = Element::from_key(&element.to_key()).expect("a written key can be read");
            assert_eq!(again, Some(element));
        }
    }
    let Ok(set) = FieldSet::from_value(&value) else { return };
    let written = set.to_value();
    let again = FieldSet::from_value(&written).expect("what was written can be read");
    assert_eq!(again, set);
    assert_eq!(json::from_slice(&set.to_json()).ok(), Some(written));
    assert!(set.is_within(&again));
    let mut none = set.clone();
    none.remove(&again);
    assert!(none.is_empty(), "{none:?}");
    let mut both = set.clone();
    both.add(again);
    assert_eq!(both, set);
});

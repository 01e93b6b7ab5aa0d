//! Managers that wrote in other versions.

use super::tree;
use crate::error::Status;
use crate::fields::testing::TestSchema;
use crate::fields::{FieldSet, Force, OneShape, Target, VersionShape, Versions, apply, update};
use crate::{Value, json};

/// `v1` has `size`, `v2` has `dims.size`; `v1alpha1` is as `v1`; `v0` is gone.
struct TwoShapes<'a> {
    v1: &'a TestSchema,
    v2: &'a TestSchema,
    request: &'static str,
}

impl<'a> Versions<'a> for TwoShapes<'a> {
    fn shape(&self, api_version: &str) -> VersionShape<'a> {
        let is_two = |version: &str| version == "t/v2";
        match api_version {
            "t/v0" => VersionShape::Gone,
            version if is_two(version) == is_two(self.request) => VersionShape::Same,
            version => VersionShape::Other(if is_two(version) { self.v2.root() } else { self.v1.root() }),
        }
    }

    fn convert(&mut self, object: &Value, to: &str) -> Result<Value, Status> {
        let mut out = object.clone();
        let from_two = object.str_at(&["apiVersion"]) == Some("t/v2");
        out.set(&["apiVersion"], to);
        if from_two && to != "t/v2" {
            if let Some(Value::Object(dims)) = out.remove_at(&["dims"]) {
                out.set(&["size"], dims.get("size").cloned());
            }
        } else if !from_two
            && to == "t/v2"
            && let Some(size) = out.remove_at(&["size"])
        {
            out.set(&["dims", "size"], size);
        }
        Ok(out)
    }
}

struct Desk {
    v1: TestSchema,
    v2: TestSchema,
    live: Value,
}

impl Desk {
    fn new() -> Self {
        let schema = |rest: &str| {
            TestSchema::new(&format!(
                "{{ apiVersion: string, kind: string, metadata: {{ uid: string, managedFields: list(any) }}, name: string, {rest} }}"
            ))
        };
        Self { v1: schema("size: int"), v2: schema("dims: { size: int }"), live: Value::Null }
    }

    /// Writes in a version; the object is kept in `t/v1`.
    fn write(&mut self, version: &'static str, manager: &str, op: &str, text: &str) -> Result<(), String> {
        let mut versions = TwoShapes { v1: &self.v1, v2: &self.v2, request: version };
        let schema = if version == "t/v2" { self.v2.root() } else { self.v1.root() };
        let target = Target {
            schema,
            api_version: version,
            kind: "T",
            subresource: "",
            reset: &[],
            manager,
            now: "2026-01-01T00:00:00Z",
        };
        let live = if self.live.is_null() {
            Value::object()
        } else {
            versions.convert(&self.live, version).expect("converts")
        };
        let mut new = tree(text);
        new.set(&["apiVersion"], version);
        new.set(&["kind"], "T");
        let written = match op {
            "apply" => apply(&target, &live, &new, Force::No, &mut versions).map_err(|e| e.to_string())?,
            "force" => apply(&target, &live, &new, Force::Yes, &mut versions).map_err(|e| e.to_string())?,
            _ => {
                if let Some(list) = live.at(&["metadata", "managedFields"]) {
                    new.set(&["metadata", "managedFields"], list.clone());
                }
                update(&target, &live, &mut new, &mut versions).map_err(|e| e.to_string())?;
                new
            }
        };
        self.live = versions.convert(&written, "t/v1").expect("converts");
        self.live.set(&["metadata", "uid"], "u");
        Ok(())
    }

    fn owners(&self) -> Vec<String> {
        let line = |entry: &Value| {
            let text = |field| entry.str_at(&[field]).unwrap_or_default();
            let fields =
                String::from_utf8(json::to_vec(entry.get("fieldsV1").expect("fields"))).expect("UTF-8");
            format!("{} {} {} {fields}", text("manager"), text("operation"), text("apiVersion"))
        };
        self.live.array_at(&["metadata", "managedFields"]).iter().map(line).collect()
    }
}

#[test]
fn a_change_counts_in_every_version() {
    let mut desk = Desk::new();
    desk.write("t/v1", "a", "put", r#"{"name":"n","size":1}"#).expect("tracked");
    desk.write("t/v2", "b", "put", r#"{"name":"n","dims":{"size":2}}"#).expect("tracked");
    assert_eq!(
        desk.owners(),
        [r#"a Update t/v1 {"f:name":{}}"#, r#"b Update t/v2 {"f:dims":{"f:size":{}}}"#]
    );
    desk.write("t/v1", "a", "put", r#"{"name":"n","size":3}"#).expect("tracked");
    assert_eq!(desk.owners(), [r#"a Update t/v1 {"f:name":{},"f:size":{}}"#]);
    let error = desk.write("t/v2", "c", "apply", r#"{"dims":{"size":4}}"#).expect_err("a conflict");
    assert_eq!(error, r#"Apply failed with 1 conflict: conflict with "a" using t/v1: .size"#);
    // One manager has an entry for each version it updates in.
    desk.write("t/v2", "a", "put", r#"{"name":"n","dims":{"size":5}}"#).expect("tracked");
    assert_eq!(
        desk.owners(),
        [r#"a Update t/v1 {"f:name":{}}"#, r#"a Update t/v2 {"f:dims":{"f:size":{}}}"#]
    );
}

#[test]
fn an_applier_may_change_its_version() {
    let mut desk = Desk::new();
    desk.write("t/v1", "a", "apply", r#"{"name":"n","size":1}"#).expect("applied");
    desk.write("t/v2", "a", "apply", r#"{"name":"n","dims":{"size":1}}"#).expect("applied");
    assert_eq!(desk.owners(), [r#"a Apply t/v2 {"f:dims":{"f:size":{}},"f:name":{}}"#]);
    assert_eq!(desk.live.i64_at(&["size"]), Some(1));
    desk.write("t/v1", "a", "apply", r#"{"name":"n"}"#).expect("applied");
    assert_eq!(desk.owners(), [r#"a Apply t/v1 {"f:name":{}}"#]);
    assert_eq!(desk.live.at(&["size"]), None);
    // What another owns in its version stays.
    desk.write("t/v2", "b", "apply", r#"{"dims":{"size":7}}"#).expect("applied");
    desk.write("t/v1", "a", "force", r#"{"name":"n","size":7}"#).expect("applied");
    desk.write("t/v1", "a", "apply", r#"{"name":"n"}"#).expect("applied");
    assert_eq!(desk.live.i64_at(&["size"]), Some(7));
}

#[test]
fn versions_of_one_shape_need_no_conversion() {
    let mut desk = Desk::new();
    desk.write("t/v1alpha1", "a", "put", r#"{"name":"n","size":1}"#).expect("tracked");
    desk.write("t/v1", "b", "put", r#"{"name":"n","size":2}"#).expect("tracked");
    assert_eq!(desk.owners(), [r#"a Update t/v1alpha1 {"f:name":{}}"#, r#"b Update t/v1 {"f:size":{}}"#]);
    let shape = |version: &str| OneShape(&["t/v1"]).shape(version);
    assert!(matches!((shape("t/v1"), shape("t/v2")), (VersionShape::Same, VersionShape::Gone)));
}

#[test]
fn managers_of_versions_that_are_gone_are_forgotten() {
    let mut desk = Desk::new();
    desk.write("t/v1", "a", "put", r#"{"name":"n"}"#).expect("tracked");
    let old = FieldSet::of(&[&["size"]]).to_value();
    let list =
        desk.live.get_mut("metadata").and_then(|m| m.get_mut("managedFields")).and_then(Value::as_array_mut);
    let list = list.expect("a list");
    let mut entry = list[0].clone();
    entry.set(&["apiVersion"], "t/v0");
    entry.set(&["fieldsV1"], old);
    list.push(entry);
    assert_eq!(desk.owners().len(), 2);
    desk.write("t/v1", "b", "put", r#"{"name":"n"}"#).expect("tracked");
    assert_eq!(desk.owners(), [r#"a Update t/v1 {"f:name":{}}"#]);
}

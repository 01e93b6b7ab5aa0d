//! Whether a schema is structural: every field has one type, stated outside of what only restricts values.

use super::nested::{complete, restrictions};
use super::schema::{EMBEDDED, INT_OR_STRING, PRESERVE};
use crate::Value;
use crate::kinds::check::{Check, is_set, is_true, same, text};

/// Where a schema stands, in the words for a missing type.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Checks the schema of a whole object. What is wrong is told in the order of its text.
pub(super) fn check(c: &mut Check, schema: &Value) {
    let before = c.count();
    invariants(c, schema, Level::Root);
    complete(c, schema);
    c.sort_after(before);
}

fn invariants(c: &mut Check, schema: &Value, level: Level) {
    let ty = text(schema, "type");
    let flags @ [embedded, preserve, int_or_string] =
        [EMBEDDED, PRESERVE, INT_OR_STRING].map(|flag| is_true(schema, flag));
    if ty == "array" && !is_set(schema, "items") {
        c.at("items").required("must be specified");
    }
    c.some(schema, "items", |c, items| invariants(c, items, Level::Item));
    c.entries(schema, "properties", |c, _, property| invariants(c, property, Level::Field));
    if is_set(schema, "additionalProperties") {
        if level == Level::Root {
            c.at("additionalProperties").forbidden("must not be used at the root");
        }
        if schema.object_at(&["additionalProperties"]).is_some() {
            c.field(schema, "additionalProperties", |c, each| invariants(c, each, Level::Field));
        }
        if embedded {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            c.at("additionalProperties").forbidden(detail);
        }
    }
    if int_or_string {
        let detail = "must be false if x-kubernetes-int-or-string is true";
        for (flag, name) in flags.into_iter().zip([EMBEDDED, PRESERVE]) {
            if flag {
                c.at(name).invalid(true, detail);
            }
        }
    }
    let first = schema.array_at(&["allOf"]).first();
    restrictions(c, schema, is_int_or_string(schema), first.is_some_and(is_int_or_string));
    if embedded && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match ty {
            "" => c.at("type").required(detail),
            _ => c.at("type").invalid(ty, detail),
        }
    } else if ty.is_empty() && !int_or_string && !preserve {
        c.at("type").required(match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        });
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        c.at("type").invalid(ty, "must be object at the root");
    }
    if level == Level::Root || embedded {
        of_objects(c, schema, level);
    }
    let has_properties = schema.object_at(&["properties"]).is_some_and(|all| !all.is_empty());
    if embedded && !preserve && !has_properties {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        c.at("properties").required(detail);
    }
}

/// What every object has is as it is in every object.
fn of_objects(c: &mut Check, schema: &Value, level: Level) {
    for name in ["kind", "apiVersion"] {
        if let Some(property) = schema.at(&["properties", name])
            && text(property, "type") != "string"
        {
            c.at("properties").key(name).field("type").invalid(text(property, "type"), "must be string");
        }
    }
    let Some(metadata) = schema.at(&["properties", "metadata"]) else { return };
    if text(metadata, "type") != "object" {
        let spot = c.at("properties").key("metadata").field("type");
        spot.invalid(text(metadata, "type"), "must be object");
    }
    let is_free = |key: &str| match key {
        "type" | "default" => true,
        "properties" => metadata
            .object_at(&["properties"])
            .is_none_or(|all| all.keys().all(|key| ["name", "generateName"].contains(&key))),
        _ => same(metadata.get(key), None),
    };
    if level == Level::Root && !metadata.as_object().is_none_or(|members| members.keys().all(is_free)) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        c.at("properties").key("metadata").forbidden(detail);
    }
}

/// Whether what restricts the values says no more than `integer` or `string`.
fn is_int_or_string(schema: &Value) -> bool {
    let ways = schema.array_at(&["anyOf"]);
    let wanted = ["integer", "string"].map(|ty| crate::object!({"type": ty}));
    ways.len() == 2 && ways.iter().zip(&wanted).all(|(a, b)| same(Some(a), Some(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn types_are_stated() {
        let base = json(r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#);
        cases(&base, SCHEMAS, |object| run(|c| check(c, object)));
    }

    const SCHEMAS: &str = r#"
properties.p = {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}
properties.q = {"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}]}
properties.r = {"x-kubernetes-preserve-unknown-fields": true}
properties.metadata = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}
properties.e = {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}

= {}
! type: Required value: must not be empty at the root

= {"type": "array"}
! items: Required value: must be specified
! type: Invalid value: "array": must be object at the root

additionalProperties = {}
! additionalProperties.type: Required value: must not be empty for specified object fields
! additionalProperties: Forbidden: must not be used at the root

properties.a = {"type": "array", "items": {}}
properties.b = {}
! properties[a].items.type: Required value: must not be empty for specified array items
! properties[b].type: Required value: must not be empty for specified object fields

properties.a = {"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true,
  "x-kubernetes-embedded-resource": true, "additionalProperties": true}
! properties[a].additionalProperties: Forbidden: must not be used if x-kubernetes-embedded-resource is set
! properties[a].type: Required value: must be object if x-kubernetes-embedded-resource is true
! properties[a].x-kubernetes-embedded-resource: Invalid value: true: must be false if x-kubernetes-int-or-string is true
! properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is
  true

properties.a = {"type": "string", "x-kubernetes-embedded-resource": true}
! properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without
  x-kubernetes-preserve-unknown-fields
! properties[a].type: Invalid value: "string": must be object if x-kubernetes-embedded-resource is true

properties.kind = {"type": "integer"}
properties.apiVersion = {"type": "integer"}
properties.metadata = {"type": "string"}
! properties[apiVersion].type: Invalid value: "integer": must be string
! properties[kind].type: Invalid value: "integer": must be string
! properties[metadata].type: Invalid value: "string": must be object

properties.metadata = {"type": "object", "description": "d"}
! properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly
  specified

properties.metadata = {"type": "object", "properties": {"labels": {"type": "object"}}}
! properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly
  specified
"#;
}

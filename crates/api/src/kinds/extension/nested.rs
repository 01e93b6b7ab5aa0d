//! What restricts values in a schema (`allOf`, `anyOf`, `oneOf`, `not`): it says nothing of types, and speaks only of fields
//! that are stated outside of it.

use super::schema::{EMBEDDED, INT_OR_STRING, LIST_TYPE, MAP_KEYS, MAP_TYPE, PRESERVE, RULES};
use crate::kinds::check::{Check, is_set, is_true, same};
use crate::{FieldPath, Value};

const LISTS: [&str; 3] = ["anyOf", "allOf", "oneOf"];

/// Checks what restricts the values of a schema. The well-known way to say "integer or string" may stand in `anyOf`, or in
/// the first of `allOf`.
pub(super) fn restrictions(c: &mut Check, schema: &Value, skip_any: bool, skip_first: bool) {
    for list in LISTS {
        if list == "anyOf" && skip_any {
            continue;
        }
        let mut is_first = true;
        c.each(schema, list, |c, item| {
            nested(c, item, list == "allOf" && skip_first && is_first);
            is_first = false;
        });
    }
    c.some(schema, "not", |c, item| nested(c, item, false));
}

fn nested(c: &mut Check, schema: &Value, skip_any: bool) {
    restrictions(c, schema, skip_any, false);
    c.some(schema, "items", |c, items| nested(c, items, false));
    c.entries(schema, "properties", |c, _, property| nested(c, property, false));
    let forbidden = |c: &mut Check, field: &str, how: &str| {
        c.at(field).forbidden(&format!("must be {how} to be structural"));
    };
    let has = |field: &str| !same(schema.get(field), None);
    if has("type") {
        forbidden(c, "type", "empty");
    }
    if is_true(schema, "additionalProperties") || schema.object_at(&["additionalProperties"]).is_some() {
        forbidden(c, "additionalProperties", "undefined");
    }
    if is_set(schema, "default") {
        forbidden(c, "default", "undefined");
    }
    for field in ["title", "description"] {
        if has(field) {
            forbidden(c, field, "empty");
        }
    }
    for field in ["nullable", PRESERVE, EMBEDDED, INT_OR_STRING] {
        if is_true(schema, field) {
            forbidden(c, field, "false");
        }
    }
    if has(MAP_KEYS) {
        forbidden(c, MAP_KEYS, "empty");
    }
    for field in [LIST_TYPE, MAP_TYPE] {
        if is_set(schema, field) {
            forbidden(c, field, "undefined");
        }
    }
    if has(RULES) {
        forbidden(c, RULES, "empty");
    }
    if schema.at(&["properties", "metadata"]).is_some() {
        c.at("properties").key("metadata").forbidden("must not be specified in a nested context");
    }
}

/// Checks that what is restricted is there.
pub(super) fn complete(c: &mut Check, schema: &Value) {
    let here = c.path();
    within(c, schema, Some(schema), &here);
}

/// What `restricting` (at the path `there`) restricts is in `schema`, where the walk stands.
fn within(c: &mut Check, restricting: &Value, schema: Option<&Value>, there: &FieldPath) {
    if let Some(not) = restricting.get("not").filter(|not| !not.is_null()) {
        covered(c, not, schema, &there.field("not"));
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        for (i, item) in restricting.array_at(&[list]).iter().enumerate() {
            covered(c, item, schema, &there.field(list).index(i));
        }
    }
}

fn covered(c: &mut Check, restricting: &Value, schema: Option<&Value>, there: &FieldPath) {
    let Some(schema) = schema.filter(|schema| schema.as_object().is_some()) else {
        return c.here().required(&format!("because it is defined in {there}"));
    };
    within(c, restricting, Some(schema), there);
    if let Some(items) = restricting.get("items").filter(|items| items.as_object().is_some()) {
        c.within("items", |c| covered(c, items, schema.get("items"), &there.field("items")));
    }
    for (name, property) in restricting.object_at(&["properties"]).into_iter().flat_map(crate::Map::iter) {
        let there = there.field("properties").key(name);
        let stated = schema.at(&["properties", name]);
        c.within("properties", |c| c.within_key(name, |c| covered(c, property, stated, &there)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn only_what_is_stated_is_restricted() {
        let base = json(
            r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}}"#,
        );
        cases(&base, RESTRICTIONS, |object| {
            run(|c| {
                restrictions(c, object, false, false);
                complete(c, object);
            })
        });
    }

    const RESTRICTIONS: &str = r#"
anyOf = [{"required": ["a"]}, {"properties": {"a": {"minItems": 1, "items": {"maxLength": 3}}}}]
not = {"maxProperties": 1}

not = {"type": "object", "additionalProperties": {}, "default": {}, "title": "t", "description": "d", "nullable": true,
  "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-embedded-resource": true, "x-kubernetes-int-or-string": true,
  "x-kubernetes-list-map-keys": ["k"], "x-kubernetes-list-type": "map", "x-kubernetes-map-type": "atomic",
  "x-kubernetes-validations": [{"rule": "true"}]}
! not.type: Forbidden: must be empty to be structural
! not.additionalProperties: Forbidden: must be undefined to be structural
! not.default: Forbidden: must be undefined to be structural
! not.title: Forbidden: must be empty to be structural
! not.description: Forbidden: must be empty to be structural
! not.nullable: Forbidden: must be false to be structural
! not.x-kubernetes-preserve-unknown-fields: Forbidden: must be false to be structural
! not.x-kubernetes-embedded-resource: Forbidden: must be false to be structural
! not.x-kubernetes-int-or-string: Forbidden: must be false to be structural
! not.x-kubernetes-list-map-keys: Forbidden: must be empty to be structural
! not.x-kubernetes-list-type: Forbidden: must be undefined to be structural
! not.x-kubernetes-map-type: Forbidden: must be undefined to be structural
! not.x-kubernetes-validations: Forbidden: must be empty to be structural

allOf = [{"properties": {"metadata": {"required": ["name"]}, "a": {"items": {"properties": {"b": {"minimum": 1}}}}}},
  {"oneOf": [{"items": {"minimum": 1}}]}]
! allOf[0].properties[metadata]: Forbidden: must not be specified in a nested context
! properties[a].items.properties[b]: Required value: because it is defined in
  allOf[0].properties[a].items.properties[b]
! properties[metadata]: Required value: because it is defined in allOf[0].properties[metadata]
! items: Required value: because it is defined in allOf[1].oneOf[0].items
"#;
}

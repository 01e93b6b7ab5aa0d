//! Rules of the schema of a version. Whether defaults and rules in it hold is for those to say who compile it.

use super::paths::follow;
use super::{expressions, structural};
use crate::Value;
use crate::kinds::check::{Check, filled, is_set, is_true, text};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
pub(super) const LIST_TYPE: &str = "x-kubernetes-list-type";
pub(super) const MAP_TYPE: &str = "x-kubernetes-map-type";
pub(super) const MAP_KEYS: &str = "x-kubernetes-list-map-keys";
pub(super) const RULES: &str = "x-kubernetes-validations";
pub(super) const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
pub(super) const EMBEDDED: &str = "x-kubernetes-embedded-resource";
pub(super) const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// What the root of a schema may have if the status is a subresource: upstream's names and ours.
const AT_ROOT: [(&str, &str); 22] = [
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", PRESERVE),
    ("XValidations", RULES),
];

/// Checks the schema of a version, given whether its status is a subresource.
pub(super) fn check(c: &mut Check, validation: &Value, has_status: bool) {
    c.some(validation, "openAPIV3Schema", |c, schema| {
        let before = c.count();
        if has_status {
            root_with_status(c, schema);
        }
        if is_true(schema, "nullable") {
            c.at("nullable").forbidden("nullable cannot be true at the root");
        }
        let unknown = find(schema, &|s| filled(s, "$schema").is_some());
        if !unknown && !find(schema, &is_unsupported) {
            structural::check(c, schema);
        }
        rules(c, schema, Place { is_root: true, ..Place::default() });
        if c.count() == before {
            expressions::check(c, schema);
        }
        if unknown && c.count() == before {
            c.here().invalid("", "OpenAPIV3Schema 'schema' is not supported");
        }
    });
}

fn root_with_status(c: &mut Check, schema: &Value) {
    const SUFFIX: &str = "at the root of the schema if the status subresource is enabled";
    if let Some(ty) = filled(schema, "type")
        && ty != "object"
    {
        let detail = format!("only \"object\" is allowed as the type {SUFFIX}");
        return c.at("type").invalid(ty, &detail);
    }
    let allowed = |key: &str| AT_ROOT.iter().any(|(_, ours)| *ours == key);
    let has = |key: &str| !crate::kinds::fill::is_unset(schema, key);
    if schema.as_object().is_some_and(|members| members.keys().any(|key| !allowed(key) && has(key))) {
        let theirs = AT_ROOT.map(|(theirs, _)| theirs).join(" ");
        c.here().invalid(schema.clone(), &format!("only [{theirs}] fields are allowed {SUFFIX}"));
    }
}

/// Whether a schema has something that cannot be compiled, which the rules tell of.
fn is_unsupported(schema: &Value) -> bool {
    let forms = ["id", "$ref", "patternProperties", "dependencies", "definitions"];
    forms.iter().any(|field| !crate::kinds::fill::is_unset(schema, field))
        || is_set(schema, "additionalItems")
        || schema.get("items").is_some_and(|items| items.as_array().is_some())
        || schema.bool_at(&[PRESERVE]) == Some(false)
}

/// Whether a schema gives defaults.
pub(super) fn has_defaults(schema: Option<&Value>) -> bool {
    schema.is_some_and(|schema| find(schema, &|s| is_set(s, "default")))
}

/// Whether a schema or one within it is as asked for.
fn find(schema: &Value, wanted: &dyn Fn(&Value) -> bool) -> bool {
    let one = |field: &str| schema.get(field).filter(|s| s.as_object().is_some());
    wanted(schema)
        || ["items", "not", "additionalProperties", "additionalItems"]
            .iter()
            .any(|field| one(field).is_some_and(|s| find(s, wanted)))
        || ["items", "allOf", "anyOf", "oneOf"]
            .iter()
            .any(|field| schema.array_at(&[field]).iter().any(|s| find(s, wanted)))
        || ["properties", "patternProperties", "definitions", "dependencies"].iter().any(|field| {
            one(field).and_then(Value::as_object).is_some_and(|m| m.values().any(|s| find(s, wanted)))
        })
}

/// Where a schema stands.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    is_root: bool,
    /// Within the metadata of an object.
    in_metadata: bool,
    /// Why there can be no default.
    no_default: Option<&'a str>,
}

fn rules(c: &mut Check, schema: &Value, place: Place<'_>) {
    let inner = Place { is_root: false, ..place };
    single(c, schema, place);
    additional(c, schema, inner);
    c.entries(schema, "properties", |c, name, property| {
        let is_meta = (place.is_root || is_true(schema, EMBEDDED))
            && ["metadata", "kind", "apiVersion"].contains(&name);
        let reason = format!("in top-level {name}");
        let no_default = if is_meta && place.is_root { Some(reason.as_str()) } else { inner.no_default };
        rules(c, property, Place { is_root: false, in_metadata: is_meta || inner.in_metadata, no_default });
    });
    c.some(schema, "not", |c, s| rules(c, s, inner));
    for field in ["allOf", "oneOf", "anyOf"] {
        c.each(schema, field, |c, s| rules(c, s, inner));
    }
    c.entries(schema, "definitions", |c, _, s| rules(c, s, inner));
    if schema.object_at(&["items"]).is_some() {
        c.field(schema, "items", |c, s| rules(c, s, inner));
    }
    c.each(schema, "items", |c, s| rules(c, s, inner));
    c.entries(schema, "dependencies", |c, _, s| {
        if s.as_object().is_some() {
            rules(c, s, inner);
        }
    });
    extensions(c, schema);
    lists(c, schema);
    expressions(c, schema);
}

/// What a schema may not say whatever else it says.
fn single(c: &mut Check, schema: &Value, place: Place<'_>) {
    let ty = text(schema, "type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        c.at("type").not_supported(ty, &TYPES);
    }
    if is_set(schema, "default")
        && let Some(reason) = place.no_default
    {
        c.at("default").forbidden(&format!("must not be set {reason}"));
    }
    let has = |field: &str| !crate::kinds::fill::is_unset(schema, field);
    for (field, is_there) in [
        ("id", has("id")),
        ("additionalItems", is_set(schema, "additionalItems")),
        ("patternProperties", has("patternProperties")),
        ("definitions", has("definitions")),
        ("dependencies", is_set(schema, "dependencies")),
        ("$ref", is_set(schema, "$ref")),
    ] {
        if is_there {
            c.at(field).forbidden(&format!("{field} is not supported"));
        }
    }
    if ty == "null" {
        c.at("type").forbidden("type cannot be set to null, use nullable as an alternative");
    }
    if !schema.array_at(&["items"]).is_empty() {
        c.at("items").forbidden("items must be a schema object and not an array");
    }
    if place.in_metadata && is_true(schema, EMBEDDED) {
        c.at(EMBEDDED).forbidden("must not be used inside of resource meta");
    }
    if is_true(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        c.at("uniqueItems").forbidden(detail);
    }
}

/// A struct has properties, a map additional ones, and nothing has both.
fn additional(c: &mut Check, schema: &Value, inner: Place<'_>) {
    const FIELD: &str = "additionalProperties";
    let Some(each) = schema.get(FIELD).filter(|each| !each.is_null()) else { return };
    let has_properties = schema.object_at(&["properties"]).is_some_and(|all| !all.is_empty());
    if has_properties && *each != Value::Bool(true) {
        c.at(FIELD).forbidden("additionalProperties and properties are mutual exclusive");
    }
    if each.as_object().is_some() {
        let reason = "inside additionalProperties applying to object metadata";
        let no_default = if inner.in_metadata { Some(reason) } else { inner.no_default };
        c.field(schema, FIELD, |c, s| rules(c, s, Place { no_default, ..inner }));
    }
}

fn extensions(c: &mut Check, schema: &Value) {
    if schema.bool_at(&[PRESERVE]) == Some(false) {
        c.at(PRESERVE).invalid(false, "must be true or undefined");
    }
    typed(c, schema, MAP_TYPE, "object");
    c.one_of_if_set(schema, MAP_TYPE, &["atomic", "granular"]);
    if typed(c, schema, LIST_TYPE, "array") && text(schema, LIST_TYPE) == "set" {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let items = schema.get("items").unwrap_or(&Value::Null);
        let (of_lists, of_maps) = (items.str_at(&[LIST_TYPE]), items.str_at(&[MAP_TYPE]));
        let shown = items.get(LIST_TYPE).cloned().unwrap_or_default();
        match text(items, "type") {
            "array" if of_lists.is_some_and(|ty| ty != "atomic") => {
                c.at("items").field(LIST_TYPE).invalid(shown, detail);
            }
            "object" if of_maps != Some("atomic") => c.at("items").field(MAP_TYPE).invalid(shown, detail),
            _ => {}
        }
    }
    c.one_of_if_set(schema, LIST_TYPE, &["atomic", "set", "map"]);
}

/// Whether the schema has the type that `extension` asks for, if that is there.
fn typed(c: &mut Check, schema: &Value, extension: &str, wanted: &str) -> bool {
    let ty = text(schema, "type");
    if !is_set(schema, extension) || ty == wanted {
        return is_set(schema, extension);
    }
    let detail = format!("must be {wanted} if {extension} is specified");
    match ty {
        "" => c.at("type").required(&detail),
        _ => c.at("type").invalid(ty, &detail),
    }
    false
}

/// Lists whose elements are told apart.
fn lists(c: &mut Check, schema: &Value) {
    let keys: Vec<&str> = schema.array_at(&[MAP_KEYS]).iter().filter_map(Value::as_str).collect();
    let list_type = schema.str_at(&[LIST_TYPE]);
    if !keys.is_empty() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => c.at(LIST_TYPE).required(detail),
            Some("map") => {}
            Some(other) => c.at(LIST_TYPE).invalid(other, detail),
        }
    }
    if list_type == Some("map") {
        if keys.is_empty() {
            c.at(MAP_KEYS).required("must not be empty if x-kubernetes-list-type is map");
        }
        match schema.get("items").filter(|items| !items.is_null()) {
            None => c.at("items").required("must have a schema if x-kubernetes-list-type is map"),
            Some(items) if items.as_object().is_none() => {
                let detail = "must only have a single schema if x-kubernetes-list-type is map";
                c.at("items").invalid(items.clone(), detail);
            }
            Some(items) if text(items, "type") == "object" => map_keys(c, items, &keys),
            Some(items) => {
                let detail = "must be object if parent array's x-kubernetes-list-type is map";
                c.at("items").field("type").invalid(text(items, "type"), detail);
            }
        }
    }
    if let Some(ty) = list_type.filter(|ty| ["set", "map"].contains(ty))
        && let Some(items) = schema.get("items").filter(|items| items.as_object().is_some())
    {
        if is_true(items, "nullable") {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {ty}");
            c.at("items").field("nullable").forbidden(&detail);
        }
        if ty == "map" {
            keys_are_given(c, items, &keys);
        }
    }
}

fn map_keys(c: &mut Check, items: &Value, keys: &[&str]) {
    for (i, key) in keys.iter().enumerate() {
        match items.at(&["properties", key]) {
            None => c.at(MAP_KEYS).invalid(keys.to_vec(), "entries must all be names of item properties"),
            Some(property) if ["array", "object"].contains(&text(property, "type")) => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                c.at("items").field("properties").key(key).field("type").invalid("object", detail);
            }
            Some(_) => {}
        }
        if keys[..i].contains(key) {
            c.at(MAP_KEYS).invalid(keys.to_vec(), "must not contain duplicate entries");
        }
    }
}

fn keys_are_given(c: &mut Check, items: &Value, keys: &[&str]) {
    const OF_KEYS: &str = "this property is in x-kubernetes-list-map-keys, so it";
    for key in keys {
        let Some(property) = items.at(&["properties", key]) else { continue };
        let is_required = items.array_at(&["required"]).iter().any(|name| name.as_str() == Some(key));
        if !is_required && !is_set(property, "default") {
            let detail = format!("{OF_KEYS} must have a default or be a required property");
            c.at("items").field("properties").key(key).field("default").required(&detail);
        }
        if is_true(property, "nullable") {
            let detail = format!("{OF_KEYS} cannot be nullable");
            c.at("items").field("properties").key(key).field("nullable").forbidden(&detail);
        }
    }
}

fn expressions(c: &mut Check, schema: &Value) {
    const BLANK: &str = "must be non-empty if specified";
    const LINES: &str = "must not contain line breaks";
    let breaks = |text: &str| text.contains(['\n', '\r']);
    c.each(schema, RULES, |c, rule| {
        let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
        if expression.is_empty() {
            c.at("rule").required("rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            c.at("message").invalid(message, BLANK);
        } else if breaks(message.trim()) {
            c.at("message").invalid(message, LINES);
        } else if breaks(expression) && message.trim().is_empty() {
            c.at("message").required("message must be specified if rule contains line breaks");
        }
        let message = text(rule, "messageExpression");
        if !message.is_empty() && message.trim().is_empty() {
            c.at("messageExpression").required("messageExpression must be non-empty if specified");
        }
        let reasons =
            ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
        c.one_of_if_set(rule, "reason", &reasons);
        let path = text(rule, "fieldPath");
        if !path.is_empty() && path.trim().is_empty() {
            c.at("fieldPath").invalid(path, BLANK);
        }
        if breaks(path) {
            c.at("fieldPath").invalid(path, LINES);
        }
        if !path.is_empty() && follow(schema, path, true).is_err() {
            c.at("fieldPath").invalid(path, "must be a valid path");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn schemas() {
        let base =
            json(r#"{"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}"#);
        cases(&base, SCHEMAS, |object| run(|c| check(c, object, false)));
        cases(&base, WITH_STATUS, |object| run(|c| check(c, object, true)));
        let list = json(
            r#"{"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}},
                            "required": ["k"]}}"#,
        );
        cases(&list, LISTS, |object| run(|c| rules(c, object, Place::default())));
        cases(&list, EXPRESSIONS, |object| run(|c| rules(c, object, Place::default())));
    }

    const SCHEMAS: &str = r#"
openAPIV3Schema.properties.m = {"type": "object", "additionalProperties": {"type": "string", "default": "a"}}

openAPIV3Schema.properties.metadata = {"type": "object", "default": {}}
! openAPIV3Schema.properties[metadata].default: Forbidden: must not be set in top-level metadata

openAPIV3Schema.nullable = true
! openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root

openAPIV3Schema.$schema = "x"
! openAPIV3Schema: Invalid value: "": OpenAPIV3Schema 'schema' is not supported

openAPIV3Schema.properties.spec = {"id": "a", "additionalItems": false, "patternProperties": {"a": {}}, "$ref": "b",
  "definitions": {"a": {}}, "dependencies": {"a": ["b"]}, "type": "null", "items": [{}], "uniqueItems": true}
! openAPIV3Schema.properties[spec].type: Unsupported value: "null": supported values: "array", "boolean", "integer",
  "number", "object", "string"
! openAPIV3Schema.properties[spec].id: Forbidden: id is not supported
! openAPIV3Schema.properties[spec].additionalItems: Forbidden: additionalItems is not supported
! openAPIV3Schema.properties[spec].patternProperties: Forbidden: patternProperties is not supported
! openAPIV3Schema.properties[spec].definitions: Forbidden: definitions is not supported
! openAPIV3Schema.properties[spec].dependencies: Forbidden: dependencies is not supported
! openAPIV3Schema.properties[spec].$ref: Forbidden: $ref is not supported
! openAPIV3Schema.properties[spec].type: Forbidden: type cannot be set to null, use nullable as an alternative
! openAPIV3Schema.properties[spec].items: Forbidden: items must be a schema object and not an array
! openAPIV3Schema.properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity
  becomes quadratic

openAPIV3Schema.properties.spec.additionalProperties = {"type": "string"}
openAPIV3Schema.properties.spec.properties = {"a": {"type": "string"}}
! openAPIV3Schema.properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual
  exclusive

openAPIV3Schema.properties.e = {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"metadata":
  {"type": "object", "properties": {"a": {"type": "object", "x-kubernetes-embedded-resource": true,
  "x-kubernetes-preserve-unknown-fields": true}, "b": {"type": "object", "additionalProperties": {"type": "string",
  "default": "c"}}}}}}
! openAPIV3Schema.properties[e].properties[metadata].properties[a].x-kubernetes-embedded-resource: Forbidden: must not be
  used inside of resource meta
! openAPIV3Schema.properties[e].properties[metadata].properties[b].additionalProperties.default: Forbidden: must not be
  set inside additionalProperties applying to object metadata

openAPIV3Schema.properties.spec.x-kubernetes-preserve-unknown-fields = false
! openAPIV3Schema.properties[spec].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined
"#;

    const WITH_STATUS: &str = r#"
openAPIV3Schema.description = "d"

openAPIV3Schema = {"type": "string"}
! openAPIV3Schema.type: Invalid value: "string": only "object" is allowed as the type at the root of the schema if the
  status subresource is enabled
! openAPIV3Schema.type: Invalid value: "string": must be object at the root

openAPIV3Schema = {"type": "object", "maxProperties": 1}
! openAPIV3Schema: Invalid value: {"maxProperties":1,"type":"object"}: only [Description Type Format Title Maximum
  ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required
  Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema
  if the status subresource is enabled
"#;

    const LISTS: &str = r#"
x-kubernetes-list-type = "map"
x-kubernetes-list-map-keys = ["k"]

= {"x-kubernetes-list-type": "map", "x-kubernetes-map-type": "x", "type": "string"}
! type: Invalid value: "string": must be object if x-kubernetes-map-type is specified
! x-kubernetes-map-type: Unsupported value: "x": supported values: "atomic", "granular"
! type: Invalid value: "string": must be array if x-kubernetes-list-type is specified
! x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map
! items: Required value: must have a schema if x-kubernetes-list-type is map

x-kubernetes-list-type = "x"
x-kubernetes-list-map-keys = ["k"]
! x-kubernetes-list-type: Unsupported value: "x": supported values: "atomic", "set", "map"
! x-kubernetes-list-type: Invalid value: "x": must be map if x-kubernetes-list-map-keys is non-empty

x-kubernetes-list-map-keys = ["k"]
! x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty

type =
x-kubernetes-list-type = "atomic"
! type: Required value: must be array if x-kubernetes-list-type is specified

x-kubernetes-list-type = "set"
! items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set

x-kubernetes-list-type = "set"
items = {"type": "array", "x-kubernetes-list-type": "set", "nullable": true, "items": {"type": "string"}}
! items.x-kubernetes-list-type: Invalid value: "set": must be atomic as item of a list with x-kubernetes-list-type=set
! items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set

x-kubernetes-list-type = "map"
x-kubernetes-list-map-keys = ["k"]
items = {"type": "string"}
! items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map

x-kubernetes-list-type = "map"
x-kubernetes-list-map-keys = ["k", "k", "x"]
items.required = []
items.properties.k = {"type": "object", "nullable": true}
! items.properties[k].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map
! items.properties[k].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map
! x-kubernetes-list-map-keys: Invalid value: ["k","k","x"]: must not contain duplicate entries
! x-kubernetes-list-map-keys: Invalid value: ["k","k","x"]: entries must all be names of item properties
! items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default
  or be a required property
! items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable
! items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default
  or be a required property
! items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable
"#;

    const EXPRESSIONS: &str = r#"
items.x-kubernetes-validations = [{"rule": "true", "message": "m", "reason": "FieldValueInvalid", "fieldPath": ".k"}]

items.x-kubernetes-validations = [{"message": " "}, {"rule": "true", "message": " ", "messageExpression": " "},
  {"rule": "true", "message": "a\nb", "reason": "x"}, {"rule": "a\nb"}, {"rule": "true", "fieldPath": ".x"},
  {"rule": "true", "fieldPath": " "}, {"rule": "true", "fieldPath": "\n"}]
! items.x-kubernetes-validations[0].rule: Required value: rule is not specified
! items.x-kubernetes-validations[1].message: Invalid value: " ": must be non-empty if specified
! items.x-kubernetes-validations[1].messageExpression: Required value: messageExpression must be non-empty if specified
! items.x-kubernetes-validations[2].message: Invalid value: "a\nb": must not contain line breaks
! items.x-kubernetes-validations[2].reason: Unsupported value: "x": supported values: "FieldValueDuplicate",
  "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"
! items.x-kubernetes-validations[3].message: Required value: message must be specified if rule contains line breaks
! items.x-kubernetes-validations[4].fieldPath: Invalid value: ".x": must be a valid path
! items.x-kubernetes-validations[5].fieldPath: Invalid value: " ": must be non-empty if specified
! items.x-kubernetes-validations[5].fieldPath: Invalid value: " ": must be a valid path
! items.x-kubernetes-validations[6].fieldPath: Invalid value: "\n": must be non-empty if specified
! items.x-kubernetes-validations[6].fieldPath: Invalid value: "\n": must not contain line breaks
! items.x-kubernetes-validations[6].fieldPath: Invalid value: "\n": must be a valid path
"#;
}

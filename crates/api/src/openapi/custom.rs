//! The types of custom resources: the schema of a `CustomResourceDefinition` in the form that clients read.
//!
//! Version 3 gets the schema as it is, with `apiVersion`, `kind` and `metadata` added. Version 2 cannot say all of it, and
//! kubectl reads more into it than it says: what may be null loses its type and contents, what keeps unknown fields loses
//! its declared ones, alternatives and defaults go.

use super::names::type_name;
use super::types::{Context, write_kind, write_reference};
use super::writer::{Object, object};
use super::{Dialect, Resource};
use crate::resource::Version;
use crate::{Key, Map, Value, builtin};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// Types whose texts for `apiVersion`, `kind` and `metadata` suit every object and every list.
const POD: &str = "io.k8s.api.core.v1.Pod";
const POD_LIST: &str = "io.k8s.api.core.v1.PodList";

/// Writes the type of a custom resource's objects.
pub(super) fn write_type(
    out: &mut Object<'_>,
    name: &str,
    resource: Resource<'_>,
    version: &Version,
    context: Context<'_>,
) {
    let schema = resource.schema(&version.name);
    let open = schema.is_some_and(|s| is_true(s, "x-kubernetes-preserve-unknown-fields"));
    out.object(name, |out| {
        match schema {
            // Declared fields would make kubectl refuse all others, so a type that takes anything declares none.
            None => out.text("type", "object"),
            Some(_) if open && context.dialect == Dialect::V2 => out.text("type", "object"),
            Some(schema) => {
                let published = add_object_fields(published(schema, context.dialect), context);
                published.iter().for_each(|(key, value)| out.value(key, value));
            }
        }
        let kind = (resource.row.group.as_ref(), version.name.as_ref(), resource.row.names.kind.as_ref());
        out.array("x-kubernetes-group-version-kind", [kind], write_kind);
        write_selectable(out, version);
    });
}

/// Writes the type of a custom resource's lists.
pub(super) fn write_list(
    out: &mut Object<'_>,
    name: &str,
    resource: Resource<'_>,
    version: &Version,
    context: Context<'_>,
) {
    let names = &resource.row.names;
    let item = type_name(resource.row, version);
    out.object(name, |out| {
        out.text("description", &format!("{} is a list of {}", names.list_kind, names.kind));
        out.text("type", "object");
        out.object("properties", |out| {
            out.value("apiVersion", &type_meta("apiVersion", context));
            out.object("items", |out| {
                out.text("description", &format!("List of {}.", names.plural));
                out.text("type", "array");
                out.object("items", |out| write_reference(out, &item, context));
            });
            out.value("kind", &type_meta("kind", context));
            let words = description(POD_LIST, "metadata", context);
            out.value("metadata", &reference("ListMeta", &words, context.dialect));
        });
        out.texts("required", ["items"]);
        let kind = (resource.row.group.as_ref(), version.name.as_ref(), names.list_kind.as_ref());
        out.array("x-kubernetes-group-version-kind", [kind], write_kind);
        write_selectable(out, version);
    });
}

fn write_selectable(out: &mut Object<'_>, version: &Version) {
    if !version.selectable.is_empty() {
        out.array("x-kubernetes-selectable-fields", version.selectable.iter(), |out, path| {
            object(out, |out| out.text("fieldPath", path));
        });
    }
}

fn is_true(schema: &Map, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool) == Some(true)
}

/// `apiVersion` and `kind` as every object has them.
fn type_meta(field: &str, context: Context<'_>) -> Value {
    crate::object!({"type": "string", "description": (description(POD, field, context))})
}

/// The description of a field of a built-in type.
fn description(ty: &str, field: &str, context: Context<'_>) -> String {
    let schema = builtin::schema();
    let ty = builtin::definition(ty).map(|id| schema.at(id));
    let doc = ty.and_then(|ty| ty.property(field)).map(|p| context.docs.get(p.doc));
    doc.unwrap_or_default().to_owned()
}

/// A reference to a type of meta/v1, with words beside it.
fn reference(ty: &str, description: &str, dialect: Dialect) -> Value {
    let target = format!("{}{META}{ty}", dialect.prefix());
    match dialect {
        Dialect::V2 => crate::object!({"$ref": target, "description": description}),
        Dialect::V3 => crate::object!({"allOf": [{"$ref": target}], "description": description}),
    }
}

/// Adds what every object has.
fn add_object_fields(mut schema: Map, context: Context<'_>) -> Map {
    let properties = schema.entry("properties").make_object();
    for field in ["apiVersion", "kind"] {
        properties.insert(field, type_meta(field, context));
    }
    properties.insert("metadata", object_metadata(context));
    let mut schema = Value::Object(schema);
    add_to_embedded(&mut schema, context);
    std::mem::take(schema.make_object())
}

fn object_metadata(context: Context<'_>) -> Value {
    reference("ObjectMeta", &description(POD, "metadata", context), context.dialect)
}

/// Gives whole objects inside the object their fields, too.
fn add_to_embedded(schema: &mut Value, context: Context<'_>) {
    let Some(members) = schema.as_object_mut() else { return };
    for (key, value) in members.iter_mut() {
        match (key, value) {
            ("items" | "additionalProperties", value) => add_to_embedded(value, context),
            ("properties", Value::Object(fields)) => {
                fields.iter_mut().for_each(|(_, field)| add_to_embedded(field, context));
            }
            _ => {}
        }
    }
    let open = is_true(members, "x-kubernetes-preserve-unknown-fields");
    if !is_true(members, "x-kubernetes-embedded-resource") || (open && context.dialect == Dialect::V2) {
        return;
    }
    let fields = members.entry("properties").make_object();
    for field in ["apiVersion", "kind"] {
        fields.insert(field, type_meta(field, context));
    }
    fields.insert("metadata", object_metadata(context));
    let required = members.entry("required");
    let mut names: Vec<Value> = required.as_array().unwrap_or_default().to_vec();
    for field in ["kind", "apiVersion"] {
        if !names.iter().any(|n| n.as_str() == Some(field)) {
            names.push(field.into());
        }
    }
    *required = Value::Array(names);
}

/// A schema as a dialect can say it.
fn published(schema: &Map, dialect: Dialect) -> Map {
    match dialect {
        Dialect::V3 => unfolded(schema),
        Dialect::V2 => simplified(schema),
    }
}

/// A schema and all those inside it, changed by `change` from the outside in.
fn map_schemas(schema: &Map, change: fn(&Map) -> Map) -> Map {
    let inside = |value: &Value| match value {
        Value::Object(schema) => Value::Object(change(schema)),
        other => other.clone(),
    };
    let member = |(key, value): (&str, &Value)| {
        let value = match (key, value) {
            ("items" | "additionalProperties", value) => inside(value),
            ("properties", Value::Object(fields)) => {
                Value::Object(fields.iter().map(|(name, field)| (Key::from(name), inside(field))).collect())
            }
            (_, value) => value.clone(),
        };
        (Key::from(key), value)
    };
    schema.iter().map(member).collect()
}

/// Says of a field that is an integer or a string that it is either.
fn unfolded(schema: &Map) -> Map {
    let mut out = map_schemas(schema, unfolded);
    let has_alternatives = out.contains("anyOf") || out.contains("allOf");
    if is_true(schema, "x-kubernetes-int-or-string") && !has_alternatives {
        out.insert("anyOf", crate::object!([{"type": "integer"}, {"type": "string"}]));
    }
    out
}

/// Drops what version 2 has no words for, and what kubectl would read too much into.
fn simplified(schema: &Map) -> Map {
    let mut out = map_schemas(schema, simplified);
    for key in ["allOf", "anyOf", "oneOf", "not", "default", "nullable"] {
        out.remove(key);
    }
    let nullable = |schema: &Value| schema.get("nullable").and_then(Value::as_bool) == Some(true);
    let open = is_true(schema, "x-kubernetes-preserve-unknown-fields");
    if is_true(schema, "nullable") {
        out.remove("type");
    }
    if is_true(schema, "nullable") || open {
        out.remove("items");
        out.remove("properties");
    }
    let ty = out.get("type").and_then(Value::as_str);
    let untyped = (ty == Some("array") && !out.contains("items")) || (ty == Some("object") && open);
    if untyped {
        out.remove("type");
    }
    if let Some(required) = out.get_mut("required").and_then(Value::as_array_mut) {
        let fields = schema.get("properties");
        required.retain(|name| !name.as_str().and_then(|n| fields?.get(n)).is_some_and(nullable));
    }
    let emptied = out.get("required").and_then(Value::as_array).is_some_and(<[Value]>::is_empty);
    if emptied || schema.get("additionalProperties").is_some_and(nullable) {
        out.remove("required");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn version_2_says_less() {
        let check = |schema: &str, want: &str| {
            let schema = json::from_slice(schema.as_bytes()).expect(schema);
            let got = Value::Object(simplified(schema.as_object().expect("a schema is an object")));
            assert_eq!(String::from_utf8_lossy(&json::to_vec(&got)), want);
        };
        check(r#"{"type":"string","default":"a","pattern":"b"}"#, r#"{"pattern":"b","type":"string"}"#);
        check(r#"{"type":"string","nullable":true}"#, "{}");
        check(r#"{"type":"object","nullable":true,"properties":{"a":{"type":"string"}}}"#, "{}");
        check(
            r#"{"type":"object","required":["a","b"],"properties":{"a":{"type":"string","nullable":true},"b":{}}}"#,
            r#"{"properties":{"a":{},"b":{}},"required":["b"],"type":"object"}"#,
        );
        check(
            r#"{"type":"object","required":["a"],"properties":{"a":{"type":"string","nullable":true}}}"#,
            r#"{"properties":{"a":{}},"type":"object"}"#,
        );
        check(
            r#"{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{}}}"#,
            r#"{"x-kubernetes-preserve-unknown-fields":true}"#,
        );
        check(
            r#"{"type":"array","x-kubernetes-preserve-unknown-fields":true,"items":{}}"#,
            r#"{"x-kubernetes-preserve-unknown-fields":true}"#,
        );
        check(
            r#"{"x-kubernetes-int-or-string":true,"anyOf":[{}]}"#,
            r#"{"x-kubernetes-int-or-string":true}"#,
        );
        check(
            r#"{"type":"object","additionalProperties":{"type":"array","items":{"oneOf":[{}],"type":"string"}}}"#,
            r#"{"additionalProperties":{"items":{"type":"string"},"type":"array"},"type":"object"}"#,
        );
        // A field may be called like a keyword.
        check(
            r#"{"type":"object","properties":{"default":{"type":"string"},"not":{"type":"string"}}}"#,
            r#"{"properties":{"default":{"type":"string"},"not":{"type":"string"}},"type":"object"}"#,
        );
    }

    #[test]
    fn version_3_says_what_is_meant() {
        let schema = json::from_slice(br#"{"type":"array","items":{"x-kubernetes-int-or-string":true}}"#)
            .expect("it is JSON");
        let got = Value::Object(unfolded(schema.as_object().expect("a schema is an object")));
        assert_eq!(
            String::from_utf8_lossy(&json::to_vec(&got)),
            r#"{"items":{"anyOf":[{"type":"integer"},{"type":"string"}],"x-kubernetes-int-or-string":true},"type":"array"}"#
        );
    }
}

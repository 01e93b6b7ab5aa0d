//! A structural schema as expressions see it: types, names, and how large values can be.

use std::sync::Arc;

use xebec_cel::Schema;
use xebec_cel::limits::MAX_REQUEST;
use xebec_cel::schema::{Field, ListKind, ObjectSchema, SchemaKind, escape};

use crate::Value;

/// What a schema declares; `None` if expressions can say nothing of it. `name` is what its type is called, `is_root` whether it
/// is of whole objects.
pub(crate) fn declare(schema: &Value, name: &str, is_root: bool) -> Option<Schema> {
    let mut declared = kind_of(schema, name, is_root)?;
    declared.nullable = flag(schema, "nullable");
    Some(declared)
}

fn flag(schema: &Value, field: &str) -> bool {
    schema.bool_at(&[field]) == Some(true)
}

fn count(schema: &Value, field: &str) -> Option<u64> {
    schema.i64_at(&[field]).map(|count| u64::try_from(count).unwrap_or(0))
}

fn is_embedded(schema: &Value) -> bool {
    flag(schema, "x-kubernetes-embedded-resource")
}

/// The schema of values, if there is one.
fn additional(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|each| each.as_object().is_some())
}

fn kind_of(schema: &Value, name: &str, is_root: bool) -> Option<Schema> {
    // Code points take up to four bytes.
    let longest = count(schema, "maxLength").map(|length| length.saturating_mul(4));
    if flag(schema, "x-kubernetes-int-or-string") {
        let mut declared = Schema::new(SchemaKind::IntOrString);
        declared.max_elements = longest.unwrap_or(declared.max_elements);
        return Some(declared);
    }
    match schema.str_at(&["type"])? {
        "array" => list(schema, name),
        "object" => match additional(schema) {
            Some(values) => map(schema, values, name),
            None => Some(object(schema, name, is_root)),
        },
        "string" => Some(text(schema, longest)),
        "boolean" => Some(Schema::new(SchemaKind::Bool)),
        "number" => Some(Schema::new(SchemaKind::Double)),
        "integer" => Some(Schema::new(SchemaKind::Int)),
        _ => None,
    }
}

fn list(schema: &Value, name: &str) -> Option<Schema> {
    let items = schema.get("items").filter(|items| items.as_object().is_some())?;
    let element = declare(items, &format!("{name}.@idx"), is_embedded(items))?;
    let keys = || {
        let keys = schema.array_at(&["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str);
        keys.map(|key| Arc::from(escape(key).unwrap_or_else(|| key.to_owned()))).collect()
    };
    let kind = match schema.str_at(&["x-kubernetes-list-type"]) {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(keys()),
        _ => ListKind::Atomic,
    };
    let mut declared = Schema::new(SchemaKind::List(Arc::new(element), kind));
    declared.max_elements = count(schema, "maxItems").unwrap_or(declared.max_elements);
    Some(declared)
}

fn map(schema: &Value, values: &Value, name: &str) -> Option<Schema> {
    let value = declare(values, &format!("{name}.@elem"), is_embedded(values))?;
    let mut declared = Schema::map(value);
    declared.max_elements = count(schema, "maxProperties").unwrap_or(declared.max_elements);
    Some(declared)
}

fn object(schema: &Value, name: &str, is_root: bool) -> Schema {
    let required = schema.array_at(&["required"]);
    let mut fields = Vec::new();
    let mut shortest = 2;
    let identified = is_root || is_embedded(schema);
    for (property, below) in schema.object_at(&["properties"]).into_iter().flat_map(crate::Map::iter) {
        if identified && ["apiVersion", "kind", "metadata"].contains(&property) {
            continue;
        }
        let escaped = escape(property);
        let known = escaped.as_deref().unwrap_or(property);
        let declared = declare(below, &format!("{name}.{known}"), is_embedded(below));
        if let Some(declared) = &declared
            && required.iter().any(|field| field.as_str() == Some(property))
            && below.get("default").is_none_or(Value::is_null)
        {
            shortest += property.len() as u64 + declared.min_serialized + 4;
        }
        if let Some(escaped) = escaped {
            fields.push(field(&escaped, property, declared));
        }
    }
    if identified {
        fields.extend(identity(name));
    }
    let mut object = ObjectSchema::new(name, fields);
    object.open = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let mut declared = Schema::object(object);
    declared.min_serialized = shortest;
    declared
}

fn field(name: &str, property: &str, declared: Option<Schema>) -> Field {
    Field {
        name: name.into(),
        property: property.into(),
        declared: declared.is_some(),
        schema: declared.unwrap_or_else(|| Schema::new(SchemaKind::Opaque)),
    }
}

/// What every resource has: the names are all that rules see of its metadata.
fn identity(name: &str) -> [Field; 3] {
    let text = || Some(Schema::new(SchemaKind::String));
    let names = ["name", "generateName"].map(|property| field(property, property, text()));
    let metadata = ObjectSchema::new(format!("{name}.metadata"), names.into());
    [
        field("apiVersion", "apiVersion", text()),
        field("kind", "kind", text()),
        field("metadata", "metadata", Some(Schema::object(metadata))),
    ]
}

fn text(schema: &Value, longest: Option<u64>) -> Schema {
    let kind = match schema.str_at(&["format"]) {
        Some("byte") => {
            let mut declared = Schema::new(SchemaKind::Bytes);
            declared.max_elements = count(schema, "maxLength").unwrap_or(declared.max_elements);
            return declared;
        }
        Some("duration") => SchemaKind::Duration,
        Some("date") => SchemaKind::Date,
        Some("date-time") => SchemaKind::DateTime,
        _ => SchemaKind::String,
    };
    let mut declared = Schema::new(kind);
    if declared.kind == SchemaKind::String {
        let allowed = schema.array_at(&["enum"]);
        declared.max_elements = match longest {
            Some(longest) => longest,
            None if !allowed.is_empty() => {
                allowed.iter().filter_map(Value::as_str).map(|text| text.len() as u64).max().unwrap_or(0)
            }
            None => MAX_REQUEST - 2,
        };
    }
    declared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn sizes_follow_the_schema() {
        let check = |schema: Value, max: u64, min: u64| {
            let declared = declare(&schema, "t", false).expect("it can be declared");
            assert_eq!((declared.max_elements, declared.min_serialized), (max, min), "{schema:?}");
        };
        check(object!({"type": "string"}), 3_145_726, 2);
        check(object!({"type": "string", "maxLength": 10}), 40, 2);
        check(object!({"type": "string", "enum": ["a", "abc"]}), 3, 2);
        check(object!({"type": "string", "format": "date-time"}), 32, 21);
        check(object!({"type": "array", "items": {"type": "integer"}}), 1_572_863, 2);
        check(object!({"type": "array", "maxItems": 5, "items": {"type": "integer"}}), 5, 2);
        check(object!({"type": "object", "additionalProperties": {"type": "string"}}), 393_215, 2);
        check(object!({"x-kubernetes-int-or-string": true}), 3_145_726, 1);
        check(
            object!({"type": "object", "required": ["ab"], "properties": {"ab": {"type": "boolean"}}}),
            0,
            12,
        );
    }

    #[test]
    fn what_has_no_type_is_not_declared() {
        let check = |schema: Value| assert!(declare(&schema, "t", false).is_none(), "{schema:?}");
        check(object!({"x-kubernetes-preserve-unknown-fields": true}));
        check(object!({"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}}));
        check(
            object!({"type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true}}),
        );
    }

    #[test]
    fn resources_have_their_names() {
        let schema = object!({"type": "object", "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}}});
        let declared = declare(&schema, "t", true).expect("it can be declared");
        let SchemaKind::Object(object) = &declared.kind else { panic!("{declared:?}") };
        let names: Vec<&str> = object.fields().iter().map(|field| &*field.name).collect();
        assert_eq!(names, ["apiVersion", "kind", "metadata", "spec"]);
    }
}

//! From any JSON to an object of one type.
//!
//! Built-in kinds and custom resources differ in what they call a wrong type: upstream decodes the former into structs
//! (400, the first error ends it), and validates the latter against their schema (422, all errors at once). Otherwise
//! they are treated alike: fields that the schema does not know are dropped and reported; `null` means absent.

use crate::error::Cause;
use crate::path::PathStack;
use crate::quantity::Quantity;
use crate::schema::{SchemaRef, Type};
use crate::time::Timestamp;
use crate::{FieldPath, Map, Value};

/// Whose rules say what a value of the wrong type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// A built-in kind: decoding.
    BuiltIn,
    /// A custom resource: validation against the OpenAPI schema.
    Custom,
}

/// How many faults of each sort are reported; who reads them has enough of them.
const MAX_FAULTS: usize = 64;

/// What was found on the way; of each sort the first 64.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Fields that the schema does not know; they are gone from the object.
    pub unknown: Vec<FieldPath>,
    /// Values of the wrong type, in the order of the object.
    pub mistyped: Vec<Cause>,
}

/// Makes `value` an object of the type `schema`, in place.
///
/// Unknown fields are removed, `null` members are removed unless the field is nullable, quantities and times are
/// written canonically. Values of the wrong type are reported and left as they are.
pub fn decode(value: &mut Value, schema: SchemaRef<'_>, strictness: Strictness) -> Decoded {
    let mut walk = Walk { strictness, path: PathStack::default(), found: Decoded::default() };
    walk.value(value, schema);
    walk.found
}

struct Walk {
    strictness: Strictness,
    path: PathStack,
    found: Decoded,
}

impl Walk {
    fn value(&mut self, value: &mut Value, schema: SchemaRef<'_>) {
        match (schema.ty(), value) {
            (Type::Object, Value::Object(map)) => self.object(map, schema),
            (Type::Map, Value::Object(map)) => self.map(map, schema),
            (Type::List, Value::Array(items)) => {
                for (i, item) in items.iter_mut().enumerate() {
                    let step = self.path.index(i);
                    self.item(item, schema.items());
                    self.path.back(step);
                }
            }
            (Type::Any, Value::Object(map)) if schema.node.embedded_resource => self.object(map, schema),
            (ty, value) => self.scalar(value, ty),
        }
    }

    /// An element of a list: `null` there is an error, not an absence.
    fn item(&mut self, item: &mut Value, schema: SchemaRef<'_>) {
        if item.is_null() && self.strictness == Strictness::BuiltIn {
            *item = zero(schema.ty());
        } else if !(item.is_null() && schema.node.nullable) {
            self.value(item, schema);
        }
    }

    fn object(&mut self, map: &mut Map, schema: SchemaRef<'_>) {
        map.retain(|name, value| {
            let Some(field) = schema.field(name) else {
                if self.found.unknown.len() < MAX_FAULTS {
                    let step = self.path.field(name);
                    self.found.unknown.push(self.path.current());
                    self.path.back(step);
                }
                return false;
            };
            if value.is_null() {
                return field.node.nullable
                    || (field.ty() == Type::Any && self.strictness == Strictness::Custom);
            }
            self.nested(name, value, field);
            true
        });
    }

    fn map(&mut self, map: &mut Map, schema: SchemaRef<'_>) {
        let items = schema.items();
        for (key, value) in map.iter_mut() {
            if value.is_null() && self.strictness == Strictness::BuiltIn {
                *value = zero(items.ty());
            } else if !(value.is_null() && items.node.nullable) {
                self.nested(key, value, items);
            }
        }
    }

    fn nested(&mut self, name: &str, value: &mut Value, schema: SchemaRef<'_>) {
        // Most values are scalars of the right type: no path is written for them.
        if is_plain(value, schema.ty()) {
            return;
        }
        let step = self.path.field(name);
        self.value(value, schema);
        self.path.back(step);
    }

    fn scalar(&mut self, value: &mut Value, ty: Type) {
        let fits = match ty {
            Type::Quantity => canonical_quantity(value),
            Type::Time | Type::MicroTime => canonical_time(value, ty),
            Type::Int32 => value.as_i64().is_some_and(|i| i32::try_from(i).is_ok()),
            Type::Int64 => value.as_i64().is_some(),
            Type::Number => matches!(value, Value::Int(_) | Value::Float(_)),
            Type::IntOrString => matches!(value, Value::Int(_) | Value::String(_)),
            Type::Bytes => value.as_str().is_some_and(is_base64),
            _ => is_plain(value, ty),
        };
        if !fits && self.found.mistyped.len() < MAX_FAULTS {
            let cause = wrong_type(self.path.current(), value, ty, self.strictness);
            self.found.mistyped.push(cause);
        }
    }
}

/// Whether a value is a scalar of the type, needing no further look.
fn is_plain(value: &Value, ty: Type) -> bool {
    matches!(
        (ty, value),
        (Type::Any, _)
            | (Type::String, Value::String(_))
            | (Type::Boolean, Value::Bool(_))
            | (Type::Int64 | Type::IntOrString, Value::Int(_))
    )
}

fn zero(ty: Type) -> Value {
    match ty {
        Type::Object | Type::Map => Value::object(),
        Type::List => Value::Array(Vec::new()),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => Value::Int(0),
        Type::Boolean => Value::Bool(false),
        Type::Quantity => Value::from("0"),
        Type::String | Type::Bytes => Value::from(""),
        Type::Any | Type::Time | Type::MicroTime => Value::Null,
    }
}

fn canonical_quantity(value: &mut Value) -> bool {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Int(i) => compact_str::format_compact!("{i}"),
        Value::Float(f) => compact_str::format_compact!("{f}"),
        _ => return false,
    };
    let Ok(quantity) = text.parse::<Quantity>() else { return false };
    *value = Value::from(quantity.to_string());
    true
}

fn canonical_time(value: &mut Value, ty: Type) -> bool {
    let Some(time) = value.as_str().and_then(Timestamp::parse) else { return false };
    *value = Value::from(if ty == Type::Time { time.to_string() } else { time.micro().to_string() });
    true
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    // Go's decoder skips line breaks; so do we, without keeping the result.
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    base64::engine::general_purpose::STANDARD.decode(clean).is_ok()
}

fn wrong_type(path: FieldPath, value: &Value, ty: Type, strictness: Strictness) -> Cause {
    let text = crate::error::show(value);
    match strictness {
        Strictness::BuiltIn => {
            let detail = match ty {
                Type::Quantity if matches!(value, Value::String(_)) => {
                    crate::quantity::ParseError.to_string()
                }
                Type::Time | Type::MicroTime if matches!(value, Value::String(_)) => {
                    format!("parsing time {text}: not an RFC 3339 time")
                }
                Type::Bytes if matches!(value, Value::String(_)) => "illegal base64 data".into(),
                _ => format!(
                    "json: cannot unmarshal {} into field {path} of type {}",
                    value.type_name(),
                    go_name(ty)
                ),
            };
            Cause::type_invalid(path, value, &detail)
        }
        Strictness::Custom => {
            let detail =
                format!("{path} in body must be of type {}: {:?}", openapi_name(ty), value.type_name());
            Cause::type_invalid(path, &Value::from(value.type_name()), &detail)
        }
    }
}

fn go_name(ty: Type) -> &'static str {
    match ty {
        Type::Any => "interface {}",
        Type::Object => "object",
        Type::Map => "map",
        Type::List => "array",
        Type::String | Type::Bytes => "string",
        Type::Time | Type::MicroTime => "time.Time",
        Type::Quantity => "resource.Quantity",
        Type::IntOrString => "intstr.IntOrString",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Number => "float64",
        Type::Boolean => "bool",
    }
}

fn openapi_name(ty: Type) -> &'static str {
    match ty {
        Type::Any => "any",
        Type::Object | Type::Map => "object",
        Type::List => "array",
        Type::String | Type::Bytes | Type::Time | Type::MicroTime => "string",
        Type::Quantity | Type::IntOrString => "integer,string",
        Type::Int32 | Type::Int64 => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
    }
}

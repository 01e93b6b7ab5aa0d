//! From any JSON to an object of one type.
//!
//! Built-in kinds and custom resources differ in what they call a wrong type: upstream decodes the former into structs
//! (400, the first error ends it), and validates the latter against their schema (422, all errors at once). Otherwise
//! they are treated alike: fields that the schema does not know are dropped and reported; `null` means absent.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::error::{Cause, CauseKind};
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
    let mut walk = Walk { strictness, owner: "", path: PathStack::default(), found: Decoded::default() };
    walk.value(value, schema);
    walk.found
}

struct Walk<'s> {
    strictness: Strictness,
    /// The name of the definition whose field the walk is at.
    owner: &'s str,
    path: PathStack,
    found: Decoded,
}

impl<'s> Walk<'s> {
    fn value(&mut self, value: &mut Value, schema: SchemaRef<'s>) {
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
            (_, value) => self.scalar(value, schema),
        }
    }

    /// An element of a list: `null` there is an error, not an absence.
    fn item(&mut self, item: &mut Value, schema: SchemaRef<'s>) {
        if item.is_null() && self.strictness == Strictness::BuiltIn {
            *item = zero(schema.ty());
        } else if !(item.is_null() && schema.node.nullable) {
            self.value(item, schema);
        }
    }

    fn object(&mut self, map: &mut Map, schema: SchemaRef<'s>) {
        let outer = std::mem::replace(&mut self.owner, &schema.node.name);
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
        self.owner = outer;
    }

    fn map(&mut self, map: &mut Map, schema: SchemaRef<'s>) {
        let items = schema.items();
        for (key, value) in map.iter_mut() {
            if value.is_null() && self.strictness == Strictness::BuiltIn {
                *value = zero(items.ty());
            } else if !(value.is_null() && items.node.nullable) {
                self.nested(key, value, items);
            }
        }
    }

    fn nested(&mut self, name: &str, value: &mut Value, schema: SchemaRef<'s>) {
        // Most values are scalars of the right type: no path is written for them.
        if is_plain(value, schema.ty()) {
            return;
        }
        let step = self.path.field(name);
        self.value(value, schema);
        self.path.back(step);
    }

    fn scalar(&mut self, value: &mut Value, schema: SchemaRef<'s>) {
        let ty = schema.ty();
        let fits = match ty {
            Type::Quantity => canonical_quantity(value),
            Type::Time | Type::MicroTime => canonical_time(value, ty),
            Type::Int32 => value.as_i64().is_some_and(|i| i32::try_from(i).is_ok()),
            Type::Int64 => value.as_i64().is_some(),
            Type::Number => matches!(value, Value::Int(_) | Value::Float(_)),
            Type::IntOrString => matches!(value, Value::Int(_) | Value::String(_)),
            Type::Bytes => canonical_base64(value),
            _ => is_plain(value, ty),
        };
        if !fits && self.found.mistyped.len() < MAX_FAULTS {
            let path = self.path.current();
            self.found.mistyped.push(match self.strictness {
                Strictness::BuiltIn => undecodable(self.owner, path, value, schema),
                Strictness::Custom => wrong_type(path, value, ty),
            });
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
    let Some(text) = value.as_str().filter(|text| ty == Type::Time || has_micros(text)) else { return false };
    let Some(time) = Timestamp::parse(text) else { return false };
    *value = Value::from(if ty == Type::Time { time.to_string() } else { time.micro().to_string() });
    true
}

/// As Go's decoder reads it, and its encoder writes it: line breaks are skipped, and what the last sign has beyond the last
/// byte does not count.
fn canonical_base64(value: &mut Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let Ok(bytes) = LENIENT.decode(clean) else { return false };
    let canonical = STANDARD.encode(bytes);
    if canonical != text {
        *value = Value::from(canonical);
    }
    true
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Whether a time has six fractional digits, as `MicroTime` must.
fn has_micros(text: &str) -> bool {
    let digits = text.get(19..).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
    digits.bytes().take_while(u8::is_ascii_digit).count() == 6
}

/// What Go's decoder says of a value that does not fit into a field of the definition `owner`: the message is the whole
/// text.
fn undecodable(owner: &str, path: FieldPath, value: &Value, schema: SchemaRef<'_>) -> Cause {
    let text = crate::error::show(value);
    let message = match (schema.ty(), value) {
        (Type::Quantity, Value::String(_)) => crate::quantity::ParseError.to_string(),
        (Type::Time, Value::String(_)) => bad_time(&text, "2006-01-02T15:04:05Z07:00"),
        (Type::MicroTime, Value::String(_)) => bad_time(&text, "2006-01-02T15:04:05.000000Z07:00"),
        (Type::Bytes, Value::String(_)) => "illegal base64 data".into(),
        _ => {
            let owner = owner.rsplit('.').next().unwrap_or_default();
            let place = without_indexes(path.as_str());
            let found = match (value, schema.ty()) {
                (Value::Int(_) | Value::Float(_), Type::Int32 | Type::Int64) => format!("number {text}"),
                (Value::Int(_) | Value::Float(_), _) => "number".into(),
                (Value::Bool(_), _) => "bool".into(),
                (other, _) => other.type_name().into(),
            };
            let wanted = go_type(schema);
            format!("json: cannot unmarshal {found} into Go struct field {owner}.{place} of type {wanted}")
        }
    };
    Cause { kind: CauseKind::TypeInvalid, field: path, message }
}

fn bad_time(text: &str, layout: &str) -> String {
    format!("parsing time {text} as {layout:?}: not a time of this form")
}

/// A path by the names of fields alone.
fn without_indexes(path: &str) -> String {
    let mut parts = path.split('[');
    let mut out = parts.next().unwrap_or_default().to_owned();
    parts.filter_map(|part| part.split_once(']')).for_each(|(_, rest)| out.push_str(rest));
    out
}

fn go_type(schema: SchemaRef<'_>) -> String {
    match schema.ty() {
        Type::Any => "interface {}".into(),
        Type::Object => {
            let mut words = schema.node.name.rsplit('.');
            let (kind, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            format!("{version}.{kind}")
        }
        Type::Map => format!("map[string]{}", go_type(schema.items())),
        Type::List => format!("[]{}", go_type(schema.items())),
        Type::String | Type::Time | Type::MicroTime => "string".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::IntOrString | Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Number => "float64".into(),
        Type::Boolean => "bool".into(),
    }
}

/// What the schema says of a custom resource's value of the wrong type.
fn wrong_type(path: FieldPath, value: &Value, ty: Type) -> Cause {
    let detail = format!("{path} in body must be of type {}: {:?}", openapi_name(ty), value.type_name());
    Cause::type_invalid(path, &Value::from(value.type_name()), &detail)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_and_written_as_go_does() {
        let check = |text: &str, want: Option<&str>| {
            let mut value = Value::from(text);
            let fits = canonical_base64(&mut value);
            assert_eq!(fits.then(|| value.as_str()).flatten(), want, "{text:?}");
        };
        check("", Some(""));
        check("Yg==", Some("Yg=="));
        check("Yh==", Some("Yg=="));
        check("YW\r\nJj\n", Some("YWJj"));
        check("Yg", None);
        check("Y===", None);
        check("Yg==x", None);
        check("Y-g=", None);
    }
}

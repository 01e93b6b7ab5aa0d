//! From a tree to the message that a Go server writes of it.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Message;
use super::table::{Field, Kind, Presence, Row, Shape, row};
use super::wire::{Wire, Writer};
use crate::generated::protobuf::SCHEMA;
use crate::time::Timestamp;
use crate::{Map, Value, json};

/// Writes a tree as a message.
///
/// Fields come in the order of their numbers, members of maps in that of their keys. What Go has no pointer to is
/// written also if the tree does not have it. Members that the type does not have, and values of another type than the
/// schema's, are left out: objects that were decoded by their schema have none.
#[must_use]
pub fn encode(value: &Value, message: Message) -> Vec<u8> {
    let mut writer = Writer::new(512);
    put_message(&mut writer, message.0, value.as_object());
    writer.into_vec()
}

/// Writes a message's fields, from the last to the first.
pub(super) fn put_message(writer: &mut Writer, message: &'static Row, map: Option<&Map>) {
    let fields = message.fields();
    let values = map.map_or([None; 64], |map| values(message, map));
    for (field, value) in fields.iter().zip(values).rev() {
        match field.shape {
            Shape::One => put_one(writer, field, value),
            Shape::Inline => {
                if let Kind::Message(message) = field.kind {
                    let before = writer.len();
                    put_message(writer, row(message), map);
                    writer.close(field.number, before);
                }
            }
            Shape::List => {
                for item in value.and_then(Value::as_array).unwrap_or_default().iter().rev() {
                    put(writer, field.number, field.kind, item);
                }
            }
            Shape::Map => put_map(writer, field, value.and_then(Value::as_object)),
        }
    }
}

/// The members that are the message's fields, in the order of the fields; `null` is absent. Both are sorted by name, so
/// one pass over both finds all.
fn values<'a>(message: &'static Row, map: &'a Map) -> [Option<&'a Value>; 64] {
    let mut found = [None; 64];
    let fields = message.fields();
    let mut members = map.iter();
    let mut member = members.next();
    for place in message.by_name() {
        while let Some((name, value)) = member {
            match name.cmp(fields[place].name) {
                Ordering::Greater => break,
                Ordering::Equal => found[place] = Some(value).filter(|v| !v.is_null()),
                Ordering::Less => {}
            }
            member = members.next();
        }
    }
    found
}

fn put_one(writer: &mut Writer, field: &Field, value: Option<&Value>) {
    // A slice may be absent without being a pointer.
    let slice = matches!(field.kind, Kind::Bytes | Kind::Texts);
    match value {
        Some(value) => put(writer, field.number, field.kind, value),
        None if slice || field.presence == Presence::Optional => {}
        None => put(writer, field.number, field.kind, &Value::Null),
    }
}

fn put_map(writer: &mut Writer, field: &Field, map: Option<&Map>) {
    let Some(map) = map else { return };
    for (key, value) in map.iter().rev() {
        let before = writer.len();
        put(writer, 2, field.kind, value);
        writer.put_bytes(1, key.as_bytes());
        writer.close(field.number, before);
    }
}

/// Writes one field; of `null` the zero value.
fn put(writer: &mut Writer, number: u16, kind: Kind, value: &Value) {
    match kind {
        Kind::Text => writer.put_bytes(number, value.as_str().unwrap_or_default().as_bytes()),
        Kind::Bytes => {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
            writer.put_bytes(number, &bytes);
        }
        Kind::Int32 | Kind::Int64 => put_int(writer, number, value.as_i64().unwrap_or_default()),
        Kind::Bool => put_int(writer, number, value.as_bool().unwrap_or_default().into()),
        Kind::Double => {
            writer.put(&float(value).to_le_bytes());
            writer.put_tag(number, Wire::Fixed64);
        }
        _ => {
            let before = writer.len();
            put_content(writer, kind, value);
            writer.close(number, before);
        }
    }
}

/// Writes what is inside of a field that is a message.
fn put_content(writer: &mut Writer, kind: Kind, value: &Value) {
    match kind {
        Kind::Time => put_time(writer, value, false),
        Kind::MicroTime => put_time(writer, value, true),
        Kind::Quantity => put_quantity(writer, value),
        Kind::IntOrString => put_int_or_string(writer, value),
        Kind::Raw if value.is_null() => {}
        Kind::Raw => writer.put_bytes(1, &json::to_vec(value)),
        Kind::Texts => put_texts(writer, 1, value),
        Kind::SchemaOrArray => put_schemas(writer, value),
        Kind::SchemaOrBool => {
            put_schema(writer, 2, value);
            let allows = value.as_bool().unwrap_or(value.as_object().is_some());
            put_int(writer, 1, allows.into());
        }
        Kind::SchemaOrTexts => {
            put_texts(writer, 2, value);
            put_schema(writer, 1, value);
        }
        Kind::Message(message) => put_message(writer, row(message), value.as_object()),
        Kind::Text | Kind::Bytes | Kind::Int32 | Kind::Int64 | Kind::Bool | Kind::Double => {}
    }
}

fn put_int(writer: &mut Writer, number: u16, int: i64) {
    writer.put_varint(int.cast_unsigned());
    writer.put_tag(number, Wire::Varint);
}

#[expect(clippy::cast_precision_loss, reason = "Go reads such a number as float64 too")]
fn float(value: &Value) -> f64 {
    match value {
        Value::Float(float) => *float,
        Value::Int(int) => *int as f64,
        _ => 0.0,
    }
}

/// The zero time is an empty message.
fn put_time(writer: &mut Writer, value: &Value, micro: bool) {
    let Some(time) = value.as_str().and_then(Timestamp::parse) else { return };
    let seconds = time.unix();
    let fraction = if micro { time.since(Timestamp::from_unix(seconds)).subsec_micros() } else { 0 };
    put_int(writer, 2, i64::from(fraction) * 1000);
    put_int(writer, 1, seconds);
}

fn put_quantity(writer: &mut Writer, value: &Value) {
    match value {
        Value::String(text) => writer.put_bytes(1, text.as_bytes()),
        Value::Int(_) | Value::Float(_) => writer.put_bytes(1, &json::to_vec(value)),
        _ => writer.put_bytes(1, b"0"),
    }
}

fn put_int_or_string(writer: &mut Writer, value: &Value) {
    let text = value.as_str();
    writer.put_bytes(3, text.unwrap_or_default().as_bytes());
    put_int(writer, 2, value.as_i64().unwrap_or_default());
    put_int(writer, 1, text.is_some().into());
}

fn put_texts(writer: &mut Writer, number: u16, value: &Value) {
    for text in value.as_array().unwrap_or_default().iter().rev() {
        put(writer, number, Kind::Text, text);
    }
}

fn put_schemas(writer: &mut Writer, value: &Value) {
    for schema in value.as_array().unwrap_or_default().iter().rev() {
        put(writer, 2, Kind::Message(SCHEMA), schema);
    }
    put_schema(writer, 1, value);
}

fn put_schema(writer: &mut Writer, number: u16, value: &Value) {
    if value.as_object().is_some() {
        put(writer, number, Kind::Message(SCHEMA), value);
    }
}

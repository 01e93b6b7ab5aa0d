//! The version 2 document as protobuf: message `openapi.v2.Document` of gnostic-models 0.7 (`OpenAPIv2.proto`), which is all
//! that client-go asks for.
//!
//! The messages mirror the JSON document, so a table of names and field numbers is enough to encode a tree of it. The table
//! holds what our document can have, not all of OpenAPI 2.0. A member that it does not know is left out: the message has no
//! place for it.

use Kind::{Any, Each, Flag, Inside, Integer, Message as Nested, Number, OneOf, OneOrMore, Text};

use crate::{Map, Value, json};

/// The bytes of a document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(members) = document.as_object() {
        write_message(&mut out, &DOCUMENT, members);
    }
    out
}

/// A message that is an object in JSON.
struct Message {
    /// Members by name, with field number.
    members: &'static [(&'static str, u32, Kind)],
    /// Members of any other name: the field of pairs of name and value.
    others: Option<(u32, Kind)>,
    /// Members named `x-…`: the field of pairs of name and [`Kind::Any`].
    extensions: Option<u32>,
}

/// How a value is encoded.
enum Kind {
    /// `string`.
    Text,
    /// `bool`.
    Flag,
    /// `int64`.
    Integer,
    /// `double`.
    Number,
    /// The message `Any`: whatever it is, as YAML, which JSON is, too.
    Any,
    /// A message from an object.
    Message(&'static Message),
    /// A repeated field from an array.
    Each(&'static Kind),
    /// A repeated field from an array, or from one element without an array around it.
    OneOrMore(&'static Kind),
    /// A message around the value, which is in its field of this number.
    Inside(u32, &'static Kind),
    /// A message around the value, which is in the first field that accepts it.
    OneOf(&'static [Choice]),
}

/// Which values it accepts, the number of its field, and how they are encoded.
type Choice = (fn(&Value) -> bool, u32, Kind);

/// The fields of a pair of name and value, and of `Any`'s text.
const NAME: u32 = 1;
const VALUE: u32 = 2;
const YAML: u32 = 2;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", 1, Text),
        ("info", 2, Nested(&INFO)),
        ("paths", 8, Nested(&PATHS)),
        ("definitions", 9, Nested(&SCHEMAS)),
        ("security", 12, Each(&Nested(&SECURITY_REQUIREMENT))),
        ("securityDefinitions", 13, Nested(&SECURITY_DEFINITIONS)),
    ],
    others: None,
    extensions: Some(16),
};

static INFO: Message =
    Message { members: &[("title", 1, Text), ("version", 2, Text)], others: None, extensions: Some(7) };

static SECURITY_REQUIREMENT: Message =
    Message { members: &[], others: Some((1, Inside(1, &Each(&Text)))), extensions: None };

/// Only API keys.
static SECURITY_DEFINITIONS: Message =
    Message { members: &[], others: Some((1, Inside(2, &Nested(&API_KEY)))), extensions: None };

static API_KEY: Message = Message {
    members: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    others: None,
    extensions: Some(5),
};

static PATHS: Message = Message { members: &[], others: Some((2, Nested(&PATH_ITEM))), extensions: Some(1) };

static PATH_ITEM: Message = Message {
    members: &[
        ("get", 2, Nested(&OPERATION)),
        ("put", 3, Nested(&OPERATION)),
        ("post", 4, Nested(&OPERATION)),
        ("delete", 5, Nested(&OPERATION)),
        ("options", 6, Nested(&OPERATION)),
        ("head", 7, Nested(&OPERATION)),
        ("patch", 8, Nested(&OPERATION)),
        ("parameters", 9, PARAMETERS),
    ],
    others: None,
    extensions: Some(10),
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Each(&Text)),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Each(&Text)),
        ("consumes", 7, Each(&Text)),
        ("parameters", 8, PARAMETERS),
        ("responses", 9, Nested(&RESPONSES)),
        ("schemes", 10, Each(&Text)),
    ],
    others: None,
    extensions: Some(13),
};

/// Parameters that are written out, not referred to: in the body, or in the query or path.
const PARAMETERS: Kind = Each(&Inside(
    1,
    &OneOf(&[
        (|p| p.str_at(&["in"]) == Some("body"), 1, Nested(&BODY_PARAMETER)),
        (
            |_| true,
            2,
            OneOf(&[
                (|p| p.str_at(&["in"]) == Some("query"), 3, Nested(&QUERY_PARAMETER)),
                (|p| p.str_at(&["in"]) == Some("path"), 4, Nested(&PATH_PARAMETER)),
            ]),
        ),
    ]),
));

static BODY_PARAMETER: Message = Message {
    members: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, Nested(&SCHEMA)),
    ],
    others: None,
    extensions: Some(6),
};

static QUERY_PARAMETER: Message = Message {
    members: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("uniqueItems", 20, Flag),
    ],
    others: None,
    extensions: Some(23),
};

static PATH_PARAMETER: Message = Message {
    members: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("uniqueItems", 19, Flag),
    ],
    others: None,
    extensions: Some(22),
};

/// Responses that are written out, not referred to.
static RESPONSES: Message =
    Message { members: &[], others: Some((1, Inside(1, &Nested(&RESPONSE)))), extensions: Some(2) };

static RESPONSE: Message = Message {
    members: &[("description", 1, Text), ("schema", 2, Inside(1, &Nested(&SCHEMA)))],
    others: None,
    extensions: Some(5),
};

/// Definitions and properties.
static SCHEMAS: Message = Message { members: &[], others: Some((1, Nested(&SCHEMA))), extensions: None };

/// What a `CustomResourceDefinition` can have in it, too.
static SCHEMA: Message = Message {
    members: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Each(&Text)),
        ("enum", 20, Each(&Any)),
        (
            "additionalProperties",
            21,
            OneOf(&[(|v| v.as_bool().is_some(), 2, Flag), (|_| true, 1, Nested(&SCHEMA))]),
        ),
        ("type", 22, Inside(1, &OneOrMore(&Text))),
        ("items", 23, Inside(1, &OneOrMore(&Nested(&SCHEMA)))),
        ("allOf", 24, Each(&Nested(&SCHEMA))),
        ("properties", 25, Nested(&SCHEMAS)),
        ("externalDocs", 29, Nested(&EXTERNAL_DOCS)),
        ("example", 30, Any),
    ],
    others: None,
    extensions: Some(31),
};

static EXTERNAL_DOCS: Message =
    Message { members: &[("description", 1, Text), ("url", 2, Text)], others: None, extensions: Some(3) };

fn write_message(out: &mut Vec<u8>, message: &Message, members: &Map) {
    for (name, value) in members.iter() {
        let known = message.members.iter().find(|(known, ..)| *known == name);
        let extensions = message.extensions.filter(|_| name.starts_with("x-"));
        match (known, extensions, &message.others) {
            (Some((_, number, kind)), ..) => write_field(out, *number, kind, value),
            (None, Some(number), _) => write_pair(out, number, name, &Any, value),
            (None, None, Some((number, kind))) => write_pair(out, *number, name, kind, value),
            (None, None, None) => {}
        }
    }
}

fn write_pair(out: &mut Vec<u8>, number: u32, name: &str, kind: &Kind, value: &Value) {
    write_nested(out, number, |out| {
        write_bytes(out, NAME, name.as_bytes());
        write_field(out, VALUE, kind, value);
    });
}

fn write_field(out: &mut Vec<u8>, number: u32, kind: &Kind, value: &Value) {
    match (kind, value) {
        (Text, Value::String(text)) => write_bytes(out, number, text.as_bytes()),
        (Flag, Value::Bool(flag)) => {
            write_tag(out, number, VARINT);
            write_varint(out, u64::from(*flag));
        }
        (Integer, Value::Int(integer)) => {
            write_tag(out, number, VARINT);
            write_varint(out, integer.cast_unsigned());
        }
        #[expect(clippy::cast_precision_loss, reason = "the message has but a double for it")]
        (Number, Value::Int(integer)) => write_double(out, number, *integer as f64),
        (Number, Value::Float(float)) => write_double(out, number, *float),
        (Any, any) => write_nested(out, number, |out| write_bytes(out, YAML, &json::to_vec(any))),
        (Nested(message), Value::Object(members)) => {
            write_nested(out, number, |out| write_message(out, message, members));
        }
        (Each(kind) | OneOrMore(kind), Value::Array(items)) => {
            items.iter().for_each(|item| write_field(out, number, kind, item));
        }
        (OneOrMore(kind), one) => write_field(out, number, kind, one),
        (Inside(inner, kind), value) => {
            write_nested(out, number, |out| write_field(out, *inner, kind, value));
        }
        (OneOf(choices), value) => {
            if let Some((_, inner, kind)) = choices.iter().find(|(accepts, ..)| accepts(value)) {
                write_nested(out, number, |out| write_field(out, *inner, kind, value));
            }
        }
        // A value of another type has no place in the message either.
        (Text | Flag | Integer | Number | Nested(_) | Each(_), _) => {}
    }
}

/// Appends a field whose length is known only once it is written.
fn write_nested(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    write_tag(out, number, LENGTH);
    let start = out.len();
    fill(out);
    let mut length = Vec::new();
    write_varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
}

fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_tag(out, number, LENGTH);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn write_double(out: &mut Vec<u8>, number: u32, double: f64) {
    write_tag(out, number, FIXED64);
    out.extend_from_slice(&double.to_le_bytes());
}

fn write_tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    write_varint(out, u64::from(number << 3 | wire_type));
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time are meant")]
fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests;

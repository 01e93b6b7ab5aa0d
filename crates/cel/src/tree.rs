//! The host's trees: what a host implements for its objects, and how they are read by a schema.
//!
//! Nothing is copied: a value of an expression borrows from the tree until something new is made of it.

use base64_like::decode as decode_base64;

use crate::error::{EvalError, fail};
use crate::schema::{ListKind, Schema, SchemaKind};
use crate::time::{self, Timestamp};
use crate::value::{Bytes, List, Map, Str, Value};

mod base64_like;

/// A tree of the host's, as JSON has them.
pub trait Tree: Sync {
    /// What stands here.
    fn view(&self) -> View<'_>;
}

/// What stands at a place of a tree.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// A string.
    String(&'a str),
    /// An array.
    List(&'a dyn Items),
    /// An object.
    Map(&'a dyn Members),
}

/// The elements of an array.
#[expect(clippy::len_without_is_empty, reason = "nothing here asks that")]
pub trait Items: Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// The element at `index`.
    fn at(&self, index: usize) -> Option<&dyn Tree>;
}

/// The members of an object.
#[expect(clippy::len_without_is_empty, reason = "nothing here asks that")]
pub trait Members: Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// The member `key`.
    fn get(&self, key: &str) -> Option<&dyn Tree>;
    /// The member at `index`, in an order that stays.
    fn at(&self, index: usize) -> Option<(&str, &dyn Tree)>;
}

impl<T: Tree> Items for Vec<T> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn at(&self, index: usize) -> Option<&dyn Tree> {
        self.get(index).map(|item| item as &dyn Tree)
    }
}

impl View<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int64",
            Self::Double(_) => "float64",
            Self::String(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
        }
    }
}

/// The value of a tree, read by its schema if there is one.
pub(crate) fn read<'a>(tree: &'a dyn Tree, schema: Option<&'a Schema>) -> Result<Value<'a>, EvalError> {
    let view = tree.view();
    match schema {
        Some(schema) if !matches!(schema.kind, SchemaKind::Any) => by_schema(tree, view, schema),
        _ => Ok(plain(view)),
    }
}

fn plain(view: View<'_>) -> Value<'_> {
    match view {
        View::Null => Value::Null,
        View::Bool(value) => Value::Bool(value),
        View::Int(value) => Value::Int(value),
        View::Double(value) => Value::Double(value),
        View::String(value) => Value::String(Str::Borrowed(value)),
        View::List(items) => Value::List(List::Tree { items, schema: None }),
        View::Map(members) => Value::Map(Map::Tree { members, schema: None }),
    }
}

fn by_schema<'a>(tree: &'a dyn Tree, view: View<'a>, schema: &'a Schema) -> Result<Value<'a>, EvalError> {
    let mistyped = |wanted: &str, view: &View<'_>| {
        fail(format!("invalid data, expected {wanted}, got {}", view.type_name()))
    };
    match (&schema.kind, view) {
        (_, View::Null) if schema.nullable => Ok(Value::Null),
        (_, View::Null) => fail("invalid data, got null for schema with nullable=false"),
        (SchemaKind::Any, view) => Ok(plain(view)),
        (SchemaKind::Opaque, _) => Ok(Value::Preserved(tree)),
        (SchemaKind::IntOrString, view @ (View::Int(_) | View::String(_))) => Ok(plain(view)),
        (SchemaKind::IntOrString, _) => {
            fail("invalid data, expected XIntOrString value to be either a string or integer")
        }
        (SchemaKind::Bool, View::Bool(value)) => Ok(Value::Bool(value)),
        (SchemaKind::Bool, view) => mistyped("bool", &view),
        (SchemaKind::Int, View::Int(value)) => Ok(Value::Int(value)),
        (SchemaKind::Int, View::Double(value)) if value.fract() == 0.0 && value.abs() < 9.0e15 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "guarded by the range")]
            Ok(Value::Int(value as i64))
        }
        (SchemaKind::Int, view) => mistyped("int", &view),
        #[expect(clippy::cast_precision_loss, reason = "what a double can hold of it is wanted")]
        (SchemaKind::Double, View::Int(value)) => Ok(Value::Double(value as f64)),
        (SchemaKind::Double, View::Double(value)) => Ok(Value::Double(value)),
        (SchemaKind::Double, view) => mistyped("float", &view),
        (kind, View::String(text)) => text_by_kind(kind, text),
        (SchemaKind::List(..), View::List(items)) => {
            Ok(Value::List(List::Tree { items, schema: Some(schema) }))
        }
        (SchemaKind::List(..), _) => {
            fail("invalid data, expected an array for the provided schema with type=array")
        }
        (SchemaKind::Map(_) | SchemaKind::Object(_), View::Map(members)) => {
            Ok(Value::Map(Map::Tree { members, schema: Some(schema) }))
        }
        (SchemaKind::Map(_) | SchemaKind::Object(_), _) => {
            fail("invalid data, expected a map for the provided schema with type=object")
        }
        (_, view) => mistyped("string", &view),
    }
}

fn text_by_kind<'a>(kind: &SchemaKind, text: &'a str) -> Result<Value<'a>, EvalError> {
    match kind {
        SchemaKind::String => Ok(Value::String(Str::Borrowed(text))),
        SchemaKind::Duration => match time::parse_duration(text) {
            Some(value) => Ok(Value::Duration(value)),
            None => fail(format!("Invalid duration {text}: unable to parse {text} into duration")),
        },
        SchemaKind::Date => match Timestamp::parse_date(text) {
            Some(value) => Ok(Value::Timestamp(value)),
            None => fail(format!("Invalid date formatted string {text}: it is no date")),
        },
        SchemaKind::DateTime => match Timestamp::parse(text) {
            Some(value) => Ok(Value::Timestamp(value)),
            None => fail(format!("Invalid date-time formatted string {text}: it is no date-time")),
        },
        SchemaKind::Bytes => match decode_base64(text) {
            Some(value) => Ok(Value::Bytes(Bytes::Shared(value.into()))),
            None => fail(format!("Invalid byte formatted string {text}: it is no base64")),
        },
        SchemaKind::List(..) => {
            fail("invalid data, expected an array for the provided schema with type=array")
        }
        _ => fail("invalid data, expected a map for the provided schema with type=object"),
    }
}

/// What lists of this schema mean, if it says so.
pub(crate) fn list_kind(schema: Option<&Schema>) -> &ListKind {
    match schema.map(|schema| &schema.kind) {
        Some(SchemaKind::List(_, kind)) => kind,
        _ => &ListKind::Atomic,
    }
}

/// The schema of a list's elements, or a map's values.
pub(crate) fn element(schema: Option<&Schema>) -> Option<&Schema> {
    match schema.map(|schema| &schema.kind) {
        Some(SchemaKind::List(element, _) | SchemaKind::Map(element)) => Some(element),
        _ => None,
    }
}

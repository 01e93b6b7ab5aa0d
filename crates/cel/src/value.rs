//! Values of expressions. They borrow from the host's trees and from the program where they can.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::{EvalError, fail};
use crate::opaque::Opaque;
use crate::schema::{ListKind, Schema, SchemaKind};
use crate::time::{Timestamp, show_duration};
use crate::tree::{self, Items, Members, Tree};

/// A value of an expression.
#[derive(Clone)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `uint`.
    Uint(u64),
    /// `double`.
    Double(f64),
    /// `string`.
    String(Str<'a>),
    /// `bytes`.
    Bytes(Bytes<'a>),
    /// `list`.
    List(List<'a>),
    /// `map`, and objects of the host's.
    Map(Map<'a>),
    /// `google.protobuf.Timestamp`.
    Timestamp(Timestamp),
    /// `google.protobuf.Duration`, in nanoseconds.
    Duration(i64),
    /// A type, by its name.
    Type(Arc<str>),
    /// `optional_type`.
    Optional(Option<Arc<Value<'a>>>),
    /// An object that the expression made, as `Object{…}` or `JSONPatch{…}`.
    Object(Arc<Object<'a>>),
    /// What a schema keeps without a type: it can be compared, not looked into.
    Preserved(&'a dyn Tree),
    /// A value of one of the libraries.
    Opaque(Opaque<'a>),
}

/// A string, borrowed or shared.
#[derive(Clone)]
pub enum Str<'a> {
    /// Of a tree or a program.
    Borrowed(&'a str),
    /// Made by the evaluation.
    Shared(Arc<str>),
}

/// Bytes, borrowed or shared.
#[derive(Clone)]
pub enum Bytes<'a> {
    /// Of a tree or a program.
    Borrowed(&'a [u8]),
    /// Made by the evaluation.
    Shared(Arc<[u8]>),
}

/// A list: made by the evaluation, or of a tree.
#[derive(Clone)]
pub enum List<'a> {
    /// Made by the evaluation.
    Made {
        /// Its elements.
        elements: Arc<Vec<Value<'a>>>,
        /// What it means, if it was made from a list of a schema.
        schema: Option<&'a Schema>,
    },
    /// Of a tree.
    Tree {
        /// Its elements.
        items: &'a dyn Items,
        /// The schema of the list.
        schema: Option<&'a Schema>,
    },
}

/// A map: made by the evaluation, or of a tree.
#[derive(Clone)]
pub enum Map<'a> {
    /// Made by the evaluation.
    Made(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// Of a tree.
    Tree {
        /// Its members.
        members: &'a dyn Members,
        /// The schema of the map.
        schema: Option<&'a Schema>,
    },
}

/// An object that an expression made.
pub struct Object<'a> {
    /// The name of its type.
    pub name: Arc<str>,
    /// The fields that were given.
    pub fields: BTreeMap<Arc<str>, Value<'a>>,
}

/// A key of a map that was made.
#[derive(Clone)]
pub enum Key<'a> {
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `uint`; equal to the same `int`.
    Uint(u64),
    /// `string`.
    String(Str<'a>),
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<String> for Str<'_> {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Str::Borrowed(text))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(elements: Vec<Value<'a>>) -> Self {
        Self::List(List::Made { elements: Arc::new(elements), schema: None })
    }
}

/// A key to look up, whatever it lives in.
trait Look {
    fn look(&self) -> Looked<'_>;
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Looked<'k> {
    Bool(bool),
    Number(i128),
    String(&'k str),
}

impl Look for Key<'_> {
    fn look(&self) -> Looked<'_> {
        match self {
            Self::Bool(value) => Looked::Bool(*value),
            Self::Int(number) => Looked::Number(i128::from(*number)),
            Self::Uint(number) => Looked::Number(i128::from(*number)),
            Self::String(text) => Looked::String(text),
        }
    }
}

impl Look for &str {
    fn look(&self) -> Looked<'_> {
        Looked::String(self)
    }
}

impl<'a: 'k, 'k> Borrow<dyn Look + 'k> for Key<'a> {
    fn borrow(&self) -> &(dyn Look + 'k) {
        self
    }
}

impl PartialEq for dyn Look + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.look() == other.look()
    }
}

impl Eq for dyn Look + '_ {}

impl PartialOrd for dyn Look + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Look + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.look().cmp(&other.look())
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.look().cmp(&other.look())
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

impl<'a> Key<'a> {
    /// The key that a value is; a double without a fraction is the same integer.
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Int(value) => Some(Self::Int(*value)),
            Value::Uint(value) => Some(Self::Uint(*value)),
            Value::String(value) => Some(Self::String(value.clone())),
            #[expect(clippy::cast_possible_truncation, reason = "guarded by the range")]
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => {
                Some(Self::Int(*value as i64))
            }
            _ => None,
        }
    }

    pub(crate) fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(value) => Value::String(value.clone()),
        }
    }
}

impl<'a> List<'a> {
    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Made { elements, .. } => elements.len(),
            Self::Tree { items, .. } => items.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`.
    ///
    /// # Errors
    /// The tree has there what its schema does not allow.
    pub fn get(&self, index: usize) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Self::Made { elements, .. } => Ok(elements.get(index).cloned()),
            Self::Tree { items, schema } => {
                items.at(index).map(|item| tree::read(item, tree::element(*schema))).transpose()
            }
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index).transpose())
    }

    pub(crate) fn schema(&self) -> Option<&'a Schema> {
        match self {
            Self::Made { schema, .. } | Self::Tree { schema, .. } => *schema,
        }
    }

    pub(crate) fn kind(&self) -> &'a ListKind {
        tree::list_kind(self.schema())
    }
}

impl<'a> Map<'a> {
    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Made(members) => members.len(),
            Self::Tree { members, .. } => members.len(),
        }
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member at a key.
    ///
    /// # Errors
    /// The tree has there what its schema does not allow.
    pub fn find(&self, key: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
        match (self, key) {
            (Self::Tree { .. }, Value::String(key)) => self.member(key),
            (Self::Tree { schema: Some(_), .. }, _) => fail("no such overload"),
            (Self::Tree { .. }, _) => Ok(None),
            (Self::Made(members), key) => Ok(Key::of(key).and_then(|key| members.get(&key).cloned())),
        }
    }

    /// The member or field of a name.
    ///
    /// # Errors
    /// The tree has there what its schema does not allow.
    pub fn member(&self, name: &str) -> Result<Option<Value<'a>>, EvalError> {
        let (members, schema) = match self {
            Self::Made(members) => {
                return Ok(members.get(&name as &dyn Look).cloned());
            }
            Self::Tree { members, schema } => (*members, *schema),
        };
        let Some(Schema { kind: SchemaKind::Object(object), .. }) = schema else {
            return members.get(name).map(|member| tree::read(member, tree::element(schema))).transpose();
        };
        let Some(field) = object.field(name) else { return Ok(None) };
        match members.get(&field.property) {
            None => Ok(None),
            Some(member) if matches!(member.view(), tree::View::Null) => Ok(None),
            Some(member) => tree::read(member, Some(&field.schema)).map(Some),
        }
    }

    /// Whether a member or field of a name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Made(members) => members.contains_key(&name as &dyn Look),
            Self::Tree { members, schema: Some(Schema { kind: SchemaKind::Object(object), .. }) } => object
                .field(name)
                .and_then(|field| members.get(&field.property))
                .is_some_and(|member| !matches!(member.view(), tree::View::Null)),
            Self::Tree { members, .. } => members.get(name).is_some(),
        }
    }

    /// All keys, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Made(members) => members.keys().map(Key::value).collect(),
            Self::Tree { members, schema } => {
                let members = *members;
                (0..members.len())
                    .filter_map(|index| members.at(index))
                    .filter_map(|(key, _)| match schema {
                        Some(Schema { kind: SchemaKind::Object(object), .. }) => {
                            object.property(key).map(|field| &*field.name)
                        }
                        _ => Some(key),
                    })
                    .map(|key| Value::String(Str::Borrowed(key)))
                    .collect()
            }
        }
    }
}

impl<'a> Value<'a> {
    /// The value of a tree that its schema, if there is one, says how to read.
    ///
    /// # Errors
    /// The tree is not what the schema says.
    pub fn of_tree(tree: &'a dyn Tree, schema: Option<&'a Schema>) -> Result<Self, EvalError> {
        tree::read(tree, schema)
    }

    /// A value that is there, as an optional one.
    #[must_use]
    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Object(object) => &object.name,
            Self::Preserved(_) => "unknown",
            Self::Opaque(opaque) => opaque.type_name(),
        }
    }
}

impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Value<'_> {
    /// As an expression would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}u"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::String(text) => write!(f, "{:?}", &**text),
            Self::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Self::List(list) => {
                let mut shown = f.debug_list();
                for element in list.iter() {
                    match element {
                        Ok(element) => shown.entry(&element),
                        Err(error) => shown.entry(&error),
                    };
                }
                shown.finish()
            }
            Self::Map(map) => {
                let mut shown = f.debug_map();
                for key in map.keys() {
                    match map.find(&key) {
                        Ok(value) => shown.entry(&key, &value.unwrap_or(Value::Null)),
                        Err(error) => shown.entry(&key, &error),
                    };
                }
                shown.finish()
            }
            Self::Timestamp(at) => write!(f, "timestamp(\"{at}\")"),
            Self::Duration(nanos) => write!(f, "duration(\"{}\")", show_duration(*nanos)),
            Self::Type(name) => f.write_str(name),
            Self::Optional(None) => f.write_str("optional.none()"),
            Self::Optional(Some(value)) => write!(f, "optional.of({value:?})"),
            Self::Object(object) => {
                let mut shown = f.debug_struct(&object.name);
                for (name, value) in &object.fields {
                    shown.field(name, value);
                }
                shown.finish()
            }
            Self::Preserved(_) => f.write_str("preserved"),
            Self::Opaque(opaque) => opaque.fmt(f),
        }
    }
}

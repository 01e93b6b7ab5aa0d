//! How field management sees a type: what is owned as one, and what is owned member by member.
//!
//! | type | owned |
//! |---|---|
//! | scalars, `Time`, `Quantity`, … | as one |
//! | list, [`Merge::Atomic`] (the default) | as one |
//! | list, [`Merge::Set`] | each value |
//! | list, [`Merge::Keyed`] | each element, told by its key fields, and their members |
//! | object and map, [`Merge::Granular`] (the default) | each member |
//! | object and map, [`Merge::Atomic`] | as one |
//! | [`Type::Any`], granular | by what stands there: objects member by member, all else as one |
//! | [`Type::Any`], [`Merge::Atomic`] | as one |
//!
//! Members that the schema does not declare are of the free type [`NodeId::ANY`]: pruning decides whether they stay,
//! not field management.

use std::borrow::Cow;

use super::element::Element;
use super::order;
use crate::schema::{Merge, NodeId, SchemaRef, Type};
use crate::{Key, Map, Value};

/// How the values of a type are owned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'a> {
    /// As one.
    Leaf,
    /// Member by member.
    Members,
    /// Element by element.
    Elements(List<'a>),
    /// As the value is: objects member by member, all else as one.
    Deduced,
}

/// A list that is owned element by element.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a> {
    /// The fields that tell elements apart; none for a set of scalars.
    keys: &'a [Cow<'static, str>],
    /// The type of elements.
    pub(super) item: SchemaRef<'a>,
}

pub(super) fn shape_of(schema: SchemaRef<'_>) -> Shape<'_> {
    let node = schema.node;
    match (node.ty, node.merge) {
        (Type::Any | Type::Object | Type::Map, Merge::Atomic) => Shape::Leaf,
        (Type::Any, _) => Shape::Deduced,
        (Type::Object | Type::Map, _) => Shape::Members,
        (Type::List, Merge::Set) => Shape::Elements(List { keys: &[], item: schema.items() }),
        (Type::List, Merge::Keyed) => Shape::Elements(List { keys: &node.keys, item: schema.items() }),
        _ => Shape::Leaf,
    }
}

/// The type of the member `name`, and whether the schema declares it by name.
pub(super) fn member<'a>(schema: SchemaRef<'a>, name: &str) -> (SchemaRef<'a>, bool) {
    match schema.property(name) {
        Some(property) => (schema.go(property.node), true),
        None if matches!(schema.ty(), Type::Map | Type::Object) => (schema.items(), false),
        None => (schema.go(NodeId::ANY), false),
    }
}

/// The members of a value that is an object with some.
pub(super) fn members(value: &Value) -> Option<&Map> {
    value.as_object().filter(|map| !map.is_empty())
}

/// The elements of a value that is a list with some.
pub(super) fn elements(value: &Value) -> Option<&[Value]> {
    value.as_array().filter(|items| !items.is_empty())
}

/// Why an element of a list cannot be told from others.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTold {
    #[error("associative list with keys may not have a null element")]
    NullElement,
    #[error("associative list with keys may not have non-map elements")]
    NotAnObject,
    #[error(
        "associative list with keys has an element that omits all key fields {0:?} (and doesn't have default values for any key fields)"
    )]
    NoKeys(Vec<String>),
    #[error("associative list without keys has an element that's a map type")]
    MapInSet,
    #[error("not supported: associative list with lists as elements")]
    ListInSet,
    #[error("associative list without keys has an element that's an explicit null")]
    NullInSet,
}

impl List<'_> {
    /// What tells `item` from the other elements.
    pub(super) fn element(&self, item: &Value) -> Result<Element, NotTold> {
        if self.keys.is_empty() {
            return match item {
                Value::Object(_) => Err(NotTold::MapInSet),
                Value::Array(_) => Err(NotTold::ListInSet),
                Value::Null => Err(NotTold::NullInSet),
                scalar => Ok(Element::Value(scalar.clone())),
            };
        }
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err(NotTold::NullElement),
            _ => return Err(NotTold::NotAnObject),
        };
        let mut told: Vec<(Key, Value)> = Vec::with_capacity(self.keys.len());
        for key in self.keys {
            let default = || Some(self.item.property(key)?.default.as_ref()?.to_value());
            if let Some(value) = map.get(key).cloned().or_else(default) {
                told.push((key.as_ref().into(), value));
            }
        }
        if told.is_empty() {
            return Err(NotTold::NoKeys(self.keys.iter().map(ToString::to_string).collect()));
        }
        Ok(Element::keyed(told))
    }

    /// Whether two elements are plainly one: all key fields written out in both, or in neither.
    pub(super) fn aligned(&self, a: &Value, b: &Value) -> bool {
        if self.keys.is_empty() {
            return order::same(a, b);
        }
        let (Value::Object(a), Value::Object(b)) = (a, b) else { return false };
        self.keys.iter().all(|key| match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => order::same(a, b),
            (None, None) => true,
            _ => false,
        })
    }

    /// What tells each element, sorted; elements that are one keep the order of the list.
    pub(super) fn index(&self, items: &[Value]) -> Result<Vec<(Element, usize)>, (usize, NotTold)> {
        let tell = |(at, item)| Ok((self.element(item).map_err(|why| (at, why))?, at));
        let mut index = items.iter().enumerate().map(tell).collect::<Result<Vec<_>, _>>()?;
        index.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(index)
    }
}

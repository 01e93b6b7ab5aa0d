//! Strategic merge patch: a merge patch that knows which lists are sets of things.
//!
//! Objects merge by member, null takes a member away. A list is replaced unless its field's strategy
//! ([`Property::patch`]) is `merge`: then elements merge by [`Property::merge_key`], or, without one, the list is a set of
//! scalars. A patch can say more:
//!
//! | in | directive | effect |
//! |---|---|---|
//! | object | `$patch: replace` | the patch stands in the place of the object |
//! | object | `$patch: delete` | the object becomes empty |
//! | object | `$retainKeys: [k, …]` | members not named go; the patch may only have members that are named |
//! | object | `$deleteFromPrimitiveList/<field>: [v, …]` | the list loses these scalars |
//! | object | `$setElementOrder/<field>: [k, …]` | the elements come in this order |
//! | element | `$patch: delete` | the elements with this merge key go |
//! | element | `$patch: replace` | the other elements of the patch stand in the place of the list |
//!
//! The order of a merged list: elements of the patch in its order (or that of `$setElementOrder`), elements only the
//! object has in theirs, and of the two the one that came first in the object comes first.
//!
//! Directives and nulls inside what a patch adds as a whole are taken out, so that none reaches an object. Fields that the
//! schema does not declare merge as objects do, and as lists without a strategy.

mod list;
#[cfg(test)]
mod tests;

use crate::error::{Reason, Status};
use crate::path::PathStack;
use crate::schema::{PatchStrategy, Property, SchemaRef};
use crate::{FieldPath, Key, Map, Value};

use super::merge::remove_all;
use list::Elements;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

/// Why a patch was not applied, and where.
#[derive(Debug, thiserror::Error)]
#[error("{fault} (at {path})")]
pub struct StrategicError {
    /// What is wrong.
    pub fault: Fault,
    /// The field.
    pub path: FieldPath,
}

/// What is wrong with a patch.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The patch, or a member of it that has to be, is of another type.
    #[error("expected a {expected}, but received a {found}")]
    Type {
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// An unknown `$patch`.
    #[error("unknown patch type: {directive} in map: {map:?}")]
    Directive {
        /// What it says.
        directive: String,
        /// The object it stands in.
        map: Value,
    },
    /// `$patch: merge` in an element.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeInList,
    /// An element without the merge key.
    #[error("map: {map:?} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The element.
        map: Value,
        /// The key.
        key: String,
    },
    /// A list of objects is to be merged that has no merge key.
    #[error("cannot merge lists without merge key")]
    NoDeclaredKey,
    /// A merge key that is no scalar.
    #[error("merge key must be a scalar, got {0:?}")]
    KeyType(Value),
    /// Elements of different types in one list.
    #[error("list element types are not identical: {0} and {1}")]
    MixedList(&'static str, &'static str),
    /// A list of lists.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// A malformed `$deleteFromPrimitiveList`.
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    /// A malformed `$retainKeys`, or one that does not name all members of the patch.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// A malformed `$setElementOrder`.
    #[error("invalid patch format of setElementOrder list")]
    ElementOrder,
    /// Elements of the patch that `$setElementOrder` has in another order, or not at all.
    #[error("The order in patch list:\n{patch:?}\n doesn't match {ELEMENT_ORDER} list:\n{order:?}\n")]
    OrderMismatch {
        /// The list.
        patch: Value,
        /// The order.
        order: Value,
    },
}

impl From<StrategicError> for Status {
    fn from(error: StrategicError) -> Self {
        match error.fault {
            Fault::ListOfLists => Self::new(Reason::Invalid, error.to_string()),
            _ => Self::bad_request(error.to_string()),
        }
    }
}

impl Fault {
    fn at(self, path: &PathStack) -> StrategicError {
        StrategicError { fault: self, path: path.current() }
    }
}

/// Merges `patch` into `object`, both of the type `schema`.
///
/// # Errors
/// See [`Fault`].
pub fn apply(mut object: Value, patch: Value, schema: SchemaRef<'_>) -> Result<Value, StrategicError> {
    let mut path = PathStack::default();
    let Value::Object(patch) = patch else {
        return Err(Fault::Type { expected: "object", found: patch.type_name() }.at(&path));
    };
    merge_objects(object.make_object(), patch, schema, &mut path)?;
    Ok(object)
}

fn merge_objects(
    object: &mut Map,
    mut patch: Map,
    schema: SchemaRef<'_>,
    path: &mut PathStack,
) -> Result<(), StrategicError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        *object = match directive.as_str() {
            Some("replace") => cleaned_members(patch),
            Some("delete") => Map::new(),
            _ => return Err(unknown_directive(&directive, patch).at(path)),
        };
        return Ok(());
    }
    if let Some(names) = patch.remove(RETAIN_KEYS) {
        retain_keys(object, &patch, &names).map_err(|fault| fault.at(path))?;
    }
    order_elements(object, &mut patch, schema, path)?;
    let (mut gone, mut new): (Vec<Key>, Vec<(Key, Value)>) = (Vec::new(), Vec::new());
    for (key, value) in patch {
        if key.starts_with(DELETE_FROM) {
            delete_from(object, &key, value, path)?;
            continue;
        }
        match (object.get_mut(&key), value) {
            (Some(_), Value::Null) => gone.push(key),
            (None, Value::Null) => {}
            (Some(old), value) => {
                if !path.in_field(&key, |path| merge_member(old, value, schema, &key, path))? {
                    gone.push(key);
                }
            }
            (None, value) => new.extend(cleaned(value).map(|value| (key, value))),
        }
    }
    remove_all(object, &gone);
    object.extend(new);
    Ok(())
}

fn unknown_directive(directive: &Value, map: Map) -> Fault {
    let text = directive.as_str().map_or_else(|| format!("{directive:?}"), ToOwned::to_owned);
    Fault::Directive { directive: text, map: Value::Object(map) }
}

/// Merges one member; whether it stays.
fn merge_member(
    old: &mut Value,
    patch: Value,
    schema: SchemaRef<'_>,
    name: &str,
    path: &mut PathStack,
) -> Result<bool, StrategicError> {
    let field = Field::new(schema, name);
    match (old, patch) {
        (Value::Object(old), Value::Object(patch)) if field.merges_objects() || patch.contains(DIRECTIVE) => {
            merge_objects(old, patch, field.schema, path)?;
        }
        (Value::Array(old), Value::Array(patch)) if field.merges_lists() => {
            let merged = Elements::new(field.merge_key, field.schema.items(), path)
                .merge(std::mem::take(old), patch)?;
            *old = merged;
        }
        (old, patch) => match cleaned(patch) {
            Some(value) => *old = value,
            None => return Ok(false),
        },
    }
    Ok(true)
}

/// A member and how it merges.
struct Field<'a> {
    schema: SchemaRef<'a>,
    property: Option<&'a Property>,
    merge_key: &'a str,
}

impl<'a> Field<'a> {
    fn new(parent: SchemaRef<'a>, name: &str) -> Self {
        let property = parent.property(name);
        let schema = parent.field(name).unwrap_or_else(|| parent.go(crate::NodeId::ANY));
        Self { schema, property, merge_key: property.map_or("", |p| p.merge_key.as_ref()) }
    }

    fn merges_objects(&self) -> bool {
        self.property.is_none_or(|p| p.patch != PatchStrategy::Replace)
    }

    fn merges_lists(&self) -> bool {
        let merges = |p: &Property| matches!(p.patch, PatchStrategy::Merge | PatchStrategy::MergeRetainKeys);
        self.property.is_some_and(merges)
    }
}

/// What a patch adds as a whole: without nulls and directives; nothing if it is a directive itself.
fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(cleaned_members(map))),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(cleaned).collect())),
        scalar => Some(scalar),
    }
}

fn cleaned_members(map: Map) -> Map {
    let stays = |(key, value): &(Key, Value)| !value.is_null() && !is_directive(key);
    map.into_iter().filter(stays).filter_map(|(key, value)| Some((key, cleaned(value)?))).collect()
}

fn is_directive(key: &str) -> bool {
    key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER)
}

/// Takes away the members that `$retainKeys` does not name.
fn retain_keys(object: &mut Map, patch: &Map, names: &Value) -> Result<(), Fault> {
    let mut retained: Vec<&str> =
        names.as_array().ok_or(Fault::RetainKeys)?.iter().filter_map(Value::as_str).collect();
    retained.sort_unstable();
    let is_retained = |key: &str| retained.binary_search(&key).is_ok();
    let is_plain = |(key, value): &(&str, &Value)| !value.is_null() && !is_directive(key);
    if patch.iter().filter(is_plain).any(|(key, _)| !is_retained(key)) {
        return Err(Fault::RetainKeys);
    }
    object.retain(|key, _| is_retained(key));
    Ok(())
}

/// The field that a directive is for: what follows the slash.
fn target_of(key: &str, prefix: &str) -> Option<Key> {
    key.strip_prefix(prefix)?.strip_prefix('/').map(Key::from)
}

fn delete_from(
    object: &mut Map,
    key: &str,
    values: Value,
    path: &mut PathStack,
) -> Result<(), StrategicError> {
    let field = target_of(key, DELETE_FROM).ok_or_else(|| Fault::PrimitiveList.at(path))?;
    if values.is_null() {
        object.remove(&field);
        return Ok(());
    }
    let (Some(Value::Array(list)), Value::Array(values)) = (object.get_mut(&field), values) else {
        return Ok(());
    };
    path.in_field(&field, |path| list::delete_scalars(list, &values).map_err(|fault| fault.at(path)))
}

/// Merges the lists that have a `$setElementOrder`, and takes them out of the patch.
fn order_elements(
    object: &mut Map,
    patch: &mut Map,
    schema: SchemaRef<'_>,
    path: &mut PathStack,
) -> Result<(), StrategicError> {
    let keys: Vec<Key> = patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).map(Key::from).collect();
    for key in keys {
        let order = patch.remove(&key).unwrap_or_default();
        let name = target_of(&key, ELEMENT_ORDER).ok_or_else(|| Fault::ElementOrder.at(path))?;
        let (old, new) = (object.remove(&name), patch.remove(&name));
        let field = Field::new(schema, &name);
        let merged = path.in_field(&name, |path| {
            let order = as_list(Some(order), path)?.unwrap_or_default();
            let (old, new) = (as_list(old, path)?, as_list(new, path)?);
            if old.is_none() && new.is_none() {
                return Ok(None);
            }
            let elements = Elements::new(field.merge_key, field.schema.items(), path);
            elements.merge_in_order(old, new, &order, field.merges_lists()).map(Some)
        })?;
        if let Some(list) = merged {
            object.insert(name, Value::Array(list));
        }
    }
    Ok(())
}

fn as_list(value: Option<Value>, path: &PathStack) -> Result<Option<Vec<Value>>, StrategicError> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(Fault::Type { expected: "list", found: other.type_name() }.at(path)),
    }
}

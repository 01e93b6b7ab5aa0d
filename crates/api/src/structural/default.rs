//! Declared defaults: an absent field gets the value that its schema gives.
//!
//! Defaults are given from the outside in: an object that comes into being by a default has its own fields defaulted too.
//! A `null` in a field that is not nullable but has a default counts as absent.

use crate::Value;
use crate::schema::{SchemaRef, Type};

/// Fills absent fields of `value` with the defaults that `schema` declares.
pub fn default(value: &mut Value, schema: SchemaRef<'_>) {
    match (value, schema.ty()) {
        (Value::Object(map), Type::Object) => {
            for property in schema.properties() {
                let node = schema.go(property.node);
                if let Some(declared) = &property.default {
                    let absent = map.get(&property.name).is_none_or(|v| v.is_null() && !node.node.nullable);
                    if absent {
                        map.insert(property.name.as_ref(), declared.to_value());
                    }
                }
                if let Some(member) = map.get_mut(&property.name) {
                    default(member, node);
                }
            }
            if schema.node.items != crate::NodeId::ANY {
                let additional = map.iter_mut().filter(|(name, _)| schema.property(name).is_none());
                additional.for_each(|(_, member)| default(member, schema.items()));
            }
        }
        (Value::Object(map), Type::Map) => map.iter_mut().for_each(|(_, v)| default(v, schema.items())),
        (Value::Array(items), Type::List) => items.iter_mut().for_each(|v| default(v, schema.items())),
        _ => {}
    }
}

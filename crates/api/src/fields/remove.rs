//! Takes fields out of an object, as an applier does that no longer names them.

use super::element::Element;
use super::set::FieldSet;
use super::shape::{self, List, Shape, shape_of};
use crate::schema::SchemaRef;
use crate::{Map, Value};

/// Takes the fields of `gone` out of `object`. Fields inside what is owned as one are not taken out.
///
/// An object or list that nothing is left in becomes null, as upstream has it: its fields are gone, it is not. Where that
/// happened is the result, for [`tidy`] to decide about when ownership is settled. An element of a list goes as a whole.
pub(super) fn remove(object: &mut Value, gone: &FieldSet, schema: SchemaRef<'_>) -> FieldSet {
    let mut walk = Removal { path: Vec::new(), emptied: FieldSet::new() };
    walk.below(object, gone, schema);
    walk.emptied
}

struct Removal {
    path: Vec<Element>,
    emptied: FieldSet,
}

impl Removal {
    /// Whether anything stays.
    fn below(&mut self, value: &mut Value, gone: &FieldSet, schema: SchemaRef<'_>) -> bool {
        match (shape_of(schema), value) {
            (Shape::Members | Shape::Deduced, Value::Object(map)) => self.members(map, gone, schema),
            (Shape::Elements(list), Value::Array(items)) => self.elements(items, gone, list),
            _ => true,
        }
    }

    fn members(&mut self, map: &mut Map, gone: &FieldSet, schema: SchemaRef<'_>) -> bool {
        let mut nodes = gone.nodes.iter().filter_map(|node| Some((node.element.field()?, node))).peekable();
        let mut touched = false;
        map.retain(|name, value| {
            while nodes.next_if(|(field, _)| *field < name).is_some() {}
            let Some((_, node)) = nodes.next_if(|(field, _)| *field == name) else { return true };
            touched = true;
            if node.owned {
                return false;
            }
            self.path.push(node.element.clone());
            if !self.below(value, &node.below, shape::member(schema, name).0) {
                *value = Value::Null;
                self.emptied.insert(&self.path);
            }
            self.path.pop();
            true
        });
        !(touched && map.is_empty())
    }

    fn elements(&mut self, items: &mut Vec<Value>, gone: &FieldSet, list: List<'_>) -> bool {
        let mut touched = false;
        items.retain_mut(|item| {
            let Ok(element) = list.element(item) else { return true };
            let Some(node) = gone.node(&element) else { return true };
            touched = true;
            if node.owned {
                return false;
            }
            self.path.push(element);
            let stays = self.below(item, &node.below, list.item);
            self.path.pop();
            stays
        });
        !(touched && items.is_empty())
    }
}

/// Decides about what [`remove`] emptied: it is what the configuration says if that says that it is empty, `volume: {}`
/// after `volume: {medium: Memory}`; else it goes. A null stays only where the type has one.
pub(super) fn tidy(object: &mut Value, emptied: &FieldSet, config: Option<&Value>, schema: SchemaRef<'_>) {
    match (shape_of(schema), object) {
        (Shape::Members | Shape::Deduced, Value::Object(map)) => {
            for node in &emptied.nodes {
                let Some(name) = node.element.field() else { continue };
                let ty = shape::member(schema, name).0;
                let wanted = config.and_then(|config| config.get(name));
                match (map.get_mut(name), wanted) {
                    (Some(value), _) if !value.is_null() => tidy(value, &node.below, wanted, ty),
                    (Some(value), Some(wanted)) if is_hollow(wanted, ty) => *value = wanted.clone(),
                    _ => {
                        map.remove(name);
                    }
                }
            }
        }
        (Shape::Elements(list), Value::Array(items)) => {
            let wanted = config.and_then(Value::as_array).unwrap_or_default();
            // The configuration has passed validation, so all its elements can be told.
            let index = list.index(wanted).unwrap_or_default();
            for item in items {
                let Ok(element) = list.element(item) else { continue };
                let Some(node) = emptied.node(&element) else { continue };
                let at = index.binary_search_by(|(other, _)| other.cmp(&element));
                tidy(item, &node.below, at.map(|at| &wanted[index[at].1]).ok(), list.item);
            }
        }
        _ => {}
    }
}

fn is_hollow(value: &Value, schema: SchemaRef<'_>) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null => schema.node.nullable,
        _ => false,
    }
}

//! Brings a manager's fields in line with a schema that changed since they were recorded.

use super::set::{FieldSet, Node};
use super::shape::{self, Shape, shape_of};
use crate::schema::{Merge, SchemaRef, Type};

/// Who owned fields inside a list or an object that is now owned as one owns it. (The other way round, whoever owned it as
/// one keeps that and nothing inside, as upstream.)
pub(super) fn reconcile(set: &mut FieldSet, schema: SchemaRef<'_>) {
    set.nodes.iter_mut().for_each(|node| descend(node, schema));
}

fn descend(node: &mut Node, parent: SchemaRef<'_>) {
    let schema = match (shape_of(parent), node.element.field()) {
        (Shape::Members, Some(name)) => shape::member(parent, name).0,
        (Shape::Elements(list), _) => list.item,
        // What is inside a free object has no declared type that could change.
        _ => return,
    };
    if node.below.is_empty() {
        return;
    }
    if is_atomic(schema) {
        node.owned = true;
        node.below = FieldSet::new();
    } else {
        node.below.nodes.iter_mut().for_each(|inner| descend(inner, schema));
    }
}

fn is_atomic(schema: SchemaRef<'_>) -> bool {
    match schema.ty() {
        Type::Any | Type::Object | Type::Map => schema.node.merge == Merge::Atomic,
        Type::List => !matches!(schema.node.merge, Merge::Set | Merge::Keyed),
        _ => false,
    }
}

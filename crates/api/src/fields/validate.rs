//! Checks an applied configuration against its schema: what field management needs, not what the kind's rules say.

use std::collections::BTreeSet;
use std::fmt;

use super::element::Element;
use super::shape::{self, List, Shape, shape_of};
use crate::schema::{NodeId, SchemaRef, Type};
use crate::{Map, Value};

/// How many faults are told at most.
const MAX_FAULTS: usize = 32;

/// What is wrong with the shape of a configuration, as `.path: fault`, at most 32 of them.
///
/// Fields that the schema does not declare, values of the wrong JSON type, and list elements that come twice or cannot be
/// told from others.
pub(super) fn faults(config: &Value, schema: SchemaRef<'_>) -> Vec<String> {
    let mut check = Check { path: Vec::new(), faults: Vec::new() };
    check.value(config, schema);
    check.faults
}

struct Check<'v> {
    path: Vec<Step<'v>>,
    faults: Vec<String>,
}

enum Step<'v> {
    Member(&'v str),
    Element(Element),
    Index(usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(name) => write!(f, ".{name}"),
            Self::Element(element) => element.fmt(f),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl<'v> Check<'v> {
    fn fault(&mut self, what: &str) {
        if self.faults.len() < MAX_FAULTS {
            let path: String = self.path.iter().map(ToString::to_string).collect();
            self.faults.push(format!("{path}: {what}"));
        }
    }

    fn at(&mut self, step: Step<'v>, inside: impl FnOnce(&mut Self)) {
        self.path.push(step);
        inside(self);
        self.path.pop();
    }

    fn value(&mut self, value: &'v Value, schema: SchemaRef<'_>) {
        match (schema.ty(), value) {
            (Type::Any, _) | (_, Value::Null) => {}
            (Type::Object | Type::Map, Value::Object(map)) => self.members(map, schema),
            (Type::Object | Type::Map, other) => self.fault(&format!("expected map, got {other:?}")),
            (Type::List, Value::Array(items)) => match shape_of(schema) {
                Shape::Elements(list) => self.elements(items, list),
                _ => self.items(items, schema.items()),
            },
            (Type::List, other) => self.fault(&format!("expected list, got {other:?}")),
            (ty, scalar) => self.scalar(scalar, ty),
        }
    }

    fn members(&mut self, map: &'v Map, schema: SchemaRef<'_>) {
        for (name, value) in map.iter() {
            let (ty, declared) = shape::member(schema, name);
            self.at(Step::Member(name), |check| {
                if !declared && is_closed(schema) {
                    check.fault("field not declared in schema");
                } else {
                    check.value(value, ty);
                }
            });
        }
    }

    fn elements(&mut self, items: &'v [Value], list: List<'_>) {
        let mut seen = BTreeSet::new();
        for (at, item) in items.iter().enumerate() {
            match list.element(item) {
                Err(why) => self.fault(&format!("element {at}: {why}")),
                Ok(element) => {
                    if !seen.insert(element.clone()) {
                        self.fault(&format!("duplicate entries for key {element}"));
                    }
                    self.at(Step::Element(element), |check| check.value(item, list.item));
                }
            }
        }
    }

    fn items(&mut self, items: &'v [Value], schema: SchemaRef<'_>) {
        for (at, item) in items.iter().enumerate() {
            self.at(Step::Index(at), |check| check.value(item, schema));
        }
    }

    fn scalar(&mut self, value: &Value, ty: Type) {
        let is_number = matches!(value, Value::Int(_) | Value::Float(_));
        let (fits, expected) = match ty {
            Type::Int32 | Type::Int64 | Type::Number => (is_number, "numeric (int or float)"),
            Type::Boolean => (matches!(value, Value::Bool(_)), "boolean"),
            Type::String | Type::Bytes => (matches!(value, Value::String(_)), "string"),
            _ => (!matches!(value, Value::Object(_) | Value::Array(_)), "any scalar"),
        };
        if !fits {
            self.fault(&format!("expected {expected}, got {value:?}"));
        }
    }
}

/// Whether members that are not declared are a fault. An object without any declared member is free.
fn is_closed(schema: SchemaRef<'_>) -> bool {
    schema.ty() == Type::Object
        && !schema.node.preserve_unknown
        && schema.node.items == NodeId::ANY
        && schema.node.props_len > 0
}

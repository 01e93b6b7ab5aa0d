//! Value validation: required fields, and what [`crate::schema::Constraints`] declare.
//!
//! `pattern`, `format` and CEL rules need engines and are not checked here.

use std::collections::HashSet;

use crate::error::Cause;
use crate::path::PathStack;
use crate::schema::{Constraints, Merge, SchemaRef, Type};
use crate::{FieldPath, Map, NodeId, Value, json};

/// How many causes are gathered before the walk ends.
const MAX_CAUSES: usize = 64;

/// Checks required fields, set and key uniqueness of lists, and declared value constraints.
#[must_use]
pub fn validate(value: &Value, schema: SchemaRef<'_>) -> Vec<Cause> {
    let mut walk = Walk { path: PathStack::default(), causes: Vec::new() };
    walk.value(value, schema);
    walk.causes
}

struct Walk {
    path: PathStack,
    causes: Vec<Cause>,
}

impl Walk {
    fn value(&mut self, value: &Value, schema: SchemaRef<'_>) {
        if self.causes.len() >= MAX_CAUSES || (value.is_null() && schema.node.nullable) {
            return;
        }
        if let Some(constraints) = schema.constraints() {
            self.constraints(value, schema, constraints);
        }
        match (value, schema.ty()) {
            (Value::Object(map), Type::Object) => self.object(map, schema),
            (Value::Object(map), Type::Map) => {
                map.iter().for_each(|(key, member)| self.member(key, member, schema.items()));
            }
            (Value::Array(items), Type::List) => self.list(items, schema),
            _ => {}
        }
    }

    fn member(&mut self, name: &str, value: &Value, schema: SchemaRef<'_>) {
        let step = self.path.field(name);
        self.value(value, schema);
        self.path.back(step);
    }

    fn object(&mut self, map: &Map, schema: SchemaRef<'_>) {
        for property in schema.properties() {
            if property.required && !map.contains(&property.name) {
                let step = self.path.field(&property.name);
                self.causes.push(Cause::required(self.path.current(), ""));
                self.path.back(step);
            }
        }
        for (name, member) in map.iter() {
            if let Some(field) = schema.field(name) {
                self.member(name, member, field);
            }
        }
    }

    fn list(&mut self, items: &[Value], schema: SchemaRef<'_>) {
        self.unique(items, schema);
        let element = schema.items();
        for (i, item) in items.iter().enumerate() {
            let step = self.path.index(i);
            self.value(item, element);
            self.path.back(step);
        }
    }

    /// Elements of sets and keyed lists come once.
    fn unique(&mut self, items: &[Value], schema: SchemaRef<'_>) {
        let mut seen = HashSet::new();
        for (i, item) in items.iter().enumerate() {
            let Some(identity) = identity(item, schema) else { return };
            if !seen.insert(json::to_vec(&identity)) {
                let step = self.path.index(i);
                self.causes.push(Cause::duplicate(self.path.current(), identity));
                self.path.back(step);
            }
        }
    }

    fn constraints(&mut self, value: &Value, schema: SchemaRef<'_>, c: &Constraints) {
        let path = self.path.current();
        let mut say = |detail: String| self.causes.push(Cause::invalid(path.clone(), value.clone(), &detail));
        match value {
            Value::Int(_) | Value::Float(_) => numeric(value, c).into_iter().for_each(&mut say),
            Value::String(s) => {
                let count = s.chars().count() as u64;
                between(count, c.length, "chars")
                    .into_iter()
                    .for_each(|d| say(format!("{path} in body {d} long")));
            }
            Value::Array(a) => {
                between(a.len() as u64, c.items, "items")
                    .into_iter()
                    .for_each(|d| say(format!("{path} in body {d}")));
            }
            Value::Object(m) => {
                between(m.len() as u64, c.properties, "properties")
                    .into_iter()
                    .for_each(|d| say(format!("{path} in body {d}")));
            }
            Value::Null | Value::Bool(_) => {}
        }
        if !c.allowed.is_empty() && !c.allowed.contains(value) {
            let texts: Vec<&str> = c.allowed.iter().filter_map(Value::as_str).collect();
            self.causes.push(Cause::not_supported(path.clone(), value.clone(), &texts));
        }
        self.combinations(value, schema, c, &path);
    }

    fn combinations(&mut self, value: &Value, schema: SchemaRef<'_>, c: &Constraints, path: &FieldPath) {
        let holds = |id: &NodeId| validate(value, schema.go(*id)).is_empty();
        for id in &c.all_of {
            self.causes.extend(validate(value, schema.go(*id)));
        }
        if !c.any_of.is_empty() && !c.any_of.iter().any(holds) {
            let detail = format!("{path} in body must validate at least one schema (anyOf)");
            self.causes.push(Cause::invalid(path.clone(), "", &detail));
        }
        if !c.one_of.is_empty() && c.one_of.iter().filter(|id| holds(id)).count() != 1 {
            let detail = format!("{path} in body must validate one and only one schema (oneOf)");
            self.causes.push(Cause::invalid(path.clone(), "", &detail));
        }
        if c.not.as_ref().is_some_and(holds) {
            let detail = format!("{path} in body must not validate the schema (not)");
            self.causes.push(Cause::invalid(path.clone(), "", &detail));
        }
    }
}

/// What tells an element of a set or keyed list apart; `None` for other lists.
fn identity(item: &Value, schema: SchemaRef<'_>) -> Option<Value> {
    match schema.node.merge {
        Merge::Set => Some(item.clone()),
        Merge::Keyed => {
            let keys = schema.node.keys.iter();
            Some(Value::Object(
                keys.filter_map(|k| Some((k.as_ref().into(), item.get(k)?.clone()))).collect(),
            ))
        }
        Merge::Atomic | Merge::Granular => None,
    }
}

fn between(count: u64, (min, max): (Option<u64>, Option<u64>), what: &str) -> Option<String> {
    match (min, max) {
        (Some(min), _) if count < min => Some(format!("should be at least {min} {what}")),
        (_, Some(max)) if count > max => Some(format!("should be at most {max} {what}")),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "JSON schema compares numbers as doubles")]
fn numeric(value: &Value, c: &Constraints) -> Option<String> {
    let number = match value {
        Value::Int(i) => *i as f64,
        Value::Float(f) => *f,
        _ => return None,
    };
    match (c.minimum, c.maximum, c.multiple_of) {
        (Some((min, true)), ..) if number <= min => Some(format!("should be greater than {min}")),
        (Some((min, false)), ..) if number < min => Some(format!("should be greater than or equal to {min}")),
        (_, Some((max, true)), _) if number >= max => Some(format!("should be less than {max}")),
        (_, Some((max, false)), _) if number > max => Some(format!("should be less than or equal to {max}")),
        (.., Some(by)) if by != 0.0 && (number / by).fract() != 0.0 => {
            Some(format!("should be a multiple of {by}"))
        }
        _ => None,
    }
}

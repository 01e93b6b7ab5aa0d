//! Value validation: required fields, and what [`crate::schema::Constraints`] declare.
//!
//! Rules are [`crate::rules`]'s. Where one of them stands in an alternative (`anyOf`, `oneOf`, `not`), nobody knows whether the
//! value satisfies it: then nothing is refused for satisfying too much.
//!
//! What an update leaves as it was may go on being invalid, since the schema may have become stricter (upstream: ratcheting).

use std::collections::{HashMap, HashSet};

use super::format;
use crate::error::Cause;
use crate::path::PathStack;
use crate::schema::{Constraints, Merge, SchemaRef, Type};
use crate::{FieldPath, Map, NodeId, Value, json};

/// How many causes are gathered before the walk ends.
const MAX_CAUSES: usize = 64;

/// Checks required fields, set and key uniqueness of lists, and declared value constraints.
#[must_use]
pub fn validate(value: &Value, schema: SchemaRef<'_>) -> Vec<Cause> {
    let mut walk = Walk::default();
    walk.value(value, None, schema);
    walk.causes.extend(walk.duplicates);
    walk.causes
}

/// Checks a changed object: parts that are as they were in `old` are not refused.
#[must_use]
pub fn validate_change(value: &Value, old: &Value, schema: SchemaRef<'_>) -> Vec<Cause> {
    let mut walk = Walk { at_root: true, ..Walk::default() };
    walk.value(value, Some(old), schema);
    let Walk { mut causes, duplicates, .. } = walk;
    if !duplicates.is_empty() {
        let mut before = Walk::default();
        before.value(old, None, schema);
        if before.duplicates.is_empty() {
            causes.extend(duplicates);
        }
    }
    causes
}

/// Whether a part of an object is as it was. What the schema does not declare counts as changed; elements that have keys may
/// have changed places.
pub(crate) fn is_unchanged(new: &Value, old: &Value, schema: SchemaRef<'_>) -> bool {
    match (new, old) {
        (Value::Array(new), Value::Array(old)) if schema.node.merge == Merge::Keyed => {
            let known = by_identity(old, schema);
            new.len() == old.len()
                && new.iter().all(|item| {
                    let before =
                        identity(item, schema).and_then(|key| known.get(&json::to_vec(&key)).copied());
                    before.is_some_and(|before| is_unchanged(item, before, schema.items()))
                })
        }
        (Value::Object(new), Value::Object(old)) => {
            new.len() == old.len()
                && new.iter().all(|(name, member)| {
                    let declared = declared(schema, name);
                    old.get(name)
                        .zip(declared)
                        .is_some_and(|(before, declared)| is_unchanged(member, before, declared))
                })
        }
        _ => new == old,
    }
}

/// The type of a field that is declared, or that a map has.
fn declared<'s>(schema: SchemaRef<'s>, name: &str) -> Option<SchemaRef<'s>> {
    match schema.property(name) {
        Some(property) => Some(schema.go(property.node)),
        None => (schema.node.items != NodeId::ANY).then(|| schema.items()),
    }
}

/// The elements of a list that have keys, by these.
fn by_identity<'v>(items: &'v [Value], schema: SchemaRef<'_>) -> HashMap<Vec<u8>, &'v Value> {
    items.iter().filter_map(|item| Some((json::to_vec(&identity(item, schema)?), item))).collect()
}

#[derive(Default)]
struct Walk {
    path: PathStack,
    causes: Vec<Cause>,
    /// Elements that come twice where they may come once.
    duplicates: Vec<Cause>,
    /// At an object as a whole, which counts as changed.
    at_root: bool,
    /// How many values have been looked at: which alternative came closest.
    looked: usize,
    /// Something was not checked that is declared.
    unsure: bool,
}

impl Walk {
    fn value(&mut self, value: &Value, old: Option<&Value>, schema: SchemaRef<'_>) {
        if self.causes.len() >= MAX_CAUSES || (value.is_null() && schema.node.nullable) {
            return;
        }
        self.looked += 1;
        let before = self.causes.len();
        let at_root = std::mem::take(&mut self.at_root);
        if let Some(constraints) = schema.constraints() {
            self.constraints(value, schema, constraints);
        }
        match (value, schema.ty()) {
            // What only restricts values has no type, and is about values of any.
            (Value::Object(map), Type::Object | Type::Any) => {
                self.object(map, old, at_root, schema);
            }
            (Value::Object(map), Type::Map) => {
                map.iter().for_each(|(key, member)| {
                    self.member(key, member, old.and_then(|old| old.get(key)), schema.items());
                });
            }
            (Value::Array(items), Type::List | Type::Any) => self.list(items, old, schema),
            _ => {}
        }
        if self.causes.len() > before && !at_root && old.is_some_and(|old| is_unchanged(value, old, schema)) {
            self.causes.truncate(before);
        }
    }

    fn member(&mut self, name: &str, value: &Value, old: Option<&Value>, schema: SchemaRef<'_>) {
        let step = self.path.field(name);
        self.value(value, old, schema);
        self.path.back(step);
    }

    fn object(&mut self, map: &Map, old: Option<&Value>, at_root: bool, schema: SchemaRef<'_>) {
        let declared = schema.properties().filter(|property| property.required).map(|p| p.name.as_ref());
        let others = schema.constraints().into_iter().flat_map(|c| c.required.iter().map(String::as_str));
        for name in declared.chain(others).filter(|name| !map.contains(name)) {
            let step = self.path.field(name);
            self.causes.push(Cause::required(self.path.current(), ""));
            self.path.back(step);
        }
        if schema.node.props_len == 0 && schema.node.items == NodeId::ANY {
            return;
        }
        for (name, member) in map.iter() {
            if let Some(field) = schema.field(name) {
                let identity = at_root && matches!(name, "apiVersion" | "kind");
                let before = old.filter(|_| !identity).and_then(|old| old.get(name));
                self.member(name, member, before, field);
            }
        }
    }

    fn list(&mut self, items: &[Value], old: Option<&Value>, schema: SchemaRef<'_>) {
        self.unique(items, schema);
        if schema.node.items == NodeId::ANY {
            return;
        }
        let element = schema.items();
        let known = match old {
            Some(Value::Array(old)) if schema.node.merge == Merge::Keyed => by_identity(old, schema),
            _ => HashMap::new(),
        };
        for (i, item) in items.iter().enumerate() {
            let step = self.path.index(i);
            let before = if known.is_empty() {
                None
            } else {
                identity(item, schema).and_then(|key| known.get(&json::to_vec(&key)).copied())
            };
            self.value(item, before, element);
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
                self.duplicates.push(Cause::duplicate(self.path.current(), identity));
                self.path.back(step);
            }
        }
    }

    fn constraints(&mut self, value: &Value, schema: SchemaRef<'_>, c: &Constraints) {
        let path = self.path.current();
        self.unsure |= !c.rules.is_empty();
        if !value.is_null() {
            self.combinations(value, schema, c, &path);
        }
        let mut say = |detail: String| self.causes.push(Cause::invalid(path.clone(), value.clone(), &detail));
        match value {
            Value::Int(_) | Value::Float(_) => numeric(value, c).into_iter().for_each(&mut say),
            Value::String(s) => {
                let count = s.chars().count() as u64;
                if let Some(detail) = at_least(count, c.length, "chars") {
                    say(format!("{path} in body {detail} long"));
                }
                match c.pattern.as_ref().map(|pattern| (pattern, pattern.is_match(s))) {
                    None | Some((_, Ok(true))) => {}
                    Some((pattern, Ok(false))) => {
                        say(format!("{path} in body should match '{}'", pattern.text));
                    }
                    Some((pattern, Err(why))) => {
                        let text = &pattern.text;
                        say(format!("{path} in body should match '{text}, but pattern is invalid: {why}'"));
                    }
                }
                if let Some(max) = beyond(count, c.length) {
                    self.causes.push(Cause::too_long(path.clone(), max));
                }
                if let Some(name) = c.format.as_ref().filter(|name| !format::holds(name, s)) {
                    let detail = format!("{path} in body must be of type {name}: {:?}", s.as_str());
                    self.causes.push(Cause::type_invalid(path.clone(), value, &detail));
                }
            }
            Value::Array(a) => {
                let count = a.len() as u64;
                if let Some(detail) = at_least(count, c.items, "items") {
                    say(format!("{path} in body {detail}"));
                }
                if let Some(max) = beyond(count, c.items) {
                    self.causes.push(Cause::too_many(path.clone(), a.len(), max));
                }
            }
            Value::Object(m) => {
                let count = m.len() as u64;
                if let Some(detail) = at_least(count, c.properties, "properties") {
                    say(format!("{path} in body {detail}"));
                }
                if let Some(max) = beyond(count, c.properties) {
                    self.causes.push(Cause::too_many(path.clone(), m.len(), max));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        if !c.allowed.is_empty() && !c.allowed.contains(value) {
            let texts: Vec<&str> = c.allowed.iter().filter_map(Value::as_str).collect();
            self.causes.push(Cause::not_supported(path, value.clone(), &texts));
        }
    }

    fn combinations(&mut self, value: &Value, schema: SchemaRef<'_>, c: &Constraints, path: &FieldPath) {
        let mut try_all = |ids: &[NodeId]| -> Vec<Alternative> {
            ids.iter().map(|id| self.alternative(value, schema.go(*id))).collect()
        };
        let (any_of, one_of, all_of) = (try_all(&c.any_of), try_all(&c.one_of), try_all(&c.all_of));
        let not = try_all(c.not.as_slice());
        if !any_of.is_empty() && !any_of.iter().any(Alternative::may_hold) {
            self.compose(path, "must validate at least one schema (anyOf)");
            self.causes.extend(closest(any_of));
        }
        let certain = one_of.iter().filter(|alternative| alternative.holds()).count();
        if certain > 1 {
            let detail = format!("Found {certain} valid alternatives");
            self.compose(path, &format!("must validate one and only one schema (oneOf). {detail}"));
        } else if !one_of.is_empty() && !one_of.iter().any(Alternative::may_hold) {
            self.compose(path, "must validate one and only one schema (oneOf). Found none valid");
            self.causes.extend(closest(one_of));
        }
        let failed = all_of.iter().filter(|alternative| !alternative.may_hold()).count();
        let none = if failed == all_of.len() { ". None validated" } else { "" };
        self.causes.extend(all_of.into_iter().flat_map(|alternative| alternative.causes));
        if failed > 0 {
            self.compose(path, &format!("must validate all the schemas (allOf){none}"));
        }
        if not.iter().any(Alternative::holds) {
            self.compose(path, "must not validate the schema (not)");
        }
    }

    /// What is wrong with how schemas are put together is no field's fault.
    fn compose(&mut self, path: &FieldPath, fault: &str) {
        let detail = format!("{:?} {fault}", path.as_str());
        self.causes.push(Cause::invalid(FieldPath::new("<nil>"), "", &detail));
    }

    /// Tries a schema on the value that the walk stands at.
    fn alternative(&mut self, value: &Value, schema: SchemaRef<'_>) -> Alternative {
        let mut walk = Self { path: std::mem::take(&mut self.path), ..Self::default() };
        walk.value(value, None, schema);
        let Self { path, causes, looked, unsure, .. } = walk;
        self.path = path;
        self.looked += looked;
        self.unsure |= unsure;
        Alternative { causes, looked, unsure }
    }
}

/// What came of trying a schema.
struct Alternative {
    causes: Vec<Cause>,
    looked: usize,
    unsure: bool,
}

impl Alternative {
    fn may_hold(&self) -> bool {
        self.causes.is_empty()
    }

    fn holds(&self) -> bool {
        self.may_hold() && !self.unsure
    }
}

/// The faults of the first alternative of those that looked at most: the one that was meant.
fn closest(alternatives: Vec<Alternative>) -> Vec<Cause> {
    let most = alternatives.iter().map(|alternative| alternative.looked).max();
    let meant = alternatives.into_iter().find(|alternative| Some(alternative.looked) == most);
    meant.map(|alternative| alternative.causes).unwrap_or_default()
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

fn at_least(count: u64, (min, _): (Option<u64>, Option<u64>), what: &str) -> Option<String> {
    min.filter(|min| count < *min).map(|min| format!("should be at least {min} {what}"))
}

/// The most that there may be, if there is more.
fn beyond(count: u64, (_, max): (Option<u64>, Option<u64>)) -> Option<usize> {
    max.filter(|max| count > *max).map(|max| usize::try_from(max).unwrap_or(usize::MAX))
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

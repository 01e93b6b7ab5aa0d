//! Lists that merge by element.

use std::collections::HashMap;

use super::{DIRECTIVE, Fault, StrategicError, cleaned, merge_objects, unknown_directive};
use crate::path::PathStack;
use crate::schema::SchemaRef;
use crate::{Key, Value};

/// What tells elements apart: a scalar, by its exact type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Told {
    Null,
    Bool(bool),
    Int(i64),
    Float(u64),
    String(Key),
}

impl Told {
    fn scalar(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(*i),
            Value::Float(f) => Self::Float(f.to_bits()),
            Value::String(s) => Self::String(s.clone()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }
}

/// Takes scalars out of a list.
pub(super) fn delete_scalars(list: &mut Vec<Value>, values: &[Value]) -> Result<(), Fault> {
    element_type(&[list.as_slice(), values])?;
    let gone = values.iter().map(Told::scalar).collect::<Option<std::collections::HashSet<_>>>();
    let gone = gone.ok_or(Fault::PrimitiveList)?;
    list.retain(|item| Told::scalar(item).is_none_or(|told| !gone.contains(&told)));
    Ok(())
}

/// The one type of all elements.
fn element_type(lists: &[&[Value]]) -> Result<Option<&'static str>, Fault> {
    let mut types = lists.iter().flat_map(|list| list.iter()).map(Value::type_name);
    let Some(first) = types.next() else { return Ok(None) };
    if first == "array" {
        return Err(Fault::ListOfLists);
    }
    types.find(|ty| *ty != first).map_or(Ok(Some(first)), |other| Err(Fault::MixedList(first, other)))
}

/// How the elements of one field merge.
pub(super) struct Elements<'a, 'p> {
    /// Empty for scalars.
    merge_key: &'a str,
    item: SchemaRef<'a>,
    path: &'p mut PathStack,
}

impl<'a, 'p> Elements<'a, 'p> {
    pub(super) fn new(merge_key: &'a str, item: SchemaRef<'a>, path: &'p mut PathStack) -> Self {
        Self { merge_key, item, path }
    }

    fn fail<T>(&self, fault: Fault) -> Result<T, StrategicError> {
        Err(fault.at(self.path))
    }

    fn told(&self, item: &Value) -> Result<Told, StrategicError> {
        let value = match (self.merge_key, item) {
            ("", scalar) => scalar,
            (key, Value::Object(map)) => match map.get(key) {
                Some(value) => value,
                None => return self.fail(Fault::NoMergeKey { map: item.clone(), key: key.to_owned() }),
            },
            (_, other) => return self.fail(Fault::Type { expected: "object", found: other.type_name() }),
        };
        Told::scalar(value).map_or_else(|| self.fail(Fault::KeyType(value.clone())), Ok)
    }

    fn all_told(&self, items: &[Value]) -> Result<Vec<Told>, StrategicError> {
        items.iter().map(|item| self.told(item)).collect()
    }

    /// The merged list, in the order that both lists give it.
    pub(super) fn merge(mut self, old: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, StrategicError> {
        self.merge_lists(old, patch)
    }

    fn merge_lists(&mut self, old: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, StrategicError> {
        let ty = element_type(&[&old, &patch]).map_err(|fault| fault.at(self.path))?;
        match ty {
            None => Ok(old),
            Some("object") if self.merge_key.is_empty() => self.fail(Fault::NoDeclaredKey),
            Some("object") => self.merge_maps(old, patch),
            Some(_) => {
                self.merge_key = "";
                self.merge_scalars(old, patch)
            }
        }
    }

    fn merge_scalars(&self, old: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, StrategicError> {
        let (server, order) = (self.all_told(&old)?, self.all_told(&patch)?);
        let mut seen = std::collections::HashSet::new();
        let mut merged = Vec::with_capacity(old.len() + patch.len());
        for (item, told) in old.into_iter().zip(&server).chain(patch.into_iter().zip(&order)) {
            if seen.insert(told.clone()) {
                merged.push(item);
            }
        }
        self.arrange(merged, &order, &server)
    }

    fn merge_maps(&mut self, old: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, StrategicError> {
        let (old, patch) = self.obey_directives(old, patch)?;
        let (server, order) = (self.all_told(&old)?, self.all_told(&patch)?);
        let mut places: HashMap<Told, usize> = HashMap::with_capacity(server.len());
        for (at, told) in server.iter().enumerate() {
            places.entry(told.clone()).or_insert(at);
        }
        let mut merged = old;
        for (item, told) in patch.into_iter().zip(&order) {
            let Value::Object(item) = item else { continue };
            match places.get(told).map(|at| (*at, &mut merged[*at])) {
                Some((at, Value::Object(into))) => {
                    let schema = self.item;
                    self.path.in_index(at, |path| merge_objects(into, item, schema, path))?;
                }
                _ => {
                    places.insert(told.clone(), merged.len());
                    merged.extend(cleaned(Value::Object(item)));
                }
            }
        }
        self.arrange(merged, &order, &server)
    }

    /// Takes elements with `$patch` out of the patch and does what they say.
    fn obey_directives(
        &self,
        mut old: Vec<Value>,
        patch: Vec<Value>,
    ) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
        let (mut plain, mut gone) = (Vec::with_capacity(patch.len()), std::collections::HashSet::new());
        let mut replaces = false;
        for item in patch {
            let Some(directive) = item.get(DIRECTIVE) else {
                plain.push(item);
                continue;
            };
            match directive.as_str() {
                Some("delete") => drop(gone.insert(self.told(&item)?)),
                Some("replace") => replaces = true,
                Some("merge") => return self.fail(Fault::MergeInList),
                _ => {
                    let map = item.as_object().cloned().unwrap_or_default();
                    return self.fail(unknown_directive(directive, map));
                }
            }
        }
        if replaces {
            return Ok((plain.into_iter().filter_map(cleaned).collect(), Vec::new()));
        }
        if !gone.is_empty() {
            let stays = |item: &Value| {
                let told = item.get(self.merge_key).and_then(Told::scalar);
                told.is_none_or(|told| !gone.contains(&told))
            };
            old.retain(stays);
        }
        Ok((old, plain))
    }

    /// Merges under a `$setElementOrder`. A list that does not merge is replaced, and ordered too.
    pub(super) fn merge_in_order(
        mut self,
        old: Option<Vec<Value>>,
        patch: Option<Vec<Value>>,
        order: &[Value],
        merges: bool,
    ) -> Result<Vec<Value>, StrategicError> {
        if let Some(patch) = &patch {
            self.check_order(patch, order)?;
        }
        let server = old.clone().unwrap_or_default();
        let merged = match (old, patch) {
            (Some(old), None) => old,
            (Some(old), Some(patch)) if merges => self.merge_lists(old, patch)?,
            (_, patch) => patch.unwrap_or_default().into_iter().filter_map(cleaned).collect(),
        };
        if merged.is_empty() {
            return Ok(merged);
        }
        let (order, server) = (self.all_told(order)?, self.all_told(&server)?);
        self.arrange(merged, &order, &server)
    }

    /// The patch's elements must stand in the order in the same order.
    fn check_order(&self, patch: &[Value], order: &[Value]) -> Result<(), StrategicError> {
        if patch.is_empty() || order.is_empty() {
            return Ok(());
        }
        let mut rest = order.iter();
        for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
            let told = self.told(item)?;
            loop {
                let Some(next) = rest.next() else {
                    let (patch, order) = (Value::Array(patch.to_vec()), Value::Array(order.to_vec()));
                    return self.fail(Fault::OrderMismatch { patch, order });
                };
                if self.told(next)? == told {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Elements that `order` names in that order, the others in `server`'s; of the two the one that comes first there
    /// comes first.
    fn arrange(
        &self,
        merged: Vec<Value>,
        order: &[Told],
        server: &[Told],
    ) -> Result<Vec<Value>, StrategicError> {
        let (order, server) = (places(order), places(server));
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for item in merged {
            let told = self.told(&item)?;
            let at_server = server.get(&told).copied();
            match order.get(&told) {
                Some(at) => named.push((*at, at_server, item)),
                None => others.push((at_server.unwrap_or(usize::MAX), at_server, item)),
            }
        }
        named.sort_by_key(|(at, ..)| *at);
        others.sort_by_key(|(at, ..)| *at);
        let mut out = Vec::with_capacity(named.len() + others.len());
        let mut others = others.into_iter().peekable();
        for (_, at_server, item) in named {
            let is_before = |other: &(usize, Option<usize>, Value)| matches!((other.1, at_server), (Some(other), Some(at)) if other < at);
            while let Some((.., other)) = others.next_if(is_before) {
                out.push(other);
            }
            out.push(item);
        }
        out.extend(others.map(|(.., item)| item));
        Ok(out)
    }
}

fn places(told: &[Told]) -> HashMap<&Told, usize> {
    let mut places = HashMap::with_capacity(told.len());
    for (at, told) in told.iter().enumerate() {
        places.entry(told).or_insert(at);
    }
    places
}

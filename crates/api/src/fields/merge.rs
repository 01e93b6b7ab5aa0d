//! Lays an applied configuration over the live object.
//!
//! What the configuration does not name stays. Leaves are replaced; objects merge by member, keyed lists by element, sets
//! by value. An empty or null object or list has no opinion about what is in a non-empty one. Elements come in the order
//! of the configuration; elements only the live object has keep their place between those.

use std::collections::{BTreeMap, HashMap};

use super::element::Element;
use super::order;
use super::shape::{self, List, Shape, shape_of};
use super::walk::WalkError;
use crate::schema::SchemaRef;
use crate::{Key, Map, Value};

/// Merges `config`, which has passed [`super::validate`], into `live`.
///
/// # Errors
/// A list of the live object has an element that cannot be told from others.
pub(super) fn merge(live: &mut Value, config: &Value, schema: SchemaRef<'_>) -> Result<(), WalkError> {
    match shape_of(schema) {
        Shape::Leaf => set(live, config),
        Shape::Members => match config.as_object() {
            Some(map) if !map.is_empty() => merge_members(live, map, schema)?,
            _ if shape::members(live).is_some() => {}
            _ => set(live, config),
        },
        Shape::Elements(list) => match shape::elements(config) {
            Some(items) => merge_elements(live, items, list)?,
            None if shape::elements(live).is_some() => {}
            None => set(live, config),
        },
        Shape::Deduced => match config {
            Value::Object(map) if !map.is_empty() => merge_members(live, map, schema)?,
            Value::Object(_) | Value::Null if shape::members(live).is_some() => {}
            _ => set(live, config),
        },
    }
    Ok(())
}

/// An equal value is left alone, so that a number keeps its spelling.
fn set(live: &mut Value, config: &Value) {
    if !order::same(live, config) {
        *live = config.clone();
    }
}

fn merge_members(live: &mut Value, config: &Map, schema: SchemaRef<'_>) -> Result<(), WalkError> {
    let live = live.make_object();
    let mut new: Vec<(Key, Value)> = Vec::new();
    for (name, value) in config.iter() {
        match live.get_mut(name) {
            Some(old) => merge(old, value, shape::member(schema, name).0).map_err(|e| e.in_field(name))?,
            None => new.push((name.into(), value.clone())),
        }
    }
    live.extend(new);
    Ok(())
}

fn merge_elements(live: &mut Value, config: &[Value], list: List<'_>) -> Result<(), WalkError> {
    let old = match live {
        Value::Array(items) => std::mem::take(items),
        _ => Vec::new(),
    };
    let merged = Numbered::new(&old, config, list)?.interleave(old, config, list)?;
    *live = Value::Array(merged);
    Ok(())
}

/// The elements of both lists, each told element a number.
struct Numbered {
    old: Vec<usize>,
    new: Vec<usize>,
    count: usize,
}

impl Numbered {
    fn new(old: &[Value], new: &[Value], list: List<'_>) -> Result<Self, WalkError> {
        let mut numbers: BTreeMap<Element, usize> = BTreeMap::new();
        let mut number = |(at, item)| -> Result<usize, WalkError> {
            let element = list.element(item).map_err(|why| (at, why))?;
            let next = numbers.len();
            Ok(*numbers.entry(element).or_insert(next))
        };
        let old = old.iter().enumerate().map(&mut number).collect::<Result<Vec<_>, _>>()?;
        let new = new.iter().enumerate().map(&mut number).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { old, new, count: numbers.len() })
    }

    /// Upstream's order: the configuration's elements in its order; live ones that it lacks before the next shared element
    /// that follows them in the live list.
    fn interleave(self, old: Vec<Value>, config: &[Value], list: List<'_>) -> Result<Vec<Value>, WalkError> {
        let Self { old: left, new: right, count } = self;
        let mut in_right = vec![false; count];
        right.iter().for_each(|n| in_right[*n] = true);
        let mut in_left: HashMap<usize, usize> = HashMap::new();
        left.iter().for_each(|n| *in_left.entry(*n).or_default() += 1);

        let mut live = Slots::new(old, &left, &in_left);
        let mut shared = right.iter().copied().filter(|n| in_left.contains_key(n));
        let mut next_shared = shared.next();
        let mut merged = vec![false; count];
        let mut out = Vec::with_capacity(count);
        let (mut l, mut r) = (0, 0);
        while l < left.len() || r < right.len() {
            if let (Some(a), Some(b)) = (left.get(l), right.get(r)) {
                if a == b {
                    merged[*a] = true;
                    out.push(merged_element(live.of(*a), &config[r], list)?);
                    (l, r) = (l + 1, r + 1);
                    next_shared = shared.next();
                    continue;
                }
                if in_right[*a] && next_shared.is_some_and(|n| n != *a) {
                    l += 1;
                    continue;
                }
            }
            if let Some(a) = left.get(l) {
                if !in_right[*a] {
                    out.extend(live.at(l));
                    l += 1;
                    continue;
                }
                if merged[*a] {
                    l += 1;
                }
            }
            if let Some(b) = right.get(r) {
                merged[*b] = true;
                out.push(merged_element(live.of(*b), &config[r], list)?);
                r += 1;
                if next_shared == Some(*b) {
                    next_shared = shared.next();
                }
            }
        }
        Ok(out)
    }
}

/// The live elements, each taken once.
struct Slots {
    items: Vec<Option<Value>>,
    /// Where the only element of a number stands; elements that come twice are not merged.
    only: HashMap<usize, usize>,
}

impl Slots {
    fn new(items: Vec<Value>, numbers: &[usize], counts: &HashMap<usize, usize>) -> Self {
        let only =
            numbers.iter().enumerate().filter(|(_, n)| counts[*n] == 1).map(|(at, n)| (*n, at)).collect();
        Self { items: items.into_iter().map(Some).collect(), only }
    }

    fn at(&mut self, at: usize) -> Option<Value> {
        self.items[at].take()
    }

    fn of(&mut self, number: usize) -> Option<Value> {
        self.only.get(&number).copied().and_then(|at| self.at(at))
    }
}

fn merged_element(live: Option<Value>, config: &Value, list: List<'_>) -> Result<Value, WalkError> {
    let Some(mut element) = live else { return Ok(config.clone()) };
    merge(&mut element, config, list.item)?;
    Ok(element)
}

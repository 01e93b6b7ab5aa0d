//! The sets that one walk over an object gives: the fields an applied configuration owns, and those that a write changes.

use std::cmp::Ordering;

use super::element::Element;
use super::order;
use super::set::{FieldSet, Node};
use super::shape::{self, List, NotTold, Shape, shape_of};
use crate::schema::SchemaRef;
use crate::{Map, Value};

/// A list element that cannot be told from others.
#[derive(Debug, thiserror::Error)]
#[error("{path}: element {index}: {why}")]
pub struct WalkError {
    path: String,
    index: usize,
    why: Box<NotTold>,
}

impl WalkError {
    fn under(mut self, element: &Element) -> Self {
        self.path.insert_str(0, &element.to_string());
        self
    }

    pub(super) fn in_field(mut self, name: &str) -> Self {
        self.path.insert_str(0, &format!(".{name}"));
        self
    }
}

impl From<(usize, NotTold)> for WalkError {
    fn from((index, why): (usize, NotTold)) -> Self {
        Self { path: String::new(), index, why: Box::new(why) }
    }
}

/// The fields that an applied configuration owns.
///
/// Leaves, list elements, entries of maps and undeclared members are owned; an object with declared fields is not owned
/// itself unless it is empty or null. Elements that come twice are owned as one, without what is in them.
///
/// # Errors
/// A list element that cannot be told from others.
pub fn owned(config: &Value, schema: SchemaRef<'_>) -> Result<FieldSet, WalkError> {
    let mut root = Node { owned: false, ..Node::leaf(Element::Index(0)) };
    own(config, schema, &mut root)?;
    Ok(root.below)
}

fn own(value: &Value, schema: SchemaRef<'_>, node: &mut Node) -> Result<(), WalkError> {
    match shape_of(schema) {
        Shape::Members => value.as_object().map_or(Ok(()), |map| own_members(map, schema, node)),
        Shape::Elements(list) => value.as_array().map_or(Ok(()), |items| own_elements(items, list, node)),
        Shape::Deduced => match value {
            Value::Object(map) => own_members(map, schema, node),
            Value::Null => Ok(()),
            _ => {
                node.owned = true;
                Ok(())
            }
        },
        Shape::Leaf => {
            node.owned = true;
            Ok(())
        }
    }
}

fn own_members(map: &Map, schema: SchemaRef<'_>, node: &mut Node) -> Result<(), WalkError> {
    for (name, value) in map.iter() {
        let (ty, declared) = shape::member(schema, name);
        let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        let mut inner = Node { owned: hollow || !declared, ..Node::leaf(Element::Field(name.into())) };
        own(value, ty, &mut inner).map_err(|e| e.in_field(name))?;
        node.below.push(inner);
    }
    Ok(())
}

fn own_elements(items: &[Value], list: List<'_>, node: &mut Node) -> Result<(), WalkError> {
    for same in list.index(items)?.chunk_by(|a, b| a.0 == b.0) {
        let mut inner = Node::leaf(same[0].0.clone());
        if same.len() == 1 {
            own(&items[same[0].1], list.item, &mut inner).map_err(|e| e.under(&same[0].0))?;
        }
        node.below.push(inner);
    }
    Ok(())
}

/// What a write changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Fields that were added or got another value.
    pub(super) written: FieldSet,
    /// Fields that are no more.
    pub(super) removed: FieldSet,
}

/// What one member's change adds to its parent's changes.
#[derive(Default)]
struct Change {
    written: bool,
    removed: bool,
    below: Changes,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty()
    }

    fn push(&mut self, element: Element, change: Change) {
        let Change { written, removed, below } = change;
        if removed || !below.removed.is_empty() {
            self.removed.push(Node { element: element.clone(), owned: removed, below: below.removed });
        }
        self.written.push(Node { element, owned: written, below: below.written });
    }
}

impl Change {
    fn leaf(old: &Value, new: &Value) -> Self {
        Self { written: !order::same(old, new), ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        !self.written && !self.removed && self.below.is_empty()
    }
}

/// What changed from `old` to `new`. Nothing is made for what is equal, and no list is indexed that kept its elements in
/// their places.
///
/// # Errors
/// A list that changed has an element that cannot be told from others.
pub(super) fn compare(old: &Value, new: &Value, schema: SchemaRef<'_>) -> Result<Changes, WalkError> {
    pair(old, new, schema).map(|change| change.below)
}

fn pair(old: &Value, new: &Value, schema: SchemaRef<'_>) -> Result<Change, WalkError> {
    match shape_of(schema) {
        Shape::Leaf => Ok(Change::leaf(old, new)),
        Shape::Members => match (shape::members(old), shape::members(new)) {
            (None, None) => Ok(Change::leaf(old, new)),
            (a, b) => pair_members(a, b, schema),
        },
        Shape::Elements(list) => match (shape::elements(old), shape::elements(new)) {
            (None, None) => Ok(Change::leaf(old, new)),
            (a, b) => pair_elements(a.unwrap_or_default(), b.unwrap_or_default(), list),
        },
        Shape::Deduced => match (shape::members(old), shape::members(new)) {
            (None, None) => Ok(Change::leaf(old, new)),
            (a, b) => {
                let other = if a.is_some() { new } else { old };
                let written = !matches!(other, Value::Object(_) | Value::Null);
                Ok(Change { written, ..pair_members(a, b, schema)? })
            }
        },
    }
}

fn pair_members(old: Option<&Map>, new: Option<&Map>, schema: SchemaRef<'_>) -> Result<Change, WalkError> {
    let empty = Map::new();
    let mut old = old.unwrap_or(&empty).iter().peekable();
    let mut new = new.unwrap_or(&empty).iter().peekable();
    let mut below = Changes::default();
    loop {
        let turn = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let gone = if turn.is_le() { old.next() } else { None };
        let came = if turn.is_ge() { new.next() } else { None };
        let Some((name, _)) = gone.or(came) else { break };
        let (a, b) = (gone.map(|m| m.1), came.map(|m| m.1));
        let change = either(a, b, || shape::member(schema, name).0).map_err(|e| e.in_field(name))?;
        if !change.is_empty() {
            below.push(Element::Field(name.into()), change);
        }
    }
    Ok(Change { below, ..Change::default() })
}

/// The change of a member or an element that may be absent before or after.
fn either<'a>(
    old: Option<&Value>,
    new: Option<&Value>,
    schema: impl FnOnce() -> SchemaRef<'a>,
) -> Result<Change, WalkError> {
    let is_plain = |value: &Value| !matches!(value, Value::Object(_) | Value::Array(_));
    match (old, new) {
        // Equal scalars are most of an object: they need no type.
        (Some(a), Some(b)) if is_plain(a) && is_plain(b) => Ok(Change::leaf(a, b)),
        (Some(a), Some(b)) => pair(a, b, schema()),
        (None, Some(b)) => {
            let written = alone(b, schema())?;
            Ok(Change { written: true, below: Changes { written, ..Changes::default() }, removed: false })
        }
        (Some(a), None) => {
            let removed = alone(a, schema())?;
            Ok(Change { removed: true, below: Changes { removed, ..Changes::default() }, written: false })
        }
        (None, None) => Ok(Change::default()),
    }
}

/// All fields inside a value that came or went as a whole.
fn alone(value: &Value, schema: SchemaRef<'_>) -> Result<FieldSet, WalkError> {
    let mut below = FieldSet::new();
    match (shape_of(schema), value) {
        (Shape::Members | Shape::Deduced, Value::Object(map)) => {
            below.nodes.reserve(map.len());
            for (name, value) in map.iter() {
                let (ty, _) = shape::member(schema, name);
                let inner = alone(value, ty).map_err(|e| e.in_field(name))?;
                below.push(Node { below: inner, ..Node::leaf(Element::Field(name.into())) });
            }
        }
        (Shape::Elements(list), Value::Array(items)) => {
            for same in list.index(items)?.chunk_by(|a, b| a.0 == b.0) {
                let mut node = Node::leaf(same[0].0.clone());
                if same.len() == 1 {
                    node.below = alone(&items[same[0].1], list.item).map_err(|e| e.under(&node.element))?;
                }
                below.push(node);
            }
        }
        _ => {}
    }
    Ok(below)
}

fn pair_elements(old: &[Value], new: &[Value], list: List<'_>) -> Result<Change, WalkError> {
    let below = match pair_in_place(old, new, list)? {
        Some(changes) => changes,
        None => pair_by_index(old, new, list)?,
    };
    Ok(Change { below, ..Change::default() })
}

/// The changes of a list whose elements kept their places; `None` if they did not, or if one comes twice.
fn pair_in_place(old: &[Value], new: &[Value], list: List<'_>) -> Result<Option<Changes>, WalkError> {
    if old.len() != new.len() || !old.iter().zip(new).all(|(a, b)| list.aligned(a, b)) {
        return Ok(None);
    }
    let mut changes = Vec::new();
    for (at, (a, b)) in old.iter().zip(new).enumerate() {
        let tell = |e: WalkError| match list.element(b) {
            Ok(element) => e.under(&element),
            Err(why) => (at, why).into(),
        };
        let change = either(Some(a), Some(b), || list.item).map_err(tell)?;
        if !change.is_empty() {
            changes.push((at, change));
        }
    }
    if changes.is_empty() {
        return Ok(Some(Changes::default()));
    }
    let index = list.index(new)?;
    if index.windows(2).any(|two| two[0].0 == two[1].0) {
        return Ok(None);
    }
    let mut below = Changes::default();
    let mut changes: Vec<Option<Change>> = spread(changes, new.len());
    for (element, at) in index {
        if let Some(change) = changes[at].take() {
            below.push(element, change);
        }
    }
    Ok(Some(below))
}

fn spread<T>(items: Vec<(usize, T)>, len: usize) -> Vec<Option<T>> {
    let mut out: Vec<Option<T>> = std::iter::repeat_with(|| None).take(len).collect();
    for (at, item) in items {
        out[at] = Some(item);
    }
    out
}

/// The changes of a list in any order. An element that comes twice is owned as one, without what is in it.
fn pair_by_index(old: &[Value], new: &[Value], list: List<'_>) -> Result<Changes, WalkError> {
    let (old_index, new_index) = (list.index(old)?, list.index(new)?);
    let mut befores = old_index.chunk_by(|a, b| a.0 == b.0).peekable();
    let mut afters = new_index.chunk_by(|a, b| a.0 == b.0).peekable();
    let mut below = Changes::default();
    loop {
        let turn = match (befores.peek(), afters.peek()) {
            (None, None) => return Ok(below),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a[0].0.cmp(&b[0].0),
        };
        let before = if turn.is_le() { befores.next() } else { None };
        let after = if turn.is_ge() { afters.next() } else { None };
        let Some(element) = before.or(after).map(|same| &same[0].0) else { return Ok(below) };
        let pick = |items, same: Option<&[(Element, usize)]>| -> Vec<&Value> { values(items, same) };
        let change =
            pair_groups(&pick(old, before), &pick(new, after), list).map_err(|e| e.under(element))?;
        if !change.is_empty() {
            below.push(element.clone(), change);
        }
    }
}

fn values<'v>(items: &'v [Value], same: Option<&[(Element, usize)]>) -> Vec<&'v Value> {
    same.unwrap_or_default().iter().map(|(_, at)| &items[*at]).collect()
}

fn pair_groups(old: &[&Value], new: &[&Value], list: List<'_>) -> Result<Change, WalkError> {
    match (old, new) {
        ([] | [_], [] | [_]) => either(old.first().copied(), new.first().copied(), || list.item),
        ([one], _) => Ok(Change { written: true, ..either(Some(one), None, || list.item)? }),
        (_, [one]) => Ok(Change { removed: true, ..either(None, Some(one), || list.item)? }),
        ([], _) => Ok(Change { written: true, ..Change::default() }),
        (_, []) => Ok(Change { removed: true, ..Change::default() }),
        _ => {
            let equal = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| order::same(a, b));
            Ok(Change { written: !equal, ..Change::default() })
        }
    }
}

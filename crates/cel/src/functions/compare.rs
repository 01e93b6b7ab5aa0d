//! What is equal, what comes first, what is in what.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::{Args, Fun, Outcome};
use crate::ast::op;
use crate::error::{EvalError, fail, no_overload};
use crate::meter::Meter;
use crate::schema::ListKind;
use crate::tree::{Tree, View};
use crate::value::{Key, List, Map, Value};

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        op::LESS => |args| ordered(args, |o| o == Ordering::Less),
        op::LESS_EQUALS => |args| ordered(args, |o| o != Ordering::Greater),
        op::GREATER => |args| ordered(args, |o| o == Ordering::Greater),
        op::GREATER_EQUALS => |args| ordered(args, |o| o != Ordering::Less),
        op::IN => is_in,
        _ => return None,
    })
}

fn ordered<'a>(args: &mut Args<'_, 'a>, holds: fn(Ordering) -> bool) -> Outcome<'a> {
    compare(args.get(0), args.get(1), args.meter).map(|found| Value::Bool(holds(found)))
}

/// How two values are ordered.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>, meter: &mut Meter) -> Result<Ordering, EvalError> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => {
            meter.work(a.len().min(b.len()) / 16)?;
            (**a).cmp(&**b)
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => {
            meter.work(a.len().min(b.len()) / 16)?;
            (**a).cmp(&**b)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        _ => match compare_numbers(a, b) {
            Some(Some(found)) => found,
            Some(None) => return fail("NaN values cannot be ordered"),
            None => return no_overload(),
        },
    })
}

/// How two numbers of any kinds are ordered; `None` if they are no numbers, or if one is NaN.
fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    let integer = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    Some(match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => compare_double(*a, integer(b)?),
        (a, Value::Double(b)) => compare_double(*b, integer(a)?).map(Ordering::reverse),
        (a, b) => Some(integer(a)?.cmp(&integer(b)?)),
    })
}

/// As cel-go: within the range of the integer, as doubles.
#[expect(clippy::cast_precision_loss, reason = "the comparison is defined so")]
fn compare_double(a: f64, b: i128) -> Option<Ordering> {
    a.partial_cmp(&(b as f64))
}

/// Whether two values are equal.
pub(crate) fn equals(a: &Value<'_>, b: &Value<'_>, meter: &mut Meter) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::String(a), Value::String(b)) => {
            meter.work(1 + a.len().min(b.len()) / 16)?;
            **a == **b
        }
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Null, other) | (other, Value::Null) => matches!(other, Value::Null),
        (Value::Bytes(a), Value::Bytes(b)) => {
            meter.work(1 + a.len().min(b.len()) / 16)?;
            **a == **b
        }
        (Value::List(a), Value::List(b)) => equal_lists(a, b, meter)?,
        (Value::Map(a), Value::Map(b)) => equal_maps(a, b, meter)?,
        (Value::List(List::Tree { schema: Some(_), .. }), _)
        | (Value::Map(Map::Tree { schema: Some(_), .. }), _) => return no_overload(),
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equals(a, b, meter)?,
        (Value::Preserved(a), Value::Preserved(b)) => equal_trees(*a, *b, meter)?,
        (Value::Object(a), Value::Object(b)) => {
            if a.name != b.name || a.fields.len() != b.fields.len() {
                return Ok(false);
            }
            for ((x, a), (y, b)) in a.fields.iter().zip(&b.fields) {
                if x != y || !equals(a, b, meter)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Opaque(a), Value::Opaque(b)) => match a.equals(b) {
            Some(equal) => equal,
            None => return no_overload(),
        },
        (Value::Opaque(_), _) => return no_overload(),
        _ => matches!(compare_numbers(a, b), Some(Some(Ordering::Equal))),
    })
}

fn equal_lists(a: &List<'_>, b: &List<'_>, meter: &mut Meter) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.kind() {
        ListKind::Atomic => {
            meter.work(a.len())?;
            for (a, b) in a.iter().zip(b.iter()) {
                if !equals(&a?, &b?, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Set => {
            let known =
                a.iter().map(|element| identity(&element?, meter)).collect::<Result<HashSet<_>, _>>()?;
            for element in b.iter() {
                if !known.contains(&identity(&element?, meter)?) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Map(keys) => {
            let mut known = std::collections::HashMap::with_capacity(a.len());
            for element in a.iter() {
                let element = element?;
                known.insert(list_key(&element, keys, meter)?, element);
            }
            for element in b.iter() {
                let element = element?;
                match known.get(&list_key(&element, keys, meter)?) {
                    Some(same) if equals(same, &element, meter)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
    }
}

fn equal_maps(a: &Map<'_>, b: &Map<'_>, meter: &mut Meter) -> Result<bool, EvalError> {
    meter.work(a.len())?;
    if a.len() != b.len() {
        return Ok(false);
    }
    for key in a.keys() {
        match (a.find(&key)?, b.find(&key)?) {
            (Some(a), Some(b)) if equals(&a, &b, meter)? => {}
            (None, None) => {}
            _ => return Ok(false),
        }
    }
    if let (Map::Tree { members: a, schema: Some(schema) }, Map::Tree { members: b, .. }) = (a, b) {
        return equal_undeclared(*a, *b, schema, meter);
    }
    Ok(true)
}

/// Whether members that a schema does not declare are equal where both have them.
fn equal_undeclared(
    a: &dyn crate::tree::Members,
    b: &dyn crate::tree::Members,
    schema: &crate::schema::Schema,
    meter: &mut Meter,
) -> Result<bool, EvalError> {
    let crate::schema::SchemaKind::Object(object) = &schema.kind else { return Ok(true) };
    if !object.open {
        return Ok(true);
    }
    for (key, value) in (0..a.len()).filter_map(|index| a.at(index)) {
        if object.property(key).is_none()
            && let Some(other) = b.get(key)
            && !equal_trees(value, other, meter)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two trees are the same, without a schema.
pub(crate) fn equal_trees(a: &dyn Tree, b: &dyn Tree, meter: &mut Meter) -> Result<bool, EvalError> {
    meter.work(1)?;
    Ok(match (a.view(), b.view()) {
        (View::Null, View::Null) => true,
        (View::Bool(a), View::Bool(b)) => a == b,
        (View::Int(a), View::Int(b)) => a == b,
        (View::Double(a), View::Double(b)) => a == b,
        (View::String(a), View::String(b)) => {
            meter.work(a.len() / 16)?;
            a == b
        }
        (View::List(a), View::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for index in 0..a.len() {
                match (a.at(index), b.at(index)) {
                    (Some(a), Some(b)) if equal_trees(a, b, meter)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (View::Map(a), View::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, a) in (0..a.len()).filter_map(|index| a.at(index)) {
                match b.get(key) {
                    Some(b) if equal_trees(a, b, meter)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        _ => false,
    })
}

/// What tells a value from others that are not equal to it.
pub(crate) fn identity(value: &Value<'_>, meter: &mut Meter) -> Result<Vec<u8>, EvalError> {
    let mut written = Vec::new();
    write_identity(value, &mut written, meter)?;
    Ok(written)
}

fn write_identity(value: &Value<'_>, out: &mut Vec<u8>, meter: &mut Meter) -> Result<(), EvalError> {
    meter.work(4)?;
    match value {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => {
            out.push(b'n');
            match Key::of(value) {
                Some(Key::Int(number)) => out.extend_from_slice(&i128::from(number).to_be_bytes()),
                Some(Key::Uint(number)) => out.extend_from_slice(&i128::from(number).to_be_bytes()),
                _ => {
                    if let Value::Double(number) = value {
                        out.push(b'd');
                        out.extend_from_slice(&number.to_bits().to_be_bytes());
                    }
                }
            }
        }
        Value::String(text) => {
            meter.work(text.len() / 16)?;
            out.push(b's');
            out.extend_from_slice(&text.len().to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Value::List(list) => {
            out.push(b'l');
            out.extend_from_slice(&list.len().to_be_bytes());
            for element in list.iter() {
                write_identity(&element?, out, meter)?;
            }
        }
        Value::Map(map) => {
            out.push(b'm');
            out.extend_from_slice(&map.len().to_be_bytes());
            let mut members = Vec::with_capacity(map.len());
            for key in map.keys() {
                let mut member = identity(&key, meter)?;
                if let Some(value) = map.find(&key)? {
                    write_identity(&value, &mut member, meter)?;
                }
                members.push(member);
            }
            members.sort_unstable();
            members.iter().for_each(|member| out.extend_from_slice(member));
        }
        Value::Optional(Some(value)) => {
            out.push(b'o');
            write_identity(value, out, meter)?;
        }
        Value::Preserved(tree) => {
            let read = crate::tree::read(*tree, None)?;
            out.push(b'p');
            write_identity(&read, out, meter)?;
        }
        other => {
            out.push(b'?');
            out.extend_from_slice(format!("{other:?}").as_bytes());
        }
    }
    Ok(())
}

/// What tells an element of a list by its keys from the others.
pub(crate) fn list_key(
    element: &Value<'_>,
    keys: &[std::sync::Arc<str>],
    meter: &mut Meter,
) -> Result<Vec<u8>, EvalError> {
    let mut written = Vec::new();
    let Value::Map(map) = element else {
        return fail(format!(
            "unexpected data format for element of array with x-kubernetes-list-type=map: {}",
            element.type_name()
        ));
    };
    for key in keys {
        match map.member(key)? {
            Some(value) => write_identity(&value, &mut written, meter)?,
            None => written.push(0),
        }
    }
    Ok(written)
}

fn is_in<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let wanted = args.get(0);
    match args.get(1) {
        Value::List(list) => contains(list, wanted, args.meter).map(Value::Bool),
        Value::Map(map) => map.find(wanted).map(|found| Value::Bool(found.is_some())),
        _ => no_overload(),
    }
}

/// Whether a list has an element that is equal.
pub(crate) fn contains<'a>(
    list: &List<'a>,
    wanted: &Value<'a>,
    meter: &mut Meter,
) -> Result<bool, EvalError> {
    let mut failed = None;
    for element in list.iter() {
        meter.work(2)?;
        match element.and_then(|element| equals(&element, wanted, meter)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(EvalError::Failed(why)) => failed = failed.or(Some(why)),
            Err(other) => return Err(other),
        }
    }
    failed.map_or(Ok(false), fail)
}

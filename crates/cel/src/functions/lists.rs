//! Functions on lists, maps and sets: Kubernetes' own and cel-go's extensions (`lists` of version 3, `sets`, what the
//! two-variable comprehensions need).

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::{Args, Fun, Outcome, arithmetic, compare};
use crate::ast::op;
use crate::error::{EvalError, fail, no_overload};
use crate::limits::MAX_MADE;
use crate::meter::Meter;
use crate::schema::ListKind;
use crate::value::{Key, List, Map, Value};

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "isSorted" => is_sorted,
        "sum" => |args| sum(args, &Value::Int(0)),
        "min" => |args| extreme(args, "min", Ordering::Greater),
        "max" => |args| extreme(args, "max", Ordering::Less),
        "slice" => slice,
        "flatten" => flatten,
        "distinct" => distinct,
        "reverse" => reverse,
        "sort" => |args| sort_by(args, 0),
        op::SORT_BY_KEYS => |args| sort_by(args, 1),
        "lists.range" => range,
        "first" => |args| end(args, |_| 0),
        "last" => |args| end(args, |len| len.saturating_sub(1)),
        "sets.contains" => |args| set_contains(args, 0, 1),
        "sets.equivalent" => set_equivalent,
        "sets.intersects" => set_intersects,
        op::MAP_INSERT => map_insert,
        _ => return None,
    })
}

/// Two lists in a row; lists that a schema calls sets or keyed take in what is new to them.
pub(super) fn concatenate<'a>(a: &List<'a>, b: &List<'a>, meter: &mut Meter) -> Outcome<'a> {
    meter.work(4 * (a.len() + b.len()))?;
    let mut elements = a.iter().collect::<Result<Vec<_>, _>>()?;
    match a.kind() {
        ListKind::Atomic => elements.extend(b.iter().collect::<Result<Vec<_>, _>>()?),
        ListKind::Set => {
            let mut known =
                elements.iter().map(|e| compare::identity(e, meter)).collect::<Result<HashSet<_>, _>>()?;
            for element in b.iter() {
                let element = element?;
                if known.insert(compare::identity(&element, meter)?) {
                    elements.push(element);
                }
            }
        }
        ListKind::Map(keys) => {
            let mut places = std::collections::HashMap::new();
            for (place, element) in elements.iter().enumerate() {
                places.insert(compare::list_key(element, keys, meter)?, place);
            }
            for element in b.iter() {
                let element = element?;
                match places.get(&compare::list_key(&element, keys, meter)?) {
                    Some(place) => elements[*place] = element,
                    None => elements.push(element),
                }
            }
        }
    }
    Ok(Value::List(List::Made { elements: Arc::new(elements), schema: a.schema() }))
}

pub(super) fn index_of<'a>(list: &List<'a>, wanted: &Value<'a>, meter: &mut Meter) -> Outcome<'a> {
    for (index, element) in list.iter().enumerate() {
        if is_equal(element?, wanted, meter)? {
            return Ok(Value::Int(i64::try_from(index).unwrap_or(i64::MAX)));
        }
    }
    Ok(Value::Int(-1))
}

pub(super) fn last_index_of<'a>(list: &List<'a>, wanted: &Value<'a>, meter: &mut Meter) -> Outcome<'a> {
    for index in (0..list.len()).rev() {
        if let Some(element) = list.get(index)?
            && is_equal(element, wanted, meter)?
        {
            return Ok(Value::Int(i64::try_from(index).unwrap_or(i64::MAX)));
        }
    }
    Ok(Value::Int(-1))
}

/// Equal for sure; what cannot be compared is not.
#[expect(clippy::needless_pass_by_value, reason = "elements come as values")]
fn is_equal<'a>(element: Value<'a>, wanted: &Value<'a>, meter: &mut Meter) -> Result<bool, EvalError> {
    meter.work(1)?;
    match compare::equals(&element, wanted, meter) {
        Err(EvalError::Failed(_)) => Ok(false),
        other => other,
    }
}

fn is_sorted<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let mut before: Option<Value<'a>> = None;
    for element in args.list(0)?.iter() {
        let element = element?;
        if let Some(before) = &before
            && compare::compare(before, &element, args.meter)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        before = Some(element);
    }
    Ok(Value::Bool(true))
}

/// The sum; `zero` is that of an empty list, whose type tells no better.
pub(crate) fn sum<'a>(args: &mut Args<'_, 'a>, zero: &Value<'a>) -> Outcome<'a> {
    let mut total: Option<Value<'a>> = None;
    for element in args.list(0)?.iter() {
        let element = element?;
        args.meter.work(1)?;
        total = Some(match total {
            None if matches!(
                element,
                Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)
            ) =>
            {
                element
            }
            None => return no_overload(),
            Some(total) => {
                let values = [total, element];
                arithmetic::add(&mut Args { values: &values, meter: args.meter })?
            }
        });
    }
    Ok(total.unwrap_or_else(|| zero.clone()))
}

fn extreme<'a>(args: &mut Args<'_, 'a>, name: &str, replaces: Ordering) -> Outcome<'a> {
    let mut found: Option<Value<'a>> = None;
    for element in args.list(0)?.iter() {
        let element = element?;
        found = Some(match found {
            None => element,
            Some(found) if compare::compare(&found, &element, args.meter)? == replaces => element,
            Some(found) => found,
        });
    }
    found.map_or_else(|| fail(format!("{name} called on empty list")), Ok)
}

fn slice<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (list, start, end) = (args.list(0)?, args.int(1)?, args.int(2)?);
    let wrong = |why: String| fail(format!("cannot slice({start}, {end}), {why}"));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return wrong("negative indexes not supported".to_owned());
    };
    if from > to {
        return wrong("start index must be less than or equal to end index".to_owned());
    }
    if list.len() < to {
        return wrong(format!("list is length {}", list.len()));
    }
    args.meter.work(to - from)?;
    let elements =
        (from..to).filter_map(|index| list.get(index).transpose()).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::from(elements))
}

fn flatten<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let list = args.list(0)?;
    let depth = if args.len() > 1 { args.int(1)? } else { 1 };
    if depth < 0 {
        return fail("level must be non-negative");
    }
    let mut flat = Vec::new();
    flatten_into(list, depth, &mut flat, args.meter)?;
    Ok(Value::from(flat))
}

fn flatten_into<'a>(
    list: &List<'a>,
    depth: i64,
    flat: &mut Vec<Value<'a>>,
    meter: &mut Meter,
) -> Result<(), EvalError> {
    for element in list.iter() {
        meter.work(4)?;
        match element? {
            // As deep as lists of a tree or a literal nest, which both have their limits.
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, flat, meter)?,
            other => flat.push(other),
        }
    }
    Ok(())
}

fn distinct<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let mut known = HashSet::new();
    let mut kept = Vec::new();
    for element in args.list(0)?.iter() {
        let element = element?;
        if known.insert(compare::identity(&element, args.meter)?) {
            kept.push(element);
        }
    }
    Ok(Value::from(kept))
}

fn reverse<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let list = args.list(0)?;
    args.meter.work(list.len())?;
    let mut elements = list.iter().collect::<Result<Vec<_>, _>>()?;
    elements.reverse();
    Ok(Value::from(elements))
}

/// The list ordered by the list of keys at `keys`.
fn sort_by<'a>(args: &mut Args<'_, 'a>, keys: usize) -> Outcome<'a> {
    let (list, keys) = (args.list(0)?, args.list(keys)?);
    if list.len() != keys.len() {
        return fail(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        ));
    }
    let mut pairs = Vec::with_capacity(list.len());
    for (key, element) in keys.iter().zip(list.iter()) {
        pairs.push((key?, element?));
    }
    let Some((first, _)) = pairs.first() else { return Ok(args.get(0).clone()) };
    if matches!(first, Value::List(_) | Value::Map(_) | Value::Null | Value::Type(_) | Value::Optional(_)) {
        return fail("list elements must be comparable");
    }
    if pairs.iter().any(|(key, _)| key.type_name() != first.type_name()) {
        return fail("list elements must have the same type");
    }
    let mut failed = None;
    pairs.sort_by(|(a, _), (b, _)| {
        compare::compare(a, b, args.meter).unwrap_or_else(|error| {
            failed = Some(error);
            Ordering::Equal
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(Value::from(pairs.into_iter().map(|(_, element)| element).collect::<Vec<_>>())),
    }
}

fn range<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let count = args.int(0)?.max(0);
    if usize::try_from(count).map_or(true, |count| count > MAX_MADE) {
        return fail(format!("lists.range: the result would have more than {MAX_MADE} elements"));
    }
    args.meter.work(usize::try_from(count).unwrap_or(usize::MAX) * 8)?;
    Ok(Value::from((0..count).map(Value::Int).collect::<Vec<_>>()))
}

fn end<'a>(args: &mut Args<'_, 'a>, index: fn(usize) -> usize) -> Outcome<'a> {
    let list = args.list(0)?;
    Ok(list.get(index(list.len()))?.map_or(Value::Optional(None), Value::some))
}

fn identities(list: &List<'_>, meter: &mut Meter) -> Result<HashSet<Vec<u8>>, EvalError> {
    list.iter().map(|element| compare::identity(&element?, meter)).collect()
}

/// Whether the list at `all` has each element of that at `some`.
fn set_contains<'a>(args: &mut Args<'_, 'a>, all: usize, some: usize) -> Outcome<'a> {
    let (all, some) = (args.list(all)?, args.list(some)?);
    let all = identities(all, args.meter)?;
    Ok(Value::Bool(identities(some, args.meter)?.is_subset(&all)))
}

fn set_equivalent<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (a, b) = (args.list(0)?, args.list(1)?);
    Ok(Value::Bool(identities(a, args.meter)? == identities(b, args.meter)?))
}

fn set_intersects<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (a, b) = (args.list(0)?, args.list(1)?);
    let a = identities(a, args.meter)?;
    Ok(Value::Bool(!identities(b, args.meter)?.is_disjoint(&a)))
}

fn map_insert<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let Value::Map(Map::Made(members)) = args.get(0) else { return no_overload() };
    args.meter.work(8 * members.len())?;
    let mut members = Arc::clone(members);
    insert_all(Arc::make_mut(&mut members), &args.values[1..])?;
    Ok(Value::Map(Map::Made(members)))
}

/// Adds a key and a value, or the members of a map.
pub(crate) fn insert_all<'a>(
    members: &mut std::collections::BTreeMap<Key<'a>, Value<'a>>,
    more: &[Value<'a>],
) -> Result<(), EvalError> {
    let mut insert = |key: &Value<'a>, value: Value<'a>| {
        let Some(made) = Key::of(key) else {
            return fail(format!("unsupported key type: {}", key.type_name()));
        };
        if members.contains_key(&made) {
            return fail(format!(
                "insert failed: key {} already exists",
                super::convert::show(key).unwrap_or_default()
            ));
        }
        members.insert(made, value);
        Ok(())
    };
    match more {
        [key, value] => insert(key, value.clone()),
        [Value::Map(map)] => {
            for key in map.keys() {
                if let Some(value) = map.find(&key)? {
                    insert(&key, value)?;
                }
            }
            Ok(())
        }
        _ => no_overload(),
    }
}

//! What calls cost when they run: by the sizes of what they get and give.

use super::range::{Range, scale};
use super::{AUTHORIZATION, LIST, OBJECT, PATTERN, TRAVERSAL};
use crate::error::EvalError;
use crate::functions::Args;
use crate::meter::Meter;
use crate::opaque::Opaque;
use crate::value::{Map, Value};

/// How a call's cost is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Price {
    Fixed(u64),
    /// A part of the size of the argument at an index.
    Argument(usize, f64),
    /// A part of the size of the result.
    Result(f64),
    /// Of going over all of the first argument.
    Traversal,
    /// Of both sizes.
    Sum,
    /// Of the smaller of both sizes.
    Smaller,
    /// Of `_==_`, which is the smaller but for values of the libraries.
    Equality,
    Contains,
    Pattern,
    /// Of `validate`, by the format's pattern.
    Format,
    Selector,
    /// Of an address or a prefix in a prefix; whether the inner one is a prefix, whether it is text.
    Containment(bool, bool),
    /// One for each element of the result.
    Elements,
    /// By the depth and the size of the list.
    Flatten,
    /// Of comparing the elements of the argument at an index with each other.
    Squared(usize),
    /// Of comparing the elements of two sets.
    Sets(f64),
}

impl Price {
    /// Of a call whose overload is known, or is not.
    pub(crate) fn of(function: &str, overload: Option<&str>) -> Self {
        let overload = overload.unwrap_or("");
        by_overload(overload)
            .or_else(|| by_function(function, overload))
            .unwrap_or_else(|| standard(overload))
    }

    pub(crate) fn cost(self, args: &Args<'_, '_>, result: &Value<'_>) -> u64 {
        let size = |index: usize| size(args.get(index));
        match self {
            Self::Fixed(cost) => cost,
            Self::Argument(index, factor) => scale(size(index), factor),
            Self::Result(factor) => scale(self::size(result), factor),
            Self::Traversal => traversal(args.get(0), 0),
            Self::Sum => scale(size(0).saturating_add(size(1)), TRAVERSAL),
            Self::Smaller => scale(size(0).min(size(1)), TRAVERSAL),
            Self::Equality if matches!(args.get(0), Value::Opaque(_)) => 1,
            Self::Equality => scale(size(0).min(size(1)), TRAVERSAL),
            Self::Contains => scale(size(0), TRAVERSAL).saturating_mul(scale(size(1), TRAVERSAL)),
            Self::Pattern => pattern(size(0), size(1)),
            Self::Format => match args.get(0) {
                Value::Opaque(Opaque::Format(format)) => pattern(size(1), format.pattern_size),
                _ => 1,
            },
            Self::Selector => selector(size(1)),
            Self::Containment(prefix, text) => {
                let outer = size(0);
                let mut cost = scale(outer * 2, TRAVERSAL);
                if prefix {
                    cost += scale(outer, TRAVERSAL) + 1;
                }
                cost + if text { scale(size(1), TRAVERSAL) } else { 0 }
            }
            Self::Elements => self::size(result).saturating_add(1 + LIST),
            Self::Flatten => {
                let depth = match args.get(1) {
                    Value::Int(depth) => u64::try_from(*depth).unwrap_or(0),
                    _ => 1,
                };
                size(0).saturating_mul(depth).saturating_add(1 + LIST)
            }
            Self::Squared(index) => squared(args.get(index)),
            Self::Sets(factor) => whole(size(0).saturating_mul(size(1)), factor).saturating_add(1),
        }
    }
}

/// The product, rounded down.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the model is one of doubles; a cast saturates"
)]
fn whole(value: u64, factor: f64) -> u64 {
    (value as f64 * factor) as u64
}

fn pattern(text: u64, pattern: u64) -> u64 {
    scale(text.saturating_add(1), TRAVERSAL).saturating_mul(scale(pattern, PATTERN))
}

#[expect(clippy::cast_precision_loss, reason = "they are small")]
fn selector(length: u64) -> u64 {
    let length = Range::fixed(length);
    let requirements = length.scaled(0.5).scaled((LIST + OBJECT) as f64);
    Range::fixed(LIST).plus(length.scaled(TRAVERSAL)).plus(requirements).max
}

fn squared(list: &Value<'_>) -> u64 {
    let count = size(list);
    let mut factor = 2.0;
    if let Value::List(list) = list
        && let Ok(Some(Value::String(_) | Value::Bytes(_))) = list.get(0)
    {
        factor += TRAVERSAL;
    }
    whole(count.saturating_mul(count), factor).saturating_add(1 + LIST)
}

fn by_overload(overload: &str) -> Option<Price> {
    Some(match overload {
        "list_slice" | "lists_range" | "list_reverse" => Price::Elements,
        "list_flatten" | "list_flatten_int" => Price::Flatten,
        "list_distinct" => Price::Squared(0),
        "list_sets_contains_list" | "list_sets_intersects_list" => Price::Sets(1.0),
        "list_sets_equivalent_list" => Price::Sets(2.0),
        _ if overload.ends_with("_sort") => Price::Squared(0),
        _ if overload.ends_with("_sortByAssociatedKeys") => Price::Squared(1),
        _ => return None,
    })
}

fn by_function(function: &str, overload: &str) -> Option<Price> {
    Some(match function {
        "check" => Price::Fixed(AUTHORIZATION),
        "fieldSelector" | "labelSelector" => Price::Selector,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Price::Traversal,
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => Price::Argument(0, TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => Price::Argument(0, 2.0 * TRAVERSAL),
        "join" => Price::Result(2.0 * TRAVERSAL),
        "find" | "findAll" => Price::Pattern,
        "ip" if overload == "cidr_ip" => Price::Fixed(1),
        "ip" => Price::Argument(0, TRAVERSAL),
        "containsIP" => Price::Containment(false, overload == "cidr_contains_ip_string"),
        "containsCIDR" => Price::Containment(true, overload == "cidr_contains_cidr_string"),
        "validate" => Price::Format,
        "_==_" => Price::Equality,
        _ => return None,
    })
}

fn standard(overload: &str) -> Price {
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => Price::Argument(0, TRAVERSAL),
        "in_list" => Price::Argument(1, 1.0),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "not_equals" => Price::Smaller,
        "add_string" | "add_bytes" => Price::Sum,
        "matches_string" => Price::Pattern,
        "contains_string" => Price::Contains,
        _ => Price::Fixed(1),
    }
}

/// How large the costs take a value to be.
pub(crate) fn size(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::List(list) => list.len() as u64,
        Value::Map(map) => map.len() as u64,
        Value::Optional(Some(value)) => size(value),
        Value::Opaque(opaque) => opaque.size(),
        _ => 1,
    }
}

const MAX_NESTING: usize = 200;

/// Of going over all of a value.
fn traversal(value: &Value<'_>, depth: usize) -> u64 {
    if depth > MAX_NESTING {
        return u64::MAX;
    }
    match value {
        Value::String(text) => whole(text.len() as u64, TRAVERSAL),
        Value::Bytes(bytes) => whole(bytes.len() as u64, TRAVERSAL),
        Value::List(list) => list.iter().fold(0, |sum: u64, element| {
            sum.saturating_add(element.map_or(1, |element| traversal(&element, depth + 1)))
        }),
        Value::Map(map) => map.keys().iter().fold(0, |sum: u64, key| {
            let value = map.find(key).ok().flatten().map_or(1, |value| traversal(&value, depth + 1));
            sum.saturating_add(traversal(key, depth + 1)).saturating_add(value)
        }),
        _ => 1,
    }
}

/// What counting the size of a value takes beyond the cost.
pub(crate) fn counting(value: &Value<'_>, meter: &mut Meter) -> Result<(), EvalError> {
    match value {
        Value::String(text) => meter.work(text.len() / 32),
        Value::Map(Map::Made(_)) => meter.work(1),
        _ => Ok(()),
    }
}

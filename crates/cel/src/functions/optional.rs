//! Values that may be missing. `or` and `orValue` are parts of the evaluator, since they may not look at their argument.

use super::{Args, Fun, Outcome};
use crate::error::{fail, no_overload};
use crate::value::Value;

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "optional.of" => |args| Ok(Value::some(args.get(0).clone())),
        "optional.ofNonZeroValue" => of_non_zero,
        "optional.none" => |_| Ok(Value::Optional(None)),
        "optional.unwrap" | "unwrapOpt" => unwrap,
        "hasValue" => has_value,
        "value" => value,
        _ => return None,
    })
}

fn of_non_zero<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let value = args.get(0);
    Ok(if is_zero(value) { Value::Optional(None) } else { Value::some(value.clone()) })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) | Value::Duration(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Timestamp(at) => at.seconds == -62_135_596_800 && at.nanos == 0,
        Value::Object(object) => object.fields.values().all(is_zero),
        Value::Type(_) | Value::Optional(_) | Value::Preserved(_) | Value::Opaque(_) => false,
    }
}

fn unwrap<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let list = args.list(0)?;
    args.meter.work(list.len())?;
    let mut present = Vec::new();
    for element in list.iter() {
        match element? {
            Value::Optional(Some(value)) => present.push((*value).clone()),
            Value::Optional(None) => {}
            other => return fail(format!("value {other:?} is not optional")),
        }
    }
    Ok(Value::from(present))
}

fn has_value<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match args.get(0) {
        Value::Optional(value) => Ok(Value::Bool(value.is_some())),
        _ => no_overload(),
    }
}

fn value<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match args.get(0) {
        Value::Optional(Some(value)) => Ok((**value).clone()),
        Value::Optional(None) => fail("optional.none() dereference"),
        _ => no_overload(),
    }
}

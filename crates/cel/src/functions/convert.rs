//! Conversions between types, `type`, `dyn` and `size`.

use std::sync::Arc;

use super::{Args, Fun, Outcome};
use crate::error::{fail, no_overload};
use crate::opaque::Opaque;
use crate::time::{self, Timestamp};
use crate::value::{Bytes, Str, Value};

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "int" => int,
        "uint" => uint,
        "double" => double,
        "string" => string,
        "bytes" => bytes,
        "bool" => bool,
        "timestamp" => timestamp,
        "duration" => duration,
        "dyn" => |args| Ok(args.get(0).clone()),
        "type" => |args| Ok(Value::Type(args.get(0).type_name().into())),
        "size" => size,
        _ => return None,
    })
}

fn no_conversion<'a>(from: &Value<'_>, to: &str) -> Outcome<'a> {
    fail(format!("type conversion error from '{}' to '{to}'", from.type_name()))
}

const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

fn int<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let made = match args.get(0) {
        Value::Int(value) => *value,
        Value::Uint(value) => match i64::try_from(*value) {
            Ok(value) => value,
            Err(_) => return fail("integer overflow"),
        },
        Value::Double(value) => {
            if !(*value > -TWO_63 && *value < TWO_63) {
                return fail("integer overflow");
            }
            #[expect(clippy::cast_possible_truncation, reason = "what is behind the point is cut off")]
            let value = *value as i64;
            value
        }
        from @ Value::String(text) => match text.parse() {
            Ok(value) => value,
            Err(_) => return no_conversion(from, "int"),
        },
        Value::Timestamp(at) => at.seconds,
        Value::Duration(nanos) => *nanos,
        _ => return no_overload(),
    };
    Ok(Value::Int(made))
}

fn uint<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let made = match args.get(0) {
        Value::Uint(value) => *value,
        Value::Int(value) => match u64::try_from(*value) {
            Ok(value) => value,
            Err(_) => return fail("unsigned integer overflow"),
        },
        Value::Double(value) => {
            if !(*value >= 0.0 && *value < TWO_64) {
                return fail("unsigned integer overflow");
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "what is behind the point is cut off"
            )]
            let value = *value as u64;
            value
        }
        from @ Value::String(text) => match text.parse::<u64>() {
            Ok(value) if !text.starts_with('+') => value,
            _ => return no_conversion(from, "uint"),
        },
        _ => return no_overload(),
    };
    Ok(Value::Uint(made))
}

#[expect(clippy::cast_precision_loss, reason = "what a double can hold of it is wanted")]
fn double<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let made = match args.get(0) {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        from @ Value::String(text) => match text.parse::<f64>() {
            Ok(value) if value.is_finite() || text.contains(['n', 'N']) => value,
            _ => return no_conversion(from, "double"),
        },
        _ => return no_overload(),
    };
    Ok(Value::Double(made))
}

fn string<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let value = args.get(0);
    match value {
        Value::String(_) => Ok(value.clone()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::from(text.to_owned())),
            Err(_) => fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::Opaque(Opaque::Ip(address)) => Ok(Value::from(address.to_string())),
        Value::Opaque(Opaque::Cidr(address, bits)) => Ok(Value::from(format!("{address}/{bits}"))),
        _ => match show(value) {
            Some(text) => Ok(Value::from(text)),
            None => no_overload(),
        },
    }
}

/// A scalar as text.
pub(crate) fn show(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => show_double(*value),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(nanos) => time::show_duration(*nanos),
        Value::Type(name) => name.to_string(),
        Value::String(text) => text.to_string(),
        Value::Null => "null".to_owned(),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.to_owned(),
        _ => return None,
    })
}

/// As Go's `%g`: the shortest digits, with an exponent where that is far from the digits.
fn show_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn bytes<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match args.get(0) {
        value @ Value::Bytes(_) => Ok(value.clone()),
        Value::String(Str::Borrowed(text)) => Ok(Value::Bytes(Bytes::Borrowed(text.as_bytes()))),
        Value::String(text) => Ok(Value::Bytes(Bytes::Shared(Arc::from(text.as_bytes())))),
        _ => no_overload(),
    }
}

fn bool<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match args.get(0) {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        from @ Value::String(text) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => no_conversion(from, "bool"),
        },
        _ => no_overload(),
    }
}

fn timestamp<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match args.get(0) {
        value @ Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => Timestamp::from_unix(*seconds).map(Value::Timestamp),
        from @ Value::String(text) => match Timestamp::read(text) {
            Some(at) => at.map(Value::Timestamp),
            None => no_conversion(from, "google.protobuf.Timestamp"),
        },
        _ => no_overload(),
    }
}

fn duration<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match args.get(0) {
        value @ Value::Duration(_) => Ok(value.clone()),
        Value::Int(nanos) => Ok(Value::Duration(*nanos)),
        from @ Value::String(text) => match time::parse_duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => no_conversion(from, "google.protobuf.Duration"),
        },
        _ => no_overload(),
    }
}

fn size<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let size = match args.get(0) {
        Value::String(text) => {
            args.meter.work(text.len() / 16)?;
            text.chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return no_overload(),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

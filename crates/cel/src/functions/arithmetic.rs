//! `+ - * / %`, and the two signs.

use std::sync::Arc;

use super::{Args, Fun, Outcome, lists};
use crate::ast::op;
use crate::error::{EvalError, fail, no_overload};
use crate::value::{Bytes, Str, Value};

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        op::ADD => add,
        op::SUBTRACT => subtract,
        op::MULTIPLY => multiply,
        op::DIVIDE => divide,
        op::MODULO => modulo,
        op::NEGATE => negate,
        op::NOT => not,
        _ => return None,
    })
}

fn int<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map_or_else(|| fail("integer overflow"), |value| Ok(Value::Int(value)))
}

fn uint<'a>(value: Option<u64>) -> Outcome<'a> {
    value.map_or_else(|| fail("unsigned integer overflow"), |value| Ok(Value::Uint(value)))
}

fn duration<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map_or_else(|| fail("integer overflow"), |value| Ok(Value::Duration(value)))
}

pub(crate) fn add<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match (args.get(0), args.get(1)) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            args.meter.work((a.len() + b.len()) / 16)?;
            let mut joined = String::with_capacity(a.len() + b.len());
            joined.push_str(a);
            joined.push_str(b);
            Ok(Value::String(Str::Shared(joined.into())))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            args.meter.work((a.len() + b.len()) / 16)?;
            let joined: Arc<[u8]> = a.iter().chain(b.iter()).copied().collect();
            Ok(Value::Bytes(Bytes::Shared(joined)))
        }
        (Value::List(a), Value::List(b)) => lists::concatenate(a, b, args.meter),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        (Value::Timestamp(at), Value::Duration(nanos)) | (Value::Duration(nanos), Value::Timestamp(at)) => {
            at.plus(*nanos).map(Value::Timestamp)
        }
        _ => no_overload(),
    }
}

fn subtract<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match (args.get(0), args.get(1)) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.minus(*b).map(Value::Duration),
        (Value::Timestamp(at), Value::Duration(nanos)) => {
            let Some(back) = nanos.checked_neg() else { return fail("integer overflow") };
            at.plus(back).map(Value::Timestamp)
        }
        _ => no_overload(),
    }
}

fn multiply<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match (args.get(0), args.get(1)) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_mul(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_mul(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => no_overload(),
    }
}

fn divide<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match (args.get(0), args.get(1)) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => fail("division by zero"),
        (Value::Int(a), Value::Int(b)) => int(a.checked_div(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_div(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => no_overload(),
    }
}

fn modulo<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match (args.get(0), args.get(1)) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => fail("modulus by zero"),
        (Value::Int(a), Value::Int(b)) => int(a.checked_rem(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_rem(*b)),
        _ => no_overload(),
    }
}

fn negate<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match args.get(0) {
        Value::Int(value) => int(value.checked_neg()),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(value) => duration(value.checked_neg()),
        _ => no_overload(),
    }
}

fn not<'a>(args: &mut Args<'_, 'a>) -> Result<Value<'a>, EvalError> {
    Ok(Value::Bool(!args.bool(0)?))
}

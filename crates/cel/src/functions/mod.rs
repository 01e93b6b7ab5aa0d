//! What functions do. Each is found by its name and tells by the values that it gets which of its overloads is meant: the
//! checker has made sure that there is one, unless a type was not known.

pub(crate) mod access;
pub(crate) mod arithmetic;
pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod format;
pub(crate) mod lists;
pub(crate) mod named;
pub(crate) mod net;
pub(crate) mod optional;
pub(crate) mod quantity;
pub(crate) mod search;
pub(crate) mod semver;
pub(crate) mod strings;
pub(crate) mod times;
pub(crate) mod url;

use crate::error::{EvalError, no_overload};
use crate::meter::Meter;
use crate::value::{List, Value};

/// What a call gives.
pub(crate) type Outcome<'a> = Result<Value<'a>, EvalError>;

/// A function.
pub(crate) type Fun = for<'c, 'a> fn(&mut Args<'c, 'a>) -> Outcome<'a>;

/// The arguments of a call, its target first, and the meter that it runs on.
pub(crate) struct Args<'c, 'a> {
    pub(crate) values: &'c [Value<'a>],
    pub(crate) meter: &'c mut Meter,
}

impl<'c, 'a> Args<'c, 'a> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The argument at `index`; null beyond the last, which no overload takes.
    pub(crate) fn get(&self, index: usize) -> &'c Value<'a> {
        self.values.get(index).unwrap_or(&Value::Null)
    }

    pub(crate) fn str(&self, index: usize) -> Result<&'c str, EvalError> {
        match self.get(index) {
            Value::String(text) => Ok(text),
            _ => no_overload(),
        }
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, EvalError> {
        match self.get(index) {
            Value::Int(value) => Ok(*value),
            _ => no_overload(),
        }
    }

    pub(crate) fn bool(&self, index: usize) -> Result<bool, EvalError> {
        match self.get(index) {
            Value::Bool(value) => Ok(*value),
            _ => no_overload(),
        }
    }

    pub(crate) fn list(&self, index: usize) -> Result<&'c List<'a>, EvalError> {
        match self.get(index) {
            Value::List(list) => Ok(list),
            _ => no_overload(),
        }
    }
}

/// The function of this name. Operators that the evaluator has parts of its own for are not among them.
pub(crate) fn lookup(name: &str) -> Option<Fun> {
    arithmetic::lookup(name)
        .or_else(|| compare::lookup(name))
        .or_else(|| convert::lookup(name))
        .or_else(|| strings::lookup(name))
        .or_else(|| lists::lookup(name))
        .or_else(|| times::lookup(name))
        .or_else(|| optional::lookup(name))
        .or_else(|| search::lookup(name))
        .or_else(|| net::lookup(name))
        .or_else(|| url::lookup(name))
        .or_else(|| quantity::lookup(name))
        .or_else(|| semver::lookup(name))
        .or_else(|| named::lookup(name))
        .or_else(|| access::lookup(name))
}

//! kubectl's dialect of JSONPath, as columns of custom resources use it: `.spec.list[?(@.type=="A")].value`.
//!
//! Fields, indexes, slices, unions, wildcards, recursive descent and filters are understood. An expression comes from
//! whoever may create a `CustomResourceDefinition`, so reading is bounded by [`MAX_LENGTH`] and finding by [`MAX_STEPS`]:
//! an expression that takes more finds nothing. Filters and unions end at the first bracket and so cannot nest.

mod eval;
mod parse;

use thiserror::Error;

use crate::Value;

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 4_096;
/// How many values one evaluation may touch.
pub const MAX_STEPS: usize = 20_000;

/// An expression that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// One step of a path; each takes a list of values to another.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Slice(Slice),
    Union(Vec<Vec<Step>>),
    Filter {
        left: Vec<Step>,
        test: Test,
    },
    /// A constant, in filters.
    Literal(Value),
    /// A word that means nothing in a column. It can be written down, but finds nothing.
    Word,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Compare(Operator, Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// `[start:end:step]`; negative numbers count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    step: Option<i64>,
    /// `[n]`: the one element.
    single: bool,
}

/// Why an expression cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum JsonPathError {
    /// The text is over [`MAX_LENGTH`].
    #[error("is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// A bracket, filter or quote is left open.
    #[error("has an unterminated {0}")]
    Unterminated(&'static str),
    /// What stands between brackets is neither an index, a slice, a quoted name nor a filter.
    #[error("has an invalid array index {0:?}")]
    Index(String),
    /// A character that starts nothing.
    #[error("has an unrecognized character {0:?}")]
    Character(char),
    /// A number that is none.
    #[error("cannot parse number {0:?}")]
    Number(String),
    /// An operator of a filter that there is not.
    #[error("has an unrecognized filter operator {0:?}")]
    Operator(String),
    /// `..` twice in a row.
    #[error("has an invalid multiple recursive descent")]
    Recursive,
}

impl JsonPath {
    /// Reads an expression, without the braces that it has on kubectl's command line.
    ///
    /// # Errors
    /// Text that is no expression, or over the limits.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        if text.len() > MAX_LENGTH {
            return Err(JsonPathError::TooLong);
        }
        parse::steps(text).map(|steps| Self { steps })
    }

    /// The first value that the expression finds; `None` if it finds nothing or does not suit the object.
    #[must_use]
    pub fn first<'a>(&'a self, object: &'a Value) -> Option<&'a Value> {
        eval::find(&self.steps, object)?.into_iter().next()
    }

    /// All values that the expression finds, in order; nothing if it does not suit the object.
    #[must_use]
    pub fn all<'a>(&'a self, object: &'a Value) -> Vec<&'a Value> {
        eval::find(&self.steps, object).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

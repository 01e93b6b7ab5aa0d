//! What a field is in each of two versions.

use std::sync::Arc;

use xebec_cel::{Budget, Program, Schema, Value as CelValue};

use super::field::Field;
use super::tree;
use crate::{Value, json};

/// A rule between two versions, side 0 and side 1.
#[derive(Debug)]
pub(super) enum Rule {
    /// The field stands elsewhere.
    Move {
        fields: [Field; 2],
        /// Values that are called otherwise; none: all are the same.
        values: Vec<[Value; 2]>,
        /// What differs in each element of the list that it is.
        each: Vec<Rule>,
    },
    /// Fields of each side are computed from the other side's object.
    Compute([Vec<Computed>; 2]),
    /// A field that one side alone has.
    Only { side: usize, field: Field, default: Option<Value> },
}

/// A field and what it is.
pub(super) struct Computed {
    pub(super) field: Field,
    pub(super) program: Program,
    /// How the other side's object is read.
    pub(super) schema: Option<Arc<Schema>>,
}

impl std::fmt::Debug for Computed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.field)
    }
}

/// A rule that cannot be followed.
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) why: String,
}

impl Rule {
    /// The fields of a side.
    pub(super) fn fields(&self, side: usize) -> Vec<&Field> {
        match self {
            Self::Move { fields, .. } => vec![&fields[side]],
            Self::Compute(sides) => sides[side].iter().map(|computed| &computed.field).collect(),
            Self::Only { side: own, field, .. } if *own == side => vec![field],
            Self::Only { .. } => Vec::new(),
        }
    }

    fn write(&self, to: usize, source: &Value, out: &mut Value, budget: &mut Budget) -> Result<(), Fault> {
        let from = 1 - to;
        match self {
            Self::Only { .. } => Ok(()),
            Self::Move { fields, values, each } => {
                let Some(value) = fields[from].get(source) else { return Ok(()) };
                let value =
                    renamed(value, values, to).map_err(|why| Fault { field: fields[to].to_string(), why })?;
                fields[to].set(out, in_each(each, to, value, budget)?);
                Ok(())
            }
            Self::Compute(sides) => {
                let there = |computed: &Computed| computed.field.get(source).is_some();
                if !sides[from].is_empty() && !sides[from].iter().any(there) {
                    return Ok(());
                }
                sides[to].iter().try_for_each(|computed| {
                    let value = computed.value(source, budget);
                    let value = value.map_err(|why| Fault { field: computed.field.to_string(), why })?;
                    value.into_iter().for_each(|value| computed.field.set(out, value));
                    Ok(())
                })
            }
        }
    }
}

impl Computed {
    fn value(&self, source: &Value, budget: &mut Budget) -> Result<Option<Value>, String> {
        let source = CelValue::of_tree(source, self.schema.as_deref()).map_err(|error| error.to_string())?;
        let value = self.program.evaluate(&[source], budget).map_err(|error| error.to_string())?;
        tree::of(&value)
    }
}

/// Makes of `out`, which is a copy of `source`, what it is on the side `to`.
pub(super) fn apply(
    rules: &[Rule],
    to: usize,
    source: &Value,
    out: &mut Value,
    budget: &mut Budget,
) -> Result<(), Fault> {
    for rule in rules {
        rule.fields(1 - to).into_iter().for_each(|field| field.remove(out));
    }
    rules.iter().try_for_each(|rule| rule.write(to, source, out, budget))
}

/// Gives absent fields of the side their defaults.
pub(super) fn fill(rules: &[Rule], to: usize, out: &mut Value) {
    for rule in rules {
        if let Rule::Only { side, field, default: Some(default) } = rule
            && *side == to
            && field.get(out).is_none()
        {
            field.set(out, default.clone());
        }
    }
}

fn renamed(value: &Value, values: &[[Value; 2]], to: usize) -> Result<Value, String> {
    if values.is_empty() {
        return Ok(value.clone());
    }
    let pair = values.iter().find(|pair| pair[1 - to] == *value);
    pair.map(|pair| pair[to].clone()).ok_or_else(|| {
        let text = String::from_utf8_lossy(&json::to_vec(value)).into_owned();
        format!("the value {text} has no counterpart among the rule's values")
    })
}

fn in_each(rules: &[Rule], to: usize, value: Value, budget: &mut Budget) -> Result<Value, Fault> {
    let Value::Array(items) = value else { return Ok(value) };
    if rules.is_empty() {
        return Ok(Value::Array(items));
    }
    let mut made = Vec::with_capacity(items.len());
    for item in items {
        let mut out = item.clone();
        if item.as_object().is_some() {
            apply(rules, to, &item, &mut out, budget)?;
        }
        made.push(out);
    }
    Ok(Value::Array(made))
}

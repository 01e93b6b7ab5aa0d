//! Follows steps through an object.

use std::cmp::Ordering;

use super::{MAX_STEPS, Operator, Slice, Step, Test};
use crate::Value;

/// The values that `steps` lead to; `None` if a step does not suit its values, or over [`MAX_STEPS`].
pub(super) fn find<'a>(steps: &'a [Step], object: &'a Value) -> Option<Vec<&'a Value>> {
    Search { left: MAX_STEPS }.steps(steps, vec![object])
}

struct Search {
    /// How many values may still be touched.
    left: usize,
}

impl Search {
    fn spend(&mut self, values: usize) -> Option<()> {
        self.left = self.left.checked_sub(values)?;
        Some(())
    }

    fn steps<'a>(&mut self, steps: &'a [Step], input: Vec<&'a Value>) -> Option<Vec<&'a Value>> {
        steps.iter().try_fold(input, |values, step| {
            self.spend(1 + values.len())?;
            self.step(step, &values)
        })
    }

    fn step<'a>(&mut self, step: &'a Step, input: &[&'a Value]) -> Option<Vec<&'a Value>> {
        match step {
            Step::Field(name) => Some(input.iter().filter_map(|v| v.get(name)).collect()),
            Step::Wildcard => {
                let children: Vec<&Value> = input.iter().flat_map(|v| children(v)).collect();
                self.spend(children.len())?;
                Some(children)
            }
            Step::Recursive => {
                let mut found = Vec::new();
                input.iter().try_for_each(|v| self.descend(v, &mut found))?;
                Some(found)
            }
            Step::Slice(slice) => {
                let mut found = Vec::new();
                for value in input.iter().filter(|v| !v.is_null()) {
                    found.extend(elements(*slice, value.as_array()?)?);
                }
                self.spend(found.len())?;
                Some(found)
            }
            Step::Union(parts) => {
                let mut found = Vec::new();
                for part in parts {
                    found.extend(self.steps(part, input.to_vec())?);
                }
                Some(found)
            }
            Step::Filter { left, test } => {
                let mut found = Vec::new();
                for value in input {
                    self.filter(value.as_array()?, left, test, &mut found)?;
                }
                Some(found)
            }
            Step::Literal(value) => Some(input.iter().map(|_| value).collect()),
            Step::Word => None,
        }
    }

    /// A value that has children, then each of these in turn.
    fn descend<'a>(&mut self, value: &'a Value, found: &mut Vec<&'a Value>) -> Option<()> {
        let children = children(value);
        self.spend(1 + children.len())?;
        if !children.is_empty() {
            found.push(value);
        }
        children.into_iter().try_for_each(|child| self.descend(child, found))
    }

    fn filter<'a>(
        &mut self,
        items: &'a [Value],
        left: &'a [Step],
        test: &'a Test,
        found: &mut Vec<&'a Value>,
    ) -> Option<()> {
        for item in items {
            self.spend(1)?;
            let lefts = self.steps(left, vec![item]);
            let passes = match test {
                Test::Exists => lefts.is_some_and(|l| !l.is_empty()),
                Test::Compare(operator, right) => {
                    match (lefts?.as_slice(), self.steps(right, vec![item])?.as_slice()) {
                        ([left], [right]) => compare(*operator, left, right)?,
                        ([], _) | (_, []) => false,
                        _ => return None,
                    }
                }
            };
            if passes {
                found.push(item);
            }
        }
        Some(())
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    }
}

/// The elements of a slice; `None` if an index is outside of the list.
fn elements(slice: Slice, items: &[Value]) -> Option<Vec<&Value>> {
    let len = i64::try_from(items.len()).ok()?;
    let from_end = |index: i64| if index < 0 { index + len } else { index };
    let start = from_end(slice.start.unwrap_or(0));
    let end = if slice.single { start + 1 } else { from_end(slice.end.unwrap_or(len)) };
    if start == end {
        return Some(Vec::new());
    }
    let step = slice.step.unwrap_or(1);
    let inside = (0..len).contains(&start) && start < end && end <= len && step > 0;
    inside.then_some(())?;
    let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
    Some(items[range].iter().step_by(usize::try_from(step).ok()?).collect())
}

/// Values of one kind only can be compared, and only numbers and strings have an order.
fn compare(operator: Operator, left: &Value, right: &Value) -> Option<bool> {
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Bool(a), Value::Bool(b)) => {
            return match operator {
                Operator::Equal => Some(a == b),
                Operator::NotEqual => Some(a != b),
                _ => None,
            };
        }
        _ => None,
    }?;
    Some(match operator {
        Operator::Equal => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        Operator::GreaterOrEqual => order != Ordering::Less,
    })
}

//! A total order of JSON values: what makes sets of list elements canonical.
//!
//! Numbers compare by value whatever their type, so `1` and `1.0` are one element.

use std::cmp::Ordering;

use crate::{Map, Value};

/// Whether two values mean the same: equal trees, numbers compared by value.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|((k, a), (l, b))| k == l && same(a, b))
        }
        _ => compare(a, b).is_eq(),
    }
}

/// Numbers before strings before booleans before lists before maps before null.
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        // Adding zero makes -0.0 and 0.0 one number.
        (Value::Float(a), Value::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
        (Value::Int(a), Value::Float(b)) => compare_mixed(*a, *b),
        (Value::Float(a), Value::Int(b)) => compare_mixed(*b, *a).reverse(),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => compare_lists(a, b),
        (Value::Object(a), Value::Object(b)) => compare_maps(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Exact, not by rounding the integer: sorting needs an order that is transitive.
#[expect(clippy::cast_possible_truncation, reason = "guarded by the range checks")]
fn compare_mixed(int: i64, float: f64) -> Ordering {
    const TOP: f64 = 9_223_372_036_854_775_808.0;
    if float >= TOP {
        Ordering::Less
    } else if float < -TOP {
        Ordering::Greater
    } else {
        int.cmp(&(float.trunc() as i64)).then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0)))
    }
}

fn compare_lists(a: &[Value], b: &[Value]) -> Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| compare(a, b));
    pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
}

fn compare_maps(a: &Map, b: &Map) -> Ordering {
    let pairs = a.iter().zip(b.iter()).map(|((k, a), (l, b))| k.cmp(l).then_with(|| compare(a, b)));
    pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Int(_) | Value::Float(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn values_have_one_order() {
        let sorted = [
            Value::Float(-9.3e18),
            Value::Float(-3.5),
            object!(-3),
            Value::Float(-2.5),
            object!(0),
            Value::Float(1.5),
            object!(2),
            object!(9_007_199_254_740_992_i64),
            object!(9_007_199_254_740_993_i64),
            Value::Float(9_007_199_254_740_994.0),
            object!(i64::MAX),
            Value::Float(9.3e18),
            object!("10"),
            object!("9"),
            object!(false),
            object!(true),
            object!([]),
            object!([1]),
            object!([1, 2]),
            object!([2]),
            object!({}),
            object!({"a": 1}),
            object!({"a": 1, "b": 1}),
            object!({"a": 2}),
            Value::Null,
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a:?} {b:?}");
                assert_eq!(same(a, b), i == j, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn numbers_are_the_same_by_value() {
        assert!(same(
            &object!({"a": [1]}),
            &Value::from(Map::from_iter([("a".into(), Value::Array(vec![Value::Float(1.0)]))]))
        ));
        assert!(same(&Value::Float(-0.0), &Value::Int(0)));
        assert!(!same(&object!("1"), &Value::Int(1)));
    }
}

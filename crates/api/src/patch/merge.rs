//! JSON merge patch, RFC 7386.
//!
//! A null takes a member away. Nulls inside what a patch adds are left out, also in the objects of lists, but not in a list
//! that takes the place of an object: as the library does that Kubernetes uses.

use crate::error::Status;
use crate::{Key, Map, Value};

/// A merge patch that is none.
#[derive(Debug, thiserror::Error)]
#[error("Invalid JSON Patch: a merge patch is an object, got {found}")]
pub struct MergePatchError {
    found: &'static str,
}

impl From<MergePatchError> for Status {
    fn from(error: MergePatchError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// Merges `patch` into `object`.
///
/// # Errors
/// A patch that is no object.
pub fn apply(mut object: Value, patch: Value) -> Result<Value, MergePatchError> {
    let Value::Object(patch) = patch else { return Err(MergePatchError { found: patch.type_name() }) };
    merge(object.make_object(), patch);
    Ok(object)
}

fn merge(object: &mut Map, patch: Map) {
    let (mut gone, mut new): (Vec<Key>, Vec<(Key, Value)>) = (Vec::new(), Vec::new());
    for (key, value) in patch {
        match (object.get_mut(&key), value) {
            (Some(_), Value::Null) => gone.push(key),
            (None, Value::Null) => {}
            (Some(Value::Object(old)), Value::Object(value)) => merge(old, value),
            (Some(old @ Value::Object(_)), list @ Value::Array(_)) => *old = list,
            (Some(old), value) => *old = without_nulls(value),
            (None, value) => new.push((key, without_nulls(value))),
        }
    }
    remove_all(object, &gone);
    object.extend(new);
}

/// Takes members away whose keys are sorted; many of them in one pass.
pub(super) fn remove_all(object: &mut Map, sorted: &[Key]) {
    match sorted {
        [] => {}
        [one] => drop(object.remove(one)),
        many => object.retain(|key, _| many.binary_search_by(|gone| gone.as_str().cmp(key)).is_err()),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let members = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(members.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn tree(text: &str) -> Value {
        json::from_slice(text.as_bytes()).expect(text)
    }

    #[test]
    fn patches_merge() {
        let check = |object: &str, patch: &str, want: &str| {
            let got = apply(tree(object), tree(patch)).expect(patch);
            assert_eq!(got, tree(want), "{object} + {patch}");
        };
        check(r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#);
        check(r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#);
        check(r#"{"a":"b","b":1}"#, r#"{"a":null,"z":null}"#, r#"{"b":1}"#);
        check(
            r#"{"a":{"b":1,"c":2}}"#,
            r#"{"a":{"b":3,"c":null,"d":{"e":null,"f":1}}}"#,
            r#"{"a":{"b":3,"d":{"f":1}}}"#,
        );
        check(r#"{"a":[1,2]}"#, r#"{"a":[3]}"#, r#"{"a":[3]}"#);
        check(r#"{"a":1}"#, r#"{"a":{"b":{"c":null}}}"#, r#"{"a":{"b":{}}}"#);
        check(r#"{"a":{"b":1}}"#, r#"{"a":"x"}"#, r#"{"a":"x"}"#);
        check(r#"{"a":1}"#, r#"{"a":[{"c":null,"d":1},null]}"#, r#"{"a":[{"d":1},null]}"#);
        check(r#"{"a":{"b":1}}"#, r#"{"a":[{"c":null,"d":1},null]}"#, r#"{"a":[{"c":null,"d":1},null]}"#);
        check(r#"{"a":null}"#, r#"{"b":1}"#, r#"{"a":null,"b":1}"#);
        check("{}", "{}", "{}");
    }

    #[test]
    fn many_members_come_and_go_at_once() {
        let members = |range: std::ops::Range<i64>, value: &dyn Fn(i64) -> Value| -> Value {
            Value::Object(range.map(|i| (Key::from(format!("k{i:05}")), value(i))).collect())
        };
        let object = members(0..20_000, &|i| Value::Int(i));
        let patch = members(10_000..30_000, &|i| if i % 2 == 0 { Value::Null } else { Value::Int(-i) });
        let got = apply(object, patch).expect("an object");
        assert_eq!(got.as_object().map(Map::len), Some(10_000 + 10_000));
        assert_eq!(got.i64_at(&["k29999"]), Some(-29_999));
    }

    #[test]
    fn other_patches_are_refused() {
        for patch in ["[]", "1", "null", r#""x""#] {
            let error = apply(tree("{}"), tree(patch)).expect_err(patch);
            assert_eq!(Status::from(error).code(), 400);
        }
    }
}

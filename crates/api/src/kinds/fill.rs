//! Declared defaults: tables of "an absent field at this path gets this value".
//!
//! A path is field names joined by dots; `ports[*]` goes through the elements of a list, and `strategy!` makes the object
//! that is not there, as fields of the API do that cannot be absent. Where a parent is absent otherwise, or is no object,
//! a row does nothing.

use crate::Value;

/// What a row gives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given {
    Bool(bool),
    Int(i64),
    Text(&'static str),
    /// An empty object.
    Object,
}

impl Given {
    fn value(self) -> Value {
        match self {
            Self::Bool(b) => b.into(),
            Self::Int(i) => i.into(),
            Self::Text(t) => t.into(),
            Self::Object => Value::object(),
        }
    }
}

/// One default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    path: &'static str,
    given: Given,
    zero_is_absent: bool,
}

/// A default for a field that is absent; `""` and `0` are values.
pub(super) const fn absent(path: &'static str, given: Given) -> Row {
    Row { path, given, zero_is_absent: false }
}

/// A default for a field whose `""` or `0` means nothing, as an absent one.
pub(super) const fn empty(path: &'static str, given: Given) -> Row {
    Row { path, given, zero_is_absent: true }
}

/// `empty` with a text: most defaults of enumerations.
pub(super) const fn text(path: &'static str, given: &'static str) -> Row {
    empty(path, Given::Text(given))
}

/// Gives `root` the defaults that `rows` declare, in their order.
pub(super) fn fill(root: &mut Value, rows: &[Row]) {
    for row in rows {
        let (parents, name) = row.path.rsplit_once('.').unwrap_or(("", row.path));
        each(root, parents, &mut |parent| row.give(parent, name));
    }
}

impl Row {
    fn give(&self, parent: &mut Value, name: &str) {
        let Some(map) = parent.as_object_mut() else { return };
        if map.get(name).is_none_or(|v| v.is_null() || (self.zero_is_absent && is_zero(v))) {
            map.insert(name, self.given.value());
        }
    }
}

/// Calls `f` with every value at `path`, in the grammar of this module. The empty path is `root` itself.
pub(super) fn each(root: &mut Value, path: &str, f: &mut dyn FnMut(&mut Value)) {
    if path.is_empty() {
        return f(root);
    }
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    if let Some(name) = step.strip_suffix("[*]") {
        let items = root.get_mut(name).and_then(Value::as_array_mut);
        items.into_iter().flatten().for_each(|item| each(item, rest, f));
    } else if let Some(name) = step.strip_suffix('!') {
        if let Some(map) = root.as_object_mut() {
            let member = map.entry(name);
            if member.is_null() {
                *member = Value::object();
            }
            each(member, rest, f);
        }
    } else if let Some(member) = root.get_mut(step) {
        each(member, rest, f);
    }
}

/// Whether a value is what an absent string or number would be.
pub(super) fn is_zero(value: &Value) -> bool {
    matches!(value, Value::Int(0)) || value.as_str() == Some("")
}

/// Whether the field is absent, or is what an absent string or number would be.
pub(super) fn is_unset(object: &Value, name: &str) -> bool {
    object.get(name).is_none_or(|v| v.is_null() || is_zero(v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn rows_fill() {
        let check = |rows: &[Row], mut value: Value, want: Value| {
            fill(&mut value, rows);
            assert_eq!(value, want);
        };
        let tcp = [text("spec.ports[*].protocol", "TCP")];
        check(&tcp, object!({}), object!({}));
        check(&tcp, object!({"spec": {"ports": 3}}), object!({"spec": {"ports": 3}}));
        check(
            &tcp,
            object!({"spec": {"ports": [{}, {"protocol": "UDP"}, {"protocol": ""}, 1]}}),
            object!({"spec": {"ports": [{"protocol": "TCP"}, {"protocol": "UDP"}, {"protocol": "TCP"}, 1]}}),
        );
        let made = [absent("spec!.strategy!.n", Given::Int(1))];
        check(&made, object!({}), object!({"spec": {"strategy": {"n": 1}}}));
        check(&made, object!({"spec": {"strategy": {"n": 0}}}), object!({"spec": {"strategy": {"n": 0}}}));
        check(&made, object!({"spec": "x"}), object!({"spec": "x"}));
    }
}

//! The tree that every object is while it is worked on.
//!
//! Numbers follow Kubernetes' reading of JSON: an integer that fits `i64` is an [`Value::Int`], any other number is a
//! [`Value::Float`]. Objects keep their keys sorted, so equal trees have equal bytes.

use std::fmt;

use crate::Map;

/// A field name. Inline up to 24 bytes, which nearly all field names of the API are.
pub type Key = compact_str::CompactString;

/// A JSON value.
#[derive(Clone, Default, PartialEq)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction or exponent that fits 64 signed bits.
    Int(i64),
    /// Any other number; never NaN or infinite, which JSON cannot hold.
    Float(f64),
    /// A string.
    String(Key),
    /// An array.
    Array(Vec<Value>),
    /// An object, keys sorted and unique.
    Object(Map),
}

impl Value {
    /// An empty object.
    #[must_use]
    pub fn object() -> Self {
        Self::Object(Map::new())
    }

    /// What the value is, in the words of JSON: for error messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) => "integer",
            Self::Float(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Whether the value is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The integer; a float without a fraction counts as one.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "guarded by the range check")]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 9.0e15 => Some(*f as i64),
            _ => None,
        }
    }

    /// The array's elements, if it is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(a) => Some(a),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::Array(a) => Some(a),
            _ => None,
        }
    }

    /// The object, if it is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(m) => Some(m),
            _ => None,
        }
    }

    /// The object, if it is one.
    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Object(m) => Some(m),
            _ => None,
        }
    }

    /// The member `key` of an object; `None` for anything else.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    /// The member `key` of an object; `None` for anything else.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_object_mut()?.get_mut(key)
    }

    /// Follows object members along `path`.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |v, key| v.get(key))
    }

    /// Follows object members along `path` to a string.
    #[must_use]
    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// Follows object members along `path` to a boolean.
    #[must_use]
    pub fn bool_at(&self, path: &[&str]) -> Option<bool> {
        self.at(path)?.as_bool()
    }

    /// Follows object members along `path` to an integer.
    #[must_use]
    pub fn i64_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path)?.as_i64()
    }

    /// The elements of the array at `path`; empty if there is none.
    #[must_use]
    pub fn array_at(&self, path: &[&str]) -> &[Value] {
        self.at(path).and_then(Self::as_array).unwrap_or_default()
    }

    /// The object at `path`, if there is one.
    #[must_use]
    pub fn object_at(&self, path: &[&str]) -> Option<&Map> {
        self.at(path)?.as_object()
    }

    /// Makes this an object if it is none yet, and gives it.
    pub fn make_object(&mut self) -> &mut Map {
        if !matches!(self, Self::Object(_)) {
            *self = Self::object();
        }
        match self {
            Self::Object(m) => m,
            _ => unreachable!("just made an object"),
        }
    }

    /// The member `key`, made `null` if absent; whatever this was before, it is an object afterwards.
    pub fn entry(&mut self, key: &str) -> &mut Value {
        self.make_object().entry(key)
    }

    /// The value at `path`, objects being made on the way and `null` at its end if absent.
    pub fn make(&mut self, path: &[&str]) -> &mut Value {
        path.iter().fold(self, |v, key| v.entry(key))
    }

    /// Sets the value at `path`, objects being made on the way.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        *self.make(path) = value.into();
    }

    /// Takes the value at `path` out of the tree. Emptied parents stay.
    pub fn remove_at(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let parent = parents.iter().try_fold(self, |v, key| v.get_mut(key))?;
        parent.as_object_mut()?.remove(last)
    }

    /// Takes the value out, leaving `null`.
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&crate::json::to_vec(self)))
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}

impl From<i32> for Value {
    fn from(v: i32) -> Self {
        Self::Int(v.into())
    }
}

impl From<u32> for Value {
    fn from(v: u32) -> Self {
        Self::Int(v.into())
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::String(v.into())
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::String(v.into())
    }
}

impl From<Key> for Value {
    fn from(v: Key) -> Self {
        Self::String(v)
    }
}

impl From<Map> for Value {
    fn from(v: Map) -> Self {
        Self::Object(v)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(v: Vec<T>) -> Self {
        Self::Array(v.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

/// Builds a [`Value`] from JSON-like text with Rust expressions in value position.
///
/// ```
/// # use xebec_api::object;
/// let v = object!({"kind": "Pod", "spec": {"ports": [80, 443], "name": (format!("a-{}", 1))}});
/// assert_eq!(v.str_at(&["spec", "name"]), Some("a-1"));
/// ```
#[macro_export]
macro_rules! object {
    (null) => { $crate::Value::Null };
    ([ $($item:tt),* $(,)? ]) => { $crate::Value::Array(vec![ $( $crate::object!($item) ),* ]) };
    ({ $($key:literal : $value:tt),* $(,)? }) => {
        $crate::Value::Object($crate::Map::from_iter([ $( ($crate::Key::from($key), $crate::object!($value)) ),* ]))
    };
    ($value:expr) => { $crate::Value::from($value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_and_write() {
        let mut v = object!({"metadata": {"name": "a"}, "spec": {"n": 3}});
        assert_eq!(v.str_at(&["metadata", "name"]), Some("a"));
        assert_eq!(v.i64_at(&["spec", "n"]), Some(3));
        assert_eq!(v.at(&["spec", "n", "x"]), None);
        v.set(&["status", "phase"], "Running");
        assert_eq!(v.str_at(&["status", "phase"]), Some("Running"));
        assert_eq!(v.remove_at(&["spec", "n"]), Some(Value::Int(3)));
        assert_eq!(v.remove_at(&["absent", "n"]), None);
    }
}

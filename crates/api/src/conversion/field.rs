//! Where a field is: names that lead to it, and perhaps the first element of the list there.

use std::fmt;

use crate::Value;

/// How many names a path may have.
const MAX_STEPS: usize = 32;

/// A field's place in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    names: Vec<String>,
    /// Whether it is the first element of the list there.
    first: bool,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.names.join("."), if self.first { "[0]" } else { "" })
    }
}

impl Field {
    /// Reads `spec.images[0]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (path, first) = match text.strip_suffix("[0]") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let names: Vec<String> = path.split('.').map(str::to_owned).collect();
        let plain = |name: &String| !name.is_empty() && !name.contains(['[', ']', '"', ' ']);
        if !names.iter().all(plain) || names.len() > MAX_STEPS {
            return Err(format!(
                "{text:?} is no path of a field: it is at most {MAX_STEPS} names with dots between them, at the end perhaps [0]"
            ));
        }
        Ok(Self { names, first })
    }

    /// Whether it leads to what every object has.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self.names[0].as_str(), "apiVersion" | "kind" | "metadata")
    }

    pub(super) const fn is_first(&self) -> bool {
        self.first
    }

    fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// Whether one of the two is the other, or within it.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.names.iter().zip(&other.names).all(|(a, b)| a == b)
    }

    /// The schema of the field, below the one of an object; `None`: the object has no such field.
    pub(super) fn schema<'s>(&self, object: &'s Value) -> Option<&'s Value> {
        static ANY: Value = Value::Null;
        let mut schema = object;
        for name in &self.names {
            let known = schema.object_at(&["properties"]).and_then(|all| all.get(name));
            let other = schema.get("additionalProperties").filter(|each| each.as_object().is_some());
            schema = match known.or(other) {
                Some(below) => below,
                None if schema.bool_at(&["x-kubernetes-preserve-unknown-fields"]) == Some(true) => {
                    return Some(&ANY);
                }
                None => return None,
            };
        }
        if self.first { schema.get("items") } else { Some(schema) }
    }

    /// The value there.
    pub(super) fn get<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        let value = object.at(&self.names()).filter(|value| !value.is_null())?;
        if self.first { value.as_array()?.first() } else { Some(value) }
    }

    /// Puts a value there.
    pub(super) fn set(&self, object: &mut Value, value: Value) {
        let value = if self.first { Value::Array(vec![value]) } else { value };
        object.set(&self.names(), value);
    }

    /// Takes away what is there, and the objects around it that become empty, but for those at the top.
    pub(super) fn remove(&self, object: &mut Value) {
        let names = self.names();
        if object.remove_at(&names).is_none() {
            return;
        }
        for depth in (2..names.len()).rev() {
            let around = &names[..depth];
            if object.object_at(around).is_none_or(|map| !map.is_empty()) {
                return;
            }
            object.remove_at(around);
        }
    }
}

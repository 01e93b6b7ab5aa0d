//! Paths to fields, as error messages and `Status` causes spell them: `spec.containers[0].image`, `metadata.labels[a/b]`.

use std::fmt::{self, Write};

/// A path from an object's root to one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(String);

impl FieldPath {
    /// The object itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// The path that starts with the field `name`; dots in it separate fields.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The member `name` of this field.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{name}", self.0))
    }

    /// The element `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("<root>") } else { f.write_str(&self.0) }
    }
}

/// The path of the walk under way, without an allocation per step: a stack in one string.
#[derive(Debug, Default)]
pub struct PathStack {
    text: String,
}

impl PathStack {
    /// Runs `inside` with the path extended by the field `name`.
    pub fn in_field<T>(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.text.len();
        if len > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        let result = inside(self);
        self.text.truncate(len);
        result
    }

    /// Runs `inside` with the path extended by the list element `index`.
    pub fn in_index<T>(&mut self, index: usize, inside: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.text.len();
        write!(self.text, "[{index}]").expect("a String takes all writes");
        let result = inside(self);
        self.text.truncate(len);
        result
    }

    /// Runs `inside` with the path extended by the map entry `key`.
    pub fn in_key<T>(&mut self, key: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.text.len();
        write!(self.text, "[{key}]").expect("a String takes all writes");
        let result = inside(self);
        self.text.truncate(len);
        result
    }

    /// The path as it stands.
    #[must_use]
    pub fn current(&self) -> FieldPath {
        FieldPath(self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling() {
        let path = FieldPath::new("spec").field("containers").index(2).field("image");
        assert_eq!(path.to_string(), "spec.containers[2].image");
        assert_eq!(FieldPath::new("metadata").field("labels").key("a/b").to_string(), "metadata.labels[a/b]");
        assert_eq!(FieldPath::root().to_string(), "<root>");
        let mut stack = PathStack::default();
        let seen = stack.in_field("a", |s| s.in_index(1, |s| s.in_field("b", |s| s.current())));
        assert_eq!(seen.to_string(), "a[1].b");
        assert_eq!(stack.current(), FieldPath::root());
    }
}

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

/// How many bytes of a path are shown. No schema nests as far; only keys that a client chose make paths so long.
const MAX_SHOWN: usize = 1024;

/// The path of the walk under way, without an allocation per step: a stack in one string.
#[derive(Debug, Default)]
pub struct PathStack {
    text: String,
}

/// How long the path was before a step: what [`PathStack::back`] goes back to.
#[derive(Clone, Copy, Debug)]
#[must_use = "a step that is not taken back stays in the path"]
pub struct Step(usize);

impl PathStack {
    /// Steps into the field `name`.
    pub fn field(&mut self, name: &str) -> Step {
        let step = Step(self.text.len());
        if step.0 > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        step
    }

    /// Steps into the list element `index`.
    pub fn index(&mut self, index: usize) -> Step {
        self.bracketed(&index)
    }

    /// Steps into the map entry `key`.
    pub fn key(&mut self, key: &str) -> Step {
        self.bracketed(&key)
    }

    fn bracketed(&mut self, inside: &dyn fmt::Display) -> Step {
        let step = Step(self.text.len());
        write!(self.text, "[{inside}]").expect("a String takes all writes");
        step
    }

    /// Runs `inside` one step into the field `name`: for walks that may end early.
    pub fn in_field<T>(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        let step = self.field(name);
        let result = inside(self);
        self.back(step);
        result
    }

    /// Runs `inside` one step into the list element `index`.
    pub fn in_index<T>(&mut self, index: usize, inside: impl FnOnce(&mut Self) -> T) -> T {
        let step = self.index(index);
        let result = inside(self);
        self.back(step);
        result
    }

    /// Takes a step back.
    pub fn back(&mut self, step: Step) {
        self.text.truncate(step.0);
    }

    /// The path as it stands, for a message: of one longer than [`MAX_SHOWN`] bytes the end.
    #[must_use]
    pub fn current(&self) -> FieldPath {
        let from = self.text.len().saturating_sub(MAX_SHOWN);
        if from == 0 {
            return FieldPath(self.text.clone());
        }
        FieldPath(format!("…{}", &self.text[self.text.ceil_char_boundary(from)..]))
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
        let steps = [stack.field("a"), stack.index(1), stack.field("b")];
        assert_eq!(stack.current().to_string(), "a[1].b");
        steps.into_iter().rev().for_each(|step| stack.back(step));
        assert_eq!(stack.current(), FieldPath::root());
        let step = stack.key(&"é".repeat(MAX_SHOWN));
        assert_eq!(stack.current().as_str(), format!("…{}]", "é".repeat(MAX_SHOWN / 2 - 1)));
        stack.back(step);
    }
}

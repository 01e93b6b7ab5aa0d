//! One step of a path to a field: a member of an object, or an element of a list told by its keys or its value.

use std::cmp::Ordering;
use std::fmt;

use super::order;
use crate::{Key, Value};

/// One step of a path, structured-merge-diff's `PathElement`.
#[derive(Clone, Debug)]
pub enum Element {
    /// The member of this name.
    Field(Key),
    /// The list element whose key fields have these values; sorted by name.
    Key(Box<[(Key, Value)]>),
    /// The element of a set that is this value.
    Value(Value),
    /// The list element at this place. Never made here; others' documents can hold it.
    Index(i64),
}

impl Element {
    /// The list element that `keys` tell; they may come in any order.
    #[must_use]
    pub fn keyed(mut keys: Vec<(Key, Value)>) -> Self {
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Key(keys.into_boxed_slice())
    }

    /// The member's name, if this is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            _ => None,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a
                    .iter()
                    .zip(b.iter())
                    .map(|((k, a), (l, b))| k.cmp(l).then_with(|| order::compare(a, b)));
                pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => order::compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Element {
    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// As conflicts spell it: `.spec`, `[name="web"]`, `[="a"]`, `[3]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={}", Shown(value))?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={}]", Shown(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// How a value stands in a path: strings quoted, lists in brackets, members as `name=value`.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => quote(text, f),
            Value::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { "" } else { "," }, Shown(item))?;
                }
                f.write_str("]")
            }
            Value::Object(map) => map.iter().try_for_each(|(key, value)| write!(f, "{key}={}", Shown(value))),
            scalar => write!(f, "{scalar:?}"),
        }
    }
}

/// A string in quotes, what cannot be printed escaped.
fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// A whole path as conflicts spell it: `.spec.containers[name="web"].image`.
pub(super) struct PathText<'a>(pub(super) &'a [Element]);

impl fmt::Display for PathText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn spelling() {
        let check = |element: Element, want: &str| assert_eq!(element.to_string(), want);
        check(Element::Field("spec".into()), ".spec");
        check(
            Element::keyed(vec![("protocol".into(), object!("TCP")), ("port".into(), object!(80))]),
            r#"[port=80,protocol="TCP"]"#,
        );
        check(Element::Value(object!("a\"b\n")), r#"[="a\"b\n"]"#);
        check(Element::Value(object!([1, "x", null])), r#"[=[1,"x",null]]"#);
        check(Element::Value(object!({"a": true})), "[=a=true]");
        check(Element::Index(3), "[3]");
        let path = [Element::Field("a".into()), Element::Index(0), Element::Field("b".into())];
        assert_eq!(PathText(&path).to_string(), ".a[0].b");
    }

    #[test]
    fn kinds_of_elements_have_an_order() {
        let sorted = [
            Element::Field("a".into()),
            Element::Field("b".into()),
            Element::keyed(vec![("a".into(), object!(1))]),
            Element::keyed(vec![("a".into(), object!(2))]),
            Element::keyed(vec![("a".into(), object!(2)), ("b".into(), object!(1))]),
            Element::keyed(vec![("b".into(), object!(0))]),
            Element::Value(object!(2)),
            Element::Value(object!(10)),
            Element::Value(object!("1")),
            Element::Index(-1),
            Element::Index(4),
        ];
        assert!(sorted.is_sorted_by(|a, b| a < b));
    }
}

//! `FieldsV1`: how a set of paths is written in `metadata.managedFields`.
//!
//! A JSON object whose keys are the elements: `f:<name>` a member, `k:<keys>` a list element told by its key fields,
//! `v:<value>` an element of a set, `i:<index>`; a path that ends somewhere holds `{}` there, or `.` when others go on.
//! Elements stand in their own order (members, keys, values by value, places), key fields sorted by name, strings inside
//! `k:` and `v:` escaped as Go does for HTML. Elements of a kind that is not known are skipped.

use std::fmt::Write;

use super::element::Element;
use super::set::{FieldSet, Node};
use crate::{Key, Map, Value, json};

/// A `FieldsV1` document that is none.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A key shorter than its tag.
    #[error("key must be 2 characters long: {0:?}")]
    Short(Key),
    /// A key without the colon behind its tag.
    #[error("missing colon: {0:?}")]
    NoColon(Key),
    /// What follows `v:` or `k:` is no JSON.
    #[error("path element {key:?} does not hold JSON: {source}")]
    NotJson {
        /// The key.
        key: Key,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// What follows `k:` is no object.
    #[error("path element {0:?} does not hold an object of key fields")]
    NoKeys(Key),
    /// What follows `i:` is no integer.
    #[error("path element {0:?} does not hold an index")]
    NotAnIndex(Key),
    /// Something else than an object stands where paths go on.
    #[error("fields below {at:?} must be an object, got {found}")]
    NotAnObject {
        /// The key it stands at; empty for the whole.
        at: Key,
        /// What stands there.
        found: &'static str,
    },
}

impl Element {
    /// Reads a key of a `FieldsV1` object; `None` for a kind of element that is not known.
    ///
    /// # Errors
    /// A key that is malformed.
    pub fn from_key(key: &str) -> Result<Option<Self>, WireError> {
        let bytes = key.as_bytes();
        if bytes.len() < 2 {
            return Err(WireError::Short(key.into()));
        }
        if bytes[1] != b':' {
            return Err(WireError::NoColon(key.into()));
        }
        let parse = |text: &str| {
            json::from_slice(text.as_bytes()).map_err(|source| WireError::NotJson { key: key.into(), source })
        };
        // Both bytes are ASCII here: a longer character's first byte is not followed by a colon.
        let Some(rest) = key.get(2..) else { return Err(WireError::NoColon(key.into())) };
        Ok(Some(match bytes[0] {
            b'f' => Self::Field(rest.into()),
            b'v' => Self::Value(parse(rest)?),
            b'k' => match parse(rest)? {
                Value::Object(keys) => Self::keyed(keys.into_iter().collect()),
                _ => return Err(WireError::NoKeys(key.into())),
            },
            b'i' => Self::Index(rest.parse().map_err(|_| WireError::NotAnIndex(key.into()))?),
            _ => return Ok(None),
        }))
    }

    /// Writes the key of a `FieldsV1` object.
    pub(super) fn write_key(&self, out: &mut String) {
        match self {
            Self::Field(name) => {
                out.push_str("f:");
                out.push_str(name);
            }
            Self::Key(keys) => {
                out.push_str("k:{");
                for (i, (name, value)) in keys.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    write_text(name, false, out);
                    out.push(':');
                    write_value(value, out);
                }
                out.push('}');
            }
            Self::Value(value) => {
                out.push_str("v:");
                write_value(value, out);
            }
            Self::Index(index) => write!(out, "i:{index}").expect("a String takes all writes"),
        }
    }

    /// The key of a `FieldsV1` object.
    #[must_use]
    pub fn to_key(&self) -> Key {
        match self {
            Self::Field(name) => {
                let mut key = Key::with_capacity(name.len() + 2);
                key.push_str("f:");
                key.push_str(name);
                key
            }
            other => {
                let mut key = String::new();
                other.write_key(&mut key);
                key.into()
            }
        }
    }
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_text(text, true, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_text(key, true, out);
                out.push(':');
                write_value(value, out);
            }
            out.push('}');
        }
        Value::Int(int) => write!(out, "{int}").expect("a String takes all writes"),
        scalar => write!(out, "{scalar:?}").expect("a String takes all writes"),
    }
}

/// A JSON string as Go writes it.
fn write_text(text: &str, for_html: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let escape = match c {
            '"' | '\\' => {
                out.push('\\');
                false
            }
            '\n' | '\r' | '\t' => {
                out.push_str(match c {
                    '\n' => "\\n",
                    '\r' => "\\r",
                    _ => "\\t",
                });
                continue;
            }
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => for_html,
            c => c < ' ',
        };
        if escape {
            write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes all writes");
        } else {
            out.push(c);
        }
    }
    out.push('"');
}

impl FieldSet {
    /// Reads a `FieldsV1` document; `null` is the empty set.
    ///
    /// # Errors
    /// A document that is malformed. Elements of a kind that is not known are no error: they are left out.
    pub fn from_value(fields: &Value) -> Result<Self, WireError> {
        match fields {
            Value::Object(map) => Self::from_map(map),
            Value::Null => Ok(Self::new()),
            other => Err(WireError::NotAnObject { at: Key::default(), found: other.type_name() }),
        }
    }

    pub(super) fn from_map(map: &Map) -> Result<Self, WireError> {
        let mut nodes = Vec::with_capacity(map.len());
        for (key, value) in map.iter().filter(|(key, _)| *key != ".") {
            let Some(element) = Element::from_key(key)? else { continue };
            let (below, marked) = match value {
                Value::Object(map) => (Self::from_map(map)?, map.contains(".")),
                Value::Null => (Self::new(), true),
                other => return Err(WireError::NotAnObject { at: key.into(), found: other.type_name() }),
            };
            nodes.push(Node { element, owned: marked || below.is_empty(), below });
        }
        Ok(Self::from_nodes(nodes))
    }

    /// The set of `nodes` in any order; of equal elements all paths count.
    pub(super) fn from_nodes(mut nodes: Vec<Node>) -> Self {
        if !nodes.is_sorted_by(|a, b| a.element < b.element) {
            nodes.sort_by(|a, b| a.element.cmp(&b.element));
            nodes.dedup_by(|later, earlier| {
                let equal = later.element == earlier.element;
                if equal {
                    earlier.owned |= later.owned;
                    earlier.below.add(std::mem::take(&mut later.below));
                }
                equal
            });
        }
        Self { nodes }
    }

    /// The set as a `FieldsV1` tree. Trees sort keys by their bytes, so elements `i:` and `v:` may stand otherwise than in
    /// [`FieldSet::to_json`]; the document means the same.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.to_map())
    }

    pub(super) fn to_map(&self) -> Map {
        let entries =
            self.nodes.iter().map(|node| (node.element.to_key(), Value::Object(node.to_map()))).collect();
        Map::from_entries(entries, |_| ())
    }

    /// The set as a `FieldsV1` document, byte for byte as upstream writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::from("{");
        self.write_members(&mut out, &mut String::new());
        out.push('}');
        out.into_bytes()
    }

    fn write_members(&self, out: &mut String, key: &mut String) {
        for (i, node) in self.nodes.iter().enumerate() {
            out.push_str(if i == 0 { "" } else { "," });
            key.clear();
            node.element.write_key(key);
            write_text(key, false, out);
            out.push_str(":{");
            if node.owned && !node.below.is_empty() {
                out.push_str("\".\":{},");
            }
            node.below.write_members(out, key);
            out.push('}');
        }
    }
}

impl Node {
    pub(super) fn to_map(&self) -> Map {
        let mut map = self.below.to_map();
        if self.owned && !map.is_empty() {
            map.insert(".", Map::new());
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    fn read(text: &str) -> Result<FieldSet, WireError> {
        FieldSet::from_value(&json::from_slice(text.as_bytes()).expect(text))
    }

    fn written(set: &FieldSet) -> String {
        String::from_utf8(set.to_json()).expect("JSON is UTF-8")
    }

    #[test]
    fn documents_come_back_as_they_were() {
        let check = |text: &str| {
            let set = read(text).expect(text);
            assert_eq!(written(&set), text);
            assert_eq!(FieldSet::from_value(&set.to_value()).expect(text), set);
        };
        check("{}");
        check(r#"{"f:spec":{}}"#);
        check(r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{}}}"#);
        check(
            r#"{"f:ports":{"k:{\"port\":53,\"protocol\":\"TCP\"}":{".":{},"f:name":{}},"k:{\"port\":53,\"protocol\":\"UDP\"}":{}}}"#,
        );
        check(
            r#"{"f:":{},"k:{\"a\":null}":{},"v:2":{},"v:10":{},"v:\"x\"":{},"v:true":{},"v:[1]":{},"v:{\"a\":1}":{},"v:null":{},"i:2":{},"i:10":{}}"#,
        );
        check(r#"{"v:\"a\\u003cb\\u0026\\u2028\"":{}}"#);
        check(r#"{"f:a<b":{},"k:{\"n<m\":\"\\u003c\"}":{},"v:\"\\u0001\\n\\\"ö🦀\"":{}}"#);
    }

    #[test]
    fn other_spellings_become_canonical() {
        let check = |text: &str, want: &str| assert_eq!(written(&read(text).expect(text)), want);
        check(r#"{"f:b":{},"f:a":{}}"#, r#"{"f:a":{},"f:b":{}}"#);
        check(r#"{"f:a":{".":{}}}"#, r#"{"f:a":{}}"#);
        check(r#"{"f:a":null,".":{}}"#, r#"{"f:a":{}}"#);
        check(r#"{"k:{ \"b\" : 1, \"a\":\"x\"}":{}}"#, r#"{"k:{\"a\":\"x\",\"b\":1}":{}}"#);
        check(r#"{"v: 1.0 ":{"f:x":{}},"v:1":{}}"#, r#"{"v:1":{".":{},"f:x":{}}}"#);
        check(r#"{"x:what":{"f:a":{}},"f:b":{"y:z":{}}}"#, r#"{"f:b":{}}"#);
        check("null", "{}");
    }

    #[test]
    fn malformed_documents_are_refused() {
        let check = |text: &str, want: &str| {
            assert_eq!(read(text).expect_err(text).to_string(), want, "{text}");
        };
        check(r#"{"":{}}"#, r#"key must be 2 characters long: """#);
        check(r#"{"f":{}}"#, r#"key must be 2 characters long: "f""#);
        check(r#"{"spec":{}}"#, r#"missing colon: "spec""#);
        check(r#"{"ö:":{}}"#, r#"missing colon: "ö:""#);
        check(r#"{"i:1.5":{}}"#, r#"path element "i:1.5" does not hold an index"#);
        check(r#"{"i: 1":{}}"#, r#"path element "i: 1" does not hold an index"#);
        check(r#"{"k:[]":{}}"#, r#"path element "k:[]" does not hold an object of key fields"#);
        check(r#"{"f:a":{"f:b":3}}"#, r#"fields below "f:b" must be an object, got integer"#);
        check("[]", r#"fields below "" must be an object, got array"#);
        for text in [r#"{"v:":{}}"#, r#"{"v:1 2":{}}"#, r#"{"k:{} {}":{}}"#, r#"{"k:{\"a\":}":{}}"#] {
            assert!(matches!(read(text), Err(WireError::NotJson { .. })), "{text}");
        }
        let deep = format!("v:{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(Element::from_key(&deep), Err(WireError::NotJson { .. })));
    }

    #[test]
    fn the_tree_holds_what_the_document_says() {
        let set = read(r#"{"f:a":{".":{},"f:b":{}},"v:10":{},"v:9":{}}"#).expect("valid");
        assert_eq!(set.to_value(), object!({"f:a": {".": {}, "f:b": {}}, "v:10": {}, "v:9": {}}));
        assert_eq!(set.len(), 4);
    }
}

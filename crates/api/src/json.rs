//! JSON to trees and back.
//!
//! Reading is strict JSON (RFC 8259), at most 128 levels deep, through `serde_json`. Members that come twice are not an
//! error here: the last wins, as in Go, and the paths are reported so that field validation can warn or refuse. Writing is
//! canonical: keys sorted, no white space, a float without fraction written as an integer (as Go does).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::{Key, Map, Value};

/// How many members that come twice are named; who reads the names has enough of them.
pub const MAX_DUPLICATES: usize = 64;
/// How many bytes of a path to such a member are kept: of a name too long its beginning, of a path too long its end.
const MAX_PATH: usize = 512;

/// A parsed document and the paths of members that came more than once.
#[derive(Debug)]
pub struct Parsed {
    /// The tree.
    pub value: Value,
    /// Paths like `spec.containers[0].image`, in the order of the document; the first [`MAX_DUPLICATES`].
    pub duplicates: Vec<String>,
}

/// Reads one JSON document.
///
/// # Errors
/// Text that is not one JSON document, or nests deeper than 128 levels; the message names line and column.
pub fn parse(bytes: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(bytes);
    let parsed = read(&mut de)?;
    de.end()?;
    Ok(parsed)
}

/// Reads one document in whatever `deserializer` reads; of YAML it must pass on members that come twice.
///
/// # Errors
/// What the deserializer says.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
    let duplicates = RefCell::new(Vec::new());
    let value = Seed { duplicates: &duplicates }.deserialize(deserializer)?;
    Ok(Parsed { value, duplicates: duplicates.into_inner() })
}

/// Reads one JSON document, not caring for members that come twice.
///
/// # Errors
/// As [`parse`].
pub fn from_slice(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    parse(bytes).map(|p| p.value)
}

/// The canonical bytes of a tree.
#[must_use]
pub fn to_vec(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

/// Appends the canonical bytes of a tree.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value)
        .expect("a tree has string keys and finite numbers, and a Vec takes all writes");
}

/// Appends a JSON string literal.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is valid JSON, and a Vec takes all writes");
}

/// A tree from any serialisable type.
///
/// # Errors
/// A type that JSON cannot hold, such as a map with keys that are not strings.
pub fn to_value<T: Serialize>(value: &T) -> Result<Value, serde_json::Error> {
    from_slice(&serde_json::to_vec(value)?)
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(i) => serializer.serialize_i64(*i),
            #[expect(clippy::cast_possible_truncation, reason = "below 1e21 an i128 holds it")]
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 1e21 => serializer.serialize_i128(*f as i128),
            Self::Float(f) => serializer.serialize_f64(*f),
            Self::String(s) => serializer.serialize_str(s),
            Self::Array(a) => {
                let mut seq = serializer.serialize_seq(Some(a.len()))?;
                a.iter().try_for_each(|v| seq.serialize_element(v))?;
                seq.end()
            }
            Self::Object(m) => m.serialize(serializer),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        self.iter().try_for_each(|(k, v)| map.serialize_entry(k, v))?;
        map.end()
    }
}

impl<'de> serde::Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed { duplicates: &RefCell::default() }.deserialize(deserializer)
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    duplicates: &'a RefCell<Vec<String>>,
}

impl Seed<'_> {
    /// Notes a member that came twice.
    fn found(self, name: &str) {
        let mut duplicates = self.duplicates.borrow_mut();
        if duplicates.len() < MAX_DUPLICATES {
            duplicates.push(shorten(name).into_owned());
        }
    }

    /// Prefixes the duplicates that were found since there were `from` of them.
    fn nest<'p>(self, from: usize, prefix: impl Fn() -> Cow<'p, str>) {
        for path in self.duplicates.borrow_mut().iter_mut().skip(from) {
            if path.len() > MAX_PATH {
                // Its beginning is cut off already.
                continue;
            }
            let dot = if path.starts_with('[') { "" } else { "." };
            let whole = format!("{}{dot}{path}", prefix());
            *path = if whole.len() > MAX_PATH { format!("{CUT}{path}") } else { whole };
        }
    }
}

/// Stands for what is left out.
const CUT: &str = "…";

/// The beginning of a name that is too long.
fn shorten(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_PATH {
        return name.into();
    }
    format!("{}{CUT}", &name[..name.floor_char_boundary(MAX_PATH - CUT.len())]).into()
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    #[expect(clippy::cast_precision_loss, reason = "Go reads such a number as float64 too")]
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(i64::try_from(v).map_or(Value::Float(v as f64), Value::Int))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        if v.is_finite() { Ok(Value::Float(v)) } else { Err(E::custom("number out of range")) }
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(Key::from(v)))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(Key::from(v)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let before = self.duplicates.borrow().len();
            let Some(item) = seq.next_element_seed(self)? else { return Ok(Value::Array(items)) };
            self.nest(before, || format!("[{}]", items.len()).into());
            items.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Key>()? {
            let before = self.duplicates.borrow().len();
            let value = map.next_value_seed(self)?;
            self.nest(before, || shorten(&key));
            entries.push((key, value));
        }
        let map = Map::from_entries(entries, |k| self.found(k));
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_bytes() {
        let check = |input: &str, want: &str| {
            let got = to_vec(&from_slice(input.as_bytes()).expect(input));
            assert_eq!(String::from_utf8(got).expect("JSON is UTF-8"), want, "{input}");
        };
        check(r#"{ "b": 1, "a": [true, null, "x"] }"#, r#"{"a":[true,null,"x"],"b":1}"#);
        check("1.0", "1");
        check("1.5", "1.5");
        check("9223372036854775807", "9223372036854775807");
        check("18446744073709551615", "18446744073709551616");
        check(r#""é\n<""#, r#""é\n<""#);
        check("{}", "{}");
    }

    /// Found by fuzzing: the nearest float is read, so that what was written reads as the same number.
    #[test]
    fn numbers_with_many_digits_survive() {
        let check = |input: &str, want: &str| {
            let got = to_vec(&from_slice(input.as_bytes()).expect(input));
            assert_eq!(got, want.as_bytes(), "{input}");
            assert_eq!(to_vec(&from_slice(&got).expect(want)), got, "{input} again");
        };
        check("123456789012000008600068707510", "1.2345678901200001e+29");
        check("0.1000000000000000055511151231257827", "0.1");
        check("7.2057594037927933e16", "72057594037927936");
    }

    #[test]
    fn duplicates_are_reported_with_their_path() {
        let check = |input: &str, want: &[&str]| {
            assert_eq!(parse(input.as_bytes()).expect(input).duplicates, want, "{input}");
        };
        check(r#"{"a":1,"a":2}"#, &["a"]);
        check(r#"{"spec":{"x":[{"y":1,"y":2}]}}"#, &["spec.x[0].y"]);
        check(r#"{"a":{"b":1,"b":1},"c":{"d":1}}"#, &["a.b"]);
        check(r#"{"a":1}"#, &[]);
    }

    #[test]
    fn duplicates_are_bounded() {
        let bytes = |text: &str| {
            parse(text.as_bytes()).expect("JSON").duplicates.iter().map(String::len).sum::<usize>()
        };
        let twice = |n: usize| vec![r#""a":0"#; n].join(",");
        let long = "k".repeat(1 << 20);
        for text in [
            format!("{{{}}}", twice(100_000)),
            format!(r#"{{"{long}":{{{}}}}}"#, twice(1000)),
            format!(r#"{{"{long}":0,"{long}":0}}"#),
            format!("{}{{{}}}{}", r#"{"long enough":"#.repeat(120), twice(1000), "}".repeat(120)),
        ] {
            assert!(
                (1..=MAX_DUPLICATES * (MAX_PATH + CUT.len())).contains(&bytes(&text)),
                "{} bytes",
                bytes(&text)
            );
        }
        let deep = format!(r#"{{"{}":{{"b":{{"a":1,"a":2}}}}}}"#, "é".repeat(300));
        assert_eq!(parse(deep.as_bytes()).expect("JSON").duplicates, ["…b.a"]);
    }

    #[test]
    fn refuses_what_is_not_one_document() {
        let check = |input: &str| assert!(from_slice(input.as_bytes()).is_err(), "{input}");
        check("");
        check("{} {}");
        check("{");
        check("01");
        check("1e999");
        check(&format!("{}{}", "[".repeat(200), "]".repeat(200)));
    }
}

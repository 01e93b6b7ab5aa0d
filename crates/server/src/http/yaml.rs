//! Reading YAML: a tree as JSON has it, and of members that come twice the lines.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use xebec_api::{Status, json, yaml};

use super::body::{Document, Repeated, unrecognized};

/// Reads one document.
///
/// # Errors
/// 400 with the place of the fault.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, Status> {
    let text = std::str::from_utf8(bytes).map_err(|e| unrecognized(&e))?;
    let parsed = yaml::parse(text).map_err(|e| unrecognized(&e))?;
    let repeated =
        if parsed.duplicates.is_empty() { Repeated::None } else { Repeated::Lines(repeated_lines(text)) };
    Ok(Document { value: parsed.value, repeated })
}

/// The text about members that come twice; it takes another reading, which only such documents cost.
fn repeated_lines(text: &str) -> String {
    let found = serde_saphyr::from_str_with_options::<Repetitions>(text, yaml::options());
    let Repetitions(mut found) = found.unwrap_or_default();
    found.sort_unstable();
    found.truncate(json::MAX_DUPLICATES);
    let lines = found.iter().map(|(line, key)| format!("\n  line {line}: key {key:?} already set in map"));
    std::iter::once("yaml: unmarshal errors:".to_owned()).chain(lines).collect()
}

/// Lines and names of members that come twice.
#[derive(Default)]
struct Repetitions(Vec<(u64, String)>);

impl<'de> Deserialize<'de> for Repetitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Finder)
    }
}

struct Finder;

impl<'de> Visitor<'de> for Finder {
    type Value = Repetitions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repetitions, A::Error> {
        let (mut seen, mut found) = (HashSet::new(), Repetitions::default());
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if seen.contains(&key.value) {
                found.0.push((key.referenced.line(), key.value));
            } else {
                seen.insert(key.value);
            }
            found.0.append(&mut map.next_value::<Repetitions>()?.0);
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Repetitions, A::Error> {
        let mut found = Repetitions::default();
        while let Some(mut item) = items.next_element::<Repetitions>()? {
            found.0.append(&mut item.0);
        }
        Ok(found)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Repetitions, D::Error> {
        Repetitions::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Repetitions, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Repetitions::default())
    }

    fn visit_unit<E>(self) -> Result<Repetitions, E> {
        Ok(Repetitions::default())
    }

    fn visit_none<E>(self) -> Result<Repetitions, E> {
        Ok(Repetitions::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Repetitions, E> {
        Ok(Repetitions::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Repetitions, E> {
        Ok(Repetitions::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Repetitions, E> {
        Ok(Repetitions::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Repetitions, E> {
        Ok(Repetitions::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Repetitions, E> {
        Ok(Repetitions::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_come_twice_are_named_by_line() {
        let check = |text: &str, want: &[&str]| {
            let lines: String = want.iter().map(|line| format!("\n  {line}")).collect();
            let want = if want.is_empty() {
                Repeated::None
            } else {
                Repeated::Lines(format!("yaml: unmarshal errors:{lines}"))
            };
            assert_eq!(parse(text.as_bytes()).expect("YAML").repeated, want, "{text}");
        };
        check("a: 1\nb: {c: 1}\n", &[]);
        check("\na: 1\nb: 2\na: 3\n", &[r#"line 4: key "a" already set in map"#]);
        check(
            "a:\n- b: 1\n  b: null\n- {c: 1.5, c: yes}\na: x\n",
            &[
                r#"line 3: key "b" already set in map"#,
                r#"line 4: key "c" already set in map"#,
                r#"line 5: key "a" already set in map"#,
            ],
        );
    }
}

//! Objects made from a schema: examples, the same ones each time.

use super::pattern;
use crate::schema::Pattern;
use crate::{Key, Map, Value, object};

/// How deep an example nests, and how many values it has.
const MAX_DEPTH: usize = 24;
const MAX_VALUES: usize = 2000;
/// How many elements of a list, or members of a map, there are beyond what must be.
const FEW: usize = 3;

/// A source of numbers that are the same each time (splitmix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below another one, or 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// How much of what may be there is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// What must be.
    Least,
    /// About two thirds.
    Some,
    /// All.
    All,
}

/// A whole object of a schema, without `apiVersion` and `kind`. It need not be valid.
pub(super) fn whole(schema: &Value, share: Share, random: &mut Random) -> Value {
    let mut maker = Maker { random, share, left: MAX_VALUES };
    let mut made = maker.members(schema, 0);
    let metadata = object!({
        "name": "example", "namespace": "default", "uid": "0", "labels": {"a": "b"}, "annotations": {"c": "d"}
    });
    made.insert("metadata", metadata);
    Value::Object(made)
}

struct Maker<'r> {
    random: &'r mut Random,
    share: Share,
    left: usize,
}

impl Maker<'_> {
    fn members(&mut self, schema: &Value, depth: usize) -> Map {
        let mut made = Map::new();
        let required = schema.array_at(&["required"]);
        for (name, below) in schema.object_at(&["properties"]).into_iter().flat_map(Map::iter) {
            if depth == 0 && matches!(name, "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let must = required.iter().any(|field| field.as_str() == Some(name));
            let may = match self.share {
                Share::Least => false,
                Share::Some => self.random.below(3) > 0,
                Share::All => true,
            };
            if (must || may) && depth < MAX_DEPTH && self.left > 0 {
                let value = self.value(below, depth + 1);
                value.into_iter().for_each(|value| drop(made.insert(name, value)));
            }
        }
        made
    }

    /// A value of a schema; `None`: none could be made.
    fn value(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        self.left = self.left.saturating_sub(1);
        if let Some(value) = self.random.one_of(schema.array_at(&["enum"])) {
            return Some(value.clone());
        }
        let mut given = ["example", "default"].into_iter().filter_map(|field| schema.get(field));
        if let Some(given) = given.find(|value| !value.is_null())
            && self.random.below(4) == 0
        {
            return Some(given.clone());
        }
        if schema.bool_at(&["x-kubernetes-int-or-string"]) == Some(true) {
            return Some(if self.random.below(2) == 0 { Value::from("50%") } else { Value::Int(7) });
        }
        match schema.str_at(&["type"]) {
            Some("object") => Some(Value::Object(self.object(schema, depth))),
            Some("array") => self.list(schema, depth),
            Some("string") => self.text(schema),
            Some("boolean") => Some(Value::Bool(self.random.below(2) == 0)),
            Some("integer") => Some(self.integer(schema)),
            Some("number") => Some(match self.integer(schema) {
                #[expect(clippy::cast_precision_loss, reason = "any number near it will do")]
                Value::Int(whole) if self.random.below(2) == 0 => Value::Float(whole as f64 + 0.5),
                whole => whole,
            }),
            _ => Some(object!({"anything": "at all"})),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Map {
        let mut made = self.members(schema, depth);
        if let Some(each) = schema.get("additionalProperties").filter(|each| each.as_object().is_some()) {
            for n in 0..self.count(schema, "minProperties", "maxProperties") {
                if depth < MAX_DEPTH && self.left > 0 {
                    let value = self.value(each, depth + 1);
                    value
                        .into_iter()
                        .for_each(|value| drop(made.insert(Key::from(format!("key-{n}")), value)));
                }
            }
        }
        made
    }

    fn count(&mut self, schema: &Value, least: &str, most: &str) -> usize {
        let bound = |field: &str| schema.i64_at(&[field]).and_then(|n| usize::try_from(n).ok());
        let least = bound(least).unwrap_or(0);
        let most = bound(most).unwrap_or(usize::MAX).min(least.saturating_add(FEW));
        let more = match self.share {
            Share::Least => 0,
            Share::Some => self.random.below(most.saturating_sub(least) + 1),
            Share::All => most.saturating_sub(least),
        };
        (least + more).min(MAX_VALUES)
    }

    fn list(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        let mut made: Vec<Value> = Vec::new();
        let items = schema.get("items")?;
        let is_set = schema.str_at(&["x-kubernetes-list-type"]) == Some("set");
        for _ in 0..self.count(schema, "minItems", "maxItems") {
            if depth >= MAX_DEPTH || self.left == 0 {
                break;
            }
            let value = self.value(items, depth + 1)?;
            if !is_set || !made.contains(&value) {
                made.push(value);
            }
        }
        Some(Value::Array(made))
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let bound = |field: &str| schema.i64_at(&[field]);
        let exclusive = |field: &str| i64::from(schema.bool_at(&[field]) == Some(true));
        let low = bound("minimum").map_or(0, |low| low.saturating_add(exclusive("exclusiveMinimum")));
        let high = bound("maximum").map(|high| high.saturating_sub(exclusive("exclusiveMaximum")));
        let high = high.unwrap_or_else(|| low.max(0).saturating_add(100_000));
        let low = if bound("minimum").is_none() { low.min(high) } else { low };
        let step = bound("multipleOf").filter(|step| *step > 0).unwrap_or(1);
        let width = high.saturating_sub(low).max(0);
        let some = i64::try_from(self.random.next() >> 1)
            .unwrap_or(0)
            .checked_rem(width.saturating_add(1))
            .unwrap_or(0);
        let chosen = [low, high, low.saturating_add(some), low.saturating_add(some)];
        let chosen = chosen[self.random.below(chosen.len())];
        Value::Int(chosen.saturating_sub(chosen.rem_euclid(step)))
    }

    fn text(&mut self, schema: &Value) -> Option<Value> {
        let examples: &[&str] = match schema.str_at(&["format"]) {
            Some("duration") => &["10s", "1m30s", "2h0m0s", "250ms"],
            Some("date-time") => &["2026-01-31T09:00:00Z", "2026-02-28T23:59:59.5Z"],
            Some("date") => &["2026-01-31"],
            Some("byte") => &["", "aGk="],
            Some("uuid" | "uuid4") => &["9b2d7d8c-2f3e-4b5a-8c6d-7e8f9a0b1c2d"],
            Some("ipv4") => &["192.0.2.1"],
            Some("ipv6") => &["2001:db8::1"],
            Some("cidr") => &["192.0.2.0/24"],
            Some("uri") => &["https://example.com/a"],
            Some("email") => &["a@example.com"],
            Some("hostname") => &["a.example.com"],
            Some("mac") => &["00:00:5e:00:53:01"],
            _ => &[],
        };
        if let Some(text) = self.random.one_of(examples) {
            return Some(Value::from(*text));
        }
        let Some(text) = schema.str_at(&["pattern"]) else { return Some(Value::from(self.word(schema))) };
        let compiled = Pattern::new(text.to_owned());
        for _ in 0..8 {
            let made = pattern::suggest(text, self.random).filter(|made| compiled.is_match(made) == Ok(true));
            if made.is_some() {
                return made.map(Value::from);
            }
        }
        schema.get("example").cloned()
    }

    fn word(&mut self, schema: &Value) -> String {
        const WORDS: [&str; 8] = ["a", "some text", "UPPER", "x-1.2_3", "10", "é:/?", "true", "b:80"];
        let bound = |field: &str| schema.i64_at(&[field]).and_then(|n| usize::try_from(n).ok());
        let mut text = self.random.one_of(&WORDS).map_or_else(String::new, |word| (*word).to_owned());
        let least = bound("minLength").unwrap_or(0).min(MAX_VALUES);
        while text.chars().count() < least {
            text.push('z');
        }
        if self.share == Share::Least && least == 0 {
            return String::new();
        }
        text.chars().take(bound("maxLength").unwrap_or(usize::MAX)).collect()
    }
}

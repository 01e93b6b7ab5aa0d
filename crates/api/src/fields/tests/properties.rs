//! What holds for any objects, with objects from a seed.

use super::{Desk, VERSION, apply, gadget, typed, update};
use crate::fields::walk::{compare, owned};
use crate::fields::{FieldSet, Force, OneShape, Target};
use crate::{Map, Value, json, object};

/// xorshift64*: small, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick(&mut self, words: &[&str]) -> Value {
        let at = usize::try_from(self.below(words.len() as u64)).expect("small");
        Value::from(words[at])
    }

    fn word(&mut self) -> Value {
        self.pick(&["a", "b", "c"])
    }

    fn int(&mut self) -> Value {
        Value::Int(i64::try_from(self.below(3)).expect("small"))
    }

    fn some(&mut self, make: impl Fn(&mut Self) -> Value) -> Vec<Value> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    /// Different scalars.
    fn set(&mut self) -> Value {
        let mut items = self.some(Self::word);
        items.sort_by_key(|v| format!("{v:?}"));
        items.dedup();
        Value::Array(items)
    }

    fn map(&mut self, keys: &[&str], make: impl Fn(&mut Self) -> Value) -> Value {
        let mut map = Map::new();
        for key in keys {
            if self.chance(50) {
                map.insert(*key, make(self));
            }
        }
        Value::Object(map)
    }

    fn part(&mut self, name: &str) -> Value {
        let mut part = object!({"name": name});
        if self.chance(50) {
            part.set(&["image"], self.word());
        }
        if self.chance(40) {
            part.set(&["tune"], self.map(&["low", "high"], Self::int));
        }
        if self.chance(40) {
            let mut ports =
                vec![object!({"port": 1, "protocol": "UDP"}), object!({"port": 1}), object!({"port": 2})];
            ports.retain(|_| self.chance(50));
            part.set(&["ports"], Value::Array(ports));
        }
        part
    }

    pub(super) fn free(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => self.word(),
            1 => self.int(),
            2 => Value::Null,
            3 => Value::Bool(true),
            4 => Value::Array(self.some(|r| r.free(depth - 1))),
            _ => self.map(&["a", "b", "c"], |r| r.free(depth - 1)),
        }
    }

    /// A gadget whose lists have each element once.
    pub(super) fn gadget(&mut self) -> Value {
        let mut spec = Value::object();
        for (field, value) in [
            ("replicas", self.int()),
            ("title", self.word()),
            ("box", self.map(&["width", "height"], Self::int)),
            ("words", Value::Array(self.some(Self::word))),
            ("limits", self.map(&["x", "y", "z"], Self::word)),
            ("colors", self.set()),
            ("parts", Value::Array(["p", "q", "r"].map(|name| self.part(name)).into())),
            ("free", self.free(3)),
            ("store", self.map(&["limit"], Self::int)),
        ] {
            if self.chance(60) {
                spec.set(&[field], value);
            }
        }
        if let Some(Value::Array(parts)) = spec.get_mut("parts") {
            parts.retain(|_| self.chance(60));
            if self.chance(50) {
                parts.reverse();
            }
        }
        let mut gadget = typed("{}");
        gadget.set(&["spec"], spec);
        gadget.set(&["metadata", "labels"], self.map(&["k", "l"], Self::word));
        gadget
    }
}

fn text(value: &Value) -> String {
    String::from_utf8(json::to_vec(value)).expect("JSON is UTF-8")
}

#[test]
fn sets_come_back_from_the_wire() {
    let schema = gadget();
    for seed in 0..300 {
        let object = Random::new(seed).gadget();
        let set = owned(&object, schema.root()).expect("elements are told");
        let document = json::from_slice(&set.to_json()).expect("a document");
        assert_eq!(FieldSet::from_value(&document).expect("readable"), set, "{object:?}");
        assert_eq!(document, set.to_value());
    }
}

#[test]
fn changes_are_told_both_ways() {
    let schema = gadget();
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let (a, b) = (random.gadget(), random.gadget());
        let there = compare(&a, &b, schema.root()).expect("told");
        let back = compare(&b, &a, schema.root()).expect("told");
        assert!(compare(&a, &a, schema.root()).expect("told").is_empty());
        // What goes one way comes the other way.
        assert!(there.removed.is_within(&back.written), "{a:?} {b:?}");
        assert!(back.removed.is_within(&there.written), "{a:?} {b:?}");
    }
}

#[test]
fn an_apply_is_idempotent() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut desk = Desk::new();
        desk.put("starter", &text(&random.gadget()));
        desk.force("b", &text(&random.gadget()));
        let config = text(&random.gadget());
        desk.force("a", &config);
        let once = desk.live.clone();
        // Nulls are for the caller to drop; an applied one is applied again.
        if text(&once).contains("null") {
            continue;
        }
        desk.apply("a", &config);
        assert_eq!(desk.live, once, "{config}");
    }
}

#[test]
fn appliers_of_different_fields_commute() {
    let mut checked = 0;
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let (mut a, mut b) = (random.gadget(), random.gadget());
        // A free field that is an object for one and a scalar for the other is one field all the same.
        a.remove_at(&["spec", "free"]);
        b.remove_at(&["spec", "free"]);
        let schema = gadget();
        let fields = |config: &Value| owned(config, schema.root()).expect("told");
        let orders = |object: &Value| {
            object.array_at(&["spec", "parts"]).len() + object.array_at(&["spec", "colors"]).len()
        };
        // The order of a list that both have is that of the last.
        if !fields(&a).intersection(&fields(&b)).is_within(&fields(&typed("{}")))
            || orders(&a).min(orders(&b)) > 0
        {
            continue;
        }
        let run = |first: (&str, &Value), second: (&str, &Value)| -> (Value, Vec<String>) {
            let mut desk = Desk::new();
            desk.apply(first.0, &text(first.1));
            if desk.try_apply(second.0, &text(second.1), Force::No).is_err() {
                return (Value::Null, Vec::new());
            }
            let mut owners: Vec<String> = desk
                .owners()
                .iter()
                .map(|o| o.replace(" 01:", "").replace(" 02:", "").replace(" --:", ""))
                .collect();
            owners.sort();
            desk.live.remove_at(&["metadata", "managedFields"]);
            (desk.live, owners)
        };
        assert_eq!(run(("a", &a), ("b", &b)), run(("b", &b), ("a", &a)), "{a:?} {b:?}");
        checked += 1;
    }
    assert!(checked > 20, "only {checked} pairs had different fields");
}

#[test]
fn each_field_of_a_new_object_has_its_writer() {
    let schema = gadget();
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut desk = Desk::new();
        for manager in ["a", "b", "c"] {
            desk.put(manager, &text(&random.gadget()));
        }
        let mut all = FieldSet::new();
        for entry in desk.live.array_at(&["metadata", "managedFields"]) {
            all.add(FieldSet::from_value(entry.get("fieldsV1").expect("fields")).expect("readable"));
        }
        let mut live = desk.live.clone();
        live.remove_at(&["metadata", "managedFields"]);
        live.remove_at(&["metadata", "uid"]);
        let mut fields = owned(&live, schema.root()).expect("told");
        crate::fields::reset::strip_system_fields(&mut fields);
        assert!(fields.is_within(&all), "{:?} has unowned fields: {:?}", desk.live, desk.owners());
    }
}

/// Any tree as object or configuration: an error at worst.
#[test]
fn no_tree_panics() {
    let schema = gadget();
    let target = Target {
        schema: schema.root(),
        api_version: VERSION,
        kind: "Gadget",
        subresource: "",
        reset: &[],
        manager: "kubectl",
        now: "2026-01-01T00:00:00Z",
    };
    let mut applied = 0;
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let wild = |random: &mut Random| {
            let mut object = random.gadget();
            for field in ["replicas", "box", "words", "limits", "colors", "parts", "store", "raw", "open"] {
                if random.chance(20) {
                    object.set(&["spec", field], random.free(3));
                }
            }
            if random.chance(5) { random.free(4) } else { object }
        };
        let (live, mut new, config) = (wild(&mut random), wild(&mut random), wild(&mut random));
        let versions = &mut OneShape(&[VERSION]);
        // Errors are as good as results here: what counts is that there is one of them.
        drop(update(&target, &live, &mut new, versions));
        applied += u32::from(apply(&target, &new, &config, Force::Yes, versions).is_ok());
    }
    assert!(applied > 500, "only {applied} applies succeeded");
}

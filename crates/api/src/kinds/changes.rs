//! What changed between two values, in lines for people.

use std::fmt::Write;

use super::check::same;
use crate::{FieldPath, Map, Value, json};

/// How many changed fields are told of.
const MAX_FIELDS: usize = 10;
/// How much of a value is shown, in characters.
const MAX_VALUE: usize = 100;

/// A line per field that differs, `- path: value` for the old and `+ path: value` for the new.
pub(super) fn describe(old: &Value, new: &Value) -> String {
    let mut walk = Walk { text: String::new(), found: 0 };
    walk.value(&FieldPath::root(), Some(old), Some(new));
    if walk.found > MAX_FIELDS {
        line(&mut walk.text, format_args!("  and {} more", walk.found - MAX_FIELDS));
    }
    walk.text
}

struct Walk {
    text: String,
    found: usize,
}

impl Walk {
    fn value(&mut self, path: &FieldPath, old: Option<&Value>, new: Option<&Value>) {
        if same(old, new) {
            return;
        }
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => self.objects(path, old, new),
            (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
                for (i, (old, new)) in old.iter().zip(new).enumerate() {
                    self.value(&path.index(i), Some(old), Some(new));
                }
            }
            _ => self.leaf(path, old, new),
        }
    }

    fn objects(&mut self, path: &FieldPath, old: &Map, new: &Map) {
        let added = new.keys().filter(|key| !old.contains(key));
        for key in old.keys().chain(added) {
            self.value(&path.field(key), old.get(key), new.get(key));
        }
    }

    fn leaf(&mut self, path: &FieldPath, old: Option<&Value>, new: Option<&Value>) {
        self.found += 1;
        if self.found > MAX_FIELDS {
            return;
        }
        for (sign, value) in [('-', old), ('+', new)] {
            if let Some(value) = value {
                let shown =
                    String::from_utf8_lossy(&json::to_vec(value)).chars().take(MAX_VALUE).collect::<String>();
                line(&mut self.text, format_args!("{sign} {path}: {shown}"));
            }
        }
    }
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.write_fmt(args).expect("a String takes all writes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn each_field_has_its_lines() {
        let old = object!({"a": {"b": 1, "c": []}, "l": [{"n": "x"}], "gone": "v"});
        let new = object!({"a": {"b": 2}, "l": [{"n": "y"}], "new": true});
        let want = "- a.b: 1\n+ a.b: 2\n- gone: \"v\"\n- l[0].n: \"x\"\n+ l[0].n: \"y\"\n+ new: true";
        assert_eq!(describe(&old, &new), want);
        let many: Map = (0..12).map(|i| (format!("k{i:02}").into(), Value::Int(1))).collect();
        assert!(describe(&Value::object(), &many.into()).ends_with("  and 2 more"));
    }
}

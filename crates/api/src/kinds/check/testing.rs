//! What the tests of rules share.

use crate::Value;
use crate::error::Cause;

/// The causes as `path: message`.
pub(in crate::kinds) fn lines(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(ToString::to_string).collect()
}

/// The value of a JSON text.
pub(in crate::kinds) fn json(text: &str) -> Value {
    crate::json::from_slice(text.as_bytes()).expect(text)
}

/// A copy of `base` with changes `("path", "JSON")` made; a path is member names and list indexes joined by dots, and
/// an empty JSON text removes.
pub(in crate::kinds) fn with(base: &Value, changes: &[(&str, &str)]) -> Value {
    let mut out = base.clone();
    for (path, text) in changes {
        let steps: Vec<&str> = path.split('.').collect();
        let (last, parents) = steps.split_last().expect("a path has a step");
        let mut at = &mut out;
        for step in parents {
            at = go(at, step);
        }
        if text.is_empty() {
            drop(at.remove_at(&[last]));
        } else {
            *go(at, last) = json(text);
        }
    }
    out
}

/// Judges cases written as text, parted by blank lines. In a case, `path = JSON` changes `base` as [`with`] does (`~`
/// is a dot inside a name), `= JSON` stands in its place, and `! line` is a cause that is expected, in order. Lines
/// that start with a space go on with the one before.
pub(in crate::kinds) fn cases(base: &Value, text: &str, judge: impl Fn(&Value) -> Vec<Cause>) {
    for case in text.trim().split("\n\n") {
        let mut joined = String::new();
        for line in case.lines() {
            joined.push(if line.starts_with(' ') { ' ' } else { '\n' });
            joined.push_str(line.trim());
        }
        let (wants, changes): (Vec<&str>, Vec<&str>) =
            joined.trim().lines().partition(|line| line.starts_with("! "));
        let mut object = base.clone();
        for change in changes {
            let (path, json_text) = change.split_once('=').expect(change);
            object = match path.trim() {
                "" => json(json_text.trim()),
                path => with(&object, &[(path, json_text.trim())]),
            };
        }
        let wants: Vec<&str> = wants.iter().map(|line| &line[2..]).collect();
        assert_eq!(lines(&judge(&object)), wants, "{case}");
    }
}

fn go<'v>(value: &'v mut Value, step: &str) -> &'v mut Value {
    match (step.parse::<usize>(), value) {
        (Ok(index), Value::Array(items)) => {
            if index == items.len() {
                items.push(Value::Null);
            }
            &mut items[index]
        }
        (_, value) => value.entry(&step.replace('~', ".")),
    }
}

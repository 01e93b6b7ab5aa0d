//! The vocabulary of validation: a walk that knows where it stands, and rules that most fields need.
//!
//! Rules take the object and a member's name, so that a line of code reads as a line of the rule book. Absent members read
//! as what they mean: an empty text, no elements. What is wrong is reported where it stands, in the order of the walk.

use crate::error::{Cause, CauseKind};
use crate::names::Fault;
use crate::path::{PathStack, Step};
use crate::selector::Selector;
use crate::{FieldPath, Map, Value, names};

/// How many causes are gathered before reporting ends; nobody reads more.
const MAX_CAUSES: usize = 64;

/// What a number below zero is told.
pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// What a changed field is told that cannot change.
pub(super) const IMMUTABLE: &str = "field is immutable";

/// A rule for a text.
pub(super) type Rule = fn(&str) -> Result<(), Fault>;

/// Rules for what the walk stands at.
pub(super) type Rules = fn(&mut Check, &Value);

static NULL: Value = Value::Null;

/// A walk through an object that gathers what is wrong with it.
#[derive(Default)]
pub(super) struct Check {
    path: PathStack,
    causes: Vec<Cause>,
}

/// A place to report at.
pub(super) struct Spot<'c> {
    check: &'c mut Check,
    steps: Vec<Step>,
}

/// Walks an object.
pub(super) fn run(walk: impl FnOnce(&mut Check)) -> Vec<Cause> {
    let mut check = Check::default();
    walk(&mut check);
    check.causes
}

/// The steps of the walk.
impl Check {
    /// Walks into the member `name`, which may be absent (`null` then).
    pub(super) fn field<'v>(
        &mut self,
        object: &'v Value,
        name: &str,
        walk: impl FnOnce(&mut Self, &'v Value),
    ) {
        let step = self.path.field(name);
        walk(self, object.get(name).unwrap_or(&NULL));
        self.path.back(step);
    }

    /// Walks into the member `name` if it is there.
    pub(super) fn some<'v>(
        &mut self,
        object: &'v Value,
        name: &str,
        walk: impl FnOnce(&mut Self, &'v Value),
    ) {
        if is_set(object, name) {
            self.field(object, name, walk);
        }
    }

    /// Walks into each element of the list `name`.
    pub(super) fn each<'v>(
        &mut self,
        object: &'v Value,
        name: &str,
        mut walk: impl FnMut(&mut Self, &'v Value),
    ) {
        for (i, item) in object.array_at(&[name]).iter().enumerate() {
            let steps = [self.path.field(name), self.path.index(i)];
            walk(self, item);
            steps.into_iter().rev().for_each(|step| self.path.back(step));
        }
    }

    /// Walks into each entry of the map `name`.
    pub(super) fn entries<'v>(
        &mut self,
        object: &'v Value,
        name: &str,
        mut walk: impl FnMut(&mut Self, &'v str, &'v Value),
    ) {
        for (key, value) in object.object_at(&[name]).into_iter().flat_map(Map::iter) {
            let steps = [self.path.field(name), self.path.key(key)];
            walk(self, key, value);
            steps.into_iter().rev().for_each(|step| self.path.back(step));
        }
    }

    /// Steps into `name`, whatever stands there.
    pub(super) fn within(&mut self, name: &str, walk: impl FnOnce(&mut Self)) {
        let step = self.path.field(name);
        walk(self);
        self.path.back(step);
    }

    /// Steps into the element `index`.
    pub(super) fn within_index(&mut self, index: usize, walk: impl FnOnce(&mut Self)) {
        let step = self.path.index(index);
        walk(self);
        self.path.back(step);
    }

    /// Steps into the entry `key`.
    pub(super) fn within_key(&mut self, key: &str, walk: impl FnOnce(&mut Self)) {
        let step = self.path.key(key);
        walk(self);
        self.path.back(step);
    }

    /// Where the walk stands.
    pub(super) fn here(&mut self) -> Spot<'_> {
        Spot { check: self, steps: Vec::new() }
    }

    /// A member of where it stands.
    pub(super) fn at(&mut self, name: &str) -> Spot<'_> {
        let steps = vec![self.path.field(name)];
        Spot { check: self, steps }
    }

    /// The path of where it stands.
    pub(super) fn path(&self) -> FieldPath {
        self.path.current()
    }

    /// How much is wrong so far.
    pub(super) fn count(&self) -> usize {
        self.causes.len()
    }

    /// Puts what was found after the first `count` in the order of its text.
    pub(super) fn sort_after(&mut self, count: usize) {
        if let Some(tail) = self.causes.get_mut(count..) {
            tail.sort_by_cached_key(ToString::to_string);
        }
    }

    /// Takes over what another check found.
    pub(super) fn extend(&mut self, causes: Vec<Cause>) {
        let room = MAX_CAUSES.saturating_sub(self.causes.len());
        self.causes.extend(causes.into_iter().take(room));
    }
}

/// Further steps, then one report.
impl Spot<'_> {
    /// A member of this place.
    pub(super) fn field(mut self, name: &str) -> Self {
        self.steps.push(self.check.path.field(name));
        self
    }

    /// An element of this place.
    pub(super) fn index(mut self, index: usize) -> Self {
        self.steps.push(self.check.path.index(index));
        self
    }

    /// An entry of this place.
    pub(super) fn key(mut self, key: &str) -> Self {
        self.steps.push(self.check.path.key(key));
        self
    }

    pub(super) fn required(self, detail: &str) {
        self.report(|path| Cause::required(path, detail));
    }

    pub(super) fn invalid(self, value: impl Into<Value>, detail: &str) {
        self.report(|path| Cause::invalid(path, value, detail));
    }

    /// A value that is not shown.
    pub(super) fn wrong(self, detail: &str) {
        self.report(|field| Cause {
            kind: CauseKind::Invalid,
            field,
            message: format!("Invalid value: {detail}"),
        });
    }

    pub(super) fn forbidden(self, detail: &str) {
        self.report(|path| Cause::forbidden(path, detail));
    }

    pub(super) fn not_supported(self, value: impl Into<Value>, supported: &[&str]) {
        self.report(|path| Cause::not_supported(path, value, supported));
    }

    pub(super) fn duplicate(self, value: impl Into<Value>) {
        self.report(|path| Cause::duplicate(path, value));
    }

    /// A value that stands twice, with a word on what makes it the same.
    pub(super) fn duplicate_of(self, value: impl Into<Value>, detail: &str) {
        self.report(|path| {
            let mut cause = Cause::duplicate(path, value);
            cause.message.push_str(": ");
            cause.message.push_str(detail);
            cause
        });
    }

    pub(super) fn not_found(self, value: impl Into<Value>) {
        self.report(|path| Cause::not_found(path, value));
    }

    /// A reference to nothing, with a word on where it was looked for.
    pub(super) fn not_found_in(self, value: impl Into<Value>, detail: &str) {
        self.report(|path| {
            let mut cause = Cause::not_found(path, value);
            cause.message.push_str(": ");
            cause.message.push_str(detail);
            cause
        });
    }

    pub(super) fn too_long(self, max: usize) {
        self.report(|path| Cause::too_long(path, max));
    }

    pub(super) fn too_many(self, count: usize, max: usize) {
        self.report(|path| Cause::too_many(path, count, max));
    }

    /// A text that breaks `rule`.
    pub(super) fn obeys(self, text: &str, rule: impl Fn(&str) -> Result<(), Fault>) {
        match rule(text) {
            Ok(()) => self.leave(),
            Err(fault) => self.invalid(text, &fault),
        }
    }

    fn report(self, cause: impl FnOnce(FieldPath) -> Cause) {
        if self.check.causes.len() < MAX_CAUSES {
            let path = self.check.path.current();
            self.check.causes.push(cause(path));
        }
        self.leave();
    }

    /// Nothing is wrong here.
    pub(super) fn leave(self) {
        let Self { check, steps } = self;
        steps.into_iter().rev().for_each(|step| check.path.back(step));
    }
}

/// Rules for one member.
impl Check {
    /// The text is there.
    pub(super) fn require<'v>(&mut self, object: &'v Value, name: &str) -> Option<&'v str> {
        let found = filled(object, name);
        if found.is_none() {
            self.at(name).required("");
        }
        found
    }

    /// The text, if it is there, obeys a rule.
    pub(super) fn name(&mut self, object: &Value, name: &str, rule: Rule) {
        if let Some(text) = filled(object, name) {
            self.at(name).obeys(text, rule);
        }
    }

    /// The text is there and obeys a rule.
    pub(super) fn require_name(&mut self, object: &Value, name: &str, rule: Rule) {
        if let Some(text) = self.require(object, name) {
            self.at(name).obeys(text, rule);
        }
    }

    /// The text is one of a closed set.
    pub(super) fn one_of(&mut self, object: &Value, name: &str, allowed: &[&str]) {
        let text = text(object, name);
        if !allowed.contains(&text) {
            self.at(name).not_supported(text, allowed);
        }
    }

    /// The text is there, and is one of a closed set.
    pub(super) fn require_one_of(&mut self, object: &Value, name: &str, allowed: &[&str]) {
        if self.require(object, name).is_some() {
            self.one_of(object, name, allowed);
        }
    }

    /// The text, if it is there, is one of a closed set.
    pub(super) fn one_of_if_set(&mut self, object: &Value, name: &str, allowed: &[&str]) {
        if is_set(object, name) {
            self.one_of(object, name, allowed);
        }
    }

    /// The number, if it is there, lies between two, both included.
    pub(super) fn range(&mut self, object: &Value, name: &str, min: i64, max: i64) {
        let number = number(object, name);
        if number.is_some_and(|n| n < min || n > max) {
            self.at(name).invalid(number, &between(min, max));
        }
    }

    /// The number, if it is there, is zero or more.
    pub(super) fn non_negative(&mut self, object: &Value, name: &str) {
        let number = number(object, name);
        if number.is_some_and(|n| n < 0) {
            self.at(name).invalid(number, NOT_NEGATIVE);
        }
    }

    /// The number, if it is there, is one or more.
    pub(super) fn positive(&mut self, object: &Value, name: &str) {
        let number = number(object, name);
        if number.is_some_and(|n| n <= 0) {
            self.at(name).invalid(number, "must be greater than zero");
        }
    }

    /// The member did not change.
    pub(super) fn immutable(&mut self, new: &Value, old: &Value, name: &str) {
        if !same(new.get(name), old.get(name)) {
            let value = new.get(name).cloned().unwrap_or_default();
            self.at(name).invalid(value, IMMUTABLE);
        }
    }

    /// The `LabelSelector` is well formed; it is given back if it is.
    pub(super) fn selector(&mut self, object: &Value, name: &str) -> Option<Selector> {
        let step = self.path.field(name);
        let path = self.path.current();
        self.path.back(step);
        match Selector::from_object(object.get(name)?, &path) {
            Ok(selector) => Some(selector),
            Err(causes) => {
                self.extend(causes);
                None
            }
        }
    }

    /// The `LabelSelector` that the walk stands at is well formed.
    pub(super) fn selector_here(&mut self, selector: &Value) {
        if let Err(causes) = Selector::from_object(selector, &self.path.current()) {
            self.extend(causes);
        }
    }

    /// The keys and values of a map of labels follow their rules.
    pub(super) fn labels(&mut self, object: &Value, name: &str) {
        for (key, value) in object.object_at(&[name]).into_iter().flat_map(Map::iter) {
            self.at(name).obeys(key, names::qualified);
            self.at(name).obeys(value.as_str().unwrap_or_default(), names::label_value);
        }
    }
}

/// What a number outside its bounds is told.
pub(super) fn between(min: i64, max: i64) -> String {
    format!("must be between {min} and {max}, inclusive")
}

/// Whether the member is there.
pub(super) fn is_set(object: &Value, name: &str) -> bool {
    object.get(name).is_some_and(|v| !v.is_null())
}

/// The text of a member; absent ones are empty.
pub(super) fn text<'v>(object: &'v Value, name: &str) -> &'v str {
    object.str_at(&[name]).unwrap_or_default()
}

/// The text of a member if it is not empty.
pub(super) fn filled<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    object.str_at(&[name]).filter(|t| !t.is_empty())
}

/// The number of a member.
pub(super) fn number(object: &Value, name: &str) -> Option<i64> {
    object.i64_at(&[name])
}

/// Whether the member is `true`.
pub(super) fn is_true(object: &Value, name: &str) -> bool {
    object.bool_at(&[name]) == Some(true)
}

/// Whether two values mean the same: what is empty or zero is as good as absent, as it is in fields that are always
/// written or never.
pub(super) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let a = a.filter(|v| !means_nothing(v));
    let b = b.filter(|v| !means_nothing(v));
    match (a, b) {
        (None, None) => true,
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(key, value)| same(Some(value), b.get(key)))
                && b.iter().all(|(key, value)| a.contains(key) || same(None, Some(value)))
        }
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn means_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(m) => m.values().all(means_nothing),
        Value::Bool(true) | Value::Int(_) | Value::Float(_) => false,
    }
}

#[cfg(test)]
pub(super) mod testing {
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
}

#[cfg(test)]
mod tests {
    use super::testing::{json, lines};
    use super::*;

    #[test]
    fn rules_report_where_they_stand() {
        let object = json(
            r#"{"a": {"n": -1, "p": 70000, "t": "x", "l": {"-": "b"}, "s": {"matchLabels": {"-": "b"}}}}"#,
        );
        let causes = run(|c| {
            c.field(&object, "a", |c, a| {
                c.require(a, "missing");
                c.non_negative(a, "n");
                c.positive(a, "n");
                c.range(a, "p", 1, 65_535);
                c.one_of(a, "t", &["y"]);
                c.one_of_if_set(a, "missing", &["y"]);
                c.name(a, "t", names::dns_label);
                c.labels(a, "l");
                c.selector(a, "s");
                c.at("x").index(2).key("k").forbidden("no");
            });
            c.each(&object, "none", |c, _| c.here().required(""));
        });
        let qualified = names::qualified("-").expect_err("no name");
        assert_eq!(
            lines(&causes),
            [
                "a.missing: Required value".to_owned(),
                "a.n: Invalid value: -1: must be greater than or equal to 0".into(),
                "a.n: Invalid value: -1: must be greater than zero".into(),
                "a.p: Invalid value: 70000: must be between 1 and 65535, inclusive".into(),
                r#"a.t: Unsupported value: "x": supported values: "y""#.into(),
                format!(r#"a.l: Invalid value: "-": {qualified}"#),
                format!(r#"a.s.matchLabels: Invalid value: "-": {qualified}"#),
                "a.x[2][k]: Forbidden: no".into(),
            ]
        );
    }

    #[test]
    fn what_is_the_same() {
        let check = |a: &str, b: &str, want: bool| {
            let (a, b) = (json(a), json(b));
            assert_eq!(same(Some(&a), Some(&b)), want, "{a:?} {b:?}");
            assert_eq!(same(Some(&b), Some(&a)), want, "{b:?} {a:?}");
        };
        check(r#"{"a": 0, "b": "", "c": [], "d": {}, "e": false}"#, "{}", true);
        check(r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 1, "c": null}}"#, true);
        check(r#"{"a": 1}"#, "{}", false);
        check("[1, 2]", "[2, 1]", false);
        check(r#"["a"]"#, r#"["a", ""]"#, false);
    }
}

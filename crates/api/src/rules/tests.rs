//! Cases of objects and of changes, over small definitions.

use crate::resource::ResourceDef;
use crate::{Value, crd, json};

fn value(text: &str) -> Value {
    json::from_slice(text.as_bytes()).expect("JSON")
}

/// The resource whose `spec` this is.
fn resource(spec: &str) -> ResourceDef {
    let definition = format!(
        r#"{{"metadata": {{"name": "as.example.com"}}, "spec": {{"group": "example.com", "scope": "Cluster",
        "names": {{"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"}}, "versions": [{{"name": "v1",
        "served": true, "storage": true, "schema": {{"openAPIV3Schema": {{"type": "object", "properties": {{"spec": {spec}}}}}}}}}]}}}}"#
    );
    crd::resource(&value(&definition)).expect("a definition")
}

/// What is found wrong with an object, or a change of one, by its `spec`; what is only warned of stands after `warning: `.
fn found(resource: &ResourceDef, old: Option<&str>, new: &str) -> Vec<String> {
    let object =
        |spec: &str| value(&format!(r#"{{"apiVersion": "example.com/v1", "kind": "A", "spec": {spec}}}"#));
    let version = resource.storage();
    let rules = version.rules.as_ref().expect("rules");
    let findings = rules.validate(&object(new), old.map(object).as_ref(), version.root());
    let warnings = findings.warnings.iter().map(|warning| format!("warning: {warning}"));
    findings.causes.iter().map(ToString::to_string).chain(warnings).collect()
}

/// A schema of `spec` with one rule, whose other fields may follow its expression.
fn with_rule(schema: &str, rule: &str) -> ResourceDef {
    resource(&format!(r#"{{{schema}, "x-kubernetes-validations": [{{"rule": {rule}}}]}}"#))
}

const OBJECT: &str = r#""type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}"#;

#[track_caller]
fn check(resource: &ResourceDef, old: Option<&str>, new: &str, want: &[&str]) {
    assert_eq!(found(resource, old, new), want, "from {old:?} to {new}");
}

#[test]
fn a_rule_holds_or_says_why_not() {
    let created = |rule: &str, want: &str| {
        let want: &[&str] = if want.is_empty() { &[] } else { &[want] };
        check(&with_rule(OBJECT, rule), None, r#"{"n": 1, "s": "a\nb"}"#, want);
    };
    created(r#""self.n == 1""#, "");
    created(r#""self.n == 2""#, "spec: Invalid value: failed rule: self.n == 2");
    created(r#""self.n == 2", "message": "must be two""#, "spec: Invalid value: must be two");
    created(
        r#""self.n == 2", "message": "must be two", "fieldPath": ".n""#,
        "spec.n: Invalid value: must be two",
    );
    created(
        r#""self.n == 2", "reason": "FieldValueRequired""#,
        "spec: Required value: failed rule: self.n == 2",
    );
    created(r#""self.n == 2", "reason": "FieldValueForbidden""#, "spec: Forbidden: failed rule: self.n == 2");
    created(r#""self.n == 2", "reason": "FieldValueDuplicate""#, "spec: Duplicate value");
    let messages = [
        ("' not ' + string(self.n) + ' '", "not 1"),
        ("' '", "stated"),
        ("self.s", "stated"),
        ("self.absent", "stated"),
        ("string(1 / (self.n - 1))", "stated"),
    ];
    for (expression, said) in messages {
        let rule = format!(r#""self.n == 2", "message": "stated", "messageExpression": "{expression}""#);
        created(&rule, &format!("spec: Invalid value: {said}"));
    }
    created(
        r#""1 / (self.n - 1) == 0""#,
        r#"spec: Invalid value: "object": division by zero evaluating rule: 1 / (self.n - 1) == 0"#,
    );
    created(
        r#""dyn(self.n) == 1 && dyn(self.n) + 'a' == 'a'""#,
        "spec: Invalid value: \"object\": 'no such overload': call arguments did not match a supported operator, function or \
         macro signature for rule: dyn(self.n) == 1 && dyn(self.n) + 'a' == 'a'",
    );
}

#[test]
fn a_scalar_is_shown_where_it_breaks_a_rule() {
    let resource = with_rule(r#""type": "string""#, r#""self != 'a'", "reason": "FieldValueDuplicate""#);
    check(&resource, None, r#""a""#, &[r#"spec: Duplicate value: "a""#]);
    let resource = with_rule(r#""type": "integer", "nullable": true"#, r#""self > 5""#);
    check(&resource, None, "3", &["spec: Invalid value: 3: failed rule: self > 5"]);
    check(&resource, None, "null", &[]);
}

#[test]
fn rules_about_changes_need_something_old() {
    let fixed = with_rule(OBJECT, r#""self.n == oldSelf.n""#);
    let wrong = "spec: Invalid value: failed rule: self.n == oldSelf.n";
    check(&fixed, None, r#"{"n": 1}"#, &[]);
    check(&fixed, Some("null"), r#"{"n": 1}"#, &[]);
    check(&fixed, Some(r#"{"n": 1}"#), r#"{"n": 1}"#, &[]);
    check(&fixed, Some(r#"{"n": 1}"#), r#"{"n": 2}"#, &[wrong]);
    let optional = with_rule(
        OBJECT,
        r#""oldSelf.hasValue() ? self.n == oldSelf.value().n : self.n == 0", "optionalOldSelf": true"#,
    );
    let wrong =
        "spec: Invalid value: failed rule: oldSelf.hasValue() ? self.n == oldSelf.value().n : self.n == 0";
    check(&optional, None, r#"{"n": 0}"#, &[]);
    check(&optional, None, r#"{"n": 1}"#, &[wrong]);
    check(&optional, Some(r#"{"n": 3}"#), r#"{"n": 3}"#, &[]);
    check(&optional, Some(r#"{"n": 3}"#), r#"{"n": 4}"#, &[wrong]);
}

#[test]
fn elements_are_known_by_their_keys() {
    let rule = r#""x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n"}]"#;
    let list = resource(&format!(
        r#"{{"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["s"], "items": {{{OBJECT}, "required": ["s"], {rule}}}}}"#
    ));
    let old = Some(r#"[{"s": "a", "n": 3}, {"s": "b", "n": 1}]"#);
    let wrong = "Invalid value: failed rule: self.n >= oldSelf.n";
    check(
        &list,
        old,
        r#"[{"s": "c", "n": 0}, {"s": "b", "n": 1}, {"s": "a", "n": 2}]"#,
        &[&format!("spec[2]: {wrong}")],
    );
    let map = resource(&format!(r#"{{"type": "object", "additionalProperties": {{{OBJECT}, {rule}}}}}"#));
    let old = Some(r#"{"x": {"n": 3}, "y": {"n": 3}}"#);
    check(
        &map,
        old,
        r#"{"x": {"n": 3}, "y": {"n": 2}, "z": {"n": 0}}"#,
        &[format!("spec[y]: {wrong}").as_str()],
    );
}

#[test]
fn lists_of_sets_and_maps_are_compared_as_such() {
    let same = r#""self.l == oldSelf.l""#;
    let holds = |list: &str, new: &str, want: bool| {
        let schema = format!(r#""type": "object", "properties": {{"l": {{"type": "array", {list}}}}}"#);
        let found = found(&with_rule(&schema, same), Some(r#"{"l": [{"s": "a"}, {"s": "b"}]}"#), new);
        assert_eq!(found.is_empty(), want, "{list} {new}");
    };
    let turned = r#"{"l": [{"s": "b"}, {"s": "a"}]}"#;
    let items = format!(r#""items": {{{OBJECT}}}"#);
    let map = r#", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["s"]"#;
    holds(&items, turned, false);
    holds(&format!("{items}{map}"), turned, true);
    holds(&format!("{items}{map}"), r#"{"l": [{"s": "b"}, {"s": "c"}]}"#, false);
    holds(&format!(r#"{items}, "x-kubernetes-list-type": "atomic""#), turned, false);
}

#[test]
fn what_did_not_change_is_only_warned_of() {
    let resource = resource(&format!(
        r#"{{"type": "object", "properties": {{"a": {{{OBJECT}, "x-kubernetes-validations": [{{"rule": "self.n > 5"}},
        {{"rule": "self.n > 5 || self.n == oldSelf.n + 1"}}]}}, "b": {{"type": "string"}},
        "l": {{"type": "array", "items": {{"type": "integer", "x-kubernetes-validations": [{{"rule": "self > 5"}}]}}}}}}}}"#
    ));
    let small = "spec.a: Invalid value: failed rule: self.n > 5";
    let step = "spec.a: Invalid value: failed rule: self.n > 5 || self.n == oldSelf.n + 1";
    let warned = &format!("warning: {small}");
    check(&resource, Some(r#"{"a": {"n": 1}}"#), r#"{"a": {"n": 1}, "b": "x"}"#, &[step, warned]);
    check(&resource, Some(r#"{"a": {"n": 1}}"#), r#"{"a": {"n": 2}}"#, &[small]);
    check(&resource, Some(r#"{"b": "x"}"#), r#"{"a": {"n": 1}, "b": "x"}"#, &[small]);
    let element = "spec.l[1]: Invalid value: 1: failed rule: self > 5";
    check(
        &resource,
        Some(r#"{"l": [6, 1]}"#),
        r#"{"l": [6, 1], "b": "x"}"#,
        &[&format!("warning: {element}")],
    );
    check(&resource, Some(r#"{"l": [6]}"#), r#"{"l": [6, 1]}"#, &[element]);
}

#[test]
fn evaluation_ends_when_it_costs_too_much() {
    // Looking for a text in another costs a hundredth of their lengths' product.
    let text = |length: usize| format!("\"{}\"", "a".repeat(length));
    let one = r#""type": "string", "x-kubernetes-validations": [{"rule": "self.contains(self)"}]"#;
    let string = resource(&format!("{{{one}}}"));
    check(&string, None, &text(9_900), &[]);
    let found = found(&string, None, &text(10_100));
    let out = "no further validation rules will be run due to call cost exceeds limit for rule: self.contains(self)";
    assert!(found.len() == 1 && found[0].contains(out), "{found:?}");
    // Each is within its own limit, all of them are not.
    let strings = resource(&format!(r#"{{"type": "array", "items": {{{one}}}}}"#));
    let many = |count: usize| format!("[{}]", vec![text(9_900); count].join(","));
    check(&strings, None, &many(10), &[]);
    let found = self::found(&strings, None, &many(12));
    let out = "running out of cost budget, no further validation rules will be run";
    assert!(found.len() == 1 && found[0].starts_with("spec[10]: ") && found[0].contains(out), "{found:?}");
}

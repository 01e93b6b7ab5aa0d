//! Rules of webhook configurations.

use super::rules::{FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, match_conditions, rule};
use crate::kinds::check::{Check, is_set, same, text};
use crate::kinds::{syntax, webhook};
use crate::{Value, names};

const QUIET: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
/// The versions of the request that a webhook may know.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// Checks the webhooks of a configuration. What an old one (from before a rule) does not keep, its successor need not.
pub(super) fn check(c: &mut Check, object: &Value, old: Option<&Value>) {
    let before = old.map(|old| old.array_at(&["webhooks"]));
    let holds = |rule: fn(&[Value]) -> bool| before.is_none_or(rule);
    let side_effects: &[&str] = if holds(|all| all.iter().all(is_quiet)) { &QUIET } else { &SIDE_EFFECTS };
    let known = holds(|all| all.iter().all(|hook| versions(hook).is_empty() || knows_version(hook)));
    let unique = holds(|all| {
        (0..all.len()).all(|i| all[..i].iter().all(|other| text(other, "name") != text(&all[i], "name")))
    });
    let now = object.array_at(&["webhooks"]);
    let same_conditions = before.is_some_and(|before| {
        let mut pairs = before.iter().zip(now);
        before.len() == now.len()
            && pairs.all(|(a, b)| same(a.get("matchConditions"), b.get("matchConditions")))
    });

    let mut seen = Vec::new();
    c.each(object, "webhooks", |c, hook| {
        c.require_name(hook, "name", syntax::three_labels);
        c.each(hook, "rules", rule);
        c.one_of_if_set(hook, "failurePolicy", &FAILURE_POLICIES);
        c.one_of_if_set(hook, "matchPolicy", &MATCH_POLICIES);
        if is_set(hook, "sideEffects") {
            c.one_of(hook, "sideEffects", side_effects);
        } else {
            c.at("sideEffects").required(&format!("must specify one of {}", side_effects.join(", ")));
        }
        let seconds = hook.i64_at(&["timeoutSeconds"]);
        if seconds.is_some_and(|s| !(1..=30).contains(&s)) {
            c.at("timeoutSeconds").invalid(seconds, "the timeout value must be between 1 and 30 seconds");
        }
        c.selector(hook, "namespaceSelector");
        c.selector(hook, "objectSelector");
        c.one_of_if_set(hook, "reinvocationPolicy", &REINVOCATION_POLICIES);
        webhook::client(c, hook, "clientConfig");
        if !same_conditions {
            match_conditions(c, hook);
        }
        review_versions(c, hook, known);
        let name = text(hook, "name");
        if unique && !name.is_empty() && seen.contains(&name) {
            c.at("name").duplicate(name);
        }
        seen.push(name);
    });
}

fn is_quiet(hook: &Value) -> bool {
    QUIET.contains(&text(hook, "sideEffects"))
}

fn versions(hook: &Value) -> Vec<&str> {
    hook.array_at(&["admissionReviewVersions"]).iter().map(|v| v.as_str().unwrap_or_default()).collect()
}

fn knows_version(hook: &Value) -> bool {
    versions(hook).iter().any(|version| VERSIONS.contains(version))
}

fn review_versions(c: &mut Check, hook: &Value, known: bool) {
    const FIELD: &str = "admissionReviewVersions";
    let all = versions(hook);
    let any = VERSIONS.join(", ");
    if all.is_empty() {
        return c.at(FIELD).required(&format!("must specify one of {any}"));
    }
    for (i, version) in all.iter().enumerate() {
        if all[..i].contains(version) {
            c.at(FIELD).index(i).invalid(*version, "duplicate version");
        } else {
            c.at(FIELD).index(i).obeys(version, names::dns_1035_label);
        }
    }
    if known && !knows_version(hook) {
        c.at(FIELD).invalid(all, &format!("must include at least one of {any}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json, lines, with};

    fn good() -> Value {
        json(
            r#"{"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://a"}}]}"#,
        )
    }

    #[test]
    fn configurations() {
        cases(&good(), WEBHOOKS, |object| run(|c| check(c, object, None)));
    }

    const WEBHOOKS: &str = r#"
webhooks.0.timeoutSeconds = 30
webhooks.0.failurePolicy = "Ignore"
webhooks.0.reinvocationPolicy = "Never"

webhooks.0 = {}
! webhooks[0].name: Required value
! webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun
! webhooks[0].clientConfig: Required value: exactly one of url or service is required
! webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1

webhooks.0.name = "a.b"
webhooks.0.rules = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"]}]
webhooks.0.failurePolicy = "x"
webhooks.0.matchPolicy = "x"
webhooks.0.sideEffects = "Some"
webhooks.0.timeoutSeconds = 31
webhooks.0.objectSelector = {"matchExpressions": [{"key": "a", "operator": "x"}]}
webhooks.0.reinvocationPolicy = "x"
webhooks.0.matchConditions = [{"name": "a"}]
webhooks.0.admissionReviewVersions = ["v2", "v2"]
! webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots
! webhooks[0].rules[0].resources: Required value
! webhooks[0].failurePolicy: Unsupported value: "x": supported values: "Fail", "Ignore"
! webhooks[0].matchPolicy: Unsupported value: "x": supported values: "Equivalent", "Exact"
! webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
! webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
! webhooks[0].objectSelector.matchExpressions[0].operator: Invalid value: "x": not a valid selector operator
! webhooks[0].reinvocationPolicy: Unsupported value: "x": supported values: "IfNeeded", "Never"
! webhooks[0].matchConditions[0].expression: Required value
! webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version
! webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1

webhooks.1 = {"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url":
  "https://a"}}
! webhooks[1].name: Duplicate value: "a.b.c"
"#;

    #[test]
    fn old_faults_may_stay() {
        let loud = with(
            &good(),
            &[
                ("webhooks.0.sideEffects", r#""Some""#),
                ("webhooks.0.admissionReviewVersions", r#"["v2"]"#),
                ("webhooks.0.matchConditions", r#"[{"name": "a"}]"#),
            ],
        );
        assert_eq!(lines(&run(|c| check(c, &loud, Some(&loud)))), [""; 0]);
        assert_eq!(run(|c| check(c, &loud, Some(&good()))).len(), 3);
        let twice = json(r#"{"webhooks": [{"name": "a.b.c"}, {"name": "a.b.c"}]}"#);
        let count = |old| run(|c| check(c, &twice, old)).len();
        assert_eq!(count(None) - count(Some(&twice)), 1);
    }
}

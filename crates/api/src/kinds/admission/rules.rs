//! Rules that webhooks and policies share: which requests they see.

use crate::kinds::check::{Check, is_set, text};
use crate::{Value, names};

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub(super) const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MAX_CONDITIONS: usize = 64;

fn texts<'v>(object: &'v Value, name: &str) -> Vec<&'v str> {
    object.array_at(&[name]).iter().map(|v| v.as_str().unwrap_or_default()).collect()
}

/// Checks which operations on which resources are meant.
pub(super) fn rule(c: &mut Check, rule: &Value) {
    const ALONE: &str = "if '*' is present, must not specify other";
    let lists = [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")];
    for (field, what) in lists {
        let all = texts(rule, field);
        if all.is_empty() {
            c.at(field).required("");
        }
        if all.len() > 1 && all.contains(&"*") {
            c.at(field).invalid(all.clone(), &format!("{ALONE} {what}"));
        }
        for (i, item) in all.into_iter().enumerate() {
            match field {
                "operations" if !OPERATIONS.contains(&item) => {
                    c.at(field).index(i).not_supported(item, &OPERATIONS);
                }
                "apiVersions" if item.is_empty() => c.at(field).index(i).required(""),
                _ => {}
            }
        }
    }
    resources(c, &texts(rule, "resources"));
    c.one_of_if_set(rule, "scope", &["*", "Cluster", "Namespaced"]);
}

/// Resources are `name`, `name/subresource` or `*` for either.
fn resources(c: &mut Check, all: &[&str]) {
    const FIELD: &str = "resources";
    if all.is_empty() {
        c.at(FIELD).required("");
    }
    let (mut whole, mut everywhere) = (Vec::new(), Vec::new());
    // Upstream looks at the last resource without a subresource only.
    let mut plain = false;
    for (i, item) in all.iter().enumerate() {
        if item.is_empty() {
            c.at(FIELD).index(i).required("");
            continue;
        }
        let Some((resource, sub)) = item.split_once('/') else {
            plain = *item != "*";
            continue;
        };
        if whole.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {item}");
            c.at(FIELD).index(i).invalid(*item, &detail);
        }
        if everywhere.contains(&sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {item}");
            c.at(FIELD).index(i).invalid(*item, &detail);
        }
        if sub == "*" {
            whole.push(resource);
        }
        if resource == "*" {
            everywhere.push(sub);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        c.at(FIELD).invalid(all.to_vec(), "if '*/*' is present, must not specify other resources");
    }
    if all.contains(&"*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        c.at(FIELD).invalid(all.to_vec(), detail);
    }
}

/// Checks the expressions that must hold for a request. Whether they compile is the server's to say.
pub(super) fn match_conditions(c: &mut Check, owner: &Value) {
    let count = owner.array_at(&["matchConditions"]).len();
    if count > MAX_CONDITIONS {
        c.at("matchConditions").too_many(count, MAX_CONDITIONS);
    }
    let mut seen = Vec::new();
    c.each(owner, "matchConditions", |c, condition| {
        if text(condition, "expression").trim().is_empty() {
            c.at("expression").required("");
        }
        c.require_name(condition, "name", names::qualified);
        let name = text(condition, "name");
        if !name.is_empty() && seen.contains(&name) {
            c.at("name").duplicate(name);
        }
        seen.push(name);
    });
}

/// Checks what a policy applies to.
pub(super) fn match_resources(c: &mut Check, resources: &Value) {
    match is_set(resources, "matchPolicy") {
        true => c.one_of(resources, "matchPolicy", &MATCH_POLICIES),
        false => c.at("matchPolicy").required(""),
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        if is_set(resources, selector) {
            c.selector(resources, selector);
        } else {
            c.at(selector).required("");
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        c.each(resources, list, |c, item| {
            let all = texts(item, "resourceNames");
            for (i, name) in all.iter().enumerate() {
                c.at("resourceNames").index(i).obeys(name, names::path_segment);
                if all[..i].contains(name) {
                    c.at("resourceNames").index(i).duplicate(*name);
                }
            }
            rule(c, item);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn what_is_meant() {
        let base = json(
            r#"{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}"#,
        );
        cases(&base, RULES, |object| run(|c| rule(c, object)));
        let mut base = json(r#"{"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}}"#);
        cases(&base, RESOURCES, |object| run(|c| match_resources(c, object)));
        cases(&base, CONDITIONS, |object| run(|c| match_conditions(c, object)));
        let many: Vec<Value> = (0..=MAX_CONDITIONS)
            .map(|i| crate::object!({"name": (format!("a{i}")), "expression": "b"}))
            .collect();
        base.set(&["matchConditions"], many);
        assert_eq!(run(|c| match_conditions(c, &base)).len(), 1);
    }

    const RULES: &str = r#"
resources = ["*", "pods/*", "*/scale"]

resources = ["*/*"]

= {"scope": "x"}
! operations: Required value
! apiGroups: Required value
! apiVersions: Required value
! resources: Required value
! scope: Unsupported value: "x": supported values: "*", "Cluster", "Namespaced"

operations = ["*", "x"]
apiGroups = ["*", ""]
apiVersions = ["*", ""]
resources = ["", "*/*", "*"]
! operations: Invalid value: ["*","x"]: if '*' is present, must not specify other operations
! operations[1]: Unsupported value: "x": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
! apiGroups: Invalid value: ["*",""]: if '*' is present, must not specify other API groups
! apiVersions: Invalid value: ["*",""]: if '*' is present, must not specify other API versions
! apiVersions[1]: Required value
! resources[0]: Required value
! resources: Invalid value: ["","*/*","*"]: if '*/*' is present, must not specify other resources

resources = ["a/*", "a/b", "*/c", "b/c", "*", "a"]
! resources[1]: Invalid value: "a/b": if 'a/*' is present, must not specify a/b
! resources[3]: Invalid value: "b/c": if '*/c' is present, must not specify b/c
! resources: Invalid value: ["a/*","a/b","*/c","b/c","*","a"]: if '*' is present, must not specify other resources
  without subresources
"#;

    const RESOURCES: &str = r#"
matchPolicy = "Equivalent"

= {"resourceRules": [{"resourceNames": ["a", "a", "a/b"], "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
  "resources": ["*"]}]}
! matchPolicy: Required value
! namespaceSelector: Required value
! objectSelector: Required value
! resourceRules[0].resourceNames[1]: Duplicate value: "a"
! resourceRules[0].resourceNames[2]: Invalid value: "a/b": may not contain '/'

matchPolicy = "x"
excludeResourceRules = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"]}]
! matchPolicy: Unsupported value: "x": supported values: "Equivalent", "Exact"
! excludeResourceRules[0].resources: Required value
"#;

    const CONDITIONS: &str = r#"
matchConditions = [{"name": "a", "expression": "true"}]

matchConditions = [{"name": "a", "expression": " "}, {"name": "a", "expression": "b"}, {"expression": "b"}]
! matchConditions[0].expression: Required value
! matchConditions[1].name: Duplicate value: "a"
! matchConditions[2].name: Required value
"#;
}

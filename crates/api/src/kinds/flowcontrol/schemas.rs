//! Rules of flow schemas: which requests go where.

use super::{CATCH_ALL, EXEMPT};
use crate::kinds::check::{Check, is_set, is_true, number, same, text};
use crate::{Value, meta, names, object};

const LOWEST: i64 = 10_000;

/// The specification that an object of this name always has.
fn fixed_schema(name: &str) -> Option<Value> {
    let (precedence, groups, distinguished) = match name {
        EXEMPT => (1, &["system:masters"][..], false),
        CATCH_ALL => (LOWEST, &["system:unauthenticated", "system:authenticated"][..], true),
        _ => return None,
    };
    let subjects: Vec<Value> =
        groups.iter().map(|group| object!({"kind": "Group", "group": {"name": (*group)}})).collect();
    let mut spec = object!({
        "priorityLevelConfiguration": {"name": (name)},
        "matchingPrecedence": (precedence),
        "rules": [{
            "subjects": (subjects),
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        }]
    });
    if distinguished {
        spec.set(&["distinguisherMethod", "type"], "ByUser");
    }
    Some(spec)
}

/// Checks a flow schema.
pub(super) fn check(c: &mut Check, object: &Value) {
    let name = meta::name(object);
    c.field(object, "spec", |c, spec| {
        precedence(c, spec, name);
        c.some(spec, "distinguisherMethod", |c, method| {
            if !["ByNamespace", "ByUser"].contains(&text(method, "type")) {
                c.at("type").not_supported(method.clone(), &["ByNamespace", "ByUser"]);
            }
        });
        c.field(spec, "priorityLevelConfiguration", |c, level| match text(level, "name") {
            "" => c.at("name").required("must reference a priority level"),
            name => c.at("name").obeys(name, names::dns_subdomain),
        });
        c.each(spec, "rules", rule);
        if fixed_schema(name).is_some_and(|fixed| !same(Some(&fixed), Some(spec))) {
            c.here().invalid(spec.clone(), &format!("spec of '{name}' must equal the fixed value"));
        }
    });
}

fn precedence(c: &mut Check, spec: &Value, name: &str) {
    const FIELD: &str = "matchingPrecedence";
    let precedence = number(spec, FIELD).unwrap_or(0);
    if precedence <= 0 {
        c.at(FIELD).invalid(precedence, "must be a positive value");
    }
    if precedence > LOWEST {
        c.at(FIELD).invalid(precedence, &format!("must not be greater than {LOWEST}"));
    }
    if precedence == 1 && name != EXEMPT {
        c.at(FIELD).invalid(precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
}

fn rule(c: &mut Check, rule: &Value) {
    if rule.array_at(&["subjects"]).is_empty() {
        c.at("subjects").required("subjects must contain at least one value");
    }
    c.each(rule, "subjects", subject);
    if ["resourceRules", "nonResourceRules"].iter().all(|list| rule.array_at(&[list]).is_empty()) {
        c.here().required("at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    c.each(rule, "resourceRules", resource_rule);
    c.each(rule, "nonResourceRules", |c, rule| {
        verbs(c, rule);
        let url = |c: &mut Check, i: usize, path: &str| {
            if let Some(fault) = path_fault(path) {
                c.at("nonResourceURLs").index(i).invalid(path, fault);
            }
        };
        let absent = "nonResourceURLs must contain at least one value";
        list(c, rule, "nonResourceURLs", absent, "non-resource URLs", url);
    });
}

/// Checks a list that is not empty, and names either everything or some.
fn list(
    c: &mut Check,
    rule: &Value,
    field: &str,
    absent: &str,
    others: &str,
    each: impl Fn(&mut Check, usize, &str),
) {
    let all: Vec<&str> = rule.array_at(&[field]).iter().map(|v| v.as_str().unwrap_or_default()).collect();
    if all.is_empty() && !absent.is_empty() {
        c.at(field).required(absent);
    } else if !all.contains(&"*") {
        all.iter().enumerate().for_each(|(i, text)| each(c, i, text));
    } else if all.len() > 1 {
        c.at(field).invalid(all, &format!("if '*' is present, must not specify other {others}"));
    }
}

fn verbs(c: &mut Check, rule: &Value) {
    const VERBS: [&str; 9] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    list(c, rule, "verbs", "verbs must contain at least one value", "verbs", |_, _, _| ());
    let all = rule.array_at(&["verbs"]);
    let known = |verb: &Value| verb.as_str().is_some_and(|verb| verb == "*" || VERBS.contains(&verb));
    if !all.iter().any(|verb| verb.as_str() == Some("*")) && !all.iter().all(known) {
        c.at("verbs").not_supported(all.to_vec(), &VERBS);
    }
}

fn resource_rule(c: &mut Check, rule: &Value) {
    verbs(c, rule);
    let absent = "resource rules must supply at least one api group";
    list(c, rule, "apiGroups", absent, "api groups", |_, _, _| ());
    let absent = "resource rules must supply at least one resource";
    list(c, rule, "resources", absent, "resources", |_, _, _| ());
    let absent = if is_true(rule, "clusterScope") {
        ""
    } else {
        "resource rules that are not cluster scoped must supply at least one namespace"
    };
    list(c, rule, "namespaces", absent, "namespaces", |c, i, name| {
        if let Err(fault) = names::dns_label(name) {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
            c.at("namespaces").index(i).invalid(name, &detail);
        }
    });
}

/// What is wrong with a path, whose last element may be `*`.
fn path_fault(path: &str) -> Option<&'static str> {
    if path == "/" {
        None
    } else if path.is_empty() {
        Some("must not be empty")
    } else if !path.starts_with('/') {
        Some("must start with slash")
    } else if path.contains(' ') {
        Some("must not contain white-space")
    } else if path.contains("//") {
        Some("must not contain double slash")
    } else if path.strip_suffix("/*").unwrap_or(path).contains('*') {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

fn subject(c: &mut Check, subject: &Value) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, "kind");
    let Some((_, mine)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        return c.at("kind").not_supported(kind, &["Group", "ServiceAccount", "User"]);
    };
    if is_set(subject, mine) {
        c.field(subject, mine, |c, who| {
            if let Some(name) = c.require(who, "name")
                && kind == "ServiceAccount"
                && name != "*"
            {
                c.at("name").obeys(name, names::dns_subdomain);
            }
            if kind == "ServiceAccount" {
                match text(who, "namespace") {
                    "" => c.at("namespace").required("must specify namespace for service account"),
                    name => c.at("namespace").obeys(name, names::dns_label),
                }
            }
        });
    } else {
        c.at(mine).required(&format!("{mine} is required when subject kind is '{kind}'"));
    }
    for (other, field) in KINDS {
        if other != kind && is_set(subject, field) {
            c.at(field).forbidden(&format!("{field} is forbidden when subject kind is not '{other}'"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};
    use crate::kinds::flowcontrol::FLOW_SCHEMA;

    #[test]
    fn schemas() {
        let base = json(
            r#"{"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "b"},
                "rules": [{"subjects": [{"kind": "User", "user": {"name": "u"}}], "nonResourceRules":
                  [{"verbs": ["get"], "nonResourceURLs": ["/a/*"]}]}]}}"#,
        );
        cases(&base, SCHEMAS, FLOW_SCHEMA.validate);
        for name in [EXEMPT, CATCH_ALL] {
            let fixed =
                object!({"metadata": {"name": (name)}, "spec": (fixed_schema(name).unwrap_or_default())});
            assert_eq!((FLOW_SCHEMA.validate)(&fixed), []);
            let mut changed = fixed;
            changed.set(&["spec", "matchingPrecedence"], 7);
            assert_eq!((FLOW_SCHEMA.validate)(&changed).len(), 1);
        }
        cases(&json("{}"), STATUSES, |object| (FLOW_SCHEMA.validate_status)(object, &Value::Null));
    }

    const SCHEMAS: &str = r#"
spec.distinguisherMethod = {"type": "ByUser"}
spec.rules.0.resourceRules = [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "clusterScope": true}]
spec.rules.0.subjects = [{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}]

spec = {"rules": [{}]}
! spec.matchingPrecedence: Invalid value: 0: must be a positive value
! spec.priorityLevelConfiguration.name: Required value: must reference a priority level
! spec.rules[0].subjects: Required value: subjects must contain at least one value
! spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty

spec.matchingPrecedence = 10001
spec.distinguisherMethod = {"type": "x"}
! spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000
! spec.distinguisherMethod.type: Unsupported value: {"type":"x"}: supported values: "ByNamespace", "ByUser"

spec.matchingPrecedence = 1
! spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1

spec.rules.0.subjects = [{"kind": "x"}, {"kind": "User", "group": {}, "serviceAccount": {}}, {"kind": "Group", "group":
  {}, "user": {}}, {"kind": "ServiceAccount", "serviceAccount": {}}]
! spec.rules[0].subjects[0].kind: Unsupported value: "x": supported values: "Group", "ServiceAccount", "User"
! spec.rules[0].subjects[1].user: Required value: user is required when subject kind is 'User'
! spec.rules[0].subjects[1].serviceAccount: Forbidden: serviceAccount is forbidden when subject kind is not
  'ServiceAccount'
! spec.rules[0].subjects[1].group: Forbidden: group is forbidden when subject kind is not 'Group'
! spec.rules[0].subjects[2].group.name: Required value
! spec.rules[0].subjects[2].user: Forbidden: user is forbidden when subject kind is not 'User'
! spec.rules[0].subjects[3].serviceAccount.name: Required value
! spec.rules[0].subjects[3].serviceAccount.namespace: Required value: must specify namespace for service account

spec.rules.0.nonResourceRules = [{}, {"verbs": ["x"], "nonResourceURLs": ["", "/", "a", "/a b", "//", "/*a"]},
  {"verbs": ["*", "get"], "nonResourceURLs": ["*", "/"]}]
! spec.rules[0].nonResourceRules[0].verbs: Required value: verbs must contain at least one value
! spec.rules[0].nonResourceRules[0].nonResourceURLs: Required value: nonResourceURLs must contain at least one value
! spec.rules[0].nonResourceRules[1].verbs: Unsupported value: ["x"]: supported values: "create", "delete",
  "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
! spec.rules[0].nonResourceRules[1].nonResourceURLs[0]: Invalid value: "": must not be empty
! spec.rules[0].nonResourceRules[1].nonResourceURLs[2]: Invalid value: "a": must start with slash
! spec.rules[0].nonResourceRules[1].nonResourceURLs[3]: Invalid value: "/a b": must not contain white-space
! spec.rules[0].nonResourceRules[1].nonResourceURLs[4]: Invalid value: "//": must not contain double slash
! spec.rules[0].nonResourceRules[1].nonResourceURLs[5]: Invalid value: "/*a": wildcard can only do suffix matching
! spec.rules[0].nonResourceRules[2].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs
! spec.rules[0].nonResourceRules[2].nonResourceURLs: Invalid value: ["*","/"]: if '*' is present, must not specify other
  non-resource URLs

spec.rules.0.resourceRules = [{}, {"verbs": ["*"], "apiGroups": ["*", ""], "resources": ["*", "a"], "namespaces": ["A"]}]
! spec.rules[0].resourceRules[0].verbs: Required value: verbs must contain at least one value
! spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group
! spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource
! spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at
  least one namespace
! spec.rules[0].resourceRules[1].apiGroups: Invalid value: ["*",""]: if '*' is present, must not specify other api groups
! spec.rules[0].resourceRules[1].resources: Invalid value: ["*","a"]: if '*' is present, must not specify other resources
! spec.rules[0].resourceRules[1].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123
  label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with
  an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is
  '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
"#;

    const STATUSES: &str = r#"
status = {"conditions": [{"type": "Dangling", "status": "False"}]}

status = {"conditions": [{}, {}]}
! status.conditions[0].type: Required value
! status.conditions[1].type: Duplicate value: ""
! status.conditions[1].type: Required value
"#;
}

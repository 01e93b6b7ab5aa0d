//! Whether somebody would give away more than they hold: rules broken down to single permissions, each of which one rule
//! of the giver's must cover. As upstream does and says it, `rbac.authorization.k8s.io/v1` of 1.36.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Rule;
use crate::auth::User;

/// What of `granted` the rules in `held` do not cover, one permission each.
#[must_use]
pub fn missing(held: &[Rule], granted: &[Rule]) -> Vec<Rule> {
    let single = granted.iter().flat_map(break_down);
    single.filter(|permission| !held.iter().any(|rule| covers(rule, permission))).collect()
}

/// The text of a refusal; `faults` are of bindings that grant nothing.
#[must_use]
pub fn refusal(user: &User, missing: &[Rule], faults: &[String]) -> String {
    let lines: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    let mut text = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    );
    if !faults.is_empty() {
        // One error of several, as upstream shows its list of one.
        write!(text, "; resolution errors: [{}]", super::together(faults))
            .expect("a String takes all writes");
    }
    text
}

/// One verb on one resource, perhaps of one name, or on one path.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut out = Vec::new();
    for (group, resource) in rule.groups.iter().flat_map(|g| rule.resources.iter().map(move |r| (g, r))) {
        for verb in &rule.verbs {
            let all =
                Rule { verbs: one(verb), groups: one(group), resources: one(resource), ..Rule::default() };
            if rule.names.is_empty() {
                out.push(all);
            } else {
                out.extend(rule.names.iter().map(|name| Rule { names: one(name), ..all.clone() }));
            }
        }
    }
    for (path, verb) in rule.paths.iter().flat_map(|p| rule.verbs.iter().map(move |v| (p, v))) {
        out.push(Rule { verbs: one(verb), paths: one(path), ..Rule::default() });
    }
    out
}

/// Whether a rule allows all that a single permission does.
fn covers(rule: &Rule, permission: &Rule) -> bool {
    let all = |have: &[String], want: &[String]| {
        have.iter().any(|h| h == "*") || want.iter().all(|w| have.contains(w))
    };
    let names = if permission.names.is_empty() {
        rule.names.is_empty()
    } else {
        rule.names.is_empty() || permission.names.iter().all(|name| rule.names.contains(name))
    };
    all(&rule.verbs, &permission.verbs)
        && all(&rule.groups, &permission.groups)
        && names
        && permission.resources.iter().all(|resource| covers_resource(&rule.resources, resource))
        && permission.paths.iter().all(|path| rule.paths.iter().any(|have| covers_path(have, path)))
}

fn covers_resource(have: &[String], resource: &str) -> bool {
    let below = resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    have.iter().any(|h| h == "*" || h == resource || below.as_ref() == Some(h))
}

fn covers_path(have: &str, path: &str) -> bool {
    have == path
        || have.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

/// Puts the verbs on the same resource together.
fn compact(rules: &[Rule]) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut Rule| {
            rule.paths.is_empty()
                && (&other.groups, &other.resources, &other.names, &other.paths)
                    == (&rule.groups, &rule.resources, &rule.names, &rule.paths)
        };
        match out.iter_mut().find(same) {
            Some(other) => other.verbs.extend(rule.verbs.iter().cloned()),
            None => out.push(rule.clone()),
        }
    }
    out
}

fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.paths),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.into_iter().filter(|(_, list)| !list.is_empty());
    let parts: Vec<String> = parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", parts.join(", "))
}

/// `["a" "b"]`.
fn quoted(list: &[String]) -> String {
    let mut out = String::from("[");
    for (i, text) in list.iter().enumerate() {
        let blank = if i > 0 { " " } else { "" };
        write!(out, "{blank}{text:?}").expect("a String takes all writes");
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_held() {
        let check = |held: &[Rule], granted: Rule, want: &[&str]| {
            let missing = missing(held, std::slice::from_ref(&granted));
            let lines: Vec<String> = compact(&missing).iter().map(describe).collect();
            assert_eq!(lines, want, "{granted:?} out of {held:?}");
        };
        let named = |names: &[&str], rule: Rule| Rule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..rule
        };
        let pods = || Rule::on("get list", "", "pods");
        check(&[], pods(), &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#]);
        check(&[pods()], pods(), &[]);
        check(&[Rule::on("get", "", "pods"), Rule::on("list", "", "*")], pods(), &[]);
        check(&[Rule::on("*", "*", "*")], pods(), &[]);
        check(
            &[Rule::on("*", "apps", "*")],
            pods(),
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#],
        );
        check(&[pods()], Rule::on("get", "", "*"), &[r#"{APIGroups:[""], Resources:["*"], Verbs:["get"]}"#]);
        check(
            &[pods()],
            Rule::on("*", "", "pods"),
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#],
        );
        check(
            &[pods()],
            Rule::on("get", "", "pods pods/log"),
            &[r#"{APIGroups:[""], Resources:["pods/log"], Verbs:["get"]}"#],
        );
        check(&[Rule::on("get", "", "*/log")], Rule::on("get", "", "pods/log"), &[]);
        check(&[pods()], named(&["a"], pods()), &[]);
        check(
            &[named(&["a"], pods())],
            named(&["a", "b"], pods()),
            &[r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get" "list"]}"#],
        );
        check(
            &[named(&["a"], pods())],
            pods(),
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#],
        );
        check(&[Rule::on_paths(&["/a/*"])], Rule::on_paths(&["/a/b", "/a/*"]), &[]);
        check(
            &[Rule::on_paths(&["/a"])],
            Rule::on_paths(&["/a", "/a/b", "*"]),
            &[r#"{NonResourceURLs:["/a/b"], Verbs:["get"]}"#, r#"{NonResourceURLs:["*"], Verbs:["get"]}"#],
        );
    }

    #[test]
    fn a_refusal_names_the_user_and_each_permission_once() {
        let user = User { name: "jane".into(), groups: vec!["a".into(), "b".into()], ..User::default() };
        let granted =
            [Rule::on("list", "", "pods"), Rule::on("get", "", "nodes"), Rule::on("get", "", "pods")];
        assert_eq!(
            refusal(&user, &missing(&[], &granted), &[]),
            "user \"jane\" (groups=[\"a\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"get\"]}"
        );
    }
}

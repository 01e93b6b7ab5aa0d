//! Rules for where a pod may run: affinity, tolerations, topology spread, gates.

use std::collections::HashSet;

use crate::kinds::check::{Check, is_set, number, text};
use crate::{Map, Value, names};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks the affinities of a pod.
pub(super) fn affinity(c: &mut Check, spec: &Value) {
    c.some(spec, "affinity", |c, affinity| {
        c.some(affinity, "nodeAffinity", |c, nodes| {
            c.some(nodes, REQUIRED, node_selector);
            c.each(nodes, PREFERRED, |c, term| {
                weight(c, term);
                c.field(term, "preference", |c, term| node_term(c, term, false));
            });
        });
        for kind in ["podAffinity", "podAntiAffinity"] {
            c.some(affinity, kind, |c, pods| {
                c.each(pods, REQUIRED, pod_term);
                c.each(pods, PREFERRED, |c, term| {
                    weight(c, term);
                    c.field(term, "podAffinityTerm", pod_term);
                });
            });
        }
    });
}

fn weight(c: &mut Check, term: &Value) {
    let weight = number(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        c.at("weight").invalid(weight, "must be in the range 1-100");
    }
}

/// Checks a selector of nodes.
pub(in crate::kinds) fn node_selector(c: &mut Check, selector: &Value) {
    if selector.array_at(&["nodeSelectorTerms"]).is_empty() {
        return c.at("nodeSelectorTerms").required("must have at least one node selector term");
    }
    c.each(selector, "nodeSelectorTerms", |c, term| node_term(c, term, true));
}

/// Values of a preference need not be label values: it is not wrong to prefer what cannot be.
fn node_term(c: &mut Check, term: &Value, strict: bool) {
    c.each(term, "matchExpressions", |c, requirement| {
        let values = requirement.array_at(&["values"]);
        match text(requirement, "operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    c.at("values").required("must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    c.at("values").forbidden(detail);
                }
            }
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    c.at("values").required(detail);
                }
            }
            other => c.at("operator").invalid(other, "not a valid selector operator"),
        }
        c.at("key").obeys(text(requirement, "key"), names::qualified);
        if strict {
            c.each(requirement, "values", |c, v| {
                c.here().obeys(v.as_str().unwrap_or_default(), names::label_value);
            });
        }
    });
    c.each(term, "matchFields", |c, requirement| {
        match text(requirement, "operator") {
            "In" | "NotIn" if requirement.array_at(&["values"]).len() == 1 => {}
            "In" | "NotIn" => {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                c.at("values").required(detail);
            }
            other => c.at("operator").invalid(other, "not a valid selector operator"),
        }
        match text(requirement, "key") {
            "metadata.name" => c.each(requirement, "values", |c, v| {
                c.here().obeys(v.as_str().unwrap_or_default(), names::dns_subdomain);
            }),
            other => c.at("key").invalid(other, "not a valid field selector key"),
        }
    });
}

fn pod_term(c: &mut Check, term: &Value) {
    c.selector(term, "labelSelector");
    c.selector(term, "namespaceSelector");
    for name in term.array_at(&["namespaces"]) {
        c.at("namespace").obeys(name.as_str().unwrap_or_default(), names::dns_label);
    }
    label_keys(c, term);
    let key = text(term, "topologyKey");
    if key.is_empty() {
        c.at("topologyKey").required("can not be empty");
    }
    c.at("topologyKey").obeys(key, names::qualified);
}

/// Checks the keys whose values a pod's own labels give.
fn label_keys(c: &mut Check, term: &Value) {
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        if term.array_at(&[list]).is_empty() {
            continue;
        }
        if !is_set(term, "labelSelector") {
            c.at(list).forbidden("must not be specified when labelSelector is not set");
            continue;
        }
        c.each(term, list, |c, key| c.here().obeys(key.as_str().unwrap_or_default(), names::qualified));
    }
    let matched: Vec<&str> = term.array_at(&["matchLabelKeys"]).iter().filter_map(Value::as_str).collect();
    let mut selected: HashSet<&str> =
        term.object_at(&["labelSelector", "matchLabels"]).into_iter().flat_map(Map::keys).collect();
    for expression in term.array_at(&["labelSelector", "matchExpressions"]) {
        let key = text(expression, "key");
        // What the key means was added to the selector when the pod was made, so one mention is right.
        let twice = selected.contains(key);
        if let Some(i) = matched.iter().position(|k| *k == key).filter(|_| twice) {
            c.here().index(i).invalid(key, "exists in both matchLabelKeys and labelSelector");
        }
        selected.insert(key);
    }
    let unmatched = term.array_at(&["mismatchLabelKeys"]);
    for (i, key) in matched.iter().enumerate() {
        if unmatched.iter().any(|other| other.as_str() == Some(key)) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            c.at("matchLabelKeys").index(i).invalid(*key, detail);
        }
    }
}

/// Checks tolerations.
pub(in crate::kinds) fn tolerations(c: &mut Check, owner: &Value) {
    c.each(owner, "tolerations", |c, toleration| {
        let (key, operator, value) =
            (text(toleration, "key"), text(toleration, "operator"), text(toleration, "value"));
        c.name(toleration, "key", names::qualified);
        if key.is_empty() && operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            c.at("operator").invalid(operator, detail);
        }
        if is_set(toleration, "tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            c.at("effect").invalid(text(toleration, "effect"), detail);
        }
        match operator {
            "" | "Equal" => c.at("operator").obeys(value, names::label_value),
            "Exists" if !value.is_empty() => {
                c.at("operator").invalid(value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            // Upstream knows comparisons but does not allow them by default.
            "Lt" | "Gt" => c.at("operator").not_supported(operator, &["Equal", "Exists", "Lt", "Gt"]),
            _ => c.at("operator").not_supported(operator, &["Equal", "Exists"]),
        }
        if !text(toleration, "effect").is_empty() {
            taint_effect(c, toleration);
        }
    });
}

/// What a taint does, or what is tolerated.
pub(in crate::kinds) fn taint_effect(c: &mut Check, taint: &Value) {
    c.one_of(taint, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// Checks how pods spread.
pub(super) fn spread(c: &mut Check, spec: &Value) {
    let all = spec.array_at(&["topologySpreadConstraints"]);
    for (i, constraint) in all.iter().enumerate() {
        let later = &all[i + 1..];
        c.within("topologySpreadConstraints", |c| {
            c.within_index(i, |c| spread_constraint(c, constraint, later));
        });
    }
}

fn spread_constraint(c: &mut Check, constraint: &Value, later: &[Value]) {
    let skew = number(constraint, "maxSkew").unwrap_or(0);
    if skew <= 0 {
        c.at("maxSkew").invalid(skew, "must be greater than zero");
    }
    if text(constraint, "topologyKey").is_empty() {
        c.at("topologyKey").required("can not be empty");
    }
    c.one_of(constraint, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"]);
    let identity = |v: &Value| (text(v, "topologyKey").to_owned(), text(v, "whenUnsatisfiable").to_owned());
    let (key, action) = identity(constraint);
    if later.iter().any(|other| identity(other) == identity(constraint)) {
        c.at("{topologyKey, whenUnsatisfiable}").duplicate(format!("{{{key}, {action}}}"));
    }
    c.positive(constraint, "minDomains");
    if is_set(constraint, "minDomains") && action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        c.at("minDomains").invalid(number(constraint, "minDomains"), &detail);
    }
    for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        c.one_of_if_set(constraint, policy, &["Honor", "Ignore"]);
    }
    label_keys(c, constraint);
    c.selector(constraint, "labelSelector");
}

/// Checks the conditions a pod waits for: to be ready, and to be scheduled.
pub(super) fn gates(c: &mut Check, spec: &Value) {
    c.each(spec, "readinessGates", |c, gate| {
        c.at("conditionType").obeys(text(gate, "conditionType"), names::qualified);
    });
    let mut seen = HashSet::new();
    c.each(spec, "schedulingGates", |c, gate| {
        let name = text(gate, "name");
        c.here().obeys(name, names::qualified);
        if !seen.insert(name) {
            c.here().duplicate(name);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{json, lines};

    fn check(rules: fn(&mut Check, &Value), text: &str, want: &[&str]) {
        assert_eq!(lines(&run(|c| rules(c, &json(text)))), want, "{text}");
    }

    #[test]
    fn affinities() {
        let nodes = |term: &str, want: &[&str]| {
            let text = format!(
                r#"{{"affinity": {{"nodeAffinity": {{"{REQUIRED}": {{"nodeSelectorTerms": [{term}]}}}}}}}}"#
            );
            let prefix = format!("affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
            let want: Vec<String> = want.iter().map(|w| format!("{prefix}{w}")).collect();
            assert_eq!(lines(&run(|c| affinity(c, &json(&text)))), want, "{text}");
        };
        nodes(r#"{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}"#, &[]);
        nodes(r#"{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}"#, &[]);
        nodes("", &[": Required value: must have at least one node selector term"]);
        nodes(
            r#"{"matchExpressions": [{"key": "a", "operator": "In"}]}"#,
            &[
                "[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ],
        );
        nodes(
            r#"{"matchExpressions": [{"key": "a", "operator": "x"}]}"#,
            &[r#"[0].matchExpressions[0].operator: Invalid value: "x": not a valid selector operator"#],
        );
        nodes(
            r#"{"matchFields": [{"key": "spec.x", "operator": "In", "values": ["b"]}]}"#,
            &[r#"[0].matchFields[0].key: Invalid value: "spec.x": not a valid field selector key"#],
        );
        let pods = |term: &str, want: &[&str]| {
            let text = format!(
                r#"{{"affinity": {{"podAffinity": {{"{PREFERRED}": [{{"weight": 1, "podAffinityTerm": {term}}}]}}}}}}"#
            );
            let prefix = format!("affinity.podAffinity.{PREFERRED}[0].podAffinityTerm");
            let want: Vec<String> = want.iter().map(|w| format!("{prefix}{w}")).collect();
            assert_eq!(lines(&run(|c| affinity(c, &json(&text)))), want, "{text}");
        };
        pods(r#"{"topologyKey": "a", "labelSelector": {}, "matchLabelKeys": ["b"]}"#, &[]);
        pods(
            r#"{"topologyKey": "a", "matchLabelKeys": ["b"]}"#,
            &[".matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"],
        );
        pods(
            r#"{"topologyKey": "a", "labelSelector": {}, "matchLabelKeys": ["b"], "mismatchLabelKeys": ["b"]}"#,
            &[
                r#".matchLabelKeys[0]: Invalid value: "b": exists in both matchLabelKeys and mismatchLabelKeys"#,
            ],
        );
    }

    #[test]
    fn what_is_tolerated() {
        let one =
            |text: &str, want: &[&str]| check(tolerations, &format!("{{\"tolerations\": [{text}]}}"), want);
        one(
            r#"{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 1}"#,
            &[],
        );
        one(r#"{"operator": "Exists"}"#, &[]);
        one(
            r#"{"value": "b"}"#,
            &[
                r#"tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys""#,
            ],
        );
        one(
            r#"{"key": "a", "operator": "Exists", "value": "b"}"#,
            &[
                r#"tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is 'Exists'"#,
            ],
        );
        one(
            r#"{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}"#,
            &[
                r#"tolerations[0].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set"#,
            ],
        );
        one(
            r#"{"key": "a", "operator": "x", "effect": "y"}"#,
            &[
                r#"tolerations[0].operator: Unsupported value: "x": supported values: "Equal", "Exists""#,
                r#"tolerations[0].effect: Unsupported value: "y": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
            ],
        );
    }

    #[test]
    fn spreading() {
        let one = |text: &str, want: &[&str]| {
            check(spread, &format!("{{\"topologySpreadConstraints\": [{text}]}}"), want);
        };
        let good =
            r#"{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 1}"#;
        one(good, &[]);
        one(
            &format!("{good}, {good}"),
            &[
                r#"topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{a, DoNotSchedule}""#,
            ],
        );
        one(
            r#"{"whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1}"#,
            &[
                "topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                "topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
            ],
        );
    }

    #[test]
    fn gates_have_names() {
        check(
            gates,
            r#"{"readinessGates": [{"conditionType": "a/b"}], "schedulingGates": [{"name": "a"}]}"#,
            &[],
        );
        check(
            gates,
            r#"{"schedulingGates": [{"name": "a"}, {"name": "a"}]}"#,
            &[r#"schedulingGates[1]: Duplicate value: "a""#],
        );
    }
}

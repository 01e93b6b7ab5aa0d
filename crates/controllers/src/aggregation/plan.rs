//! Which rules a role gathers. Pure.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::{Value, json};

use crate::runtime::selector::{Selector, SelectorError};
use crate::runtime::writer::to_value;

/// Whether the role gets its rules from others.
pub fn gathers(role: &ClusterRole) -> bool {
    role.aggregation_rule.is_some()
}

/// The merge patch that gives `role` the rules that it gathers from `all` roles, which come in the order of their names;
/// `None` when it has them. It holds for the revision that it was made from.
pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Result<Option<Value>, SelectorError> {
    let selectors =
        role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let mut rules: Vec<&PolicyRule> = Vec::new();
    for selector in selectors {
        let selector = Selector::compile(selector)?;
        let others = all.iter().filter(|other| other.metadata.name != role.metadata.name);
        for other in others.filter(|other| selector.matches(&other.metadata.labels)) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    if role.rules.iter().flatten().eq(rules.iter().copied()) {
        return Ok(None);
    }
    let rules: Vec<Value> = rules.into_iter().map(to_value).collect();
    let meta = &role.metadata;
    Ok(Some(json!({
        "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version },
        "rules": rules,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A role whose rules are about one resource each.
    fn role(name: &str, labels: &[&str], resources: &[&str]) -> ClusterRole {
        let labels: Value = labels.iter().map(|label| ((*label).to_owned(), json!("true"))).collect();
        let rules: Vec<Value> = resources
            .iter()
            .map(|resource| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]}))
            .collect();
        let meta = json!({"name": name, "uid": "u", "resourceVersion": "7", "labels": labels});
        serde_json::from_value(json!({"metadata": meta, "rules": rules})).unwrap()
    }

    fn gatherer(name: &str, selectors: &Value, resources: &[&str]) -> ClusterRole {
        let rule = serde_json::from_value(json!({"clusterRoleSelectors": selectors})).unwrap();
        ClusterRole { aggregation_rule: Some(rule), ..role(name, &[], resources) }
    }

    #[test]
    fn rules_come_from_all_that_the_selectors_pick() {
        let all = [role("a", &["x"], &["pods", "nodes"]), role("b", &["x", "y"], &["pods", "secrets"])];
        let x = json!({"matchLabels": {"x": "true"}});
        let y = json!({"matchLabels": {"y": "true"}});
        let check = |selectors: Value, present: &[&str], expected: Option<&[&str]>| {
            let role = gatherer("g", &selectors, present);
            let all: Vec<_> = all.iter().chain([&role]).cloned().map(Arc::new).collect();
            let patch = plan(&role, &all).unwrap();
            let resources = patch.as_ref().map(|patch| {
                assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
                let rules = patch["rules"].as_array().unwrap().iter();
                rules.map(|rule| rule["resources"][0].as_str().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(resources.as_deref(), expected, "{selectors}");
        };
        check(json!([x]), &[], Some(&["pods", "nodes", "secrets"]));
        check(json!([y, x]), &[], Some(&["pods", "secrets", "nodes"]));
        check(json!([x]), &["pods", "nodes", "secrets"], None);
        check(json!([y]), &["pods", "nodes", "secrets"], Some(&["pods", "secrets"]));
        check(json!([]), &["pods"], Some(&[]));
        check(json!([]), &[], None);
        // All roles but itself.
        check(json!([{}]), &["configmaps"], Some(&["pods", "nodes", "secrets"]));
    }

    #[test]
    fn a_selector_that_nobody_understands_changes_nothing() {
        let selector = json!([{"matchExpressions": [{"key": "x", "operator": "Has"}]}]);
        let role = gatherer("g", &selector, &["pods"]);
        assert!(plan(&role, &[]).is_err());
    }
}

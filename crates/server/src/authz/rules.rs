//! One rule of a role: what it allows.

use xebec_api::{Value, object};

use super::Question;

/// A `PolicyRule`. `*` stands for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups.
    pub groups: Vec<String>,
    /// Resources, `pods`, `pods/log`, `*/scale`.
    pub resources: Vec<String>,
    /// Names of objects; empty for all.
    pub names: Vec<String>,
    /// Paths that are no resources; a trailing `*` stands for anything.
    pub paths: Vec<String>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    value.array_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Rule {
    /// Everything everywhere.
    #[must_use]
    pub fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self { verbs: all(), groups: all(), resources: all(), names: Vec::new(), paths: all() }
    }

    /// Everything everywhere, as rules of a role: resources and paths apart.
    #[must_use]
    pub fn full_authority() -> [Self; 2] {
        [
            Self { paths: Vec::new(), ..Self::everything() },
            Self { groups: Vec::new(), resources: Vec::new(), ..Self::everything() },
        ]
    }

    /// A rule on resources, written `verbs`, `group`, `resources`, each a list separated by blanks.
    #[must_use]
    pub fn on(verbs: &str, group: &str, resources: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self {
            verbs: words(verbs),
            groups: vec![group.into()],
            resources: words(resources),
            ..Self::default()
        }
    }

    /// A rule on paths that may be read.
    #[must_use]
    pub fn on_paths(paths: &[&str]) -> Self {
        let paths = paths.iter().map(ToString::to_string).collect();
        Self { verbs: vec!["get".into()], paths, ..Self::default() }
    }

    /// Reads a `PolicyRule`.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        Self {
            verbs: texts(value, "verbs"),
            groups: texts(value, "apiGroups"),
            resources: texts(value, "resources"),
            names: texts(value, "resourceNames"),
            paths: texts(value, "nonResourceURLs"),
        }
    }

    /// The `PolicyRule`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let list = |items: &[String]| Value::from(items.iter().map(String::as_str).collect::<Vec<_>>());
        let mut out = object!({"verbs": (list(&self.verbs))});
        for (field, items) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if !items.is_empty() {
                out.set(&[field], list(items));
            }
        }
        out
    }

    /// Whether the rule allows what is asked.
    #[must_use]
    pub fn allows(&self, question: &Question<'_>) -> bool {
        if !has(&self.verbs, question.verb) {
            return false;
        }
        if question.resource.is_empty() {
            return self.paths.iter().any(|path| path_matches(path, question.path));
        }
        has(&self.groups, question.group)
            && self.resources.iter().any(|r| resource_matches(r, question))
            && (self.names.is_empty() || self.names.iter().any(|n| n == question.name))
    }
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|i| i == "*" || i == item)
}

fn path_matches(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

fn resource_matches(rule: &str, question: &Question<'_>) -> bool {
    let Question { resource, subresource, .. } = *question;
    let is_whole = || match rule.strip_prefix(resource) {
        Some(rest) if subresource.is_empty() => rest.is_empty(),
        Some(rest) => rest.strip_prefix('/') == Some(subresource),
        None => false,
    };
    let is_below_any = || !subresource.is_empty() && rule.strip_prefix("*/") == Some(subresource);
    rule == "*" || is_whole() || is_below_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_allows() {
        let ask = |verb, group, resource, subresource, name| Question {
            verb,
            group,
            resource,
            subresource,
            name,
            ..Question::default()
        };
        let rule = Rule::on("get list", "apps", "deployments */scale");
        assert!(rule.allows(&ask("get", "apps", "deployments", "", "a")));
        assert!(rule.allows(&ask("get", "apps", "replicasets", "scale", "a")));
        assert!(!rule.allows(&ask("get", "apps", "deployments", "status", "a")));
        assert!(!rule.allows(&ask("delete", "apps", "deployments", "", "a")));
        assert!(!rule.allows(&ask("get", "", "deployments", "", "a")));
        let extra = Rule::on("impersonate", "", "userextras/acme.com/project");
        assert!(extra.allows(&ask("impersonate", "", "userextras", "acme.com/project", "a")));
        assert!(!extra.allows(&ask("impersonate", "", "userextras", "acme.com", "a")));
        let whole = Rule::on("get", "", "pods/log");
        assert!(whole.allows(&ask("get", "", "pods/log", "", "a")), "as a review may ask");
        assert!(!whole.allows(&ask("get", "", "pods", "", "a")));
        let named = Rule { names: vec!["a".into()], ..Rule::on("*", "*", "*") };
        assert!(named.allows(&ask("get", "", "pods", "log", "a")));
        assert!(!named.allows(&ask("get", "", "pods", "", "b")));
        assert!(!named.allows(&ask("list", "", "pods", "", "")));
        let path = |path| Question { verb: "get", path, ..Question::default() };
        let rule = Rule::on_paths(&["/healthz", "/openapi/*"]);
        assert!(rule.allows(&path("/openapi/v2")) && rule.allows(&path("/healthz")));
        assert!(!rule.allows(&path("/healthz/etcd")) && !rule.allows(&path("/metrics")));
        assert!(Rule::everything().allows(&path("/metrics")));
    }
}

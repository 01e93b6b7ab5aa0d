//! Node selectors and node affinity, compiled once per pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use crate::node::NodeInfo;

/// Which nodes a pod may run on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeSelector {
    /// `spec.nodeSelector`: all of these labels.
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Any of these terms, when there is a list.
    terms: Option<Box<[Term]>>,
}

/// Nodes that a pod would rather run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// How much.
    pub weight: i64,
    term: Term,
}

/// What `spec.affinity.nodeAffinity` and `spec.nodeSelector` come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeAffinity {
    /// Must hold.
    pub required: NodeSelector,
    /// Should hold.
    pub preferred: Box<[Preference]>,
}

/// All of these requirements. A term without any matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term(Box<[Requirement]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    subject: Subject,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Label(Box<str>),
    /// `metadata.name`, the only field that the API knows here.
    Name,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Box<[Box<str>]>),
    NotIn(Box<[Box<str>]>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
    /// A test that cannot be understood holds for no node.
    Never,
}

impl NodeAffinity {
    /// Compiles both forms.
    pub fn compile(
        selector: Option<&BTreeMap<String, String>>,
        affinity: Option<&core::NodeAffinity>,
    ) -> Self {
        let pairs = selector.into_iter().flatten();
        let labels = pairs.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
        let required = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let terms = required.map(|required| required.node_selector_terms.iter().map(Term::compile).collect());
        let preferred = affinity.into_iter().flat_map(|affinity| {
            affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten()
        });
        let preferred = preferred
            .map(|preferred| Preference {
                weight: i64::from(preferred.weight),
                term: Term::compile(&preferred.preference),
            })
            .collect();
        Self { required: NodeSelector { labels, terms }, preferred }
    }
}

impl NodeSelector {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.terms.is_none()
    }

    /// Whether a pod may run on `node`.
    pub fn matches(&self, node: &NodeInfo) -> bool {
        self.labels.iter().all(|(key, value)| node.label(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// The only nodes that can match, when every term names its nodes.
    pub fn named_nodes(&self) -> Option<Vec<&str>> {
        let names = self.terms.as_ref()?.iter().map(Term::named_nodes);
        names.collect::<Option<Vec<_>>>().map(|names| names.into_iter().flatten().collect())
    }
}

impl Preference {
    /// Whether `node` is preferred.
    pub fn matches(&self, node: &NodeInfo) -> bool {
        self.term.matches(node)
    }
}

impl Term {
    fn compile(term: &core::NodeSelectorTerm) -> Self {
        let labels = term.match_expressions.iter().flatten().map(|requirement| Requirement {
            subject: Subject::Label(requirement.key.as_str().into()),
            test: Test::compile(requirement),
        });
        let fields = term.match_fields.iter().flatten().map(|requirement| {
            let is_name = requirement.key == "metadata.name";
            Requirement {
                subject: Subject::Name,
                test: if is_name { Test::compile(requirement) } else { Test::Never },
            }
        });
        Self(labels.chain(fields).collect())
    }

    fn matches(&self, node: &NodeInfo) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.holds(node))
    }

    fn named_nodes(&self) -> Option<Vec<&str>> {
        self.0.iter().find_map(|requirement| match (&requirement.subject, &requirement.test) {
            (Subject::Name, Test::In(names)) => Some(names.iter().map(|name| &**name).collect()),
            _ => None,
        })
    }
}

impl Test {
    fn compile(requirement: &core::NodeSelectorRequirement) -> Self {
        let values = || requirement.values.iter().flatten().map(|value| value.as_str().into()).collect();
        let bound = || match requirement.values.as_deref() {
            Some([value]) => value.parse().ok(),
            _ => None,
        };
        match requirement.operator.as_str() {
            "In" => Self::In(values()),
            "NotIn" => Self::NotIn(values()),
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::Absent,
            "Gt" => bound().map_or(Self::Never, Self::Above),
            "Lt" => bound().map_or(Self::Never, Self::Below),
            _ => Self::Never,
        }
    }
}

impl Requirement {
    fn holds(&self, node: &NodeInfo) -> bool {
        let value = match &self.subject {
            Subject::Label(key) => node.label(key),
            Subject::Name => Some(&*node.name),
        };
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|each| **each == *value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.iter().any(|each| **each == *value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Above(bound) => number().is_some_and(|number| number > *bound),
            Test::Below(bound) => number().is_some_and(|number| number < *bound),
            Test::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::node;
    use serde_json::{Value, json};

    #[test]
    fn selects_as_the_api_defines_it() {
        let node = node("n1", json!({"labels": {"zone": "a", "cores": "8"}}), json!({}), json!({}));
        let check = |selector: Value, terms: Value, expected: bool| {
            let labels: Option<BTreeMap<String, String>> = serde_json::from_value(selector.clone()).unwrap();
            let affinity =
                json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
            let affinity: Option<core::NodeAffinity> =
                (!terms.is_null()).then(|| serde_json::from_value(affinity).unwrap());
            let compiled = NodeAffinity::compile(labels.as_ref(), affinity.as_ref());
            assert_eq!(compiled.required.matches(&node), expected, "{selector} {terms}");
        };
        let label = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let field = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        check(json!(null), json!(null), true);
        check(json!({"zone": "a"}), json!(null), true);
        check(json!({"zone": "b"}), json!(null), false);
        check(json!(null), json!([label("zone", "In", json!(["a", "b"]))]), true);
        check(json!(null), json!([label("zone", "NotIn", json!(["a"]))]), false);
        check(json!(null), json!([label("rack", "NotIn", json!(["a"]))]), true);
        check(json!(null), json!([label("zone", "Exists", json!(null))]), true);
        check(json!(null), json!([label("zone", "DoesNotExist", json!(null))]), false);
        check(json!(null), json!([label("cores", "Gt", json!(["7"]))]), true);
        check(json!(null), json!([label("cores", "Gt", json!(["8"]))]), false);
        check(json!(null), json!([label("cores", "Lt", json!(["9"]))]), true);
        check(json!(null), json!([label("zone", "Lt", json!(["9"]))]), false);
        check(json!(null), json!([label("zone", "Like", json!(["a"]))]), false);
        check(json!(null), json!([field("n2"), field("n1")]), true);
        check(json!(null), json!([field("n2")]), false);
        check(json!(null), json!([{}]), false);
        check(json!(null), json!([]), false);
        check(json!({"zone": "b"}), json!([field("n1")]), false);
    }
}

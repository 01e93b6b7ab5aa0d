//! Label selectors, compiled once and matched often.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use thiserror::Error;

use super::object::Labels;

/// A selector that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectorError {
    /// The operator is none of In, NotIn, Exists, DoesNotExist.
    #[error("label selector operator {0:?} is unknown: use In, NotIn, Exists or DoesNotExist")]
    UnknownOperator(String),
}

/// A compiled selector: all of its requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Something with labels.
pub trait Labelled {
    /// The value of the label `key`.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labelled for Labels {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

impl Labelled for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labelled for Option<BTreeMap<String, String>> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

impl Selector {
    /// Compiles a selector of a workload or policy.
    pub fn compile(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = equalities(selector.match_labels.as_ref());
        for expression in selector.match_expressions.iter().flatten() {
            let (key, values) = (expression.key.clone(), expression.values.clone().unwrap_or_default());
            requirements.push(match expression.operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::Absent(key),
                other => return Err(SelectorError::UnknownOperator(other.to_owned())),
            });
        }
        Ok(Self(requirements))
    }

    /// Compiles the plain map that Services and ReplicationControllers have.
    pub fn from_map(map: &BTreeMap<String, String>) -> Self {
        Self(equalities(Some(map)))
    }

    /// Whether `object` has the labels that this asks for. A selector without requirements matches everything.
    pub fn matches(&self, object: &impl Labelled) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => object.label(key).is_some_and(|value| contains(values, value)),
            Requirement::NotIn(key, values) => object.label(key).is_none_or(|value| !contains(values, value)),
            Requirement::Exists(key) => object.label(key).is_some(),
            Requirement::Absent(key) => object.label(key).is_none(),
        })
    }

    /// Whether it has no requirement and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn equalities(map: Option<&BTreeMap<String, String>>) -> Vec<Requirement> {
    let pairs = map.into_iter().flatten();
    pairs.map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()])).collect()
}

fn contains(values: &[String], value: &str) -> bool {
    values.iter().any(|each| each == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn matches_as_the_api_defines_it() {
        let labels = Labels::from(&BTreeMap::from([
            ("app".to_owned(), "web".to_owned()),
            ("tier".to_owned(), "front".to_owned()),
        ]));
        let check = |selector: Value, expected: Result<bool, &str>| {
            let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            let matched = Selector::compile(&parsed).map(|compiled| compiled.matches(&labels));
            assert_eq!(
                matched.map_err(|error| error.to_string()),
                expected.map_err(str::to_owned),
                "{selector}"
            );
        };
        let expression = |operator: &str, key: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), Ok(true));
        check(json!({"matchLabels": {"app": "web"}}), Ok(true));
        check(json!({"matchLabels": {"app": "web", "tier": "back"}}), Ok(false));
        check(expression("In", "app", json!(["api", "web"])), Ok(true));
        check(expression("In", "zone", json!(["a"])), Ok(false));
        check(expression("NotIn", "app", json!(["web"])), Ok(false));
        check(expression("NotIn", "zone", json!(["a"])), Ok(true));
        check(expression("Exists", "tier", json!(null)), Ok(true));
        check(expression("DoesNotExist", "tier", json!(null)), Ok(false));
        let unknown = "label selector operator \"Has\" is unknown: use In, NotIn, Exists or DoesNotExist";
        check(expression("Has", "app", json!([])), Err(unknown));
    }
}

//! Which requests a webhook or a policy is about: rules, and selectors of namespaces and objects.
//!
//! A request matches in the version that it is made in, or else in another one that serves the same objects, if the policy
//! of matching allows that (`Equivalent`).

use xebec_api::selector::Selector;
use xebec_api::{FieldPath, Status, Value, meta};

use super::subject::Subject;
use crate::registry::table::Served;

/// What requests must be like.
#[derive(Debug)]
pub(super) struct Matcher {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether no rule at all means every request.
    rules_optional: bool,
    /// Whether other versions of what the rules name count.
    equivalent: bool,
    selectors: Result<Selectors, String>,
}

#[derive(Debug)]
struct Selectors {
    namespaces: Selector,
    objects: Selector,
}

#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    /// Names of objects; none means all.
    names: Vec<String>,
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
}

/// The resources that rules name, so that those who are about others need not be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resources {
    /// Any.
    All,
    /// These, by their plural names.
    Named(Vec<String>),
}

impl Matcher {
    /// Of a webhook.
    pub(super) fn of_webhook(hook: &Value) -> Self {
        Self::read(hook, "rules", false)
    }

    /// Of the `MatchResources` of a policy, which must have rules.
    pub(super) fn of_policy(constraints: &Value) -> Self {
        Self::read(constraints, "resourceRules", false)
    }

    /// Of the `MatchResources` of a binding; without rules it is about everything that its policy is about.
    pub(super) fn of_binding(resources: &Value) -> Self {
        Self::read(resources, "resourceRules", true)
    }

    fn read(owner: &Value, rules: &str, rules_optional: bool) -> Self {
        let read = |field: &str| owner.array_at(&[field]).iter().map(Rule::read).collect();
        Self {
            rules: read(rules),
            excluded: read("excludeResourceRules"),
            rules_optional,
            equivalent: owner.str_at(&["matchPolicy"]) != Some("Exact"),
            selectors: Selectors::read(owner),
        }
    }

    /// The resources that can match.
    pub(super) fn resources(&self) -> Resources {
        let mut named: Vec<String> = Vec::new();
        for (resource, _) in self.rules.iter().flat_map(|rule| &rule.resources) {
            if resource == "*" {
                return Resources::All;
            }
            if !named.contains(resource) {
                named.push(resource.clone());
            }
        }
        Resources::Named(named)
    }

    /// The version in which the request matches, if it does.
    ///
    /// # Errors
    /// It cannot be told.
    pub(super) fn matches(
        &self,
        subject: &Subject<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Option<Served>, Status> {
        let matched = match self.rules.as_slice() {
            [] if self.rules_optional => Some(subject.served.clone()),
            rules => self.fitting(rules, subject),
        };
        let Some(matched) = matched else { return Ok(None) };
        if !self.excluded.is_empty() && self.fitting(&self.excluded, subject).is_some() {
            return Ok(None);
        }
        let selectors = self.selectors.as_ref().map_err(Status::internal)?;
        Ok(selectors.select(subject, object, old)?.then_some(matched))
    }

    /// The version in which one of the rules fits.
    fn fitting(&self, rules: &[Rule], subject: &Subject<'_>) -> Option<Served> {
        if rules.iter().any(|rule| rule.fits(subject, subject.served)) {
            return Some(subject.served.clone());
        }
        if !self.equivalent || !rules.iter().any(|rule| rule.fits_operation(subject)) {
            return None;
        }
        let others = subject.equivalents();
        let first = rules.iter().find_map(|rule| others.iter().find(|served| rule.fits(subject, served)));
        first.cloned()
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let texts = |field: &str| {
            let list = rule.array_at(&[field]).iter();
            list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let split = |text: String| match text.split_once('/') {
            Some((resource, below)) => (resource.to_owned(), below.to_owned()),
            None => (text, String::new()),
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources").into_iter().map(split).collect(),
            names: texts("resourceNames"),
            scope: match rule.str_at(&["scope"]) {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                _ => Scope::Any,
            },
        }
    }

    fn fits_operation(&self, subject: &Subject<'_>) -> bool {
        has(&self.operations, subject.operation)
    }

    fn fits(&self, subject: &Subject<'_>, served: &Served) -> bool {
        let row = &served.row;
        let resource = self.resources.iter().any(|(resource, below)| {
            (resource == "*" || resource == row.resource()) && (below == "*" || below == subject.subresource)
        });
        let in_namespace = !subject.namespace.is_empty() && !subject.is_namespace();
        let scope = match self.scope {
            Scope::Any => true,
            Scope::Cluster => !in_namespace,
            Scope::Namespaced => in_namespace,
        };
        resource
            && scope
            && self.fits_operation(subject)
            && has(&self.groups, row.group())
            && has(&self.versions, &served.version().name)
            && (self.names.is_empty() || self.names.contains(&subject.name))
    }
}

impl Selectors {
    fn read(owner: &Value) -> Result<Self, String> {
        let read = |field: &str| match owner.get(field).filter(|s| !s.is_null()) {
            None => Ok(Selector::default()),
            Some(selector) => Selector::from_object(selector, &FieldPath::new(field))
                .map_err(|causes| causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        Ok(Self { namespaces: read("namespaceSelector")?, objects: read("objectSelector")? })
    }

    fn select(&self, subject: &Subject<'_>, object: &Value, old: Option<&Value>) -> Result<bool, Status> {
        let here = |object: &Value| !object.is_null() && self.objects.matches_labels(meta::labels(object));
        if !self.objects.is_empty() && !here(object) && !old.is_some_and(here) {
            return Ok(false);
        }
        if self.namespaces.is_empty() || !subject.has_namespace() {
            return Ok(true);
        }
        if subject.is_written_namespace() {
            return Ok(self.namespaces.matches_labels(meta::labels(object)));
        }
        let namespace = subject.find_namespace()?;
        Ok(self.namespaces.matches_labels(meta::labels(&namespace)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn rules_name_resources() {
        let check = |rules: Value, want: Resources| {
            let matcher = Matcher::of_policy(&object!({"resourceRules": (rules)}));
            assert_eq!(matcher.resources(), want);
        };
        let named = |names: &[&str]| Resources::Named(names.iter().map(|n| (*n).to_owned()).collect());
        check(object!([]), named(&[]));
        check(
            object!([{"resources": ["pods", "pods/status"]}, {"resources": ["nodes"]}]),
            named(&["pods", "nodes"]),
        );
        check(object!([{"resources": ["pods", "*/scale"]}]), Resources::All);
        check(object!([{"resources": ["*"]}]), Resources::All);
    }
}

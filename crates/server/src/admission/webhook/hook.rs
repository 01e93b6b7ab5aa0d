//! One webhook of a configuration, read once, and which requests it wants to see.

use std::sync::Arc;
use std::time::Duration;

use xebec_api::selector::Selector;
use xebec_api::{FieldPath, Status, Value, meta};

use super::conditions::Conditions;
use super::subject::Subject;
use crate::outbound::Way;
use crate::registry::table::Served;

/// How long a webhook is waited for when its configuration does not say; upstream's default.
const TIMEOUT: i64 = 10;

/// What a webhook may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mutating,
    Validating,
}

impl Kind {
    pub(super) const fn resource(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::Validating => "validatingwebhookconfigurations",
        }
    }
}

/// The version of admission.k8s.io that a webhook speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1Beta1,
}

/// A webhook.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) name: String,
    /// The name of its configuration.
    pub(super) configuration: String,
    pub(super) kind: Kind,
    pub(super) timeout: Duration,
    /// Whether a request goes on when the webhook fails.
    pub(super) ignores_failure: bool,
    /// Whether it is called again when the object has changed after it.
    pub(super) is_reinvocable: bool,
    /// Whether a dry run may be shown to it.
    pub(super) is_quiet: bool,
    /// `None`: it speaks no version that this server does.
    pub(super) review: Option<ReviewVersion>,
    /// How it is reached, or why it cannot be.
    pub(super) way: Result<Way, String>,
    /// What must hold besides the rules.
    pub(super) conditions: Conditions,
    rules: Vec<Rule>,
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
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
}

impl Hook {
    /// The webhooks of a configuration, in their order.
    pub(super) fn all(configuration: &Value) -> Vec<Arc<Self>> {
        let mutating = configuration.str_at(&["kind"]) == Some("MutatingWebhookConfiguration");
        let kind = if mutating { Kind::Mutating } else { Kind::Validating };
        let hooks = configuration.array_at(&["webhooks"]).iter();
        hooks.map(|hook| Arc::new(Self::read(hook, meta::name(configuration), kind))).collect()
    }

    fn read(hook: &Value, configuration: &str, kind: Kind) -> Self {
        let text = |field: &str| hook.str_at(&[field]).unwrap_or_default();
        let seconds = hook.i64_at(&["timeoutSeconds"]).unwrap_or(TIMEOUT);
        let versions = hook.array_at(&["admissionReviewVersions"]).iter();
        Self {
            name: text("name").to_owned(),
            configuration: configuration.to_owned(),
            kind,
            timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1)),
            ignores_failure: text("failurePolicy") == "Ignore",
            is_reinvocable: text("reinvocationPolicy") == "IfNeeded",
            is_quiet: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            review: versions.filter_map(Value::as_str).find_map(|version| match version {
                "v1" => Some(ReviewVersion::V1),
                "v1beta1" => Some(ReviewVersion::V1Beta1),
                _ => None,
            }),
            way: Way::read(hook.get("clientConfig").unwrap_or(&Value::Null)),
            conditions: Conditions::read(hook),
            rules: hook.array_at(&["rules"]).iter().map(Rule::read).collect(),
            equivalent: text("matchPolicy") != "Exact",
            selectors: Selectors::read(hook),
        }
    }

    /// The version in which the webhook wants to see the request, if it does.
    ///
    /// # Errors
    /// It cannot be told, and the webhook may not fail.
    pub(super) async fn wants(
        &self,
        subject: &Subject<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Option<Served>, Status> {
        let Some(matched) = self.matched(subject) else { return Ok(None) };
        let selectors = self.selectors.as_ref().map_err(Status::internal)?;
        if !selectors.select(subject, object, old)? {
            return Ok(None);
        }
        if self.conditions.is_empty() {
            return Ok(Some(matched));
        }
        let shown = subject.show(object, &matched).await?;
        let before = match old {
            Some(old) => subject.show(old, &matched).await?,
            None => Value::Null,
        };
        let holds = self.conditions.hold(subject, &matched, &shown, &before);
        match holds {
            Ok(true) => Ok(Some(matched)),
            Ok(false) => Ok(None),
            Err(_) if self.ignores_failure => Ok(None),
            Err(why) => {
                let row = &subject.served.row;
                let error = Status::forbidden(row.group(), row.resource(), &subject.name, why);
                Err(error)
            }
        }
    }

    fn matched(&self, subject: &Subject<'_>) -> Option<Served> {
        let fits = |served: &Served| self.rules.iter().any(|rule| rule.fits(subject, served));
        if fits(subject.served) {
            return Some(subject.served.clone());
        }
        if !self.equivalent || !self.rules.iter().any(|rule| rule.fits_operation(subject)) {
            return None;
        }
        let others = subject.equivalents();
        let first =
            self.rules.iter().find_map(|rule| others.iter().find(|served| rule.fits(subject, served)));
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
    }
}

impl Selectors {
    fn read(hook: &Value) -> Result<Self, String> {
        let read = |field: &str| match hook.get(field).filter(|s| !s.is_null()) {
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
    fn defaults_of_hooks() {
        let configuration = object!({
            "kind": "MutatingWebhookConfiguration", "metadata": {"name": "c"},
            "webhooks": [{"name": "a.b.c"}, {"name": "d.e.f", "failurePolicy": "Ignore", "timeoutSeconds": 3,
                "reinvocationPolicy": "IfNeeded", "sideEffects": "None", "admissionReviewVersions": ["v2", "v1beta1", "v1"]}]
        });
        let hooks = Hook::all(&configuration);
        let facts: Vec<_> = hooks
            .iter()
            .map(|h| (h.timeout.as_secs(), h.ignores_failure, h.is_reinvocable, h.is_quiet, h.review))
            .collect();
        assert_eq!(
            facts,
            [(10, false, false, false, None), (3, true, true, true, Some(ReviewVersion::V1Beta1))]
        );
        assert_eq!((hooks[0].kind, hooks[0].configuration.as_str()), (Kind::Mutating, "c"));
    }
}

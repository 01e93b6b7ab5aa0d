//! One webhook of a configuration, read once, and which requests it wants to see.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use xebec_api::{Status, Value, meta};

use crate::admission::expressions::{Asks, Conditions, Environment, Evaluation, Seen, Sees};
use crate::admission::matching::Matcher;
use crate::admission::subject::Subject;
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
    matcher: Matcher,
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
            conditions: Conditions::read(hook, environment()),
            matcher: Matcher::of_webhook(hook),
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
        let Some(matched) = self.matcher.matches(subject, object, old)? else { return Ok(None) };
        if self.conditions.is_empty() {
            return Ok(Some(matched));
        }
        let seen = Seen::new(subject, matched.clone(), object, old).await?;
        let asks = Asks { subject };
        let holds = self.conditions.hold(&Evaluation::new(&seen, &asks));
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
}

/// What match conditions of webhooks see.
pub(super) fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Environment::new(Sees { authorizer: true, ..Sees::default() }))
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

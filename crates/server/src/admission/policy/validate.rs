//! Validating policies decide on a request.
//!
//! All policies are evaluated, also after one has refused: what others warn of or record is told nevertheless. The answer
//! is the first refusal.

use std::sync::{Arc, OnceLock};

use xebec_api::error::Foreign;
use xebec_api::{Reason, Status, Value, json, object};
use xebec_cel::{Budget, Value as CelValue, limits};

use super::Bound;
use super::definition::{Binding, Policy, Validation};
use super::params;
use crate::admission::expressions::{Asks, Evaluation, Failure, Seen};
use crate::admission::subject::Subject;
use crate::registry::table::Served;

/// How much of a value the audit log takes.
const MAX_ANNOTATION: usize = 10 * 1024;

/// Lets policies decide on a request; of a deletion the object is `null`.
///
/// # Errors
/// A policy refuses it, or fails and may not.
pub(in crate::admission) async fn validate(
    policies: &[Arc<Bound>],
    subject: &Subject<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if policies.is_empty() || subject.is_exempt_from_policies() {
        return Ok(());
    }
    let asks = Asks { subject };
    let request = Request { subject, object, old, own: OnceLock::new(), namespace: OnceLock::new() };
    let mut refusal = None;
    for bound in policies {
        let mut review = Review { bound, subject, refusal: &mut refusal, recorded: Vec::new() };
        review.run(&request, &asks).await?;
        review.record();
    }
    refusal.map_or(Ok(()), |refusal: Refusal| Err(refusal.status(subject)))
}

/// The request, and what is made of it when a policy needs it.
struct Request<'a> {
    subject: &'a Subject<'a>,
    object: &'a Value,
    old: Option<&'a Value>,
    /// As it is in its own version.
    own: OnceLock<Seen<'a>>,
    namespace: OnceLock<Value>,
}

impl<'a> Request<'a> {
    /// The request in the version `matched`.
    async fn seen(&self, matched: &Served) -> Result<Option<&Seen<'a>>, Status> {
        if !Arc::ptr_eq(&matched.row, &self.subject.served.row)
            || matched.version != self.subject.served.version
        {
            return Ok(None);
        }
        if let Some(seen) = self.own.get() {
            return Ok(Some(seen));
        }
        let seen = Seen::new(self.subject, matched.clone(), self.object, self.old).await?;
        Ok(Some(self.own.get_or_init(|| seen)))
    }

    /// The namespace of the request; none of a namespace itself, and of what is in none.
    fn namespace(&self) -> Result<Option<&Value>, Status> {
        if self.subject.namespace.is_empty() || self.subject.is_namespace() {
            return Ok(None);
        }
        if let Some(namespace) = self.namespace.get() {
            return Ok(Some(namespace));
        }
        let namespace = self.subject.find_namespace()?;
        Ok(Some(self.namespace.get_or_init(|| namespace)))
    }
}

/// What a policy says of a validation.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Admitted,
    /// It does not hold: what is said, and for which reason.
    Denied(String, String),
    /// It gives nothing: the failure policy decides.
    Failed(String),
}

/// Why a request is refused.
struct Refusal {
    message: String,
    reason: String,
}

/// One policy and one request.
struct Review<'r> {
    bound: &'r Bound,
    subject: &'r Subject<'r>,
    refusal: &'r mut Option<Refusal>,
    /// Values for the audit log, by key; each once.
    recorded: Vec<(&'r str, Vec<String>)>,
}

impl<'r> Review<'r> {
    async fn run(&mut self, request: &Request<'_>, asks: &Asks<'_>) -> Result<(), Status> {
        let Bound { policy, bindings } = self.bound;
        let matched = match policy.matcher.matches(self.subject, request.object, request.old) {
            Ok(Some(matched)) => matched,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.misconfigured(None, &error.message);
                return Ok(());
            }
        };
        let kind = policy.params.as_ref().map(|kind| (kind, kind.resolve(&self.subject.core.table.get())));
        if let Some((kind, None)) = kind {
            self.misconfigured(None, &format!("failed to find resource referenced by paramKind: '{kind}'"));
            return Ok(());
        }
        let kind = kind.and_then(|(_, served)| served);
        for binding in bindings {
            match binding.matches(self.subject, request.object, request.old) {
                Ok(true) => self.bind(binding, kind.as_ref(), &matched, request, asks).await?,
                Ok(false) => {}
                Err(error) => self.misconfigured(Some(binding), &error.message),
            }
        }
        Ok(())
    }

    async fn bind(
        &mut self,
        binding: &Binding,
        kind: Option<&Served>,
        matched: &Served,
        request: &Request<'_>,
        asks: &Asks<'_>,
    ) -> Result<(), Status> {
        let bound = self.bound;
        let policy = &*bound.policy;
        let params = match params::collect(policy, kind, binding, self.subject).await {
            Ok(params) => params,
            Err(why) => {
                self.misconfigured(Some(binding), &why);
                return Ok(());
            }
        };
        if params.is_empty() {
            return Ok(());
        }
        let other;
        let seen = match request.seen(matched).await {
            Ok(Some(seen)) => seen,
            Ok(None) => match Seen::new(self.subject, matched.clone(), request.object, request.old).await {
                Ok(seen) => {
                    other = seen;
                    &other
                }
                Err(error) => {
                    let why = format!("failed to convert object version: {}", error.message);
                    self.misconfigured(Some(binding), &why);
                    return Ok(());
                }
            },
            Err(error) => return Err(error),
        };
        let namespace = if policy.uses_namespace { request.namespace()? } else { None };
        for param in &params {
            self.judge(binding, seen, asks, (!param.is_null()).then_some(param), namespace);
            // Others get their turn between evaluations, each of which is bounded by itself.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    /// Evaluates the policy on the request, with one object as its parameters.
    fn judge(
        &mut self,
        binding: &Binding,
        seen: &Seen<'_>,
        asks: &Asks<'_>,
        param: Option<&Value>,
        namespace: Option<&Value>,
    ) {
        let policy = &*self.bound.policy;
        // Conditions see no namespace.
        match policy.conditions.hold(&Evaluation::new(seen, asks).with(param, None, &[])) {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) if policy.ignores_failure => return,
            Err(why) => return self.act(binding, 0, Decision::Failed(why)),
        }
        let evaluation = Evaluation::new(seen, asks).with(param, namespace, &policy.variables);
        for (at, decision) in decisions(policy, &evaluation).into_iter().enumerate() {
            self.act(binding, at, decision);
        }
        self.annotate(binding, &evaluation);
    }

    /// A policy or binding cannot be applied to the request.
    fn misconfigured(&mut self, binding: Option<&Binding>, why: &str) {
        if self.bound.policy.ignores_failure {
            return;
        }
        let what = if binding.is_some() { "binding" } else { "policy" };
        self.refuse(binding, &format!("failed to configure {what}: {why}"), "Invalid");
    }

    fn refuse(&mut self, binding: Option<&Binding>, message: &str, reason: &str) {
        if self.refusal.is_some() {
            return;
        }
        let bound = binding.map(|b| format!(" with binding '{}'", b.name)).unwrap_or_default();
        let policy = &self.bound.policy.name;
        let message = format!("ValidatingAdmissionPolicy '{policy}'{bound} denied request: {message}");
        *self.refusal = Some(Refusal { message, reason: reason.to_owned() });
    }

    /// Does what the binding says about a decision.
    fn act(&mut self, binding: &Binding, at: usize, decision: Decision) {
        let (message, reason) = match decision {
            Decision::Admitted => return,
            Decision::Failed(_) if self.bound.policy.ignores_failure => return,
            Decision::Failed(why) => (why, "Invalid".to_owned()),
            Decision::Denied(message, reason) => (message, reason),
        };
        let policy = &self.bound.policy.name;
        let context = self.subject.context;
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => self.refuse(Some(binding), &message, &reason),
                "Warn" => context.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{}': {message}",
                    binding.name
                )),
                "Audit" => {
                    let index = i64::try_from(at).unwrap_or(i64::MAX);
                    let failure = object!([{
                        "message": (message.as_str()), "policy": (policy.as_str()),
                        "binding": (binding.name.as_str()), "expressionIndex": index,
                        "validationActions": (binding.actions.clone())
                    }]);
                    let text = String::from_utf8_lossy(&json::to_vec(&failure)).into_owned();
                    context.annotate("validation.policy.admission.k8s.io/validation_failure", text);
                }
                // No other action passes validation.
                _ => {}
            }
        }
    }

    /// Evaluates what is to be recorded, with a budget of its own.
    fn annotate<'a>(&mut self, binding: &Binding, evaluation: &Evaluation<'a>)
    where
        'r: 'a,
    {
        let bound: &'r Bound = self.bound;
        let mut budget = Budget::per_object();
        for annotation in &bound.policy.annotations {
            let value = match evaluation.evaluate(&annotation.expression, &mut budget) {
                Ok(CelValue::String(text)) => text.trim().to_owned(),
                Ok(_) => continue,
                Err(failure) => {
                    if !bound.policy.ignores_failure {
                        self.refuse(Some(binding), &failure.to_string(), "Invalid");
                    }
                    match failure {
                        Failure::Budget => return,
                        Failure::Expression(_) => continue,
                    }
                }
            };
            if value.is_empty() {
                continue;
            }
            let value = value[..value.floor_char_boundary(MAX_ANNOTATION)].to_owned();
            match self.recorded.iter_mut().find(|(key, _)| *key == annotation.key) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => self.recorded.push((&annotation.key, vec![value])),
            }
        }
    }

    /// Records what was found; bindings with other params may have found something else.
    fn record(self) {
        for (key, values) in self.recorded {
            self.subject.context.annotate(&format!("{}/{key}", self.bound.policy.name), values.join(", "));
        }
    }
}

/// What the validations come to, in order. They share a budget; what exceeds it makes one failure of all.
fn decisions<'a>(policy: &'a Policy, evaluation: &Evaluation<'a>) -> Vec<Decision> {
    let mut budget = Budget::per_object();
    let mut decisions = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        decisions.push(match evaluation.evaluate(&validation.expression, &mut budget) {
            Ok(CelValue::Bool(true)) => Decision::Admitted,
            Ok(_) => Decision::Denied(String::new(), validation.reason.clone()),
            Err(Failure::Expression(why)) => Decision::Failed(why),
            Err(Failure::Budget) => return vec![Decision::Failed(Failure::Budget.to_string())],
        });
    }
    for (decision, validation) in decisions.iter_mut().zip(&policy.validations) {
        if let Decision::Denied(message, _) = decision {
            match said(validation, evaluation, &mut budget) {
                Ok(text) => *message = text,
                Err(why) => *decision = Decision::Failed(why),
            }
        }
    }
    decisions
}

/// What is said of a validation that does not hold.
fn said<'a>(
    validation: &'a Validation,
    evaluation: &Evaluation<'a>,
    budget: &mut Budget,
) -> Result<String, String> {
    let made = validation.message_expression.as_ref().map(|made| evaluation.evaluate(made, budget));
    match made {
        Some(Ok(CelValue::String(text))) => {
            let text = text.trim();
            if !text.is_empty() && text.len() <= limits::MAX_MESSAGE && !text.contains('\n') {
                return Ok(text.to_owned());
            }
        }
        Some(Err(Failure::Budget)) => return Err(format!("failed messageExpression: {}", Failure::Budget)),
        Some(Err(Failure::Expression(why))) => tracing::debug!(why, "a message expression gives nothing"),
        Some(Ok(_)) | None => {}
    }
    if !validation.message.is_empty() {
        return Ok(validation.message.clone());
    }
    Ok(format!("failed expression: {}", validation.expression.text.trim()))
}

impl Refusal {
    fn status(self, subject: &Subject<'_>) -> Status {
        let row = &subject.served.row;
        let forbidden = Status::forbidden(row.group(), row.resource(), &subject.name, &self.message);
        let code = match self.reason.as_str() {
            "Forbidden" => Reason::Forbidden.code(),
            "Unauthorized" => Reason::Unauthorized.code(),
            "RequestEntityTooLarge" => Reason::RequestEntityTooLarge.code(),
            _ => Reason::Invalid.code(),
        };
        let mut details = object!({
            "kind": (row.resource()), "causes": [{"message": (self.message.as_str())}]
        });
        for (field, text) in [("name", subject.name.as_str()), ("group", row.group())] {
            if !text.is_empty() {
                details.set(&[field], text);
            }
        }
        Status::foreign(
            Foreign { code, reason: self.reason, details: json::to_vec(&details) },
            forbidden.message,
        )
    }
}

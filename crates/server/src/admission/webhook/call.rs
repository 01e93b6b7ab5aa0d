//! One call of one webhook, and what follows from its answer.

use std::time::Instant;

use xebec_api::error::Foreign;
use xebec_api::{Status, Value, json};

use super::hook::{Hook, Kind};
use super::review::{self, Answer};
use crate::admission::subject::Subject;
use crate::core::Core;
use crate::outbound::Limits;
use crate::registry::table::Served;

/// How long an answer may be: an object and as much again, in the text form of bytes.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The webhook was not reached, or answered nothing that can be understood: its failure policy decides.
    Webhook(String),
    /// The server cannot show the request to it, whatever its policy.
    Server(Status),
}

/// What an answer leads to.
pub(super) enum Outcome {
    /// The request goes on as it is.
    Passed,
    /// The object is to be changed.
    Patch(Value),
}

/// Calls a webhook.
pub(super) async fn call(
    core: &Core,
    hook: &Hook,
    subject: &Subject<'_>,
    matched: &Served,
    object: &Value,
    old: Option<&Value>,
) -> Result<Answer, Failure> {
    if subject.dry_run && !hook.is_quiet {
        let text = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Server(Status::bad_request(text)));
    }
    let Some(version) = hook.review else {
        let text = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failure::Webhook(text.into()));
    };
    let shown = subject.show(object, matched).await.map_err(Failure::Server)?;
    let old = match old {
        Some(old) => subject.show(old, matched).await.map_err(Failure::Server)?,
        None => Value::Null,
    };
    let uid = core.new_uid().map_err(Failure::Server)?;
    let request = subject.request(matched, &shown);
    let body = review::review(version, &uid, request, shown, old);
    let started = Instant::now();
    let answer = post(core, hook, body).await;
    tracing::debug!(webhook = hook.name, took = ?started.elapsed(), failed = answer.is_err(), "called a webhook");
    let bytes = answer.map_err(|why| Failure::Webhook(format!("failed to call webhook: {why}")))?;
    review::read(version, hook.kind, &uid, &bytes)
        .map_err(|why| Failure::Webhook(format!("received invalid webhook response: {why}")))
}

async fn post(core: &Core, hook: &Hook, body: Vec<u8>) -> Result<bytes::Bytes, String> {
    let way = hook.way.as_ref().map_err(Clone::clone)?;
    let limits = Limits { timeout: hook.timeout, answer: MAX_ANSWER };
    way.post(core, "kube-apiserver-admission", body, limits).await
}

/// What becomes of the request: warnings and annotations are kept, a denial or a failure that counts ends it.
pub(super) fn settle(
    hook: &Hook,
    subject: &Subject<'_>,
    told: Result<Answer, Failure>,
    place: (usize, usize),
) -> Result<Outcome, Status> {
    let answer = match told {
        Ok(answer) => answer,
        Err(Failure::Server(status)) => return Err(status),
        Err(Failure::Webhook(why)) => {
            let text = format!("failed calling webhook {:?}: {why}", hook.name);
            tracing::warn!(failure = text, ignored = hook.ignores_failure, "a webhook failed");
            if !hook.ignores_failure {
                return Err(Status::internal(text));
            }
            let kind = match hook.kind {
                Kind::Mutating => "mutation",
                Kind::Validating => "validating",
            };
            let (round, index) = place;
            let key = format!("failed-open.{kind}.webhook.admission.k8s.io/round_{round}_index_{index}");
            subject.context.annotate(&key, hook.name.as_str());
            return Ok(Outcome::Passed);
        }
    };
    for (key, value) in answer.annotations {
        subject.context.annotate(&format!("{}/{key}", hook.name), value);
    }
    answer.warnings.into_iter().for_each(|text| subject.context.warn(text));
    match (answer.allowed, answer.patch) {
        (false, _) => Err(denial(&hook.name, &answer.result)),
        (true, Some(operations)) => Ok(Outcome::Patch(operations)),
        (true, None) => Ok(Outcome::Passed),
    }
}

/// A denial, as the webhook worded it.
fn denial(webhook: &str, result: &Value) -> Status {
    let said = |field: &str| result.str_at(&[field]).filter(|text| !text.is_empty());
    let why = said("message").or(said("reason"));
    let message = match why {
        Some(why) => format!("admission webhook {webhook:?} denied the request: {why}"),
        None => format!("admission webhook {webhook:?} denied the request without explanation"),
    };
    let code = result.i64_at(&["code"]).and_then(|code| u16::try_from(code).ok());
    Status::foreign(
        Foreign {
            code: code.filter(|code| (400..=599).contains(code)).unwrap_or(400),
            reason: said("reason").unwrap_or_default().to_owned(),
            details: result.get("details").map(json::to_vec).unwrap_or_default(),
        },
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn denials() {
        let check = |result: Value, code: u16, message: &str| {
            let status = denial("a.b.c", &result);
            assert_eq!((status.code(), status.message.as_ref()), (code, message));
        };
        check(Value::Null, 400, r#"admission webhook "a.b.c" denied the request without explanation"#);
        check(
            object!({"message": "no", "code": 200, "status": "Success"}),
            400,
            r#"admission webhook "a.b.c" denied the request: no"#,
        );
        check(
            object!({"reason": "Teapot", "code": 418}),
            418,
            r#"admission webhook "a.b.c" denied the request: Teapot"#,
        );
        let status = denial("a.b.c", &object!({"reason": "Teapot", "details": {"name": "x"}})).to_value();
        assert_eq!(status.str_at(&["reason"]), Some("Teapot"));
        assert_eq!(status.str_at(&["details", "name"]), Some("x"));
    }
}

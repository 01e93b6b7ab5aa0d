//! The answer to a request that failed: Kubernetes' `Status` (meta/v1) and the field errors inside it.
//!
//! Clients match on `reason`, `code`, and for validation on each cause's `reason`, `message` and `field`; texts follow
//! upstream's forms.

use std::borrow::Cow;
use std::fmt;

use crate::{FieldPath, Value, json, object};

/// Why a request failed: the machine-readable `reason` of a `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the API's own, described by it")]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    NotImplemented,
    /// The server failed in a way that the API has no name for.
    Unknown,
}

impl Reason {
    /// The HTTP status code that goes with the reason.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::Invalid => 422,
            Self::ServerTimeout | Self::InternalError | Self::Unknown => 500,
            Self::Timeout => 504,
            Self::TooManyRequests => 429,
            Self::BadRequest => 400,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ServiceUnavailable => 503,
            Self::NotImplemented => 501,
        }
    }
}

/// What a cause of an invalid object complains of: the API's `CauseType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the API's own, described by it")]
pub enum CauseKind {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    NotFound,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    Internal,
    NamespaceTerminating,
    FieldManagerConflict,
    DisruptionBudget,
}

impl CauseKind {
    /// The name in a `Status` cause.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
            Self::NamespaceTerminating => "NamespaceTerminating",
            Self::FieldManagerConflict => "FieldManagerConflict",
            Self::DisruptionBudget => "DisruptionBudget",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
            Self::NamespaceTerminating => "Namespace terminating",
            Self::FieldManagerConflict => "Conflict",
            Self::DisruptionBudget => "Disruption budget",
        }
    }
}

/// One field that is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What is wrong with it.
    pub kind: CauseKind,
    /// Which field.
    pub field: FieldPath,
    /// The whole message without the path, `Invalid value: "x": must be ...`.
    pub message: String,
}

impl Cause {
    fn new(kind: CauseKind, field: FieldPath, value: &str, detail: &str) -> Self {
        let mut message = kind.words().to_owned();
        for part in [value, detail] {
            if !part.is_empty() {
                message.push_str(": ");
                message.push_str(part);
            }
        }
        Self { kind, field, message }
    }

    /// A field that must be there is not.
    #[must_use]
    pub fn required(field: FieldPath, detail: &str) -> Self {
        Self::new(CauseKind::Required, field, "", detail)
    }

    /// A value that cannot stand there.
    #[must_use]
    pub fn invalid(field: FieldPath, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(CauseKind::Invalid, field, &show(&value.into()), detail)
    }

    /// An object or a list that cannot stand there; it is not shown.
    #[must_use]
    pub fn invalid_part(field: FieldPath, detail: &str) -> Self {
        Self::new(CauseKind::Invalid, field, "", detail)
    }

    /// What the server itself could not do.
    #[must_use]
    pub fn internal(field: FieldPath, detail: &str) -> Self {
        Self::new(CauseKind::Internal, field, "", detail)
    }

    /// A value of the wrong JSON type.
    #[must_use]
    pub fn type_invalid(field: FieldPath, value: &Value, detail: &str) -> Self {
        Self::new(CauseKind::TypeInvalid, field, &show(value), detail)
    }

    /// A value outside a closed set.
    #[must_use]
    pub fn not_supported(field: FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(CauseKind::NotSupported, field, &show(&value.into()), &detail)
    }

    /// A value that stands twice where it may stand once.
    #[must_use]
    pub fn duplicate(field: FieldPath, value: impl Into<Value>) -> Self {
        Self::new(CauseKind::Duplicate, field, &show(&value.into()), "")
    }

    /// An object or a list that stands twice where it may stand once; it is not shown.
    #[must_use]
    pub fn duplicate_part(field: FieldPath) -> Self {
        Self::new(CauseKind::Duplicate, field, "", "")
    }

    /// A reference to something that does not exist.
    #[must_use]
    pub fn not_found(field: FieldPath, value: impl Into<Value>) -> Self {
        Self::new(CauseKind::NotFound, field, &show(&value.into()), "")
    }

    /// A field that may not be set here, or not changed.
    #[must_use]
    pub fn forbidden(field: FieldPath, detail: &str) -> Self {
        Self::new(CauseKind::Forbidden, field, "", detail)
    }

    /// A namespace that is going.
    #[must_use]
    pub fn terminating(field: FieldPath, namespace: &str) -> Self {
        let message = format!("namespace {namespace} is being terminated");
        Self { kind: CauseKind::NamespaceTerminating, field, message }
    }

    /// A pod that its disruption budget keeps for now; no field is wrong.
    #[must_use]
    pub fn disruption_budget(why: String) -> Self {
        Self { kind: CauseKind::DisruptionBudget, field: FieldPath::root(), message: why }
    }

    /// A text longer than `max` bytes.
    #[must_use]
    pub fn too_long(field: FieldPath, max: usize) -> Self {
        Self::new(CauseKind::TooLong, field, "", &format!("may not be more than {max} bytes"))
    }

    /// A list with more than `max` items.
    #[must_use]
    pub fn too_many(field: FieldPath, count: usize, max: usize) -> Self {
        Self::new(CauseKind::TooMany, field, &count.to_string(), &format!("must have at most {max} items"))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// How many bytes of a value stand in a message.
const MAX_SHOWN: usize = 1024;
/// How many causes a status names; who reads them has enough of them.
const MAX_CAUSES: usize = 64;

/// How a value stands in a message: strings quoted, the rest as JSON; of a long one the beginning.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::String(s) if s.len() <= MAX_SHOWN => format!("{s:?}"),
        Value::String(s) => format!("{:?}…", &s[..s.floor_char_boundary(MAX_SHOWN)]),
        other => {
            let mut text = String::from_utf8_lossy(&json::to_vec(other)).into_owned();
            if text.len() > MAX_SHOWN {
                text.truncate(text.floor_char_boundary(MAX_SHOWN));
                text.push('…');
            }
            text
        }
    }
}

/// Which object a failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name, if one was named.
    pub name: Option<String>,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource (plural), or the kind for invalid objects.
    pub kind: String,
    /// The object's UID, when a precondition named one.
    pub uid: Option<String>,
    /// Fields that are wrong.
    pub causes: Vec<Cause>,
    /// When to try again, in seconds.
    pub retry_after_seconds: Option<u32>,
}

/// A failure that somebody else worded, as an admission webhook does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// The HTTP status code.
    pub code: u16,
    /// The reason; empty if there is none.
    pub reason: String,
    /// The details, as JSON; `null` if there are none.
    pub details: Vec<u8>,
}

/// Kubernetes' answer to a request that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The machine-readable reason; also decides the HTTP code.
    pub reason: Reason,
    /// The text for people.
    pub message: Cow<'static, str>,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// Where an expired list may go on, at the price of consistency; empty if it may not.
    pub continue_token: String,
    /// What somebody else said, which goes before the server's own words.
    pub foreign: Option<Box<Foreign>>,
}

impl Status {
    /// A failure with a reason and a text.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), details: None, continue_token: String::new(), foreign: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let name = (!name.is_empty()).then(|| name.to_owned());
        self.details =
            Some(Box::new(Details { name, group: group.into(), kind: kind.into(), ..Details::default() }));
        self
    }

    /// What somebody else answers.
    #[must_use]
    pub fn foreign(foreign: Foreign, message: impl Into<Cow<'static, str>>) -> Self {
        Self { foreign: Some(Box::new(foreign)), ..Self::new(Reason::Unknown, message) }
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 500: the server failed; details are in its log.
    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {message}"))
    }

    /// 404 for an object.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(Reason::NotFound, format!("{} {name:?} not found", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// 404 for a path that nothing serves.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource").about("", "", "")
    }

    /// 409: the name is taken.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(Reason::AlreadyExists, format!("{} {name:?} already exists", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// 409: the object is not as the request supposed.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let text = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Self::new(Reason::Conflict, text).about(group, resource, name)
    }

    /// 403: not allowed, and why.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let text = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", qualified(group, resource)),
            _ => format!("{} {name:?} is forbidden: {why}", qualified(group, resource)),
        };
        Self::new(Reason::Forbidden, text).about(group, resource, name)
    }

    /// 401: not known who asks.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 405: the resource does not take this verb.
    #[must_use]
    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        Self::new(
            Reason::MethodNotAllowed,
            format!("{verb} is not supported on resources of kind {resource:?}"),
        )
        .about(group, resource, "")
    }

    /// 410: the revision asked for is compacted away; list again.
    #[must_use]
    pub fn expired(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// 413: over the limit that the message names.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"))
    }

    /// 415: the body's type is none of `supported`.
    #[must_use]
    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let text = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            supported.join(", ")
        );
        Self::new(Reason::UnsupportedMediaType, text)
    }

    /// 406: none of the types asked for can be given.
    #[must_use]
    pub fn not_acceptable(supported: &[&str]) -> Self {
        let text = format!("only the following media types are accepted: {}", supported.join(", "));
        Self::new(Reason::NotAcceptable, text)
    }

    /// 422: the object breaks rules, each of which is a cause; the first 64 are told. `kind` is the object's kind.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, mut causes: Vec<Cause>) -> Self {
        let more = causes.len().saturating_sub(MAX_CAUSES);
        causes.truncate(MAX_CAUSES);
        let mut texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        let what = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let subject = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut status = Self::new(Reason::Invalid, format!("{subject} {name:?} is invalid: {what}"))
            .about(group, kind, name);
        if let Some(details) = &mut status.details {
            details.causes = causes;
        }
        status
    }

    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.foreign.as_ref().map_or(self.reason.code(), |foreign| foreign.code)
    }

    /// The `Status` object of meta/v1.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut out = object!({
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "message": (self.message.as_ref()),
            "code": (i32::from(self.code()))
        });
        // A reason that the API has no name for is left out, as upstream does.
        if !matches!(self.reason, Reason::NotImplemented | Reason::Unknown) {
            out.set(&["reason"], format!("{:?}", self.reason));
        }
        if !self.continue_token.is_empty() {
            out.set(&["metadata", "continue"], self.continue_token.as_str());
        }
        if let Some(details) = &self.details {
            out.set(&["details"], details_value(details));
        }
        if let Some(foreign) = &self.foreign {
            if !foreign.reason.is_empty() {
                out.set(&["reason"], foreign.reason.as_str());
            }
            if let Ok(details @ Value::Object(_)) = json::from_slice(&foreign.details) {
                out.set(&["details"], details);
            }
        }
        out
    }
}

fn details_value(details: &Details) -> Value {
    let mut out = Value::object();
    for (key, text) in [
        ("name", details.name.as_deref().unwrap_or_default()),
        ("group", &details.group),
        ("kind", &details.kind),
        ("uid", details.uid.as_deref().unwrap_or_default()),
    ] {
        if !text.is_empty() {
            out.set(&[key], text);
        }
    }
    if let Some(seconds) = details.retry_after_seconds {
        out.set(&["retryAfterSeconds"], seconds);
    }
    if !details.causes.is_empty() {
        let causes: Vec<Value> = details.causes.iter().map(cause_value).collect();
        out.set(&["causes"], causes);
    }
    out
}

fn cause_value(cause: &Cause) -> Value {
    let mut value = object!({
        "reason": (cause.kind.as_str()),
        "message": (cause.message.as_str())
    });
    if cause.kind != CauseKind::DisruptionBudget {
        value.set(&["field"], cause.field.to_string());
    }
    value
}

/// `deployments.apps`, `pods`.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_bounded() {
        let text = "x".repeat(MAX_SHOWN + 1);
        let cause = |_| Cause::invalid(FieldPath::new("spec"), text.as_str(), "");
        let status = Status::invalid("", "Pod", "a", (0..100_000).map(cause).collect());
        assert!(status.message.ends_with(", and 99936 more]"), "{}", status.message.len());
        assert_eq!(status.details.as_ref().map(|d| d.causes.len()), Some(MAX_CAUSES));
        assert!(status.message.len() < MAX_CAUSES * (MAX_SHOWN + 64));
        assert!(show(&Value::from(vec![text.as_str()])).len() < MAX_SHOWN + 8);
    }

    #[test]
    fn texts_are_what_clients_match() {
        let check = |status: Status, code: u16, text: &str| {
            assert_eq!((status.code(), status.message.as_ref()), (code, text));
        };
        check(Status::not_found("apps", "deployments", "web"), 404, r#"deployments.apps "web" not found"#);
        check(Status::already_exists("", "pods", "a"), 409, r#"pods "a" already exists"#);
        check(
            Status::invalid(
                "apps",
                "Deployment",
                "web",
                vec![Cause::required(FieldPath::new("spec.selector"), "")],
            ),
            422,
            r#"Deployment.apps "web" is invalid: spec.selector: Required value"#,
        );
        let two = vec![
            Cause::invalid(FieldPath::new("metadata.name"), "A", "bad"),
            Cause::not_supported(FieldPath::new("spec.type"), "x", &["a", "b"]),
        ];
        check(
            Status::invalid("", "Service", "A", two),
            422,
            r#"Service "A" is invalid: [metadata.name: Invalid value: "A": bad, spec.type: Unsupported value: "x": supported values: "a", "b"]"#,
        );
    }

    #[test]
    fn a_status_object() {
        let got = json::to_vec(&Status::not_found("", "pods", "a").to_value());
        assert_eq!(
            String::from_utf8_lossy(&got),
            r#"{"apiVersion":"v1","code":404,"details":{"kind":"pods","name":"a"},"kind":"Status","message":"pods \"a\" not found","metadata":{},"reason":"NotFound","status":"Failure"}"#
        );
    }
}

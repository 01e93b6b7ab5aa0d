//! Refusals and outcomes as Kubernetes' `Status`.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use xebec_sandbox::sandbox::ErrorKind;

use super::AgentBody;
use super::pods::PodError;

/// A request that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), header: None }
    }

    /// Adds a header to the response.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The refusal as the answer to a request.
    pub(crate) fn response(&self) -> Response<AgentBody> {
        let bytes = to_json(&failure(self.reason, self.message.clone(), Some(self.code)));
        let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = self.code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = &self.header {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

impl From<PodError> for Refusal {
    fn from(error: PodError) -> Self {
        let message = error.to_string();
        match &error {
            PodError::PodNotFound(_) | PodError::ContainerNotFound(_) => Self::not_found(message),
            PodError::Waiting { .. }
            | PodError::NotRunning { .. }
            | PodError::NoPrevious(_)
            | PodError::PodNotRunning(_) => Self::bad_request(message),
            PodError::Dial { .. } => Self::internal(message),
            PodError::Sandbox(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::Gone => Self::not_found(message),
                ErrorKind::InvalidState | ErrorKind::InvalidConfig => Self::bad_request(message),
                ErrorKind::LimitReached => Self::too_many(message),
                _ => Self::internal(message),
            },
        }
    }
}

/// How a remote command came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process ended with this code; or, 0, the process that was attached to ended.
    Exited(i32),
    /// It could not be run or listened to until its end.
    Failed(String),
}

impl Outcome {
    /// The status for the command's error stream.
    pub(crate) fn to_json(&self) -> Bytes {
        to_json(&match self {
            Self::Exited(0) => Status { status: Some("Success".into()), ..Status::default() },
            Self::Exited(code) => {
                let cause = StatusCause {
                    reason: Some("ExitCode".into()),
                    message: Some(code.to_string()),
                    ..StatusCause::default()
                };
                let message = format!("command terminated with non-zero exit code: exit status {code}");
                Status {
                    details: Some(StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() }),
                    ..failure("NonZeroExitCode", message, None)
                }
            }
            Self::Failed(message) => {
                failure("InternalError", message.clone(), Some(StatusCode::INTERNAL_SERVER_ERROR))
            }
        })
    }
}

fn failure(reason: &str, message: String, code: Option<StatusCode>) -> Status {
    Status {
        status: Some("Failure".into()),
        reason: Some(reason.into()),
        message: Some(message),
        code: code.map(|code| i32::from(code.as_u16())),
        ..Status::default()
    }
}

fn to_json(status: &Status) -> Bytes {
    serde_json::to_vec(status).expect("a status always serialises").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let check = |outcome: Outcome, expected: serde_json::Value| {
            let got: serde_json::Value = serde_json::from_slice(&outcome.to_json()).unwrap();
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&got[key], value, "{key} of {outcome:?}");
            }
        };
        check(Outcome::Exited(0), serde_json::json!({"kind": "Status", "status": "Success"}));
        check(
            Outcome::Exited(137),
            serde_json::json!({
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": "137"}]},
                "message": "command terminated with non-zero exit code: exit status 137",
            }),
        );
        check(
            Outcome::Failed("no such program".into()),
            serde_json::json!({"status": "Failure", "reason": "InternalError", "message": "no such program"}),
        );
    }
}

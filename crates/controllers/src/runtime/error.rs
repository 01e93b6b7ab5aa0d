//! Why a reconcile failed.

use std::borrow::Cow;
use std::fmt;

use kube::core::Status;
use thiserror::Error;

/// A request to the API that failed.
#[derive(Debug, Error)]
#[error("{verb} {resource} {object}: {}", Reason(source))]
pub struct ApiError {
    /// What was asked: `create`, `patch`, `delete` ...
    pub verb: &'static str,
    /// The plural name of the resource, with its subresource.
    pub resource: Cow<'static, str>,
    /// Namespace and name.
    pub object: String,
    /// What came back.
    #[source]
    pub source: Box<kube::Error>,
}

impl ApiError {
    /// The server's answer, when there was one.
    pub fn status(&self) -> Option<&Status> {
        match &*self.source {
            kube::Error::Api(status) => Some(status),
            _ => None,
        }
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// The object is not there, and the server names it: the path was right.
    pub fn is_not_found_by_name(&self, name: &str) -> bool {
        let details = self.status().and_then(|status| status.details.as_ref());
        self.is_not_found() && details.is_some_and(|details| details.name == name)
    }

    /// The object is not as the request assumed: another revision or another uid.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// An object of this name is there already.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// The namespace is being deleted and takes no new objects.
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
        causes.is_some_and(|causes| causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    }

    /// What the server said, or else why it could not be asked.
    pub fn message(&self) -> String {
        Reason(&self.source).to_string()
    }
}

/// `kube::Error` prints API errors twice; this prints the server's message alone.
struct Reason<'a>(&'a kube::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            kube::Error::Api(status) if !status.message.is_empty() => f.write_str(&status.message),
            kube::Error::Api(status) => write!(f, "{} ({})", status.reason, status.code),
            other => other.fmt(f),
        }
    }
}

/// Why a reconcile did not reach its end. The key is tried again, later each time.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A read or write failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// An object cannot be acted on as it is.
    #[error("{object}: {problem}")]
    Unusable {
        /// Which object.
        object: String,
        /// What is wrong with it and what would help.
        problem: String,
    },
    /// The reconcile panicked; the message of the panic.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl ReconcileError {
    /// Whether this is the everyday race between two writers, cured by looking again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_conflict())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_failed_and_knows_its_kind() {
        let mut status =
            Status::failure("pods \"web\" is forbidden: namespace is being terminated", "Forbidden");
        status.code = 403;
        let details = r#"{"causes": [{"reason": "NamespaceTerminating"}]}"#;
        status.details = serde_json::from_str(details).unwrap();
        let error = ApiError {
            verb: "create",
            resource: "pods".into(),
            object: "ns/web".to_owned(),
            source: Box::new(kube::Error::Api(status.boxed())),
        };
        assert_eq!(
            error.to_string(),
            "create pods ns/web: pods \"web\" is forbidden: namespace is being terminated"
        );
        assert!(error.is_namespace_terminating());
        assert!(!error.is_conflict() && !error.is_not_found() && !error.is_already_exists());
    }
}

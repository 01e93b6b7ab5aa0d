//! What can go wrong with a cluster, for the person who reads a test's failure.

use std::fmt;

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no such controller.
    #[error("there is no controller {name:?}; there are: {known}")]
    NoSuchController {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// Keys could not be made.
    #[error("the cluster's keys cannot be made")]
    Keys(#[from] xebec_server::auth::keys::KeyError),
    /// The API server does not start.
    #[error("the API server does not start")]
    Server(#[from] xebec_server::server::StartError),
    /// The loopback address cannot be listened on.
    #[error("no port of 127.0.0.1 can be listened on")]
    Listen(#[source] std::io::Error),
    /// There is no place for the audit log.
    #[error("there is no temporary directory for the audit log")]
    Audit(#[source] std::io::Error),
    /// One of the first objects was refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Why a manifest was not applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It cannot be read.
    #[error("document {number} cannot be read: {reason}")]
    Unreadable {
        /// Which document, from 1 on.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It has no kind or no name.
    #[error("document {number} has no {field}")]
    Incomplete {
        /// Which document, from 1 on.
        number: usize,
        /// What is missing.
        field: &'static str,
    },
    /// The cluster does not serve its kind.
    #[error("{api_version} {kind} is not served; apply its CustomResourceDefinition first")]
    NoSuchKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// The server refused it.
    #[error("{kind} {name} is refused")]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What the server says.
        source: Box<kube::Error>,
    },
}

/// Why a simulated node is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The server refused its object or its lease.
    #[error("node {node} cannot be registered")]
    Register {
        /// Its name.
        node: String,
        /// What the server says.
        source: Box<kube::Error>,
    },
    /// There is one of that name.
    #[error("there is a simulated node {node} already")]
    Exists {
        /// Its name.
        node: String,
    },
}

/// A part of the cluster has failed before it was told to stop. From then on it does nothing; what the test saw since may be
/// due to that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has lost a part: {lost}")]
pub struct StopError {
    pub(crate) lost: String,
}

/// What was waited for has not come. Its text, which `unwrap` shows too, has the object and its events.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It took too long.
    #[error("{what} has not become what was waited for within {seconds} s\n{picture}")]
    Timeout {
        /// Its path.
        what: String,
        /// How long it was waited for.
        seconds: f64,
        /// The object as it is, and its events.
        picture: String,
    },
    /// It cannot be watched.
    #[error("{what} cannot be watched: {source}")]
    Watch {
        /// Its path.
        what: String,
        /// What the client says.
        source: Box<kube::runtime::wait::Error>,
    },
    /// The cluster broke meanwhile.
    #[error(transparent)]
    Lost(#[from] StopError),
}

impl fmt::Debug for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

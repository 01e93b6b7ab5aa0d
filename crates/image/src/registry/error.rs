//! What can go wrong with a registry, in words for whoever waits for the image.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::limits::Exceeded;
use crate::reference::Reference;

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {host} broke: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// Why.
        reason: String,
    },
    /// Nothing happened for too long.
    #[error("{host} did not answer within {limit:?}")]
    Timeout {
        /// Host and port.
        host: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Something happened, but too little of it.
    #[error(
        "{host} is too slow: {came} bytes came in {waited:.1?}, the least that is waited for is {slowest} in a second"
    )]
    Slow {
        /// Host and port.
        host: String,
        /// Bytes that came.
        came: u64,
        /// In what time.
        waited: Duration,
        /// Bytes per second that it should send at the least.
        slowest: u64,
    },
    /// The machine has no root certificates.
    #[error("no trusted root certificates found: install the package ca-certificates, or set SSL_CERT_FILE")]
    NoRoots,
    /// A certificate file cannot be read.
    #[error("cannot use the CA file {path}: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// An address that is none.
    #[error("the registry named an invalid address")]
    Address,
    /// Plain HTTP where it is not allowed.
    #[error(
        "refusing to talk to {host} without TLS; if you must, list it in the registry configuration as insecure"
    )]
    PlainHttp {
        /// Host and port.
        host: String,
    },
    /// A redirect that must not or cannot be followed.
    #[error("refusing a redirect of {host}: {what}")]
    Redirect {
        /// Who redirected.
        host: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The image, tag or blob is not there.
    #[error("{what} does not exist in the registry {host}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Host and port.
        host: String,
    },
    /// Credentials are missing or not sufficient.
    #[error("{host} refuses access to {what}{}: it does not exist or needs other credentials", colon(.message))]
    Denied {
        /// What was asked for.
        what: String,
        /// Host and port.
        host: String,
        /// The registry's own words.
        message: String,
    },
    /// Too many requests.
    #[error("{host} limits the rate of requests{}; try again later or use credentials", colon(.message))]
    RateLimited {
        /// Host and port.
        host: String,
        /// When the registry says to try again.
        retry_after: Option<Duration>,
        /// The registry's own words.
        message: String,
    },
    /// Any other status.
    #[error("{host} answered {status} to a request for {what}{}", colon(.message))]
    Status {
        /// What was asked for.
        what: String,
        /// Host and port.
        host: String,
        /// The status code.
        status: u16,
        /// The registry's own words.
        message: String,
    },
    /// The token server is not an address.
    #[error("the registry names an invalid token server `{realm}`")]
    Realm {
        /// As named.
        realm: String,
    },
    /// The token server refused.
    #[error("the token server {host} answered {status}; check the credentials")]
    Token {
        /// Host and port.
        host: String,
        /// The status code.
        status: u16,
    },
    /// The token server's answer has no token.
    #[error("the token server {host} sent no token")]
    TokenAnswer {
        /// Host and port.
        host: String,
    },
    /// Credentials with characters that no header can carry.
    #[error("the registry credentials contain characters that cannot be sent")]
    Credentials,
    /// A resumed transfer continued somewhere else.
    #[error("{host} resumed {blob} at the wrong place")]
    Range {
        /// Host and port.
        host: String,
        /// The blob.
        blob: Digest,
    },
    /// Fewer bytes than announced, in the end.
    #[error("{host} sent {got} of {expected} bytes of {blob}")]
    Short {
        /// Host and port.
        host: String,
        /// The blob.
        blob: Digest,
        /// What came.
        got: u64,
        /// What was announced.
        expected: u64,
    },
    /// An answer without a field that it must have.
    #[error("{host} answered without a {field}")]
    Missing {
        /// Host and port.
        host: String,
        /// The field.
        field: &'static str,
    },
    /// A file that was to be sent cannot be read.
    #[error("cannot read what is to be sent: {0}")]
    Read(#[source] io::Error),
    /// A manifest is too large.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

impl RegistryError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } => {
                // A certificate that is not trusted will not be in a second either.
                !matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
            }
            Self::Broken { .. }
            | Self::Timeout { .. }
            | Self::Slow { .. }
            | Self::Short { .. }
            | Self::RateLimited { .. } => true,
            Self::Status { status, .. } | Self::Token { status, .. } => {
                matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// No credentials were let in to an image.
    pub(super) fn denied(image: &Reference) -> Self {
        Self::Denied { what: image.to_string(), host: image.registry().to_owned(), message: String::new() }
    }

    /// Whether other credentials may help.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Token { status: 400..=403, .. })
    }
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

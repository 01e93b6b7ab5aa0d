//! Why the shim does not do what it was asked.

use std::fmt::Display;
use std::io;

use crate::sandbox::ErrorKind;
use crate::wire::Response;

/// A request that was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// As one message between a child and the shim.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&Response::from(self)).expect("a kind and a text always serialise")
    }

    /// From such a message.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(Response::Refused { kind, message }) => Self { kind, message },
            _ => Self::new(ErrorKind::Internal, "a container's process reported nonsense"),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidConfig, message)
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { kind: refusal.kind, message: refusal.message }
    }
}

/// Says what failed, for use with `map_err`.
pub(crate) fn cannot<E: Into<io::Error>>(action: impl Display) -> impl FnOnce(E) -> Refusal {
    move |error| Refusal::new(ErrorKind::Internal, format!("cannot {action}: {}", error.into()))
}

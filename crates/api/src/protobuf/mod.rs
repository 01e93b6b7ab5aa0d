//! Kubernetes' protobuf encoding (level 1.36), both ways, directed by one generated table.
//!
//! ```text
//!   body ──[envelope]──▶ apiVersion, kind, message ──[decode]──▶ tree     as if it had come as JSON from a Go client
//!   tree ──[encode]──▶ message ──[envelope]──▶ body | list | watch frame  as a Go server would have written it
//! ```
//!
//! The table (`cargo xtask codegen`) has a message for every built-in type: the number, kind and shape of each field, and
//! what Go's type says of zero values. Go writes every field that is no pointer, so a zero on the wire means nothing by
//! itself: `hostPort: 0` is what JSON leaves out, `replicas: 0` is a pointer's target and stays, `name: ""` is required
//! and stays, `resources: {}` is a struct and stays. [`decode`] gives the tree that Go's JSON has, whether the sender
//! wrote zeros or not; a list that JSON would show as `null` is an empty one. [`encode`] writes what Go writes, byte for
//! byte.
//!
//! Limits: trees are at most [`MAX_DEPTH`] levels deep and have at most one value for two bytes of input and 1,024
//! more.
//! Fields that the table does not know are passed over, as Kubernetes does; groups are refused, and so is a field that
//! comes twice and may come once, which no encoder of Kubernetes writes. Custom resources have no protobuf form, and
//! neither has `Table`; `PartialObjectMetadata` of meta.k8s.io/v1 has one for every resource.

mod decode;
mod encode;
mod envelope;
mod presence;
mod scalar;
pub(crate) mod table;
mod wire;

use std::fmt;

pub use decode::{MAX_DEPTH, decode};
pub use encode::encode;
pub use envelope::{Envelope, List, decode_object, encode_object, frame, open, seal};
pub use presence::settle;

use crate::generated::protobuf::{DEFINED, MESSAGES, PARTIAL_LIST, PARTIAL_OBJECT};
use crate::{NodeId, builtin};
use table::Row;

/// How a type is written as protobuf. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Message(&'static Row);

impl Message {
    /// The message of a built-in kind, such as `apps/v1` `Deployment`; `None` if the kind has none.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        match (group, version, kind) {
            ("meta.k8s.io", "v1", "PartialObjectMetadata") => Some(Self(table::row(PARTIAL_OBJECT))),
            ("meta.k8s.io", "v1", "PartialObjectMetadataList") => Some(Self(table::row(PARTIAL_LIST))),
            // Every group has these two.
            (_, _, "DeleteOptions" | "WatchEvent") => {
                Self::of_node(builtin::definition(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))?)
            }
            _ => Self::of_node(builtin::kind(group, version, kind)?),
        }
    }

    /// The message of a definition in the arena of built-in types.
    #[must_use]
    pub fn of_node(node: NodeId) -> Option<Self> {
        let defined = &MESSAGES[..DEFINED];
        defined.binary_search_by_key(&node.0, |row| row.node.into()).ok().map(|i| Self(&defined[i]))
    }
}

/// Bytes that are no message of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Where, as a path of JSON names; empty for the whole.
    pub at: String,
    /// Why.
    pub fault: Fault,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        self.fault.fmt(f)
    }
}

impl std::error::Error for DecodeError {}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self { at: String::new(), fault }
    }
}

impl DecodeError {
    /// The error, seen from the object that has the field `step`.
    fn within(mut self, step: fmt::Arguments<'_>) -> Self {
        let dot = if self.at.is_empty() || self.at.starts_with('[') { "" } else { "." };
        self.at = format!("{step}{dot}{}", self.at);
        self
    }
}

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A payload is longer than its message.
    #[error("the message ends early")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("an integer is longer than 10 bytes")]
    Varint,
    /// A field's number is 0 or over 2^29.
    #[error("a field's number is out of range")]
    Number,
    /// A payload that is not written as the field's type is, or in no known way.
    #[error("the value is not written as its type is")]
    WireType,
    /// A group.
    #[error("groups are not supported")]
    Group,
    /// A field that may come once.
    #[error("the field comes twice")]
    Twice,
    /// A string.
    #[error("the string is not UTF-8")]
    Utf8,
    /// The content of a `RawExtension`, of `JSON` or of `FieldsV1`.
    #[error("the raw value is not JSON: {0}")]
    Json(String),
    /// A number that JSON cannot hold.
    #[error("the number is not finite")]
    NotFinite,
    /// A quantity.
    #[error("{0:?} is not a quantity")]
    Quantity(String),
    /// An `IntOrString` that is neither.
    #[error("the type of an integer or string is {0}, neither 0 nor 1")]
    IntOrString(u64),
    /// A time outside the years that the API can write.
    #[error("the time is outside of the years 0001 to 9999")]
    Time,
    /// Too deep.
    #[error("the object is more than {MAX_DEPTH} levels deep")]
    Depth,
    /// Too many values for so few bytes.
    #[error("the message makes more than {limit} values")]
    Values {
        /// How many may be made of a message of this length.
        limit: usize,
    },
    /// The body has no envelope.
    #[error("the body does not begin with the four bytes of Kubernetes' protobuf encoding")]
    Magic,
    /// The message in the envelope is compressed, or written otherwise.
    #[error("the content type {0:?} inside of the envelope is not supported")]
    Content(String),
    /// No built-in kind.
    #[error("no kind {kind:?} of {api_version:?} can be written as protobuf")]
    Kind {
        /// `apps/v1`.
        api_version: String,
        /// `Deployment`.
        kind: String,
    },
}

#[cfg(test)]
mod tests;

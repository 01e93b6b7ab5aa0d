//! The object model of the Kubernetes API (level 1.36), free of IO.
//!
//! Objects travel through Xebec as trees ([`Value`]) directed by schemas ([`Schema`]): a built-in kind and a custom
//! resource are the same thing here. A [`ResourceDef`] is one row of the resource table: names, scope, versions with
//! their schemas, subresources, columns. Everything that depends on a kind's shape — pruning, defaulting, validation,
//! every patch type, field management, tables, OpenAPI — walks a schema and never names a kind.
//!
//! This crate never does IO, never reads a clock and never panics on input: callers pass time and randomness in.

pub mod builtin;
pub mod conversion;
pub mod convert;
pub mod crd;
pub mod error;
pub mod fields;
mod generated;
pub mod json;
pub mod kinds;
pub mod map;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod path;
pub mod pod_security;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod rules;
pub mod schema;
pub mod selectable;
pub mod selector;
pub mod structural;
pub mod table;
pub mod time;
pub mod value;
pub mod yaml;

pub use error::{Cause, Reason, Status};
pub use map::Map;
pub use path::FieldPath;
pub use resource::{ResourceDef, Scope};
pub use schema::{NodeId, Schema, SchemaRef};
pub use value::{Key, Value};

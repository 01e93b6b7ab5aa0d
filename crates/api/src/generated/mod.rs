//! Tables that `cargo xtask codegen` makes; see [`crate::builtin`] for what they mean. Never edited by hand.

#[rustfmt::skip]
pub(crate) mod protobuf;
#[rustfmt::skip]
pub(crate) mod resources;
#[rustfmt::skip]
pub(crate) mod schema;

/// The descriptions of types and fields: texts ended by a zero byte, deflated.
pub(crate) static DOCS: &[u8] = include_bytes!("docs.deflate");

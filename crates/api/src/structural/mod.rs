//! What a schema alone does to an object: decoding it, pruning it, giving it declared defaults, checking its values.
//!
//! The order on every write is [`decode`] (types, unknown fields, `null`), then [`default`], then the kind's own
//! defaults and validation, then [`validate`] for value constraints.

mod decode;
mod default;
pub(crate) mod format;
mod validate;

pub use decode::{Decoded, Strictness, decode};
pub use default::default;
pub(crate) use validate::is_unchanged;
pub use validate::{validate, validate_change};

#[cfg(test)]
mod tests;

//! YAML to trees and back: what JSON can say, within the same bounds.

use crate::{Value, json};

/// How deep YAML may nest. Its reader takes much stack: at JSON's 128 levels a debug build overflows a thread's two
/// megabytes.
const MAX_DEPTH: usize = 64;

/// How documents are read: members that come twice are counted as in JSON.
#[must_use]
pub fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
    }
}

/// Reads one document.
///
/// # Errors
/// Text that is no such document; the message names line and column.
pub fn parse(text: &str) -> Result<json::Parsed, serde_saphyr::Error> {
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), |document| json::read(document))
}

/// A tree as YAML.
///
/// # Errors
/// What the writer says of a tree that it cannot write.
pub fn to_string(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(value)
}

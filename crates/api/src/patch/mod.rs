//! The patch types of the API that are no apply, as pure functions over trees.
//!
//! | content type | module | standard |
//! |---|---|---|
//! | `application/json-patch+json` | [`json_patch`] | RFC 6902, with the leniencies of the library that Kubernetes uses |
//! | `application/merge-patch+json` | [`merge`] | RFC 7386 |
//! | `application/strategic-merge-patch+json` | [`strategic`] | Kubernetes' own |
//!
//! Each takes the object in the version of the request and the parsed patch and gives the new object or an error that
//! becomes a `Status`. Nothing is defaulted, pruned or validated here, and no metadata is treated apart: the caller does
//! that with the result as with any object a client sends. Patches come from [`crate::json`], so they nest at most
//! [`MAX_DEPTH`] levels deep; what a patch makes of an object never nests deeper.

pub mod json_patch;
pub mod merge;
pub mod strategic;

/// How deep objects nest.
pub const MAX_DEPTH: usize = 128;

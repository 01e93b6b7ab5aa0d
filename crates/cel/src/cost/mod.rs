//! What expressions cost: estimated before they run, for the largest inputs that a schema allows, and counted while they run.
//!
//! A unit is about what reading one field takes. The numbers are those of cel-go's model and of Kubernetes' for its libraries:
//! they decide which rules a definition may have, so they are part of the API.

mod estimate;
mod library;
pub(crate) mod price;
mod range;

pub(crate) use estimate::{estimate, is_bind};
pub use range::Range;

pub(crate) const SELECT: u64 = 1;
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const OBJECT: u64 = 40;
/// Of going over a string, for each of its code points.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// Of a pattern, for each of its code points.
pub(crate) const PATTERN: f64 = 0.25;
/// Of a question to authorization: two fit into one evaluation.
pub(crate) const AUTHORIZATION: u64 = 350_000;

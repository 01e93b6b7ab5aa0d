//! What fuzzing checks of webhooks' answers; part of no other build.

use super::hook::{Kind, ReviewVersion};
use super::review;

/// Reads an answer as each kind of webhook may give it.
pub fn answer(bytes: &[u8]) {
    for version in [ReviewVersion::V1, ReviewVersion::V1Beta1] {
        for kind in [Kind::Mutating, Kind::Validating] {
            drop(review::read(version, kind, "u", bytes));
        }
    }
}

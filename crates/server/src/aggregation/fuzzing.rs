//! What fuzzing checks of documents of other API servers; part of no other build.

use super::offer;

/// Reads a document in each of the forms that it may have.
pub fn document(bytes: &[u8]) {
    let (group, version) = ("wardle.example.com", "v1alpha1");
    drop(offer::aggregated(bytes, group, version));
    drop(offer::listed(bytes, group, version));
    drop(offer::index(bytes, group, version));
    drop(offer::swagger(bytes, group, version));
}

//! What fuzzing checks of a registry's answers; part of no other build.

use http::HeaderMap;

use super::auth::Challenge;

/// Reads a registry's challenge.
pub fn challenge(headers: &HeaderMap) {
    if let Some(Challenge::Bearer { realm, service, scope }) = Challenge::from_headers(headers) {
        let sent: usize = headers.values().map(http::HeaderValue::len).sum();
        let kept = [Some(realm), service, scope].into_iter().flatten().map(|text| text.len()).max();
        assert!(kept.is_some_and(|kept| kept <= sent));
    }
}

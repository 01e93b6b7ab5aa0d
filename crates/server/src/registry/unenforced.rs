//! What is stored and served, but not enforced yet: whoever writes such an object is told, since others may rely on it.
//!
//! One table, [`GAPS`]; what comes to be enforced leaves it, and SPECIFICATION.md's list of what is missing.

use xebec_api::Value;

use super::table::Row;

/// A promise that objects of a kind make, and that nothing keeps.
struct Gap {
    group: &'static str,
    resource: &'static str,
    /// Whether an object makes it.
    made: fn(&Value) -> bool,
    /// What does not happen.
    text: &'static str,
}

const GAPS: &[Gap] =
    &[gap("networking.k8s.io", "networkpolicies", always, "network policies hold back no traffic")];

const fn gap(
    group: &'static str,
    resource: &'static str,
    made: fn(&Value) -> bool,
    text: &'static str,
) -> Gap {
    Gap { group, resource, made, text }
}

/// What the client who writes `object` should know.
pub(super) fn warnings(row: &Row, object: &Value) -> impl Iterator<Item = String> {
    let here = |gap: &&Gap| (gap.group, gap.resource) == (row.group(), row.resource());
    GAPS.iter().filter(here).filter(|gap| (gap.made)(object)).map(|gap| {
        let text = gap.text;
        format!("stored, but not enforced by Xebec yet: {text}")
    })
}

fn always(_: &Value) -> bool {
    true
}

//! What types and operations are called, as clients generated from upstream's documents know them.

use super::is_builtin;
use crate::resource::{ResourceDef, Version};

/// The name of the type of a version's objects.
pub(super) fn type_name(row: &ResourceDef, version: &Version) -> String {
    if is_builtin(version) {
        return version.root().node.name.to_string();
    }
    custom_name(row, version, &row.names.kind)
}

/// The name of the type of a version's lists.
pub(super) fn list_type_name(row: &ResourceDef, version: &Version) -> String {
    if is_builtin(version) {
        return format!("{}List", version.root().node.name);
    }
    custom_name(row, version, &row.names.list_kind)
}

/// `stable.example.com`, `v1`, `CronTab` → `com.example.stable.v1.CronTab`.
fn custom_name(row: &ResourceDef, version: &Version, kind: &str) -> String {
    let mut parts: Vec<&str> = row.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{kind}", parts.join("."), version.name)
}

/// Removes what operation ids cannot hold, and writes the letter after it in upper case.
pub(super) fn identifier(text: &str, upper: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut upper = upper;
    for (at, c) in text.char_indices() {
        if c.is_alphabetic() || c == '_' || (at != 0 && c.is_numeric()) {
            if upper {
                out.extend(c.to_uppercase());
            } else {
                out.push(c);
            }
            upper = false;
        } else {
            upper = true;
        }
    }
    out
}

pub(super) fn trimmed(group: &str) -> &str {
    match group {
        "" => "core",
        group => group.strip_suffix(".k8s.io").unwrap_or(group),
    }
}

/// ` a Deployment`, ` an Ingress`, ` Endpoints`.
pub(super) fn with_article(kind: &str) -> String {
    let plural = kind.ends_with('s') && !kind.ends_with("ss");
    let vowel = kind.starts_with(['A', 'E', 'I', 'O', 'U']);
    match (plural, vowel) {
        (true, _) => format!(" {kind}"),
        (_, true) => format!(" an {kind}"),
        _ => format!(" a {kind}"),
    }
}

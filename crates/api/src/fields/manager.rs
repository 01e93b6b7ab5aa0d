//! Names of field managers: where they come from, and what they may be.

use crate::error::Cause;
use crate::{FieldPath, Key};

/// How long a manager's name may be, in bytes.
pub const MAX_MANAGER_LEN: usize = 128;

/// Who writes: the `fieldManager` parameter, or else the part of the user agent before the first `/`, without what cannot
/// be printed and cut to [`MAX_MANAGER_LEN`] bytes. May be empty; entries then say `unknown`.
#[must_use]
pub fn manager_name(field_manager: &str, user_agent: &str) -> Key {
    if !field_manager.is_empty() {
        return field_manager.into();
    }
    let mut name = Key::default();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| is_printable(*c)) {
        if name.len() + c.len_utf8() > MAX_MANAGER_LEN {
            break;
        }
        name.push(c);
    }
    name
}

/// What is wrong with a `fieldManager` parameter; an empty one counts as absent.
#[must_use]
pub fn validate_manager(name: &str, field: &FieldPath) -> Vec<Cause> {
    if name.len() > MAX_MANAGER_LEN {
        // Each fault below quotes the name.
        return vec![Cause::too_long(field.clone(), MAX_MANAGER_LEN)];
    }
    let mut causes = Vec::new();
    for (at, c) in name.char_indices().filter(|(_, c)| !is_printable(*c)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        causes.push(Cause::invalid(field.clone(), name, &detail));
    }
    causes
}

/// What is wrong with the parameters of a patch that other writes do not have: an apply needs a manager, and only an apply can
/// be forced.
#[must_use]
pub fn validate_patch_options(is_apply: bool, manager: &str, force: Option<bool>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if is_apply && manager.is_empty() {
        causes.push(Cause::required(FieldPath::new("fieldManager"), "is required for apply patch"));
    }
    if !is_apply && force.is_some() {
        causes.push(Cause::forbidden(FieldPath::new("force"), "may not be specified for non-apply patch"));
    }
    causes
}

/// Letters, marks, numbers, punctuation, symbols and the plain space.
fn is_printable(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_parameter_or_the_user_agent() {
        let check = |manager: &str, agent: &str, want: &str| assert_eq!(manager_name(manager, agent), want);
        check("mine", "kubectl/v1.36", "mine");
        check("", "kubectl/v1.36 (linux/amd64)", "kubectl");
        check("", "Go-http-client", "Go-http-client");
        check("", "", "");
        check("", "/x", "");
        check("", "a\u{7}b\u{200b}c\u{a0}d e'/1", "abcd e'");
        check("", &"ü".repeat(100), &"ü".repeat(64));
        check("", &format!("a{}", "ü".repeat(100)), &format!("a{}", "ü".repeat(63)));
    }

    #[test]
    fn parameters_are_checked() {
        let check = |is_apply, manager: &str, force, want: &[&str]| {
            let causes = validate_patch_options(is_apply, manager, force);
            assert_eq!(causes.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
        };
        check(true, "a", Some(true), &[]);
        check(false, "", None, &[]);
        check(true, "", None, &["fieldManager: Required value: is required for apply patch"]);
        check(false, "a", Some(false), &["force: Forbidden: may not be specified for non-apply patch"]);
        let check = |manager: &str, want: &str| {
            let causes = validate_manager(manager, &FieldPath::new("fieldManager"));
            assert_eq!(causes.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
        };
        let long = "fieldManager: Too long: may not be more than 128 bytes";
        check(&"x".repeat(129), long);
        check(&"\n".repeat(60_000), long);
        check("a\n", r#"fieldManager: Invalid value: "a\n": invalid character U+000A (at position 1)"#);
    }
}

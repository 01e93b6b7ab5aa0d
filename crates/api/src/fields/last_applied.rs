//! The annotation that `kubectl apply` keeps the last configuration in, and how it meets server-side apply.
//!
//! Only the manager `kubectl` takes part: an object that was applied from the client can be applied by the server without
//! conflicts over what the annotation shows to be the client's, and the annotation is kept up to date as long as it is
//! there, so that one can go back.

use super::Target;
use super::set::FieldSet;
use super::validate::faults;
use super::walk::{compare, owned};
use crate::{Value, json};

/// The manager that takes part.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: [&str; 3] = ["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"];
/// How large all annotations of an object may be together, in bytes.
const MAX_ANNOTATIONS_LEN: usize = 256 * 1024;

fn last_applied(object: &Value) -> Option<&str> {
    object.str_at(&ANNOTATION).filter(|text| !text.is_empty())
}

/// The fields that the annotation shows to be the client's: those that still have the value it says. `None` if there is no
/// annotation that can be read.
pub(super) fn client_fields(target: &Target<'_>, live: &Value) -> Option<FieldSet> {
    // An annotation that cannot be read allows nothing: the conflicts stand, as upstream has it.
    let last = json::from_slice(last_applied(live)?.as_bytes()).ok()?;
    if last.str_at(&["apiVersion"]) != Some(target.api_version) {
        return None;
    }
    if !faults(&last, target.schema).is_empty() || !faults(live, target.schema).is_empty() {
        return None;
    }
    let (Ok(mut fields), Ok(changes)) = (owned(&last, target.schema), compare(&last, live, target.schema))
    else {
        return None;
    };
    fields.remove(&changes.written);
    fields.remove(&changes.removed);
    Some(fields)
}

/// Brings the annotation of `object`, if it has one, up to date with the configuration that was applied. One that would
/// make the annotations too large is removed.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    if last_applied(object).is_none() {
        return;
    }
    object.set(&ANNOTATION, text_of(config));
    let len: usize = object
        .object_at(&ANNOTATION[..2])
        .map_or(0, |all| all.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum());
    if len > MAX_ANNOTATIONS_LEN {
        object.remove_at(&ANNOTATION);
    }
}

/// The configuration as the annotation holds it: without the annotation itself, escaped as Go does, ended by a new line.
fn text_of(config: &Value) -> String {
    let mut config = config.clone();
    config.remove_at(&ANNOTATION);
    if config.at(&ANNOTATION[..2]).is_some_and(Value::is_null) {
        config.remove_at(&ANNOTATION[..2]);
    }
    let plain = String::from_utf8_lossy(&json::to_vec(&config)).into_owned();
    let mut text = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text.push('\n');
    text
}

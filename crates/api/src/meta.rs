//! `metadata` (ObjectMeta, meta/v1): reading it, and the rules that hold for every kind.

use crate::error::Cause;
use crate::{FieldPath, Map, Value, names};

/// All annotations of an object together, keys and values, in bytes.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;
/// How many characters `generateName` keeps before the random suffix.
pub const GENERATE_NAME_MAX: usize = 58;
/// How many random characters follow `generateName`.
pub const GENERATE_SUFFIX: usize = 5;
/// What they are drawn from: no vowels, no digits that look like letters.
pub const GENERATE_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Deletion waits for objects that depend on this one.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// Deletion waits until dependents are no longer owned.
pub const ORPHAN_FINALIZER: &str = "orphan";

/// `metadata.name`, empty if there is none.
#[must_use]
pub fn name(object: &Value) -> &str {
    object.str_at(&["metadata", "name"]).unwrap_or_default()
}

/// `metadata.namespace`, empty if there is none.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    object.str_at(&["metadata", "namespace"]).unwrap_or_default()
}

/// `metadata.uid`, empty if there is none.
#[must_use]
pub fn uid(object: &Value) -> &str {
    object.str_at(&["metadata", "uid"]).unwrap_or_default()
}

/// `metadata.resourceVersion`, empty if there is none.
#[must_use]
pub fn resource_version(object: &Value) -> &str {
    object.str_at(&["metadata", "resourceVersion"]).unwrap_or_default()
}

/// `metadata.labels`.
#[must_use]
pub fn labels(object: &Value) -> Option<&Map> {
    object.object_at(&["metadata", "labels"])
}

/// The annotation `key`.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.str_at(&["metadata", "annotations", key])
}

/// Whether deletion has begun.
#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    object.at(&["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_null())
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object.array_at(&["metadata", "finalizers"]).iter().filter_map(Value::as_str)
}

/// The rule that a kind's names follow.
pub type NameRule = fn(&str) -> Result<(), names::Fault>;

/// Checks the metadata of a new object.
#[must_use]
pub fn validate(object: &Value, namespaced: bool, rule: NameRule) -> Vec<Cause> {
    let path = FieldPath::new("metadata");
    let mut causes = Vec::new();
    let generate_name = object.str_at(&["metadata", "generateName"]).unwrap_or_default();
    if !generate_name.is_empty() {
        // The prefix may end in `-`: a random part follows.
        let masked = format!("{}x", generate_name.trim_end_matches('-'));
        if let Err(fault) = rule(&masked) {
            causes.push(Cause::invalid(path.field("generateName"), generate_name, &fault));
        }
    }
    match name(object) {
        "" => causes.push(Cause::required(path.field("name"), "name or generateName is required")),
        name => {
            if let Err(fault) = rule(name) {
                causes.push(Cause::invalid(path.field("name"), name, &fault));
            }
        }
    }
    causes.extend(validate_namespace(namespace(object), namespaced, &path.field("namespace")));
    validate_maps(object, &path, &mut causes);
    validate_owners(object, &path.field("ownerReferences"), &mut causes);
    validate_finalizers(object, &path.field("finalizers"), &mut causes);
    causes
}

fn validate_namespace(namespace: &str, namespaced: bool, path: &FieldPath) -> Option<Cause> {
    match (namespaced, namespace) {
        (true, "") => Some(Cause::required(path.clone(), "")),
        (true, ns) => names::dns_label(ns).err().map(|fault| Cause::invalid(path.clone(), ns, &fault)),
        (false, "") => None,
        (false, _) => Some(Cause::forbidden(path.clone(), "not allowed on this type")),
    }
}

/// Checks labels and annotations alone.
#[must_use]
pub fn validate_labels_and_annotations(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    validate_maps(object, &FieldPath::new("metadata"), &mut causes);
    causes
}

fn validate_maps(object: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    for (key, value) in labels(object).into_iter().flat_map(Map::iter) {
        let path = path.field("labels");
        if let Err(fault) = names::qualified(key) {
            causes.push(Cause::invalid(path.clone(), key, &fault));
        }
        let value = value.as_str().unwrap_or_default();
        if let Err(fault) = names::label_value(value) {
            causes.push(Cause::invalid(path, value, &fault));
        }
    }
    let path = path.field("annotations");
    let mut total = 0;
    for (key, value) in object.object_at(&["metadata", "annotations"]).into_iter().flat_map(Map::iter) {
        total += key.len() + value.as_str().map_or(0, str::len);
        // Annotation keys may have upper-case letters in their prefix.
        if let Err(fault) = names::qualified(&key.to_ascii_lowercase()) {
            causes.push(Cause::invalid(path.clone(), key, &fault));
        }
    }
    if total > ANNOTATIONS_MAX {
        causes.push(Cause::too_long(path, ANNOTATIONS_MAX));
    }
}

/// Owners are reported at the list, not where they stand in it.
fn validate_owners(object: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let owners = object.array_at(&["metadata", "ownerReferences"]);
    let mut controller: Option<String> = None;
    for owner in owners {
        let text = |field: &str| owner.str_at(&[field]).unwrap_or_default();
        for (field, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if text(field).is_empty() {
                causes.push(Cause::invalid(path.field(field), text(field), detail));
            }
        }
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(Cause::invalid(path.clone(), owner.clone(), detail));
        }
        if owner.bool_at(&["controller"]) != Some(true) {
            continue;
        }
        let this = format!("{}/{}", text("kind"), text("name"));
        match &controller {
            None => controller = Some(this),
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                     and {this}"
                );
                causes.push(Cause::invalid(path.clone(), owners.to_vec(), &detail));
            }
        }
    }
}

fn validate_finalizers(object: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    for finalizer in finalizers(object) {
        if let Err(fault) = names::qualified(finalizer) {
            causes.push(Cause::invalid(path.clone(), finalizer, &fault));
        }
    }
    let all: Vec<&str> = finalizers(object).collect();
    if all.contains(&FOREGROUND_FINALIZER) && all.contains(&ORPHAN_FINALIZER) {
        let detail = format!("finalizer {ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} cannot be both set");
        causes.push(Cause::invalid(path.clone(), all, &detail));
    }
}

/// Checks that the finalizers of an object of a built-in kind say whose they are, or are the API's own.
pub fn validate_finalizer_names(object: &Value, causes: &mut Vec<Cause>) {
    let path = FieldPath::new("metadata.finalizers");
    for (i, finalizer) in finalizers(object).enumerate() {
        if !finalizer.contains('/')
            && !matches!(finalizer, "kubernetes" | ORPHAN_FINALIZER | FOREGROUND_FINALIZER)
        {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(path.index(i), finalizer, detail));
        }
    }
}

/// Checks the metadata of a changed object against what it was; both are whole objects.
#[must_use]
pub fn validate_update(new: &Value, old: &Value, namespaced: bool) -> Vec<Cause> {
    let path = FieldPath::new("metadata");
    let mut causes = Vec::new();
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let (new, old) = (new.at(&["metadata", field]), old.at(&["metadata", field]));
        let differs = new.unwrap_or(&Value::Null) != old.unwrap_or(&Value::Null);
        if differs {
            causes.push(Cause::invalid(
                path.field(field),
                new.cloned().unwrap_or_default(),
                "field is immutable",
            ));
        }
    }
    causes.extend(validate_namespace(namespace(new), namespaced, &path.field("namespace")));
    if is_deleting(old) {
        let added: Vec<&str> = finalizers(new).filter(|f| finalizers(old).all(|o| o != *f)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            causes.push(Cause::forbidden(path.field("finalizers"), &detail));
        }
    }
    validate_maps(new, &path, &mut causes);
    validate_owners(new, &path.field("ownerReferences"), &mut causes);
    validate_finalizers(new, &path.field("finalizers"), &mut causes);
    causes
}

/// Drops the lists and maps of the metadata that are empty: nothing is the same as none, and is not written.
pub fn omit_empty(object: &mut Value) {
    for member in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let path = ["metadata", member];
        let empty = object.at(&path).is_some_and(|v| match v {
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            other => other.is_null(),
        });
        if empty {
            object.remove_at(&path);
        }
    }
}

/// A name from `generateName` and random bytes.
#[must_use]
pub fn generated_name(base: &str, random: [u8; GENERATE_SUFFIX]) -> String {
    let mut cut = base.len().min(GENERATE_NAME_MAX);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let suffix =
        random.iter().map(|b| char::from(GENERATE_ALPHABET[usize::from(*b) % GENERATE_ALPHABET.len()]));
    base[..cut].chars().chain(suffix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    fn texts(causes: &[Cause]) -> Vec<String> {
        causes.iter().map(|c| c.field.to_string()).collect()
    }

    #[test]
    fn a_new_object() {
        let check = |object: Value, namespaced: bool, want: &[&str]| {
            assert_eq!(texts(&validate(&object, namespaced, names::dns_subdomain)), want, "{object:?}");
        };
        check(object!({"metadata": {"name": "a", "namespace": "b"}}), true, &[]);
        check(object!({"metadata": {"name": "a"}}), true, &["metadata.namespace"]);
        check(object!({"metadata": {"name": "a", "namespace": "b"}}), false, &["metadata.namespace"]);
        check(object!({}), false, &["metadata.name"]);
        check(object!({"metadata": {"name": "A"}}), false, &["metadata.name"]);
        check(object!({"metadata": {"name": "a", "generateName": "a-"}}), false, &[]);
        check(
            object!({"metadata": {"name": "a", "labels": {"-": "b", "c": " "}}}),
            false,
            &["metadata.labels", "metadata.labels"],
        );
        check(object!({"metadata": {"name": "a", "annotations": {"Foo.com/Bar": "x y"}}}), false, &[]);
        check(
            object!({"metadata": {"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}}),
            false,
            &["metadata.finalizers"],
        );
        let owner = object!({"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1", "controller": true});
        let two = object!({"metadata": {"name": "a", "ownerReferences": [(owner.clone()), (owner)]}});
        check(two, false, &["metadata.ownerReferences"]);
        let event = object!({"apiVersion": "v1", "kind": "Event", "name": "x", "uid": "1"});
        check(
            object!({"metadata": {"name": "a", "ownerReferences": [(event)]}}),
            false,
            &["metadata.ownerReferences"],
        );
    }

    #[test]
    fn finalizers_say_whose_they_are() {
        let check = |names: Vec<&str>, want: &[&str]| {
            let mut causes = Vec::new();
            validate_finalizer_names(&object!({"metadata": {"finalizers": (names)}}), &mut causes);
            assert_eq!(texts(&causes), want);
        };
        check(vec!["kubernetes", "orphan", "foregroundDeletion", "example.com/mine"], &[]);
        check(vec!["example.com/mine", "mine"], &["metadata.finalizers[1]"]);
    }

    #[test]
    fn a_changed_object() {
        let old =
            object!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let mut new = old.clone();
        assert_eq!(validate_update(&new, &old, false), []);
        new.set(&["metadata", "uid"], "2");
        new.set(&["metadata", "finalizers"], vec!["a.b/c"]);
        assert_eq!(texts(&validate_update(&new, &old, false)), ["metadata.uid", "metadata.finalizers"]);
    }

    #[test]
    fn what_is_empty_is_omitted() {
        let text =
            r#"{"metadata":{"labels":{},"annotations":{"a":""},"finalizers":[],"ownerReferences":null}}"#;
        let mut object = crate::json::from_slice(text.as_bytes()).expect("JSON");
        omit_empty(&mut object);
        assert_eq!(crate::json::to_vec(&object), br#"{"metadata":{"annotations":{"a":""}}}"#);
    }

    #[test]
    fn names_are_generated() {
        assert_eq!(generated_name("web-", [0, 1, 2, 26, 27]), "web-bcd9b");
        assert_eq!(generated_name(&"a".repeat(80), [0; 5]).len(), 63);
        assert_eq!(generated_name(&"é".repeat(40), [0; 5]).len(), 63);
    }
}

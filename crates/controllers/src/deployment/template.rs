//! Pod templates: when two are the same, and what a ReplicaSet made from one is called.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The label that tells the pods of one template from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Letters that spell no words, as generated names use them.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The value of [`HASH_LABEL`]: depends on the template and on how often its name was already taken, and on nothing
/// else, so that a restarted controller finds the name that it gave.
pub fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let canonical = serde_json::to_vec(template).expect("API types have string keys only, so they serialise");
    let mut hash = fnv1a(FNV_OFFSET, &canonical);
    if collisions > 0 {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    spell(hash)
}

/// Whether pods of the two templates are the same but for [`HASH_LABEL`].
pub fn same_template(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    let (empty_one, empty_other) = (ObjectMeta::default(), ObjectMeta::default());
    let one_meta = one.metadata.as_ref().unwrap_or(&empty_one);
    let other_meta = other.metadata.as_ref().unwrap_or(&empty_other);
    one.spec == other.spec
        && pairs(one_meta.labels.as_ref()).eq(pairs(other_meta.labels.as_ref()))
        && pairs(one_meta.annotations.as_ref()).eq(pairs(other_meta.annotations.as_ref()))
        && one_meta.finalizers.iter().flatten().eq(other_meta.finalizers.iter().flatten())
}

fn pairs(map: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&String, &String)> {
    map.into_iter().flatten().filter(|(key, _)| *key != HASH_LABEL)
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn spell(mut number: u32) -> String {
    let mut text = String::new();
    for _ in 0..7 {
        let digit = usize::try_from(number % 27).expect("below 27");
        text.push(char::from(ALPHABET[digit]));
        number /= 27;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    fn web(image: &str) -> PodTemplateSpec {
        template(json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image}]}
        }))
    }

    #[test]
    fn hashes_are_stable_and_differ() {
        let hash = template_hash(&web("a"), 0);
        assert_eq!(
            hash, "h8kkbbm",
            "a changed hash would name every new ReplicaSet differently after an upgrade"
        );
        assert_ne!(hash, template_hash(&web("b"), 0));
        assert_ne!(hash, template_hash(&web("a"), 1));
        assert_ne!(template_hash(&web("a"), 1), template_hash(&web("a"), 2));
        assert!(hash.bytes().all(|letter| ALPHABET.contains(&letter)));
    }

    #[test]
    fn the_hash_label_does_not_make_a_difference() {
        let check = |one: Value, other: Value, same: bool| {
            let (one, other) = (template(one), template(other));
            assert_eq!(same_template(&one, &other), same, "{one:?} and {other:?}");
        };
        let meta = |labels: Value| json!({"metadata": {"labels": labels}, "spec": {"containers": []}});
        check(meta(json!({"a": "1"})), meta(json!({"a": "1", "pod-template-hash": "x"})), true);
        check(meta(json!({"a": "1"})), meta(json!({"a": "2"})), false);
        check(meta(json!({})), json!({"spec": {"containers": []}}), true);
        check(meta(json!({})), json!({"spec": {"containers": [], "nodeName": "n"}}), false);
        let annotated =
            json!({"metadata": {"annotations": {"restarted": "now"}}, "spec": {"containers": []}});
        check(meta(json!({})), annotated, false);
    }
}

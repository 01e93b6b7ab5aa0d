//! What is stored and served, but not enforced yet: whoever writes such an object is told, since others may rely on it.
//!
//! One table, [`GAPS`]; what comes to be enforced leaves it, and SPECIFICATION.md's list of what is missing.

use xebec_api::{Map, Value};

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

const WEBHOOKS: &str = "admission webhooks are not called, so nothing is refused or changed by them";
const POLICIES: &str = "admission policies are not evaluated, so nothing is refused or changed by them";

const GAPS: &[Gap] = &[
    gap("", "limitranges", always, "limits and defaults of a LimitRange are not applied to pods and claims"),
    gap("", "namespaces", pod_security, "Pod Security labels refuse no pod, and nobody is warned by them"),
    gap("", "resourcequotas", always, "quotas limit nothing, and their use is not counted"),
    gap("admissionregistration.k8s.io", "mutatingadmissionpolicies", always, POLICIES),
    gap("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", always, POLICIES),
    gap("admissionregistration.k8s.io", "mutatingwebhookconfigurations", always, WEBHOOKS),
    gap("admissionregistration.k8s.io", "validatingadmissionpolicies", always, POLICIES),
    gap("admissionregistration.k8s.io", "validatingadmissionpolicybindings", always, POLICIES),
    gap("admissionregistration.k8s.io", "validatingwebhookconfigurations", always, WEBHOOKS),
    gap(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        conversion,
        "conversion webhooks are not called: versions of an object differ by name and schema only",
    ),
    gap(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        |definition| declares(definition, "x-kubernetes-validations"),
        "x-kubernetes-validations are not evaluated, so objects that break these rules are taken",
    ),
    gap(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        |definition| declares(definition, "pattern"),
        "`pattern` is not checked, so texts that do not match are taken",
    ),
    gap(
        "apiregistration.k8s.io",
        "apiservices",
        |service| service.object_at(&["spec", "service"]).is_some(),
        "requests are not passed on to other API servers, so the group and version are not served",
    ),
    gap("networking.k8s.io", "networkpolicies", always, "network policies hold back no traffic"),
];

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

/// Whether a label asks for more than the level that allows everything.
fn pod_security(namespace: &Value) -> bool {
    let labels = namespace.object_at(&["metadata", "labels"]);
    ["enforce", "audit", "warn"].iter().any(|mode| {
        let level = labels.and_then(|labels| labels.get(&format!("pod-security.kubernetes.io/{mode}")));
        level.is_some_and(|level| level.as_str() != Some("privileged"))
    })
}

fn conversion(definition: &Value) -> bool {
    definition.str_at(&["spec", "conversion", "strategy"]) == Some("Webhook")
}

/// Whether the schema of a version says something with this word.
fn declares(definition: &Value, word: &str) -> bool {
    let versions = definition.array_at(&["spec", "versions"]).iter();
    versions.filter_map(|version| version.at(&["schema", "openAPIV3Schema"])).any(|schema| says(schema, word))
}

/// Whether a schema, or one in it, has a member of this name. Depth is bounded by that of JSON.
fn says(schema: &Value, word: &str) -> bool {
    let Some(members) = schema.as_object() else { return false };
    members.contains(word)
        || members.iter().any(|(name, member)| match name {
            "properties" => member.as_object().into_iter().flat_map(Map::iter).any(|(_, s)| says(s, word)),
            "items" | "additionalProperties" | "not" => says(member, word),
            "allOf" | "anyOf" | "oneOf" => {
                member.as_array().into_iter().flatten().any(|schema| says(schema, word))
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn a_field_is_no_word_of_a_schema() {
        let check = |schema: Value, found: bool| assert_eq!(says(&schema, "pattern"), found, "{schema:?}");
        check(object!({"properties": {"pattern": {"type": "string"}}}), false);
        check(object!({"properties": {"a": {"items": {"pattern": "^a"}}}}), true);
        check(object!({"properties": {"a": {"anyOf": [{"type": "string"}, {"pattern": "^a"}]}}}), true);
        check(object!({"default": {"pattern": "a"}, "additionalProperties": true}), false);
    }
}

//! Rules of CustomResourceDefinitions.
//!
//! Upstream checks a form of its own, in which what all versions have in common (or the only version says) stands once for
//! all: the schema in `spec.validation`, subresources, columns and selectable fields in `spec`. Paths tell of it.

use super::paths::follow;
use super::schema;
use crate::kinds::check::{Check, IMMUTABLE, Rules, filled, is_true, same, text};
use crate::kinds::{syntax, webhook};
use crate::{Value, meta, names};

const NEWEST_REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const MAX_SELECTABLE: usize = 8;
const APPROVAL: &str = "api-approved.kubernetes.io";

/// Checks a definition, and what it may not change of the old one.
pub(super) fn check(c: &mut Check, object: &Value, old: Option<&Value>) {
    let part = |path: &[&str]| object.str_at(path).unwrap_or_default();
    let name = meta::name(object);
    let wanted = format!("{}.{}", part(&["spec", "names", "plural"]), part(&["spec", "group"]));
    if old.is_none() && !name.is_empty() && name != wanted {
        c.at("metadata.name").invalid(name, "must be spec.names.plural+\".\"+spec.group");
    }
    c.field(object, "spec", |c, spec| {
        specification(c, spec, old);
        if let Some(before) = old.and_then(|old| old.get("spec")) {
            let established = old.is_some_and(is_established);
            let fields: [&[&str]; 4] = [&["scope"], &["names", "kind"], &["group"], &["names", "plural"]];
            for path in fields.iter().skip(if established { 0 } else { 2 }) {
                stays(c, spec, before, path);
            }
        }
    });
    accepted_names(c, object);
    c.within("status", |c| stored_versions(c, object));
    approval(c, object, old);
    let keeps_unknown = |object: &Value| object.bool_at(&["spec", "preserveUnknownFields"]) == Some(true);
    if keeps_unknown(object) && !old.is_some_and(keeps_unknown) {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                      instead";
        c.at("spec.preserveUnknownFields").invalid(true, detail);
    }
}

fn is_established(object: &Value) -> bool {
    let conditions = object.array_at(&["status", "conditions"]);
    conditions.iter().any(|c| text(c, "type") == "Established" && text(c, "status") == "True")
}

fn stays(c: &mut Check, spec: &Value, before: &Value, path: &[&str]) {
    let value = spec.at(path);
    if !same(value, before.at(path)) {
        let value = value.cloned().unwrap_or_default();
        c.at(&path.join(".")).invalid(value, IMMUTABLE);
    }
}

fn specification(c: &mut Check, spec: &Value, old: Option<&Value>) {
    if let Some(group) = c.require(spec, "group") {
        let rule = |group: &str| {
            names::dns_subdomain(group)?;
            let dotted = group.contains('.');
            dotted.then_some(()).ok_or_else(|| "should be a domain with at least one dot".into())
        };
        c.at("group").obeys(group, rule);
    }
    c.require_one_of(spec, "scope", &["Cluster", "Namespaced"]);
    c.each(spec, "versions", |c, version| {
        if version.object_at(&["schema", "openAPIV3Schema"]).is_none() {
            c.at("schema").field("openAPIV3Schema").required("");
        }
    });
    let keeps_unknown = is_true(spec, "preserveUnknownFields");
    let all = spec.array_at(&["versions"]);
    if keeps_unknown
        && all.iter().any(|version| schema::has_defaults(version.at(&["schema", "openAPIV3Schema"])))
    {
        let detail = "must be false in order to use defaults in the schema";
        c.at("preserveUnknownFields").invalid(true, detail);
    }
    versions(c, spec, all);
    c.field(spec, "names", |c, given| {
        for name in ["plural", "singular", "kind", "listKind"] {
            c.require(given, name);
        }
        given_names(c, given);
    });
    if let Some(first) = all.first() {
        let any_status = all.iter().any(has_status);
        if let Some(common) = first.get("schema").filter(|_| has_same(all, "schema")) {
            c.within("validation", |c| schema::check(c, common, any_status));
        }
        for (field, rules) in PARTS {
            if has_same(all, field) {
                rules(c, first);
            }
        }
    }
    conversion(c, spec, old);
}

/// What a version says beside its schema.
const PARTS: [(&str, Rules); 3] = [
    ("subresources", subresources),
    ("additionalPrinterColumns", columns),
    ("selectableFields", selectable_fields),
];

fn has_same(versions: &[Value], field: &str) -> bool {
    versions.iter().all(|version| same(version.get(field), versions[0].get(field)))
}

fn has_status(version: &Value) -> bool {
    version.at(&["subresources", "status"]).is_some_and(|status| !status.is_null())
}

fn versions(c: &mut Check, spec: &Value, all: &[Value]) {
    c.each(spec, "versions", |c, version| {
        c.at("name").obeys(text(version, "name"), names::dns_1035_label);
        deprecation(c, version);
        if !has_same(all, "schema") {
            c.some(version, "schema", |c, validation| schema::check(c, validation, has_status(version)));
        }
        for (field, rules) in PARTS {
            if !has_same(all, field) {
                rules(c, version);
            }
        }
    });
    let name = |i: usize| text(&all[i], "name");
    if (0..all.len()).any(|i| (0..i).any(|j| name(i) == name(j))) {
        c.at("versions").invalid(all.to_vec(), "must contain unique version names");
    }
    if all.iter().filter(|version| is_true(version, "storage")).count() != 1 {
        c.at("versions").invalid(all.to_vec(), "must have exactly one version marked as storage version");
    }
    if let Some(first) = all.first().and_then(|version| filled(version, "name")) {
        c.at("version").obeys(first, names::dns_1035_label);
    }
}

fn deprecation(c: &mut Check, version: &Value) {
    const FIELD: &str = "deprecationWarning";
    const MAX: usize = 256;
    let Some(warning) = version.str_at(&[FIELD]) else { return };
    if !is_true(version, "deprecated") {
        return c.at(FIELD).invalid(warning, "can only be set for deprecated versions");
    }
    if warning.len() > MAX {
        c.at(FIELD).invalid(warning, &format!("must be <= {MAX} characters long"));
    }
    if warning.is_empty() {
        c.at(FIELD).invalid(warning, "must not be an empty string");
    }
    let unprintable = |ch: char| ch.is_control() || (ch.is_whitespace() && ch != ' ');
    if let Some(i) = warning.find(unprintable) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        );
        c.at(FIELD).invalid(warning, &detail);
    }
}

/// Checks the names that were accepted.
pub(super) fn accepted_names(c: &mut Check, object: &Value) {
    c.field(object, "status", |c, status| c.field(status, "acceptedNames", given_names));
}

fn given_names(c: &mut Check, given: &Value) {
    for name in ["plural", "singular"] {
        c.name(given, name, names::dns_1035_label);
    }
    for name in ["kind", "listKind"] {
        c.name(given, name, syntax::kind_name);
    }
    let label = |c: &mut Check, name: &Value| {
        c.here().obeys(name.as_str().unwrap_or_default(), names::dns_1035_label);
    };
    c.each(given, "shortNames", label);
    let list_kind = text(given, "listKind");
    if !list_kind.is_empty() && text(given, "kind") == list_kind {
        c.at("listKind").invalid(list_kind, "kind and listKind may not be the same");
    }
    c.each(given, "categories", label);
}

fn stored_versions(c: &mut Check, object: &Value) {
    const FIELD: &str = "storedVersions";
    let stored = object.array_at(&["status", FIELD]);
    if stored.is_empty() {
        return c.at(FIELD).invalid(Value::Null, "must have at least one stored version");
    }
    let versions = object.array_at(&["spec", "versions"]);
    for version in versions.iter().filter(|version| is_true(version, "storage")) {
        let name = text(version, "name");
        if !stored.iter().any(|s| s.as_str() == Some(name)) {
            c.at(FIELD).invalid(stored.to_vec(), &format!("must have the storage version {name}"));
        }
    }
    for (i, name) in stored.iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if !versions.iter().any(|version| text(version, "name") == name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            c.at(FIELD).index(i).invalid(name, &detail);
        }
    }
}

/// Whether a definition in a group of the community was agreed upon.
#[derive(PartialEq)]
enum Approval {
    Missing,
    Invalid,
    /// Said to have been, or said not to.
    Stated,
}

fn approval(c: &mut Check, object: &Value, old: Option<&Value>) {
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = object.str_at(&["spec", "group"]).unwrap_or_default();
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    let statement = object.str_at(&["metadata", "annotations", APPROVAL]).unwrap_or_default();
    let state = approval_state(object);
    if !is_protected || old.is_some_and(|old| approval_state(old) == state) {
        return;
    }
    let spot = c.at("metadata.annotations").key(APPROVAL);
    match state {
        Approval::Missing => {
            let detail = format!("protected groups must have approval annotation \"{APPROVAL}\", {SEE}");
            spot.required(&detail);
        }
        Approval::Invalid => {
            let detail = format!(
                "protected groups must have approval annotation \"{APPROVAL}\" with either a URL or a reason starting \
                 with \"unapproved\", {SEE}"
            );
            spot.invalid(statement, &detail);
        }
        Approval::Stated => spot.leave(),
    }
}

fn approval_state(object: &Value) -> Approval {
    match object.str_at(&["metadata", "annotations", APPROVAL]).unwrap_or_default() {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") || webhook::is_url(text) => Approval::Stated,
        _ => Approval::Invalid,
    }
}

fn subresources(c: &mut Check, version: &Value) {
    c.field(version, "subresources", |c, subresources| {
        c.some(subresources, "scale", |c, scale| {
            scale_path(c, scale, "specReplicasPath", &["spec"], "should be a json path under .spec");
            scale_path(c, scale, "statusReplicasPath", &["status"], "should be a json path under .status");
            let detail = "should be a json path under either .spec or .status";
            scale_path(c, scale, "labelSelectorPath", &["spec", "status"], detail);
        });
    });
}

fn scale_path(c: &mut Check, scale: &Value, field: &str, roots: &[&str], detail: &str) {
    let path = text(scale, field);
    if path.is_empty() {
        if field != "labelSelectorPath" {
            c.at(field).required("");
        }
    } else if !path.starts_with('.') {
        c.at(field).invalid(path, "must be a simple json path starting with .");
    } else if !roots.iter().any(|root| path[1..].strip_prefix(root).is_some_and(|rest| rest.starts_with('.')))
    {
        c.at(field).invalid(path, detail);
    }
}

fn columns(c: &mut Check, version: &Value) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    c.each(version, "additionalPrinterColumns", |c, column| {
        c.require(column, "name");
        let one_of = |all: &[&str]| format!("must be one of {}", all.join(","));
        let ty = text(column, "type");
        if ty.is_empty() {
            c.at("type").required(&one_of(&TYPES));
        } else if !TYPES.contains(&ty) {
            c.at("type").invalid(ty, &one_of(&TYPES));
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            c.at("format").invalid(format, &one_of(&FORMATS));
        }
        let path = text(column, "jsonPath");
        if path.is_empty() {
            c.at("JSONPath").required("");
        } else if !path.starts_with('.') {
            c.at("JSONPath").invalid(path, "must be a simple json path starting with .");
        }
    });
}

fn selectable_fields(c: &mut Check, version: &Value) {
    const FIELD: &str = "selectableFields";
    const TYPES: &str = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                         formats are allowed.";
    let Some(root) = version.at(&["schema", "openAPIV3Schema"]) else { return };
    let mut seen = Vec::new();
    c.each(version, FIELD, |c, field| {
        let Some(path) = c.require(field, "jsonPath") else { return };
        let (steps, found) = match follow(root, path, false) {
            Ok(found) => found,
            Err(fault) => return c.at("jsonPath").invalid(path, &format!("is an invalid path: {fault}")),
        };
        if steps.first().is_some_and(|step| step == "metadata") {
            c.at("jsonPath").invalid(path, "must not point to fields in metadata");
        }
        if !["string", "boolean", "integer"].contains(&text(found, "type")) {
            c.at("jsonPath").invalid(path, TYPES);
        }
        if seen.contains(&steps) {
            c.at("jsonPath").duplicate(path);
        } else {
            seen.push(steps);
        }
    });
    if seen.len() > MAX_SELECTABLE {
        c.at(FIELD).too_many(seen.len(), MAX_SELECTABLE);
    }
}

fn conversion(c: &mut Check, spec: &Value, old: Option<&Value>) {
    const ELSEWHERE: &str = "should not be set when strategy is not set to Webhook";
    let Some(conversion) = spec.get("conversion").filter(|conversion| !conversion.is_null()) else { return };
    let strategy = text(conversion, "strategy");
    if strategy != "None" && is_true(spec, "preserveUnknownFields") {
        let detail = "must be None if spec.preserveUnknownFields is true";
        c.at("conversion").field("strategy").invalid(strategy, detail);
    }
    let reviews = |conversion: &Value| -> Vec<String> {
        let all = conversion.array_at(&["webhook", "conversionReviewVersions"]);
        all.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect()
    };
    let knows = |all: &[String]| all.iter().any(|v| NEWEST_REVIEWS.contains(&v.as_str()));
    let strict = old.and_then(|old| old.at(&["spec", "conversion"])).is_none_or(|before| {
        let all = reviews(before);
        all.is_empty() || knows(&all)
    });
    c.within("conversion", |c| {
        c.require_one_of(conversion, "strategy", &["None", "Webhook"]);
        let client = conversion.at(&["webhook", "clientConfig"]).filter(|config| !config.is_null());
        let versions = reviews(conversion);
        if strategy != "Webhook" {
            if client.is_some() {
                c.at("webhookClientConfig").forbidden(ELSEWHERE);
            }
            if !versions.is_empty() {
                c.at("conversionReviewVersions").forbidden(ELSEWHERE);
            }
            return;
        }
        match client {
            None => c.at("webhookClientConfig").required("required when strategy is set to Webhook"),
            Some(config) => c.within("webhookClientConfig", |c| webhook::config(c, config)),
        }
        if versions.is_empty() {
            return c.at("conversionReviewVersions").required("");
        }
        for (i, version) in versions.iter().enumerate() {
            if versions[..i].contains(version) {
                c.at("conversionReviewVersions").index(i).invalid(version.as_str(), "duplicate version");
            } else {
                c.at("conversionReviewVersions").index(i).obeys(version, names::dns_1035_label);
            }
        }
        if strict && !knows(&versions) {
            let detail = format!("must include at least one of {}", NEWEST_REVIEWS.join(", "));
            c.at("conversionReviewVersions").invalid(versions, &detail);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json, with};

    fn base() -> Value {
        json(
            r#"{"metadata": {"name": "ws.a.b"}, "spec": {"group": "a.b", "scope": "Cluster",
                "names": {"plural": "ws", "singular": "w", "kind": "W", "listKind": "WList"},
                "conversion": {"strategy": "None"},
                "versions": [{"name": "v1", "storage": true, "served": true,
                  "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                    "properties": {"s": {"type": "string"}}}}}}}]},
                "status": {"storedVersions": ["v1"]}}"#,
        )
    }

    #[test]
    fn definitions() {
        cases(&base(), DEFINITIONS, |object| run(|c| check(c, object, None)));
    }

    const DEFINITIONS: &str = r#"
spec.names.shortNames = ["w"]
spec.names.categories = ["all"]

metadata.name = "x"
! metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group

metadata.name =
spec = {}
! spec.group: Required value
! spec.scope: Required value
! spec.versions: Invalid value: []: must have exactly one version marked as storage version
! spec.names.plural: Required value
! spec.names.singular: Required value
! spec.names.kind: Required value
! spec.names.listKind: Required value
! status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must
  remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from
  status.storedVersions

metadata.name =
spec.group = "a"
spec.scope = "x"
! spec.group: Invalid value: "a": should be a domain with at least one dot
! spec.scope: Unsupported value: "x": supported values: "Cluster", "Namespaced"

metadata.name = "ws.k8s.io"
spec.group = "k8s.io"
! metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation
  "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111

metadata = {"name": "ws.a.k8s.io", "annotations": {"api-approved.kubernetes.io": "x"}}
spec.group = "a.k8s.io"
! metadata.annotations[api-approved.kubernetes.io]: Invalid value: "x": protected groups must have approval annotation
  "api-approved.kubernetes.io" with either a URL or a reason starting with "unapproved", see
  https://github.com/kubernetes/enhancements/pull/1111

metadata = {"name": "ws.a.k8s.io", "annotations": {"api-approved.kubernetes.io": "https://a/b"}}
spec.group = "a.k8s.io"

spec.names = {"plural": "ws", "singular": "W", "kind": "W_", "listKind": "W_", "shortNames": ["a", "B"],
  "categories": ["C"]}
! spec.names.singular: Invalid value: "W": a DNS-1035 label must consist of lower case alphanumeric characters or '-',
  start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used
  for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.names.kind: Invalid value: "W_": may have mixed case, but should otherwise match: a DNS-1035 label must consist of
  lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character
  (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.names.listKind: Invalid value: "W_": may have mixed case, but should otherwise match: a DNS-1035 label must consist
  of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character
  (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.names.shortNames[1]: Invalid value: "B": a DNS-1035 label must consist of lower case alphanumeric characters or
  '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex
  used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.names.listKind: Invalid value: "W_": kind and listKind may not be the same
! spec.names.categories[0]: Invalid value: "C": a DNS-1035 label must consist of lower case alphanumeric characters or
  '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex
  used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')

spec.preserveUnknownFields = true
spec.versions.0.schema.openAPIV3Schema.properties.spec.default = {}
spec.conversion.strategy = "Webhook"
spec.conversion.webhook = {"clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v1"]}
! spec.preserveUnknownFields: Invalid value: true: must be false in order to use defaults in the schema
! spec.conversion.strategy: Invalid value: "Webhook": must be None if spec.preserveUnknownFields is true
! spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in
  spec.versions[*].schema instead

status = {"storedVersions": [], "acceptedNames": {"kind": "a", "listKind": "a"}}
! status.acceptedNames.listKind: Invalid value: "a": kind and listKind may not be the same
! status.storedVersions: Invalid value: null: must have at least one stored version

status.storedVersions = ["v2"]
spec.versions.1 = {"name": "v2", "schema": {"openAPIV3Schema": {"type": "object"}}}
! status.storedVersions: Invalid value: ["v2"]: must have the storage version v1
"#;

    #[test]
    fn versions() {
        cases(&base(), VERSIONS, |object| run(|c| check(c, object, None)));
    }

    const VERSIONS: &str = r#"
spec.versions.0.deprecated = true
spec.versions.0.deprecationWarning = "use another"
spec.versions.0.subresources = {"status": {}, "scale": {"specReplicasPath": ".spec.s", "statusReplicasPath":
  ".status.r", "labelSelectorPath": ".status.l"}}
spec.versions.0.additionalPrinterColumns = [{"name": "S", "type": "string", "jsonPath": ".spec.s", "format": "byte"}]
spec.versions.0.selectableFields = [{"jsonPath": ".spec.s"}]

spec.versions.0.schema =
! spec.versions[0].schema.openAPIV3Schema: Required value

spec.versions.0.schema.openAPIV3Schema.type =
! spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root

spec.versions.1 = {"name": "v2", "schema": {"openAPIV3Schema": {}}}
! spec.versions[1].schema.openAPIV3Schema.type: Required value: must not be empty at the root

spec.versions.0.deprecationWarning = "a"
! spec.versions[0].deprecationWarning: Invalid value: "a": can only be set for deprecated versions

spec.versions.0.deprecated = true
spec.versions.0.deprecationWarning = ""
! spec.versions[0].deprecationWarning: Invalid value: "": must not be an empty string

spec.versions.0.deprecated = true
spec.versions.0.deprecationWarning = "a\nb"
! spec.versions[0].deprecationWarning: Invalid value: "a\nb": must only contain printable UTF-8 characters; non-printable
  character found at index 1

spec.versions = [{"name": "V", "schema": {"openAPIV3Schema": {"type": "object"}}}, {"name": "V", "schema":
  {"openAPIV3Schema": {"type": "object"}}}]
status.storedVersions = ["V"]
! spec.versions[0].name: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-',
  start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used
  for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.versions[1].name: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-',
  start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used
  for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.versions: Invalid value: [{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}},{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}}]:
  must contain unique version names
! spec.versions: Invalid value: [{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}},{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}}]:
  must have exactly one version marked as storage version
! spec.version: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-',
  start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used
  for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')

spec.versions.0.subresources = {"scale": {"labelSelectorPath": ".x"}}
! spec.subresources.scale.specReplicasPath: Required value
! spec.subresources.scale.statusReplicasPath: Required value
! spec.subresources.scale.labelSelectorPath: Invalid value: ".x": should be a json path under either .spec or .status

spec.versions.0.subresources = {"scale": {"specReplicasPath": "spec.a", "statusReplicasPath": ".spec.a"}}
! spec.subresources.scale.specReplicasPath: Invalid value: "spec.a": must be a simple json path starting with .
! spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.a": should be a json path under .status

spec.versions.0.additionalPrinterColumns = [{}, {"name": "a", "type": "x", "format": "x", "jsonPath": "a"}]
! spec.additionalPrinterColumns[0].name: Required value
! spec.additionalPrinterColumns[0].type: Required value: must be one of boolean,date,integer,number,string
! spec.additionalPrinterColumns[0].JSONPath: Required value
! spec.additionalPrinterColumns[1].type: Invalid value: "x": must be one of boolean,date,integer,number,string
! spec.additionalPrinterColumns[1].format: Invalid value: "x": must be one of
  byte,date,date-time,double,float,int32,int64,password
! spec.additionalPrinterColumns[1].JSONPath: Invalid value: "a": must be a simple json path starting with .

spec.versions.1 = {"name": "v2", "schema": {"openAPIV3Schema": {"type": "object"}}}
spec.versions.0.additionalPrinterColumns = [{"name": "a", "type": "date"}]
! spec.versions[0].additionalPrinterColumns[0].JSONPath: Required value

spec.versions.0.selectableFields = [{}, {"jsonPath": ".x"}, {"jsonPath": ".spec"}, {"jsonPath": ".spec.s"}, {"jsonPath":
  ".spec.s"}]
! spec.selectableFields[0].jsonPath: Required value
! spec.selectableFields[1].jsonPath: Invalid value: ".x": is an invalid path: does not refer to a valid field
! spec.selectableFields[2].jsonPath: Invalid value: ".spec": must point to a field of type string, boolean or integer.
  Enum string fields and strings with formats are allowed.
! spec.selectableFields[4].jsonPath: Duplicate value: ".spec.s"

spec.versions.0.schema.openAPIV3Schema.properties.metadata = {"type": "object", "properties": {"name": {"type":
  "string"}}}
spec.versions.0.selectableFields = [{"jsonPath": ".metadata.name"}]
! spec.selectableFields[0].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata
"#;

    #[test]
    fn selectable_fields_are_few() {
        let names: Vec<String> = (0..=MAX_SELECTABLE).map(|i| format!("f{i}")).collect();
        let properties: crate::Map =
            names.iter().map(|name| (name.as_str().into(), json(r#"{"type": "string"}"#))).collect();
        let mut version = base().array_at(&["spec", "versions"])[0].clone();
        version.set(&["schema", "openAPIV3Schema", "properties"], Value::Object(properties));
        let fields: Vec<Value> =
            names.iter().map(|name| crate::object!({"jsonPath": (format!(".{name}"))})).collect();
        version.set(&["selectableFields"], fields);
        let mut object = base();
        object.set(&["spec", "versions"], vec![version]);
        assert_eq!(run(|c| check(c, &object, None)).len(), 1);
    }

    #[test]
    fn conversions() {
        cases(&base(), CONVERSIONS, |object| run(|c| check(c, object, None)));
        let old = with(
            &base(),
            &[(
                "spec.conversion",
                r#"{"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"},
                "conversionReviewVersions": ["v2"]}}"#,
            )],
        );
        assert_eq!(run(|c| check(c, &old, Some(&old))), []);
    }

    const CONVERSIONS: &str = r#"
spec.conversion = {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"},
  "conversionReviewVersions": ["v1"]}}

spec.conversion = {}
! spec.conversion.strategy: Required value

spec.conversion = {"strategy": "None", "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v1"]}}
! spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook
! spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook

spec.conversion = {"strategy": "Webhook"}
! spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook
! spec.conversion.conversionReviewVersions: Required value

spec.conversion = {"strategy": "Webhook", "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v2", "v2"]}}
! spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required
! spec.conversion.conversionReviewVersions[1]: Invalid value: "v2": duplicate version
! spec.conversion.conversionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1
"#;

    #[test]
    fn what_stays() {
        let established =
            with(&base(), &[("status.conditions", r#"[{"type": "Established", "status": "True"}]"#)]);
        cases(&established, CHANGES, |object| run(|c| check(c, object, Some(&established))));
        let changed = with(&base(), &[("spec.scope", r#""Namespaced""#), ("spec.names.kind", r#""X""#)]);
        assert_eq!(run(|c| check(c, &changed, Some(&base()))), []);
    }

    const CHANGES: &str = r#"
spec.names.singular = "x"

spec.scope = "Namespaced"
spec.names.kind = "X"
spec.group = "c.d"
spec.names.plural = "xs"
! spec.scope: Invalid value: "Namespaced": field is immutable
! spec.names.kind: Invalid value: "X": field is immutable
! spec.group: Invalid value: "c.d": field is immutable
! spec.names.plural: Invalid value: "xs": field is immutable
"#;
}

//! Rules of admission policies and their bindings. Whether expressions compile is the server's to say.

use super::rules::{FAILURE_POLICIES, REINVOCATION_POLICIES, match_conditions, match_resources};
use crate::kinds::check::{Check, is_set, same, text};
use crate::kinds::policy::conditions;
use crate::kinds::syntax;
use crate::names::Fault;
use crate::{Value, meta, names};

const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_EXPRESSION: usize = 5 << 10;

/// Checks a validating policy.
pub(super) fn validating(c: &mut Check, object: &Value, old: Option<&Value>) {
    c.field(object, "spec", |c, spec| {
        policy(c, spec, old);
        let annotations = spec.array_at(&["auditAnnotations"]);
        if annotations.is_empty() && spec.array_at(&["validations"]).is_empty() {
            let detail = "validations or auditAnnotations must contain at least one item";
            c.at("validations").required(detail);
            return c.at("auditAnnotations").required(detail);
        }
        c.each(spec, "validations", validation);
        if annotations.len() > MAX_ANNOTATIONS {
            let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
            c.at("auditAnnotations").invalid(annotations.to_vec(), &detail);
        }
        let mut keys = Vec::new();
        c.each(spec, "auditAnnotations", |c, annotation| {
            audit_annotation(c, annotation, meta::name(object));
            let key = text(annotation, "key");
            if keys.contains(&key) {
                c.at("key").duplicate(key);
            }
            keys.push(key);
        });
    });
}

/// Checks a mutating policy.
pub(super) fn mutating(c: &mut Check, object: &Value, old: Option<&Value>) {
    c.field(object, "spec", |c, spec| {
        policy(c, spec, old);
        c.within("matchConstraints", |c| deletes_nothing(c, spec.get("matchConstraints")));
        if spec.array_at(&["mutations"]).is_empty() {
            c.at("mutations").required("mutations must contain at least one item");
        }
        c.each(spec, "mutations", mutation);
        c.require_one_of(spec, "reinvocationPolicy", &REINVOCATION_POLICIES);
    });
}

/// What both kinds of policies say.
fn policy(c: &mut Check, spec: &Value, old: Option<&Value>) {
    if is_set(spec, "failurePolicy") {
        c.one_of(spec, "failurePolicy", &FAILURE_POLICIES);
    } else {
        c.at("failurePolicy").required("");
    }
    c.some(spec, "paramKind", param_kind);
    if is_set(spec, "matchConstraints") {
        c.field(spec, "matchConstraints", |c, constraints| {
            match_resources(c, constraints);
            if constraints.array_at(&["resourceRules"]).is_empty() {
                c.at("resourceRules").required("");
            }
        });
    } else {
        c.at("matchConstraints").required("");
    }
    let stays = |field: &str| old.is_some_and(|old| same(spec.get(field), old.at(&["spec", field])));
    if !(stays("paramKind") && stays("matchConditions")) {
        match_conditions(c, spec);
    }
    c.each(spec, "variables", |c, variable| {
        let name = text(variable, "name");
        if name.trim().is_empty() {
            c.at("name").required("name is not specified");
        } else {
            c.at("name").obeys(name, expression_name);
        }
        if text(variable, "expression").trim().is_empty() {
            c.at("expression").required("expression is not specified");
        }
    });
}

/// A name that expressions can use.
fn expression_name(name: &str) -> Result<(), Fault> {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    let ok = syntax::c_identifier(name).is_ok() && !RESERVED.contains(&name);
    ok.then_some(()).ok_or_else(|| "must be a valid CEL identifier".into())
}

fn param_kind(c: &mut Check, kind: &Value) {
    if let Some(api_version) = c.require(kind, "apiVersion") {
        group_version(c, api_version);
    }
    c.require_name(kind, "kind", syntax::kind_name);
}

fn group_version(c: &mut Check, text: &str) {
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    if version.contains('/') {
        return c.at("apiVersion").invalid(text, &format!("unexpected GroupVersion string: {text}"));
    }
    if !group.is_empty() {
        c.at("apiVersion").obeys(group, names::dns_subdomain);
    }
    if version.is_empty() {
        c.at("apiVersion").invalid(text, "version must be specified");
    } else {
        c.at("apiVersion").obeys(version, names::dns_1035_label);
    }
}

fn validation(c: &mut Check, validation: &Value) {
    const BLANK: &str = "must be non-empty if specified";
    if text(validation, "expression").trim().is_empty() {
        c.at("expression").required("expression is not specified");
    }
    for field in ["messageExpression", "message"] {
        let text = text(validation, field);
        if !text.is_empty() && text.trim().is_empty() {
            c.at(field).invalid(text, BLANK);
        } else if field == "message" && text.trim().contains(['\n', '\r']) {
            c.at(field).invalid(text, "must not contain line breaks");
        }
    }
    c.one_of_if_set(validation, "reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}

fn audit_annotation(c: &mut Check, annotation: &Value, policy: &str) {
    let key = text(annotation, "key");
    if policy.is_empty() {
        c.at("key").invalid(key, "requires metadata.name be non-empty");
    } else {
        c.at("key").obeys(&format!("{policy}/{key}"), names::qualified);
    }
    let expression = text(annotation, "valueExpression").trim();
    if expression.is_empty() {
        c.at("valueExpression").required("valueExpression is not specified");
    } else if expression.len() > MAX_ANNOTATION_EXPRESSION {
        let detail = format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length");
        c.at("valueExpression").required(&detail);
    }
}

/// What is deleted cannot be changed.
fn deletes_nothing(c: &mut Check, resources: Option<&Value>) {
    const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
    let rules = resources.map(|r| r.array_at(&["resourceRules"])).unwrap_or_default();
    for operation in rules.iter().flat_map(|rule| rule.array_at(&["operations"])) {
        if !operation.as_str().is_some_and(|o| OPERATIONS.contains(&o)) {
            c.at("resourceRules").field("operations").not_supported(operation.clone(), &OPERATIONS);
        }
    }
}

fn mutation(c: &mut Check, mutation: &Value) {
    const WAYS: [(&str, &str); 2] =
        [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
    let Some(ty) = c.require(mutation, "patchType") else { return };
    if !WAYS.iter().any(|(name, _)| *name == ty) {
        return c.at("patchType").not_supported(ty, &WAYS.map(|(name, _)| name));
    }
    let (mine, others): (Vec<_>, Vec<_>) = WAYS.into_iter().partition(|(name, _)| *name == ty);
    for (_, field) in mine {
        if is_set(mutation, field) {
            c.field(mutation, field, |c, how| {
                if text(how, "expression").trim().is_empty() {
                    c.at("expression").required("");
                }
            });
        } else {
            c.at(field).required(&format!("must be specified when patchType is {ty}"));
        }
    }
    for (_, field) in others {
        if is_set(mutation, field) {
            let detail = format!("must not be specified when patchType is {ty}");
            c.at(field).invalid(format!("{{{field}}}"), &detail);
        }
    }
}

/// Checks a binding of a validating policy.
pub(super) fn validating_binding(c: &mut Check, spec: &Value) {
    binding(c, spec);
    let actions = spec.array_at(&["validationActions"]);
    let has = |name: &str| actions.iter().any(|action| action.as_str() == Some(name));
    for (i, action) in actions.iter().enumerate() {
        let known = ["Audit", "Deny", "Warn"];
        if !action.as_str().is_some_and(|a| known.contains(&a)) {
            c.at("validationActions").index(i).not_supported(action.clone(), &known);
        }
        if actions[..i].contains(action) {
            c.at("validationActions").index(i).duplicate(action.clone());
        }
    }
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                      response and headers serves no purpose)";
        c.at("validationActions").invalid(actions.to_vec(), detail);
    }
    if actions.is_empty() {
        c.at("validationActions").required("at least one validation action is required");
    }
}

/// Checks a binding of a mutating policy.
pub(super) fn mutating_binding(c: &mut Check, spec: &Value) {
    binding(c, spec);
    c.within("matchResources", |c| deletes_nothing(c, spec.get("matchResources")));
}

fn binding(c: &mut Check, spec: &Value) {
    c.require_name(spec, "policyName", names::dns_subdomain);
    c.some(spec, "paramRef", param_reference);
    c.some(spec, "matchResources", match_resources);
}

fn param_reference(c: &mut Check, reference: &Value) {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (named, selected) = (!text(reference, "name").is_empty(), is_set(reference, "selector"));
    c.name(reference, "name", names::path_segment);
    if named && selected {
        c.at("name").forbidden(EITHER);
    }
    c.selector(reference, "selector");
    if named && selected {
        c.at("selector").forbidden(EITHER);
    }
    if !named && !selected {
        c.here().required("one of name or selector must be specified");
    }
    c.require_one_of(reference, "parameterNotFoundAction", &["Deny", "Allow"]);
}

/// Checks what became of a validating policy.
pub(super) fn status(c: &mut Check, status: &Value) {
    c.some(status, "typeChecking", |c, checking| {
        c.each(checking, "expressionWarnings", |c, warning| {
            c.require(warning, "warning");
            if text(warning, "fieldRef").trim().is_empty() {
                c.at("fieldRef").required("");
            }
        });
    });
    conditions(c, status);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    fn base() -> Value {
        json(
            r#"{"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {},
                  "resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                    "resources": ["pods"]}]}}}"#,
        )
    }

    #[test]
    fn validating_policies() {
        let mut base = base();
        base.set(&["spec", "validations"], vec![json(r#"{"expression": "true"}"#)]);
        cases(&base, VALIDATING, |object| run(|c| validating(c, object, None)));
        let mut old = base.clone();
        old.set(&["spec", "matchConditions"], vec![Value::Null]);
        assert_eq!(run(|c| validating(c, &old, Some(&old))), []);
        assert_eq!(run(|c| validating(c, &old, Some(&base))).len(), 2);
        let many: Vec<Value> = (0..=MAX_ANNOTATIONS)
            .map(|i| crate::object!({"key": (format!("a{i}")), "valueExpression": "b"}))
            .collect();
        base.set(&["spec", "auditAnnotations"], many);
        assert_eq!(run(|c| validating(c, &base, None)).len(), 1);
        let long = "x".repeat(MAX_ANNOTATION_EXPRESSION + 1);
        base.set(
            &["spec", "auditAnnotations"],
            vec![crate::object!({"key": "a", "valueExpression": (long)})],
        );
        assert_eq!(run(|c| validating(c, &base, None)).len(), 1);
    }

    const VALIDATING: &str = r#"
spec.variables = [{"name": "a", "expression": "1"}]
spec.paramKind = {"apiVersion": "a.b/v1", "kind": "Foo"}
spec.validations.0.reason = "Invalid"
spec.auditAnnotations = [{"key": "a", "valueExpression": "'b'"}]

spec = {}
! spec.failurePolicy: Required value
! spec.matchConstraints: Required value
! spec.validations: Required value: validations or auditAnnotations must contain at least one item
! spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item

spec.failurePolicy = "x"
spec.matchConstraints.resourceRules = []
spec.paramKind = {}
spec.variables = [{}, {"name": "in", "expression": "1"}]
spec.validations.0 = {"messageExpression": " ", "message": "a\nb", "reason": "x"}
spec.auditAnnotations = [{"key": "a"}, {"key": "a", "valueExpression": "b"}]
! spec.failurePolicy: Unsupported value: "x": supported values: "Fail", "Ignore"
! spec.paramKind.apiVersion: Required value
! spec.paramKind.kind: Required value
! spec.matchConstraints.resourceRules: Required value
! spec.variables[0].name: Required value: name is not specified
! spec.variables[0].expression: Required value: expression is not specified
! spec.variables[1].name: Invalid value: "in": must be a valid CEL identifier
! spec.validations[0].expression: Required value: expression is not specified
! spec.validations[0].messageExpression: Invalid value: " ": must be non-empty if specified
! spec.validations[0].message: Invalid value: "a\nb": must not contain line breaks
! spec.validations[0].reason: Unsupported value: "x": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"
! spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified
! spec.auditAnnotations[1].key: Duplicate value: "a"

spec.paramKind = {"apiVersion": "a/b/c", "kind": "A_"}
! spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c
! spec.paramKind.kind: Invalid value: "A_": may have mixed case, but should otherwise match: a DNS-1035 label must
  consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric
  character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')

spec.paramKind = {"apiVersion": "a/", "kind": "A"}
! spec.paramKind.apiVersion: Invalid value: "a/": version must be specified

metadata.name =
spec.auditAnnotations = [{"key": "a", "valueExpression": "b"}]
spec.validations.0.message = " "
! spec.validations[0].message: Invalid value: " ": must be non-empty if specified
! spec.auditAnnotations[0].key: Invalid value: "a": requires metadata.name be non-empty
"#;

    #[test]
    fn mutating_policies() {
        let mut base = base();
        base.set(
            &["spec", "mutations"],
            vec![json(r#"{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}"#)],
        );
        cases(&base, MUTATING, |object| run(|c| mutating(c, object, None)));
    }

    const MUTATING: &str = r#"
spec.mutations.0 = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}

spec.matchConstraints.resourceRules.0.operations = ["DELETE"]
spec.mutations = []
spec.reinvocationPolicy = "x"
! spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT",
  "CREATE", "UPDATE"
! spec.mutations: Required value: mutations must contain at least one item
! spec.reinvocationPolicy: Unsupported value: "x": supported values: "IfNeeded", "Never"

spec.reinvocationPolicy =
spec.mutations = [{}, {"patchType": "x"}, {"patchType": "JSONPatch", "applyConfiguration": {}},
  {"patchType": "ApplyConfiguration", "jsonPatch": {}, "applyConfiguration": {}}]
! spec.mutations[0].patchType: Required value
! spec.mutations[1].patchType: Unsupported value: "x": supported values: "ApplyConfiguration", "JSONPatch"
! spec.mutations[2].jsonPatch: Required value: must be specified when patchType is JSONPatch
! spec.mutations[2].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is
  JSONPatch
! spec.mutations[3].applyConfiguration.expression: Required value
! spec.mutations[3].jsonPatch: Invalid value: "{jsonPatch}": must not be specified when patchType is ApplyConfiguration
! spec.reinvocationPolicy: Required value
"#;

    #[test]
    fn bindings() {
        let base = json(r#"{"policyName": "p", "validationActions": ["Deny"]}"#);
        cases(&base, BINDINGS, |object| run(|c| validating_binding(c, object)));
        cases(&base, MUTATING_BINDINGS, |object| run(|c| mutating_binding(c, object)));
        cases(&json("{}"), STATUSES, |object| run(|c| status(c, object)));
    }

    const BINDINGS: &str = r#"
validationActions = ["Warn", "Audit"]
paramRef = {"name": "a", "parameterNotFoundAction": "Deny"}

= {}
! policyName: Required value
! validationActions: Required value: at least one validation action is required

validationActions = ["Deny", "Warn", "Warn", "x"]
paramRef = {"name": "a", "selector": {}, "parameterNotFoundAction": "x"}
matchResources = {}
! paramRef.name: Forbidden: name and selector are mutually exclusive
! paramRef.selector: Forbidden: name and selector are mutually exclusive
! paramRef.parameterNotFoundAction: Unsupported value: "x": supported values: "Deny", "Allow"
! matchResources.matchPolicy: Required value
! matchResources.namespaceSelector: Required value
! matchResources.objectSelector: Required value
! validationActions[2]: Duplicate value: "Warn"
! validationActions[3]: Unsupported value: "x": supported values: "Audit", "Deny", "Warn"
! validationActions: Invalid value: ["Deny","Warn","Warn","x"]: must not contain both Deny and Warn (repeating the same
  validation failure information in the API response and headers serves no purpose)

paramRef = {}
! paramRef: Required value: one of name or selector must be specified
! paramRef.parameterNotFoundAction: Required value
"#;

    const MUTATING_BINDINGS: &str = r#"
validationActions =

matchResources = {"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [{"operations":
  ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}
! matchResources.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE",
  "UPDATE"
"#;

    const STATUSES: &str = r#"
typeChecking = {"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": "a"}]}

typeChecking = {"expressionWarnings": [{}]}
! typeChecking.expressionWarnings[0].warning: Required value
! typeChecking.expressionWarnings[0].fieldRef: Required value
"#;
}

//! May somebody do something: `SubjectAccessReview` and its two narrower forms.

use xebec_api::{Cause, FieldPath, Status, Value, object};

use super::selectors;
use super::texts;
use crate::auth::User;
use crate::authz::{Question, Selected, Verdict};
use crate::core::Core;
use crate::http::route::Target;

const LOCAL: &str = "LocalSubjectAccessReview";

/// The status of a review, which gets the namespace of its path.
pub(super) async fn review(
    core: &Core,
    asker: &User,
    review: &mut Value,
    kind: &str,
    target: &Target,
) -> Result<Value, Status> {
    if kind == LOCAL {
        match review.str_at(&["metadata", "namespace"]).unwrap_or_default() {
            "" => review.set(&["metadata", "namespace"], target.namespace.as_str()),
            namespace if namespace == target.namespace => {}
            _ => {
                let text =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Status::bad_request(text));
            }
        }
    }
    let causes = validate(review, kind);
    if !causes.is_empty() {
        return Err(Status::invalid(&target.group, kind, "", causes));
    }
    let spec = review.get("spec").unwrap_or(&Value::Null);
    let subject;
    let user = match kind {
        "SelfSubjectAccessReview" => asker,
        _ => {
            subject = self::subject(spec);
            &subject
        }
    };
    Ok(answer(core, user, spec).await)
}

async fn answer(core: &Core, user: &User, spec: &Value) -> Value {
    let resource = spec.get("resourceAttributes").filter(|a| !a.is_null());
    let (about, fault) = match resource {
        Some(attributes) => (attributes, selectors::read(attributes)),
        None => (spec.get("nonResourceAttributes").unwrap_or(&Value::Null), selectors::Read::default()),
    };
    let text = |field: &str| about.str_at(&[field]).unwrap_or_default();
    let is_confined = fault.selected != Selected::default();
    let question = match resource {
        Some(_) => Question {
            verb: text("verb"),
            group: text("group"),
            version: if text("version").is_empty() { "*" } else { text("version") },
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            selected: is_confined.then_some(&fault.selected),
            ..Question::default()
        },
        None => Question { verb: text("verb"), path: text("path"), ..Question::default() },
    };
    let decision = core.authorizer.decide(user, &question).await;
    let mut status = object!({"allowed": (decision.is_allowed())});
    if decision.verdict == Verdict::Deny {
        status.set(&["denied"], true);
    }
    let errors = [decision.error].into_iter().filter(|error| !error.is_empty()).chain(fault.errors);
    let error = errors.collect::<Vec<_>>().join("; ");
    for (field, text) in [("reason", decision.reason.to_string()), ("evaluationError", error)] {
        if !text.is_empty() {
            status.set(&[field], text);
        }
    }
    status
}

/// Whom a review asks about.
fn subject(spec: &Value) -> User {
    let extra = spec.object_at(&["extra"]).into_iter().flat_map(xebec_api::Map::iter);
    User {
        name: spec.str_at(&["user"]).unwrap_or_default().to_owned(),
        uid: spec.str_at(&["uid"]).unwrap_or_default().to_owned(),
        groups: texts(spec.array_at(&["groups"])),
        extra: extra
            .map(|(key, list)| (key.to_owned(), texts(list.as_array().unwrap_or_default())))
            .collect(),
    }
}

fn validate(review: &Value, kind: &str) -> Vec<Cause> {
    let is_local = kind == LOCAL;
    let mut causes = Vec::new();
    let spec = review.get("spec").unwrap_or(&Value::Null);
    let present = |field: &str| spec.get(field).filter(|value| !value.is_null());
    let (resource, path) = (present("resourceAttributes"), present("nonResourceAttributes"));
    let at = |field: &str| FieldPath::new("spec").field(field);
    match (resource, path) {
        (Some(_), Some(path)) => causes.push(Cause::invalid(
            at("nonResourceAttributes"),
            path.clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => causes.push(Cause::invalid(
            at("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let is_nobody =
        spec.str_at(&["user"]).unwrap_or_default().is_empty() && spec.array_at(&["groups"]).is_empty();
    if kind != "SelfSubjectAccessReview" && is_nobody {
        causes.push(Cause::invalid(at("user"), "", "at least one of user or group must be specified"));
    }
    if let Some(attributes) = resource {
        causes.extend(selectors::validate(attributes, &at("resourceAttributes")));
    }
    causes.extend(metadata_fault(review, is_local));
    if is_local {
        let home = review.str_at(&["metadata", "namespace"]).unwrap_or_default();
        if let Some(attributes) = resource {
            let namespace = attributes.str_at(&["namespace"]).unwrap_or_default();
            if namespace != home {
                let field = at("resourceAttributes").field("namespace");
                causes.push(Cause::invalid(field, namespace, "must match metadata.namespace"));
            }
        }
        if let Some(path) = path {
            let field = at("nonResourceAttributes");
            causes.push(Cause::invalid(field, path.clone(), "disallowed on this kind of request"));
        }
    }
    causes
}

/// A review is no object: it has no metadata, but for the namespace of a local one.
fn metadata_fault(review: &Value, is_local: bool) -> Option<Cause> {
    let metadata = review.get("metadata")?;
    let says = |(key, value): (&str, &Value)| {
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        !is_empty && key != "managedFields" && !(is_local && key == "namespace")
    };
    if !metadata.as_object().is_some_and(|map| map.iter().any(says)) {
        return None;
    }
    let detail = if is_local { "must be empty except for namespace" } else { "must be empty" };
    Some(Cause::invalid(FieldPath::new("metadata"), metadata.clone(), detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_reviews() {
        let check = |kind: &str, review: &str, want: &[&str]| {
            let review: Value = serde_saphyr::from_str(review).expect("YAML");
            let found: Vec<String> = validate(&review, kind).iter().map(ToString::to_string).collect();
            assert_eq!(found, want, "{kind} {review:?}");
        };
        let both = "{spec: {resourceAttributes: {verb: get}, nonResourceAttributes: {path: /a}}}";
        check(
            "SelfSubjectAccessReview",
            "{metadata: {creationTimestamp: null}, spec: {resourceAttributes: {}}}",
            &[],
        );
        check(
            "SelfSubjectAccessReview",
            both,
            &[
                r#"spec.nonResourceAttributes: Invalid value: {"path":"/a"}: cannot be specified in combination with resourceAttributes"#,
            ],
        );
        check(
            "SubjectAccessReview",
            "{metadata: {name: a}, spec: {}}",
            &[
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
                r#"spec.user: Invalid value: "": at least one of user or group must be specified"#,
                r#"metadata: Invalid value: {"name":"a"}: must be empty"#,
            ],
        );
        check("SubjectAccessReview", "{spec: {groups: [a], nonResourceAttributes: {path: /a}}}", &[]);
        let local = LOCAL;
        check(local, "{metadata: {namespace: a}, spec: {user: b, resourceAttributes: {namespace: a}}}", &[]);
        check(
            local,
            "{metadata: {namespace: a, labels: {b: c}}, spec: {user: b, resourceAttributes: {}}}",
            &[
                r#"metadata: Invalid value: {"labels":{"b":"c"},"namespace":"a"}: must be empty except for namespace"#,
                r#"spec.resourceAttributes.namespace: Invalid value: "": must match metadata.namespace"#,
            ],
        );
        check(
            local,
            "{metadata: {namespace: a}, spec: {user: b, nonResourceAttributes: {path: /a}}}",
            &[
                r#"spec.nonResourceAttributes: Invalid value: {"path":"/a"}: disallowed on this kind of request"#,
            ],
        );
    }
}

//! What a webhook is sent, and what it answers: `AdmissionReview`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_api::{Value, json, object};

use super::hook::{Kind, ReviewVersion};

/// A webhook's answer that is one.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// The operations of a JSON patch, if there are any.
    pub(super) patch: Option<Value>,
    /// The `Status` of a denial.
    pub(super) result: Value,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
}

impl ReviewVersion {
    const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The whole review.
pub(super) fn review(
    version: ReviewVersion,
    uid: &str,
    mut request: Value,
    object: Value,
    old: Value,
) -> Vec<u8> {
    request.set(&["uid"], uid);
    request.set(&["object"], object);
    request.set(&["oldObject"], old);
    json::to_vec(&object!({
        "apiVersion": (version.api_version()), "kind": "AdmissionReview", "request": (request)
    }))
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub(super) fn read(version: ReviewVersion, kind: Kind, uid: &str, bytes: &[u8]) -> Result<Answer, String> {
    let review: Value =
        json::from_slice(bytes).map_err(|error| format!("couldn't decode the answer: {error}"))?;
    let Some(response) = review.get("response").filter(|r| r.as_object().is_some()) else {
        return Err("webhook response was absent".into());
    };
    if version == ReviewVersion::V1 {
        let said = response.str_at(&["uid"]).unwrap_or_default();
        if said != uid {
            return Err(format!("expected response.uid={uid:?}, got {said:?}"));
        }
        let of = |field: &str| review.str_at(&[field]).unwrap_or_default();
        if (of("apiVersion"), of("kind")) != (version.api_version(), "AdmissionReview") {
            return Err(format!(
                "expected webhook response of {}, Kind=AdmissionReview, got {}, Kind={}",
                version.api_version(),
                of("apiVersion"),
                of("kind")
            ));
        }
    }
    let annotations = response.object_at(&["auditAnnotations"]).into_iter().flat_map(xebec_api::Map::iter);
    let annotations =
        annotations.filter_map(|(key, value)| Some((key.to_string(), value.as_str()?.to_owned())));
    let warnings = response.array_at(&["warnings"]).iter();
    Ok(Answer {
        allowed: response.bool_at(&["allowed"]) == Some(true),
        patch: patch(version, kind, response)?,
        result: response.get("status").cloned().unwrap_or_default(),
        warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
        annotations: annotations.collect(),
    })
}

fn patch(version: ReviewVersion, kind: Kind, response: &Value) -> Result<Option<Value>, String> {
    let text = response.str_at(&["patch"]).unwrap_or_default();
    let ty = response.str_at(&["patchType"]);
    let strict = version == ReviewVersion::V1;
    match (kind, text.is_empty(), ty) {
        (Kind::Validating, false, _) if strict => {
            return Err("validating webhook may not return response.patch".into());
        }
        (Kind::Validating, _, Some(_)) if strict => {
            return Err("validating webhook may not return response.patchType".into());
        }
        (Kind::Validating, ..) | (Kind::Mutating, true, None) => return Ok(None),
        (Kind::Mutating, false, None) if strict => {
            return Err("webhook returned response.patch but not response.patchType".into());
        }
        (Kind::Mutating, true, Some(_)) if strict => {
            return Err("webhook returned response.patchType but not response.patch".into());
        }
        (Kind::Mutating, true, _) => return Ok(None),
        (Kind::Mutating, false, Some("JSONPatch") | None) => {}
        (Kind::Mutating, false, Some("")) if strict => {
            return Err("webhook returned invalid response.patchType of \"\"".into());
        }
        (Kind::Mutating, false, Some(_)) if !strict => {}
        (Kind::Mutating, false, Some(other)) => return Err(format!("unsupported patch type {other:?}")),
    }
    let undecodable =
        |error: &dyn std::fmt::Display| format!("received undecodable patch in webhook response: {error}");
    let bytes = STANDARD.decode(text).map_err(|error| undecodable(&error))?;
    let operations: Value = json::from_slice(&bytes).map_err(|error| undecodable(&error))?;
    match operations.as_array() {
        Some([]) => Ok(None),
        Some(_) => Ok(Some(operations)),
        None if operations.is_null() => Ok(None),
        None => Err(undecodable(&"it is no list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check =
            |version: ReviewVersion, kind: Kind, response: Value, want: Result<(bool, bool), &str>| {
                let api_version = version.api_version();
                let review =
                    object!({"apiVersion": api_version, "kind": "AdmissionReview", "response": response});
                let got = read(version, kind, "u", &json::to_vec(&review));
                let got = got.map(|answer| (answer.allowed, answer.patch.is_some()));
                assert_eq!(got, want.map_err(str::to_owned));
            };
        let (v1, old) = (ReviewVersion::V1, ReviewVersion::V1Beta1);
        let text = STANDARD.encode(r#"[{"op": "remove", "path": "/a"}]"#);
        let patch = text.as_str();
        check(v1, Kind::Validating, object!({"uid": "u", "allowed": true}), Ok((true, false)));
        check(v1, Kind::Validating, object!({"uid": "u"}), Ok((false, false)));
        check(v1, Kind::Validating, object!({"uid": "x"}), Err(r#"expected response.uid="u", got "x""#));
        check(v1, Kind::Validating, Value::Null, Err("webhook response was absent"));
        let patched = || object!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": patch});
        check(v1, Kind::Mutating, patched(), Ok((true, true)));
        check(v1, Kind::Validating, patched(), Err("validating webhook may not return response.patch"));
        check(
            v1,
            Kind::Mutating,
            object!({"uid": "u", "patch": patch}),
            Err("webhook returned response.patch but not response.patchType"),
        );
        check(
            v1,
            Kind::Mutating,
            object!({"uid": "u", "patchType": "JSONPatch"}),
            Err("webhook returned response.patchType but not response.patch"),
        );
        check(
            v1,
            Kind::Mutating,
            object!({"uid": "u", "patchType": "x", "patch": patch}),
            Err("unsupported patch type \"x\""),
        );
        check(old, Kind::Mutating, object!({"allowed": true, "patch": patch}), Ok((true, true)));
        check(old, Kind::Validating, object!({"allowed": true, "patch": patch}), Ok((true, false)));
        check(
            v1,
            Kind::Mutating,
            object!({"uid": "u", "patchType": "JSONPatch", "patch": "W10="}),
            Ok((false, false)),
        );
    }

    #[test]
    fn answers_of_another_kind() {
        let read =
            |text: &str| read(ReviewVersion::V1, Kind::Mutating, "u", text.as_bytes()).expect_err("refused");
        let other = read(r#"{"apiVersion": "v1", "kind": "Pod", "response": {"uid": "u"}}"#);
        assert_eq!(
            other,
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod"
        );
        assert!(read("<html>").starts_with("couldn't decode the answer: "));
    }
}

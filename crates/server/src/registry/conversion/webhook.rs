//! Conversion by a webhook (`ConversionReview` of apiextensions.k8s.io/v1, v1beta1), as upstream 1.36 has it: what is asked,
//! what of an answer is taken, and what is said of one that cannot be.
//!
//! Of an object's metadata a webhook changes labels and annotations; all else comes back as it was.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use xebec_api::{Cause, Status, Value, json, meta, object};

use crate::core::Core;
use crate::outbound::{Limits, Way};
use crate::registry::table::{Row, Served};

/// How long a call may take, and how long one waits for its turn.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may be: some times what is asked at once.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How many calls for stored objects of one resource are made at once.
const CALLS: usize = 8;

/// The versions of `ConversionReview`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "apiextensions.k8s.io/v1",
            Self::V1Beta1 => "apiextensions.k8s.io/v1beta1",
        }
    }
}

/// The webhook of one definition.
#[derive(Debug)]
pub(crate) struct Webhook {
    way: Result<Way, String>,
    /// `None`: it speaks no version that this server does.
    review: Option<ReviewVersion>,
    turns: Semaphore,
}

impl Webhook {
    pub(super) fn read(definition: &Value) -> Self {
        const AT: [&str; 3] = ["spec", "conversion", "webhook"];
        let webhook = definition.at(&AT).unwrap_or(&Value::Null);
        let versions = webhook.array_at(&["conversionReviewVersions"]).iter();
        Self {
            way: Way::read(webhook.get("clientConfig").unwrap_or(&Value::Null)),
            review: versions.filter_map(Value::as_str).find_map(|version| match version {
                "v1" => Some(ReviewVersion::V1),
                "v1beta1" => Some(ReviewVersion::V1Beta1),
                _ => None,
            }),
            turns: Semaphore::new(CALLS),
        }
    }

    /// Waits until one more call may be made for stored objects.
    ///
    /// # Errors
    /// 500: others take too long.
    pub(super) async fn turn(&self, served: &Served) -> Result<SemaphorePermit<'_>, Status> {
        match tokio::time::timeout(TIMEOUT, self.turns.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(Status::internal(closed)),
            Err(_) => Err(super::failed(format!(
                "conversion webhook for {} failed: {CALLS} calls have been under way for {} seconds, which is the limit",
                kind_text(&served.api_version(), served.row.kind_name()),
                TIMEOUT.as_secs()
            ))),
        }
    }

    /// Has objects converted by one call.
    pub(super) async fn convert(
        &self,
        core: &Core,
        row: &Row,
        objects: Vec<Value>,
        to: &str,
    ) -> Result<Vec<Value>, String> {
        let Some(version) = self.review else { return Err("no supported conversion review versions".into()) };
        let asked = Asked::of(row, &objects, to);
        let uid = core.new_uid().map_err(|status| status.message.into_owned())?;
        let body = review(version, &uid, &objects, to);
        let answer = async {
            let way = self.way.as_ref().map_err(Clone::clone)?;
            let limits = Limits { timeout: TIMEOUT, answer: MAX_ANSWER };
            let bytes = way.post(core, "kube-apiserver", body, limits).await?;
            read(version, &uid, &bytes)
        };
        let converted = answer.await.map_err(|why| format!("{} failed: {why}", asked.who))?;
        asked.settle(&objects, converted)
    }
}

/// `example.com/v1, Kind=Thing`; the group of the core is empty.
fn kind_text(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

/// What was asked, for what is said of the answer.
struct Asked<'a> {
    /// `conversion webhook for example.com/v1, Kind=Thing`.
    who: String,
    to: &'a str,
    is_list: bool,
}

impl<'a> Asked<'a> {
    fn of(row: &Row, objects: &[Value], to: &'a str) -> Self {
        let what = match objects {
            [one] => kind_text(one.str_at(&["apiVersion"]).unwrap_or_default(), row.kind_name()),
            _ => kind_text(to, &row.def.names.list_kind),
        };
        Self { who: format!("conversion webhook for {what}"), to, is_list: objects.len() != 1 }
    }

    /// Puts together what the webhook may say and what it may not.
    fn settle(&self, originals: &[Value], converted: Vec<Value>) -> Result<Vec<Value>, String> {
        let who = &self.who;
        if converted.len() != originals.len() {
            return Err(format!("{who} returned {} objects, expected {}", converted.len(), originals.len()));
        }
        let pairs = originals.iter().zip(converted).enumerate();
        pairs.map(|(at, (original, converted))| self.settle_one(at, original, converted)).collect()
    }

    fn settle_one(&self, at: usize, original: &Value, mut converted: Value) -> Result<Value, String> {
        let who = &self.who;
        let item = if self.is_list { "converted object" } else { "object" };
        let indexed = |why: String| format!("{who} returned invalid {item} at index {at}: {why}");
        let place = if self.is_list { format!(" at index {at}") } else { String::new() };
        let text = |object: &Value, field: &str| object.str_at(&[field]).unwrap_or_default().to_owned();
        if converted.as_object().is_none() || text(&converted, "kind").is_empty() {
            return Err(indexed("Object 'Kind' is missing".into()));
        }
        for (field, what, expected) in
            [("apiVersion", "groupVersion", self.to.to_owned()), ("kind", "kind", text(original, "kind"))]
        {
            let received = text(&converted, field);
            if received != expected {
                return Err(indexed(format!("invalid {what} (expected {expected}, received {received})")));
            }
        }
        for (field, what) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
            let of = |object: &Value| object.str_at(&["metadata", field]).unwrap_or_default().to_owned();
            let (before, after) = (of(original), of(&converted));
            if before != after {
                let why = format!("must have the same {what}: {before} != {after}");
                return Err(format!("{who} returned invalid {item}{place}: {why}"));
            }
        }
        restore_metadata(original, &mut converted).map_err(|why| {
            let of = if self.is_list { " in object" } else { "" };
            format!("{who} returned invalid metadata{of}{place}: {why}")
        })?;
        Ok(converted)
    }
}

/// The request.
fn review(version: ReviewVersion, uid: &str, objects: &[Value], to: &str) -> Vec<u8> {
    json::to_vec(&object!({
        "apiVersion": (version.api_version()), "kind": "ConversionReview",
        "request": {"uid": uid, "desiredAPIVersion": to, "objects": (objects.to_vec())}
    }))
}

/// The objects of an answer.
fn read(version: ReviewVersion, uid: &str, bytes: &[u8]) -> Result<Vec<Value>, String> {
    let mut review: Value =
        json::from_slice(bytes).map_err(|error| format!("couldn't decode the answer: {error}"))?;
    let strict = version == ReviewVersion::V1;
    let of = |field: &str| review.str_at(&[field]).unwrap_or_default();
    if strict && (of("apiVersion"), of("kind")) != (version.api_version(), "ConversionReview") {
        return Err(format!(
            "expected webhook response of {}, got {}",
            kind_text(version.api_version(), "ConversionReview"),
            kind_text(of("apiVersion"), of("kind"))
        ));
    }
    let Some(response) = review.get_mut("response").filter(|r| r.as_object().is_some()) else {
        return Err("no response provided".into());
    };
    let said = response.str_at(&["uid"]).unwrap_or_default();
    if strict && said != uid {
        return Err(format!("expected response.uid={uid:?}, got {said:?}"));
    }
    let result = |field: &str| response.str_at(&["result", field]).unwrap_or_default();
    match (result("status"), result("message")) {
        ("Success", _) => {}
        (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => return Err(message.to_owned()),
    }
    match response.remove_at(&["convertedObjects"]).unwrap_or_default() {
        Value::Array(objects) => Ok(objects),
        Value::Null => Ok(Vec::new()),
        other => Err(format!(
            "couldn't decode the answer: convertedObjects is no list, but of type {}",
            go_type(&other)
        )),
    }
}

/// The types of values in the words of upstream.
const fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Gives the converted object the metadata of the original but for labels and annotations.
fn restore_metadata(original: &Value, converted: &mut Value) -> Result<(), String> {
    let said = converted.get_mut("metadata").ok_or("missing metadata in converted object")?.take();
    if said.as_object().is_none() {
        return Err(format!("invalid metadata of type {} in converted object", go_type(&said)));
    }
    let mut metadata = original.get("metadata").cloned().unwrap_or_else(Value::object);
    let mut changed = false;
    for field in ["labels", "annotations"] {
        let before = metadata.remove_at(&[field]);
        let Some(after) = said.get(field).filter(|value| !value.is_null()) else { continue };
        let Some(entries) = after.as_object() else {
            return Err(format!("invalid metadata.{field} of type {} in converted object", go_type(after)));
        };
        if let Some((key, value)) = entries.iter().find(|(_, value)| value.as_str().is_none()) {
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {} in converted object",
                go_type(value)
            ));
        }
        changed |= before.as_ref() != Some(after);
        metadata.set(&[field], after.clone());
    }
    converted.set(&["metadata"], metadata);
    if !changed {
        return Ok(());
    }
    match meta::validate_labels_and_annotations(converted).as_slice() {
        [] => Ok(()),
        [one] => Err(one.to_string()),
        many => Err(format!("[{}]", many.iter().map(Cause::to_string).collect::<Vec<_>>().join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Value {
        object!({
            "apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"a": "b"}, "generation": 3}
        })
    }

    fn settle(count: usize, converted: Vec<Value>) -> Result<Vec<Value>, String> {
        let is_list = count != 1;
        let who = "the webhook".to_owned();
        Asked { who, to: "example.com/v2", is_list }.settle(&vec![original(); count], converted)
    }

    /// The original, converted well but for these members.
    fn converted(path: &[&str], value: impl Into<Value>) -> Value {
        let mut object = original();
        object.set(&["apiVersion"], "example.com/v2");
        object.set(path, value);
        object
    }

    #[test]
    fn all_but_labels_and_annotations_stays() {
        let mut sent = converted(&["metadata", "labels"], object!({"c": "d"}));
        sent.set(&["metadata", "annotations"], object!({"x": "y"}));
        sent.set(&["metadata", "generation"], 9);
        sent.set(&["metadata", "finalizers"], vec!["f"]);
        sent.set(&["spec"], object!({"a": 1}));
        let got = settle(1, vec![sent]).expect("a good answer");
        let want = object!({
            "apiVersion": "example.com/v2", "kind": "Thing", "spec": {"a": 1},
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "labels": {"c": "d"}, "annotations": {"x": "y"},
                "generation": 3
            }
        });
        assert_eq!(got, [want]);
        let got = settle(1, vec![converted(&["metadata", "labels"], Value::Null)]).expect("a good answer");
        assert_eq!(got[0].at(&["metadata", "labels"]), None);
    }

    #[test]
    fn what_an_answer_may_not_say() {
        let check = |path: &[&str], value: Value, want: &str| {
            let error = settle(1, vec![converted(path, value)]).expect_err(want);
            assert_eq!(error, format!("the webhook returned invalid {want}"));
        };
        let one = "object at index 0: ";
        check(&["kind"], "Other".into(), &format!("{one}invalid kind (expected Thing, received Other)"));
        check(
            &["apiVersion"],
            "example.com/v3".into(),
            &format!("{one}invalid groupVersion (expected example.com/v2, received example.com/v3)"),
        );
        check(&["metadata", "name"], "b".into(), "object: must have the same name: a != b");
        check(&["metadata", "namespace"], "b".into(), "object: must have the same namespace: n != b");
        check(&["metadata", "uid"], "b".into(), "object: must have the same UID: u != b");
        check(
            &["metadata", "labels"],
            object!({"a": 1}),
            "metadata: metadata.labels[a] must be a string, but is int64 in converted object",
        );
        check(
            &["metadata", "annotations"],
            "a".into(),
            "metadata: invalid metadata.annotations of type string in converted object",
        );
        let error = settle(1, vec![converted(&["metadata", "labels"], object!({"a b": "c"}))]);
        let error = error.expect_err("no name of a label");
        assert!(
            error.starts_with(
                "the webhook returned invalid metadata: metadata.labels: Invalid value: \"a b\""
            ),
            "{error}"
        );
    }

    #[test]
    fn lists_are_told_by_their_places() {
        let good = || converted(&["spec"], 1);
        let error = settle(2, vec![good()]).expect_err("one is missing");
        assert_eq!(error, "the webhook returned 1 objects, expected 2");
        let error = settle(2, vec![good(), Value::Null]).expect_err("one is none");
        assert_eq!(
            error,
            "the webhook returned invalid converted object at index 1: Object 'Kind' is missing"
        );
        let error = settle(2, vec![good(), converted(&["metadata", "name"], "x")]).expect_err("another one");
        let want =
            "the webhook returned invalid converted object at index 1: must have the same name: a != x";
        assert_eq!(error, want);
        assert_eq!(settle(2, vec![good(), good()]).expect("good").len(), 2);
    }

    #[test]
    fn answers() {
        let check = |version: ReviewVersion, review: Value, want: Result<usize, &str>| {
            let got = read(version, "u", &json::to_vec(&review)).map(|objects| objects.len());
            assert_eq!(got, want.map_err(str::to_owned), "{review:?}");
        };
        let review = |response: Value| {
            object!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": (response)
            })
        };
        let v1 = ReviewVersion::V1;
        let good = || object!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}, {}]});
        check(v1, review(good()), Ok(2));
        check(v1, review(object!({"uid": "u", "result": {"status": "Success"}})), Ok(0));
        check(v1, review(Value::Null), Err("no response provided"));
        check(v1, review(object!({"uid": "x"})), Err(r#"expected response.uid="u", got "x""#));
        check(v1, review(object!({"uid": "u", "result": {"status": "Failure", "message": "no"}})), Err("no"));
        check(v1, review(object!({"uid": "u"})), Err("response.result.status was '', not 'Success'"));
        let other = object!({"apiVersion": "v1", "kind": "Pod", "response": (good())});
        let text =
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /v1, Kind=Pod";
        check(v1, other.clone(), Err(text));
        check(ReviewVersion::V1Beta1, other, Ok(2));
    }
}

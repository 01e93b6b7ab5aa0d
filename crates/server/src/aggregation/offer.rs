//! What a server behind this one offers: its resources, read from its discovery documents.
//!
//! Documents of strangers are read into what discovery here tells and no more: what is unknown is dropped, and what is of a
//! wrong type makes the document one that cannot be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use xebec_api::openapi::merge;
use xebec_api::{Value, json, object};

/// The largest document that is read, in bytes.
pub(super) const MAX_DOCUMENT: usize = 4 * 1024 * 1024;
/// How many resources of a group and version are told of, and subresources of each.
const MAX_RESOURCES: usize = 2_000;

/// What a server offers for the group and version of one API service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    /// The UID of the API service.
    pub(crate) of: String,
    /// Its resources, as aggregated discovery has them.
    pub(crate) resources: Vec<Value>,
    /// Whether it was asked successfully the last time.
    pub(crate) is_fresh: bool,
    /// Its OpenAPI documents of version 3: where they are, by key, with what they hash to.
    pub(crate) v3: BTreeMap<String, String>,
    /// Of its OpenAPI document of version 2 what is of the group and version.
    pub(crate) v2: Option<Part>,
}

/// A part of a document, and what the whole was called.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(super) tag: Option<HeaderValue>,
    pub(super) document: Arc<Value>,
    /// How many bytes the whole had.
    pub(super) size: usize,
}

/// What all other servers have of OpenAPI.
#[derive(Clone, Debug, Default)]
pub(crate) struct Others {
    /// Another number each time that something of version 2 is another.
    pub(crate) edition: u64,
    /// Parts of documents of version 2, in the order of priorities.
    pub(crate) v2: Vec<Arc<Value>>,
    /// What documents of version 3 hash to, by key.
    pub(crate) v3: BTreeMap<String, String>,
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is no {0}")]
    Kind(&'static str),
    #[error("it tells nothing of {0}")]
    Silent(String),
    #[error("a resource in it has no {0}")]
    Lacks(&'static str),
    #[error("it has more than {MAX_RESOURCES} resources, which is the limit")]
    TooMany,
}

/// The resources of a group and version in an `APIGroupDiscoveryList`.
pub(super) fn aggregated(document: &[u8], group: &str, version: &str) -> Result<Vec<Value>, Unreadable> {
    let document = json::from_slice(document)?;
    if document.str_at(&["kind"]) != Some("APIGroupDiscoveryList") {
        return Err(Unreadable::Kind("APIGroupDiscoveryList"));
    }
    let groups = document.array_at(&["items"]).iter();
    let found = groups
        .filter(|item| item.str_at(&["metadata", "name"]).unwrap_or_default() == group)
        .flat_map(|item| item.array_at(&["versions"]))
        .find(|item| item.str_at(&["version"]) == Some(version))
        .ok_or_else(|| Unreadable::Silent(format!("{group}/{version}")))?;
    bounded(found.array_at(&["resources"]))?.iter().map(|given| resource(given, group, version)).collect()
}

fn bounded(resources: &[Value]) -> Result<&[Value], Unreadable> {
    if resources.len() > MAX_RESOURCES { Err(Unreadable::TooMany) } else { Ok(resources) }
}

fn resource(given: &Value, group: &str, version: &str) -> Result<Value, Unreadable> {
    let mut out = object!({
        "resource": (required(given, "resource")?), "singularResource": (text(given, "singularResource")),
        "scope": (required(given, "scope")?), "responseKind": (kind(given, group, version)),
        "verbs": (texts(given, "verbs"))
    });
    named(given, &mut out);
    let below = bounded(given.array_at(&["subresources"]))?.iter().map(|sub| {
        Ok(object!({
            "subresource": (required(sub, "subresource")?), "responseKind": (kind(sub, group, version)),
            "verbs": (texts(sub, "verbs"))
        }))
    });
    let below = below.collect::<Result<Vec<Value>, Unreadable>>()?;
    if !below.is_empty() {
        out.set(&["subresources"], below);
    }
    Ok(out)
}

/// Short names and categories.
fn named(given: &Value, out: &mut Value) {
    for field in ["shortNames", "categories"] {
        let names = texts(given, field);
        if !names.is_empty() {
            out.set(&[field], names);
        }
    }
}

fn kind(given: &Value, group: &str, version: &str) -> Value {
    let of = |field: &str, otherwise: &str| {
        given.str_at(&["responseKind", field]).filter(|t| !t.is_empty()).unwrap_or(otherwise).to_owned()
    };
    object!({"group": (of("group", group)), "version": (of("version", version)), "kind": (of("kind", ""))})
}

fn text(given: &Value, field: &str) -> String {
    given.str_at(&[field]).unwrap_or_default().to_owned()
}

fn required(given: &Value, field: &'static str) -> Result<String, Unreadable> {
    Some(text(given, field)).filter(|text| !text.is_empty()).ok_or(Unreadable::Lacks(field))
}

fn texts(given: &Value, field: &str) -> Vec<String> {
    given.array_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The resources in an `APIResourceList`, in the form of aggregated discovery.
pub(super) fn listed(document: &[u8], group: &str, version: &str) -> Result<Vec<Value>, Unreadable> {
    let document = json::from_slice(document)?;
    if document.str_at(&["kind"]) != Some("APIResourceList") {
        return Err(Unreadable::Kind("APIResourceList"));
    }
    let (mut found, mut below): (Vec<Value>, BTreeMap<String, Vec<Value>>) = Default::default();
    for given in bounded(document.array_at(&["resources"]))? {
        let name = required(given, "name")?;
        let of = |field: &str, otherwise: &str| {
            given.str_at(&[field]).filter(|t| !t.is_empty()).unwrap_or(otherwise).to_owned()
        };
        let kind = object!({
            "group": (of("group", group)), "version": (of("version", version)), "kind": (text(given, "kind"))
        });
        let verbs = texts(given, "verbs");
        if let Some((parent, subresource)) = name.split_once('/') {
            let made = object!({"subresource": subresource, "responseKind": kind, "verbs": verbs});
            below.entry(parent.to_owned()).or_default().push(made);
            continue;
        }
        let scope = if given.bool_at(&["namespaced"]) == Some(true) { "Namespaced" } else { "Cluster" };
        let mut made = object!({
            "resource": (name), "singularResource": (text(given, "singularName")), "scope": scope,
            "responseKind": kind, "verbs": verbs
        });
        named(given, &mut made);
        found.push(made);
    }
    for resource in &mut found {
        if let Some(below) = resource.str_at(&["resource"]).and_then(|name| below.remove(name)) {
            resource.set(&["subresources"], below);
        }
    }
    Ok(found)
}

/// Of an OpenAPI document of version 2 what is of a group and version.
pub(super) fn swagger(document: &[u8], group: &str, version: &str) -> Result<Value, Unreadable> {
    let document = json::from_slice(document)?;
    if document.str_at(&["swagger"]) != Some("2.0") {
        return Err(Unreadable::Kind("OpenAPI document of version 2"));
    }
    Ok(merge::part(&document, &format!("/apis/{group}/{version}/")))
}

/// The documents in the index of OpenAPI version 3 that are of a group and version: their hashes by key.
pub(super) fn index(
    document: &[u8],
    group: &str,
    version: &str,
) -> Result<BTreeMap<String, String>, Unreadable> {
    let document = json::from_slice(document)?;
    let paths = document.object_at(&["paths"]).ok_or(Unreadable::Kind("index of OpenAPI documents"))?;
    let key = format!("apis/{group}/{version}");
    let url = paths.get(&key).and_then(|path| path.str_at(&["serverRelativeURL"])).unwrap_or_default();
    let hash = url.split_once("?hash=").map_or("", |(_, hash)| hash);
    let is_hash = !hash.is_empty() && hash.len() <= 256 && hash.bytes().all(|b| b.is_ascii_alphanumeric());
    Ok(if is_hash { BTreeMap::from([(key, hash.to_owned())]) } else { BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &str = r#"[{"resource":"flunders","responseKind":{"group":"a.b","kind":"Flunder","version":"v1"},"scope":"Namespaced","shortNames":["fl"],"singularResource":"flunder","subresources":[{"responseKind":{"group":"autoscaling","kind":"Scale","version":"v1"},"subresource":"scale","verbs":["get"]}],"verbs":["list"]}]"#;

    fn text(resources: Result<Vec<Value>, Unreadable>) -> String {
        match resources {
            Ok(found) => String::from_utf8(json::to_vec(&Value::from(found))).expect("JSON is text"),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn both_forms_tell_the_same() {
        let new = br#"{"kind":"APIGroupDiscoveryList","items":[
            {"metadata":{"name":"other"},"versions":[{"version":"v1","resources":[{}]}]},
            {"metadata":{"name":"a.b"},"versions":[{"version":"v2"},{"version":"v1","freshness":"Current","resources":[{
                "resource":"flunders","singularResource":"flunder","scope":"Namespaced","shortNames":["fl"],"unknown":1,
                "responseKind":{"kind":"Flunder"},"verbs":["list"],"subresources":[{"subresource":"scale",
                "responseKind":{"group":"autoscaling","version":"v1","kind":"Scale"},"verbs":["get"]}]}]}]}]}"#;
        assert_eq!(text(aggregated(new, "a.b", "v1")), WANTED);
        let old = br#"{"kind":"APIResourceList","groupVersion":"a.b/v1","resources":[
            {"name":"flunders/scale","group":"autoscaling","version":"v1","kind":"Scale","verbs":["get"]},
            {"name":"flunders","singularName":"flunder","namespaced":true,"kind":"Flunder","verbs":["list"],"shortNames":["fl"]}]}"#;
        assert_eq!(text(listed(old, "a.b", "v1")), WANTED);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let check = |document: &str, want: &str| {
            let found = text(aggregated(document.as_bytes(), "a.b", "v1"));
            assert!(found.contains(want), "{found}");
        };
        check("x", "no JSON");
        check("[]", "no APIGroupDiscoveryList");
        check(r#"{"kind":"APIGroupDiscoveryList"}"#, "tells nothing of a.b/v1");
        check(
            r#"{"kind":"APIGroupDiscoveryList","items":[{"metadata":{"name":"a.b"},"versions":[{"version":"v1","resources":[{"resource":1}]}]}]}"#,
            "no resource",
        );
        assert!(text(listed(b"{}", "a.b", "v1")).contains("no APIResourceList"));
        let many =
            format!(r#"{{"kind":"APIResourceList","resources":[{}{{}}]}}"#, "{},".repeat(MAX_RESOURCES));
        assert!(text(listed(many.as_bytes(), "a.b", "v1")).contains("the limit"));
    }

    #[test]
    fn documents_of_version_3() {
        let check = |url: &str, want: Option<&str>| {
            let document =
                format!(r#"{{"paths":{{"apis/a.b/v1":{{"serverRelativeURL":"{url}"}},"version":{{}}}}}}"#);
            let found = index(document.as_bytes(), "a.b", "v1").expect("an index");
            assert_eq!(found.get("apis/a.b/v1").map(String::as_str), want, "{url}");
        };
        check("/openapi/v3/apis/a.b/v1?hash=0A1b", Some("0A1b"));
        check("/openapi/v3/apis/a.b/v1", None);
        check("/x?hash=a b", None);
        assert!(index(b"{}", "a.b", "v1").is_err());
    }
}

//! What a request brings besides its body: path, query, `Accept`; bodies in all three formats; what webhooks answer and what other
//! API servers say that they have.
//!
//! A JSON body reads the same as YAML, if it is read as YAML at all.
#![no_main]

use http::{HeaderMap, HeaderValue, Method, header};
use xebec_api::json;
use xebec_fuzz::{choices, target};
use xebec_server::http::accept::Accept;
use xebec_server::http::body::Format;
use xebec_server::http::query::{FieldValidation, ListOptions, Query, parse_version};
use xebec_server::http::route::Route;

const SEEDS: [&str; 16] = [
    "P/apis/apps/v1/namespaces/a/deployments/b/scale?labelSelector=a%3Db&fieldSelector=metadata.name%3Dx&limit=5&continue=abc",
    "P/api/v1/watch/pods?watch=1&resourceVersion=7&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=3",
    "P/api/v1/namespaces/a/pods/b/proxy/x%2Fy/%ff?dryRun=All&fieldValidation=Strict",
    "Aapplication/json;as=Table;v=v1;g=meta.k8s.io,application/vnd.kubernetes.protobuf;q=0.5,*/*",
    "Aapplication/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1;q=1.5, text/*;q=x",
    "Ba: &a [1, 2]\nb: *a\nc: !!str 1\n? d\n: |\n  e\n",
    "Ba: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
    "B{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"a\":[1.5,true,null,\"x\"]}",
    "B- yes\n- 0o17\n- 0x1F\n- .inf\n- .nan\n- 1_000\n- 2026-01-31\n- ~\n- 'a''b'\n- \"\\x41\\u263A\"\n",
    "B[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]",
    "W{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"response\":{\"uid\":\"u\",\"allowed\":true,\"patchType\":\"JSONPatch\",\"patch\":\"W10=\",\"warnings\":[\"a\"],\"auditAnnotations\":{\"a\":\"b\"},\"status\":{\"code\":418}}}",
    "D{\"kind\":\"APIGroupDiscoveryList\",\"items\":[{\"metadata\":{\"name\":\"wardle.example.com\"},\"versions\":[{\"version\":\"v1alpha1\",\"resources\":[{\"resource\":\"a\",\"scope\":\"Namespaced\",\"responseKind\":{\"kind\":\"A\"},\"verbs\":[\"get\"],\"subresources\":[{\"subresource\":\"status\"}]}]}]}]}",
    "D{\"kind\":\"APIResourceList\",\"resources\":[{\"name\":\"a\",\"namespaced\":true,\"kind\":\"A\",\"verbs\":[\"get\"]},{\"name\":\"a/scale\",\"group\":\"autoscaling\"}],\"paths\":{\"apis/wardle.example.com/v1alpha1\":{\"serverRelativeURL\":\"/x?hash=A1\"}}}",
    "D{\"swagger\":\"2.0\",\"paths\":{\"/apis/wardle.example.com/v1alpha1/a\":{\"$ref\":\"#/definitions/A\"}},\"definitions\":{\"A\":{\"$ref\":\"#/parameters/b\"}},\"parameters\":{\"b\":{}}}",
    "B<<: {a: 1}\na: 2\na: 3\n---\nb: 1\n",
    "Bk8s\0\n\u{9}\n\u{2}v1\u{12}\u{3}Pod\u{12}\0\u{1a}\0\"\0",
];

fn request(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = Query::parse(query);
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        if let Ok(Route::Resource(_, target)) = Route::read(&method, path, &query) {
            for part in [&target.group, &target.version, &target.resource, &target.name, &target.subresource] {
                assert!(!part.contains('/'), "{target:?}");
            }
        }
    }
    drop(ListOptions::from_query(&query));
    let _: FieldValidation = FieldValidation::from_query(&query);
    drop(query.write_faults());
    drop(parse_version(text));
}

fn accept(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in [choices::halves(bytes, b'\n').0, choices::halves(bytes, b'\n').1] {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::ACCEPT, value);
        }
    }
    if let Ok(accept) = Accept::from_headers(&headers) {
        drop(accept.settle(true));
        drop(accept.settle(false));
    }
}

fn body(bytes: &[u8]) {
    drop(Format::Protobuf.parse(bytes));
    let (from_json, from_yaml) = (Format::Json.parse(bytes), Format::Yaml.parse(bytes));
    let Ok(from_yaml) = from_yaml else { return };
    let written = json::to_vec(&from_yaml.value);
    let again = json::from_slice(&written).expect("what YAML gave can be stored");
    assert_eq!(json::to_vec(&again), written);
    if let Ok(from_json) = from_json
        && bytes.trim_ascii_start().starts_with(b"{")
    {
        assert_eq!(from_json.value, from_yaml.value, "JSON and YAML differ");
    }
}

target!("server_request", SEEDS, |data| {
    match (data.split_first(), std::str::from_utf8(data)) {
        (Some((b'P', _)), Ok(text)) => request(&text[1..]),
        (Some((b'A', rest)), _) => accept(rest),
        (Some((b'B', rest)), _) => body(rest),
        (Some((b'D', rest)), _) => xebec_server::api_servers::document(rest),
        (Some((b'W', rest)), _) => xebec_server::webhook_answers::answer(rest),
        _ => body(data),
    }
});

//! Paths that are no resources: what there is (discovery), OpenAPI, health, version, token issuer.

mod groups;

use http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Method, Response, StatusCode};
use xebec_api::{Status, Value, object};

use crate::core::Core;
use crate::http::reply::{self, Reply};
use crate::serve::Incoming;

/// The Kubernetes version whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// Answers a request on a path that is no resource.
///
/// # Errors
/// 404 and 405.
pub fn handle(core: &Core, path: &str, incoming: &Incoming) -> Result<Reply, Status> {
    if !matches!(*incoming.request.method(), Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed("", path, incoming.request.method().as_str()));
    }
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let table = core.table.get();
    match segments.as_slice() {
        [] => Ok(Reply::ok(paths(&table))),
        ["api" | "apis"] if groups::wants_aggregated(incoming.request.headers()) => {
            let document = groups::aggregated(&table, segments[0] == "api");
            tagged(incoming, document, groups::AGGREGATED_TYPE)
        }
        ["api"] => Ok(Reply::ok(object!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": (address(&core.settings.url))}]
        }))),
        ["apis"] => Ok(Reply::ok(groups::list(&table))),
        ["api", version] => groups::resources(&table, "", version).map(Reply::ok),
        ["apis", group] => groups::group(&table, group).map(Reply::ok),
        ["apis", group, version] => groups::resources(&table, group, version).map(Reply::ok),
        ["openapi", rest @ ..] => crate::openapi::handle(&core.openapi, &table, rest, incoming),
        ["version"] => Ok(Reply::ok(version())),
        ["healthz" | "livez" | "readyz", check @ ..] => health(core, check, incoming),
        [".well-known", "openid-configuration"] => Ok(Reply::ok(issuer(core))),
        ["openid", "v1", "jwks"] => Ok(Reply::ok(core.tokens.key_set())),
        _ => Err(Status::no_such_path()),
    }
}

/// The server's address without the scheme.
fn address(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// A document with an `ETag`; 304 if the client has it.
///
/// # Errors
/// 500: the tag is no header value.
pub(crate) fn tagged(incoming: &Incoming, document: Vec<u8>, content_type: &str) -> Result<Reply, Status> {
    let tag = document_hash(&document);
    let quoted = format!("\"{tag}\"");
    let known = incoming.request.headers().get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let etag = HeaderValue::from_str(&quoted).map_err(Status::internal)?;
    if known == Some(quoted.as_str()) {
        let mut response = Response::new(reply::full(Vec::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(ETAG, etag);
        return Ok(Reply::Response(response));
    }
    let content_type = HeaderValue::from_str(content_type).map_err(Status::internal)?;
    let headers = vec![
        (ETAG, etag),
        (http::header::CONTENT_TYPE, content_type),
        (http::header::VARY, HeaderValue::from_static("Accept")),
    ];
    Ok(Reply::Prepared(document.into(), headers))
}

/// SHA-512 in upper-case hexadecimal digits.
#[must_use]
pub fn document_hash(document: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, document);
    digest.as_ref().iter().fold(String::with_capacity(128), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
        }
        text
    })
}

fn paths(table: &crate::registry::Table) -> Value {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for (group, versions) in groups::groups(table).filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.sort();
    object!({"paths": (paths)})
}

fn version() -> Value {
    let (major, minor) = KUBERNETES_VERSION.trim_start_matches('v').split_once('.').unwrap_or(("1", "0"));
    let minor = minor.split('.').next().unwrap_or_default();
    object!({
        "major": major, "minor": minor,
        "gitVersion": (format!("{KUBERNETES_VERSION}+xebec-{}", env!("CARGO_PKG_VERSION"))),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": (format!("linux/{}", platform()))
    })
}

/// The machine's architecture, as Go names it.
const fn platform() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
    }
}

fn issuer(core: &Core) -> Value {
    object!({
        "issuer": (core.settings.issuer.as_str()),
        "jwks_uri": (format!("{}/openid/v1/jwks", core.settings.url)),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"]
    })
}

/// Whether the server is healthy: it is alive while it answers, ready while it is not going and can write.
fn health(core: &Core, check: &[&str], incoming: &Incoming) -> Result<Reply, Status> {
    let store = match core.store.health() {
        xebec_store::Health::Writable => Ok(()),
        xebec_store::Health::ReadOnly { reason, .. } => Err(reason),
        xebec_store::Health::Closed => Err("the store is shut down".to_owned()),
    };
    let going =
        if incoming.shutdown.is_cancelled() { Err("the server is shutting down".to_owned()) } else { Ok(()) };
    let checks = [("ping", Ok(())), ("store", store), ("shutdown", going)];
    let wanted: Vec<_> = match check {
        [] => checks.iter().collect(),
        [name] => checks.iter().filter(|(n, _)| n == name).collect(),
        _ => Vec::new(),
    };
    if wanted.is_empty() {
        return Err(Status::no_such_path());
    }
    let failed = wanted.iter().any(|(_, result)| result.is_err());
    let verbose = incoming.context.query.all("verbose").next().is_some();
    let path = incoming.request.uri().path().trim_matches('/');
    if !failed && !verbose {
        return Ok(Reply::Text(StatusCode::OK, "ok".into()));
    }
    let mut text = String::new();
    for (name, result) in wanted {
        text.push_str(&match result {
            Ok(()) => format!("[+]{name} ok\n"),
            Err(reason) => format!("[-]{name} failed: {reason}\n"),
        });
    }
    let verdict = if failed { "failed" } else { "passed" };
    text.push_str(&format!("{path} check {verdict}\n"));
    let code = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    Ok(Reply::Text(code, text))
}

//! Paths that are no resources: what there is (discovery), OpenAPI, health, version, token issuer.

mod groups;
mod issuer;

use self::groups::Catalogue;
use http::Method;
use xebec_api::{Status, Value, object};

use crate::core::Core;
use crate::health::{self, Question};
use crate::http::document::Document;
use crate::http::reply::Reply;
use crate::metrics;
use crate::serve::Incoming;

/// The Kubernetes version whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// Whether a path tells how the server is: it is answered however much is under way.
#[must_use]
pub fn is_vital(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    first == "version" || Question::read(first).is_some()
}

/// Answers a request on a path that is no resource.
///
/// # Errors
/// 404 and 405.
pub async fn handle(core: &Core, path: &str, incoming: &mut Incoming) -> Result<Reply, Status> {
    if !matches!(*incoming.request.method(), Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed("", path, incoming.request.method().as_str()));
    }
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    if let Some(question) = segments.first().and_then(|first| Question::read(first)) {
        return health::answer(core, question, &segments[1..], &incoming.context.query);
    }
    let table = core.table.get();
    let catalogue = || Catalogue::of(&table, &core.aggregation.state());
    match segments.as_slice() {
        [] => Ok(Reply::ok(paths(&catalogue()))),
        ["api" | "apis"] if groups::wants_aggregated(incoming.request.headers()) => {
            let document = catalogue().aggregated(&table, &core.aggregation, segments[0] == "api");
            Document::new(document, groups::AGGREGATED_TYPE).answer(incoming.request.headers())
        }
        ["api"] => Ok(Reply::ok(object!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": (address(&core.settings.url))}]
        }))),
        ["apis"] => Ok(Reply::ok(catalogue().list())),
        ["api", version] => groups::resources(&table, "", version).map(Reply::ok),
        ["apis", group] => catalogue().group(group).map(Reply::ok),
        ["apis", group, version] => groups::resources(&table, group, version).map(Reply::ok),
        ["openapi", rest @ ..] => {
            let (headers, query) = (incoming.request.headers(), &incoming.context.query);
            let others = core.aggregation.others();
            crate::openapi::handle(&core.openapi, &table, &others, rest, headers, query).await
        }
        ["version"] => Ok(Reply::ok(version())),
        ["metrics"] => Ok(metrics::all(core)),
        ["debug", "api_priority_and_fairness", table] => {
            crate::flow::dump(&core.flow, table).ok_or_else(Status::no_such_path)
        }
        ["metrics", "slis"] => Ok(metrics::slis(core)),
        [".well-known", "openid-configuration"] => Ok(issuer::configuration(core)),
        ["openid", "v1", "jwks"] => Ok(issuer::keys(core)),
        _ => Err(Status::no_such_path()),
    }
}

/// The server's address without the scheme.
fn address(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

fn paths(catalogue: &Catalogue) -> Value {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(catalogue.paths());
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

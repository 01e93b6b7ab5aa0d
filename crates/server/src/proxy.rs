//! `proxy` of pods, services and nodes: requests that are passed on to what runs in the cluster, upgrades included.
//!
//! The name in the path is `[SCHEME:]NAME[:PORT]`. What is below `proxy` is the path there; redirects and links in HTML to
//! the same host are led back through the proxy. Certificates are not verified, as the address says who it is.
//!
//! A node's agent is reached as by everything else here. It is asked for what it tells, not to run or connect to anything: who
//! may do that to a pod is authorized by the pod's own subresources.

mod links;

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use xebec_api::{Reason, Status, Value, object};

use crate::admission::{self, Subject};
use crate::core::Core;
use crate::http::body::RequestBody;
use crate::http::reply::{self, Reply, ReplyBody};
use crate::http::route::Target;
use crate::outbound::{Endpoint, Trust, Unresolved};
use crate::registry::table::Served;
use crate::registry::{convert, read};
use crate::serve::Incoming;
use crate::streams;

/// Headers that are about one connection (RFC 9110, 7.6.1), and so go no further.
const HOP_BY_HOP: [&str; 7] = [
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];

/// The port at which nodes are said to listen; agents are reached otherwise, and have no other one.
const AGENT_PORT: &str = "10250";

/// What of a node's agent can be asked for, by the first part of its path.
const AGENT_PATHS: [&str; 4] = ["configz", "containerLogs", "healthz", "pods"];

/// Where a request goes.
#[derive(Debug)]
struct Location {
    place: Place,
    /// `10.42.0.7:8080`.
    authority: String,
    tls: bool,
}

#[derive(Debug)]
enum Place {
    Address(Endpoint),
    /// The agent of the node with this name.
    Agent(String),
}

/// Passes a request on to a pod or a service.
///
/// # Errors
/// 400 for a name that is none, or an address that may not be reached; 404; 503 if nobody is there.
pub(crate) async fn handle(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let path = rest(incoming.request.uri().path(), target).to_owned();
    let kind = match target.resource.as_str() {
        "pods" => "PodProxyOptions",
        "services" => "ServiceProxyOptions",
        "nodes" => "NodeProxyOptions",
        other => {
            return Err(Status::new(Reason::NotImplemented, format!("{other}/proxy is not implemented")));
        }
    };
    let mut options = object!({"apiVersion": "v1", "kind": kind});
    if !path.is_empty() {
        options.set(&["path"], path.as_str());
    }
    let subject = Subject::below(core, &incoming.context, served, target, "CONNECT")?;
    admission::admit(core, &subject, &mut options).await?;
    let location = match target.resource.as_str() {
        "pods" => pod(core, target).await?,
        "nodes" => node(core, target, &path).await?,
        _ => service(core, target).await?,
    };
    let reads = matches!(*incoming.request.method(), Method::GET | Method::HEAD);
    if path.is_empty() && reads && !incoming.request.headers().contains_key(UPGRADE) {
        return Ok(Reply::Response(to_directory(incoming.request.uri())?));
    }
    let before = incoming.request.uri().path();
    let prefix = before[..before.len() - path.len()].to_owned();
    let below = if path.is_empty() { "/".to_owned() } else { path };
    let trust = location.tls.then(|| Trust::danger_anybody(None)).transpose().map_err(Status::internal)?;
    let unreachable = |error: &dyn std::fmt::Display| {
        Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {error}"))
    };
    let stream = match &location.place {
        Place::Address(endpoint) => core.outbound.connect(endpoint, trust.as_ref()).await,
        Place::Agent(name) => core.nodes.connect(name).await,
    };
    let stream = stream.map_err(|e| unreachable(&e))?;
    let client = hyper::upgrade::on(&mut incoming.request);
    let request = outgoing(incoming, &below, &location)?;
    let passed = streams::pass(core, &incoming.shutdown, stream, client, request).await;
    let mut response = passed.map_err(|e| unreachable(&e))?;
    come_back(response.headers_mut(), &prefix, &location.authority);
    let lead = |link: &str| led_back(link, &prefix, &location.authority);
    links::led(response, lead).await.map(Reply::Response).map_err(|e| unreachable(&e))
}

/// What of the path is below `proxy`, as the client wrote it.
fn rest<'p>(path: &'p str, target: &Target) -> &'p str {
    // api, v1, namespaces, NAMESPACE, pods, NAME, proxy; without a namespace two less.
    let mut left = if target.namespace.is_empty() { 5 } else { 7 };
    let mut inside = false;
    for (at, byte) in path.bytes().enumerate() {
        match (byte == b'/', inside) {
            (true, true) if left == 0 => return &path[at..],
            (false, false) => {
                left -= 1;
                inside = true;
            }
            (true, _) => inside = false,
            (false, true) => {}
        }
    }
    ""
}

/// `[SCHEME:]NAME[:PORT]`.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty()).then_some((scheme, name, port))
}

async fn pod(core: &Core, target: &Target) -> Result<Location, Status> {
    let (scheme, name, port) = split(&target.name)
        .ok_or_else(|| Status::bad_request(format!("invalid pod request {:?}", target.name)))?;
    let pod = find(core, "pods", &target.namespace, name).await?;
    let tls = scheme == "https";
    let declared = || {
        let containers = pod.array_at(&["spec", "containers"]).iter();
        containers.flat_map(|c| c.array_at(&["ports"])).find_map(|p| p.i64_at(&["containerPort"]))
    };
    let port = match port {
        "" => declared().and_then(|port| u16::try_from(port).ok()).unwrap_or(if tls { 443 } else { 80 }),
        port => {
            port.parse().map_err(|_| Status::bad_request(format!("invalid pod request {:?}", target.name)))?
        }
    };
    let ip = pod.str_at(&["status", "podIP"]).unwrap_or_default();
    let ip = ip.parse::<IpAddr>().map_err(|_| Status::bad_request("address not allowed"))?;
    check(ip)?;
    let authority = std::net::SocketAddr::new(ip, port).to_string();
    Ok(Location { place: Place::Address(Endpoint::at(core, ip, port)), authority, tls })
}

async fn node(core: &Core, target: &Target, path: &str) -> Result<Location, Status> {
    let invalid = || Status::bad_request(format!("invalid node request {:?}", target.name));
    let (_, name, port) = split(&target.name).ok_or_else(invalid)?;
    find(core, "nodes", "", name).await?;
    if !matches!(port, "" | AGENT_PORT) {
        let text = format!(
            "the agent of node {name:?} has no port {port}: {AGENT_PORT} is the one that it is known by"
        );
        return Err(Status::bad_request(text));
    }
    let first = path.split('/').find(|part| !part.is_empty()).unwrap_or_default();
    if !first.is_empty() && !AGENT_PATHS.contains(&first) {
        let text = format!(
            "the agent of a node is not asked for {first:?} by nodes/proxy, but for {}; commands, connections and logs of \
             pods have subresources of their own",
            AGENT_PATHS.join(", ")
        );
        return Err(Status::new(Reason::NotFound, text));
    }
    Ok(Location { place: Place::Agent(name.to_owned()), authority: "node".to_owned(), tls: false })
}

async fn service(core: &Core, target: &Target) -> Result<Location, Status> {
    let (scheme, name, port) = split(&target.name)
        .ok_or_else(|| Status::bad_request(format!("invalid service request {:?}", target.name)))?;
    let service = find(core, "services", &target.namespace, name).await?;
    let unavailable = |text: String| Status::new(Reason::ServiceUnavailable, text);
    let port = match port.parse::<i64>() {
        Err(_) => port,
        Ok(number) => {
            let mut ports = service.array_at(&["spec", "ports"]).iter();
            let found = ports.find(|p| p.i64_at(&["port"]) == Some(number)).map(|p| p.str_at(&["name"]));
            found
                .ok_or_else(|| unavailable(format!("no service port {number} found for service {name:?}")))?
                .unwrap_or_default()
        }
    };
    let address =
        Endpoint::ready_address(core, &target.namespace, name, port).map_err(|error| match error {
            Unresolved::NoEndpoints(_) => {
                unavailable(format!("no endpoints available for service {:?}", target.name))
            }
            other => Status::internal(other),
        })?;
    check(address.ip())?;
    let endpoint = Endpoint::at(core, address.ip(), address.port());
    Ok(Location { place: Place::Address(endpoint), authority: address.to_string(), tls: scheme == "https" })
}

async fn find(core: &Core, resource: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let table = core.table.get();
    let row = table.row("", resource).ok_or_else(Status::no_such_path)?;
    convert::stored_object(read::find(&core.newest().await?, row, namespace, name)?)
}

/// Nobody may have the server call itself, or the link that it is on.
fn check(ip: IpAddr) -> Result<(), Status> {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast(),
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.to_ipv4_mapped().is_some()
        }
    };
    if local { Err(Status::bad_request("address not allowed")) } else { Ok(()) }
}

/// The root of what is proxied is a directory, or relative links in it would miss.
fn to_directory(uri: &Uri) -> Result<Response<ReplyBody>, Status> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{}/{query}", uri.path())).map_err(Status::internal)?;
    let mut response = Response::new(reply::full(Vec::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// The request as it goes on.
fn outgoing(
    incoming: &mut Incoming,
    below: &str,
    location: &Location,
) -> Result<Request<RequestBody>, Status> {
    let unfit = |_| Status::bad_request("the request's path cannot be passed on");
    let mut request = Request::new(std::mem::take(incoming.request.body_mut()));
    *request.method_mut() = incoming.request.method().clone();
    let uri = incoming.request.uri();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    *request.uri_mut() = format!("{below}{query}").parse().map_err(unfit)?;
    *request.headers_mut() = incoming.request.headers().clone();
    let headers = request.headers_mut();
    strip(headers);
    headers.remove(AUTHORIZATION);
    // Links can be led in what can be read.
    headers.remove(ACCEPT_ENCODING);
    let authority = HeaderValue::from_str(&location.authority).map_err(Status::internal)?;
    let forwarded = [
        ("x-forwarded-uri", Some(uri.path().to_owned())),
        (
            "x-forwarded-host",
            incoming.request.headers().get(HOST).and_then(|h| h.to_str().ok()).map(str::to_owned),
        ),
        ("x-forwarded-proto", Some("https".to_owned())),
    ];
    for (name, value) in forwarded {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(HOST, authority);
    Ok(request)
}

/// Takes away what is about the connection only, what it names included; an upgrade is passed on.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != UPGRADE)
        .collect();
    for name in named {
        headers.remove(name);
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
    if headers.contains_key(UPGRADE) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    } else {
        headers.remove(CONNECTION);
    }
}

/// What comes back is told of under the proxy's path, and speaks for no other origin.
fn come_back(headers: &mut HeaderMap, prefix: &str, authority: &str) {
    strip(headers);
    for name in [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
    ] {
        headers.remove(name);
    }
    let led =
        headers.get(LOCATION).and_then(|l| l.to_str().ok()).and_then(|l| led_back(l, prefix, authority));
    if let Some(value) = led.and_then(|l| HeaderValue::from_str(&l).ok()) {
        headers.insert(LOCATION, value);
    }
}

/// Where a redirect leads through the proxy, if it leads to the same host.
fn led_back(location: &str, prefix: &str, authority: &str) -> Option<String> {
    let path = match location.strip_prefix("http://").or_else(|| location.strip_prefix("https://")) {
        Some(rest) => match rest.strip_prefix(authority)? {
            "" => "/",
            path if path.starts_with('/') => path,
            _ => return None,
        },
        None if location.starts_with('/') && !location.starts_with("//") => location,
        None => return None,
    };
    if path.starts_with(prefix) { Some(path.to_owned()) } else { Some(format!("{prefix}{path}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, want: Option<(&str, &str, &str)>| assert_eq!(split(text), want, "{text}");
        check("a", Some(("", "a", "")));
        check("a:80", Some(("", "a", "80")));
        check("https:a:web", Some(("https", "a", "web")));
        check(":a:", Some(("", "a", "")));
        check("ftp:a:1", None);
        check("a:b:c:d", None);
        check(":80", None);
    }

    #[test]
    fn paths_below() {
        let check = |path: &str, namespace: &str, want: &str| {
            let target = Target { namespace: namespace.into(), ..Target::default() };
            assert_eq!(rest(path, &target), want, "{path}");
        };
        check("/api/v1/namespaces/a/pods/p/proxy", "a", "");
        check("/api/v1/namespaces/a/pods/p/proxy/", "a", "/");
        check("/api/v1/namespaces/a/pods/https:p:1/proxy/x%2Fy/", "a", "/x%2Fy/");
        check("/api/v1//namespaces/a/pods/p/proxy//x", "a", "//x");
        check("/api/v1/nodes/n/proxy/logs", "", "/logs");
    }

    #[test]
    fn redirects() {
        let check = |location: &str, want: Option<&str>| {
            assert_eq!(led_back(location, "/p/proxy", "10.0.0.1:80").as_deref(), want, "{location}");
        };
        check("/x", Some("/p/proxy/x"));
        check("http://10.0.0.1:80/x?y", Some("/p/proxy/x?y"));
        check("http://10.0.0.1:80", Some("/p/proxy/"));
        check("/p/proxy/x", Some("/p/proxy/x"));
        check("x/y", None);
        check("//other/x", None);
        check("http://10.0.0.1:8080/x", None);
        check("https://other/x", None);
    }

    #[test]
    fn addresses_that_are_not_for_others() {
        for (ip, good) in [
            ("10.42.0.7", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("fe80::1", false),
            ("fd00::1", true),
        ] {
            assert_eq!(check(ip.parse().expect("an address")).is_ok(), good, "{ip}");
        }
    }
}

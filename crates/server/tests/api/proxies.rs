//! `proxy` of pods and services, over a network in which pods are ports of the loopback.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use xebec_api::object;
use xebec_server::config::Settings;
use xebec_server::nodes::{Connecting, NodeConnector, NodeStream};

use crate::Checked;
use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;
use crate::hooks::Hook;

/// Every pod listens on the loopback; the agent of the node `n1` answers with the path that it is asked for.
pub(crate) struct Loopback;

impl NodeConnector for Loopback {
    fn connect<'a>(&'a self, name: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            if name != "n1" {
                return Err(std::io::Error::other(format!("there is no node {name}")));
            }
            let (server, agent) = tokio::io::duplex(64 * 1024);
            let echo = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
                let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
                async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(path))) }
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(agent), echo);
            tokio::spawn(serving);
            Ok(Box::new(server) as Box<dyn NodeStream>)
        })
    }

    fn dial(&self, address: SocketAddr) -> Connecting<'_> {
        Box::pin(async move {
            let stream = TcpStream::connect(("127.0.0.1", address.port())).await?;
            Ok(Box::new(stream) as Box<dyn NodeStream>)
        })
    }

    fn holds(&self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 10)
    }
}

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// What answers with the path that it was asked for, or a redirect.
async fn echo() -> Hook {
    Hook::start(&["localhost"], |path, _| {
        let mut response = Response::new(path.to_owned().into());
        if path == "/page" {
            response = Response::new(r#"<a href="/next">next</a>"#.into());
            response
                .headers_mut()
                .insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().expect("a header"));
        }
        if path == "/redirect" {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(LOCATION, "/elsewhere".parse().expect("a header"));
        }
        response
    })
    .await
}

/// A pod with an address, and a service that leads to it.
async fn populate(admin: &Client, port: u16) -> Checked {
    let account = object!({"metadata": {"name": "default"}});
    admin.send(Call::post(format!("{NAMESPACE}/serviceaccounts"), &account)).await.expect(201)?;
    let pod = object!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    admin.send(Call::post(format!("{NAMESPACE}/pods"), &pod)).await.expect(201)?;
    let status =
        object!({"status": {"phase": "Running", "podIP": "10.42.0.7", "podIPs": [{"ip": "10.42.0.7"}]}});
    admin.send(Call::patch(format!("{NAMESPACE}/pods/p/status"), MERGE_PATCH, &status)).await.expect(200)?;
    let service = object!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 443}]}});
    admin.send(Call::post(format!("{NAMESPACE}/services"), &service)).await.expect(201)?;
    let slice = object!({
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "ports": [{"name": "web", "port": (i64::from(port))}],
        "endpoints": [{"addresses": ["10.42.0.7"], "conditions": {"ready": true}}]
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    admin.send(Call::post(slices, &slice)).await.expect(201).map(drop)
}

#[tokio::test]
async fn requests_go_to_pods_and_services() -> Checked {
    let cluster = Cluster::start_among(Settings::default(), Arc::new(Loopback)).await;
    let admin = cluster.admin().await;
    let server = echo().await;
    let port = server.address.port();
    populate(&admin, port).await?;
    let pod = format!("{NAMESPACE}/pods/https:p:{port}/proxy");
    for place in [
        pod.clone(),
        format!("{NAMESPACE}/services/https:s:443/proxy"),
        format!("{NAMESPACE}/services/https:s:web/proxy"),
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        {
            let answer = admin.send(Call::new(method.clone(), format!("{place}/a%2Fb/?q=1"))).await;
            assert_eq!((answer.code, answer.text().as_str()), (200, "/a%2Fb/?q=1"), "{method} {place}");
        }
        let root = admin.get(&format!("{place}?q=1")).await;
        let location =
            |answer: &crate::client::Answer| answer.headers[LOCATION].to_str().unwrap_or_default().to_owned();
        assert_eq!((root.code, location(&root)), (301, format!("{place}/?q=1")));
        let page = admin.get(&format!("{place}/page")).await;
        assert_eq!(page.text(), format!("<a href=\"{place}/next\">next</a>"));
        let led = admin.get(&format!("{place}/redirect")).await;
        assert_eq!((led.code, location(&led)), (302, format!("{place}/elsewhere")));
    }
    let refusals = [
        (format!("{NAMESPACE}/pods/ftp:p:1/proxy/"), 400, "invalid pod request \"ftp:p:1\""),
        (format!("{NAMESPACE}/pods/none/proxy/"), 404, "pods \"none\" not found"),
        (format!("{NAMESPACE}/services/s:80/proxy/"), 503, "no service port 80 found for service \"s\""),
        (
            format!("{NAMESPACE}/services/s:other/proxy/"),
            503,
            "no endpoints available for service \"s:other\"",
        ),
        (
            format!("{NAMESPACE}/pods/p:1/proxy/"),
            503,
            "error trying to reach service: dial tcp 10.42.0.7:1: ",
        ),
    ];
    for (path, code, message) in refusals {
        let answer = admin.get(&path).await;
        assert_eq!(answer.code, code, "{}", answer.text());
        let text = answer.json().str_at(&["message"]).unwrap_or_default().to_owned();
        assert!(text.starts_with(message), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn webhooks_are_asked_about_connections_and_reached_as_services() -> Checked {
    let cluster = Cluster::start_among(Settings::default(), Arc::new(Loopback)).await;
    let admin = cluster.admin().await;
    let hook = Hook::start(&["s.default.svc"], |_, review| {
        let uid = review.str_at(&["request", "uid"]).unwrap_or_default();
        crate::hooks::answer(&object!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": uid, "allowed": false, "status": {"message": "no way"}}
        }))
    })
    .await;
    populate(&admin, hook.address.port()).await?;
    let configuration = object!({"metadata": {"name": "test"}, "webhooks": [{
        "name": "connect.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "service": {"namespace": "default", "name": "s", "path": "/connect"}, "caBundle": (hook.bundle.as_str())
        },
        "rules": [{"operations": ["CONNECT"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods/proxy"]}]
    }]});
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    admin.send(Call::post(hooks, &configuration)).await.expect(201)?;
    let answer = admin.get(&format!("{NAMESPACE}/pods/p:80/proxy/x")).await.expect(400)?;
    let message = r#"admission webhook "connect.example.com" denied the request: no way"#;
    assert_eq!(answer.str_at(&["message"]), Some(message));
    let request = hook.requests().pop().ok_or("the webhook was asked")?;
    assert_eq!(
        request.at(&["object"]),
        Some(&object!({"apiVersion": "v1", "kind": "PodProxyOptions", "path": "/x"}))
    );
    assert_eq!(
        (request.str_at(&["operation"]), request.str_at(&["subResource"])),
        (Some("CONNECT"), Some("proxy"))
    );
    assert_eq!(hook.seen()[0].0, "/connect?timeout=10s");
    Ok(())
}

#[tokio::test]
async fn a_nodes_agent_is_asked_for_what_it_tells() -> Checked {
    let cluster = Cluster::start_among(Settings::default(), Arc::new(Loopback)).await;
    let admin = cluster.admin().await;
    for name in ["n1", "n2"] {
        let node = object!({"metadata": {"name": name}});
        admin.send(Call::post("/api/v1/nodes", &node)).await.expect(201)?;
    }
    for (path, code, want) in [
        ("n1/proxy/pods", 200, "/pods"),
        ("n1:10250/proxy/containerLogs/a/b/c?tailLines=1", 200, "/containerLogs/a/b/c?tailLines=1"),
        ("https:n1:10250/proxy/healthz", 200, "/healthz"),
        ("n1:10255/proxy/healthz", 400, "has no port 10255"),
        ("n1/proxy/exec/a/b/c?command=x", 404, "subresources of their own"),
        ("n1/proxy//exec/a/b/c?command=x", 404, "subresources of their own"),
        ("none/proxy/healthz", 404, "nodes \\\"none\\\" not found"),
        ("n2/proxy/healthz", 503, "there is no node n2"),
    ] {
        let answer = admin.get(&format!("/api/v1/nodes/{path}")).await;
        assert_eq!(answer.code, code, "{path}: {}", answer.text());
        assert!(answer.text().contains(want), "{path}: {}", answer.text());
    }
    Ok(())
}

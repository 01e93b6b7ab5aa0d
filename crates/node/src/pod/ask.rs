//! Asking a container something, as probes and hooks do: a command in it, HTTP, HTTPS, a TCP connection, gRPC.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use xebec_network::netns::Netns;
use xebec_sandbox::config::{ContainerId, ExecConfig};
use xebec_sandbox::sandbox::Sandbox;

use super::run::chain;
use super::unverified;

/// How much of an answer is read, in bytes.
const MAX_OUTPUT: usize = 10 * 1024;
/// How long a connection may take where nothing else bounds it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a container is asked through.
#[derive(Clone)]
pub struct Target {
    /// The container's name.
    pub container: String,
    /// The run's id.
    pub id: String,
    /// Where commands run.
    pub sandbox: Arc<dyn Sandbox>,
    /// The pod's address.
    pub ip: Option<IpAddr>,
    /// Where the pod is dialled from.
    pub netns: Netns,
    /// The container's named ports.
    pub ports: Vec<(String, u16)>,
}

impl Target {
    /// The named ports of a container.
    #[must_use]
    pub fn ports_of(container: &Container) -> Vec<(String, u16)> {
        let ports = container.ports.iter().flatten();
        ports.filter_map(|p| Some((p.name.clone()?, u16::try_from(p.container_port).ok()?))).collect()
    }

    /// Runs a command; `Err` with what it wrote unless it ends well.
    pub(super) async fn run(&self, command: Vec<String>) -> Result<(), String> {
        let id: ContainerId = self.id.parse().map_err(|e: xebec_sandbox::config::InvalidId| e.to_string())?;
        let session = self.sandbox.exec(&id, ExecConfig::new(command)).await.map_err(|e| e.to_string())?;
        let collected = session.collect(MAX_OUTPUT).await.map_err(|e| e.to_string())?;
        match collected.exit {
            Some(exit) if exit.code() == 0 => Ok(()),
            Some(exit) => {
                let output = [collected.stdout, collected.stderr].concat();
                Err(format!("exit code {}: {}", exit.code(), String::from_utf8_lossy(&output)))
            }
            None => Err("the container ended".into()),
        }
    }

    /// Connects to a port of the pod's, or of another host.
    pub(super) async fn dial(&self, port: &IntOrString, host: Option<&str>) -> Result<TcpStream, String> {
        let port = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let named = self.ports.iter().find(|(n, _)| n == name).map(|(_, p)| *p);
                named.or_else(|| name.parse().ok())
            }
        };
        let port = port.ok_or("the port is none of the container's")?;
        let ip = match host.filter(|h| !h.is_empty()) {
            Some(host) => host.parse().map_err(|_| format!("the host {host:?} is no address"))?,
            None => self.ip.ok_or("the pod has no address")?,
        };
        let address = SocketAddr::new(ip, port);
        self.netns.tcp_connect(address, PATIENCE).await.map_err(|error| match error.io() {
            Some(why) => format!("cannot connect to {address}: {why}"),
            None => chain(&error),
        })
    }

    /// Gets a page; any status from 200 to 399 is good.
    pub(super) async fn get(&self, action: &HTTPGetAction) -> Result<(), String> {
        let stream = self.dial(&action.port, action.host.as_deref()).await?;
        let address = stream.peer_addr().map_err(|e| e.to_string())?;
        let request = request(action, address)?;
        let response = if action.scheme.as_deref() == Some("HTTPS") {
            // Which certificate a container shows is its own affair: a probe asks whether it answers.
            let tls = TlsConnector::from(unverified::config());
            let name = ServerName::from(address.ip());
            let stream = tls.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
            fetch(stream, request).await?
        } else {
            fetch(stream, request).await?
        };
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        }
    }

    /// Asks for the health of a gRPC service (`grpc.health.v1`).
    pub(super) async fn health(&self, action: &GRPCAction) -> Result<(), String> {
        let stream = self.dial(&IntOrString::Int(action.port), None).await?;
        let address = stream.peer_addr().map_err(|e| e.to_string())?;
        check_health(stream, &address.to_string(), action.service.as_deref().unwrap_or_default()).await
    }
}

async fn check_health(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authority: &str,
    service: &str,
) -> Result<(), String> {
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(Bytes::from(health_request(service))))
        .map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| chain(&e))?;
    let response = async {
        let response = sender.send_request(request).await.map_err(|e| chain(&e))?;
        let said = response.headers().get("grpc-status").cloned();
        let body = Limited::new(response.into_body(), MAX_OUTPUT).collect().await;
        let body = body.map_err(|e| e.to_string())?;
        let status = said.or_else(|| body.trailers()?.get("grpc-status").cloned());
        serving(status.as_ref().map(http::HeaderValue::as_bytes), &body.to_bytes())
    };
    driven(connection, response).await
}

fn request(action: &HTTPGetAction, address: SocketAddr) -> Result<Request<Empty<Bytes>>, String> {
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let mut request = Request::get(path).header("user-agent", "kube-probe/1.36").header("accept", "*/*");
    let mut named_host = false;
    for header in action.http_headers.iter().flatten() {
        named_host |= header.name.eq_ignore_ascii_case("host");
        request = request.header(&header.name, &header.value);
    }
    if !named_host {
        request = request.header("host", address.to_string());
    }
    request.body(Empty::new()).map_err(|e| e.to_string())
}

async fn fetch(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    driven(connection, async { sender.send_request(request).await.map_err(|e| chain(&e)) }).await
}

/// Waits for an answer while its connection is worked on. That the connection ended is told by the answer, which may
/// have come just before.
async fn driven<T, E: std::error::Error>(
    connection: impl Future<Output = Result<(), E>>,
    answer: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let drive = async {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a probe's connection ended early");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = drive => Err("the connection was closed".into()),
    }
}

/// A `HealthCheckRequest` as gRPC frames it: not compressed, its length, the field `service` = 1.
fn health_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// Whether a `HealthCheckResponse` says `SERVING`: status (field 1) is 1.
fn serving(status: Option<&[u8]>, body: &[u8]) -> Result<(), String> {
    const NAMES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
    match status {
        Some(b"0") => {}
        Some(b"12") => return Err("this server does not implement the grpc health protocol".into()),
        Some(other) => return Err(format!("gRPC status {}", String::from_utf8_lossy(other))),
        None => return Err("the answer has no gRPC status".into()),
    }
    let health = match body.get(5..) {
        Some([0x08, health, ..]) => usize::from(*health),
        Some([]) => 0,
        _ => return Err("the answer is no HealthCheckResponse".into()),
    };
    match NAMES.get(health) {
        Some(&"SERVING") => Ok(()),
        name => Err(format!("service unhealthy (responded with {:?})", name.unwrap_or(&"a status unknown"))),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::combinators::BoxBody;

    use super::*;

    #[test]
    fn health_is_asked_for_and_read() {
        assert_eq!(health_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(health_request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = health_request(&"x".repeat(300));
        assert_eq!((&long[..8], long.len()), (&[0, 0, 0, 1, 47, 0x0a, 0xac, 2][..], 308));
        let check = |status: Option<&str>, body: &[u8], want: Result<(), &str>| {
            let got = serving(status.map(str::as_bytes), body);
            assert_eq!(got.as_ref().map_err(String::as_str).copied(), want, "{status:?} {body:?}");
        };
        check(Some("0"), &[0, 0, 0, 0, 2, 8, 1], Ok(()));
        check(Some("0"), &[0, 0, 0, 0, 2, 8, 2], Err("service unhealthy (responded with \"NOT_SERVING\")"));
        check(Some("0"), &[0, 0, 0, 0, 0], Err("service unhealthy (responded with \"UNKNOWN\")"));
        check(Some("0"), &[], Err("the answer is no HealthCheckResponse"));
        check(Some("5"), &[], Err("gRPC status 5"));
        check(None, &[], Err("the answer has no gRPC status"));
    }

    /// A server of the health protocol that serves `good` and nothing else.
    async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        let asked = request.uri().path() == "/grpc.health.v1.Health/Check";
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let good = asked && body.ends_with(b"good");
        let message = Bytes::from_static(if good { &[0, 0, 0, 0, 2, 8, 1] } else { &[0, 0, 0, 0, 2, 8, 2] });
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let body = Full::new(message).with_trailers(async move { Some(Ok(trailers)) });
        Ok(Response::new(body.boxed()))
    }

    #[tokio::test]
    async fn a_health_server_is_asked() {
        for (service, want) in
            [("good", Ok(())), ("bad", Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()))]
        {
            let (near, far) = tokio::io::duplex(4096);
            let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(far), hyper::service::service_fn(answer));
            let server = tokio::spawn(serve);
            assert_eq!(check_health(near, "pod:1", service).await, want, "{service}");
            server.abort();
        }
    }
}

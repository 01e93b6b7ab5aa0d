//! Requests and what becomes of them.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::List;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xebec_sandbox::config::ExecConfig;

use super::command::{self, Channels, Kind, SpdyStreams, StreamError, Version};
use super::forward::{self, PortChannels, SpdyPairs};
use super::pods::{ContainerRef, PodRef, Pods};
use super::request::{self, Action, Streams};
use super::spdy::Carrier;
use super::status::Refusal;
use super::upgrade::{self, CarrierKind, Protocol};
use super::websocket::WebSocket;
use crate::logs;

/// The body of a response.
pub type AgentBody = UnsyncBoxBody<Bytes, io::Error>;

/// Most logs and streams that are served at a time.
const MAX_STREAMS: u32 = 1024;

const COMMAND_V5: Protocol = Protocol { carrier: CarrierKind::WebSocket, name: "v5.channel.k8s.io" };
const COMMAND_V4: Protocol = Protocol { carrier: CarrierKind::WebSocket, name: "v4.channel.k8s.io" };
const COMMAND_SPDY: Protocol = Protocol { carrier: CarrierKind::Spdy, name: "v4.channel.k8s.io" };
const FORWARD_TUNNEL: Protocol =
    Protocol { carrier: CarrierKind::WebSocket, name: "SPDY/3.1+portforward.k8s.io" };
const FORWARD_CHANNELS: Protocol = Protocol { carrier: CarrierKind::WebSocket, name: "v4.channel.k8s.io" };
const FORWARD_SPDY: Protocol = Protocol { carrier: CarrierKind::Spdy, name: "portforward.k8s.io" };

/// The agent's service. Cheap to clone.
///
/// Streams outlive the requests that began them; they are the service's and end with `shutdown`.
#[derive(Clone)]
pub struct AgentService {
    inner: Arc<Inner>,
}

struct Inner {
    pods: Arc<dyn Pods>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl AgentService {
    /// A service for the pods of this node.
    #[must_use]
    pub fn new(pods: Arc<dyn Pods>) -> Self {
        let inner = Inner {
            pods,
            places: Arc::new(Semaphore::new(MAX_STREAMS as usize)),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Serves HTTP/1.1 on one connection until it ends, is upgraded, or the service shuts down.
    ///
    /// # Errors
    /// When the other side breaks HTTP or the connection breaks.
    pub async fn serve<S>(&self, stream: S) -> Result<(), hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| async {
            Ok::<_, std::convert::Infallible>(self.handle(request).await)
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        tokio::select! {
            result = connection.as_mut() => return result,
            () = self.inner.shutdown.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    /// Answers one request.
    pub async fn handle(&self, mut request: Request<Incoming>) -> Response<AgentBody> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        match self.answer(&parts, upgrade) {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    /// Ends all streams and waits for them, at most for `patience`. Clients are told.
    ///
    /// Returns false when some did not end in time.
    pub async fn shutdown(&self, patience: Duration) -> bool {
        self.inner.shutdown.cancel();
        self.inner.tasks.close();
        tokio::time::timeout(patience, self.inner.tasks.wait()).await.is_ok()
    }

    /// Waits until nothing is served.
    #[cfg(test)]
    pub(super) async fn idle(&self) {
        let all = self.inner.places.acquire_many(MAX_STREAMS).await;
        drop(all.expect("the places are never closed"));
    }

    fn answer(
        &self,
        parts: &http::request::Parts,
        upgrade: OnUpgrade,
    ) -> Result<Response<AgentBody>, Refusal> {
        let path = parts.uri.path();
        let action = Action::parse(path)
            .ok_or_else(|| Refusal::not_found(format!("the node's agent has no such path: {path}")))?;
        let method_is_known = match action {
            Action::Logs(_) | Action::Health | Action::Pods | Action::Config => parts.method == Method::GET,
            _ => parts.method == Method::GET || parts.method == Method::POST,
        };
        if !method_is_known {
            return Err(Refusal::method_not_allowed(format!(
                "the method {} is not allowed here",
                parts.method
            )));
        }
        match action {
            Action::Logs(container) => self.logs(parts, &container),
            Action::Exec(container) => self.exec(parts, upgrade, container),
            Action::Attach(container) => self.attach(parts, upgrade, container),
            Action::PortForward(pod) => self.port_forward(parts, upgrade, pod),
            Action::Health => Ok(document("text/plain; charset=utf-8", "ok")),
            Action::Pods => {
                let items = self.inner.pods.list().iter().map(|pod| (**pod).clone()).collect();
                json(&List { items, metadata: ListMeta::default() })
            }
            Action::Config => json(&serde_json::json!({"kubeletconfig": self.inner.pods.settings()})),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.inner.places.clone().try_acquire_owned().map_err(|_| {
            Refusal::too_many(format!(
                "this node serves at most {MAX_STREAMS} logs and streams at a time; end some, or try again later"
            ))
        })
    }

    fn logs(
        &self,
        parts: &http::request::Parts,
        container: &ContainerRef,
    ) -> Result<Response<AgentBody>, Refusal> {
        let (options, run) = request::log_options(query(parts), SystemTime::now())?;
        let place = self.place()?;
        let source = self.inner.pods.log(container, run)?;
        let lines = logs::read(source, options, self.inner.shutdown.clone())
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let name = container.container.clone();
        let frames = lines.map(move |chunk| {
            let _held = &place;
            chunk.map(Frame::data).inspect_err(|error| {
                tracing::warn!(container = name, %error, "a log could not be read to its end");
            })
        });
        let mut response = Response::new(AgentBody::new(StreamBody::new(frames)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    fn exec(
        &self,
        parts: &http::request::Parts,
        upgrade: OnUpgrade,
        container: ContainerRef,
    ) -> Result<Response<AgentBody>, Refusal> {
        let streams = Streams::parse(query(parts))?;
        let mut config = ExecConfig::new(request::command(query(parts))?);
        config.tty = streams.tty;
        config.stdin = streams.stdin;
        let pods = self.inner.pods.clone();
        self.inner.pods.check_container(&container)?;
        let start = async move { pods.exec(&container, config).await };
        self.command(parts, upgrade, Kind::Exec, streams, start)
    }

    fn attach(
        &self,
        parts: &http::request::Parts,
        upgrade: OnUpgrade,
        container: ContainerRef,
    ) -> Result<Response<AgentBody>, Refusal> {
        let streams = Streams::parse(query(parts))?;
        let pods = self.inner.pods.clone();
        self.inner.pods.check_container(&container)?;
        let start = async move { pods.attach(&container).await };
        self.command(parts, upgrade, Kind::Attach, streams, start)
    }

    fn command(
        &self,
        parts: &http::request::Parts,
        upgrade: OnUpgrade,
        kind: Kind,
        streams: Streams,
        start: impl Future<Output = Result<super::Process, super::PodError>> + Send + 'static,
    ) -> Result<Response<AgentBody>, Refusal> {
        let protocol = upgrade::negotiate(&parts.headers, &[COMMAND_V5, COMMAND_V4, COMMAND_SPDY])?;
        let shutdown = self.inner.shutdown.clone();
        self.upgraded(parts, upgrade, protocol, async move |stream| match protocol.carrier {
            CarrierKind::WebSocket => {
                let version = if protocol == COMMAND_V5 { Version::V5 } else { Version::V4 };
                command::run(stream, kind, Channels::new(version, streams), start, shutdown).await
            }
            CarrierKind::Spdy => command::run(stream, kind, SpdyStreams::new(streams), start, shutdown).await,
        })
    }

    fn port_forward(
        &self,
        parts: &http::request::Parts,
        upgrade: OnUpgrade,
        pod: PodRef,
    ) -> Result<Response<AgentBody>, Refusal> {
        let protocol = upgrade::negotiate(&parts.headers, &[FORWARD_TUNNEL, FORWARD_CHANNELS, FORWARD_SPDY])?;
        let ports = if protocol == FORWARD_CHANNELS { request::ports(query(parts))? } else { Vec::new() };
        self.inner.pods.check_pod(&pod)?;
        let (pods, shutdown) = (self.inner.pods.clone(), self.inner.shutdown.clone());
        self.upgraded(parts, upgrade, protocol, async move |stream| {
            if protocol == FORWARD_CHANNELS {
                forward::run(stream, PortChannels::new(&ports), pods, pod, shutdown).await
            } else {
                let carrier = match protocol.carrier {
                    CarrierKind::WebSocket => Carrier::WebSocket(WebSocket::default()),
                    CarrierKind::Spdy => Carrier::Plain,
                };
                forward::run(stream, SpdyPairs::new(carrier), pods, pod, shutdown).await
            }
        })
    }

    /// Answers that the protocol changes, and runs `serve` on what the connection then is.
    fn upgraded<F, R>(
        &self,
        parts: &http::request::Parts,
        upgrade: OnUpgrade,
        protocol: Protocol,
        serve: F,
    ) -> Result<Response<AgentBody>, Refusal>
    where
        F: FnOnce(TokioIo<Upgraded>) -> R + Send + 'static,
        R: Future<Output = Result<(), StreamError>> + Send,
    {
        let response = upgrade::accept(&parts.headers, protocol)?;
        let place = self.place()?;
        let path = parts.uri.path().to_owned();
        self.inner.tasks.spawn(async move {
            let _held = place;
            match upgrade.await {
                Ok(stream) => {
                    if let Err(error) = serve(TokioIo::new(stream)).await {
                        tracing::debug!(path, %error, "a stream ended early");
                    }
                }
                Err(error) => tracing::debug!(path, %error, "a connection was not upgraded"),
            }
        });
        Ok(response)
    }
}

fn query(parts: &http::request::Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

fn document(kind: &'static str, text: impl Into<Bytes>) -> Response<AgentBody> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json(value: &impl serde::Serialize) -> Result<Response<AgentBody>, Refusal> {
    let text = serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(document("application/json", text))
}

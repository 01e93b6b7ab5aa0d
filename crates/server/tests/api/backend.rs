//! An API server of somebody else in the test's process: it serves `flunders` to whoever shows the front proxy's certificate,
//! and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use xebec_api::{Value, json, meta, object};

pub(crate) const GROUP_VERSION: &str = "wardle.example.com/v1alpha1";
const DISCOVERY: &str = "/apis/wardle.example.com/v1alpha1";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
const V3: &str = "/openapi/v3/apis/wardle.example.com/v1alpha1";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// A server that listens until it is dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// Its certificate, as API services name it.
    pub(crate) bundle: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    flunders: Mutex<Vec<Value>>,
    is_modern: bool,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Backend {
    /// A server for the service `sample-api` in `default`, which tells of everything at once if it is modern, and otherwise as
    /// servers did before. It takes clients of this authority only.
    pub(crate) async fn start(front_proxy_ca: &str, is_modern: bool) -> Self {
        let made =
            rcgen::generate_simple_self_signed(vec!["sample-api.default.svc".into()]).expect("a certificate");
        let chain = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(front_proxy_ca.as_bytes()).expect("PEM"))
            .expect("an authority");
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_client_cert_verifier(clients.build().expect("an authority"))
            .with_single_cert(vec![chain], key)
            .expect("a key for the certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { is_modern, ..Shared::default() });
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), shared.clone()));
        Self { address, bundle: STANDARD.encode(made.cert.pem()), shared, serving }
    }

    /// What was asked on a path so far.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        lock(&self.shared.seen).iter().filter(|seen| seen.path == path).cloned().collect()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            let served = Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
            drop(served);
        });
    }
}

fn reply(code: u16, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).expect("a code");
    response.headers_mut().insert(CONTENT_TYPE, kind.parse().expect("a type"));
    response
}

fn document(code: u16, value: &Value) -> Response<Body> {
    reply(code, "application/json", json::to_vec(value))
}

impl Shared {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let (method, headers) = (request.method().clone(), request.headers().clone());
        lock(&self.seen).push(Seen { path: path.clone(), headers: headers.clone() });
        if headers.contains_key(UPGRADE) {
            return echo(&mut request);
        }
        let body = request.into_body().collect().await.expect("a whole body").to_bytes();
        match (method, path.as_str()) {
            (Method::GET, "/apis") if self.is_modern => {
                let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                reply(200, kind, json::to_vec(&modern()))
            }
            (Method::GET, DISCOVERY) => document(200, &resources()),
            (Method::GET, "/openapi/v3") if self.is_modern => document(
                200,
                &object!({"paths": {"apis/wardle.example.com/v1alpha1": {
                    "serverRelativeURL": (format!("{V3}?hash=ABC123"))
                }}}),
            ),
            (Method::GET, V3 | "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC123")
                if self.is_modern =>
            {
                document(200, &object!({"openapi": "3.0.0", "info": {"title": "wardle"}}))
            }
            (Method::GET, "/openapi/v2") => document(200, &swagger()),
            (Method::GET, FLUNDERS) => document(
                200,
                &object!({
                    "apiVersion": GROUP_VERSION, "kind": "FlunderList", "metadata": {},
                    "items": (lock(&self.flunders).clone())
                }),
            ),
            (Method::POST, FLUNDERS) => {
                let mut flunder = json::from_slice(&body).expect("JSON");
                flunder.set(&["metadata", "uid"], "made-elsewhere");
                lock(&self.flunders).push(flunder.clone());
                document(201, &flunder)
            }
            (Method::GET, path) if path.contains("watch=") => self.watch(),
            (Method::DELETE, path) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                lock(&self.flunders).retain(|flunder| meta::name(flunder) != name);
                document(200, &object!({"kind": "Status", "status": "Success"}))
            }
            _ => reply(404, "text/plain", "404 page not found\n"),
        }
    }

    /// All flunders as events, and then nothing more.
    fn watch(&self) -> Response<Body> {
        let events: Vec<_> = lock(&self.flunders)
            .iter()
            .map(|flunder| {
                let mut line = json::to_vec(&object!({"type": "ADDED", "object": (flunder.clone())}));
                line.push(b'\n');
                Ok(Frame::data(Bytes::from(line)))
            })
            .collect();
        let frames = futures::stream::iter(events).chain(futures::stream::pending());
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a type"));
        response
    }
}

/// Sends back what comes after an upgrade.
fn echo(request: &mut Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    });
    let mut response = reply(101, "text/plain", "");
    response.headers_mut().insert(http::header::CONNECTION, "Upgrade".parse().expect("a value"));
    response.headers_mut().insert(UPGRADE, "echo".parse().expect("a value"));
    response
}

fn modern() -> Value {
    object!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{"metadata": {"name": "wardle.example.com"}, "versions": [{
            "version": "v1alpha1", "freshness": "Current", "resources": [{
                "resource": "flunders", "singularResource": "flunder", "scope": "Namespaced",
                "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
                "verbs": ["create", "delete", "get", "list", "watch"]
            }]
        }]}]
    })
}

fn resources() -> Value {
    object!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [{
            "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
            "verbs": ["create", "delete", "get", "list", "watch"]
        }]
    })
}

fn swagger() -> Value {
    let mut document = object!({
        "swagger": "2.0", "info": {"title": "wardle", "version": "1"},
        "paths": {"/other/": {"get": {"responses": {"200": {"description": "OK"}}}}},
        "definitions": {
            "com.example.wardle.Flunder": {"type": "object", "properties": {
                "spec": {"$ref": "#/definitions/com.example.wardle.Spec"}
            }},
            "com.example.wardle.Spec": {"type": "object"},
            "com.example.wardle.Unused": {"type": "object"}
        }
    });
    document.set(
        &["paths", FLUNDERS],
        object!({"get": {"responses": {"200": {
            "description": "OK", "schema": {"$ref": "#/definitions/com.example.wardle.Flunder"}
        }}}}),
    );
    document
}

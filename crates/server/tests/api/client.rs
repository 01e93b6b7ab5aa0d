//! A client that sends exactly what a test says, and shows exactly what came back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use xebec_api::{Value, json};
use xebec_server::auth::keys::Credential;

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// How long a test waits for the server.
const PATIENCE: Duration = Duration::from_secs(20);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One connection to the server, with who speaks on it.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Body>,
    token: Option<String>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path).body(JSON, json::to_vec(object))
    }

    pub(crate) fn put(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::PUT, path).body(JSON, json::to_vec(object))
    }

    pub(crate) fn patch(path: impl Into<String>, kind: &str, patch: &Value) -> Self {
        Self::new(Method::PATCH, path).body(kind, json::to_vec(patch))
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(crate) fn accept(mut self, types: &str) -> Self {
        self.headers.push((ACCEPT, types.to_owned()));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.push((CONTENT_TYPE, content_type.to_owned()));
        self.body = body.into();
        self
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The document, whatever the code.
    pub(crate) fn json(&self) -> Value {
        json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The document of an answer with this code.
    pub(crate) fn expect(&self, code: u16) -> Result<Value, String> {
        if self.code == code { Ok(self.json()) } else { Err(self.instead_of(code)) }
    }

    /// That the request was refused with this code and reason; the message.
    pub(crate) fn refused(&self, code: u16, reason: &str) -> Result<String, String> {
        let status = self.expect(code)?;
        let found = status.str_at(&["reason"]).unwrap_or_default();
        if found != reason || status.str_at(&["kind"]) != Some("Status") {
            return Err(format!("the reason is not {reason} in {}", self.text()));
        }
        Ok(status.str_at(&["message"]).unwrap_or_default().to_owned())
    }

    /// The text of a failure to get `code`.
    pub(crate) fn instead_of(&self, code: u16) -> String {
        format!("{} instead of {code}: {}", self.code, self.text())
    }

    /// The texts of the `Warning` headers.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let all = self.headers.get_all(http::header::WARNING).iter();
        all.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

impl Client {
    /// Connects, with a client certificate or without.
    pub(crate) async fn connect(address: SocketAddr, ca_pem: &str, credential: Option<&Credential>) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let name = ServerName::IpAddress(address.ip().into());
        let tls = TlsConnector::from(Arc::new(tls_config(ca_pem, credential)));
        let stream = tls.connect(name, stream).await.expect("the server's certificate is good");
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { sender, token: None }
    }

    /// The same connection with a bearer token in every request.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) async fn send(&self, call: Call) -> Answer {
        let body = Full::new(call.body.clone()).boxed_unsync();
        self.send_body(call, body).await
    }

    /// Sends a request but for the end of its body.
    pub(crate) fn begin(&self, call: Call) -> Begun {
        let (end, ended) = oneshot::channel::<()>();
        let begun = futures::stream::iter([Ok(Frame::data(call.body.clone()))]);
        let rest = futures::stream::once(async { drop(ended.await) }).filter_map(|()| async { None });
        let body = StreamBody::new(begun.chain(rest)).boxed_unsync();
        let client = self.clone();
        Begun { end, answer: tokio::spawn(async move { client.send_body(call, body).await }) }
    }

    async fn send_body(&self, call: Call, body: Body) -> Answer {
        let answer = async {
            let response = self.start(call, body).await;
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            Answer { code: head.status.as_u16(), headers: head.headers, body }
        };
        tokio::time::timeout(PATIENCE, answer).await.expect("the server answers")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Call::get(path)).await
    }

    /// Opens a watch; what is refused is answered at once.
    pub(crate) async fn watch(&self, path: &str) -> Result<Watch, String> {
        let start = self.start(Call::get(path), Full::default().boxed_unsync());
        let response = tokio::time::timeout(PATIENCE, start).await.expect("the server answers");
        if response.status().is_success() {
            return Ok(Watch { body: response.into_body(), pending: BytesMut::new() });
        }
        let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
        Err(String::from_utf8_lossy(&body).into_owned())
    }

    async fn start(&self, call: Call, body: Body) -> http::Response<Incoming> {
        // HTTP/2 wants the whole address; nobody looks at the host.
        let mut request = Request::builder().method(call.method).uri(format!("https://server{}", call.path));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body).expect("a request");
        self.sender.clone().send_request(request).await.expect("an answer")
    }
}

/// A request whose body has not ended.
pub(crate) struct Begun {
    end: oneshot::Sender<()>,
    answer: JoinHandle<Answer>,
}

impl Begun {
    /// Ends the body.
    pub(crate) async fn end(self) -> Answer {
        self.end.send(()).expect("the request goes on");
        self.answer.await.expect("an answer")
    }

    /// The answer to a body that does not end.
    pub(crate) async fn given_up(self) -> Answer {
        let answer = self.answer.await.expect("an answer");
        drop(self.end);
        answer
    }
}

/// An open watch.
pub(crate) struct Watch {
    body: Incoming,
    pending: BytesMut,
}

impl Watch {
    /// All that is still to come.
    pub(crate) async fn rest(self) -> Result<Bytes, String> {
        let rest = tokio::time::timeout(PATIENCE, self.body.collect()).await;
        let rest = rest.map_err(|_| "no end in time")?;
        rest.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
    }

    /// The next event; `None` when the server has ended the watch.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line = self.pending.split_to(end + 1);
                return json::from_slice(&line).map(Some).map_err(|error| error.to_string());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| "no event in time")? else { return Ok(None) };
            if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }
}

/// Opens a connection that speaks another protocol after an upgrade.
pub(crate) async fn upgrade(
    address: SocketAddr,
    ca_pem: &str,
    credential: &Credential,
    protocol: &str,
    path: &str,
) -> Result<TokioIo<Upgraded>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut config = tls_config(ca_pem, Some(credential));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.map_err(|e| text(&e))?;
    let name = ServerName::IpAddress(address.ip().into());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| text(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(path)
        .header(HOST, "server")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, protocol)
        .body(Full::<Bytes>::default())
        .map_err(|e| text(&e))?;
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.map_err(|e| text(&e))?;
    let answer = answer.map_err(|e| text(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| text(&e))?.to_bytes();
        return Err(format!("{code}: {}", String::from_utf8_lossy(&body)));
    }
    hyper::upgrade::on(answer).await.map(TokioIo::new).map_err(|e| text(&e))
}

fn tls_config(ca_pem: &str, credential: Option<&Credential>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match credential {
        None => config.with_no_client_auth(),
        Some(credential) => {
            let chain = CertificateDer::from_pem_slice(credential.certificate_pem.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes()).expect("PEM");
            config.with_client_auth_cert(vec![chain], key).expect("a key for the certificate")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

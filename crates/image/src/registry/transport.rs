//! HTTP requests with time limits, over TLS with the roots that belong to the host.
//!
//! HTTP/1.1 only: an image is a handful of large transfers, for which several connections do better than one shared
//! one.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::error::RegistryError;
use super::tls::TlsConfigs;
use super::{RegistryConfig, upload};

pub(super) type Body = BoxBody<Bytes, io::Error>;

/// Bytes per second below which sending counts as stuck.
const SLOWEST_UPLOAD: u64 = 32 << 10;
/// Bytes per second below which receiving does: else a byte now and then would hold a pull for ever.
const SLOWEST_DOWNLOAD: u64 = 4 << 10;

/// What a request carries. Kept until the request has succeeded, because it may have to be sent again.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    Empty,
    Bytes(Bytes),
    /// A part of a file.
    File {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
}

/// Sends requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: Client<Connector, Body>,
    plain: Arc<PlainHosts>,
    read_timeout: Duration,
}

/// Hosts that may be talked to without TLS.
#[derive(Debug)]
struct PlainHosts {
    insecure: Vec<String>,
    with_ca: Vec<String>,
    /// All that have settings, of whatever kind.
    named: Vec<String>,
}

impl PlainHosts {
    fn allows(&self, authority: &str) -> bool {
        self.insecure.iter().any(|host| host == authority)
            || (is_loopback(authority) && !self.with_ca.iter().any(|host| host == authority))
    }
}

impl Transport {
    pub(super) fn new(config: &RegistryConfig) -> Self {
        let hosts = |wanted: fn(&super::HostConfig) -> bool| {
            config.hosts.iter().filter(|(_, host)| wanted(host)).map(|(name, _)| name.clone()).collect()
        };
        let plain = PlainHosts {
            insecure: hosts(|host| host.danger_plain_http),
            with_ca: hosts(|host| !host.ca_files.is_empty()),
            named: hosts(|_| true),
        };
        let connector = Connector { tls: Arc::new(TlsConfigs::new(config)), timeout: config.connect_timeout };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(config.parallel.max(1))
            .build(connector);
        Self { client, plain: Arc::new(plain), read_timeout: config.read_timeout }
    }

    /// `https`, or `http` for hosts that are on this machine or named as insecure.
    pub(super) fn scheme_for(&self, authority: &str) -> &'static str {
        if self.plain.allows(authority) { "http" } else { "https" }
    }

    /// Refuses addresses that would be talked to without TLS.
    pub(super) fn check_scheme(&self, uri: &Uri) -> Result<(), RegistryError> {
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        match uri.scheme_str() {
            _ if authority.is_empty() || authority.contains('@') => Err(RegistryError::Address),
            Some("https") => Ok(()),
            Some("http") if self.plain.allows(authority) => Ok(()),
            Some("http") => Err(RegistryError::PlainHttp { host: host_of(uri) }),
            _ => Err(RegistryError::Address),
        }
    }

    /// Refuses to be led from TLS to plain HTTP, and to this machine's own services: what listens on the loopback is led
    /// to only by itself, unless it has settings. Otherwise whoever may name an image could have this program ask anything
    /// of them.
    pub(super) fn check_hop(&self, from: &Uri, to: &Uri) -> Result<(), RegistryError> {
        let fail = |what| Err(RegistryError::Redirect { host: host_of(from), what });
        if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
            return fail("it leads from TLS to plain HTTP");
        }
        let host = host_of(to);
        if is_loopback(&host) && from.authority() != to.authority() && !self.plain.named.contains(&host) {
            return fail("it leads to another service of this machine");
        }
        self.check_scheme(to)
    }

    /// Sends one request and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        payload: &Payload,
    ) -> Result<Response<Incoming>, RegistryError> {
        let host = host_of(uri);
        let mut request = Request::builder().method(method).uri(uri.clone());
        request = request.header(header::USER_AGENT, concat!("xebec/", env!("CARGO_PKG_VERSION")));
        let (body, length) = upload::body(payload).await?;
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut request = request.body(body).map_err(|_| RegistryError::Address)?;
        request.headers_mut().extend(headers.clone());
        let limit = self.read_timeout + Duration::from_secs(length.unwrap_or(0) / SLOWEST_UPLOAD);
        match tokio::time::timeout(limit, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| explain(host, &error)),
            Err(_) => Err(RegistryError::Timeout { host, limit }),
        }
    }

    /// Reads a body piece by piece.
    pub(super) fn download(&self, host: String, body: Incoming) -> Download {
        Download { host, body, period: self.read_timeout, waited: Duration::ZERO, came: 0 }
    }

    /// A whole body; nothing when it has more than `max` bytes.
    pub(super) async fn read_body(
        &self,
        host: &str,
        response: Response<Incoming>,
        max: u64,
    ) -> Result<Option<Bytes>, RegistryError> {
        let mut body = self.download(host.to_owned(), response.into_body());
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await? {
            bytes.extend_from_slice(&chunk);
            if u64::try_from(bytes.len()).is_ok_and(|size| size > max) {
                return Ok(None);
            }
        }
        Ok(Some(bytes.into()))
    }
}

/// A body on its way: no piece may take longer than a period, and no period may bring too little. Only time spent
/// waiting for the network counts, so that a slow disk here is not held against the registry.
pub(super) struct Download {
    host: String,
    body: Incoming,
    period: Duration,
    /// In the period that has begun: time, and bytes.
    waited: Duration,
    came: u64,
}

impl Download {
    /// The next piece; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let begun = Instant::now();
            let frame = match tokio::time::timeout(self.period, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broken(&self.host, &error)),
                Err(_) => {
                    return Err(RegistryError::Timeout { host: self.host.clone(), limit: self.period });
                }
            };
            if let Ok(data) = frame.into_data() {
                self.keep_pace(begun.elapsed(), data.len())?;
                return Ok(Some(data));
            }
        }
    }

    fn keep_pace(&mut self, waited: Duration, came: usize) -> Result<(), RegistryError> {
        self.waited += waited;
        self.came += u64::try_from(came).expect("a slice's length fits 64 bits");
        if self.waited < self.period {
            return Ok(());
        }
        let (waited, came) = (std::mem::take(&mut self.waited), std::mem::take(&mut self.came));
        if u128::from(came) * 1000 >= u128::from(SLOWEST_DOWNLOAD) * waited.as_millis() {
            return Ok(());
        }
        Err(RegistryError::Slow { host: self.host.clone(), came, waited, slowest: SLOWEST_DOWNLOAD })
    }
}

/// Host and port for messages and comparisons.
pub(super) fn host_of(uri: &Uri) -> String {
    uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default()
}

/// Whether two addresses are the same server: scheme, host and port.
pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port =
        |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("http") { Some(80) } else { Some(443) });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

fn is_loopback(authority: &str) -> bool {
    let host = authority.parse::<http::uri::Authority>();
    let host = host.as_ref().map(http::uri::Authority::host).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// hyper wraps what our connector said; dig it out.
fn explain(host: String, error: &hyper_util::client::legacy::Error) -> RegistryError {
    if !error.is_connect() {
        return broken(&host, error);
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return RegistryError::Connect { host, source: io::Error::new(io.kind(), io.to_string()) };
        }
        source = inner.source();
    }
    broken(&host, error)
}

fn broken(host: &str, error: &dyn std::error::Error) -> RegistryError {
    let mut reason = error.to_string();
    if let Some(source) = error.source() {
        reason = format!("{reason}: {source}");
    }
    RegistryError::Broken { host: host.to_owned(), reason }
}

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: Arc<TlsConfigs>,
    timeout: Duration,
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            tokio::time::timeout(connector.timeout, connector.connect(&uri)).await.map_err(|_| late())?
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> io::Result<Stream> {
        let host = uri.host().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = match host {
            // Plain HTTP is allowed there because it is this machine, so no resolver is asked.
            "localhost" => match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(tcp) => tcp,
                Err(_) => TcpStream::connect(("::1", port)).await?,
            },
            host => TcpStream::connect((host, port)).await?,
        };
        tcp.set_nodelay(true)?;
        if !secure {
            return Ok(Stream(TokioIo::new(Box::new(tcp))));
        }
        let tls = self.tls.connect(&host_of(uri), host, tcp).await?;
        Ok(Stream(TokioIo::new(Box::new(tls))))
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, with or without TLS.
pub(super) struct Stream(TokioIo<Box<dyn Io>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A body of bytes at hand.
pub(super) fn small_body(bytes: Bytes) -> Body {
    if bytes.is_empty() {
        return Empty::new().map_err(|never| match never {}).boxed();
    }
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// Per-host settings by host and port.
pub(super) type Hosts = BTreeMap<String, super::HostConfig>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let check = |a: &str, b: &str, same: bool| {
            let parse = |text: &str| text.parse::<Uri>().expect("an address");
            assert_eq!(same_origin(&parse(a), &parse(b)), same, "{a} {b}");
        };
        check("https://h.io/v2/", "https://h.io:443/other", true);
        check("https://h.io/", "https://H.IO/", true);
        check("https://h.io/", "http://h.io/", false);
        check("https://h.io/", "http://h.io:443/", false);
        check("https://h.io/", "https://h.io:444/", false);
        check("https://h.io/", "https://h.io.evil/", false);
        check("http://127.0.0.1:5000/", "http://localhost:5000/", false);
    }

    #[test]
    fn plain_http_only_here_or_where_named() {
        let mut config = RegistryConfig::default();
        let insecure = super::super::HostConfig { danger_plain_http: true, ..Default::default() };
        let with_ca = super::super::HostConfig { ca_files: vec!["ca.pem".into()], ..Default::default() };
        config.hosts.insert("insecure.io:5000".into(), insecure);
        config.hosts.insert("localhost:5443".into(), with_ca);
        let transport = Transport::new(&config);
        for (host, scheme) in [
            ("h.io", "https"),
            ("localhost", "http"),
            ("localhost:5000", "http"),
            ("localhost:5443", "https"),
            ("127.0.0.1:5000", "http"),
            ("127.8.8.8", "http"),
            ("[::1]:5000", "http"),
            ("128.0.0.1:5000", "https"),
            ("localhost.evil.io", "https"),
            ("insecure.io:5000", "http"),
            ("insecure.io", "https"),
        ] {
            assert_eq!(transport.scheme_for(host), scheme, "{host}");
        }
        let check = |uri: &str| transport.check_scheme(&uri.parse().expect("an address"));
        assert!(check("https://anything.io/x").is_ok());
        assert!(check("http://localhost:1/x").is_ok());
        assert!(matches!(check("http://h.io/x"), Err(RegistryError::PlainHttp { .. })));
        assert!(matches!(check("ftp://h.io/x"), Err(RegistryError::Address)));
        assert!(matches!(check("https://user:pass@h.io/x"), Err(RegistryError::Address)));
        assert!(matches!(check("/relative"), Err(RegistryError::Address)));
        let hop = |from: &str, to: &str| {
            let parse = |text: &str| text.parse::<Uri>().expect("an address");
            transport.check_hop(&parse(from), &parse(to)).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(hop("https://h.io/", "https://cdn.io/"), "");
        assert_eq!(hop("http://localhost:1/", "http://localhost:1/elsewhere"), "");
        assert!(
            hop("http://localhost:1/", "http://localhost:2/").contains("another service of this machine")
        );
        assert_eq!(hop("http://insecure.io:5000/", "https://cdn.io/"), "");
        assert!(hop("https://h.io/", "http://insecure.io:5000/").contains("from TLS to plain HTTP"));
        assert!(
            hop("http://insecure.io:5000/", "http://127.0.0.1:1/")
                .contains("another service of this machine")
        );
        assert!(hop("https://h.io/", "https://[::1]:1/").contains("another service of this machine"));
        assert!(hop("http://insecure.io:5000/", "http://other.io/").contains("without TLS"));
    }
}

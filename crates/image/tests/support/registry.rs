//! The real registry, a front that breaks what passes through it, and a token server.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

/// `user` with password `secret`, as htpasswd writes it.
const HTPASSWD: &str = "user:$2b$04$jTqaVW8Fd5BOK9oeAcNvF.sHh07o7oDnI8cujK3U2QvzsuKPf1TPC\n";

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Debian's `docker-registry`, on this machine, with a directory of its own. It ends with this value.
pub(crate) struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Registry {
    /// Without authentication.
    pub(crate) fn start() -> Self {
        Self::with("", |_| {})
    }

    /// With user and password.
    pub(crate) fn with_basic() -> Self {
        let auth = "auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n";
        Self::with(auth, |dir| fs::write(dir.join("htpasswd"), HTPASSWD).expect("written"))
    }

    /// With tokens from `server`.
    pub(crate) fn with_tokens(server: &TokenServer) -> Self {
        let auth = format!(
            "auth:\n  token:\n    realm: {}\n    service: registry\n    issuer: test\n    rootcertbundle: DIR/ca.pem\n",
            server.realm
        );
        Self::with(&auth, |dir| fs::write(dir.join("ca.pem"), &server.certificate_pem).expect("written"))
    }

    /// With TLS. The files are a certificate for `localhost` and its key.
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        let tls = "  tls:\n    certificate: DIR/cert.pem\n    key: DIR/key.pem\n";
        Self::with(tls, |dir| {
            fs::write(dir.join("cert.pem"), certificate).expect("written");
            fs::write(dir.join("key.pem"), key).expect("written");
        })
    }

    fn with(more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        prepare(dir.path());
        let root = dir.path().display().to_string();
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {root}/data\nhttp:\n  addr: 127.0.0.1:{port}\n"
        );
        config.push_str(&more.replace("DIR", &root));
        let path = dir.path().join("config.yml");
        fs::write(&path, config).expect("written");
        let log = fs::File::create(dir.path().join("log")).expect("created");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("docker-registry is needed by this test: install the package docker-registry");
        let mut registry = Self { child, dir, port };
        registry.wait();
        registry
    }

    /// Until it listens, for ten seconds at most.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("can be asked");
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "docker-registry ended: {}", log());
            assert!(Instant::now() < deadline, "docker-registry does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps a blob.
    pub(crate) fn blob_path(&self, hex: &str) -> PathBuf {
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("it ends");
    }
}

/// What the front does with a request.
pub(crate) enum Action {
    /// Hands it on.
    Forward,
    /// Hands it on, but breaks the connection after so many bytes of the answer.
    Cut(u64),
    /// Hands it on without its `Range`.
    WithoutRange,
    /// Hands it on and changes the first byte of the answer.
    Tamper,
    /// Hands it on and adds bytes to the answer, without a length.
    Longer,
    /// Waits before handing it on.
    Slow(Duration),
    /// Answers itself.
    Answer(StatusCode, Vec<(&'static str, String)>, Bytes),
    /// Answers with bytes that never end.
    Endless,
    /// The same, but one at a time, with a pause behind each.
    Drip(Duration),
}

/// A request that passed.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn is_blob_read(&self) -> bool {
        self.method == Method::GET && self.path.contains("/blobs/sha256:")
    }
}

type Decide = dyn Fn(&Seen) -> Action + Send + Sync;
type Answer = Response<BoxBody<Bytes, io::Error>>;

/// A server in front of a registry that does to requests what a test wants.
pub(crate) struct Front {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    pub(crate) async fn start(
        upstream: String,
        decide: impl Fn(&Seen) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared { upstream, decide: Box::new(decide), seen: Arc::clone(&seen) });
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move { Ok::<_, io::Error>(shared.handle(request).await) }
                    });
                    // A connection that a test breaks on purpose ends in an error.
                    let server = hyper::server::conn::http1::Builder::new();
                    drop(server.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self { port, seen, task }
    }

    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    pub(crate) fn blob_reads(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(Seen::is_blob_read).collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    upstream: String,
    decide: Box<Decide>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Shared {
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let seen = Seen { method: request.method().clone(), path, headers: request.headers().clone() };
        let action = (self.decide)(&seen);
        self.seen.lock().expect("not poisoned").push(seen);
        match action {
            Action::Forward => self.forward(request).await,
            Action::Slow(wait) => {
                tokio::time::sleep(wait).await;
                self.forward(request).await
            }
            Action::WithoutRange => {
                let mut request = request;
                request.headers_mut().remove(header::RANGE);
                self.forward(request).await
            }
            Action::Cut(bytes) => cut(self.forward(request).await, bytes),
            Action::Tamper => tamper(self.forward(request).await, None).await,
            Action::Longer => tamper(self.forward(request).await, Some(b"more")).await,
            Action::Answer(status, headers, body) => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                response.body(full(body)).expect("well formed")
            }
            Action::Endless => {
                let piece = Bytes::from(vec![b' '; 64 << 10]);
                let pieces = stream::repeat(piece).map(|piece| Ok::<_, io::Error>(Frame::data(piece)));
                Response::new(BodyExt::boxed(StreamBody::new(pieces)))
            }
            Action::Drip(pause) => {
                let pieces = stream::repeat(Bytes::from_static(b" ")).then(move |piece| async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, io::Error>(Frame::data(piece))
                });
                Response::new(BodyExt::boxed(StreamBody::new(pieces)))
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Answer {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        parts.uri = format!("http://{}{path}", self.upstream).parse().expect("an address");
        let client = Client::builder(TokioExecutor::new()).build_http();
        match client.request(Request::from_parts(parts, body)).await {
            Ok(response) => response.map(|body| body.map_err(io::Error::other).boxed()),
            Err(error) => {
                let body = full(Bytes::from(error.to_string()));
                Response::builder().status(StatusCode::BAD_GATEWAY).body(body).expect("well formed")
            }
        }
    }
}

fn full(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn cut(response: Answer, bytes: u64) -> Answer {
    response.map(|body| {
        let mut left = bytes;
        let pieces = body.into_data_stream().map(move |piece| {
            let mut piece = piece?;
            if left == 0 {
                return Err(io::Error::other("cut"));
            }
            piece.truncate(usize::try_from(left).expect("small"));
            left -= u64::try_from(piece.len()).expect("small");
            Ok(Frame::data(piece))
        });
        // An error even if the body was shorter.
        let end = stream::once(async { Err(io::Error::other("cut")) });
        BodyExt::boxed(StreamBody::new(pieces.chain(end)))
    })
}

async fn tamper(response: Answer, more: Option<&'static [u8]>) -> Answer {
    let (mut parts, body) = response.into_parts();
    let mut bytes = body.collect().await.expect("readable").to_bytes().to_vec();
    match more {
        Some(more) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            bytes.extend_from_slice(more);
        }
        None => {
            if let Some(first) = bytes.first_mut() {
                *first ^= 1;
            }
        }
    }
    Response::from_parts(parts, full(bytes.into()))
}

/// Hands out tokens that `docker-registry` accepts: everything to `user:secret`, reading of `public/…` to anyone, and
/// everything to the refresh token `refresh`.
pub(crate) struct TokenServer {
    pub(crate) realm: String,
    pub(crate) certificate_pem: String,
    front: Front,
}

impl TokenServer {
    pub(crate) async fn start() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["test".to_owned()])
            .expect("a name")
            .self_signed(&key)
            .expect("signed");
        let der = certificate.der().to_vec();
        let pkcs8 = key.serialize_der();
        let front = Front::start(String::new(), move |seen| issue(seen, &pkcs8, &der)).await;
        let realm = format!("http://{}/token", front.authority());
        Self { realm, certificate_pem: certificate.pem(), front }
    }

    pub(crate) fn authority(&self) -> String {
        self.front.authority()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.front.seen()
    }
}

fn issue(seen: &Seen, pkcs8: &[u8], certificate: &[u8]) -> Action {
    let expected = format!("Basic {}", STANDARD.encode("user:secret"));
    let given = seen.headers.get(header::AUTHORIZATION).map(|value| value.to_str().expect("text").to_owned());
    let known = match &given {
        None => seen.method == Method::POST,
        Some(given) if *given == expected => true,
        Some(_) => return Action::Answer(StatusCode::UNAUTHORIZED, Vec::new(), Bytes::new()),
    };
    let query =
        seen.path.split_once('?').map_or("", |(_, query)| query).replace("%3A", ":").replace("%2F", "/");
    let query = query.replace("%2C", ",");
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let mut access: Vec<String> = scopes.filter_map(|scope| grant(scope, known)).collect();
    if seen.method == Method::POST {
        access.push(r#"{"type":"repository","name":"team/app","actions":["pull","push"]}"#.to_owned());
    }
    let token = sign(&access.join(","), pkcs8, certificate);
    let body = Bytes::from(format!(r#"{{"access_token":"{token}","expires_in":60}}"#));
    Action::Answer(StatusCode::OK, vec![("content-type", "application/json".to_owned())], body)
}

fn grant(scope: &str, known: bool) -> Option<String> {
    let mut parts = scope.split(':');
    let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
    let granted = if known {
        actions.to_owned()
    } else if name.starts_with("public/") {
        "pull".to_owned()
    } else {
        return None;
    };
    let actions: Vec<String> = granted.split(',').map(|action| format!("\"{action}\"")).collect();
    Some(format!(r#"{{"type":"{kind}","name":"{name}","actions":[{}]}}"#, actions.join(",")))
}

fn sign(access: &str, pkcs8: &[u8], certificate: &[u8]) -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let header = format!(r#"{{"typ":"JWT","alg":"ES256","x5c":["{}"]}}"#, STANDARD.encode(certificate));
    let mut claims = String::from(r#"{"iss":"test","sub":"user","aud":"registry","jti":"1","#);
    write!(claims, r#""nbf":{},"iat":{now},"exp":{},"access":[{access}]}}"#, now - 60, now + 60)
        .expect("memory");
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).expect("a key");
    let signature = key.sign(&random, signed.as_bytes()).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

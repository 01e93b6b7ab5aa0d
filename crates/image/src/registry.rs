//! A client for OCI registries: pull and push, with resumption, retries, token authentication.
//!
//! ```text
//! Client::session(image, credentials) ─ Session ─┬ manifest(tag | digest)      GET   /v2/<name>/manifests/<ref>
//!                                                ├ blob(digest, from byte)     GET   /v2/<name>/blobs/<digest>
//!                                                └ upload, mount, put_manifest POST, PATCH, PUT
//! pull: manifest → platform's manifest → configuration and layers, some at a time, into the content store
//! push: the other way round
//! ```
//!
//! A session is for one repository with one set of credentials, and tokens live only in it, so what one pull secret
//! opens is not open to another. `Authorization` goes to the registry's own origin (scheme, host and port) and nowhere
//! else, whatever it redirects to; a redirect never leads from TLS to plain HTTP. Plain HTTP is for registries on this
//! machine and those that the configuration calls insecure. Certificates are always verified.
//!
//! Bytes are streamed: a pull holds some pieces of 16 KiB per layer. Every request has time limits, every failure that
//! may pass is tried again a bounded number of times, and a layer continues where it broke off.
//!
//! Why not a ready client: `oci-client` buffers manifests without a bound, neither retries nor resumes, leaves
//! redirects to its HTTP library, and would bring a second HTTP client and a second SHA-2 into the program.
//!
//! Spec: OCI distribution spec 1.1; token authentication of the CNCF distribution project.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::digest::Digest;
use crate::limits::Exceeded;
use crate::media;
use crate::quote::clip;
use crate::reference::Reference;

mod auth;
mod credentials;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod pull;
mod push;
mod retry;
mod tls;
mod transport;
mod upload;

pub use credentials::{Credentials, CredentialsError, Keyring, Secret};
pub use error::RegistryError;
pub use pull::{Downloads, PullError, pull};
pub use push::{PushError, push};
pub use retry::RetryPolicy;

use auth::Challenge;
use transport::{Download, Payload, Transport, host_of, same_origin};

/// Where the default registry really is.
const DEFAULT_REGISTRY: (&str, &str) = ("docker.io", "registry-1.docker.io");
const MAX_REDIRECTS: u32 = 5;
/// Largest description of an error that is read.
const MAX_ERROR: u64 = 64 << 10;

/// How to talk to registries.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Settings by host, or `host:port` where the image name has a port.
    pub hosts: BTreeMap<String, HostConfig>,
    /// Blobs of one image that are transferred at the same time.
    pub parallel: usize,
    /// For a connection, TLS included.
    pub connect_timeout: Duration,
    /// For an answer, and for each next piece of it.
    pub read_timeout: Duration,
    /// What to do about failures that may pass.
    pub retry: RetryPolicy,
    /// Sends blobs in pieces of this many bytes instead of as a whole.
    pub upload_chunk: Option<u64>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            parallel: 3,
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            upload_chunk: None,
        }
    }
}

/// Settings of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// PEM files with certificate authorities that are trusted for this host, besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Talk to it without TLS. Anyone on the way can then read credentials and, where tags are pulled, replace images.
    pub danger_plain_http: bool,
}

/// A client. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    parallel: usize,
    retry: RetryPolicy,
    upload_chunk: Option<u64>,
}

impl Client {
    /// A client; connects to nobody yet.
    pub fn new(config: &RegistryConfig) -> Self {
        Self {
            transport: Transport::new(config),
            parallel: config.parallel.max(1),
            retry: config.retry.clone(),
            upload_chunk: config.upload_chunk,
        }
    }

    /// A session for the repository of `image`.
    ///
    /// # Errors
    /// When the registry's name cannot be an address.
    pub fn session(&self, image: &Reference, credentials: Credentials) -> Result<Session, RegistryError> {
        let (name, address) = DEFAULT_REGISTRY;
        let authority = if image.registry() == name { address } else { image.registry() };
        let scheme = self.transport.scheme_for(authority);
        let origin = format!("{scheme}://{authority}/").parse().map_err(|_| RegistryError::Address)?;
        Ok(Session {
            client: self.clone(),
            origin,
            repository: image.repository().to_owned(),
            credentials,
            scopes: Mutex::new(vec![format!("repository:{}:pull", image.repository())]),
            authorization: Mutex::new(None),
        })
    }
}

/// Access to one repository with one set of credentials.
#[derive(Debug)]
pub struct Session {
    client: Client,
    origin: Uri,
    repository: String,
    credentials: Credentials,
    scopes: Mutex<Vec<String>>,
    authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest as it came.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// What the registry says they are.
    pub content_type: Option<String>,
}

/// A request that may have to be sent several times.
struct Call<'a> {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    payload: Payload,
    /// For error messages.
    what: &'a str,
}

impl<'a> Call<'a> {
    fn new(method: Method, uri: Uri, what: &'a str) -> Self {
        Self { method, uri, headers: HeaderMap::new(), payload: Payload::Empty, what }
    }
}

impl Session {
    /// Host and port of the registry.
    pub fn host(&self) -> String {
        host_of(&self.origin)
    }

    /// Gets a manifest by tag or digest. What comes is bounded by `max` and not verified yet.
    ///
    /// # Errors
    /// When it is not there, access is denied, or the registry cannot be reached.
    pub async fn manifest(&self, tag_or_digest: &str, max: u64) -> Result<RawManifest, RegistryError> {
        let what = format!("{}:{tag_or_digest}", self.repository);
        let mut call = Call::new(Method::GET, self.uri(&format!("manifests/{tag_or_digest}"))?, &what);
        let accept = HeaderValue::from_str(&media::ACCEPT_MANIFESTS.join(", "));
        call.headers.insert(header::ACCEPT, accept.map_err(|_| RegistryError::Address)?);
        let response = self.call(call, &[StatusCode::OK]).await?;
        let content_type = text_header(&response, &header::CONTENT_TYPE);
        let bytes = self.client.transport.read_body(&self.host(), response, max).await?;
        let too_large =
            || Exceeded { what: format!("an answer of {}", self.host()), limit: "manifest_bytes", max };
        Ok(RawManifest { bytes: bytes.ok_or_else(too_large)?, content_type })
    }

    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let what = format!("blob {digest}");
        let call = Call::new(Method::HEAD, self.uri(&format!("blobs/{digest}"))?, &what);
        match self.call(call, &[StatusCode::OK]).await {
            Ok(_) => Ok(true),
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts reading a blob at byte `from`. Returns the body and the byte at which it really starts, which is 0 when
    /// the registry cannot resume.
    async fn blob(&self, digest: &Digest, from: u64) -> Result<(Download, u64), RegistryError> {
        let what = format!("blob {digest}");
        let mut call = Call::new(Method::GET, self.uri(&format!("blobs/{digest}"))?, &what);
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            call.headers.insert(header::RANGE, range.map_err(|_| RegistryError::Address)?);
        }
        let response = self.call(call, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT]).await?;
        let download =
            |response: Response<Incoming>| self.client.transport.download(self.host(), response.into_body());
        if response.status() == StatusCode::OK {
            return Ok((download(response), 0));
        }
        let range = text_header(&response, &header::CONTENT_RANGE).unwrap_or_default();
        let start = range.strip_prefix("bytes ").and_then(|range| range.split('-').next());
        match start.and_then(|start| start.trim().parse::<u64>().ok()) {
            Some(start) if start == from => Ok((download(response), start)),
            _ => Err(RegistryError::Range { host: self.host(), blob: digest.clone() }),
        }
    }

    fn uri(&self, rest: &str) -> Result<Uri, RegistryError> {
        let text = format!("{}v2/{}/{rest}", self.origin, self.repository);
        text.parse().map_err(|_| RegistryError::Address)
    }

    /// Sends a call, answering one challenge and following redirects of reads.
    async fn call(
        &self,
        mut call: Call<'_>,
        wanted: &[StatusCode],
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut challenged = false;
        let mut redirects = 0;
        loop {
            let ours = same_origin(&call.uri, &self.origin);
            call.headers.remove(header::AUTHORIZATION);
            if let Some(value) = self.authorization().filter(|_| ours) {
                call.headers.insert(header::AUTHORIZATION, value);
            }
            self.client.transport.check_scheme(&call.uri)?;
            let transport = &self.client.transport;
            let response =
                transport.send(call.method.clone(), &call.uri, &call.headers, &call.payload).await?;
            let status = response.status();
            let reads = matches!(call.method, Method::GET | Method::HEAD);
            if wanted.contains(&status) {
                return Ok(response);
            } else if status == StatusCode::UNAUTHORIZED && ours && !challenged {
                challenged = true;
                if !self.answer(&response).await? {
                    return Err(self.refusal(&call, response).await);
                }
                // Read to its end, the connection can be used again.
                drop(transport.read_body(&self.host(), response, MAX_ERROR).await);
            } else if status.is_redirection() && reads && redirects < MAX_REDIRECTS {
                redirects += 1;
                call.uri = self.redirect(&call.uri, &response)?;
            } else {
                return Err(self.refusal(&call, response).await);
            }
        }
    }

    /// Where a redirect leads, if it may be followed.
    fn redirect(&self, from: &Uri, response: &Response<Incoming>) -> Result<Uri, RegistryError> {
        let fail = |what| RegistryError::Redirect { host: host_of(from), what };
        let location =
            text_header(response, &header::LOCATION).ok_or_else(|| fail("it does not say where to"))?;
        let target = resolve(from, &location).ok_or_else(|| fail("it leads to an invalid address"))?;
        self.client.transport.check_hop(from, &target)?;
        Ok(target)
    }

    /// Gets what a challenge asks for; false when there is nothing to answer it with.
    async fn answer(&self, response: &Response<Incoming>) -> Result<bool, RegistryError> {
        let Some(challenge) = Challenge::from_headers(response.headers()) else { return Ok(false) };
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let transport = &self.client.transport;
        let answer = auth::answer(transport, &self.origin, &challenge, &self.credentials, &scopes).await?;
        let answered = answer.is_some();
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        Ok(answered)
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for more rights when the next challenge comes.
    fn widen(&self, scopes: impl IntoIterator<Item = String>) {
        let mut all = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(scopes);
    }

    /// What an unwanted answer means.
    async fn refusal(&self, call: &Call<'_>, response: Response<Incoming>) -> RegistryError {
        let status = response.status();
        let (host, what) = (host_of(&call.uri), call.what.to_owned());
        if status == StatusCode::NOT_FOUND {
            return RegistryError::NotFound { what, host };
        }
        let retry_after = text_header(&response, &header::RETRY_AFTER).and_then(|text| text.parse().ok());
        let retry_after = retry_after.map(Duration::from_secs);
        let body = self.client.transport.read_body(&host, response, MAX_ERROR).await;
        // Only the registry's words are lost with it; the status says enough.
        let message = body.ok().flatten().map(|body| message_of(&body)).unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied { what, host, message },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { host, retry_after, message },
            status if status.is_redirection() => {
                RegistryError::Redirect { host, what: "there are too many, or one where none belongs" }
            }
            status => RegistryError::Status { what, host, status: status.as_u16(), message },
        }
    }
}

/// An address as seen from another: absolute, or a path on the same host.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return location.parse().ok();
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}").parse().ok();
    }
    None
}

fn text_header(response: &Response<Incoming>, name: &header::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The words in a registry's error document.
fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(errors) = serde_json::from_slice::<Errors>(body) else { return String::new() };
    let words = errors.errors.iter().map(|item| match (item.code.as_str(), item.message.as_str()) {
        (code, "") => code.to_owned(),
        ("", message) => message.to_owned(),
        (code, message) => format!("{code}: {message}"),
    });
    clip(&words.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let base: Uri = "https://h.io:5000/v2/a/blobs/x".parse().expect("an address");
        let check = |location: &str, expected: Option<&str>| {
            let resolved = resolve(&base, location).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), expected, "{location}");
        };
        check("https://cdn.io/x?sig=1", Some("https://cdn.io/x?sig=1"));
        check("/v2/x", Some("https://h.io:5000/v2/x"));
        check("//cdn.io/x", Some("https://cdn.io/x"));
        check("relative", None);
        check("http://[bad", None);
    }

    #[test]
    fn the_default_registry_has_an_address_of_its_own() {
        let client = Client::new(&RegistryConfig::default());
        let host = |image: &str| {
            let image = Reference::parse(image).expect("a name");
            client.session(&image, Credentials::Anonymous).expect("an address").origin.to_string()
        };
        assert_eq!(host("nginx"), "https://registry-1.docker.io/");
        assert_eq!(host("h.io:5000/a"), "https://h.io:5000/");
        assert_eq!(host("localhost:5000/a"), "http://localhost:5000/");
        assert_eq!(host("[::1]:5000/a"), "http://[::1]:5000/");
    }

    #[test]
    fn words_of_registries() {
        let check = |body: &str, expected: &str| assert_eq!(message_of(body.as_bytes()), expected);
        check(r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#, "DENIED: no; X");
        check(r#"{"errors":[]}"#, "");
        check("<html>", "");
    }
}

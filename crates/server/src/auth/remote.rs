//! Somebody who is called for what they know of users: an issuer of tokens, a webhook.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::Full;

use crate::core::Core;
use crate::outbound::{CallError, Endpoint, Limits, Trust, Unresolved};

/// How many bytes an answer may have.
const LONGEST: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum RemoteError {
    #[error("{0:?} is no address of the form https://HOST")]
    Address(String),
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// How somebody is called.
#[derive(Clone)]
pub struct Remote {
    trust: Trust,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote(..)")
    }
}

impl Remote {
    /// Calls those whom the trust lets pass.
    #[must_use]
    pub const fn new(trust: Trust) -> Self {
        Self { trust, authorization: None }
    }

    /// Shows this in the header `Authorization`.
    #[must_use]
    pub fn with_authorization(self, value: HeaderValue) -> Self {
        Self { authorization: Some(value), ..self }
    }

    /// Calls, and waits for the whole answer.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn call(
        &self,
        core: &Core,
        mut request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, RemoteError> {
        if !is_https(request.uri()) {
            return Err(RemoteError::Address(request.uri().to_string()));
        }
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let endpoint = Endpoint::of_url(core, request.uri())?;
        let limits = Limits { timeout, answer: LONGEST };
        Ok(core.outbound.call(&endpoint, &self.trust, request, limits).await?)
    }
}

/// Whether an address can be called.
#[must_use]
pub fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Somebody to call: HTTPS on the loopback.

    use std::net::SocketAddr;
    use std::sync::Arc;

    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use rustls::ServerConfig;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::{Bytes, Full, Request};
    use crate::auth::keys::ClusterKeys;

    /// A server whose certificate is of an authority of its own.
    pub(crate) struct Host {
        pub(crate) address: SocketAddr,
        pub(crate) ca_pem: String,
    }

    impl Host {
        pub(crate) async fn start<F>(answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
        where
            F: Future<Output = http::Response<Full<Bytes>>> + Send + 'static,
        {
            let dir = tempfile::tempdir().expect("a directory");
            let keys = ClusterKeys::open(dir.path(), &ring::rand::SystemRandom::new()).expect("keys");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let own = keys.serving(&["localhost"], &[address.ip()]).expect("a certificate");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("protocols")
                .with_no_client_auth()
                .with_single_cert(
                    vec![CertificateDer::from_pem_slice(own.certificate_pem.as_bytes()).expect("PEM")],
                    PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("PEM"),
                )
                .expect("usable");
            let (acceptor, answer) = (TlsAcceptor::from(Arc::new(config)), Arc::new(answer));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, answer) = (acceptor.clone(), answer.clone());
                    tokio::spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let service = service_fn(move |request| {
                            let answer = answer(request);
                            async move { Ok::<_, std::convert::Infallible>(answer.await) }
                        });
                        let served = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                        drop(served);
                    });
                }
            });
            Self { address, ca_pem: keys.ca_pem().to_owned() }
        }

        pub(crate) fn url(&self, path: &str) -> String {
            format!("https://{}{path}", self.address)
        }
    }

    pub(crate) fn json(text: impl Into<Bytes>) -> http::Response<Full<Bytes>> {
        http::Response::new(Full::new(text.into()))
    }
}

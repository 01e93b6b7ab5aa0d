//! A webhook in the test's process: real TLS, HTTP/1.1 and HTTP/2, and every request remembered.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use xebec_api::{Value, json, object};

/// What is answered to a request with this path and query, and body.
type Handler = dyn Fn(&str, &Value) -> Response<Full<Bytes>> + Send + Sync;

/// A server that listens until it is dropped.
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    /// Its certificate, as configurations name it.
    pub(crate) bundle: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    serving: JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Hook {
    /// A webhook that answers reviews with this response; the request's `uid` is added.
    pub(crate) async fn reviewing(respond: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::start(&["localhost"], move |_, review| {
            let mut response = respond(review.get("request").unwrap_or(&Value::Null));
            response.set(&["uid"], review.str_at(&["request", "uid"]).unwrap_or_default());
            answer(&object!({
                "apiVersion": (review.str_at(&["apiVersion"]).unwrap_or_default()),
                "kind": "AdmissionReview", "response": response
            }))
        })
        .await
    }

    /// A server with a certificate for these names.
    pub(crate) async fn start(
        names: &[&str],
        handler: impl Fn(&str, &Value) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let chain = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a key for the certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serving = tokio::spawn(serve(listener, acceptor, Arc::new(handler), seen.clone()));
        Self { address, bundle: STANDARD.encode(made.cert.pem()), seen, serving }
    }

    /// A client configuration that reaches it by a URL.
    pub(crate) fn client_config(&self) -> Value {
        object!({
            "url": (format!("https://localhost:{}/review", self.address.port())),
            "caBundle": (self.bundle.as_str())
        })
    }

    /// The requests of the reviews so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.seen().into_iter().filter_map(|(_, review)| review.get("request").cloned()).collect()
    }

    /// All that was asked so far, by path.
    pub(crate) fn seen(&self) -> Vec<(String, Value)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A JSON answer.
pub(crate) fn answer(value: &Value) -> Response<Full<Bytes>> {
    Response::new(Full::from(json::to_vec(value)))
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handler: Arc<Handler>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, handler, seen) = (acceptor.clone(), handler.clone(), seen.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let (handler, seen) = (handler.clone(), seen.clone());
                async move {
                    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
                    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
                    let value = json::from_slice(&body).unwrap_or_default();
                    let response = handler(&path, &value);
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push((path, value));
                    Ok::<_, Infallible>(response)
                }
            });
            let served =
                Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            drop(served);
        });
    }
}

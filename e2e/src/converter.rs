//! A webhook that converts between versions (`ConversionReview`), in the test's process: real TLS, on the loopback.
//!
//! Its first version has `hostPort: a:80` where the second has `host: a` and `port: "80"`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The webhook, ended with this value.
#[derive(Debug)]
pub struct Converter {
    address: SocketAddr,
    bundle: String,
    _end: oneshot::Sender<()>,
}

impl Converter {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// The machine does not let it.
    pub fn start() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let chain = CertificateDer::from_pem_slice(made.cert.pem().as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("no free port")?;
        let address = listener.local_addr()?;
        let (end, ended) = oneshot::channel::<()>();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, acceptor) => {}
                    // It never sends: its end is dropped.
                    _ = ended => {}
                }
            });
        });
        Ok(Self { address, bundle: STANDARD.encode(made.cert.pem()), _end: end })
    }

    /// How a definition names it, as YAML.
    #[must_use]
    pub fn client_config(&self) -> String {
        format!("{{url: 'https://localhost:{}/convert', caBundle: {}}}", self.address.port(), self.bundle)
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            if let Err(error) = connection.await {
                eprintln!("a call of the converter ended early: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(Response::new(format!("no body: {error}").into())),
    };
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let to = review["request"]["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = review["request"]["objects"].as_array().into_iter().flatten();
    let converted: Vec<Value> = objects.map(|object| convert(object.clone(), to)).collect();
    let answer = json!({
        "apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {
            "uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": converted
        }
    });
    Ok(Response::new(answer.to_string().into()))
}

fn convert(mut object: Value, to: &str) -> Value {
    object["apiVersion"] = to.into();
    let Some(members) = object.as_object_mut() else { return object };
    if let Some(both) = members.remove("hostPort") {
        let (host, port) = both.as_str().and_then(|both| both.split_once(':')).unwrap_or_default();
        members.insert("host".into(), host.into());
        members.insert("port".into(), port.into());
    } else if let (Some(host), Some(port)) = (members.remove("host"), members.remove("port")) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        members.insert("hostPort".into(), format!("{}:{}", text(&host), text(&port)).into());
    }
    object
}

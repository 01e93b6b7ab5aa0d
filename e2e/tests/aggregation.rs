//! An API server of somebody else behind the cluster's, by kubectl: it listens on the loopback and is reached by a service that
//! is another name of it.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

const CASES: [Case; 2] =
    [("an API server behind the cluster's", behind), ("what goes on while an API server is not there", away)];
const NAME: &str = "v1alpha1.wardle.example.com";

fn main() -> ExitCode {
    xebec_e2e::run(&CASES)
}

/// A server that is stopped when this value goes.
struct Wardle {
    _runtime: tokio::runtime::Runtime,
    port: u16,
    bundle: String,
}

impl Wardle {
    /// Serves those only who show a certificate of the cluster's front proxy.
    fn start(cluster: &Cluster) -> Result<Self> {
        let found = cluster.get(&["configmap", "-n", "kube-system", "extension-apiserver-authentication"])?;
        let authority = found["data"]["requestheader-client-ca-file"].as_str().context("an authority")?;
        let made = rcgen::generate_simple_self_signed(vec!["wardle.default.svc".to_owned()])?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(made.cert.pem().as_bytes())?],
                PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes())?,
            )?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        Ok(Self { _runtime: runtime, port, bundle: STANDARD.encode(made.cert.pem()) })
    }

    /// Registers it.
    fn register(&self, cluster: &Cluster) -> Result<()> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "localhost"}
        });
        let api_service = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME},
            "spec": {
                "group": "wardle.example.com", "version": "v1alpha1", "caBundle": self.bundle,
                "groupPriorityMinimum": 2000, "versionPriority": 200,
                "service": {"namespace": "default", "name": "wardle", "port": self.port}
            }
        });
        for object in [service, api_service] {
            cluster.kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
        }
        cluster.kubectl(&["wait", "--for=condition=Available", "--timeout=60s", "apiservice", NAME])?;
        Ok(())
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await?;
            let service = service_fn(|request| std::future::ready(answer(&request)));
            let connection = Builder::new(TokioExecutor::new());
            connection.serve_connection(TokioIo::new(stream), service).await.map_err(|error| anyhow!(error))
        });
    }
}

fn answer(request: &Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let flunder = json!({
        "apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder",
        "metadata": {"name": "a", "namespace": "default", "uid": "1", "resourceVersion": "1"},
        "spec": {"asked-by": header("x-remote-user")}
    });
    let found = match request.uri().path() {
        "/apis/wardle.example.com/v1alpha1" => Some(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [{
                "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                "verbs": ["get", "list"]
            }]
        })),
        "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders" => Some(json!({
            "apiVersion": "wardle.example.com/v1alpha1", "kind": "FlunderList",
            "metadata": {"resourceVersion": "1"}, "items": [flunder]
        })),
        "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders/a" => Some(flunder),
        _ => None,
    };
    let mut response = Response::new(Full::from(found.as_ref().map(Value::to_string).unwrap_or_default()));
    if found.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response.headers_mut().insert(http::header::CONTENT_TYPE, "application/json".parse()?);
    Ok(response)
}

fn behind(cluster: &Cluster) -> Result<()> {
    let wardle = Wardle::start(cluster)?;
    wardle.register(cluster)?;
    let services = cluster.kubectl(&["get", "apiservices"])?;
    for wanted in [&["v1.apps ", "Local", "True"][..], &[NAME, "default/wardle", "True"]] {
        let is_there = |line: &str| wanted.iter().all(|part| line.contains(part));
        ensure!(services.lines().any(is_there), "{wanted:?} is missing in:\n{services}");
    }
    let resources = cluster.kubectl(&["api-resources", "--api-group=wardle.example.com"])?;
    ensure!(resources.contains("flunders"), "{resources}");
    let user = cluster.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    let flunder = cluster.get(&["flunder", "a"])?;
    ensure!(flunder["spec"]["asked-by"] == user.as_str(), "{flunder} is not asked by {user}");
    ensure!(cluster.kubectl(&["get", "flunders"])?.contains("a "), "a flunder is listed");
    let nobody = cluster.kubectl_fails(&["get", "flunders", "--as=nobody"])?;
    ensure!(nobody.contains("forbidden") && nobody.contains("wardle.example.com"), "{nobody}");
    cluster.kubectl(&["delete", "apiservice", NAME])?;
    let gone = cluster.kubectl_fails(&["get", "flunders"])?;
    ensure!(gone.contains("the server could not find the requested resource"), "{gone}");
    Ok(())
}

fn away(cluster: &Cluster) -> Result<()> {
    let wardle = Wardle::start(cluster)?;
    wardle.register(cluster)?;
    drop(wardle);
    // It is noticed by itself, and at once when the API service is written.
    let touch = json!({"spec": {"versionPriority": 201}}).to_string();
    cluster.kubectl(&["patch", "apiservice", NAME, "--type=merge", "-p", &touch])?;
    cluster.kubectl(&["wait", "--for=condition=Available=False", "--timeout=60s", "apiservice", NAME])?;
    let path = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
    let unavailable = cluster.kubectl_fails(&["get", "--raw", path])?;
    ensure!(unavailable.contains("currently unable to handle the request"), "{unavailable}");
    ensure!(cluster.kubectl(&["get", "namespaces"])?.contains("default"), "all else goes on");
    // What is in a namespace cannot be told, so it stays until the API service goes.
    cluster.kubectl(&["create", "namespace", "waiting"])?;
    cluster.kubectl(&["delete", "namespace", "waiting", "--wait=false"])?;
    eventually(PATIENCE, || {
        let found = cluster.get(&["namespace", "waiting"])?;
        let conditions = found["status"]["conditions"].as_array().context("no conditions yet")?;
        let failed = conditions.iter().find(|c| c["type"] == "NamespaceDeletionDiscoveryFailure");
        let failed = failed.context("no condition yet")?;
        ensure!(failed["status"] == "True" && failed.to_string().contains("wardle.example.com"), "{failed}");
        Ok(())
    })?;
    cluster.kubectl(&["delete", "apiservice", NAME])?;
    cluster.kubectl(&["wait", "--for=delete", "--timeout=60s", "namespace/waiting"])?;
    Ok(())
}

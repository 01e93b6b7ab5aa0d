//! Load on the API: many connections that create objects, each one request after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::Cluster;

/// Where the API is, and how to be somebody there.
#[derive(Clone)]
pub struct Target {
    address: String,
    tls: TlsConnector,
}

/// What a run of creates took.
#[derive(Debug)]
pub struct Creates {
    /// How many objects were created, all acknowledged.
    pub count: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Of each request, sorted.
    pub latencies: Vec<Duration>,
}

impl Creates {
    /// The latency that `share` (0 to 1) of the requests did not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 requests")]
        let index = (last as f64 * share) as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

impl Target {
    /// The API of a cluster, as its administrator.
    ///
    /// # Errors
    /// Its kubeconfig cannot be read.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let config: Value =
            serde_json::from_str(&cluster.kubectl(&["config", "view", "--raw", "-o", "json"])?)?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().context("a server")?;
        let pem = |value: &Value| -> Result<Vec<u8>> { Ok(STANDARD.decode(value.as_str().context("PEM")?)?) };
        let mut roots = RootCertStore::empty();
        let authority = pem(&config["clusters"][0]["cluster"]["certificate-authority-data"])?;
        roots.add(CertificateDer::from_pem_slice(&authority)?)?;
        let user = &config["users"][0]["user"];
        let chain = vec![CertificateDer::from_pem_slice(&pem(&user["client-certificate-data"])?)?];
        let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let address = server.strip_prefix("https://").context("an https server")?.to_owned();
        Ok(Self { address, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// Creates `count` ConfigMaps of about 1 KiB in `namespace` over `connections` connections.
    ///
    /// # Errors
    /// A connection or a request fails.
    pub async fn create(&self, namespace: &str, connections: usize, count: usize) -> Result<Creates> {
        let mut senders = Vec::with_capacity(connections);
        for _ in 0..connections {
            senders.push(self.connect().await?);
        }
        let begun = Instant::now();
        let mut workers = JoinSet::new();
        for (worker, sender) in senders.into_iter().enumerate() {
            let numbers = (worker..count).step_by(connections);
            workers.spawn(create_each(sender, self.address.clone(), namespace.to_owned(), numbers));
        }
        let mut latencies = Vec::with_capacity(count);
        while let Some(ended) = workers.join_next().await {
            latencies.extend(ended??);
        }
        let took = begun.elapsed();
        latencies.sort_unstable();
        Ok(Creates { count: latencies.len(), took, latencies })
    }

    /// Creates ConfigMaps over `connections` connections until each breaks; the names that were acknowledged.
    ///
    /// # Errors
    /// The server refuses one, instead of going away.
    pub async fn create_until_broken(
        &self,
        namespace: &str,
        prefix: &str,
        connections: usize,
    ) -> Result<Vec<String>> {
        let mut workers = JoinSet::new();
        for worker in 0..connections {
            let Ok(sender) = self.connect().await else { break };
            let uri = format!("/api/v1/namespaces/{namespace}/configmaps");
            let prefix = format!("{prefix}-{worker}");
            workers.spawn(create_until_broken(sender, self.address.clone(), uri, prefix));
        }
        let mut names = Vec::new();
        while let Some(ended) = workers.join_next().await {
            names.extend(ended??);
        }
        Ok(names)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let stream = self.tls.connect(ServerName::try_from(host.to_owned())?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// One ConfigMap of about 1 KiB.
fn creation(host: &str, uri: &str, name: &str) -> Result<Request<Full<Bytes>>> {
    let filler = "x".repeat(900);
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"a":"{filler}"}}}}"#
    );
    let request = Request::post(uri).header("host", host).header("content-type", "application/json");
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

async fn create_each(
    mut sender: SendRequest<Full<Bytes>>,
    host: String,
    namespace: String,
    numbers: impl Iterator<Item = usize>,
) -> Result<Vec<Duration>> {
    let uri = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut latencies = Vec::new();
    for number in numbers {
        let request = creation(&host, &uri, &format!("load-{number}"))?;
        let begun = Instant::now();
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        latencies.push(begun.elapsed());
        ensure!(status == 201, "{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(latencies)
}

async fn create_until_broken(
    mut sender: SendRequest<Full<Bytes>>,
    host: String,
    uri: String,
    prefix: String,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    loop {
        let name = format!("{prefix}-{}", names.len());
        let request = creation(&host, &uri, &name)?;
        if sender.ready().await.is_err() {
            return Ok(names);
        }
        let Ok(answer) = sender.send_request(request).await else { return Ok(names) };
        let status = answer.status();
        // Acknowledged is what the client has read to its end.
        let Ok(body) = answer.into_body().collect().await else { return Ok(names) };
        ensure!(status == 201, "{status}: {}", String::from_utf8_lossy(&body.to_bytes()));
        names.push(name);
    }
}

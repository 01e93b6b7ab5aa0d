//! Listening: TLS, then HTTP/1.1 or HTTP/2 as the client prefers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::BoxError;
use crate::auth::keys::Credential;
use crate::serve::ApiService;

/// How many connections are open at once.
const MAX_CONNECTIONS: usize = 30_000;
/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How many requests one HTTP/2 connection carries at once.
const MAX_STREAMS: u32 = 1000;
/// How long requests under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// The TLS configuration of a server with this certificate.
///
/// # Errors
/// The certificate or the key cannot be used.
pub fn tls_config(service: &ApiService, credential: &Credential) -> Result<Arc<ServerConfig>, rustls::Error> {
    let unusable = |e: rustls::pki_types::pem::Error| rustls::Error::General(e.to_string());
    let chain = CertificateDer::pem_slice_iter(credential.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes()).map_err(unusable)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(service.core().certificates.clone())
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves connections until `shutdown` is cancelled, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    service: ApiService,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let bound = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(permit) = bound.clone().try_acquire_owned() else {
            tracing::warn!(%peer, limit = MAX_CONNECTIONS, "connection refused: too many are open");
            continue;
        };
        let (acceptor, service, shutdown) = (acceptor.clone(), service.clone(), shutdown.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, peer, acceptor, service, shutdown).await {
                tracing::debug!(%peer, %error, "connection ended early");
            }
            drop(permit);
        });
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(seconds = DRAIN.as_secs(), "requests still under way are cut off");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    service: ApiService,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let tls = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let chain = tls.get_ref().1.peer_certificates();
    let identity = service.core().certificates.identify(chain, UnixTime::now());
    tracing::trace!(%peer, ?identity, "connected");
    let handler = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (service, identity) = (service.clone(), identity.clone());
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, std::convert::Infallible>(service.handle(identity, Some(peer.ip()), request).await)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), handler);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

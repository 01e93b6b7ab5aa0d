//! Connections: TCP inside of the cluster's network or outside, and TLS on them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, Place};
use super::tls::Trust;
use crate::nodes::{NodeConnector, NodeStream};

/// How long a connection may take to open, TLS included.
const DIAL: Duration = Duration::from_secs(10);

/// An open connection.
pub type Dialled = Box<dyn NodeStream>;

/// Which protocols are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocols {
    /// HTTP/1.1.
    One,
    /// HTTP/2, or HTTP/1.1.
    Both,
}

/// Opens a connection.
pub(super) async fn open(
    network: &dyn NodeConnector,
    endpoint: &Endpoint,
    trust: Option<&Trust>,
    protocols: Protocols,
) -> io::Result<Dialled> {
    within(async {
        let stream = dial(network, endpoint).await?;
        match trust {
            None => Ok(stream),
            Some(trust) => Ok(Box::new(secure(endpoint, trust, stream, protocols).await?) as Dialled),
        }
    })
    .await
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(DIAL, work).await.unwrap_or_else(|_| {
        let text = format!("the connection did not open within {} seconds", DIAL.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

async fn dial(network: &dyn NodeConnector, endpoint: &Endpoint) -> io::Result<Dialled> {
    let told =
        |to: String| move |error: io::Error| io::Error::new(error.kind(), format!("dial tcp {to}: {error}"));
    match &endpoint.place {
        Place::Cluster(address) => network.dial(*address).await.map_err(told(address.to_string())),
        Place::Outside(host, port) => {
            let stream =
                TcpStream::connect((host.as_str(), *port)).await.map_err(told(format!("{host}:{port}")))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

type Secured = tokio_rustls::client::TlsStream<Dialled>;

async fn secure(
    endpoint: &Endpoint,
    trust: &Trust,
    stream: Dialled,
    protocols: Protocols,
) -> io::Result<Secured> {
    let name = ServerName::try_from(endpoint.name.clone())
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let config = match protocols {
        Protocols::One => trust.plain_config(),
        Protocols::Both => trust.config(),
    };
    TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|error| {
        io::Error::new(error.kind(), format!("tls: failed to verify certificate or to agree: {error}"))
    })
}

/// Opens the pooled connections to one endpoint.
#[derive(Clone)]
pub(super) struct Connector {
    network: Arc<dyn NodeConnector>,
    endpoint: Arc<Endpoint>,
    trust: Trust,
}

impl Connector {
    pub(super) fn new(network: Arc<dyn NodeConnector>, endpoint: Endpoint, trust: Trust) -> Self {
        Self { network, endpoint: Arc::new(endpoint), trust }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Pooled;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Pooled>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(within(async move {
            let stream = dial(&*this.network, &this.endpoint).await?;
            if url.scheme_str() == Some("http") {
                return Ok(Pooled { stream: TokioIo::new(stream), http2: false });
            }
            let stream = secure(&this.endpoint, &this.trust, stream, Protocols::Both).await?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok(Pooled { stream: TokioIo::new(Box::new(stream)), http2 })
        }))
    }
}

/// A connection as the pool keeps it.
pub(super) struct Pooled {
    stream: TokioIo<Dialled>,
    http2: bool,
}

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        if self.http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Pooled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

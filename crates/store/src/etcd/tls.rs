//! TLS to etcd: the members show certificates of a given authority, and may want one of ours.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How to talk TLS to an etcd. Cheap to clone.
#[derive(Clone)]
pub struct TlsSettings(Arc<ClientConfig>);

/// What TLS is made of, PEM.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    /// The authorities that the members' certificates come from.
    pub ca: &'a [u8],
    /// Our certificate and its key.
    pub identity: Option<(&'a [u8], &'a [u8])>,
}

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No PEM, or not what it should hold.
    #[error("{what} for etcd cannot be read: it holds no usable PEM")]
    Pem {
        /// Which of them.
        what: &'static str,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not fit.
    #[error("the certificates for etcd cannot be used")]
    Unusable(#[from] rustls::Error),
}

impl TlsSettings {
    /// Reads certificates and key.
    ///
    /// # Errors
    /// [`TlsError`] says which of them is wrong.
    pub fn new(files: TlsFiles<'_>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(files.ca, "the certificate authority")? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let wrong = |source| TlsError::Pem { what: "the key", source };
                let key = PrivateKeyDer::from_pem_slice(key).map_err(wrong)?;
                builder.with_client_auth_cert(certificates(certificate, "the certificate")?, key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Box<dyn std::error::Error + Send + Sync>> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(self.0.clone()).connect(name, stream).await?)
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TlsSettings")
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem { what, source };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(wrong)?;
    if all.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(all)
}

//! Which certificates are trusted for which host.
//!
//! The system's roots, read once when the first TLS connection is made, and for hosts that name some, additional CA
//! files. There is no switch to skip verification.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::RegistryConfig;
use super::error::RegistryError;
use super::transport::Hosts;
use crate::blocking::blocking;

/// Where distributions keep their bundle.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS settings by host, made when first needed.
#[derive(Debug)]
pub(super) struct TlsConfigs {
    hosts: Hosts,
    made: Mutex<BTreeMap<String, Arc<ClientConfig>>>,
}

impl TlsConfigs {
    pub(super) fn new(config: &RegistryConfig) -> Self {
        Self { hosts: config.hosts.clone(), made: Mutex::default() }
    }

    /// Makes a TLS connection to `name` over `tcp`; `authority` says whose settings apply.
    pub(super) async fn connect(
        self: &Arc<Self>,
        authority: &str,
        name: &str,
        tcp: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let unusable = |error: RegistryError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let (configs, authority) = (Arc::clone(self), authority.to_owned());
        let config = blocking(move || configs.config(&authority)).await.map_err(unusable)?;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(config).connect(name, tcp).await
    }

    fn config(&self, authority: &str) -> Result<Arc<ClientConfig>, RegistryError> {
        // All hosts without settings of their own share one.
        let (key, ca_files) = match self.hosts.get(authority) {
            Some(host) if !host.ca_files.is_empty() => (authority, host.ca_files.as_slice()),
            _ => ("", [].as_slice()),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(build(ca_files)?);
        made.insert(key.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

fn build(ca_files: &[PathBuf]) -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_roots());
    for path in ca_files {
        let unusable = |reason: String| RegistryError::CaFile { path: path.clone(), reason };
        let certificates = read_pem(path).map_err(unusable)?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
    }
    if roots.is_empty() {
        return Err(RegistryError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The bundle named by `SSL_CERT_FILE`, or the distribution's. Certificates that cannot be read are left out, as
/// every system's bundle has some for other purposes.
fn system_roots() -> Vec<CertificateDer<'static>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()));
    let Some(bundle) = bundle else { return Vec::new() };
    match read_pem(&bundle) {
        Ok(certificates) => certificates,
        Err(reason) => {
            tracing::warn!(bundle = %bundle.display(), reason, "cannot read the system's root certificates");
            Vec::new()
        }
    }
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

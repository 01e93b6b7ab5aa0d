//! Whom a call trusts, and as whom it is made.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Where distributions keep the certificates that they trust.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The bundle holds no certificate.
    #[error("the bundle of certificate authorities holds no usable certificate")]
    NoAuthorities,
    /// The certificate or key to show is none.
    #[error("the client certificate or its key cannot be read")]
    Identity(#[from] rustls::pki_types::pem::Error),
    /// They cannot be used.
    #[error("certificates cannot be used")]
    Unusable(#[from] Error),
    /// The system has no authorities.
    #[error(
        "no certificate authorities are installed on this machine: name those to trust, or set SSL_CERT_FILE"
    )]
    NoSystem,
}

/// Whom to trust, and what to show them. Cheap to clone; equal if it was made of the same.
#[derive(Clone)]
pub struct Trust {
    id: [u8; 32],
    config: Arc<ClientConfig>,
    plain: Arc<ClientConfig>,
}

/// A certificate and its key, PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The certificate, and those that vouch for it.
    pub certificate: &'a [u8],
    /// Its key.
    pub key: &'a [u8],
}

impl Trust {
    /// Trusts the authorities in a PEM bundle, or with none those of the machine; shows a certificate if asked.
    ///
    /// # Errors
    /// There is nobody to trust; the identity cannot be used.
    pub fn new(bundle: Option<&[u8]>, identity: Option<Identity<'_>>) -> Result<Self, TrustError> {
        if bundle.is_none() && identity.is_none() {
            static SYSTEM: OnceLock<Trust> = OnceLock::new();
            if let Some(system) = SYSTEM.get() {
                return Ok(system.clone());
            }
            let made = Self::build(None, None)?;
            return Ok(SYSTEM.get_or_init(|| made).clone());
        }
        Self::build(bundle, identity)
    }

    fn build(bundle: Option<&[u8]>, identity: Option<Identity<'_>>) -> Result<Self, TrustError> {
        let known = match bundle {
            Some(pem) => certificates(pem),
            None => system_roots(),
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(known.iter().cloned());
        if roots.is_empty() {
            return Err(if bundle.is_some() { TrustError::NoAuthorities } else { TrustError::NoSystem });
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let named = if bundle.is_some() { known } else { Vec::new() };
        Self::with(Arc::new(Verifier { inner, named }), bundle.unwrap_or(b"system"), identity)
    }

    /// Trusts whoever answers, whatever they show.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub fn danger_anybody(identity: Option<Identity<'_>>) -> Result<Self, TrustError> {
        Self::with(Arc::new(Anybody(provider())), b"anybody", identity)
    }

    fn with(
        verifier: Arc<dyn ServerCertVerifier>,
        kind: &[u8],
        identity: Option<Identity<'_>>,
    ) -> Result<Self, TrustError> {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [
            kind,
            identity.map_or(b"".as_slice(), |i| i.certificate),
            identity.map_or(b"".as_slice(), |i| i.key),
        ] {
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        }
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key)?;
                builder.with_client_auth_cert(certificates(identity.certificate), key)?
            }
        };
        let plain = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { id, config: Arc::new(config), plain })
    }

    /// For HTTP/2 and HTTP/1.1.
    pub(super) const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// For HTTP/1.1 alone.
    pub(super) const fn plain_config(&self) -> &Arc<ClientConfig> {
        &self.plain
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Trust {}

impl Hash for Trust {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// The certificates of a bundle; what cannot be read is left out, as every system's bundle has some for other purposes.
fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

fn system_roots() -> Vec<CertificateDer<'static>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let bundle = named.or_else(|| BUNDLES.iter().find(|path| Path::new(path).is_file()).map(Into::into));
    let Some(bundle) = bundle else { return Vec::new() };
    match std::fs::read(&bundle) {
        Ok(pem) => certificates(&pem),
        Err(error) => {
            tracing::warn!(bundle = %bundle.display(), %error, "cannot read the system's root certificates");
            Vec::new()
        }
    }
}

/// The usual verification; besides, a server may show the very certificate that its caller names, though that be an
/// authority's, as those are that `openssl req -x509` makes.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn is_named(
        &self,
        shown: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, Error> {
        if !self.named.iter().any(|named| named.as_ref() == shown.as_ref()) {
            return Ok(false);
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        let (_, certificate) = X509Certificate::from_der(shown)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let validity = certificate.validity();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match (validity.not_before.timestamp() <= now, now <= validity.not_after.timestamp()) {
            (true, true) => Ok(true),
            (false, _) => Err(CertificateError::NotValidYet.into()),
            (_, false) => Err(CertificateError::Expired.into()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(shown, others, name, ocsp, now).or_else(|error| {
            if self.is_named(shown, name, now)? { Ok(ServerCertVerified::assertion()) } else { Err(error) }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// No verification but that the server has the key of what it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

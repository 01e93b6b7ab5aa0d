//! Client certificates: the subject's common name is the user, its organisations are the groups.
//!
//! The TLS handshake takes any certificate whose key the client holds; whether the cluster's authority signed it, and
//! whether it is in force, decides the request (401), as upstream does, so that the client gets an answer it can read. The
//! signature is looked at once per connection, the end of the certificate's time at each request.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use xebec_api::time::Timestamp;

use super::User;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A client that presented no certificate.
    Plain,
    /// A client whose certificate was verified.
    Certificate {
        /// Who it is.
        user: Arc<User>,
        /// Until when the certificate is in force.
        until: Timestamp,
    },
    /// A client whose certificate is none of ours, or not in force: why.
    Rejected(Arc<str>),
    /// A component in this process.
    Local(Arc<User>),
}

/// Verifies client certificates against the cluster's authority.
#[derive(Debug)]
pub struct CertificateVerifier {
    authority: Arc<dyn ClientCertVerifier>,
}

impl CertificateVerifier {
    /// Trusts the certificates in `ca_pem`.
    ///
    /// # Errors
    /// The text holds no usable certificate.
    pub fn new(ca_pem: &str) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|e| rustls::Error::General(e.to_string()))?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        Ok(Self { authority })
    }

    /// Who the holder of this chain is.
    #[must_use]
    pub fn identify(&self, chain: Option<&[CertificateDer<'_>]>, now: UnixTime) -> Peer {
        let Some((leaf, intermediates)) = chain.and_then(<[_]>::split_first) else { return Peer::Plain };
        if let Err(error) = self.authority.verify_client_cert(leaf, intermediates, now) {
            return Peer::Rejected(error.to_string().into());
        }
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else {
            return Peer::Rejected("the certificate cannot be read".into());
        };
        match subject(&certificate) {
            Some(user) => {
                Peer::Certificate { user: Arc::new(user), until: end(&certificate, intermediates, now) }
            }
            None => Peer::Rejected("the certificate's subject has no common name".into()),
        }
    }
}

/// When the first of the certificates that are in force ends. Others, which may have come along, vouch for nothing.
fn end(leaf: &X509Certificate<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> Timestamp {
    let end = |certificate: &X509Certificate<'_>| certificate.validity().not_after.timestamp();
    let others = intermediates.iter().filter_map(|der| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(end(&certificate)).filter(|end| u64::try_from(*end).is_ok_and(|end| end >= now.as_secs()))
    });
    Timestamp::from_unix(others.fold(end(leaf), i64::min))
}

fn subject(certificate: &X509Certificate<'_>) -> Option<User> {
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    let groups = certificate.subject().iter_organization().filter_map(|o| o.as_str().ok());
    Some(User::authenticated(name, groups.map(str::to_owned)))
}

impl ClientCertVerifier for CertificateVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // `identify` decides; here the client only has to hold the key, which the signature checks below prove.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::ClusterKeys;
    use std::time::Duration;

    #[test]
    fn certificates_become_users() {
        let random = ring::rand::SystemRandom::new();
        let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
        let [ours, theirs] = dirs.each_ref().map(|d| ClusterKeys::open(d.path(), &random).expect("made"));
        let verifier = CertificateVerifier::new(ours.ca_pem()).expect("usable");
        let der = |keys: &ClusterKeys| {
            let made = keys.client("jane", Some("dev")).expect("made");
            CertificateDer::from_pem_slice(made.certificate_pem.as_bytes()).expect("PEM")
        };
        let now = UnixTime::now();
        let Peer::Certificate { user, until } = verifier.identify(Some(&[der(&ours)]), now) else {
            panic!("refused")
        };
        let days = (until.unix() - i64::try_from(now.as_secs()).expect("after 1970")) / 86_400;
        assert!((1..=400).contains(&days), "{days}");
        assert_eq!((user.name.as_str(), user.groups.join(",")), ("jane", "dev,system:authenticated".into()));
        assert!(matches!(verifier.identify(Some(&[der(&theirs)]), now), Peer::Rejected(_)));
        assert!(matches!(verifier.identify(None, now), Peer::Plain));
        let late =
            UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + Duration::from_hours(24 * 400));
        assert!(matches!(verifier.identify(Some(&[der(&ours)]), late), Peer::Rejected(_)));
    }
}

//! Certificates for those who ask (PKCS #10, RFC 2986): the subject, key and alternative names of the request, signed by the
//! cluster's authority for the usages and the time that were granted. Never an authority: no certificate made here signs
//! others.

use rcgen::{KeyPair, SigningKey as _};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use xebec_api::time::Timestamp;

use super::der;
use std::time::Duration;

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// What was sent is no request, or nobody holds its key.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// Nobody knows the usage.
    #[error("unrecognized usage {0:?}")]
    Usage(String),
    /// The authority is past its end.
    #[error("the certificate authority has expired: NotAfter={0}")]
    Expired(Timestamp),
    /// The authority's certificate cannot be read.
    #[error("the certificate authority's own certificate cannot be read")]
    Authority,
    /// The authority's key is of a sort that makes no signatures here.
    #[error(
        "the certificate authority's key signs with an algorithm that is not known: use P-256, P-384, Ed25519 or RSA"
    )]
    Algorithm,
    /// The key does not sign.
    #[error("the certificate authority's key does not sign")]
    Key(#[source] rcgen::Error),
    /// There are no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum RequestError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    #[error("the certificate request cannot be read")]
    Malformed,
    #[error("the certificate request is not signed by its own key")]
    Signature,
}

/// A request whose sender holds the key.
#[derive(Debug)]
pub struct CertificateRequest {
    der: Vec<u8>,
}

impl CertificateRequest {
    /// Reads PEM.
    ///
    /// # Errors
    /// It is no request, or is not signed by the key in it.
    pub fn read(pem: &[u8]) -> Result<Self, RequestError> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::Pem)?;
        let Pem { label, contents } = pem;
        if label != "CERTIFICATE REQUEST" {
            return Err(RequestError::Pem);
        }
        let request = Self { der: contents };
        request.parsed()?.verify_signature().map_err(|_| RequestError::Signature)?;
        Ok(request)
    }

    fn parsed(&self) -> Result<X509CertificationRequest<'_>, RequestError> {
        let (rest, parsed) =
            X509CertificationRequest::from_der(&self.der).map_err(|_| RequestError::Malformed)?;
        if rest.is_empty() { Ok(parsed) } else { Err(RequestError::Malformed) }
    }

    /// The common name of the subject: the name of a client; empty if there is none.
    #[must_use]
    pub fn common_name(&self) -> String {
        let Ok(parsed) = self.parsed() else { return String::new() };
        let subject = &parsed.certification_request_info.subject;
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        name.unwrap_or_default().to_owned()
    }

    /// The organisations of the subject: the groups of a client.
    #[must_use]
    pub fn organisations(&self) -> Vec<String> {
        let Ok(parsed) = self.parsed() else { return Vec::new() };
        let subject = &parsed.certification_request_info.subject;
        subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect()
    }
}

/// How long certificates are valid before they were made, as clocks differ.
const BACKDATE: Duration = Duration::from_mins(5);
/// From this on the time before counts as part of what was asked for.
const SHORT: Duration = Duration::from_hours(8);

/// What a certificate is to be for.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The usages of the API, `client auth`.
    pub usages: &'a [String],
    /// How long it lasts.
    pub lifetime: Duration,
    /// From when on.
    pub now: Timestamp,
}

/// Makes a certificate, PEM.
///
/// # Errors
/// The request or its usages are not good, or the authority cannot sign.
pub(super) fn sign(
    authority: &[u8],
    key: &KeyPair,
    request: &CertificateRequest,
    terms: Terms<'_>,
    random: &dyn ring::rand::SecureRandom,
) -> Result<String, SigningError> {
    let (_, authority) = X509Certificate::from_der(authority).map_err(|_| SigningError::Authority)?;
    let end = Timestamp::from_unix(authority.validity().not_after.timestamp());
    if terms.now >= end {
        return Err(SigningError::Expired(end));
    }
    let request = request.parsed()?;
    let info = &request.certification_request_info;
    let algorithm = algorithm(key).ok_or(SigningError::Algorithm)?;
    let mut serial = [0; 16];
    random.fill(&mut serial).map_err(|_| SigningError::Random)?;
    // A positive number with as many bytes as there are.
    serial[0] = serial[0] & 0x7f | 0x40;
    let lifetime =
        if terms.lifetime < SHORT { terms.lifetime } else { terms.lifetime.saturating_sub(BACKDATE) };
    let begin =
        Timestamp::from_unix(terms.now.unix() - i64::try_from(BACKDATE.as_secs()).unwrap_or_default());
    let certificate = der::sequence(&[
        &der::explicit(0, &der::value(der::INTEGER, &[2])),
        &der::value(der::INTEGER, &serial),
        algorithm,
        authority.subject().as_raw(),
        &der::sequence(&[&der::time(begin), &der::time(terms.now.after(lifetime).min(end))]),
        info.subject.as_raw(),
        info.subject_pki.raw,
        &der::explicit(3, &extensions(&authority, &request, terms.usages)?),
    ]);
    let signature = key.sign(&certificate).map_err(SigningError::Key)?;
    let signature = der::value(der::BIT_STRING, &[&[0], signature.as_slice()].concat());
    Ok(to_pem(&der::sequence(&[&certificate, algorithm, &signature])))
}

/// The algorithm that a key signs with, as a certificate names it.
fn algorithm(key: &KeyPair) -> Option<&'static [u8]> {
    const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    const ECDSA_SHA384: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    const RSA_SHA256: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
    [
        (&rcgen::PKCS_ECDSA_P256_SHA256, ECDSA_SHA256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, ECDSA_SHA384),
        (&rcgen::PKCS_ED25519, ED25519),
        (&rcgen::PKCS_RSA_SHA256, RSA_SHA256),
    ]
    .into_iter()
    .find(|(known, _)| *known == key.algorithm())
    .map(|(_, name)| name)
}

fn extensions<'a>(
    authority: &X509Certificate<'_>,
    request: &'a X509CertificationRequest<'a>,
    usages: &[String],
) -> Result<Vec<u8>, SigningError> {
    let (mut uses, mut purposes) = (Vec::new(), Vec::new());
    for usage in usages {
        match known_usage(usage).ok_or_else(|| SigningError::Usage(usage.clone()))? {
            Usage::Key(bit) => uses.push(bit),
            Usage::Purpose(oid) => purposes.extend(der::oid(oid)),
        }
    }
    let mut all = Vec::new();
    let mut add = |oid: &[u8], critical: bool, content: &[u8]| {
        let critical = if critical { der::value(der::BOOLEAN, &[0xff]) } else { Vec::new() };
        let content = der::value(der::OCTET_STRING, content);
        all.extend(der::sequence(&[&der::oid(oid), &critical, &content]));
    };
    if !uses.is_empty() {
        add(&[0x55, 0x1d, 15], true, &der::bits(&uses));
    }
    if !purposes.is_empty() {
        add(&[0x55, 0x1d, 37], false, &der::value(der::SEQUENCE, &purposes));
    }
    add(&[0x55, 0x1d, 19], true, &der::sequence(&[]));
    if let Some(id) = key_id(authority) {
        // [0] IMPLICIT: the key's name alone.
        add(&[0x55, 0x1d, 35], false, &der::sequence(&[&der::value(0x80, id)]));
    }
    if let Some(names) = alternative_names(request) {
        let is_nameless = request.certification_request_info.subject.iter().next().is_none();
        add(&[0x55, 0x1d, 17], is_nameless, names);
    }
    Ok(der::value(der::SEQUENCE, &all))
}

fn key_id<'a>(authority: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    authority.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

/// The alternative names that are asked for, as they were written.
fn alternative_names<'a>(request: &'a X509CertificationRequest<'a>) -> Option<&'a [u8]> {
    use x509_parser::cri_attributes::{ParsedCriAttribute, X509CriAttribute};
    let attributes = request.certification_request_info.iter_attributes();
    let requested = attributes.filter_map(|a: &X509CriAttribute<'_>| match a.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(wanted) => Some(&wanted.extensions),
        _ => None,
    });
    requested.flatten().find(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME).map(|e| e.value)
}

enum Usage {
    /// A bit of the key usage.
    Key(u8),
    /// An extended key usage.
    Purpose(&'static [u8]),
}

fn known_usage(name: &str) -> Option<Usage> {
    macro_rules! purpose {
        ($($last:expr),*) => { Usage::Purpose(&[0x2b, 6, 1, 5, 5, 7, 3, $($last),*]) };
    }
    Some(match name {
        "signing" | "digital signature" => Usage::Key(0),
        "content commitment" => Usage::Key(1),
        "key encipherment" => Usage::Key(2),
        "data encipherment" => Usage::Key(3),
        "key agreement" => Usage::Key(4),
        "cert sign" => Usage::Key(5),
        "crl sign" => Usage::Key(6),
        "encipher only" => Usage::Key(7),
        "decipher only" => Usage::Key(8),
        "any" => Usage::Purpose(&[0x55, 0x1d, 37, 0]),
        "server auth" => purpose!(1),
        "client auth" => purpose!(2),
        "code signing" => purpose!(3),
        "email protection" | "s/mime" => purpose!(4),
        "ipsec end system" => purpose!(5),
        "ipsec tunnel" => purpose!(6),
        "ipsec user" => purpose!(7),
        "timestamping" => purpose!(8),
        "ocsp signing" => purpose!(9),
        "microsoft sgc" => Usage::Purpose(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3]),
        "netscape sgc" => Usage::Purpose(&[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1]),
        _ => return None,
    })
}

fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::ClusterKeys;
    use crate::auth::{CertificateVerifier, Peer};
    use rcgen::{CertificateParams, DnType, SanType};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, UnixTime};

    fn request(subject: &str, group: &str, names: &[&str]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.distinguished_name.push(DnType::OrganizationName, group);
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into().expect("a name")));
        }
        let key = KeyPair::generate().expect("a key");
        params.serialize_request(&key).expect("a request").pem().expect("PEM")
    }

    #[test]
    fn what_is_signed_is_what_was_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let random = ring::rand::SystemRandom::new();
        let keys = ClusterKeys::open(dir.path(), &random).expect("keys");
        let now = Timestamp::from_system(std::time::SystemTime::now());
        let asked =
            CertificateRequest::read(request("jane", "dev", &["a.example"]).as_bytes()).expect("good");
        assert_eq!(asked.organisations(), ["dev"]);
        let usages = ["digital signature".to_owned(), "client auth".to_owned()];
        let check = |lifetime: Duration, seconds: u64| {
            let terms = Terms { usages: &usages, lifetime, now };
            let pem = keys.sign_request(&asked, terms, &random).expect("signed");
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
            let (_, made) = X509Certificate::from_der(&der).expect("a certificate");
            let end = now.after(Duration::from_secs(seconds));
            assert_eq!(made.validity().not_after.timestamp(), end.unix(), "{lifetime:?}");
            assert!(!made.is_ca());
            let names = made.subject_alternative_name().expect("one").expect("some").value;
            assert_eq!(names.general_names.len(), 1);
            let usage = made.key_usage().expect("one").expect("some").value;
            assert!(usage.digital_signature() && !usage.key_cert_sign());
            der.into_owned()
        };
        let der = check(Duration::from_mins(10), 600);
        check(Duration::from_hours(24), 24 * 3600 - 300);
        let verifier = CertificateVerifier::new(keys.ca_pem()).expect("usable");
        let Peer::Certificate { user, .. } = verifier.identify(Some(&[der]), UnixTime::now()) else {
            panic!("the cluster does not know its own certificate")
        };
        assert_eq!((user.name.as_str(), user.groups[0].as_str()), ("jane", "dev"));
        let terms = Terms { usages: &["reading".to_owned()], lifetime: SHORT, now };
        assert!(matches!(keys.sign_request(&asked, terms, &random), Err(SigningError::Usage(_))));
        let late =
            Terms { usages: &usages, lifetime: SHORT, now: now.after(Duration::from_hours(24 * 36500)) };
        assert!(matches!(keys.sign_request(&asked, late, &random), Err(SigningError::Expired(_))));
    }

    #[test]
    fn requests_that_are_none() {
        let good = request("jane", "dev", &[]);
        let check = |pem: &str, want: RequestError| {
            assert_eq!(CertificateRequest::read(pem.as_bytes()).err(), Some(want), "{pem}");
        };
        check("", RequestError::Pem);
        check(&good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), RequestError::Pem);
        check(
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            RequestError::Malformed,
        );
        let (_, pem) = x509_parser::pem::parse_x509_pem(good.as_bytes()).expect("PEM");
        let mut der = pem.contents;
        let at = der.windows(4).position(|four| four == b"jane").expect("the name");
        der[at] = b'J';
        let forged = to_pem(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        check(&forged, RequestError::Signature);
    }
}

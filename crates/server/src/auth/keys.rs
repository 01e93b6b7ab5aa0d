//! The cluster's keys and certificates: made once, kept in files that only the owner can read.
//!
//! All keys are ECDSA P-256: making one takes well under a millisecond. The serving certificate is made anew at every
//! start, so that it always names the addresses in use.
//!
//! The key of service-account tokens is changed by putting its public part, PEM, into `service-account-former.pem`, removing
//! `service-account.key` and starting again: new tokens are signed by a new key, and those about stay good.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::jwt::VerificationKey;
use super::signing::{self, CertificateRequest, SigningError, Terms};
use crate::encryption::EncryptionKeys;

const CA_VALIDITY: Duration = Duration::from_hours(24 * 3650);
const LEAF_VALIDITY: Duration = Duration::from_hours(24 * 365);
/// The names of the authorities of clients, and of the front proxy.
const CA: &str = "xebec-ca";
const FRONT_PROXY_CA: &str = "xebec-front-proxy-ca";
/// The name of this server in the certificate that it shows to servers behind it.
pub const FRONT_PROXY: &str = "front-proxy-client";
/// Clocks differ a little: certificates are valid from before they were made.
const BACKDATE: Duration = Duration::from_mins(5);

/// What went wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file could not be read or written.
    #[error("{action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what its name says.
    #[error(
        "{path} holds no usable key or certificate; restore it from a backup, or remove the directory to get new ones"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("making a certificate for {subject}")]
    Certificate {
        /// For whom.
        subject: String,
        /// Why it failed.
        source: rcgen::Error,
    },
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Credential {
    /// The certificate.
    pub certificate_pem: String,
    /// PKCS #8.
    pub key_pem: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// The cluster's certificate authority and signing keys.
pub struct ClusterKeys {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    service_account: KeyPair,
    former_accounts: Vec<VerificationKey>,
    encryption: EncryptionKeys,
    front_proxy: Authority,
}

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl std::fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKeys(..)")
    }
}

impl ClusterKeys {
    /// Reads the keys in `dir`, making those that are not there.
    ///
    /// # Errors
    /// A file cannot be read or written, or holds something else.
    pub fn open(dir: &Path, random: &dyn ring::rand::SecureRandom) -> Result<Self, KeyError> {
        fs::create_dir_all(dir).map_err(|source| file_error("creating", dir, source))?;
        let authority = Authority::open(dir, "ca", CA)?;
        // What is signed with this says who somebody else is, so that no client certificate may be of the same authority.
        let front_proxy = Authority::open(dir, "front-proxy-ca", FRONT_PROXY_CA)?;
        let (service_account, _) = open_key(&dir.join("service-account.key"))?;
        let former_accounts = read_public_keys(&dir.join("service-account-former.pem"))?;
        let encryption = EncryptionKeys::open(dir, random)?;
        let Authority { issuer, certificate_pem: ca_pem } = authority;
        Ok(Self { issuer, ca_pem, service_account, former_accounts, encryption, front_proxy })
    }

    /// Keys that are nowhere but here, for a cluster that ends with its process.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn ephemeral(random: &dyn ring::rand::SecureRandom) -> Result<Self, KeyError> {
        let Authority { issuer, certificate_pem: ca_pem } = Authority::make(CA)?;
        let front_proxy = Authority::make(FRONT_PROXY_CA)?;
        let service_account = make_key("service accounts")?;
        let encryption = EncryptionKeys::ephemeral(random)?;
        Ok(Self { issuer, ca_pem, service_account, former_accounts: Vec::new(), encryption, front_proxy })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The key that signs service-account tokens, PKCS #8 DER.
    #[must_use]
    pub fn service_account_key(&self) -> &[u8] {
        self.service_account.serialized_der()
    }

    /// Keys that signed service-account tokens before.
    #[must_use]
    pub fn former_account_keys(&self) -> &[VerificationKey] {
        &self.former_accounts
    }

    /// The keys that values are sealed with at rest.
    #[must_use]
    pub const fn encryption(&self) -> &EncryptionKeys {
        &self.encryption
    }

    /// What all servers of a cluster must have in common, told by fingerprints that give nothing away.
    #[must_use]
    pub fn identity(&self) -> Vec<xebec_store::Identity> {
        let one = |name, current, former| xebec_store::Identity { name, current, former };
        let account = VerificationKey::from_pem(&self.service_account.public_key_pem());
        let account = account.iter().flatten().filter_map(|key| key.id.clone()).next();
        let former = self.former_accounts.iter().filter_map(|key| key.id.clone()).collect();
        vec![
            one("certificate authority", fingerprint(self.ca_pem.as_bytes()), Vec::new()),
            one("service-account key", account.unwrap_or_default(), former),
            self.encryption.identity().clone(),
        ]
    }

    /// A serving certificate for these names and addresses.
    ///
    /// # Errors
    /// A name that no certificate can hold.
    pub fn serving(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Credential, KeyError> {
        let subject = "kube-apiserver";
        let fail = |source| KeyError::Certificate { subject: subject.into(), source };
        let mut params = leaf_params(subject, None, ExtendedKeyUsagePurpose::ServerAuth);
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into().map_err(fail)?));
        }
        params.subject_alt_names.extend(addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        self.sign(subject, &params)
    }

    /// A client certificate for a user, and for one group at most: the certificate maker keeps one organisation.
    ///
    /// # Errors
    /// A name that no certificate can hold.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Credential, KeyError> {
        self.sign(user, &leaf_params(user, group, ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// The certificate by which servers behind this one know it, so that they believe what it says of who asks.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn front_proxy_client(&self) -> Result<Credential, KeyError> {
        let params = leaf_params(FRONT_PROXY, None, ExtendedKeyUsagePurpose::ClientAuth);
        self.front_proxy.sign(FRONT_PROXY, &params)
    }

    /// The certificate of the authority that signed it, PEM.
    #[must_use]
    pub fn front_proxy_ca_pem(&self) -> &str {
        &self.front_proxy.certificate_pem
    }

    /// A certificate for whoever asks, PEM.
    ///
    /// # Errors
    /// The usages are not known, or the authority cannot sign.
    pub fn sign_request(
        &self,
        request: &CertificateRequest,
        terms: Terms<'_>,
        random: &dyn ring::rand::SecureRandom,
    ) -> Result<String, SigningError> {
        let authority = CertificateDer::from_pem_slice(self.ca_pem.as_bytes());
        let authority = authority.map_err(|_| SigningError::Authority)?;
        signing::sign(&authority, self.issuer.key(), request, terms, random)
    }

    fn sign(&self, subject: &str, params: &CertificateParams) -> Result<Credential, KeyError> {
        sign(&self.issuer, subject, params)
    }
}

impl Authority {
    /// Reads `NAME.key` and `NAME.crt` in a directory, or makes them.
    fn open(dir: &Path, name: &str, subject: &str) -> Result<Self, KeyError> {
        let (key, is_new) = open_key(&dir.join(format!("{name}.key")))?;
        let path = dir.join(format!("{name}.crt"));
        if is_new || !path.exists() {
            write_file(&path, make_authority(&key, subject)?.as_bytes())?;
        }
        let certificate_pem =
            fs::read_to_string(&path).map_err(|source| file_error("reading", &path, source))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|source| KeyError::Unusable { path, source })?;
        Ok(Self { issuer, certificate_pem })
    }

    /// One that is kept in no file.
    fn make(subject: &str) -> Result<Self, KeyError> {
        let fail = |source| KeyError::Certificate { subject: subject.into(), source };
        let key = make_key(subject)?;
        let certificate_pem = make_authority(&key, subject)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(fail)?;
        Ok(Self { issuer, certificate_pem })
    }

    fn sign(&self, subject: &str, params: &CertificateParams) -> Result<Credential, KeyError> {
        sign(&self.issuer, subject, params)
    }
}

fn sign(
    issuer: &Issuer<'static, KeyPair>,
    subject: &str,
    params: &CertificateParams,
) -> Result<Credential, KeyError> {
    let fail = |source| KeyError::Certificate { subject: subject.into(), source };
    let key = KeyPair::generate().map_err(fail)?;
    let certificate = params.signed_by(&key, issuer).map_err(fail)?;
    Ok(Credential { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// Tells a key from others, and no more: it cannot be found from this.
pub(crate) fn fingerprint(key: &[u8]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(b"xebec fingerprint\n");
    context.update(key);
    URL_SAFE_NO_PAD.encode(context.finish())
}

fn ca_params(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, CA_VALIDITY);
    params
}

fn leaf_params(
    common_name: &str,
    organisation: Option<&str>,
    usage: ExtendedKeyUsagePurpose,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organisation) = organisation {
        params.distinguished_name.push(DnType::OrganizationName, organisation);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, LEAF_VALIDITY);
    params
}

fn make_authority(key: &KeyPair, subject: &str) -> Result<String, KeyError> {
    let made = ca_params(subject).self_signed(key);
    made.map(|made| made.pem()).map_err(|source| KeyError::Certificate { subject: subject.into(), source })
}

fn make_key(subject: &str) -> Result<KeyPair, KeyError> {
    KeyPair::generate().map_err(|source| KeyError::Certificate { subject: subject.into(), source })
}

fn set_validity(params: &mut CertificateParams, validity: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + validity).into();
}

/// Reads a key, or makes it; says whether it is new.
fn open_key(path: &Path) -> Result<(KeyPair, bool), KeyError> {
    match fs::read_to_string(path) {
        Ok(pem) => {
            let key =
                KeyPair::from_pem(&pem).map_err(|source| KeyError::Unusable { path: path.into(), source })?;
            Ok((key, false))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = make_key(&path.display().to_string())?;
            write_file(path, key.serialize_pem().as_bytes())?;
            Ok((key, true))
        }
        Err(source) => Err(file_error("reading", path, source)),
    }
}

/// Reads public keys; there need not be a file.
fn read_public_keys(path: &Path) -> Result<Vec<VerificationKey>, KeyError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(file_error("reading", path, source)),
    };
    VerificationKey::from_pem(&text).ok_or_else(|| {
        let what = "it holds no public keys, PEM, of a known sort: RSA, P-256, P-384 or Ed25519";
        file_error("reading", path, io::Error::new(io::ErrorKind::InvalidData, what))
    })
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// The directory cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let partial = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|source| file_error("writing", path, source))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::File { action, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_and_are_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let random = ring::rand::SystemRandom::new();
        let first = ClusterKeys::open(dir.path(), &random).expect("made");
        let second = ClusterKeys::open(dir.path(), &random).expect("read");
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.service_account_key(), second.service_account_key());
        for entry in fs::read_dir(dir.path()).expect("a directory") {
            let mode = entry.and_then(|e| e.metadata()).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn former_keys_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let random = ring::rand::SystemRandom::new();
        let first = ClusterKeys::open(dir.path(), &random).expect("made");
        assert!(first.former_account_keys().is_empty());
        let former = dir.path().join("service-account-former.pem");
        fs::write(&former, first.service_account.public_key_pem()).expect("written");
        fs::remove_file(dir.path().join("service-account.key")).expect("removed");
        let second = ClusterKeys::open(dir.path(), &random).expect("read");
        assert_ne!(first.service_account_key(), second.service_account_key());
        assert_eq!(second.former_account_keys().len(), 1);
        fs::write(&former, "nonsense").expect("written");
        let error = ClusterKeys::open(dir.path(), &random).expect_err("damaged").to_string();
        assert!(error.contains("service-account-former.pem"), "{error}");
    }

    #[test]
    fn a_damaged_key_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let random = ring::rand::SystemRandom::new();
        fs::write(dir.path().join("ca.key"), "nonsense").expect("written");
        let error = ClusterKeys::open(dir.path(), &random).expect_err("damaged").to_string();
        assert!(error.contains("ca.key") && error.contains("restore"), "{error}");
    }
}

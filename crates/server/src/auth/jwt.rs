//! Signed tokens: JSON Web Tokens (RFC 7519) in the compact form of RFC 7515, and the keys that verify them, as JSON Web Keys
//! (RFC 7517) or PEM.
//!
//! A token names its algorithm, but a key decides: each verifies only what it is for, so that nobody can make an HMAC out of a
//! public key. Unsigned tokens, symmetric keys and P-521 are not known.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::pem::{PemObject, SectionKind};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use xebec_api::{Value, json};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// How many keys one set holds at most.
pub const MAX_KEYS: usize = 64;

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is no token in the compact form.
    #[error("the token is malformed")]
    Malformed,
    /// No key that is known made the signature.
    #[error("failed to verify signature: no key of the issuer has made it")]
    Signature,
}

/// A token taken apart, its signature not verified yet.
#[derive(Debug)]
pub struct Jwt<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: String,
    key_id: Option<String>,
    /// What it says, if the signature is good.
    pub payload: Value,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// It is none.
    pub fn read(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header = part(header)?;
        if header.get("crit").is_some() {
            // Whoever sets it wants the token refused by those who do not know the extension, and none is known here.
            return Err(JwtError::Malformed);
        }
        Ok(Self {
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Malformed)?,
            algorithm: header.str_at(&["alg"]).ok_or(JwtError::Malformed)?.to_owned(),
            key_id: header.str_at(&["kid"]).filter(|id| !id.is_empty()).map(str::to_owned),
            payload: part(payload)?,
        })
    }

    /// Who says that they have issued it: nothing to rely on before it is verified.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.payload.str_at(&["iss"]).unwrap_or_default()
    }

    /// Whom it is for: one text, or a list.
    #[must_use]
    pub fn audiences(&self) -> Vec<&str> {
        match self.payload.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether one of the keys has made the signature. A token that names its key is held to it.
    ///
    /// # Errors
    /// None has.
    pub fn verify(&self, keys: &[VerificationKey]) -> Result<(), JwtError> {
        let named = |key: &&VerificationKey| match (&self.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let good = keys.iter().filter(named).any(|key| key.verifies(self));
        if good { Ok(()) } else { Err(JwtError::Signature) }
    }

    /// Whether one of the keys has the name that the token gives; it names none: true.
    #[must_use]
    pub fn is_of(&self, keys: &[VerificationKey]) -> bool {
        self.key_id.is_none() || keys.iter().any(|key| key.id.is_none() || key.id == self.key_id)
    }
}

fn part(text: &str) -> Result<Value, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Malformed)?;
    let value = json::from_slice(&bytes).map_err(|_| JwtError::Malformed)?;
    if value.as_object().is_some() { Ok(value) } else { Err(JwtError::Malformed) }
}

/// A key that verifies signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct VerificationKey {
    /// What tokens call it; `None`: they do not.
    pub id: Option<String>,
    /// The only algorithm it is for, if its maker says so.
    algorithm: Option<String>,
    material: Material,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerificationKey({:?})", self.id)
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big endian.
    Rsa(Vec<u8>, Vec<u8>),
    /// A point, uncompressed.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl VerificationKey {
    /// Reads a JSON Web Key. `None`: it is not for signatures, or of a sort that is not known.
    #[must_use]
    pub fn from_jwk(key: &Value) -> Option<Self> {
        if key.str_at(&["use"]).is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(key.str_at(&[field])?).ok();
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let good = x.len() == size && y.len() == size;
            good.then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        let material = match (key.str_at(&["kty"])?, key.str_at(&["crv"])) {
            ("RSA", _) => Material::Rsa(bytes("n")?, bytes("e")?),
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let text = |field: &str| key.str_at(&[field]).filter(|t| !t.is_empty()).map(str::to_owned);
        Some(Self { id: text("kid"), algorithm: text("alg"), material })
    }

    /// Reads a JSON Web Key Set. Keys that are not for signatures are left out.
    #[must_use]
    pub fn set(keys: &Value) -> Vec<Self> {
        keys.array_at(&["keys"]).iter().filter_map(Self::from_jwk).take(MAX_KEYS).collect()
    }

    /// Reads a `SubjectPublicKeyInfo` (RFC 5280), DER. Its name is its digest, as upstream names keys.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        const ED25519: &str = "1.3.101.112";
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let material = match info.parsed().ok()? {
            PublicKey::RSA(key) => Material::Rsa(unsigned(key.modulus), unsigned(key.exponent)),
            PublicKey::EC(point) => match point.data().len() {
                65 => Material::P256(point.data().to_vec()),
                97 => Material::P384(point.data().to_vec()),
                _ => return None,
            },
            PublicKey::Unknown(bytes) if info.algorithm.algorithm.to_id_string() == ED25519 => {
                Material::Ed25519(bytes.to_vec())
            }
            _ => return None,
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        Some(Self { id: Some(URL_SAFE_NO_PAD.encode(digest)), algorithm: None, material })
    }

    /// Reads all public keys in PEM text. `None`: there is none, or one of them is of a sort that is not known.
    #[must_use]
    pub fn from_pem(text: &str) -> Option<Vec<Self>> {
        let mut keys = Vec::new();
        for section in Sections::pem_slice_iter(text.as_bytes()) {
            let Sections(kind, der) = section.ok()?;
            if kind == SectionKind::PublicKey {
                keys.push(Self::from_spki(&der)?);
            }
        }
        (!keys.is_empty()).then_some(keys)
    }

    fn verifies(&self, jwt: &Jwt<'_>) -> bool {
        if self.algorithm.as_ref().is_some_and(|only| *only != jwt.algorithm) {
            return false;
        }
        let (message, signature) = (jwt.signed.as_bytes(), jwt.signature.as_slice());
        let plain = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(message, signature).is_ok()
        };
        match (&self.material, jwt.algorithm.as_str()) {
            (Material::P256(point), "ES256") => plain(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), "ES384") => plain(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Material::Ed25519(key), "EdDSA") => plain(&signature::ED25519, key),
            (Material::Rsa(n, e), algorithm) => rsa_parameters(algorithm)
                .is_some_and(|how| RsaPublicKeyComponents { n, e }.verify(how, message, signature).is_ok()),
            _ => false,
        }
    }

    /// The JSON Web Key.
    #[must_use]
    pub fn to_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut members = vec![("use", "sig".to_owned())];
        members.extend(self.id.iter().map(|id| ("kid", id.clone())));
        let kind = match &self.material {
            Material::Rsa(n, e) => vec![("kty", "RSA".into()), ("n", text(n)), ("e", text(e))],
            Material::P256(point) => curve("P-256", point),
            Material::P384(point) => curve("P-384", point),
            Material::Ed25519(key) => {
                vec![("kty", "OKP".into()), ("crv", "Ed25519".into()), ("x", text(key))]
            }
        };
        members.extend(kind);
        members.push(("alg", self.default_algorithm().to_owned()));
        let mut jwk = Value::object();
        members.into_iter().for_each(|(name, value)| jwk.set(&[name], value));
        jwk
    }

    /// The algorithm that goes with the key where nothing else is said.
    #[must_use]
    pub const fn default_algorithm(&self) -> &'static str {
        match self.material {
            Material::Rsa(..) => "RS256",
            Material::P256(_) => "ES256",
            Material::P384(_) => "ES384",
            Material::Ed25519(_) => "EdDSA",
        }
    }
}

/// The algorithms that tokens may be signed with.
pub const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

fn rsa_parameters(algorithm: &str) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn curve(name: &str, point: &[u8]) -> Vec<(&'static str, String)> {
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    vec![("kty", "EC".into()), ("crv", name.to_owned()), ("x", text(x)), ("y", text(y))]
}

/// A number of ASN.1 without the zero that keeps it positive.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Any section of a PEM file.
struct Sections(SectionKind, Vec<u8>);

impl PemObject for Sections {
    fn from_pem(kind: SectionKind, der: Vec<u8>) -> Option<Self> {
        Some(Self(kind, der))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

    /// Signs tokens in tests.
    pub(crate) enum Key {
        Ec(EcdsaKeyPair),
        Ed(Ed25519KeyPair),
    }

    impl Key {
        pub(crate) fn ec() -> Self {
            let random = ring::rand::SystemRandom::new();
            let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
            Self::Ec(EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).expect("usable"))
        }

        pub(crate) fn ed() -> Self {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).expect("a key");
            Self::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("usable"))
        }

        pub(crate) fn verification(&self, id: &str) -> VerificationKey {
            let material = match self {
                Self::Ec(key) => Material::P256(key.public_key().as_ref().to_vec()),
                Self::Ed(key) => Material::Ed25519(key.public_key().as_ref().to_vec()),
            };
            VerificationKey { id: Some(id.to_owned()), algorithm: None, material }
        }

        /// A token with this header and payload, JSON both.
        pub(crate) fn token(&self, header: &str, payload: &str) -> String {
            let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let signature = match self {
                Self::Ec(key) => {
                    let random = ring::rand::SystemRandom::new();
                    key.sign(&random, token.as_bytes()).expect("signed").as_ref().to_vec()
                }
                Self::Ed(key) => key.sign(token.as_bytes()).as_ref().to_vec(),
            };
            token.push('.');
            token.push_str(&URL_SAFE_NO_PAD.encode(signature));
            token
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Key;
    use super::*;
    use xebec_api::object;

    #[test]
    fn keys_verify_what_they_are_for() {
        let (ec, ed) = (Key::ec(), Key::ed());
        let keys = [ec.verification("1"), ed.verification("2")];
        let check = |key: &Key, header: &str, want: Result<(), JwtError>| {
            let token = key.token(header, r#"{"iss": "me"}"#);
            assert_eq!(Jwt::read(&token).and_then(|jwt| jwt.verify(&keys)), want, "{header}");
        };
        check(&ec, r#"{"alg": "ES256", "kid": "1"}"#, Ok(()));
        check(&ec, r#"{"alg": "ES256"}"#, Ok(()));
        check(&ed, r#"{"alg": "EdDSA", "kid": "2"}"#, Ok(()));
        check(&ed, r#"{"alg": "EdDSA", "kid": "1"}"#, Err(JwtError::Signature));
        check(&ed, r#"{"alg": "ES256"}"#, Err(JwtError::Signature));
        check(&ec, r#"{"alg": "HS256", "kid": "1"}"#, Err(JwtError::Signature));
        check(&ec, r#"{"alg": "none"}"#, Err(JwtError::Signature));
        check(&ec, r#"{"alg": "ES256", "crit": ["b64"]}"#, Err(JwtError::Malformed));
        check(&ec, r#"{"kid": "1"}"#, Err(JwtError::Malformed));
        check(&Key::ec(), r#"{"alg": "ES256", "kid": "1"}"#, Err(JwtError::Signature));
        for text in ["", ".", "..", "a.b.c", "e30.e30", &"x".repeat(MAX_TOKEN + 1)] {
            assert_eq!(Jwt::read(text).err(), Some(JwtError::Malformed), "{text}");
        }
    }

    #[test]
    fn web_keys_round_trip() {
        for key in [Key::ec().verification("1"), Key::ed().verification("2")] {
            let jwk = key.to_jwk();
            let algorithm = Some(key.default_algorithm().to_owned());
            assert_eq!(VerificationKey::from_jwk(&jwk), Some(VerificationKey { algorithm, ..key }));
        }
        for useless in [
            object!({"kty": "oct", "k": "AAAA"}),
            object!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            object!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            object!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "use": "enc"}),
        ] {
            assert_eq!(VerificationKey::from_jwk(&useless), None, "{useless:?}");
        }
    }

    /// What OpenSSL makes of RSA and Ed25519 keys.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn public_keys_are_read() {
        let keys = VerificationKey::from_pem(PUBLIC).expect("a key");
        assert!(
            matches!(&*keys, [VerificationKey { material: Material::Ed25519(key), id: Some(_), .. }] if key.len() == 32)
        );
        for text in ["", "nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert_eq!(VerificationKey::from_pem(text), None, "{text}");
        }
    }
}

//! Service-account tokens: JSON Web Tokens signed with ES256, bound to a service account and, if asked, to a pod, secret or
//! node; and those of old, which stand in a secret, have no end and live as long as it does. Signature, issuer, audience
//! and lifetime are checked here; whether the account and the object it is bound to still exist is the caller's to ask,
//! because it needs the store.
//!
//! One key signs. Others verify too, so that the key can be changed while tokens of the former one are about.
//!
//! Most requests come with a token that came before: what was signed is remembered by the token's hash, and only audience
//! and lifetime are looked at again.

pub mod known;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use xebec_api::time::Timestamp;
use xebec_api::{Value, json, object};

use self::known::{Known, TokenHash};
use super::jwt::{Jwt, JwtError, MAX_TOKEN, VerificationKey};

/// Clocks may differ by this much, in seconds.
const LEEWAY: i64 = 10;

/// An object that a token lives and dies with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundObject {
    /// `pod`, `secret` or `node`.
    pub kind: BoundKind,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The kinds that a token may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundKind {
    /// A pod in the account's namespace.
    Pod,
    /// A secret in the account's namespace.
    Secret,
    /// A node.
    Node,
}

impl BoundKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pod, Self::Secret, Self::Node];

    /// The claim's name.
    #[must_use]
    pub const fn claim(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Secret => "secret",
            Self::Node => "node",
        }
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The account's namespace.
    pub namespace: String,
    /// The account's name.
    pub name: String,
    /// The account's UID.
    pub uid: String,
    /// What else the token is bound to.
    pub bound: Option<BoundObject>,
    /// The node that the pod ran on when the token was made: name and UID.
    pub node: Option<(String, String)>,
    /// Whom the token is for.
    pub audiences: Vec<String>,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The token's own id.
    pub id: String,
}

/// What a token says that stands in a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretClaims {
    /// The account's namespace, which is the secret's.
    pub namespace: String,
    /// The account's name.
    pub name: String,
    /// The account's UID.
    pub uid: String,
    /// The secret's name.
    pub secret: String,
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// A token with an end.
    Bound(Claims),
    /// A token in a secret.
    Secret(SecretClaims),
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum TokenError {
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error("the token has not the claims of a service account's token")]
    Claims,
    #[error("token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience { found: Vec<String>, wanted: Vec<String> },
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
}

/// A key that cannot sign tokens.
#[derive(Debug, thiserror::Error)]
#[error("the service-account key cannot be used: {0}")]
pub struct KeyRejected(ring::error::KeyRejected);

/// Who signs tokens, and whose are taken.
#[derive(Clone, Debug)]
pub struct Issuers {
    /// The first is in new tokens; tokens of the others are good as well.
    pub names: Vec<String>,
    /// Whom tokens are for that do not say.
    pub audiences: Vec<String>,
    /// Keys of former times, whose tokens are still good.
    pub former: Vec<VerificationKey>,
}

/// Signs and verifies tokens.
pub struct TokenSigner {
    key: EcdsaKeyPair,
    key_id: String,
    issuers: Issuers,
    /// All keys that verify, the one that signs first.
    keys: Vec<VerificationKey>,
    random: Box<dyn SecureRandom + Send + Sync>,
    known: Mutex<Known<Arc<Signed>>>,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSigner({})", self.issuer())
    }
}

/// What a P-256 key is called in a `SubjectPublicKeyInfo`; the point follows.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl TokenSigner {
    /// Signs with a P-256 key in PKCS #8 DER.
    ///
    /// # Errors
    /// The key is no P-256 key.
    pub fn new(
        pkcs8: &[u8],
        issuers: Issuers,
        random: Box<dyn SecureRandom + Send + Sync>,
    ) -> Result<Self, KeyRejected> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &*random)
            .map_err(KeyRejected)?;
        let spki = [&P256_SPKI, key.public_key().as_ref()].concat();
        let own = VerificationKey::from_spki(&spki).expect("a P-256 point behind its own header is a key");
        let key_id = own.id.clone().expect("keys of this form are named");
        let mut keys = vec![own];
        let others = issuers.former.iter().filter(|key| key.id.as_ref() != Some(&key_id));
        keys.extend(others.cloned());
        Ok(Self { key, key_id, issuers, keys, random, known: Mutex::default() })
    }

    /// Who signs.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.issuers.names.first().map_or("", String::as_str)
    }

    /// The public keys as a JSON Web Key Set.
    #[must_use]
    pub fn key_set(&self) -> Value {
        object!({"keys": (self.keys.iter().map(VerificationKey::to_jwk).collect::<Vec<_>>())})
    }

    /// The algorithms that tokens of this issuer are signed with.
    #[must_use]
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.keys.iter().map(VerificationKey::default_algorithm).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn sign(&self, claims: &Claims) -> Result<String, ring::error::Unspecified> {
        self.sign_value(&self.claims_value(claims))
    }

    /// Makes the token that stands in a secret.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn sign_secret(&self, claims: &SecretClaims) -> Result<String, ring::error::Unspecified> {
        let mut value = object!({
            "iss": SECRET_ISSUER,
            "sub": (format!("system:serviceaccount:{}:{}", claims.namespace, claims.name))
        });
        for (claim, text) in
            SECRET_CLAIMS.iter().zip([&claims.namespace, &claims.name, &claims.uid, &claims.secret])
        {
            value.set(&[claim], text.as_str());
        }
        self.sign_value(&value)
    }

    fn sign_value(&self, claims: &Value) -> Result<String, ring::error::Unspecified> {
        let header = object!({"alg": "ES256", "kid": (self.key_id.as_str()), "typ": "JWT"});
        let mut token = URL_SAFE_NO_PAD.encode(json::to_vec(&header));
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(json::to_vec(claims)));
        let signature = self.key.sign(&*self.random, token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    fn claims_value(&self, claims: &Claims) -> Value {
        let mut kubernetes = object!({
            "namespace": (claims.namespace.as_str()),
            "serviceaccount": {"name": (claims.name.as_str()), "uid": (claims.uid.as_str())}
        });
        if let Some((name, uid)) = &claims.node {
            kubernetes.set(&["node"], object!({"name": (name.as_str()), "uid": (uid.as_str())}));
        }
        if let Some(bound) = &claims.bound {
            let reference = object!({"name": (bound.name.as_str()), "uid": (bound.uid.as_str())});
            kubernetes.set(&[bound.kind.claim()], reference);
        }
        object!({
            "aud": (claims.audiences.iter().map(String::as_str).collect::<Vec<_>>()),
            "exp": (claims.expires.unix()),
            "iat": (claims.issued.unix()),
            "nbf": (claims.issued.unix()),
            "iss": (self.issuer()),
            "jti": (claims.id.as_str()),
            "sub": (format!("system:serviceaccount:{}:{}", claims.namespace, claims.name)),
            "kubernetes.io": (kubernetes)
        })
    }

    /// Reads a token that is meant for one of `audiences`. `None`: it says that somebody else has issued it, or it is no such
    /// token at all.
    ///
    /// # Errors
    /// It was not signed here, is for somebody else, or not in force.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Option<Arc<Signed>>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Ok(None);
        }
        let hash: TokenHash = known::hash(token);
        let known = self.known().get(&hash);
        if let Some(signed) = known {
            self.check_use(&signed, audiences, now)?;
            return Ok(Some(signed));
        }
        let Ok(jwt) = Jwt::read(token) else { return Ok(None) };
        let issuer = jwt.issuer();
        if issuer != SECRET_ISSUER && !self.issuers.names.iter().any(|name| name == issuer) {
            return Ok(None);
        }
        jwt.verify(&self.keys)?;
        let signed = Arc::new(read_claims(&jwt).ok_or(TokenError::Claims)?);
        self.check_use(&signed, audiences, now)?;
        self.known().insert(hash, signed.clone());
        Ok(Some(signed))
    }

    /// Whom a token is for that does not say.
    #[must_use]
    pub fn default_audiences(&self) -> &[String] {
        &self.issuers.audiences
    }

    fn known(&self) -> MutexGuard<'_, Known<Arc<Signed>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_use(&self, signed: &Signed, wanted: &[String], now: Timestamp) -> Result<(), TokenError> {
        let found = match signed {
            Signed::Bound(claims) => &claims.audiences,
            Signed::Secret(_) => &self.issuers.audiences,
        };
        if !found.iter().any(|audience| wanted.contains(audience)) {
            return Err(TokenError::Audience { found: found.clone(), wanted: wanted.to_vec() });
        }
        let Signed::Bound(claims) = signed else { return Ok(()) };
        if now.unix() - LEEWAY > claims.expires.unix() {
            return Err(TokenError::Expired);
        }
        if now.unix() + LEEWAY < claims.issued.unix() {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }
}

/// Who issues the tokens that stand in secrets, wherever they are.
const SECRET_ISSUER: &str = "kubernetes/serviceaccount";
/// Their claims: the account's namespace, name and UID, and the secret's name.
const SECRET_CLAIMS: [&str; 4] = [
    "kubernetes.io/serviceaccount/namespace",
    "kubernetes.io/serviceaccount/service-account.name",
    "kubernetes.io/serviceaccount/service-account.uid",
    "kubernetes.io/serviceaccount/secret.name",
];

fn read_claims(jwt: &Jwt<'_>) -> Option<Signed> {
    if jwt.issuer() == SECRET_ISSUER {
        return read_secret_claims(&jwt.payload).map(Signed::Secret);
    }
    let payload = &jwt.payload;
    let kubernetes = payload.get("kubernetes.io")?;
    let reference = |claim: &str| {
        Some((
            kubernetes.str_at(&[claim, "name"])?.to_owned(),
            kubernetes.str_at(&[claim, "uid"])?.to_owned(),
        ))
    };
    let (name, uid) = reference("serviceaccount")?;
    let node = reference("node");
    let bound = [BoundKind::Pod, BoundKind::Secret]
        .into_iter()
        .find_map(|kind| reference(kind.claim()).map(|(name, uid)| BoundObject { kind, name, uid }))
        .or_else(|| node.clone().map(|(name, uid)| BoundObject { kind: BoundKind::Node, name, uid }));
    Some(Signed::Bound(Claims {
        namespace: kubernetes.str_at(&["namespace"])?.to_owned(),
        name,
        uid,
        node: node.filter(|_| bound.as_ref().is_some_and(|b| b.kind != BoundKind::Node)),
        bound,
        audiences: jwt.audiences().into_iter().map(str::to_owned).collect(),
        issued: Timestamp::from_unix(payload.i64_at(&["iat"])?),
        expires: Timestamp::from_unix(payload.i64_at(&["exp"])?),
        id: payload.str_at(&["jti"]).unwrap_or_default().to_owned(),
    }))
}

fn read_secret_claims(payload: &Value) -> Option<SecretClaims> {
    let [namespace, name, uid, secret] = SECRET_CLAIMS
        .map(|claim| payload.str_at(&[claim]).filter(|text| !text.is_empty()).map(str::to_owned));
    let claims = SecretClaims { namespace: namespace?, name: name?, uid: uid?, secret: secret? };
    let subject = format!("system:serviceaccount:{}:{}", claims.namespace, claims.name);
    (payload.str_at(&["sub"]) == Some(&subject)).then_some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ISSUER: &str = "https://kubernetes.default.svc";

    fn new_signer() -> TokenSigner {
        signer_after(Vec::new(), &[ISSUER])
    }

    fn signer_after(former: Vec<VerificationKey>, issuers: &[&str]) -> TokenSigner {
        let random = ring::rand::SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let names = issuers.iter().map(ToString::to_string).collect();
        let issuers = Issuers { names, audiences: vec!["api".into()], former };
        TokenSigner::new(key.as_ref(), issuers, Box::new(random)).expect("usable")
    }

    fn claims(bound: Option<BoundObject>) -> Claims {
        let issued = Timestamp::from_unix(1_000_000);
        Claims {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u1".into(),
            bound,
            node: None,
            audiences: vec!["api".into()],
            issued,
            expires: issued.after(Duration::from_secs(600)),
            id: "t1".into(),
        }
    }

    #[test]
    fn tokens_round_trip() {
        let signer = new_signer();
        let audiences = ["api".to_owned()];
        for bound in [None, Some(BoundObject { kind: BoundKind::Pod, name: "p".into(), uid: "u2".into() })] {
            let claims = claims(bound);
            let token = signer.sign(&claims).expect("signed");
            for _ in 0..2 {
                let found = signer.verify(&token, &audiences, claims.issued).expect("good").expect("ours");
                assert_eq!(*found, Signed::Bound(claims.clone()));
            }
        }
    }

    #[test]
    fn wrong_tokens_are_refused() {
        let signer = new_signer();
        let claims = claims(None);
        let token = signer.sign(&claims).expect("signed");
        let api = ["api".to_owned()];
        let at = |seconds| claims.issued.after(Duration::from_secs(seconds));
        for what in ["a token that comes first", "one that is known"] {
            assert_eq!(signer.verify(&token, &api, at(611)), Err(TokenError::Expired), "{what}");
            assert_eq!(
                signer.verify(&token, &api, Timestamp::from_unix(0)),
                Err(TokenError::NotYet),
                "{what}"
            );
            let other = ["other".to_owned()];
            let wrong = TokenError::Audience { found: api.to_vec(), wanted: other.to_vec() };
            assert_eq!(
                wrong.to_string(),
                r#"token audiences ["api"] is invalid for the target audiences ["other"]"#
            );
            assert_eq!(signer.verify(&token, &other, at(0)), Err(wrong), "{what}");
            signer.verify(&token, &api, at(0)).expect("good");
        }
        let unknown = Err(TokenError::Jwt(JwtError::Signature));
        assert_eq!(new_signer().verify(&token, &api, at(0)), unknown);
        let mut forged = token.clone().into_bytes();
        let last = forged.len() - 2;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).expect("ASCII");
        assert_eq!(signer.verify(&forged, &api, at(0)), unknown);
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
        let (_, rest) = token.split_once('.').expect("three parts");
        assert_eq!(signer.verify(&format!("{none}.{rest}"), &api, at(0)), unknown);
        for text in ["", "a", "a.b.c", "....", &"x".repeat(MAX_TOKEN + 1)] {
            assert_eq!(signer.verify(text, &api, at(0)), Ok(None), "{text}");
        }
    }

    #[test]
    fn tokens_of_former_keys_and_issuers_are_good() {
        let api = ["api".to_owned()];
        let old = new_signer();
        let claims = claims(None);
        let token = old.sign(&claims).expect("signed");
        let new = signer_after(old.keys.clone(), &["https://new.example", ISSUER]);
        assert_eq!(new.key_set().array_at(&["keys"]).len(), 2);
        assert!(new.verify(&token, &api, claims.issued).expect("good").is_some());
        let moved = signer_after(old.keys.clone(), &["https://new.example"]);
        assert_eq!(moved.verify(&token, &api, claims.issued), Ok(None), "the issuer is given up");
        let token = new.sign(&claims).expect("signed");
        assert_eq!(old.verify(&token, &api, claims.issued), Ok(None));
    }

    #[test]
    fn tokens_in_secrets_have_no_end() {
        let signer = new_signer();
        let claims = SecretClaims {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u1".into(),
            secret: "web-token".into(),
        };
        let token = signer.sign_secret(&claims).expect("signed");
        let late = Timestamp::from_unix(1 << 40);
        let found = signer.verify(&token, &["api".to_owned()], late).expect("good").expect("ours");
        assert_eq!(*found, Signed::Secret(claims));
        assert!(signer.verify(&token, &["other".to_owned()], late).is_err());
    }
}

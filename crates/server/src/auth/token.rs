//! Service-account tokens: JSON Web Tokens (RFC 7519) signed with ES256, bound to a service account and, if asked, to a
//! pod, secret or node. Signature, issuer, audience and lifetime are checked here; whether the account and the object it
//! is bound to still exist is the caller's to ask, because it needs the store.
//!
//! Most requests come with a token that came before: what was signed is remembered by the token's hash, and only audience
//! and lifetime are looked at again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use xebec_api::time::Timestamp;
use xebec_api::{Value, json, object};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// How long a signature is, in bytes: two numbers of 256 bits.
const SIGNATURE: usize = 64;
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

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum TokenError {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token was not signed by this cluster")]
    Signature,
    #[error("the token was issued by somebody else")]
    Issuer,
    #[error("the token is not meant for this audience")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
}

/// A key that cannot sign tokens.
#[derive(Debug, thiserror::Error)]
#[error("the service-account key cannot be used: {0}")]
pub struct KeyRejected(ring::error::KeyRejected);

/// Signs and verifies tokens.
pub struct TokenSigner {
    key: EcdsaKeyPair,
    key_id: String,
    issuer: String,
    random: Box<dyn SecureRandom + Send + Sync>,
    known: Mutex<Known>,
}

/// SHA-256 of a token.
type TokenHash = [u8; 32];

/// How many tokens are remembered, twice: those that came lately, and those that came before.
const MAX_KNOWN: usize = 1024;

/// The claims of tokens whose signature is good.
#[derive(Default)]
struct Known {
    lately: HashMap<TokenHash, Arc<Claims>>,
    before: HashMap<TokenHash, Arc<Claims>>,
}

impl Known {
    fn get(&mut self, hash: &TokenHash) -> Option<Arc<Claims>> {
        if let Some(claims) = self.lately.get(hash) {
            return Some(claims.clone());
        }
        let claims = self.before.remove(hash)?;
        self.insert(*hash, claims.clone());
        Some(claims)
    }

    /// Remembers a token; when there are too many, those that did not come for the longest time are forgotten.
    fn insert(&mut self, hash: TokenHash, claims: Arc<Claims>) {
        if self.lately.len() >= MAX_KNOWN {
            self.before = std::mem::take(&mut self.lately);
        }
        self.lately.insert(hash, claims);
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSigner({})", self.issuer)
    }
}

impl TokenSigner {
    /// Signs with a P-256 key in PKCS #8 DER as `issuer`.
    ///
    /// # Errors
    /// The key is no P-256 key.
    pub fn new(
        pkcs8: &[u8],
        issuer: &str,
        random: Box<dyn SecureRandom + Send + Sync>,
    ) -> Result<Self, KeyRejected> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &*random)
            .map_err(KeyRejected)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest);
        Ok(Self { key, key_id, issuer: issuer.into(), random, known: Mutex::default() })
    }

    /// Who signs.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public key as a JSON Web Key Set (RFC 7517).
    #[must_use]
    pub fn key_set(&self) -> Value {
        // An uncompressed point: 0x04, x, y.
        let point = self.key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        object!({"keys": [{
            "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256",
            "kid": (self.key_id.as_str()),
            "x": (URL_SAFE_NO_PAD.encode(x)),
            "y": (URL_SAFE_NO_PAD.encode(y))
        }]})
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn sign(&self, claims: &Claims) -> Result<String, ring::error::Unspecified> {
        let header = object!({"alg": "ES256", "kid": (self.key_id.as_str()), "typ": "JWT"});
        let mut token = URL_SAFE_NO_PAD.encode(json::to_vec(&header));
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(json::to_vec(&self.claims_value(claims))));
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
            "iss": (self.issuer.as_str()),
            "jti": (claims.id.as_str()),
            "sub": (format!("system:serviceaccount:{}:{}", claims.namespace, claims.name)),
            "kubernetes.io": (kubernetes)
        })
    }

    /// Reads a token that is meant for one of `audiences`.
    ///
    /// # Errors
    /// It was not signed here, is for somebody else, or not in force.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Arc<Claims>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let hash: TokenHash = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let known = self.known().get(&hash);
        if let Some(claims) = known {
            check_use(&claims, audiences, now)?;
            return Ok(claims);
        }
        let claims = Arc::new(self.read(token)?);
        check_use(&claims, audiences, now)?;
        self.known().insert(hash, claims.clone());
        Ok(claims)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was signed.
    fn read(&self, token: &str) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        if signature.len() != SIGNATURE {
            return Err(TokenError::Malformed);
        }
        // There is one key and one algorithm: nothing that a stranger wrote is parsed to find them.
        ring::signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| TokenError::Signature)?;
        let header = decode(header)?;
        if header.str_at(&["alg"]) != Some("ES256") || header.str_at(&["kid"]) != Some(&self.key_id) {
            return Err(TokenError::Signature);
        }
        let payload = decode(payload)?;
        if payload.str_at(&["iss"]) != Some(&self.issuer) {
            return Err(TokenError::Issuer);
        }
        read_claims(&payload).ok_or(TokenError::Malformed)
    }
}

fn decode(part: &str) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

fn read_claims(payload: &Value) -> Option<Claims> {
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
    Some(Claims {
        namespace: kubernetes.str_at(&["namespace"])?.to_owned(),
        name,
        uid,
        node: node.filter(|_| bound.as_ref().is_some_and(|b| b.kind != BoundKind::Node)),
        bound,
        audiences: payload.array_at(&["aud"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        issued: Timestamp::from_unix(payload.i64_at(&["iat"])?),
        expires: Timestamp::from_unix(payload.i64_at(&["exp"])?),
        id: payload.str_at(&["jti"]).unwrap_or_default().to_owned(),
    })
}

fn check_use(claims: &Claims, audiences: &[String], now: Timestamp) -> Result<(), TokenError> {
    if !claims.audiences.iter().any(|a| audiences.contains(a)) {
        return Err(TokenError::Audience);
    }
    if now.unix() - LEEWAY > claims.expires.unix() {
        return Err(TokenError::Expired);
    }
    if now.unix() + LEEWAY < claims.issued.unix() {
        return Err(TokenError::NotYet);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn new_signer() -> TokenSigner {
        let random = ring::rand::SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        TokenSigner::new(key.as_ref(), "https://kubernetes.default.svc", Box::new(random)).expect("usable")
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
                assert_eq!(signer.verify(&token, &audiences, claims.issued).as_deref(), Ok(&claims));
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
            assert_eq!(signer.verify(&token, &other, at(0)), Err(TokenError::Audience), "{what}");
            signer.verify(&token, &api, at(0)).expect("good");
        }
        assert_eq!(new_signer().verify(&token, &api, at(0)), Err(TokenError::Signature));
        let mut forged = token.clone().into_bytes();
        let last = forged.len() - 2;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).expect("ASCII");
        assert_eq!(signer.verify(&forged, &api, at(0)), Err(TokenError::Signature));
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
        let (_, rest) = token.split_once('.').expect("three parts");
        assert_eq!(signer.verify(&format!("{none}.{rest}"), &api, at(0)), Err(TokenError::Signature));
        for text in ["", "a", "a.b.c", "....", &"x".repeat(MAX_TOKEN + 1)] {
            assert_eq!(signer.verify(text, &api, at(0)), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn so_many_tokens_are_remembered() {
        let claims = Arc::new(claims(None));
        let hash = |n: usize| {
            let mut hash = TokenHash::default();
            hash[..8].copy_from_slice(&n.to_be_bytes());
            hash
        };
        let mut known = Known::default();
        for n in 0..10 * MAX_KNOWN {
            known.insert(hash(n), claims.clone());
            assert!(known.get(&hash(0)).is_some(), "what comes often stays: {n}");
            assert!(known.lately.len() <= MAX_KNOWN && known.before.len() <= MAX_KNOWN);
        }
        assert!(known.get(&hash(10 * MAX_KNOWN - 1)).is_some());
        assert!(known.get(&hash(1)).is_none(), "what came once is forgotten");
    }
}

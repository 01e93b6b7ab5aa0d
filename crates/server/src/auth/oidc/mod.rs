//! Tokens of other issuers: who may log in with what an identity provider says of them (OpenID Connect Core 1.0), by the rules
//! of an [`AuthenticationConfiguration`].
//!
//! ```text
//! token ─▶ issuer known? ─▶ signature (keys that a task follows) ─▶ audience, time ─▶ claims ─▶ user
//! ```
//!
//! What was found out about a token is remembered until its end, or until the issuer's keys change; nothing is asked of an
//! issuer on the way of a request, but for a token by a key that is new. Distributed claims are not followed.

mod config;
mod keys;
mod mapping;

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use xebec_api::Value;
use xebec_api::time::Timestamp;

pub use self::config::{AuthenticationConfiguration, ConfigError};
use self::keys::IssuerKeys;
use self::mapping::Mapping;
use super::User;
use super::jwt::{Jwt, VerificationKey};
use super::remote::Remote;
use super::token::known::{Known, hash};
use crate::core::Core;
use crate::outbound::Trust;

/// All that a configuration says.
#[derive(Debug, Default)]
pub struct Issuers {
    issuers: Vec<Arc<Provider>>,
    anonymous: Option<Vec<String>>,
}

/// An issuer whose tokens are taken.
#[derive(Debug)]
struct Provider {
    url: String,
    audiences: Vec<String>,
    mapping: Mapping,
    keys: Arc<IssuerKeys>,
    known: Mutex<Remembered>,
}

/// What was found out, with these keys.
#[derive(Debug, Default)]
struct Remembered {
    keys: Option<Arc<Vec<VerificationKey>>>,
    tokens: Known<(Arc<User>, i64)>,
}

/// Clocks may differ by this much, in seconds.
const LEEWAY: i64 = 10;

impl Issuers {
    /// Takes a configuration; the cluster's own issuers cannot be in it.
    ///
    /// # Errors
    /// An expression or a certificate in it cannot be used.
    pub fn new(config: &AuthenticationConfiguration, own: &[String]) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let mut issuers = Vec::new();
        for (i, jwt) in config.jwt.iter().enumerate() {
            let at = format!("jwt[{i}]");
            if own.contains(&jwt.issuer.url) {
                let url = &jwt.issuer.url;
                faults.push(format!(
                    "{at}.issuer.url: Invalid value: {url:?}: URL must not overlap with disallowed issuers: {own:?}"
                ));
            }
            let authority = jwt.issuer.certificate_authority.as_ref().map(String::as_bytes);
            let trust = Trust::new(authority, None)
                .map_err(|error| faults.push(format!("{at}.issuer.certificateAuthority: {error}")));
            let mapping = Mapping::new(jwt, &at, &mut faults);
            let (Ok(trust), Some(mapping)) = (trust, mapping) else { continue };
            let url = jwt.issuer.url.clone();
            let keys = Arc::new(IssuerKeys::new(url.clone(), jwt.issuer.discovery(), Remote::new(trust)));
            let audiences = jwt.issuer.audiences.clone();
            issuers.push(Arc::new(Provider { url, audiences, mapping, keys, known: Mutex::default() }));
        }
        let anonymous = config.anonymous.as_ref().map(|anonymous| {
            let paths = anonymous.conditions.iter().map(|condition| condition.path.clone()).collect();
            if anonymous.enabled { paths } else { vec![String::new()] }
        });
        if faults.is_empty() { Ok(Self { issuers, anonymous }) } else { Err(ConfigError(faults)) }
    }

    /// Whether somebody may ask for a path without saying who they are.
    #[must_use]
    pub fn takes_anonymous(&self, path: &str) -> bool {
        self.anonymous.as_ref().is_none_or(|paths| paths.is_empty() || paths.iter().any(|p| p == path))
    }

    /// What keeps the keys of the issuers known: each runs until `shutdown`.
    pub fn followers(
        &self,
        core: &Arc<Core>,
        shutdown: &CancellationToken,
    ) -> impl Iterator<Item = impl Future<Output = ()> + Send + use<>> {
        let keys: Vec<_> = self.issuers.iter().map(|provider| provider.keys.clone()).collect();
        let (core, shutdown) = (core.clone(), shutdown.clone());
        keys.into_iter().map(move |keys| keys.follow(core.clone(), shutdown.clone()))
    }

    /// Who holds a token. `None`: nobody here has issued it.
    ///
    /// # Errors
    /// Who has does not vouch for it, or it is not meant for this cluster.
    pub async fn identify(&self, token: &str, now: Timestamp) -> Result<Option<Arc<User>>, String> {
        if self.issuers.is_empty() {
            return Ok(None);
        }
        let Ok(jwt) = Jwt::read(token) else { return Ok(None) };
        let Some(provider) = self.issuers.iter().find(|provider| provider.url == jwt.issuer()) else {
            return Ok(None);
        };
        provider.identify(token, &jwt, now).await.map(Some)
    }
}

impl Provider {
    async fn identify(&self, token: &str, jwt: &Jwt<'_>, now: Timestamp) -> Result<Arc<User>, String> {
        let hash = hash(token);
        let mut keys = self.keys.known();
        let known = self.remembered(keys.as_ref(), |known| known.get(&hash));
        if let Some((user, end)) = known {
            return if now.unix() - LEEWAY <= end { Ok(user) } else { Err(expired(end)) };
        }
        if keys.as_ref().is_none_or(|keys| !jwt.is_of(keys)) && self.keys.refresh().await {
            keys = self.keys.known();
        }
        let Some(keys) = keys else {
            return Err(format!("oidc: authenticator for issuer {:?} is not initialized", self.url));
        };
        jwt.verify(&keys).map_err(|error| format!("oidc: verify token: {error}"))?;
        let end = self.check_use(jwt, now).map_err(|why| format!("oidc: verify token: {why}"))?;
        let mut user = self.mapping.user(&jwt.payload)?;
        if let Some(id) = jwt.payload.str_at(&["jti"]).filter(|id| !id.is_empty()) {
            let fact = "authentication.kubernetes.io/credential-id".to_owned();
            user.extra.insert(fact, vec![format!("JTI={id}")]);
        }
        let user = Arc::new(user);
        self.remembered(Some(&keys), |known| known.insert(hash, (user.clone(), end)));
        Ok(user)
    }

    /// Works with what is remembered of tokens while these keys are the issuer's.
    fn remembered<T>(
        &self,
        keys: Option<&Arc<Vec<VerificationKey>>>,
        work: impl FnOnce(&mut Known<(Arc<User>, i64)>) -> T,
    ) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (&known.keys, keys) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        if !same {
            *known = Remembered { keys: keys.cloned(), ..Remembered::default() };
        }
        work(&mut known.tokens)
    }

    /// Whom the token is for, and whether it is in force; when it ends.
    fn check_use(&self, jwt: &Jwt<'_>, now: Timestamp) -> Result<i64, String> {
        let found = jwt.audiences();
        if !found.iter().any(|audience| self.audiences.iter().any(|own| own == audience)) {
            return Err(format!("oidc: expected audience in {:?} got {found:?}", self.audiences));
        }
        let time = |claim: &str| match jwt.payload.get(claim) {
            Some(Value::Float(seconds)) => Some(*seconds as i64),
            _ => jwt.payload.i64_at(&[claim]),
        };
        let end = time("exp").ok_or("oidc: token has no expiration")?;
        if now.unix() - LEEWAY > end {
            return Err(expired(end));
        }
        if time("nbf").is_some_and(|begin| now.unix() + LEEWAY < begin) {
            return Err("oidc: token is not valid yet".to_owned());
        }
        Ok(end)
    }
}

fn expired(end: i64) -> String {
    format!("oidc: token is expired (Token Expiry: {})", Timestamp::from_unix(end))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::auth::jwt::testing::Key;
    use crate::auth::remote::testing::{Host, json};
    use crate::server::tests::server;
    use xebec_api::object;

    /// An issuer whose keys can be changed.
    struct Idp {
        remote: Host,
        keys: Arc<Mutex<Value>>,
        asked: Arc<AtomicUsize>,
    }

    impl Idp {
        async fn start() -> Self {
            let keys = Arc::new(Mutex::new(object!({"keys": []})));
            let asked = Arc::new(AtomicUsize::new(0));
            let (served, count) = (keys.clone(), asked.clone());
            let remote = Host::start(move |request: http::Request<hyper::body::Incoming>| {
                let host = request.headers()[http::header::HOST].to_str().expect("text").to_owned();
                let document = match request.uri().path() {
                    "/.well-known/openid-configuration" => object!({
                        "issuer": (format!("https://{host}")), "jwks_uri": (format!("https://{host}/keys"))
                    }),
                    _ => {
                        count.fetch_add(1, Ordering::Relaxed);
                        served.lock().expect("no panic").clone()
                    }
                };
                async move { json(xebec_api::json::to_vec(&document)) }
            })
            .await;
            Self { remote, keys, asked }
        }

        fn serve(&self, keys: &[VerificationKey]) {
            let keys: Vec<Value> = keys.iter().map(VerificationKey::to_jwk).collect();
            *self.keys.lock().expect("no panic") = object!({"keys": (keys)});
        }

        fn issuers(&self) -> Issuers {
            let ca: Vec<String> = self.remote.ca_pem.lines().map(|line| format!("        {line}")).collect();
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: {}\n    \
                 audiences: [cluster]\n    certificateAuthority: |\n{}\n  claimMappings:\n    username: {{claim: sub, prefix: \
                 'x:'}}\n",
                self.remote.url(""),
                ca.join("\n")
            );
            let config = AuthenticationConfiguration::read(&text).expect("a configuration");
            Issuers::new(&config, &[]).expect("usable")
        }

        fn claims(&self, audience: &str, end: i64) -> String {
            format!(
                r#"{{"iss": "{}", "sub": "jane", "aud": "{audience}", "exp": {end}}}"#,
                self.remote.url("")
            )
        }
    }

    #[tokio::test]
    async fn tokens_of_an_issuer_are_taken_while_its_keys_are() {
        let idp = Idp::start().await;
        let (old, new) = (Key::ec(), Key::ed());
        idp.serve(&[old.verification("1")]);
        let issuers = idp.issuers();
        let shutdown = CancellationToken::new();
        let (server, _dir) = server();
        let followers: Vec<_> = issuers.followers(server.core(), &shutdown).map(tokio::spawn).collect();
        let now = Timestamp::from_unix(1_000_000);
        let by = |key: &Key, header: &str, audience: &str| {
            key.token(header, &idp.claims(audience, now.unix() + 60))
        };
        let first = by(&old, r#"{"alg": "ES256", "kid": "1"}"#, "cluster");
        let user = issuers.identify(&first, now).await.expect("good").expect("known");
        assert_eq!((user.name.as_str(), &*user.groups), ("x:jane", &["system:authenticated".to_owned()][..]));
        let late = now.after(Duration::from_secs(100));
        let error = issuers.identify(&first, late).await.expect_err("it has ended");
        assert!(error.starts_with("oidc: token is expired"), "{error}");
        let other = by(&old, r#"{"alg": "ES256", "kid": "1"}"#, "other");
        let error = issuers.identify(&other, now).await.expect_err("another audience");
        assert_eq!(error, r#"oidc: verify token: oidc: expected audience in ["cluster"] got ["other"]"#);
        let forged =
            Key::ec().token(r#"{"alg": "ES256", "kid": "1"}"#, &idp.claims("cluster", now.unix() + 60));
        issuers.identify(&forged, now).await.expect_err("another key");
        let foreign = old.token(r#"{"alg": "ES256"}"#, r#"{"iss": "https://other.example"}"#);
        assert_eq!(issuers.identify(&foreign, now).await, Ok(None));
        assert_eq!(issuers.identify("nonsense", now).await, Ok(None));

        // Who makes up names of keys does not have them read again and again.
        idp.serve(&[new.verification("2")]);
        let asked = idp.asked.load(Ordering::Relaxed);
        let second = by(&new, r#"{"alg": "EdDSA", "kid": "2"}"#, "cluster");
        issuers.identify(&second, now).await.expect_err("the keys were read a moment ago");
        assert_eq!(idp.asked.load(Ordering::Relaxed), asked);
        shutdown.cancel();
        for follower in followers {
            follower.await.expect("no panic");
        }
    }

    #[tokio::test]
    async fn new_keys_are_read_when_a_token_needs_them() {
        let idp = Idp::start().await;
        let (old, new) = (Key::ec(), Key::ed());
        let (server, _dir) = server();
        let issuers = idp.issuers();
        let now = Timestamp::from_unix(1_000_000);
        let claims = idp.claims("cluster", now.unix() + 60);
        let (first, second) = (
            old.token(r#"{"alg": "ES256", "kid": "1"}"#, &claims),
            new.token(r#"{"alg": "EdDSA", "kid": "2"}"#, &claims),
        );
        // Each follower reads the keys first thing, as time does after a while.
        let round = async |keys: &[VerificationKey]| {
            idp.serve(keys);
            let asked = idp.asked.load(Ordering::Relaxed);
            let shutdown = CancellationToken::new();
            let followers: Vec<_> = issuers.followers(server.core(), &shutdown).map(tokio::spawn).collect();
            while idp.asked.load(Ordering::Relaxed) == asked || issuers.issuers[0].keys.known().is_none() {
                tokio::task::yield_now().await;
            }
            (shutdown, followers)
        };
        let (shutdown, _) = round(&[old.verification("1")]).await;
        issuers.identify(&first, now).await.expect("good");
        shutdown.cancel();
        let (_shutdown, _) = round(&[new.verification("2")]).await;
        let taken = async {
            while issuers.identify(&second, now).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), taken).await.expect("the new key is known");
        let error =
            issuers.identify(&first, now).await.expect_err("what was remembered is forgotten with its key");
        assert!(error.contains("verify"), "{error}");
    }

    #[test]
    fn who_may_be_anonymous() {
        let check = |anonymous: &str, path: &str, want: bool| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{anonymous}"
            );
            let config = AuthenticationConfiguration::read(&text).expect("a configuration");
            assert_eq!(
                Issuers::new(&config, &[]).expect("usable").takes_anonymous(path),
                want,
                "{anonymous} {path}"
            );
        };
        check("", "/api", true);
        check("anonymous: {enabled: true}", "/api", true);
        check("anonymous: {enabled: false}", "/healthz", false);
        check("anonymous: {enabled: true, conditions: [{path: /healthz}]}", "/healthz", true);
        check("anonymous: {enabled: true, conditions: [{path: /healthz}]}", "/api", false);
    }
}

//! The keys of an issuer, read from it again and again (OpenID Connect Discovery 1.0) by a task of the server. A request never
//! waits for an issuer that is down: it has the keys that are known. Only a token by a key that nobody has seen has the keys
//! read at once, at most every [`SOONEST`], and waits for that for [`PATIENCE`].

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_api::{Value, json};

use crate::auth::jwt::VerificationKey;
use crate::auth::remote::{Remote, RemoteError};
use crate::core::Core;

/// How long one answer of an issuer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often keys are read.
const EVERY: Duration = Duration::from_mins(10);
/// How long it takes at least until they are read again.
const SOONEST: Duration = Duration::from_secs(10);
/// How long a token by a new key waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the keys of an issuer are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Call(#[from] RemoteError),
    #[error("{0} answers {1}")]
    Code(String, u16),
    #[error("{0} answers no JSON")]
    Json(String),
    #[error("it says that its issuer is {0:?}")]
    Issuer(String),
    #[error("its configuration names no jwks_uri of the form https://HOST")]
    NoKeys,
}

/// What is known of an issuer's keys.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    issuer: String,
    discovery: String,
    remote: Remote,
    known: RwLock<Option<Arc<Vec<VerificationKey>>>>,
    wanted: Notify,
    /// How often keys have been read, well or not.
    rounds: watch::Sender<u64>,
    last: RwLock<Option<Instant>>,
}

impl IssuerKeys {
    pub(super) fn new(issuer: String, discovery: String, remote: Remote) -> Self {
        Self {
            issuer,
            discovery,
            remote,
            known: RwLock::default(),
            wanted: Notify::new(),
            rounds: watch::Sender::new(0),
            last: RwLock::default(),
        }
    }

    /// The keys; `None`: the issuer was never reached.
    pub(super) fn known(&self) -> Option<Arc<Vec<VerificationKey>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the keys read because a token is by none of them; whether that was done.
    pub(super) async fn refresh(&self) -> bool {
        let last = *self.last.read().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < SOONEST) {
            return false;
        }
        let mut rounds = self.rounds.subscribe();
        rounds.mark_unchanged();
        self.wanted.notify_one();
        tokio::time::timeout(PATIENCE, rounds.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    /// Reads the keys now and then, until `shutdown`.
    pub(super) async fn follow(self: Arc<Self>, core: Arc<Core>, shutdown: CancellationToken) {
        loop {
            let read = tokio::select! {
                () = shutdown.cancelled() => return,
                read = self.read(&core) => read,
            };
            let pause = match read {
                Ok(keys) => {
                    self.take(keys);
                    EVERY
                }
                Err(error) => {
                    tracing::warn!(issuer = self.issuer, %error, "the keys of an issuer of tokens cannot be read");
                    SOONEST
                }
            };
            *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.rounds.send_modify(|rounds| *rounds += 1);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    fn take(&self, keys: Vec<VerificationKey>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(&keys) {
            tracing::info!(
                issuer = self.issuer,
                keys = keys.len(),
                "the keys of an issuer of tokens are known"
            );
            *known = Some(Arc::new(keys));
        }
    }

    async fn read(&self, core: &Core) -> Result<Vec<VerificationKey>, FetchError> {
        let configuration = self.get(core, &self.discovery).await?;
        let issuer = configuration.str_at(&["issuer"]).unwrap_or_default();
        if issuer != self.issuer {
            return Err(FetchError::Issuer(issuer.to_owned()));
        }
        let keys = configuration.str_at(&["jwks_uri"]).ok_or(FetchError::NoKeys)?;
        Ok(VerificationKey::set(&self.get(core, keys).await?))
    }

    async fn get(&self, core: &Core, url: &str) -> Result<Value, FetchError> {
        let request = Request::get(url).body(Full::<Bytes>::default()).map_err(|_| FetchError::NoKeys)?;
        let answer = self.remote.call(core, request, TIMEOUT).await?;
        if !answer.status().is_success() {
            return Err(FetchError::Code(url.to_owned(), answer.status().as_u16()));
        }
        json::from_slice(answer.body()).map_err(|_| FetchError::Json(url.to_owned()))
    }
}

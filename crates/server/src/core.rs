//! What every part of the pipeline shares: the server's state, and the request under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use ring::rand::SecureRandom;
use xebec_api::Status;
use xebec_api::time::Timestamp;
use xebec_store::{CommitError, Committed, Record, Revision, Snapshot, Store, Txn};

use crate::admission::policy::Policies;
use crate::admission::webhook::Webhooks;
use crate::aggregation::Aggregation;
use crate::audit::Audit;
use crate::auth::oidc::Issuers;
use crate::auth::token::TokenSigner;
use crate::auth::{CertificateVerifier, User};
use crate::authz::Authorizer;
use crate::config::Settings;
use crate::flow::FlowControl;
use crate::health::Health;
use crate::http::query::Query;
use crate::metrics::Metrics;
use crate::nodes::NodeConnector;
use crate::outbound::Outbound;
use crate::random::Spare;
use crate::registry::conversion::Conversions;
use crate::registry::read::stale;
use crate::registry::table::CurrentTable;
use crate::trace::{Steps, TraceParent};

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}

/// The state of one API server.
pub struct Core {
    /// All data.
    pub store: Arc<dyn Store>,
    /// All resources.
    pub table: CurrentTable,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// Signs and verifies service-account tokens.
    pub tokens: TokenSigner,
    /// Who else issues tokens.
    pub issuers: Issuers,
    /// Verifies client certificates.
    pub certificates: Arc<CertificateVerifier>,
    /// The way to the nodes' agents.
    pub nodes: Arc<dyn NodeConnector>,
    /// The admission webhooks in force.
    pub(crate) webhooks: Webhooks,
    /// How much converted objects take.
    pub conversions: Conversions,
    /// The admission policies in force.
    pub(crate) policies: Policies,
    /// The servers behind this one.
    pub(crate) aggregation: Aggregation,
    /// Calls webhooks and other servers.
    pub outbound: Outbound,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for keys.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    /// Randomness for UIDs and names.
    pub(crate) spare: Spare,
    /// What the operator chose.
    pub settings: Settings,
    /// How the server is.
    pub health: Health,
    /// Which requests are worked on.
    pub(crate) flow: FlowControl,
    /// The audit log, if there is one.
    pub(crate) audit: Option<Audit>,
    /// What is counted.
    pub metrics: Metrics,
    /// Whose turn it is to be charged to a namespace's quotas.
    pub quota_turns: crate::admission::quota::Turns,
    /// The OpenAPI documents.
    pub openapi: crate::openapi::Published,
    /// Connections and streams that outlive their request.
    pub tasks: tokio_util::task::TaskTracker,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Core {
    /// Commits a transaction, and counts it.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let started = Instant::now();
        let outcome = self.store.commit(txn).await;
        self.metrics.committed(&outcome, started.elapsed());
        outcome
    }

    /// The revision that is known here, on a store that others write too.
    #[must_use]
    pub fn seen(&self) -> Option<Revision> {
        self.store.is_shared().then(|| self.store.current_revision())
    }

    /// Whether what was decided on the state at `seen` may be wrong, since another server had written more by now; that is
    /// known here then.
    ///
    /// # Errors
    /// 503: it cannot be told.
    pub async fn was_behind(&self, seen: Option<Revision>) -> Result<bool, Status> {
        let Some(seen) = seen else { return Ok(false) };
        Ok(self.newest().await?.revision() > seen)
    }

    /// Whether a record is still what its key holds, which on a store that others write too has to be asked for.
    ///
    /// # Errors
    /// 503: it cannot be told.
    pub async fn is_current(&self, record: &Record) -> Result<bool, Status> {
        if !self.store.is_shared() {
            return Ok(true);
        }
        let newest = self.newest().await?;
        Ok(newest.get(record.key()).is_some_and(|now| now.mod_revision() == record.mod_revision()))
    }

    /// A state with everything that was written before, by whatever server.
    ///
    /// # Errors
    /// 503: it cannot be had.
    pub async fn newest(&self) -> Result<Snapshot, Status> {
        self.store.newest().get().await.map_err(|error| stale(&error))
    }

    /// Random bytes, for what is unique but no secret.
    ///
    /// # Errors
    /// 500: the system gives none.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], Status> {
        self.spare.take(&*self.random).map_err(|_| Status::internal("the system gives no random bytes"))
    }

    /// A random UUID (RFC 9562, version 4).
    ///
    /// # Errors
    /// 500: the system gives no random bytes.
    pub fn new_uid(&self) -> Result<String, Status> {
        let mut bytes: [u8; 16] = self.random()?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let n = u128::from_be_bytes(bytes);
        let part = |shift: u32, digits: u32| n >> shift & ((1 << (digits * 4)) - 1);
        Ok(format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 8),
            part(80, 4),
            part(64, 4),
            part(48, 4),
            part(0, 12)
        ))
    }
}

/// How many characters of warnings one answer carries at most.
const MAX_WARNINGS: usize = 4096;
/// How many characters of each are left when all together are too long.
const MAX_SHORTENED: usize = 256;
/// How many facts the audit log takes of one request.
const MAX_ANNOTATIONS: usize = 256;

/// One request under way.
#[derive(Debug)]
pub struct Context {
    /// Who asks.
    pub user: Arc<User>,
    /// When the request came.
    pub now: Timestamp,
    /// Its options.
    pub query: Query,
    /// Its `User-Agent` header.
    pub agent: String,
    warnings: Mutex<Vec<String>>,
    notes: Mutex<Notes>,
    /// The trace that it belongs to.
    pub trace: Option<TraceParent>,
    /// Where its steps are noted; nowhere when nobody waits for it.
    steps: Option<Arc<Mutex<Steps>>>,
}

/// What is recorded of a request besides what it says itself.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The name of the object that it makes.
    pub(crate) name: String,
    /// Facts, by their name.
    pub(crate) annotations: Vec<(String, String)>,
}

impl Context {
    /// A request by `user`.
    #[must_use]
    pub fn new(user: Arc<User>, now: Timestamp, query: Query, agent: String) -> Self {
        Self {
            user,
            now,
            query,
            agent,
            warnings: Mutex::default(),
            notes: Mutex::default(),
            trace: None,
            steps: None,
        }
    }

    /// Adds a `Warning` header to the answer. When all together have more than 4,096 characters, each is cut to 256; what
    /// exceeds 4,096 even then is dropped.
    pub fn warn(&self, text: impl Into<String>) {
        let text: String = text.into().chars().take(MAX_WARNINGS).collect();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let shortened = |text: &String| text.chars().count().min(MAX_SHORTENED);
        let total: usize = warnings.iter().map(shortened).sum();
        if total + shortened(&text) <= MAX_WARNINGS && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// The same request as part of what it began as.
    pub(crate) fn part_of(self, trace: Option<TraceParent>, steps: Arc<Mutex<Steps>>) -> Self {
        Self { trace, steps: Some(steps), ..self }
    }

    /// A step of the request is done, which the log tells of if the request is slow.
    pub fn done(&self, step: &'static str) {
        if let Some(steps) = &self.steps {
            steps.lock().unwrap_or_else(PoisonError::into_inner).done(step);
        }
    }

    /// Adds a fact to the request's event in the audit log, such as why admission refused it; the first one of a name stays.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.annotations.len() < MAX_ANNOTATIONS {
            notes.annotations.push((key.to_owned(), value.into()));
        }
    }

    /// Says how the object is called that the request makes.
    pub(crate) fn makes(&self, name: &str) {
        name.clone_into(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner).name);
    }

    /// What there is to record.
    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The warnings so far.
    #[must_use]
    pub fn take_warnings(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        let total: usize = all.iter().map(|text| text.chars().count()).sum();
        if total <= MAX_WARNINGS {
            return all;
        }
        all.into_iter().map(|text| text.chars().take(MAX_SHORTENED).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_cut_when_there_are_too_many() {
        let context = Context::new(
            Arc::default(),
            Timestamp::from_system(SystemTime::now()),
            Query::default(),
            String::new(),
        );
        let lengths = |texts: &[String]| {
            texts.iter().for_each(|text| context.warn(text.as_str()));
            context.take_warnings().iter().map(String::len).collect::<Vec<_>>()
        };
        let text = |letter: &str, length: usize| letter.repeat(length);
        assert_eq!(lengths(&[text("a", 3000), text("a", 3000), text("b", 1096)]), [3000, 1096], "each once");
        assert_eq!(lengths(&[text("a", 3000), text("b", 1097), text("c", 9)]), [256, 256, 9]);
        let many: Vec<String> = (0..20).map(|n| format!("{n:0300}")).collect();
        assert_eq!(lengths(&many), [256; 16]);
        assert_eq!(lengths(&[text("a", 10_000)]), [4096]);
    }
}

//! The composition root: an API server out of its parts.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xebec_api::Status;
use xebec_store::{Revision, Scope, Store, StoreError, WatchError};

use crate::admission::configuration;
use crate::admission::policy::Policies;
use crate::admission::webhook::Webhooks;
use crate::aggregation::{self, Aggregation, FrontProxy};
use crate::audit::Audit;
use crate::auth::keys::{ClusterKeys, Credential};
use crate::auth::token::{Issuers, TokenSigner};
use crate::auth::{CertificateVerifier, Peer, User};
use crate::authz::{self, Authorizer, node};
use crate::bootstrap;
use crate::config::Settings;
use crate::core::{Clock, Core};
use crate::encryption::{EncryptionKeys, RotateError, Rotated};
use crate::flow::{self, FlowControl};
use crate::health::Health;
use crate::http::body::BoxError;
use crate::http::listen;
use crate::http::reply::ReplyBody;
use crate::metrics::Metrics;
use crate::nodes::NodeConnector;
use crate::outbound::Outbound;
use crate::random::Spare;
use crate::registry::conversion::Conversions;
use crate::registry::special::{follow_definitions, refresh_table};
use crate::registry::table::{CurrentTable, Table};
use crate::serve::{ApiService, panic_text};

/// How long history is kept at least: upstream's five minutes.
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The service-account key cannot sign.
    #[error(transparent)]
    Key(#[from] crate::auth::token::KeyRejected),
    /// What was said of other issuers of tokens cannot be used.
    #[error(transparent)]
    Authentication(#[from] crate::auth::oidc::ConfigError),
    /// A certificate cannot be used.
    #[error("the cluster's certificates cannot be used")]
    Tls(#[from] rustls::Error),
    /// The certificate for the servers behind this one cannot be made.
    #[error("the certificate for API servers behind this one cannot be made")]
    FrontProxy(#[from] crate::auth::keys::KeyError),
    /// The audit log cannot be written.
    #[error("the audit log cannot be opened")]
    Audit(#[source] std::io::Error),
    /// What nodes' pods need cannot be followed.
    #[error("the store cannot be watched")]
    Watch(#[from] StoreError),
    /// The objects that every cluster has cannot be written.
    #[error("the cluster's first objects cannot be written: {0}")]
    Bootstrap(Status),
}

/// What a server is made of.
pub struct Parts {
    /// All data.
    pub store: Arc<dyn Store>,
    /// The way to the nodes' agents.
    pub nodes: Arc<dyn NodeConnector>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What the operator chose.
    pub settings: Settings,
}

/// An API server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiServer {
    service: ApiService,
    shutdown: CancellationToken,
    /// Which of the server's own tasks has ended too early, and how.
    lost: watch::Sender<Option<String>>,
}

impl ApiServer {
    /// Puts a server together. It answers when [`ApiServer::start`] is done.
    ///
    /// # Errors
    /// A key cannot be used.
    pub fn new(parts: Parts, keys: &ClusterKeys) -> Result<Self, StartError> {
        let Parts { store, nodes, clock, settings } = parts;
        let random = ring::rand::SystemRandom::new();
        let issuers = Issuers {
            names: settings.issuers.clone(),
            audiences: settings.audiences.clone(),
            former: keys.former_account_keys().to_vec(),
        };
        let tokens = TokenSigner::new(keys.service_account_key(), issuers, Box::new(random.clone()))?;
        let audit = settings.audit.clone().map(Audit::open).transpose().map_err(StartError::Audit)?;
        let issuers = crate::auth::oidc::Issuers::new(&settings.authentication, &settings.issuers)?;
        let core = Core {
            store,
            table: CurrentTable::new(Table::built_in()),
            authorizer: Authorizer::default(),
            tokens,
            issuers,
            certificates: Arc::new(CertificateVerifier::new(keys.ca_pem())?),
            webhooks: Webhooks::default(),
            conversions: Conversions::default(),
            policies: Policies::default(),
            aggregation: Aggregation::new(FrontProxy::new(keys)?),
            outbound: Outbound::new(nodes.clone()),
            nodes,
            clock,
            random: Arc::new(random),
            spare: Spare::default(),
            flow: FlowControl::new(
                settings.max_mutating + settings.max_reading,
                settings.request_timeout / 4,
            ),
            audit,
            settings,
            health: Health::default(),
            metrics: Metrics::default(),
            quota_turns: crate::admission::quota::Turns::default(),
            openapi: crate::openapi::Published::default(),
            tasks: TaskTracker::new(),
        };
        let shutdown = CancellationToken::new();
        let service = ApiService::new(Arc::new(core), shutdown.clone());
        Ok(Self { service, shutdown, lost: watch::Sender::new(None) })
    }

    /// Reads what is stored, and writes what every cluster has. The server answers afterwards.
    ///
    /// # Errors
    /// The store takes no writes.
    pub async fn start(&self) -> Result<(), StartError> {
        let core = self.service.core();
        refresh_table(core);
        bootstrap::run(core).await.map_err(StartError::Bootstrap)?;
        core.aggregation.refresh(core);
        let snapshot = core.store.snapshot();
        core.authorizer.refresh(&snapshot);
        core.authorizer.follow_nodes(core.store.clone())?;
        core.flow.configure(&snapshot);
        configuration::refresh(core);
        let following = follow_roles(core.clone(), snapshot.revision(), self.shutdown.clone());
        self.spawn("the follower of roles", following);
        for following in core.issuers.followers(core, &self.shutdown) {
            self.spawn("the follower of an issuer's keys", following);
        }
        self.spawn("the follower of nodes", node::keep_up(core.clone(), self.shutdown.clone()));
        self.spawn("the compaction of history", compact(core.clone(), self.shutdown.clone()));
        let following = configuration::follow(core.clone(), self.shutdown.clone());
        self.spawn("the follower of admission's configurations", following);
        self.spawn("the follower of API services", aggregation::follow(core.clone(), self.shutdown.clone()));
        let registering = aggregation::register(core.clone(), self.shutdown.clone());
        self.spawn("the registration of API services", registering);
        let attending = aggregation::attend(core.clone(), self.shutdown.clone());
        self.spawn("the attendant of API servers", attending);
        self.spawn("the follower of flow schemas", flow::follow(core.clone(), self.shutdown.clone()));
        if core.store.is_shared() {
            let following = follow_definitions(core.clone(), self.shutdown.clone());
            self.spawn("the follower of definitions", following);
        }
        core.health.has_started();
        Ok(())
    }

    /// Runs a task that ends when the server stops, and is told of by [`ApiServer::lost`] if it does so before.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (core, lost, shutdown) = (self.core().clone(), self.lost.clone(), self.shutdown.clone());
        self.core().tasks.spawn(async move {
            // Nothing of the task is looked at after a panic.
            let how = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(()) if shutdown.is_cancelled() => return,
                Ok(()) => "has ended".to_owned(),
                Err(panic) => format!("has failed: {}", panic_text(&*panic)),
            };
            tracing::error!(how, "{name} is lost");
            core.health.is_crippled();
            lost.send_replace(Some(format!("{name} {how}")));
        });
    }

    /// Waits until one of the server's own tasks ends before [`ApiServer::stop`], or panics: which, and how. What it did is
    /// no longer done, such as taking back permissions, so that the server should be started again.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let told = lost.wait_for(Option::is_some).await;
        let text = told.expect("the sender lives as long as the server").clone();
        text.expect("it was waited for")
    }

    /// Serves TLS connections until [`ApiServer::stop`].
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub async fn serve(&self, listener: TcpListener, credential: &Credential) -> Result<(), StartError> {
        let tls = listen::tls_config(&self.service, credential)?;
        listen::serve(listener, tls, self.service.clone(), self.shutdown.clone()).await;
        Ok(())
    }

    /// A service in this process that acts as `user`: the way for components to meet at the API.
    #[must_use]
    pub fn local(&self, user: User) -> LocalService {
        LocalService { service: self.service.clone(), peer: Peer::Local(Arc::new(user)) }
    }

    /// The state behind the server.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        self.service.core()
    }

    /// Seals what is encrypted at rest with a new key, and removes the older ones. The store must have been opened with
    /// these keys, by this server alone, and take one transaction after the other, as the embedded one does.
    ///
    /// # Errors
    /// Not all could be written again; then all keys are kept.
    pub async fn rotate_encryption(&self, keys: &EncryptionKeys) -> Result<Rotated, RotateError> {
        keys.rotate(self.core()).await
    }

    /// Is no longer ready, and ends watches one after the other, for as long as was chosen. [`ApiServer::stop`] follows.
    pub async fn drain(&self) {
        self.core().health.drains();
        self.service.end_watches().await;
    }

    /// Ends watches and streams, and stops serving.
    pub async fn stop(&self) {
        self.begin_stop();
        self.core().tasks.wait().await;
        self.flush_audit().await;
    }

    /// Waits until the audit log has all that has happened.
    pub async fn flush_audit(&self) {
        if let Some(audit) = &self.core().audit {
            audit.flush().await;
        }
    }

    /// Begins what [`ApiServer::stop`] does, for who cannot wait for the end of it.
    pub fn begin_stop(&self) {
        self.core().health.drains();
        self.shutdown.cancel();
        self.core().tasks.close();
    }
}

/// Forgets what is older than [`COMPACT_EVERY`], again and again, so that the history of a burst does not stay in memory
/// through the quiet that follows.
async fn compact(core: Arc<Core>, shutdown: CancellationToken) {
    let mut before = core.store.snapshot().revision();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(COMPACT_EVERY) => {}
        }
        if let Err(error) = core.store.compact(before).await {
            tracing::warn!(%error, "history is not forgotten");
        }
        before = core.store.snapshot().revision();
    }
}

/// How long it takes at first, and at most, until a watch that failed begins anew.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Takes changes of roles and bindings as they come. When some are lost, all are read anew.
async fn follow_roles(core: Arc<Core>, mut since: Revision, shutdown: CancellationToken) {
    let (first, longest) = PAUSES;
    let mut pause = first;
    loop {
        let before = since;
        let lost = tokio::select! {
            () = shutdown.cancelled() => return,
            lost = follow(&core, &mut since) => lost,
        };
        let Err(error) = lost else { return };
        pause = if since > before { first } else { (pause * 2).min(longest) };
        tracing::warn!(%error, ?pause, "changes of roles are lost: all are read anew");
        // First of all, so that nothing that was revoked stays in force for the pause.
        let snapshot = core.store.snapshot();
        core.authorizer.refresh(&snapshot);
        since = snapshot.revision();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Follows roles and bindings until the store is shut down, or tells why no further.
async fn follow(core: &Core, since: &mut Revision) -> Result<(), BoxError> {
    let mut watch = match core.store.watch(Scope::Prefix(authz::prefix()), *since) {
        Err(StoreError::Closed) => return Ok(()),
        opened => opened?,
    };
    loop {
        match watch.next().await {
            Ok(batch) => {
                core.authorizer.follow(&batch.events);
                *since = batch.revision;
            }
            Err(WatchError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The API in this process, as one user.
#[derive(Clone, Debug)]
pub struct LocalService {
    service: ApiService,
    peer: Peer,
}

impl<B> tower::Service<Request<B>> for LocalService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, peer) = (self.service.clone(), self.peer.clone());
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async move { Ok(service.handle(peer, None, request).await) })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tempfile::TempDir;
    use xebec_store::{Embedded, EmbeddedOptions};

    use super::*;
    use crate::core::SystemClock;
    use crate::nodes::NoNodes;

    /// A server on an empty store that has not been started.
    pub(crate) fn server() -> (ApiServer, TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let random = ring::rand::SystemRandom::new();
        let keys = ClusterKeys::open(&dir.path().join("pki"), &random).expect("keys");
        let store = Embedded::open(&dir.path().join("store"), EmbeddedOptions::default());
        let parts = Parts {
            store: Arc::new(store.expect("an empty store")),
            nodes: Arc::new(NoNodes),
            clock: Arc::new(SystemClock),
            settings: Settings::default(),
        };
        (ApiServer::new(parts, &keys).expect("usable keys"), dir)
    }

    #[tokio::test]
    async fn a_lost_task_is_told_of() {
        let (server, _dir) = server();
        server.spawn("the idle one", async {});
        assert_eq!(server.lost().await, "the idle one has ended");
        let clone = server.clone();
        server.spawn("the clumsy one", async { panic!("fell over {}", 1) });
        server.core().tasks.close();
        server.core().tasks.wait().await;
        assert_eq!(clone.lost().await, "the clumsy one has failed: fell over 1");
    }

    #[tokio::test]
    async fn nothing_is_lost_by_stopping() {
        let (server, _dir) = server();
        server.start().await.expect("an empty store takes the first objects");
        assert_eq!(server.lost().now_or_never(), None, "all run");
        server.stop().await;
        assert_eq!(server.lost().now_or_never(), None, "all were told to end");
    }

    #[tokio::test]
    async fn who_comes_too_late_is_sent_to_another_server() {
        let (server, _dir) = server();
        server.start().await.expect("an empty store takes the first objects");
        let ask = async |path: &str| {
            let body =
                http_body_util::Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync();
            let request = Request::get(path).body(body).expect("a request");
            let answer = server.service.handle(Peer::Plain, None, request).await;
            let retry =
                answer.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
            (answer.status().as_u16(), retry)
        };
        assert_eq!(ask("/api/v1/pods").await, (403, None));
        server.drain().await;
        assert_eq!(
            (ask("/api/v1/pods").await, ask("/readyz").await.0),
            ((403, None), 500),
            "it goes on for a while"
        );
        server.stop().await;
        assert_eq!(ask("/api/v1/pods").await, (429, Some("5".to_owned())));
        assert_eq!(ask("/livez").await.0, 200, "it lives until its end");
    }

    #[tokio::test]
    async fn the_follower_of_roles_is_missed() {
        let (server, _dir) = server();
        server.start().await.expect("an empty store takes the first objects");
        server.core().store.shutdown().await;
        assert_eq!(server.lost().await, "the follower of roles has ended");
    }
}

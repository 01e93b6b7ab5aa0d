//! Kubernetes' own controllers: pure plans, thin reconcilers.
//!
//! Owns: what `kube-controller-manager` does. Each controller is a module with a *plan*, a pure function from what is
//! observed to what has to be done, and a controller that reads caches, asks the plan and writes. [`runtime`] is what
//! they stand on; the scheduler stands on it too.
//! Never: touches the store, holds state that a restart would miss, or knows which API server it talks to. Everything
//! goes through a `kube::Client`, so this runs against any Kubernetes 1.35 or later.
//!
//! ```text
//!  watch ─▶ cache ─▶ keyed queue ─▶ reconcile ─▶ plan (pure) ─▶ writes ─▶ API ─▶ watch ...
//! ```
//!
//! Each controller's module says what it owns, what it guarantees and what its caveats are; what it may do is its
//! `Role`, and [`ROLES`] has them all.

pub mod aggregation;
pub mod certificates;
pub mod context;
pub mod definition;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod event_expiry;
pub mod gc;
pub mod kinds;
pub mod namespace;
pub mod node;
pub mod ownership;
pub mod per_namespace;
pub mod permissions;
pub mod pod;
pub mod protection;
pub mod quota;
pub mod replicas;
pub mod runtime;
pub mod tokens;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use kube::Client;
use tokio::sync::watch;
use tracing::info;

use context::Context;
use permissions::Role;
use runtime::clock::{SharedClock, SystemClock};
use runtime::events::Recorder;
use runtime::informer::Informers;
use runtime::rng::Rng;
use runtime::runner::{Controller, Runner, Stop};
use runtime::tasks::{TaskLost, Tasks};
use runtime::writer::Requests;

/// What every controller of this crate may do.
pub const ROLES: &[Role] = &[
    deployment::DEPLOYMENT_ROLE,
    replicas::REPLICASET_ROLE,
    replicas::REPLICATION_ROLE,
    endpoints::ENDPOINT_SLICE_ROLE,
    endpoints::ENDPOINTS_ROLE,
    endpoints::MIRRORING_ROLE,
    namespace::NAMESPACE_ROLE,
    definition::DEFINITION_ROLE,
    event_expiry::EVENT_EXPIRY_ROLE,
    gc::GC_ROLE,
    per_namespace::SERVICE_ACCOUNT_ROLE,
    per_namespace::ROOT_CA_ROLE,
    node::NODE_LIFECYCLE_ROLE,
    node::TAINT_EVICTION_ROLE,
    node::POD_GC_ROLE,
    aggregation::AGGREGATION_ROLE,
    disruption::DISRUPTION_ROLE,
    certificates::APPROVER_ROLE,
    certificates::SIGNER_ROLE,
    certificates::CLEANER_ROLE,
    tokens::ACCOUNT_TOKEN_ROLE,
    tokens::BOOTSTRAP_SIGNER_ROLE,
    tokens::TOKEN_CLEANER_ROLE,
    quota::QUOTA_ROLE,
    protection::CLAIM_ROLE,
    protection::VOLUME_ROLE,
    protection::CLASS_ROLE,
];

/// How many keys of one controller are worked on at a time.
const WORKERS: usize = 5;
/// The garbage collector's keys are many and its work is small.
const GC_WORKERS: usize = 20;

/// The keys that controllers sign with, wherever they are. Without one of them, what it is for is not done.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Signs certificates.
    pub certificates: Option<Arc<dyn certificates::Signer>>,
    /// Signs tokens of service accounts.
    pub accounts: Option<Arc<dyn tokens::Minter>>,
}

/// Which controllers run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Chosen {
    /// Each of them.
    #[default]
    All,
    /// Those with these names, which are those of [`ROLES`].
    Only(BTreeSet<String>),
}

impl Chosen {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// What the controllers need from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// The certificate of the authority that signed the API server's, as PEM; published in every namespace.
    pub root_ca_pem: String,
    /// The time of day.
    pub clock: SharedClock,
    /// The seed of all jitter and lots.
    pub seed: u64,
    /// The name of this process in events.
    pub instance: String,
    /// The keys that some controllers sign with.
    pub keys: Keys,
    /// Which of them run.
    pub chosen: Chosen,
    /// Caches to share with others of this process, for whoever made them to stop; own ones when absent.
    pub informers: Option<Informers>,
}

impl Config {
    /// The machine's clock, caches of its own, and a seed from the clock.
    pub fn new(root_ca_pem: String) -> Self {
        let clock: SharedClock = Arc::new(SystemClock);
        let seed = clock.now().as_nanosecond().unsigned_abs();
        Self {
            root_ca_pem,
            seed: u64::try_from(seed).unwrap_or(u64::MAX),
            clock,
            instance: "xebec".to_owned(),
            keys: Keys::default(),
            chosen: Chosen::All,
            informers: None,
        }
    }
}

/// Runs every controller until `shutdown` ends, and then until their last reconciles have.
///
/// # Errors
/// A task without which controllers stand still was lost; the others have been stopped then.
pub async fn run(
    client: Client,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), TaskLost> {
    let rng = Arc::new(Rng::seeded(config.seed));
    let shared = config.informers.is_some();
    let informers = config.informers.unwrap_or_else(|| Informers::new(client.clone(), Arc::clone(&rng)));
    let requests = Requests::new(client.clone(), "xebec-events");
    let (recorder, events) = Recorder::new(requests, Arc::clone(&config.clock), config.instance);
    let context = Context { client, informers: informers.clone(), clock: config.clock, rng, recorder };
    let (stop, stopping) = watch::channel(false);
    let (stop_events, events_stopping) = watch::channel(false);
    let mut writing = Tasks::default();
    writing.spawn("the writer of the controllers' events", events.run(events_stopping));
    let mut controllers =
        Controllers { tasks: Tasks::default(), context, chosen: config.chosen, stop: stopping };
    controllers.start_all(config.root_ca_pem, config.keys);
    let mut controllers = controllers.tasks;
    info!(controllers = ROLES.len(), "controllers started");
    let outcome = tokio::select! {
        biased;
        () = shutdown => Ok(()),
        lost = controllers.lost() => Err(lost),
        lost = writing.lost() => Err(lost),
        lost = informers.lost() => Err(lost),
    };
    stop.send_replace(true);
    let outcome = outcome.and(controllers.end().await);
    // What the last reconciles had to say is written after them.
    stop_events.send_replace(true);
    let outcome = outcome.and(writing.end().await);
    if !shared {
        informers.stop().await;
    }
    info!("controllers stopped");
    outcome
}

struct Controllers {
    tasks: Tasks,
    context: Context,
    chosen: Chosen,
    stop: Stop,
}

impl Controllers {
    fn start_all(&mut self, root_ca_pem: String, keys: Keys) {
        use certificates::{Approver, Cleaner, SigningController};
        use node::{eviction::TaintEviction, lifecycle::NodeLifecycle, pod_gc::PodGc};
        use per_namespace::{DefaultServiceAccount, RootCa, StandardController};
        use replicas::ReplicaController;
        self.start(&deployment::DEPLOYMENT_ROLE, WORKERS, deployment::DeploymentController::new);
        self.start(&replicas::REPLICASET_ROLE, WORKERS, ReplicaController::<ReplicaSet>::new);
        self.start(&replicas::REPLICATION_ROLE, WORKERS, ReplicaController::<ReplicationController>::new);
        self.start(&endpoints::ENDPOINT_SLICE_ROLE, WORKERS, endpoints::EndpointSliceController::new);
        self.start(&endpoints::ENDPOINTS_ROLE, WORKERS, endpoints::EndpointsController::new);
        self.start(&endpoints::MIRRORING_ROLE, WORKERS, endpoints::MirroringController::new);
        self.start(&namespace::NAMESPACE_ROLE, WORKERS, namespace::NamespaceController::new);
        self.start(&definition::DEFINITION_ROLE, WORKERS, definition::DefinitionController::new);
        self.start(&event_expiry::EVENT_EXPIRY_ROLE, 1, event_expiry::EventExpiry::new);
        self.start(&per_namespace::SERVICE_ACCOUNT_ROLE, WORKERS, |context| {
            StandardController::new(context, DefaultServiceAccount)
        });
        if let Some(minter) = keys.accounts {
            let certificate = root_ca_pem.clone();
            self.start(&tokens::ACCOUNT_TOKEN_ROLE, WORKERS, |context| {
                tokens::AccountTokens::new(context, minter, certificate)
            });
        }
        self.start(&per_namespace::ROOT_CA_ROLE, WORKERS, |context| {
            StandardController::new(context, RootCa { certificate: root_ca_pem })
        });
        self.start(&node::NODE_LIFECYCLE_ROLE, WORKERS, NodeLifecycle::new);
        self.start(&node::TAINT_EVICTION_ROLE, WORKERS, TaintEviction::new);
        self.start(&node::POD_GC_ROLE, 1, PodGc::new);
        self.start(&aggregation::AGGREGATION_ROLE, WORKERS, aggregation::AggregationController::new);
        self.start(&disruption::DISRUPTION_ROLE, WORKERS, disruption::DisruptionController::new);
        self.start(&certificates::APPROVER_ROLE, 1, Approver::new);
        self.start(&certificates::CLEANER_ROLE, 1, Cleaner::new);
        self.start(&tokens::BOOTSTRAP_SIGNER_ROLE, 1, tokens::BootstrapSigner::new);
        self.start(&tokens::TOKEN_CLEANER_ROLE, 1, tokens::TokenCleaner::new);
        self.start(&protection::CLAIM_ROLE, 1, protection::Claims::controller);
        self.start(&protection::VOLUME_ROLE, 1, protection::Volumes::controller);
        self.start(&protection::CLASS_ROLE, 1, protection::Classes::controller);
        if let Some(signer) = keys.certificates {
            self.start(&certificates::SIGNER_ROLE, 1, |context| SigningController::new(context, signer));
        }
        self.start_with_graph();
    }

    /// What looks at objects of every kind, over one set of watches.
    fn start_with_graph(&mut self) {
        let monitors = gc::Monitors::new(self.context.client.clone(), Arc::clone(&self.context.rng));
        self.start(&quota::QUOTA_ROLE, WORKERS, |context| quota::QuotaController::new(context, &monitors));
        self.start(&gc::GC_ROLE, GC_WORKERS, |context| gc::GarbageCollector::new(context, &monitors));
        if [quota::QUOTA_ROLE, gc::GC_ROLE].iter().any(|role| self.chosen.has(role.controller)) {
            self.tasks.spawn("the garbage collector's graph", monitors.run(self.stop.clone()));
        }
    }

    /// Makes a controller and runs it, if it was chosen; one that was not has no caches either.
    fn start<C: Controller>(&mut self, role: &Role, workers: usize, make: impl FnOnce(&Context) -> Arc<C>) {
        if !self.chosen.has(role.controller) {
            return;
        }
        let controller = make(&self.context);
        let Context { client, rng, clock, .. } = &self.context;
        let name = format!("the queue of {}", controller.name());
        let runner = Runner::new(controller, client.clone(), Arc::clone(rng), clock.moves(), workers);
        self.tasks.spawn(name, runner.run(self.stop.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use kube::client::Body;

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_any_task_ends_the_run_with_its_name() {
        // `path` is asked for first thing; the rest of the API never answers.
        let check = async |path: &'static str, want: &str| {
            let answer = move |request: http::Request<Body>| async move {
                assert!(request.uri().path() != path, "no such luck");
                std::future::pending::<Result<http::Response<Body>, std::io::Error>>().await
            };
            let client = Client::new(tower::service_fn(answer), "default");
            let run = run(client, Config::new(String::new()), std::future::pending());
            let ended = tokio::time::timeout(Duration::from_mins(1), run).await.expect("the run ends");
            assert_eq!(ended.unwrap_err().to_string(), want);
        };
        check("/api/v1/pods", "the watch of pods has panicked: no such luck").await;
        check("/api", "the garbage collector's graph has panicked: no such luck").await;
        check("/apis/apps/v1/replicasets", "the watch of replicasets has panicked: no such luck").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_ends_well_when_it_is_told_to() {
        let silent =
            |_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, std::io::Error>>();
        let client = Client::new(tower::service_fn(silent), "default");
        let told = tokio::time::sleep(Duration::from_mins(1));
        assert_eq!(run(client, Config::new(String::new()), told).await, Ok(()));
    }
}

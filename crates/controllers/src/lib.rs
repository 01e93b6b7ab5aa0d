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
pub mod quota;
pub mod replicas;
pub mod runtime;
pub mod tokens;

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
    let mut controllers = Controllers { tasks: Tasks::default(), context, stop: stopping };
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
    stop: Stop,
}

impl Controllers {
    fn start_all(&mut self, root_ca_pem: String, keys: Keys) {
        let context = self.context.clone();
        self.start(deployment::DeploymentController::new(&context), WORKERS);
        self.start(replicas::ReplicaController::<ReplicaSet>::new(&context), WORKERS);
        self.start(replicas::ReplicaController::<ReplicationController>::new(&context), WORKERS);
        self.start(endpoints::EndpointSliceController::new(&context), WORKERS);
        self.start(endpoints::EndpointsController::new(&context), WORKERS);
        self.start(endpoints::MirroringController::new(&context), WORKERS);
        self.start(namespace::NamespaceController::new(&context), WORKERS);
        self.start(definition::DefinitionController::new(&context), WORKERS);
        self.start(event_expiry::EventExpiry::new(&context), 1);
        self.start(
            per_namespace::StandardController::new(&context, per_namespace::DefaultServiceAccount),
            WORKERS,
        );
        if let Some(minter) = keys.accounts {
            self.start(tokens::AccountTokens::new(&context, minter, root_ca_pem.clone()), WORKERS);
        }
        let root_ca = per_namespace::RootCa { certificate: root_ca_pem };
        self.start(per_namespace::StandardController::new(&context, root_ca), WORKERS);
        self.start(node::lifecycle::NodeLifecycle::new(&context), WORKERS);
        self.start(node::eviction::TaintEviction::new(&context), WORKERS);
        self.start(node::pod_gc::PodGc::new(&context), 1);
        self.start(aggregation::AggregationController::new(&context), WORKERS);
        self.start(disruption::DisruptionController::new(&context), WORKERS);
        self.start(certificates::Approver::new(&context), 1);
        self.start(certificates::Cleaner::new(&context), 1);
        self.start(tokens::BootstrapSigner::new(&context), 1);
        self.start(tokens::TokenCleaner::new(&context), 1);
        if let Some(signer) = keys.certificates {
            self.start(certificates::SigningController::new(&context, signer), 1);
        }
        let monitors = gc::Monitors::new(context.client.clone(), Arc::clone(&context.rng));
        self.start(quota::QuotaController::new(&context, &monitors), WORKERS);
        self.start(gc::GarbageCollector::new(&context, &monitors), GC_WORKERS);
        self.tasks.spawn("the garbage collector's graph", monitors.run(self.stop.clone()));
    }

    fn start<C: Controller>(&mut self, controller: Arc<C>, workers: usize) {
        let Context { client, rng, .. } = &self.context;
        let name = format!("the queue of {}", controller.name());
        let runner = Runner::new(controller, client.clone(), Arc::clone(rng), workers);
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

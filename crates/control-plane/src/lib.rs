//! The control plane in one process: controllers and scheduler beside an API server, which they reach in memory.
//!
//! Owns: how these parts are put together, for whoever runs them: the command `xebec`, and `xebec-testkit`. That is who
//! each of them is and what it may do ([`roles`]), the keys that controllers sign with ([`signing`]), the caches that they
//! share, and, of several servers on one store, in which one they act ([`turns`]).
//! Never: opens a store, listens, or knows of nodes.
//!
//! They end in the order in which they depend on each other: first the parts, then [`Components::informers`], then the
//! store.

pub mod kubeconfig;
pub mod roles;
pub mod signing;
pub mod turns;

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;
use xebec_controllers::runtime::clock::{SharedClock, SystemClock};
use xebec_controllers::runtime::informer::Informers;
use xebec_controllers::runtime::rng::Rng;
use xebec_controllers::runtime::tasks::TaskLost;
use xebec_controllers::{Chosen, Keys};
use xebec_server::ApiServer;
use xebec_server::auth::User;
use xebec_server::auth::keys::ClusterKeys;

/// How the parts run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The time of day, as the server has it.
    pub clock: SharedClock,
    /// Which controllers run.
    pub controllers: Chosen,
}

impl Default for Options {
    /// All of them, on the machine's clock.
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), controllers: Chosen::All }
    }
}

/// The parts beside a server that has its store to itself. They share one set of caches.
#[derive(Debug)]
pub struct Components {
    server: ApiServer,
    keys: Arc<ClusterKeys>,
    options: Options,
    informers: Informers,
}

impl Components {
    /// Puts them together; nothing runs yet.
    #[must_use]
    pub fn new(server: &ApiServer, keys: &Arc<ClusterKeys>, options: Options) -> Self {
        let seed = controllers(server, keys).seed;
        let informers = Informers::new(client(server, roles::controllers()), Arc::new(Rng::seeded(seed)));
        Self { server: server.clone(), keys: keys.clone(), options, informers }
    }

    /// The caches, to be stopped when nobody uses them any more.
    #[must_use]
    pub fn informers(&self) -> Informers {
        self.informers.clone()
    }

    /// Runs the controllers until `shutdown`; fails when a task is lost without which they stand still.
    pub fn controllers(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), TaskLost>> + Send + use<> {
        let config = xebec_controllers::Config {
            clock: self.options.clock.clone(),
            chosen: self.options.controllers.clone(),
            informers: Some(self.informers()),
            ..controllers(&self.server, &self.keys)
        };
        let client = client(&self.server, roles::controllers());
        xebec_controllers::run(client, config, shutdown.cancelled_owned())
    }

    /// Runs the scheduler until `shutdown`; fails when a task is lost without which it stands still.
    pub fn scheduler(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), TaskLost>> + Send + use<> {
        let config = xebec_scheduler::Config {
            clock: self.options.clock.clone(),
            informers: Some(self.informers()),
            ..xebec_scheduler::Config::default()
        };
        let client = client(&self.server, roles::scheduler());
        xebec_scheduler::run(client, config, shutdown.cancelled_owned())
    }
}

/// A client of the API in this process.
#[must_use]
pub fn client(server: &ApiServer, user: User) -> Client {
    Client::new(server.local(user), "default")
}

/// The controllers' settings: they sign with the cluster's keys.
#[must_use]
pub fn controllers(server: &ApiServer, keys: &Arc<ClusterKeys>) -> xebec_controllers::Config {
    let mut config = xebec_controllers::Config::new(keys.ca_pem().to_owned());
    config.keys = Keys {
        certificates: Some(Arc::new(signing::Authority(keys.clone()))),
        accounts: Some(Arc::new(signing::AccountKey(server.core().clone()))),
    };
    config
}

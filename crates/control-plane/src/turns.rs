//! Of several servers on one store, the one in which a part acts.
//!
//! Each part has a lease, those of upstream's components, and acts where it is held. Each term has caches of its own,
//! which are empty on the servers that wait.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;
use xebec_controllers::runtime::clock::SystemClock;
use xebec_controllers::runtime::election::{Election, Timing};
use xebec_controllers::runtime::tasks::TaskLost;
use xebec_server::ApiServer;
use xebec_server::auth::keys::ClusterKeys;

use crate::roles;

/// The leases of upstream's components, which these stand for.
const CONTROLLERS: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

/// How long a part may take to stop when its lease is lost: less than the others wait on for it.
const STOPS_WITHIN: Duration = Duration::from_secs(4);

/// Runs the controllers while this server leads, until `shutdown`.
pub async fn controllers(
    server: ApiServer,
    keys: Arc<ClusterKeys>,
    identity: String,
    shutdown: CancellationToken,
) {
    let client = crate::client(&server, roles::controllers());
    let run = |term: CancellationToken| {
        let config = crate::controllers(&server, &keys);
        tell(xebec_controllers::run(client.clone(), config, term.cancelled_owned()))
    };
    in_turn(client.clone(), CONTROLLERS, identity, shutdown, run).await;
}

/// Runs the scheduler while this server leads, until `shutdown`.
pub async fn scheduler(server: ApiServer, identity: String, shutdown: CancellationToken) {
    let client = crate::client(&server, roles::scheduler());
    let run = |term: CancellationToken| {
        let config = xebec_scheduler::Config::default();
        tell(xebec_scheduler::run(client.clone(), config, term.cancelled_owned()))
    };
    in_turn(client.clone(), SCHEDULER, identity, shutdown, run).await;
}

/// Tells the log of a part that was lost.
pub async fn tell(part: impl Future<Output = Result<(), TaskLost>>) {
    part.await.unwrap_or_else(|lost| tracing::error!("{lost}"));
}

/// Runs a part while the lease `name` is held, again and again, until `shutdown`. `run` ends soon after its token is
/// cancelled; if it does not, or ends by itself, this ends too, and whoever runs it has to start the process over.
async fn in_turn<F: Future<Output = ()>>(
    client: Client,
    name: &'static str,
    identity: String,
    shutdown: CancellationToken,
    mut run: impl FnMut(CancellationToken) -> F,
) {
    let mut election = Election::new(client, name, identity, Arc::new(SystemClock), Timing::default());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = election.won() => {}
        }
        let term = shutdown.child_token();
        let mut work = std::pin::pin!(run(term.clone()));
        let lost = tokio::select! {
            () = &mut work => false,
            () = election.lost() => true,
        };
        if !lost {
            // Asked to, or lost: a part that failed should not hold the lease.
            election.resign().await;
            return;
        }
        term.cancel();
        if tokio::time::timeout(STOPS_WITHIN, work).await.is_err() {
            tracing::error!(name, "what another server does now does not stop here");
            return;
        }
    }
}

//! The controllers and the scheduler: beside each other in one server, or each in one of several at a time.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;
use xebec_controllers::runtime::clock::SystemClock;
use xebec_controllers::runtime::election::{Election, Timing};

/// The leases of upstream's components, which these stand for.
pub(super) const CONTROLLERS: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";

/// How long a part may take to stop when its lease is lost: less than the others wait on for it.
const STOPS_WITHIN: Duration = Duration::from_secs(4);

/// Runs a part while the lease `name` is held, again and again, until `shutdown`. `run` ends soon after its token is
/// cancelled; if it does not, or ends by itself, this ends too, and whoever runs it has to start the process over.
pub(super) async fn in_turn<F: Future<Output = ()>>(
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

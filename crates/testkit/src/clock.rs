//! The cluster's clock: the machine's, and how far the test has moved it.
//!
//! Server, controllers, scheduler and simulated nodes all read this one clock. It runs on by itself; tokio's clock is not
//! touched, so that tests may run on any runtime.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff;
use tokio::sync::watch;
use tokio::time::Instant;
use xebec_api::time::Timestamp;
use xebec_controllers::runtime::clock::{Clock, Moves, after};

use crate::cluster::Cluster;

/// How far the clock moves at a time while there are simulated nodes: these renew their leases after each step, and are
/// given up after 50 seconds of silence.
const STEP: Duration = Duration::from_secs(20);

/// The machine's clock, ahead by so much.
#[derive(Debug, Default)]
pub(crate) struct MovedClock {
    ahead: watch::Sender<Duration>,
}

impl MovedClock {
    pub(crate) fn system_now(&self) -> SystemTime {
        SystemTime::now() + self.ahead()
    }

    fn ahead(&self) -> Duration {
        *self.ahead.borrow()
    }

    fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead = ahead.saturating_add(by));
    }
}

impl Clock for MovedClock {
    fn now(&self) -> jiff::Timestamp {
        let machine = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        after(machine, self.ahead())
    }

    fn instant(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    fn moves(&self) -> Moves {
        Moves::of(self.ahead.subscribe())
    }
}

impl xebec_server::core::Clock for MovedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(self.system_now())
    }
}

/// The clock of a cluster, from [`Cluster::clock`].
#[derive(Clone, Copy, Debug)]
pub struct ClusterClock<'a> {
    pub(crate) cluster: &'a Cluster,
}

impl ClusterClock<'_> {
    /// The cluster's time: what it writes into objects.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.cluster.moved_clock().system_now()
    }

    /// Moves the clock, for every part of the cluster. Simulated nodes that are not silent renew their leases on the way,
    /// every 20 seconds of it, as real ones would, so that none is given up for the move.
    ///
    /// When this returns the time is there; what follows from it, as the deletion of what has expired, comes soon after: wait
    /// for it with [`Cluster::wait_for`].
    ///
    /// What moves: times that the server and controllers write; the expiry of tokens, certificates, leases and events; what a
    /// controller does after a time (deadlines, grace and tolerations of pods on lost nodes); the silence of nodes; the
    /// scheduler's pauses. What does not: the limits of requests and watches, pauses after a failure, the ages that tables show,
    /// and tokio's own timers, which the operator under test waits by.
    pub async fn advance(&self, by: Duration) {
        let clock = self.cluster.moved_clock();
        let mut left = by;
        while !left.is_zero() {
            let nodes = self.cluster.speaking_nodes();
            let step = if nodes.is_empty() { left } else { left.min(STEP) };
            clock.advance(step);
            left -= step;
            for node in nodes {
                node.beat().await;
            }
        }
    }
}

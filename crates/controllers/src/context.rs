//! What all controllers of one process share.

use std::sync::Arc;

use kube::Client;

use crate::runtime::clock::SharedClock;
use crate::runtime::events::Recorder;
use crate::runtime::informer::Informers;
use crate::runtime::rng::Rng;

/// Given to each controller when it is made. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Requests go through this.
    pub client: Client,
    /// Reads come from these.
    pub informers: Informers,
    /// The time of day.
    pub clock: SharedClock,
    /// Jitter and lots.
    pub rng: Arc<Rng>,
    /// Events.
    pub recorder: Recorder,
}

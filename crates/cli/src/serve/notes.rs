//! What is not as it could be on this machine, as `xebec status` tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a note is about; there is one note on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// The store does not take writes.
    Store,
    /// Limits of containers.
    Limits,
    /// Addresses of services.
    Services,
    /// The way out of the cluster.
    Egress,
}

/// The notes at present. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<BTreeMap<Topic, String>>>);

impl Notes {
    /// Says something on a topic, in place of what was said.
    pub(crate) fn set(&self, topic: Topic, text: impl Into<String>) {
        self.lock().insert(topic, text.into());
    }

    /// There is nothing to say on a topic any more.
    pub(crate) fn clear(&self, topic: Topic) {
        self.lock().remove(&topic);
    }

    /// All of them.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Topic, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

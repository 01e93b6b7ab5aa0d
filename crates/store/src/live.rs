//! What a backend keeps in memory: the live state, recent states, recent events, and the watchers.
//!
//! A backend publishes in two steps: [`Live::advance`] lets readers see the new states, [`Live::announce`] tells the
//! watchers. Both are called by one thread at a time, in commit order, and only with what is durable.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use crate::history::History;
use crate::limits::Limits;
use crate::watch::Hub;
use crate::{Event, Revision, Scope, Snapshot, StoreError, Watch};

#[derive(Debug)]
pub(crate) struct Live {
    history: RwLock<History>,
    hub: Arc<Hub>,
}

/// One committed transaction; without events, the word that nothing has changed up to its revision.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The state after it.
    pub(crate) snapshot: Snapshot,
    /// What it did.
    pub(crate) events: Vec<Arc<Event>>,
}

impl Step {
    pub(crate) fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    fn replaced_bytes(&self) -> usize {
        self.events.iter().filter_map(|event| event.previous()).map(|record| record.cost()).sum()
    }
}

impl Live {
    pub(crate) fn new(snapshot: Snapshot, limits: &Limits, now: Instant) -> Self {
        let hub = Arc::new(Hub::new(snapshot.revision(), limits.watch.clone()));
        Self { history: RwLock::new(History::new(snapshot, limits.history.clone(), now)), hub }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.read().newest()
    }

    pub(crate) fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, StoreError> {
        self.read().at(revision)
    }

    pub(crate) fn watch(&self, scope: Scope, after: Revision) -> Result<Watch, StoreError> {
        self.hub.subscribe(scope, after)
    }

    pub(crate) fn compact(&self, before: Revision, now: Instant) -> Result<(), StoreError> {
        let forgotten = {
            let mut history = self.write();
            let mut forgotten = history.compact(before)?;
            forgotten.extend(history.trim(now));
            forgotten
        };
        drop(forgotten);
        self.hub.compact(before, now);
        Ok(())
    }

    /// Makes the last of `steps` the newest state.
    pub(crate) fn advance(&self, steps: &[Step], now: Instant) {
        let forgotten = {
            let mut history = self.write();
            for step in steps {
                if step.events.is_empty() {
                    history.pass(step.revision());
                    continue;
                }
                history.push(step.snapshot.clone(), step.replaced_bytes(), now);
            }
            history.trim(now)
        };
        drop(forgotten);
    }

    /// Delivers the events of `steps`.
    pub(crate) fn announce(&self, steps: &[Step], now: Instant) {
        self.hub.publish(steps.iter().map(|step| (step.revision(), &*step.events)), now);
    }

    /// Starts over with `snapshot`, when it is not known what has happened before: old states are forgotten, and every
    /// watcher is told that it has missed something.
    pub(crate) fn reset(&self, snapshot: Snapshot, limits: &Limits, now: Instant) {
        let revision = snapshot.revision();
        let fresh = History::new(snapshot, limits.history.clone(), now);
        let old = std::mem::replace(&mut *self.write(), fresh);
        drop(old);
        self.hub.reset(revision);
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.hub.close();
    }

    fn read(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().expect("nothing panics while it holds the history")
    }

    fn write(&self) -> RwLockWriteGuard<'_, History> {
        self.history.write().expect("nothing panics while it holds the history")
    }
}

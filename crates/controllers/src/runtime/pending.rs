//! Own writes that the caches have not shown yet.
//!
//! A reconcile that starts from a cache without its own last writes would do them twice. So each write leaves a
//! [`PendingWrite`] under the key that caused it, and the key is not reconciled again until the caches show all
//! of them:
//!
//! - a create or patch is visible once the watch has passed its revision, or once a list that began after it is in;
//! - a delete is visible once the cache has no such incarnation, or has it as deleting, or such a list is in.
//!
//! The event that makes a write visible also wakes the key, because the object belongs to it. Should a write stay
//! invisible (somebody took the owner reference away), it is given up after [`GIVE_UP_AFTER`].

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::informer::Informer;
use super::kind::Kind;
use super::object::{ObjectKey, Revision, Uid};

/// How long an invisible write holds up its key.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// A write that may not be in a cache yet.
pub struct PendingWrite {
    visible: Box<dyn Fn() -> bool + Send + Sync>,
    since: Instant,
}

impl fmt::Debug for PendingWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingWrite").field("visible", &(self.visible)()).finish()
    }
}

impl PendingWrite {
    /// The object of `informer`'s resource was written with `revision`.
    pub fn written<K: Kind>(informer: &Informer<K>, revision: Revision, lists_begun: u64) -> Self {
        let informer = informer.clone();
        Self::new(move || {
            let progress = informer.progress();
            progress.seen >= revision || progress.lists_done > lists_begun
        })
    }

    /// The incarnation `uid` of `key` was deleted, perhaps gracefully.
    pub fn deleted<K: Kind>(informer: &Informer<K>, key: ObjectKey, uid: Uid, lists_begun: u64) -> Self {
        let informer = informer.clone();
        Self::new(move || {
            if informer.progress().lists_done > lists_begun {
                return true;
            }
            let store = informer.read();
            store.uid(&key) != Some(&uid) || store.get(&key).is_none_or(|object| object.is_deleting())
        })
    }

    fn new(visible: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { visible: Box::new(visible), since: Instant::now() }
    }
}

/// Whether a key may be reconciled.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The caches show every own write.
    Ready,
    /// They do not yet.
    Waiting,
    /// They do not, and it has been too long: the key goes ahead.
    GaveUp,
}

/// The pending writes of each key of one controller.
#[derive(Debug)]
pub struct PendingWrites<T> {
    by_key: Mutex<HashMap<T, Vec<PendingWrite>>>,
}

impl<T> Default for PendingWrites<T> {
    fn default() -> Self {
        Self { by_key: Mutex::default() }
    }
}

impl<T: Clone + Eq + Hash> PendingWrites<T> {
    /// Adds the writes that a reconcile of `key` has done.
    pub fn add(&self, key: &T, writes: Vec<PendingWrite>) {
        let mut writes = writes;
        writes.retain(|write| !(write.visible)());
        if !writes.is_empty() {
            self.lock().entry(key.clone()).or_default().extend(writes);
        }
    }

    /// Looks whether the caches have caught up with `key`.
    pub fn check(&self, key: &T) -> Readiness {
        let mut by_key = self.lock();
        let Some(writes) = by_key.get_mut(key) else { return Readiness::Ready };
        writes.retain(|write| !(write.visible)());
        let readiness = match writes.iter().map(|write| write.since).min() {
            None => Readiness::Ready,
            Some(oldest) if oldest.elapsed() < GIVE_UP_AFTER => return Readiness::Waiting,
            Some(_) => Readiness::GaveUp,
        };
        by_key.remove(key);
        readiness
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<T, Vec<PendingWrite>>> {
        // No code that can panic leaves the map half changed.
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn switch() -> (Arc<AtomicBool>, PendingWrite) {
        let on = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&on);
        (on, PendingWrite::new(move || seen.load(Ordering::Relaxed)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_for_all_of_its_writes() {
        let pending = PendingWrites::default();
        let ((first, a), (second, b)) = (switch(), switch());
        pending.add(&"key", vec![a]);
        pending.add(&"key", vec![b]);
        assert_eq!(pending.check(&"other"), Readiness::Ready);
        assert_eq!(pending.check(&"key"), Readiness::Waiting);
        first.store(true, Ordering::Relaxed);
        assert_eq!(pending.check(&"key"), Readiness::Waiting);
        second.store(true, Ordering::Relaxed);
        assert_eq!(pending.check(&"key"), Readiness::Ready);
        assert!(pending.lock().is_empty(), "nothing is kept for a key that has caught up");
    }

    #[tokio::test(start_paused = true)]
    async fn an_invisible_write_is_given_up() {
        let pending = PendingWrites::default();
        pending.add(&"key", vec![switch().1]);
        tokio::time::advance(GIVE_UP_AFTER - Duration::from_millis(1)).await;
        assert_eq!(pending.check(&"key"), Readiness::Waiting);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(pending.check(&"key"), Readiness::GaveUp);
        assert_eq!(pending.check(&"key"), Readiness::Ready);
    }
}

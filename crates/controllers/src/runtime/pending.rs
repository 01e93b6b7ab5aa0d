//! Own writes that the caches have not shown yet.
//!
//! A reconcile that starts from a cache without its own last writes would do them twice. So each write leaves a
//! [`PendingWrite`] under the key that caused it, and the key is not reconciled again until the caches show all
//! of them:
//!
//! - a create or patch is visible once the watch has passed its revision, or once a list that began after it is in;
//! - a delete is visible once the cache has no such incarnation, or has it as deleting, or such a list is in.
//!
//! The event that makes a write visible also wakes the key, because the object belongs to it. A cache that does not show
//! a write for [`RELIST_AFTER`] is filled anew: nothing is ever done on the word of a cache that is behind.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::informer::Informer;
use super::kind::Kind;
use super::object::{ObjectKey, Revision, Uid};

/// How long a write may be invisible until its cache is filled anew, and once more each time.
pub const RELIST_AFTER: Duration = Duration::from_mins(5);

/// A write that may not be in a cache yet.
pub struct PendingWrite {
    visible: Box<dyn Fn() -> bool + Send + Sync>,
    relist: Box<dyn Fn() + Send + Sync>,
    /// When it was written, or its cache was last asked for a list.
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
        let (cache, informer) = (informer.clone(), informer.clone());
        let visible = move || {
            let progress = informer.progress();
            progress.seen >= revision || progress.lists_done > lists_begun
        };
        Self::new(visible, move || cache.relist())
    }

    /// The incarnation `uid` of `key` was deleted, perhaps gracefully.
    pub fn deleted<K: Kind>(informer: &Informer<K>, key: ObjectKey, uid: Uid, lists_begun: u64) -> Self {
        let (cache, informer) = (informer.clone(), informer.clone());
        let visible = move || {
            if informer.progress().lists_done > lists_begun {
                return true;
            }
            let store = informer.read();
            store.uid(&key) != Some(&uid) || store.get(&key).is_none_or(|object| object.is_deleting())
        };
        Self::new(visible, move || cache.relist())
    }

    fn new(
        visible: impl Fn() -> bool + Send + Sync + 'static,
        relist: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { visible: Box::new(visible), relist: Box::new(relist), since: Instant::now() }
    }
}

/// Whether a key may be reconciled.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The caches show every own write.
    Ready,
    /// They do not yet.
    Waiting,
    /// They do not, and it has been too long: lists have been asked for.
    Relisting,
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
    /// Adds the writes that a reconcile of `key` has done. Says whether one of them is not visible yet.
    pub fn add(&self, key: &T, writes: Vec<PendingWrite>) -> bool {
        let mut writes = writes;
        writes.retain(|write| !(write.visible)());
        let waits = !writes.is_empty();
        if waits {
            self.lock().entry(key.clone()).or_default().extend(writes);
        }
        waits
    }

    /// Looks whether the caches have caught up with `key`.
    pub fn check(&self, key: &T) -> Readiness {
        let mut by_key = self.lock();
        let Some(writes) = by_key.get_mut(key) else { return Readiness::Ready };
        writes.retain(|write| !(write.visible)());
        if writes.is_empty() {
            by_key.remove(key);
            return Readiness::Ready;
        }
        let mut readiness = Readiness::Waiting;
        for write in writes.iter_mut().filter(|write| write.since.elapsed() >= RELIST_AFTER) {
            (write.relist)();
            write.since = Instant::now();
            readiness = Readiness::Relisting;
        }
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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn switch() -> (Arc<AtomicBool>, PendingWrite) {
        let on = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&on);
        (on, PendingWrite::new(move || seen.load(Ordering::Relaxed), || {}))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_for_all_of_its_writes() {
        let pending = PendingWrites::default();
        let ((first, a), (second, b)) = (switch(), switch());
        assert!(pending.add(&"key", vec![a]));
        assert!(pending.add(&"key", vec![b]));
        assert_eq!(pending.check(&"other"), Readiness::Ready);
        assert_eq!(pending.check(&"key"), Readiness::Waiting);
        first.store(true, Ordering::Relaxed);
        assert_eq!(pending.check(&"key"), Readiness::Waiting);
        second.store(true, Ordering::Relaxed);
        assert_eq!(pending.check(&"key"), Readiness::Ready);
        assert!(pending.lock().is_empty(), "nothing is kept for a key that has caught up");
    }

    #[tokio::test(start_paused = true)]
    async fn an_invisible_write_asks_for_a_list_and_waits_for_it() {
        let pending = PendingWrites::default();
        let (listed, mut write) = switch();
        let lists = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&lists);
        write.relist = Box::new(move || {
            asked.fetch_add(1, Ordering::Relaxed);
        });
        assert!(pending.add(&"key", vec![write]));
        for number in 0..3 {
            tokio::time::advance(RELIST_AFTER - Duration::from_millis(1)).await;
            assert_eq!(pending.check(&"key"), Readiness::Waiting);
            assert_eq!(lists.load(Ordering::Relaxed), number);
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(pending.check(&"key"), Readiness::Relisting);
            assert_eq!(pending.check(&"key"), Readiness::Waiting, "the key waits for the list");
            assert_eq!(lists.load(Ordering::Relaxed), number + 1);
        }
        listed.store(true, Ordering::Relaxed);
        assert_eq!(pending.check(&"key"), Readiness::Ready);
    }
}

//! Leases: what operations in progress use must survive a prune that starts or runs meanwhile.
//!
//! A digest may stop being leased and start being referenced while a prune is between reading the references and
//! removing files. So as long as a [`Sweep`] exists, every digest that was leased at any moment of it stays protected.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Inner;
use crate::digest::Digest;

#[derive(Debug, Default)]
pub(super) struct Leases {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Digest, usize>,
    sweeps: usize,
    /// Released while a sweep was running.
    released: HashSet<Digest>,
}

/// Keeps one digest from being pruned while it exists.
#[derive(Debug)]
pub struct Lease {
    store: Arc<Inner>,
    digest: Digest,
}

impl Leases {
    pub(super) fn take(&self, store: &Arc<Inner>, digest: &Digest) -> Lease {
        *self.state().held.entry(digest.clone()).or_insert(0) += 1;
        Lease { store: Arc::clone(store), digest: digest.clone() }
    }

    pub(super) fn sweep(&self) -> Sweep<'_> {
        self.state().sweeps += 1;
        Sweep { leases: self }
    }

    /// Counters stay consistent at every statement, so a panic elsewhere while the lock was held is harmless.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.store.leases.state();
        if let Some(count) = state.held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.digest);
                if state.sweeps > 0 {
                    state.released.insert(self.digest.clone());
                }
            }
        }
    }
}

/// A prune in progress.
pub(crate) struct Sweep<'a> {
    leases: &'a Leases,
}

impl Sweep<'_> {
    /// Does `remove` unless the digest is protected. Nobody can take a lease meanwhile, so whoever takes one afterwards
    /// and then looks finds out that the thing is gone.
    pub(crate) fn unless_protected<T, E>(
        &self,
        digest: &Digest,
        remove: impl FnOnce() -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let state = self.leases.state();
        if state.held.contains_key(digest) || state.released.contains(digest) {
            return Ok(None);
        }
        remove().map(Some)
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        let mut state = self.leases.state();
        state.sweeps -= 1;
        if state.sweeps == 0 {
            state.released.clear();
        }
    }
}

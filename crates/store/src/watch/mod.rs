//! Watches: every change of some keys, in order, from a revision on.
//!
//! An event exists once. It is appended to the log of its partition, the first three segments of its key
//! (`/registry/core/pods/`), and to a log of everything. A watcher has no queue: it has a position in a log and a
//! slot, in which the publisher notes the first position that touches the watcher's scope. So a commit costs the same
//! however far a watcher is behind, and wakes only those whose partition, namespace or key it touches.
//!
//! ```text
//!  publisher ─append─▶ log: [e4 e5 e6 e7 e8]      log of another partition …
//!      │                       ▲     ▲
//!      └─mark, wake─▶ slot ────┘     └──── slot of a watcher that has read up to here
//! ```
//!
//! Logs are bounded by count, bytes and age. A watcher that the log's oldest event has overtaken gets
//! [`WatchError::TooSlow`]: it has to list again. One whose scope was not touched meanwhile is not overtaken.

mod hub;
mod log;
mod partition;
mod scope;
mod slot;

use std::future::poll_fn;
use std::sync::Arc;

use tokio::task::coop::consume_budget;

use self::hub::Admission;
use self::log::Position;
use self::partition::{Partition, WatchId};
use self::slot::{Signal, Slot};
use crate::{Event, Revision};

pub(crate) use self::hub::Hub;
pub use self::scope::Scope;

/// Delivers the events of a scope. Closed by dropping it.
#[derive(Debug)]
pub struct Watch {
    subscription: Subscription,
    /// Where the next read starts at the earliest.
    next: Position,
    /// Whether the last read stopped before the log's end.
    partial: bool,
    /// Everything in scope up to here was delivered.
    delivered: Revision,
    /// Only later events are delivered.
    after: Revision,
    failed: Option<WatchError>,
}

/// A watch's place among the watchers of its partition; leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    admission: Admission,
    partition: Arc<Partition>,
    scope: Scope,
    id: WatchId,
    slot: Arc<Slot>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.partition.unregister(&self.scope, self.id);
    }
}

/// Events that were delivered together. A transaction is never split.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In commit order; at least one.
    pub events: Vec<Arc<Event>>,
    /// With this batch, everything in scope up to here has been delivered.
    pub revision: Revision,
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The events that come next are forgotten.
    #[error("the watcher is too slow: events after {delivered} are compacted up to {oldest}; list again")]
    TooSlow {
        /// What was delivered.
        delivered: Revision,
        /// What a new watch could start from at that moment.
        oldest: Revision,
    },
    /// The store was shut down; everything before was delivered.
    #[error("the store is shut down")]
    Closed,
}

impl Watch {
    fn new(subscription: Subscription, next: Position, after: Revision) -> Self {
        Self { subscription, next, partial: false, delivered: after, after, failed: None }
    }

    /// Waits for events. Cancel safe: what a dropped future did not return, the next call does.
    ///
    /// # Errors
    /// [`WatchError`]; every later call fails in the same way.
    pub async fn next(&mut self) -> Result<Batch, WatchError> {
        // A watcher that always finds something lets other tasks run in between.
        consume_budget().await;
        loop {
            if let Some(batch) = self.try_next()? {
                return Ok(batch);
            }
            let slot = &self.subscription.slot;
            poll_fn(|context| slot.poll_signal(context)).await;
        }
    }

    /// The events that are there already; none when there are none.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn try_next(&mut self) -> Result<Option<Batch>, WatchError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.read().inspect_err(|error| self.failed = Some(*error)),
        }
    }

    /// Everything in scope up to this revision has been delivered: what a bookmark tells a client.
    #[must_use]
    pub fn progress(&self) -> Revision {
        // In this order: what is published at the time of the load is marked in the slot.
        let published = self.subscription.admission.hub().published();
        if self.partial || self.subscription.slot.is_pending() {
            self.delivered
        } else {
            self.delivered.max(published)
        }
    }

    /// The watched keys.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.subscription.scope
    }

    fn read(&mut self) -> Result<Option<Batch>, WatchError> {
        let Subscription { admission, partition, scope, slot, .. } = &self.subscription;
        let published = admission.hub().published();
        let state = partition.read();
        // Under the partition's lock: the publisher marks nothing between this and the end of the read.
        match slot.take() {
            Signal::Pending(position) if !self.partial => self.next = self.next.max(position),
            Signal::Idle if !self.partial => return Ok(None),
            Signal::Closed if !self.partial => return Err(WatchError::Closed),
            Signal::Pending(_) | Signal::Idle | Signal::Closed => (),
        }
        if self.next < state.log.first() {
            let oldest = state.log.complete_after();
            return Err(WatchError::TooSlow { delivered: self.delivered, oldest });
        }
        let mut events: Vec<Arc<Event>> = Vec::new();
        self.partial = false;
        for event in state.log.read(self.next) {
            if event.revision() > self.after && scope.contains(event.key()) {
                let full = events.len() >= admission.hub().limits().batch_events;
                if full && events.last().is_some_and(|last| last.revision() != event.revision()) {
                    self.partial = true;
                    break;
                }
                events.push(event.clone());
            }
            self.next += 1;
        }
        drop(state);
        let last = events.last().map_or(self.delivered, |event| event.revision());
        self.delivered = if self.partial { last } else { self.delivered.max(last).max(published) };
        let revision = self.delivered;
        Ok((!events.is_empty()).then_some(Batch { events, revision }))
    }
}

//! Room for transactions under way: bounded by their bytes. A caller beyond it waits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{MAX_TXN_BYTES, QueueLimits};
use crate::{CommitError, Txn};

/// What is counted at once, in bytes.
const UNIT: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new(limits: &QueueLimits) -> Self {
        // Each transaction takes its bytes, rounded down, and one unit more.
        let units = limits.bytes.max(MAX_TXN_BYTES).div_ceil(UNIT) + limits.txns.max(1);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Waits for room for `txn`, which is within the limits; it is given back by dropping.
    pub(crate) async fn take(&self, txn: &Txn) -> Result<OwnedSemaphorePermit, CommitError> {
        let units = u32::try_from(txn.bytes() / UNIT + 1).expect("MAX_TXN_BYTES fits");
        self.0.clone().acquire_many_owned(units).await.map_err(|_| CommitError::Closed)
    }
}

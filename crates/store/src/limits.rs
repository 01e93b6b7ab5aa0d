//! Every bound of the store in one place. An error that refuses something names its bound.

use std::time::Duration;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1_024;
/// The largest value, in bytes: the API's 3 MiB request limit and what a server adds to an object.
pub const MAX_VALUE_BYTES: usize = 4 * MIB;
/// The most operations, and the most conditions, of one transaction.
pub const MAX_TXN_OPS: usize = 128;
/// The most bytes of keys and values in one transaction.
pub const MAX_TXN_BYTES: usize = 8 * MIB;
/// The most transactions that share one disk write.
pub const MAX_GROUP_TXNS: usize = 256;
/// From how many bytes on no further transaction shares a disk write.
pub const MAX_GROUP_BYTES: usize = 8 * MIB;
/// The most bytes that sealing may add to a value.
pub const MAX_SEAL_BYTES: usize = 64;

const MIB: usize = 1024 * 1024;

/// The bounds of a store that may be configured.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// What waits to be written, or for etcd's answer.
    pub queue: QueueLimits,
    /// Old states kept for exact-revision reads.
    pub history: HistoryLimits,
    /// Events kept for watchers, and watchers.
    pub watch: WatchLimits,
    /// What the disk engine keeps in memory.
    pub disk: DiskLimits,
}

/// Bounds of the write path. A caller beyond them waits.
#[derive(Clone, Debug)]
pub struct QueueLimits {
    /// Transactions waiting.
    pub txns: usize,
    /// Their bytes; at least [`MAX_TXN_BYTES`].
    pub bytes: usize,
    /// Transactions that share one disk write, at most [`MAX_GROUP_TXNS`].
    pub group_txns: usize,
    /// Bytes that share one disk write, at most [`MAX_GROUP_BYTES`]; the transaction that passes it is still taken.
    pub group_bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { txns: 1_024, bytes: 64 * MIB, group_txns: MAX_GROUP_TXNS, group_bytes: MAX_GROUP_BYTES }
    }
}

/// Bounds of the ring of old states. The tightest one counts; the newest state is always kept.
#[derive(Clone, Debug)]
pub struct HistoryLimits {
    /// Revisions.
    pub revisions: usize,
    /// Bytes that only old states hold, estimated: replaced records and copied map nodes.
    pub bytes: usize,
    /// Age, counted from the commit. Checked on each commit and by compaction.
    pub age: Duration,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { revisions: 16_384, bytes: 32 * MIB, age: Duration::from_secs(600) }
    }
}

/// Bounds of the event logs and of the watchers that read them.
#[derive(Clone, Debug)]
pub struct WatchLimits {
    /// Events in one log (one log per partition, see [`crate::Watch`]).
    pub log_events: usize,
    /// Bytes of all logs together, estimated; the largest log gives way.
    pub log_bytes: usize,
    /// Age of an event, counted from the commit. Checked on each commit to the partition and by compaction.
    pub age: Duration,
    /// Events in one batch; the rest of a transaction is still added.
    pub batch_events: usize,
    /// Open watches.
    pub watches: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            log_events: 8_192,
            log_bytes: 48 * MIB,
            age: Duration::from_secs(600),
            batch_events: 256,
            watches: 65_536,
        }
    }
}

/// Bounds of the embedded backend's disk engine.
#[derive(Clone, Debug)]
pub struct DiskLimits {
    /// Bytes written before the engine moves them from memory and journal to a table. The engine holds up to twice
    /// as much; of it, values that are still live cost nothing extra.
    pub flush_bytes: usize,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self { flush_bytes: 16 * MIB }
    }
}

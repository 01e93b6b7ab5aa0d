//! Revisioned keys and bytes with transactions and watch.
//!
//! The store owns the cluster's state: it decides what is committed, in which order, and who hears of it. It never
//! knows a kind: a key is a path, a value is bytes in which it may write one number. Only the server opens it.
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`Store`] | the contract; `contract` is the suite that every backend passes (feature `contract`) |
//! | [`Embedded`] | the backend in this process: a directory, one writer thread |
//! | [`Etcd`] | the backend in an etcd, which several servers share: a mirror in memory, fed by one watch |
//! | [`Memory`] | the backend for tests: nothing of it is on disk |
//! | [`Snapshot`] | all live records at one revision: a persistent B-tree, cloned in constant time |
//! | [`Txn`] | conditions and operations, atomic, one [`Revision`] |
//! | [`Watch`] | the events of a [`Scope`], from a revision on |
//! | [`Sealer`] | encryption between memory and disk |
//!
//! Reads never touch the disk and never wait for a writer. All live records are in memory, as their final bytes; a
//! [`Record`] and an [`Event`] also keep what the layer above derived from them once (`memo`).
//!
//! What both backends have in common is the memory: live records and recent states (`live`, `history`), events and watchers
//! (`watch`). A backend adds how a transaction becomes durable, and in which order.
//!
//! # A commit of the embedded store
//!
//! ```text
//!                 commit()
//!                    │ limits ─────────────▶ Invalid
//!                    ▼
//!                 queued ──── shut down ───▶ Closed
//!                    │ the writer takes all that wait, as one group
//!                    ▼
//!                 staged ──── condition ───▶ Conflict, told when its reason is durable
//!                    │ revision given and written into the value
//!                    ▼
//!                written ──── disk ────────▶ Storage: the group never happened; read-only until the disk works
//!                    │ one fdatasync for the group
//!                    ▼
//!                durable
//!                    │ snapshot(), snapshot_at() show it
//!                    ▼
//!                visible
//!                    │ commit() answers
//!                    ▼
//!              acknowledged
//!                    │ logs appended, watchers woken
//!                    ▼
//!               announced
//! ```
//!
//! Nobody sees a transaction before it is durable, and none that was acknowledged is lost: neither by `kill -9`, nor by
//! a loss of power, nor by a full disk. A caller that stops waiting does not undo its transaction.
//!
//! # Revisions inside values
//!
//! An object carries its own revision, which is known only at the commit. A [`Value`] says at which byte the store
//! inserts its decimal text; the record remembers where, so that the event of a deletion shows the object with the
//! deletion's revision, without parsing.
//!
//! # What is kept
//!
//! The embedded store's disk has the live records and the current revision, nothing older. Memory has, besides the live records, a
//! ring of recent states for exact-revision reads and logs of recent events for watches; both start empty when the
//! store is opened, are bounded by count, bytes and age ([`limits::Limits`]), and are cut by [`Store::compact`]. What
//! is gone is an error that says so: [`StoreError::Compacted`], [`WatchError::TooSlow`].
//!
//! Keys are at most 1,024 bytes, values 4 MiB, transactions 128 operations and 8 MiB ([`limits`]).

#[cfg(feature = "contract")]
pub mod contract;
mod embedded;
mod etcd;
mod event;
mod frame;
mod history;
mod key;
pub mod limits;
mod live;
mod memo;
mod memory;
mod record;
mod revision;
mod room;
mod sealer;
mod snapshot;
mod stage;
mod store;
mod txn;
mod watch;

#[cfg(fuzzing)]
pub use embedded::fuzzing;
pub use embedded::{DirectoryError, Embedded, EmbeddedOptions, JournalError, LoadError, OpenError};
#[cfg(fuzzing)]
pub use etcd::fuzzing as etcd_fuzzing;
pub use etcd::{
    AddressError, Etcd, EtcdAddress, EtcdError, EtcdOpenError, EtcdOptions, Identity, TlsError, TlsFiles,
    TlsSettings, WireError,
};
pub use event::{Event, EventKind};
pub use frame::FrameError;
pub use key::{Key, KeyError, Prefix};
pub use memory::Memory;
pub use record::{Record, Value};
pub use revision::Revision;
pub use sealer::{AesGcmSealer, Encryption, KeyringSealer, SealError, SealKeyId, Sealer};
pub use snapshot::Snapshot;
pub use store::{BoxFuture, CatchUp, Health, Store, StoreError};
pub use txn::{CommitError, Committed, Condition, Conflict, Op, StorageFault, Txn, TxnError};
pub use watch::{Batch, Scope, Watch, WatchError};

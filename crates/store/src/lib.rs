//! Revisioned keys and bytes with transactions and watch.

#[cfg(feature = "contract")]
pub mod contract;
mod embedded;
mod event;
mod frame;
mod history;
mod key;
pub mod limits;
mod live;
mod memo;
mod record;
mod revision;
mod sealer;
mod snapshot;
mod store;
mod txn;
mod watch;

pub use embedded::{DirectoryError, Embedded, EmbeddedOptions, JournalError, LoadError, OpenError};
pub use event::{Event, EventKind};
pub use frame::FrameError;
pub use key::{Key, KeyError, Prefix};
pub use record::{Record, Value};
pub use revision::Revision;
pub use sealer::{AesGcmSealer, Encryption, SealError, SealKeyId, Sealer};
pub use snapshot::Snapshot;
pub use store::{BoxFuture, Health, Store, StoreError};
pub use txn::{CommitError, Committed, Condition, Conflict, Op, StorageFault, Txn, TxnError};
pub use watch::{Batch, Scope, Watch, WatchError};

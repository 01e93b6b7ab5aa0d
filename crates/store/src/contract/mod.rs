//! What every backend must do, as tests that a backend's own tests call.
//!
//! A case gets a [`Factory`] and asks it for empty stores. `contract_suite!` makes one test of each case:
//!
//! ```ignore
//! xebec_store::contract_suite!(my_factory());
//! ```
//!
//! Nothing here depends on the revision at which an empty store starts, or on how a backend groups commits.

mod etcd;
mod reads;
mod watches;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use crate::limits::Limits;
use crate::{Batch, BoxFuture, Committed, Conflict, Event, EventKind, Key, Prefix, Revision, Scope, Store};
use crate::{CommitError, Txn, Value, Watch, WatchError};

pub use self::etcd::EtcdProcess;
pub use self::reads::{
    compaction_forgets_the_past, exact_revisions_are_readable, history_is_bounded, lists_are_in_key_order,
    pages_join_without_gaps, shutdown_keeps_reads, snapshots_never_change,
};
pub use self::watches::{
    a_slow_watcher_is_told, an_idle_watcher_is_not_slow, deletions_carry_their_revision,
    everybody_sees_one_order, progress_follows_the_store, scopes_filter, shutdown_ends_watches,
    transactions_are_not_split, watches_are_bounded, watches_start_anywhere,
};
pub use self::writes::{
    concurrent_counters_lose_nothing, conditions_decide, conflicts_name_the_record, create_update_delete,
    invalid_transactions_are_refused, large_values_survive, revisions_rise, transactions_are_atomic,
};

/// Makes a store that is empty and shares nothing with any other.
pub type Factory<'a> = dyn Fn(Limits) -> BoxFuture<'a, Arc<dyn Store>> + Send + Sync + 'a;

/// How long a case waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// One `#[tokio::test]` for every case. `$factory` is an expression of a type that dereferences to [`Factory`].
#[macro_export]
macro_rules! contract_suite {
    ($factory:expr) => {
        $crate::contract_suite!($factory;
            compaction_forgets_the_past exact_revisions_are_readable history_is_bounded lists_are_in_key_order
            pages_join_without_gaps shutdown_keeps_reads snapshots_never_change
            a_slow_watcher_is_told an_idle_watcher_is_not_slow deletions_carry_their_revision
            everybody_sees_one_order progress_follows_the_store scopes_filter shutdown_ends_watches
            transactions_are_not_split watches_are_bounded watches_start_anywhere
            conditions_decide conflicts_name_the_record create_update_delete concurrent_counters_lose_nothing
            invalid_transactions_are_refused large_values_survive revisions_rise transactions_are_atomic
        );
    };
    ($factory:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::contract::$case(&*$factory).await;
            }
        )*
    };
}

fn key(path: &str) -> Key {
    Key::new(path).expect("the suite's keys are valid")
}

fn prefix(path: &str) -> Prefix {
    Prefix::new(path).expect("the suite's prefixes are valid")
}

fn below(path: &str) -> Scope {
    Scope::Prefix(prefix(path))
}

/// `{"v":<text>,"rv":"…"}`, the revision filled in by the store.
fn value(text: &str) -> Value {
    let head = format!(r#"{{"v":"{text}","rv":""#);
    let offset = head.len();
    Value::revised(head + r#""}"#, offset)
}

/// What [`value`] reads as after a commit.
fn stored(text: &str, revision: Revision) -> String {
    format!(r#"{{"v":"{text}","rv":"{revision}"}}"#)
}

async fn commit(store: &dyn Store, txn: Txn) -> Committed {
    store.commit(txn).await.expect("the commit has no reason to fail")
}

async fn put(store: &dyn Store, path: &str, text: &str) -> Revision {
    commit(store, Txn::default().put(key(path), value(text))).await.revision
}

async fn delete(store: &dyn Store, path: &str) -> Revision {
    commit(store, Txn::default().delete(key(path))).await.revision
}

async fn conflict(store: &dyn Store, txn: Txn) -> Conflict {
    match store.commit(txn).await {
        Err(CommitError::Conflict(conflict)) => conflict,
        other => panic!("expected a conflict, not {other:?}"),
    }
}

async fn next(watch: &mut Watch) -> Result<Batch, WatchError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch should deliver")
}

/// Reads until `count` events have come, or more with the last batch.
async fn collect(watch: &mut Watch, count: usize) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(next(watch).await.expect("the watch is alive").events);
    }
    events
}

/// An event as a case writes it down.
fn described(event: &Event) -> (EventKind, String, String) {
    (event.kind(), event.key().to_string(), String::from_utf8_lossy(event.record().as_slice()).into_owned())
}

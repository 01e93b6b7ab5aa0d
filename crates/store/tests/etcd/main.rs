//! The etcd backend on real etcds: the contract, several servers, and everything that can happen to an etcd.

mod contract;
mod faults;
mod proxy;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use xebec_store::limits::Limits;
use xebec_store::{Etcd, EtcdOptions, Key, Revision, Scope, Store, Txn, Value, Watch};

use xebec_store::contract::EtcdProcess;

/// How long a case waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(path: &str) -> Key {
    Key::new(path).expect("key")
}

fn below(path: &str) -> Scope {
    Scope::Prefix(xebec_store::Prefix::new(path).expect("prefix"))
}

fn options(address: &str) -> EtcdOptions {
    EtcdOptions {
        address: address.parse().expect("an address"),
        tls: None,
        limits: Limits::default(),
        encryption: None,
        identity: Vec::new(),
        patience: PATIENCE,
    }
}

async fn open(address: &str) -> Arc<dyn Store> {
    Arc::new(Etcd::open(options(address)).await.expect("open"))
}

async fn put(store: &dyn Store, path: &str, text: &str) -> Revision {
    let txn = Txn::default().put(key(path), Value::opaque(text.to_owned()));
    store.commit(txn).await.expect("commit").revision
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Looks again and again until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The revisions and keys of the next `count` events.
async fn events(watch: &mut Watch, count: usize) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    while found.len() < count {
        let batch = within("an event", watch.next()).await.expect("the watch is alive");
        found.extend(batch.events.iter().map(|event| (event.revision().get(), event.key().to_string())));
    }
    found
}

//! The etcd backend keeps the contract.

use std::sync::{Arc, Mutex};

use xebec_store::contract::Factory;
use xebec_store::limits::Limits;
use xebec_store::{Etcd, EtcdOptions, Store};

use super::{EtcdProcess, options};

/// Makes stores in etcds that live as long as the factory. Each has its own: the contract counts revisions.
fn etcd() -> Box<Factory<'static>> {
    let clusters: Arc<Mutex<Vec<EtcdProcess>>> = Arc::default();
    Box::new(move |limits: Limits| {
        let clusters = clusters.clone();
        Box::pin(async move {
            let cluster = EtcdProcess::start();
            let options = EtcdOptions { limits, ..options(&cluster.address()) };
            clusters.lock().expect("clusters").push(cluster);
            let store: Arc<dyn Store> = Arc::new(Etcd::open(options).await.expect("open"));
            store
        })
    })
}

xebec_store::contract_suite!(etcd());

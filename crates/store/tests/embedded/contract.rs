//! The embedded backend keeps the contract.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use xebec_store::contract::Factory;
use xebec_store::limits::Limits;
use xebec_store::{Embedded, EmbeddedOptions, Store};

/// Makes stores in directories that live as long as the factory.
fn embedded() -> Box<Factory<'static>> {
    let directories: Arc<Mutex<Vec<TempDir>>> = Arc::default();
    Box::new(move |limits: Limits| {
        let directories = directories.clone();
        Box::pin(async move {
            let directory = tempfile::tempdir().expect("directory");
            let options = EmbeddedOptions { limits, ..EmbeddedOptions::default() };
            let store: Arc<dyn Store> = Arc::new(Embedded::open(directory.path(), options).expect("open"));
            directories.lock().expect("directories").push(directory);
            store
        })
    })
}

xebec_store::contract_suite!(embedded());

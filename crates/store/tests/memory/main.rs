//! The store in memory keeps the contract, but for what survives it.

use std::sync::Arc;

use xebec_store::contract::Factory;
use xebec_store::limits::Limits;
use xebec_store::{Memory, Store};

fn memory() -> Box<Factory<'static>> {
    Box::new(|limits: Limits| Box::pin(async move { Arc::new(Memory::new(&limits)) as Arc<dyn Store> }))
}

xebec_store::contract_suite!(memory());

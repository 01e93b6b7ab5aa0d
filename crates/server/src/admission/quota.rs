//! ResourceQuota: what a write uses is charged to the quotas of its namespace, in the transaction that writes the object.
//! So what a quota says is used is never less than what has been stored, on any number of servers; what is used no longer
//! the quota controller finds.
//!
//! Writers of one namespace take turns here, so that they do not spend their tries on each other's transactions.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};
use xebec_api::quota::{self, Evaluator, Event};
use xebec_api::{Status, Value, meta};
use xebec_store::{Condition, Key, Revision, Txn};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::{convert, write};

/// How many namespaces can be charged at once; more of them share turns.
const TURNS: usize = 64;

/// The turns of namespaces with quotas.
#[derive(Debug)]
pub struct Turns {
    turns: Vec<Arc<Mutex<()>>>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self { turns: (0..TURNS).map(|_| Arc::default()).collect(), hasher: RandomState::new() }
    }
}

impl Turns {
    async fn take(&self, namespace: &str) -> OwnedMutexGuard<()> {
        #[expect(clippy::cast_possible_truncation, reason = "any of its bits will do")]
        let at = self.hasher.hash_one(namespace) as usize % self.turns.len();
        Arc::clone(&self.turns[at]).lock_owned().await
    }
}

/// What a write adds to quotas; the turn of its namespace ends when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    quotas: Vec<(Key, Revision, Value)>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Charge {
    /// The transaction with the quotas charged, should they still be as they were.
    pub(crate) fn add_to(&mut self, txn: Txn) -> Txn {
        self.quotas.iter_mut().fold(txn, |txn, (key, revision, quota)| {
            txn.when(Condition::At(key.clone(), *revision)).put(key.clone(), write::stored(quota))
        })
    }
}

/// Charges what a write uses, unless it is only tried.
///
/// # Errors
/// 403 with what is exceeded.
pub(crate) async fn charge(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<Charge, Status> {
    let row = &attributes.target.served.row;
    let namespace = attributes.target.namespace;
    let event = match (attributes.operation, old) {
        (Operation::Create, _) => Event::Create,
        (Operation::Update, Some(old)) => Event::Update(old, attributes.target.part.name()),
        _ => return Ok(Charge::default()),
    };
    let table = core.table.get();
    let quotas = table.row("", "resourcequotas").ok_or_else(Status::no_such_path)?.prefix(namespace)?;
    if !row.def.is_namespaced() || core.store.snapshot().range(&quotas, None).next().is_none() {
        return Ok(Charge::default());
    }
    let evaluator = Evaluator::of(row.group(), row.resource());
    if !evaluator.handles(event, object) {
        return Ok(Charge::default());
    }
    let turn = core.quota_turns.take(namespace).await;
    let mut charge = Charge { quotas: Vec::new(), _turn: Some(turn) };
    for record in core.store.snapshot().range(&quotas, None) {
        let quota = convert::stored_object(record)?;
        let charged = quota::charge(&evaluator, &quota, event, object, attributes.context.now);
        let charged = charged
            .map_err(|denied| Status::forbidden(row.group(), row.resource(), meta::name(object), denied))?;
        if let Some(quota) = charged {
            charge.quotas.push((record.key().clone(), record.mod_revision(), quota));
        }
    }
    Ok(charge)
}

//! Transactions, as etcd takes and answers them.
//!
//! A transaction is one of etcd's: what it wants to hold is compared, then it puts and deletes, or else reads what was
//! compared, so that a conflict can name the condition and show what the key holds. A deletion wants its key to be there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::messages::{Compare, Range, TxnDone};
use super::mirror::{Codec, RecordError};
use super::names::Names;
use super::rpc::{self, EtcdError, in_words};
use super::value;
use super::wire::Writer;
use crate::limits::MAX_TXN_OPS;
use crate::live::Step;
use crate::{
    CommitError, Condition, Conflict, Encryption, Event, Key, Op, Record, Revision, Snapshot, StorageFault,
    Txn, TxnError, Value,
};

/// What holds, all told, when a transaction happens: its conditions, and that what it deletes is there.
pub(super) fn checks(txn: &Txn) -> Result<Vec<Condition>, TxnError> {
    let mut checks = txn.conditions.clone();
    for op in &txn.ops {
        let Op::Delete(key) = op else { continue };
        let is_there = |check: &Condition| check.key() == key && !matches!(check, Condition::Absent(_));
        if !checks.iter().any(is_there) {
            checks.push(Condition::Exists(key.clone()));
        }
    }
    if checks.len() > MAX_TXN_OPS {
        return Err(TxnError::TooManyOps { count: checks.len() });
    }
    Ok(checks)
}

/// The request for a transaction.
pub(super) fn request(
    names: &Names,
    encryption: Option<&Encryption>,
    txn: &Txn,
    checks: &[Condition],
) -> Result<Vec<u8>, CommitError> {
    let puts = txn.ops.iter().map(|op| match op {
        Op::Put(key, value) => value::encode(encryption, key, value).map(Some),
        Op::Delete(_) => Ok(None),
    });
    let puts: Vec<_> = puts
        .collect::<Result<_, _>>()
        .map_err(|error| CommitError::Storage { fault: StorageFault::Seal, source: Arc::new(error) })?;
    let bytes: usize = puts.iter().flatten().map(value::Stored::len).sum();
    let mut writer = Writer::new(bytes + 256 * (checks.len() + puts.len()));
    for check in checks {
        writer.message(1, |compare| compared(check).write(compare, &names.record(check.key())));
    }
    for (op, stored) in txn.ops.iter().zip(&puts) {
        let name = names.record(op.key());
        writer.message(2, |operation| match stored {
            Some(stored) => operation.message(2, |put| {
                put.bytes(1, &name);
                put.bytes(2, &stored.pieces());
            }),
            None => operation.message(3, |delete| delete.bytes(1, &name)),
        });
    }
    for key in keys(checks) {
        let key = names.record(key).concat();
        writer.message(3, |operation| {
            operation.message(1, |range| Range { key: &key, ..Range::default() }.write(range));
        });
    }
    Ok(writer.into_bytes())
}

fn compared(condition: &Condition) -> Compare {
    match condition {
        Condition::Absent(_) => Compare::Absent,
        Condition::Exists(_) => Compare::Exists,
        // To etcd, what is absent was modified at revision zero.
        Condition::At(_, Revision::ZERO) => Compare::Never,
        Condition::At(_, revision) => Compare::ModifiedAt(*revision),
    }
}

/// The keys of conditions, each once.
fn keys(checks: &[Condition]) -> Vec<&Key> {
    let mut keys: Vec<&Key> = Vec::with_capacity(checks.len());
    for check in checks {
        if !keys.contains(&check.key()) {
            keys.push(check.key());
        }
    }
    keys
}

/// Which condition failed; none when the answer shows that all hold, which it never should.
pub(super) fn conflict(
    codec: &Codec,
    checks: &[Condition],
    done: &TxnDone<'_>,
) -> Result<Option<Conflict>, RecordError> {
    let mut found: HashMap<&Key, Arc<Record>> = HashMap::new();
    for (key, range) in keys(checks).into_iter().zip(&done.ranges) {
        if let Some(record) = range.found.first().map(|found| codec.record(found)).transpose()?.flatten() {
            found.insert(key, record);
        }
    }
    let failed = checks.iter().find(|check| !check.holds(found.get(check.key())));
    Ok(failed.map(|check| Conflict { expected: check.clone(), current: found.remove(check.key()) }))
}

/// What etcd's refusal, or silence, means for a transaction.
pub(super) fn failure(error: EtcdError, txn: &Txn) -> CommitError {
    if !error.is_certain() {
        return CommitError::Unknown { reason: in_words(&error) };
    }
    let fault = match &error {
        EtcdError::Refused { code: rpc::INVALID_ARGUMENT, message }
            if message.contains("too many operations") =>
        {
            return TxnError::MoreThanEtcdTakes { count: txn.ops.len().max(txn.conditions.len()) }.into();
        }
        EtcdError::Refused { code: rpc::INVALID_ARGUMENT | rpc::RESOURCE_EXHAUSTED, message }
            if message.contains("too large") || message.contains("larger than max") =>
        {
            return TxnError::LargerThanEtcdTakes { bytes: txn.bytes() }.into();
        }
        EtcdError::Refused { code: rpc::RESOURCE_EXHAUSTED, message }
            if message.contains("space exceeded") =>
        {
            StorageFault::OutOfSpace
        }
        EtcdError::Refused { .. } => StorageFault::Refused,
        _ => StorageFault::Unreachable,
    };
    CommitError::Storage { fault, source: Arc::new(error) }
}

/// Hands the events of a transaction from the watch, where they are made, to the commit that waits for them.
#[derive(Debug, Default)]
pub(super) struct Handover {
    waiting: Mutex<HashMap<Key, Vec<Arc<Slot>>>>,
}

/// How many revisions of a busy key are kept for a commit that has no answer yet.
const KEPT: usize = 1_024;

/// What has happened to a key since its commit began.
#[derive(Debug, Default)]
struct Slot(Mutex<Vec<Step>>);

/// A commit that waits for its events.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    handover: &'a Handover,
    key: Key,
    slot: Arc<Slot>,
}

impl Handover {
    /// From now on, what happens to the first key of `txn` is kept for it.
    pub(super) fn expect(&self, txn: &Txn) -> Ticket<'_> {
        let key = txn.ops.first().expect("it was checked to have one").key().clone();
        let slot = Arc::new(Slot::default());
        self.lock().entry(key.clone()).or_default().push(slot.clone());
        Ticket { handover: self, key, slot }
    }

    /// Keeps what somebody waits for.
    pub(super) fn offer(&self, steps: &[Step]) {
        let waiting = self.lock();
        if waiting.is_empty() {
            return;
        }
        for step in steps {
            let Some(first) = step.events.first() else { continue };
            for slot in waiting.get(first.key()).into_iter().flatten() {
                let mut kept = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < KEPT {
                    kept.push(step.clone());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Arc<Slot>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// The events of the transaction at `revision`, once the mirror has it. When the mirror was filled anew meanwhile they
    /// are made again, from what was known before.
    pub(super) fn events(&self, revision: Revision, txn: &Txn, before: &Snapshot) -> Vec<Arc<Event>> {
        let kept = self.slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = kept.iter().find(|step| step.revision() == revision && step.events.len() == txn.ops.len());
        match own {
            Some(step) => step.events.clone(),
            None => txn.ops.iter().filter_map(|op| made(op, revision, before)).collect(),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.handover.lock();
        if let Some(slots) = waiting.get_mut(&self.key) {
            slots.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
            if slots.is_empty() {
                waiting.remove(&self.key);
            }
        }
    }
}

fn made(op: &Op, revision: Revision, before: &Snapshot) -> Option<Arc<Event>> {
    let previous = before.get(op.key()).cloned();
    let put = |key: &Key, value: &Value| {
        let created = previous.as_ref().map_or(revision, |record| record.create_revision());
        Event::put(Arc::new(Record::new(key.clone(), created, revision, value)), previous.clone())
    };
    match op {
        Op::Put(key, value) => Some(Arc::new(put(key, value))),
        Op::Delete(_) => previous.clone().map(|previous| Arc::new(Event::delete(previous, revision))),
    }
}

#[cfg(test)]
mod tests {
    use super::{EtcdError, checks, failure, rpc};
    use crate::limits::MAX_TXN_OPS;
    use crate::{CommitError, Condition, Key, Revision, StorageFault, Txn, TxnError, Value};

    fn key(path: &str) -> Key {
        Key::new(path).expect("key")
    }

    #[test]
    fn a_deletion_wants_its_key_to_be_there() {
        let at = Condition::At(key("/a"), Revision::new(3));
        let txn = Txn::default()
            .when(at.clone())
            .delete(key("/a"))
            .delete(key("/b"))
            .put(key("/c"), Value::opaque(""));
        assert_eq!(checks(&txn), Ok(vec![at, Condition::Exists(key("/b"))]));
        let absent = Condition::Absent(key("/a"));
        let txn = Txn::default().when(absent.clone()).delete(key("/a"));
        assert_eq!(checks(&txn), Ok(vec![absent, Condition::Exists(key("/a"))]), "which cannot both hold");
        let many = (0..MAX_TXN_OPS).fold(Txn::default().when(Condition::Exists(key("/x"))), |txn, n| {
            txn.delete(key(&format!("/k/{n}")))
        });
        assert_eq!(checks(&many), Err(TxnError::TooManyOps { count: MAX_TXN_OPS + 1 }));
    }

    #[test]
    fn refusals_are_told_apart() {
        let txn = Txn::create(key("/a"), Value::opaque("xx"));
        let refused =
            |code: u32, message: &str| failure(EtcdError::Refused { code, message: message.into() }, &txn);
        let large = refused(rpc::INVALID_ARGUMENT, "etcdserver: request is too large");
        assert!(matches!(large, CommitError::Invalid(TxnError::LargerThanEtcdTakes { bytes: 4 })), "{large}");
        let large = refused(rpc::RESOURCE_EXHAUSTED, "grpc: received message larger than max (2 vs. 1)");
        assert!(matches!(large, CommitError::Invalid(TxnError::LargerThanEtcdTakes { .. })), "{large}");
        let many = refused(rpc::INVALID_ARGUMENT, "etcdserver: too many operations in txn request");
        assert!(matches!(many, CommitError::Invalid(TxnError::MoreThanEtcdTakes { count: 1 })), "{many}");
        let full = refused(rpc::RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded");
        assert!(matches!(full, CommitError::Storage { fault: StorageFault::OutOfSpace, .. }), "{full}");
        let busy = refused(rpc::RESOURCE_EXHAUSTED, "etcdserver: too many requests");
        assert!(matches!(busy, CommitError::Storage { fault: StorageFault::Refused, .. }), "{busy}");
        let lost = refused(rpc::UNAVAILABLE, "etcdserver: leader changed");
        assert!(matches!(lost, CommitError::Unknown { .. }), "{lost}");
    }
}

//! Deciding a group of transactions: pure, in memory, nothing visible yet.
//!
//! Values are sealed here, before their transaction has its revision, so that one that cannot be sealed refuses its own
//! transaction and no other of the group.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::{HEADER_BYTES, Header};
use crate::live::Step;
use crate::{
    CommitError, Committed, Condition, Conflict, Encryption, Event, Key, Op, Record, Revision, SealError,
    Snapshot, StorageFault, Txn,
};

/// The states that a group of transactions leads to, each seeing those before it.
#[derive(Debug)]
pub(crate) struct Stage {
    snapshot: Snapshot,
    encryption: Option<Encryption>,
    steps: Vec<Step>,
    changes: Changes,
}

/// What the disk gets under every key that a group changes, the last state only; none is a deletion. The engine must
/// get each key once: within one batch it cannot tell which of two writes is later.
pub(crate) type Changes = BTreeMap<Key, Option<Bytes>>;

/// Why a transaction is not part of its group.
#[derive(Debug)]
pub(crate) enum Refusal {
    Conflict(Conflict),
    Seal(SealError),
}

impl From<Refusal> for CommitError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict(conflict) => Self::Conflict(conflict),
            Refusal::Seal(error) => Self::Storage { fault: StorageFault::Seal, source: Arc::new(error) },
        }
    }
}

impl Stage {
    /// Starts from the newest committed state.
    pub(crate) fn new(snapshot: Snapshot, encryption: Option<Encryption>) -> Self {
        Self { snapshot, encryption, steps: Vec::new(), changes: Changes::new() }
    }

    /// Applies `txn`, or nothing of it.
    pub(crate) fn apply(&mut self, txn: &Txn) -> Result<Committed, Refusal> {
        for condition in &txn.conditions {
            self.check(condition)?;
        }
        for op in &txn.ops {
            if let Op::Delete(key) = op {
                self.check(&Condition::Exists(key.clone()))?;
            }
        }
        let revision = self.snapshot.revision().next();
        let events: Vec<_> = txn.ops.iter().map(|op| self.event(op, revision)).collect();
        let frame = |event: &Arc<Event>| event.live().map(|record| self.frame(record)).transpose();
        let frames: Result<Vec<_>, _> = events.iter().map(frame).collect();
        for (event, frame) in events.iter().zip(frames.map_err(Refusal::Seal)?) {
            self.snapshot.apply(revision, event);
            self.changes.insert(event.key().clone(), frame);
        }
        self.steps.push(Step { snapshot: self.snapshot.clone(), events: events.clone() });
        Ok(Committed { revision, events })
    }

    /// The newest staged revision.
    pub(crate) fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    /// What to write to disk.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What to publish when it is written.
    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn check(&self, condition: &Condition) -> Result<(), Refusal> {
        let current = self.snapshot.get(condition.key());
        if condition.holds(current) {
            return Ok(());
        }
        Err(Refusal::Conflict(Conflict { expected: condition.clone(), current: current.cloned() }))
    }

    /// The record's frame as it goes to the disk, its value sealed when it has to be.
    fn frame(&self, record: &Record) -> Result<Bytes, SealError> {
        let key = record.key();
        let seal = |encryption: &Encryption| encryption.seal(key, record.as_slice());
        let Some(sealed) = self.encryption.as_ref().map(seal).transpose()?.flatten() else {
            return Ok(record.frame().clone());
        };
        let mut frame = Vec::with_capacity(HEADER_BYTES + sealed.len());
        Header { sealed: true, ..*record.header() }.encode(&mut frame);
        frame.extend_from_slice(&sealed);
        Ok(frame.into())
    }

    fn event(&self, op: &Op, revision: Revision) -> Arc<Event> {
        let previous = self.snapshot.get(op.key()).cloned();
        Arc::new(match op {
            Op::Put(key, value) => {
                let created = previous.as_ref().map_or(revision, |record| record.create_revision());
                Event::put(Arc::new(Record::new(key.clone(), created, revision, value)), previous)
            }
            Op::Delete(key) => {
                let previous = previous.unwrap_or_else(|| unreachable!("{key} was checked to exist"));
                Event::delete(previous, revision)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use imbl::OrdMap;

    use std::sync::Arc;

    use super::{Condition, Key, Refusal, Revision, Snapshot, Stage, Txn};
    use crate::{Encryption, SealError, Sealer, Value};

    fn key(path: &str) -> Key {
        Key::new(path).expect("key")
    }

    fn stage() -> Stage {
        Stage::new(Snapshot::new(Revision::new(9), OrdMap::new()), None)
    }

    fn at(revision: u64) -> Revision {
        Revision::new(revision)
    }

    #[test]
    fn a_transaction_sees_those_before_it_in_the_group() {
        let mut stage = stage();
        let value = || Value::revised("<>", 1);
        assert_eq!(stage.apply(&Txn::create(key("/a"), value())).expect("create").revision, at(10));
        let refused = stage.apply(&Txn::create(key("/a"), value())).expect_err("exists");
        let Refusal::Conflict(conflict) = refused else { panic!("{refused:?}") };
        assert_eq!(conflict.current.expect("current").as_slice(), b"<10>");
        stage.apply(&Txn::update(key("/a"), at(10), value())).expect("update");
        assert_eq!(stage.revision(), at(11));
        stage.apply(&Txn::delete_at(key("/a"), at(10))).expect_err("stale");
        stage.apply(&Txn::delete_at(key("/a"), at(11))).expect("delete");
        stage.apply(&Txn::create(key("/b"), value())).expect("create");

        let changes = stage.changes().clone();
        let steps = stage.into_steps();
        let revisions: Vec<_> = steps.iter().map(|step| step.revision().get()).collect();
        assert_eq!(revisions, [10, 11, 12, 13]);
        let found =
            steps.iter().map(|step| step.snapshot.get(&key("/a")).map(|record| record.mod_revision()));
        assert_eq!(found.collect::<Vec<_>>(), [Some(at(10)), Some(at(11)), None, None]);
        let changes: Vec<_> = changes.iter().map(|(key, record)| (key.as_str(), record.is_some())).collect();
        assert_eq!(changes, [("/a", false), ("/b", true)]);
    }

    #[test]
    fn a_conflict_changes_nothing() {
        let mut stage = stage();
        stage.apply(&Txn::create(key("/a"), Value::opaque("1"))).expect("create");
        for txn in [
            Txn::create(key("/b"), Value::opaque("2")).delete(key("/missing")),
            Txn::create(key("/b"), Value::opaque("2")).when(Condition::At(key("/a"), at(1))),
            Txn::create(key("/b"), Value::opaque("2")).when(Condition::Exists(key("/missing"))),
            Txn::default().delete(key("/a")).when(Condition::Absent(key("/a"))),
        ] {
            stage.apply(&txn).expect_err("conflict");
            assert_eq!(stage.revision(), at(10));
            assert_eq!((stage.changes().len(), stage.snapshot.len()), (1, 1));
        }
    }

    /// Seals nothing below `/bad/`, and too much below `/long/`.
    struct Picky;

    impl Sealer for Picky {
        fn seal(&self, key: &Key, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
            if key.as_str().starts_with("/bad/") {
                return Err(SealError::Seal { key: key.clone() });
            }
            let more = if key.as_str().starts_with("/long/") { 65 } else { 64 };
            Ok([plaintext, &vec![b'!'; more]].concat())
        }

        fn open(&self, key: &Key, _: &[u8]) -> Result<Vec<u8>, SealError> {
            Err(SealError::Short { key: key.clone() })
        }
    }

    #[test]
    fn what_cannot_be_sealed_refuses_its_own_transaction() {
        let covers = Arc::new(|key: &Key| !key.as_str().starts_with("/plain/"));
        let encryption = Encryption { sealer: Arc::new(Picky), covers };
        let mut stage = Stage::new(Snapshot::new(Revision::new(9), OrdMap::new()), Some(encryption));
        let create = |path: &str| Txn::create(key(path), Value::opaque("1"));
        assert_eq!(stage.apply(&create("/good/1")).expect("sealed").revision, at(10));
        for bad in ["/bad/1", "/long/1"] {
            let both = create("/good/2").put(key(bad), Value::opaque("1"));
            let refused = stage.apply(&both).expect_err("cannot be sealed");
            assert!(matches!(refused, Refusal::Seal(_)), "{refused:?}");
            assert_eq!((stage.revision(), stage.snapshot.len()), (at(10), 1));
        }
        assert_eq!(stage.apply(&create("/good/2")).expect("sealed").revision, at(11));
        assert_eq!(stage.apply(&create("/plain/1")).expect("not sealed").revision, at(12));
        let changes = stage.changes();
        let ends: Vec<_> = changes
            .iter()
            .map(|(key, frame)| (key.as_str(), frame.as_ref().expect("put").ends_with(b"!")))
            .collect();
        assert_eq!(ends, [("/good/1", true), ("/good/2", true), ("/plain/1", false)]);
    }
}

//! Deciding a group of transactions: pure, in memory, nothing visible yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::live::Step;
use crate::{Committed, Condition, Conflict, Event, Key, Op, Record, Revision, Snapshot, Txn};

/// The states that a group of transactions leads to, each seeing those before it.
#[derive(Debug)]
pub(crate) struct Stage {
    snapshot: Snapshot,
    steps: Vec<Step>,
    changes: Changes,
}

/// The last state of every key that a group changes; none is a deletion. The engine must get each key once: within
/// one batch it cannot tell which of two writes is later.
pub(crate) type Changes = BTreeMap<Key, Option<Arc<Record>>>;

impl Stage {
    /// Starts from the newest committed state.
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, steps: Vec::new(), changes: Changes::new() }
    }

    /// Applies `txn`, or nothing of it.
    pub(crate) fn apply(&mut self, txn: &Txn) -> Result<Committed, Conflict> {
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
        for event in &events {
            self.snapshot.apply(revision, event);
            self.changes.insert(event.key().clone(), event.live().cloned());
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

    fn check(&self, condition: &Condition) -> Result<(), Conflict> {
        let current = self.snapshot.get(condition.key());
        if condition.holds(current) {
            return Ok(());
        }
        Err(Conflict { expected: condition.clone(), current: current.cloned() })
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

    use super::{Condition, Key, Revision, Snapshot, Stage, Txn};
    use crate::Value;

    fn key(path: &str) -> Key {
        Key::new(path).expect("key")
    }

    fn stage() -> Stage {
        Stage::new(Snapshot::new(Revision::new(9), OrdMap::new()))
    }

    fn at(revision: u64) -> Revision {
        Revision::new(revision)
    }

    #[test]
    fn a_transaction_sees_those_before_it_in_the_group() {
        let mut stage = stage();
        let value = || Value::revised("<>", 1);
        assert_eq!(stage.apply(&Txn::create(key("/a"), value())).expect("create").revision, at(10));
        let conflict = stage.apply(&Txn::create(key("/a"), value())).expect_err("exists");
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
}

//! What a commit does.

use std::sync::Arc;

use super::{Factory, commit, conflict, delete, key, put, stored, value};
use crate::limits::{Limits, MAX_TXN_OPS, MAX_VALUE_BYTES};
use crate::{CommitError, Condition, EventKind, Revision, Store, Txn, TxnError, Value};

/// The life of one key, with the revisions that each step leaves.
pub async fn create_update_delete(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let before = store.current_revision();
    assert!(before > Revision::ZERO, "zero names no state");
    assert!(store.snapshot().is_empty());

    let created = commit(&*store, Txn::create(key("/r/core/pods/a/x"), value("one"))).await;
    let record = created.events[0].record();
    assert_eq!((record.create_revision(), record.mod_revision()), (created.revision, created.revision));
    assert_eq!(record.bytes(), stored("one", created.revision));
    assert_eq!(created.events[0].kind(), EventKind::Created);
    assert!(created.events[0].previous().is_none());

    let txn = Txn::update(key("/r/core/pods/a/x"), created.revision, value("two"));
    let updated = commit(&*store, txn).await;
    let record = updated.events[0].record();
    assert_eq!((record.create_revision(), record.mod_revision()), (created.revision, updated.revision));
    assert_eq!(updated.events[0].kind(), EventKind::Modified);
    let read = store.snapshot().get(&key("/r/core/pods/a/x")).cloned().expect("the record");
    assert_eq!(read.bytes(), stored("two", updated.revision));

    let deleted = commit(&*store, Txn::delete_at(key("/r/core/pods/a/x"), updated.revision)).await;
    assert_eq!(deleted.events[0].kind(), EventKind::Deleted);
    assert_eq!(deleted.events[0].record().bytes(), stored("two", deleted.revision));
    let previous = deleted.events[0].previous().expect("the last record");
    assert_eq!(previous.bytes(), stored("two", updated.revision));
    assert!(store.snapshot().get(&key("/r/core/pods/a/x")).is_none());

    let again = commit(&*store, Txn::create(key("/r/core/pods/a/x"), value("three"))).await;
    assert_eq!(again.events[0].record().create_revision(), again.revision, "a new life");
    assert!(before < created.revision && created.revision < updated.revision);
    assert!(updated.revision < deleted.revision && deleted.revision < again.revision);
}

/// Each kind of condition, on a key that is there and on one that is not.
pub async fn conditions_decide(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let old = put(&*store, "/a/here", "1").await;
    let current = put(&*store, "/a/here", "2").await;
    let (here, gone) = (key("/a/here"), key("/a/gone"));
    for (condition, holds) in [
        (Condition::Absent(here.clone()), false),
        (Condition::Absent(gone.clone()), true),
        (Condition::Exists(here.clone()), true),
        (Condition::Exists(gone.clone()), false),
        (Condition::At(here.clone(), current), true),
        (Condition::At(here.clone(), old), false),
        (Condition::At(here.clone(), Revision::ZERO), false),
        (Condition::At(here, Revision::new(current.get() + 1)), false),
        (Condition::At(gone.clone(), Revision::ZERO), false),
        (Condition::At(gone, current), false),
    ] {
        let result =
            store.commit(Txn::default().when(condition.clone()).put(key("/a/other"), value(""))).await;
        match result {
            Ok(_) => assert!(holds, "{condition:?}"),
            Err(CommitError::Conflict(conflict)) => {
                assert!(!holds, "{condition:?}");
                assert_eq!(conflict.expected, condition);
            }
            Err(error) => panic!("{condition:?}: {error}"),
        }
    }
}

/// A conflict says which key, and what the key holds; deleting nothing is a conflict.
pub async fn conflicts_name_the_record(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let revision = put(&*store, "/a/b", "text").await;
    let before = store.current_revision();

    let found = conflict(&*store, Txn::create(key("/a/b"), value("other"))).await;
    assert_eq!(found.expected, Condition::Absent(key("/a/b")));
    let current = found.current.expect("the record");
    assert_eq!((current.mod_revision(), current.bytes()), (revision, stored("text", revision).into()));

    let found = conflict(&*store, Txn::update(key("/a/none"), revision, value(""))).await;
    assert_eq!(found.expected, Condition::At(key("/a/none"), revision));
    assert!(found.current.is_none());

    let found = conflict(&*store, Txn::default().delete(key("/a/none"))).await;
    assert_eq!(found.expected, Condition::Exists(key("/a/none")));
    assert_eq!(store.current_revision(), before, "a conflict is no commit");
}

/// All operations of a transaction happen at one revision, or none happens.
pub async fn transactions_are_atomic(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    put(&*store, "/a/old", "").await;
    let txn = Txn::default().put(key("/a/1"), value("1")).delete(key("/a/old")).put(key("/b/2"), value("2"));
    let done = commit(&*store, txn).await;
    assert_eq!(done.events.len(), 3);
    assert!(done.events.iter().all(|event| event.revision() == done.revision));
    assert_eq!(store.current_revision(), done.revision);

    let txn = Txn::default().put(key("/a/3"), value("")).put(key("/a/1"), value("")).delete(key("/a/old"));
    conflict(&*store, txn).await;
    let snapshot = store.snapshot();
    let keys: Vec<_> =
        snapshot.range(&super::prefix("/"), None).map(|record| record.key().to_string()).collect();
    assert_eq!(keys, ["/a/1", "/b/2"]);
    assert_eq!(snapshot.get(&key("/a/1")).map(|record| record.mod_revision()), Some(done.revision));
}

/// Revisions rise with every commit, deletions and unchanged values included.
pub async fn revisions_rise(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let mut last = store.current_revision();
    for round in 0..20 {
        let revision = match round % 4 {
            3 => delete(&*store, "/a/b").await,
            _ => put(&*store, "/a/b", "same").await,
        };
        assert!(revision > last, "{revision} after {last}");
        assert_eq!(store.current_revision(), revision);
        last = revision;
    }
}

/// Limits are enforced and named; the largest transaction fits.
pub async fn invalid_transactions_are_refused(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let puts = |count: usize| {
        let add = |txn: Txn, number| txn.put(key(&format!("/many/{number:03}")), value(""));
        (0..count).fold(Txn::default(), add)
    };
    let before = store.current_revision();
    let large = Value::opaque(vec![b'x'; MAX_VALUE_BYTES + 1]);
    for txn in [
        Txn::default(),
        puts(MAX_TXN_OPS + 1),
        Txn::default().put(key("/a"), large),
        Txn::default().put(key("/a"), Value::revised("x", 2)),
        Txn::default().put(key("/a"), value("")).put(key("/a"), value("")),
    ] {
        let result = store.commit(txn).await;
        assert!(matches!(result, Err(CommitError::Invalid(_))), "{result:?}");
    }
    let empty = store.commit(Txn::default()).await.expect_err("empty");
    assert!(matches!(empty, CommitError::Invalid(TxnError::Empty)), "{empty}");
    assert_eq!(store.current_revision(), before);
    assert_eq!(commit(&*store, puts(MAX_TXN_OPS)).await.events.len(), MAX_TXN_OPS);
}

/// A value of the largest size, an empty one, and one that is all revision.
pub async fn large_values_survive(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let bytes: Vec<u8> = (0..MAX_VALUE_BYTES).map(|position| (position % 251) as u8).collect();
    commit(&*store, Txn::create(key("/a/large"), Value::opaque(bytes.clone()))).await;
    commit(&*store, Txn::create(key("/a/empty"), Value::opaque(""))).await;
    let revision = commit(&*store, Txn::create(key("/a/revision"), Value::revised("", 0))).await.revision;
    let snapshot = store.snapshot();
    let read = |path| snapshot.get(&key(path)).expect("the record").bytes();
    assert!(read("/a/large") == bytes, "the large value changed");
    assert_eq!(read("/a/empty"), "");
    assert_eq!(read("/a/revision"), revision.to_string());
}

/// Many writers count one key up by compare-and-swap: every success counts once, and each sees its own.
pub async fn concurrent_counters_lose_nothing(factory: &Factory<'_>) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 25;
    let store = factory(Limits::default()).await;
    commit(&*store, Txn::create(key("/a/counter"), Value::opaque("0"))).await;
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(count_up(store.clone(), ROUNDS))).collect();
    for writer in writers {
        writer.await.expect("a writer panicked");
    }
    let total = store.snapshot().get(&key("/a/counter")).expect("the counter").bytes();
    assert_eq!(total, (WRITERS * ROUNDS).to_string());
}

async fn count_up(store: Arc<dyn Store>, rounds: usize) {
    for _ in 0..rounds {
        loop {
            let snapshot = store.snapshot();
            let current = snapshot.get(&key("/a/counter")).expect("the counter");
            let count: usize = String::from_utf8_lossy(current.as_slice()).parse().expect("a number");
            let txn = Txn::update(
                key("/a/counter"),
                current.mod_revision(),
                Value::opaque((count + 1).to_string()),
            );
            match store.commit(txn).await {
                Ok(done) => {
                    assert!(store.current_revision() >= done.revision, "read your own write");
                    break;
                }
                Err(CommitError::Conflict(conflict)) => {
                    let newer = conflict.current.expect("never deleted").mod_revision();
                    assert!(newer > current.mod_revision(), "a conflict without a reason");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

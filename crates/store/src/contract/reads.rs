//! What snapshots show.

use super::{Factory, delete, key, prefix, put, stored, value};
use crate::limits::{HistoryLimits, Limits};
use crate::{CommitError, Health, Revision, Snapshot, StoreError, Txn};

fn keys(snapshot: &Snapshot, below: &str) -> Vec<String> {
    snapshot.range(&prefix(below), None).map(|record| record.key().to_string()).collect()
}

/// Lists are in byte order of the keys and end where their prefix ends.
pub async fn lists_are_in_key_order(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    for path in ["/r/core/pods/b/x", "/r/core/pods/a/y", "/r/core/pods/a/x", "/r/core/pods/a-b/x"] {
        put(&*store, path, "").await;
    }
    for path in ["/r/core/podsx/a/x", "/r/core/pod/a/x", "/r/core/nodes/n", "/r/apps/pods/a/x"] {
        put(&*store, path, "").await;
    }
    let snapshot = store.snapshot();
    let pods = ["/r/core/pods/a-b/x", "/r/core/pods/a/x", "/r/core/pods/a/y", "/r/core/pods/b/x"];
    assert_eq!(keys(&snapshot, "/r/core/pods/"), pods);
    assert_eq!(keys(&snapshot, "/r/core/pods/a/"), ["/r/core/pods/a/x", "/r/core/pods/a/y"]);
    assert_eq!(keys(&snapshot, "/r/core/pods/c/").len(), 0);
    assert_eq!(keys(&snapshot, "/").len(), 8);
    assert_eq!((snapshot.count(&prefix("/r/core/")), snapshot.len()), (7, 8));
}

/// Reading page by page from one snapshot gives every record once, whatever the page size.
pub async fn pages_join_without_gaps(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let all: Vec<_> = (0..23).map(|number| format!("/r/core/pods/n{}/{number:02}", number % 3)).collect();
    for path in &all {
        put(&*store, path, "").await;
    }
    put(&*store, "/r/core/podsy/a/a", "").await;
    let snapshot = store.snapshot();
    let mut sorted = all.clone();
    sorted.sort();
    for limit in [1, 7, 22, 23, 24] {
        let mut found = Vec::new();
        let mut last = None;
        loop {
            let page: Vec<_> = snapshot.range(&prefix("/r/core/pods/"), last.as_ref()).take(limit).collect();
            let Some(end) = page.last() else { break };
            last = Some(end.key().clone());
            found.extend(page.iter().map(|record| record.key().to_string()));
        }
        assert_eq!(found, sorted, "pages of {limit}");
    }
}

/// A snapshot that is held shows the same whatever is written later.
pub async fn snapshots_never_change(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let first = put(&*store, "/a/1", "one").await;
    let held = store.snapshot();
    put(&*store, "/a/1", "changed").await;
    put(&*store, "/a/2", "two").await;
    delete(&*store, "/a/1").await;
    assert_eq!(held.revision(), first);
    assert_eq!(keys(&held, "/"), ["/a/1"]);
    assert_eq!(held.get(&key("/a/1")).expect("the record").bytes(), stored("one", first));
    assert_eq!(keys(&store.snapshot(), "/"), ["/a/2"]);
}

/// Every revision between the start and now can be read as it was.
pub async fn exact_revisions_are_readable(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let start = store.current_revision();
    let mut states = vec![(start, Vec::new())];
    for round in 0..10 {
        let mut present = states.last().expect("a state").1.clone();
        let revision = if round % 3 == 2 {
            let path: String = present.pop().expect("something to delete");
            delete(&*store, &path).await
        } else {
            let path = format!("/a/{round:02}");
            let revision = put(&*store, &path, "").await;
            present.push(path);
            revision
        };
        states.push((revision, present));
    }
    for (revision, present) in &states {
        let snapshot = store.snapshot_at(*revision).expect("kept");
        assert_eq!((snapshot.revision(), &keys(&snapshot, "/")), (*revision, present));
    }
    let current = store.current_revision();
    let future = Revision::new(current.get() + 1);
    let error = store.snapshot_at(future).expect_err("not written yet");
    assert_eq!(error, StoreError::Future { requested: future, current });
}

/// After compaction the past is an error that names what is left, and the present is untouched.
pub async fn compaction_forgets_the_past(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let first = put(&*store, "/a/1", "").await;
    let second = put(&*store, "/a/2", "").await;
    let third = put(&*store, "/a/3", "").await;
    store.compact(second).await.expect("compact");
    store.compact(second).await.expect("twice is once");
    let error = store.snapshot_at(first).expect_err("compacted");
    assert_eq!(error, StoreError::Compacted { requested: first, oldest: second });
    assert_eq!(keys(&store.snapshot_at(second).expect("kept"), "/"), ["/a/1", "/a/2"]);
    let old = Revision::new(first.get() - 1);
    let error = store.watch(super::below("/a/"), old).expect_err("compacted");
    assert!(matches!(error, StoreError::Compacted { requested, .. } if requested == old), "{error}");
    store.watch(super::below("/a/"), second).expect("kept");

    store.compact(third).await.expect("to the newest state");
    assert_eq!(keys(&store.snapshot_at(third).expect("never forgotten"), "/").len(), 3);
    let future = Revision::new(third.get() + 1);
    let error = store.compact(future).await.expect_err("nothing to keep");
    assert_eq!(error, StoreError::Future { requested: future, current: third });
    assert!(put(&*store, "/a/4", "").await > third);
}

/// Old states are bounded by count; the newest is always there.
pub async fn history_is_bounded(factory: &Factory<'_>) {
    let history = HistoryLimits { revisions: 3, ..HistoryLimits::default() };
    let store = factory(Limits { history, ..Limits::default() }).await;
    let mut revisions = Vec::new();
    for round in 0..6 {
        revisions.push(put(&*store, "/a/1", &round.to_string()).await);
    }
    let oldest = revisions[3];
    for revision in &revisions[..3] {
        let error = store.snapshot_at(*revision).expect_err("forgotten");
        assert_eq!(error, StoreError::Compacted { requested: *revision, oldest });
    }
    for revision in &revisions[3..] {
        assert_eq!(store.snapshot_at(*revision).map(|snapshot| snapshot.revision()), Ok(*revision));
    }
}

/// A store that was shut down refuses commits and still answers reads.
pub async fn shutdown_keeps_reads(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    assert_eq!(store.health(), Health::Writable);
    let revision = put(&*store, "/a/1", "one").await;
    store.shutdown().await;
    store.shutdown().await;
    assert_eq!(store.health(), Health::Closed);
    let refused = store.commit(Txn::create(key("/a/2"), value(""))).await;
    assert!(matches!(refused, Err(CommitError::Closed)), "{refused:?}");
    let error = store.watch(super::below("/a/"), revision).expect_err("closed");
    assert_eq!(error, StoreError::Closed);
    assert_eq!(store.snapshot().get(&key("/a/1")).expect("the record").bytes(), stored("one", revision));
    assert_eq!(store.current_revision(), revision);
}

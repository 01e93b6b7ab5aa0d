//! What watchers see.

use std::sync::Arc;

use super::{Factory, PATIENCE, below, collect, commit, delete, described, key, next, put, stored, value};
use crate::limits::{Limits, WatchLimits};
use crate::{Event, EventKind, Revision, Scope, Store, StoreError, Txn, Watch, WatchError};

const PODS: &str = "/r/core/pods/";

/// From the past a watch replays, from now it follows, from the future it waits.
pub async fn watches_start_anywhere(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let start = store.current_revision();
    let one = put(&*store, "/r/core/pods/a/x", "1").await;
    let two = put(&*store, "/r/core/pods/a/x", "2").await;
    let mut past = store.watch(below(PODS), start).expect("the past is kept");
    let mut middle = store.watch(below(PODS), one).expect("the past is kept");
    let mut now = store.watch(below(PODS), two).expect("now");
    assert_eq!(now.try_next().map(|batch| batch.is_none()), Ok(true));
    let future = Revision::new(two.get() + 1);
    let mut later = store.watch(below(PODS), future).expect("the future");
    assert_eq!(later.progress(), future, "what was not asked for counts as delivered");

    let three = delete(&*store, "/r/core/pods/a/x").await;
    let four = put(&*store, "/r/core/pods/a/y", "4").await;
    let x = "/r/core/pods/a/x".to_owned();
    let all = [
        (EventKind::Created, x.clone(), stored("1", one)),
        (EventKind::Modified, x.clone(), stored("2", two)),
        (EventKind::Deleted, x, stored("2", three)),
        (EventKind::Created, "/r/core/pods/a/y".to_owned(), stored("4", four)),
    ];
    assert_eq!(three, future, "one commit is one revision");
    for (watch, skip) in [(&mut past, 0), (&mut middle, 1), (&mut now, 2), (&mut later, 3)] {
        let events = collect(watch, all.len() - skip).await;
        let found: Vec<_> = events.iter().map(|event| described(event)).collect();
        assert_eq!(found, all[skip..], "from event {skip}");
        assert!(watch.progress() >= four);
    }
}

/// A watch delivers what its scope contains and nothing else, live and replayed.
pub async fn scopes_filter(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let start = store.current_revision();
    let scopes: [(Scope, &[usize]); 7] = [
        (below("/"), &[0, 1, 2, 3, 4, 5]),
        (below("/r/core/"), &[0, 1, 2, 3]),
        (below(PODS), &[0, 1, 2]),
        (below("/r/core/pods/a/"), &[0, 1]),
        (below("/r/core/pods/none/"), &[]),
        (Scope::Key(key("/r/core/pods/a/x")), &[0]),
        (Scope::Key(key("/short")), &[5]),
    ];
    let open = |after| scopes.clone().map(|(scope, _)| store.watch(scope, after).expect("watch"));
    let live = open(start);
    let paths = [
        "/r/core/pods/a/x",
        "/r/core/pods/a/xy",
        "/r/core/pods/ab/x",
        "/r/core/nodes/n",
        "/r/apps/deployments/a/x",
        "/short",
    ];
    for path in paths {
        put(&*store, path, "").await;
    }
    // Everything has arrived where the last one has.
    let end = put(&*store, "/short", "end").await;
    for watch in live.into_iter().chain(open(start)) {
        let wanted = scopes.iter().find(|(scope, _)| scope == watch.scope()).expect("one of them").1;
        let scope = watch.scope().clone();
        let found: Vec<_> = until(watch, end).await.iter().map(|event| event.key().to_string()).collect();
        let mut wanted: Vec<_> = wanted.iter().map(|index| paths[*index]).collect();
        if scope.contains(&key("/short")) {
            wanted.push("/short");
        }
        assert_eq!(found, wanted, "{scope}");
    }
}

/// Reads until everything up to `end` has been delivered.
async fn until(mut watch: Watch, end: Revision) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while watch.progress() < end {
        match tokio::time::timeout(std::time::Duration::from_millis(5), watch.next()).await {
            Ok(batch) => events.extend(batch.expect("the watch is alive").events),
            Err(_) => assert!(tokio::time::Instant::now() < deadline, "the watch should reach {end}"),
        }
    }
    if let Some(batch) = watch.try_next().expect("the watch is alive") {
        events.extend(batch.events);
    }
    events
}

/// Concurrent writers, several watchers: one order for all, rising revisions, nothing lost, nothing twice.
pub async fn everybody_sees_one_order(factory: &Factory<'_>) {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 20;
    let store = factory(Limits::default()).await;
    let start = store.current_revision();
    let watches: Vec<_> = [PODS, PODS, "/r/core/", "/"]
        .into_iter()
        .map(|path| store.watch(below(path), start).expect("watch"))
        .map(|mut watch| tokio::spawn(async move { collect(&mut watch, WRITERS * ROUNDS).await }))
        .collect();
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, ROUNDS))).collect();
    for writer in writers {
        writer.await.expect("a writer panicked");
    }
    let mut replay = store.watch(below(PODS), start).expect("the past is kept");
    let expected = collect(&mut replay, WRITERS * ROUNDS).await;
    assert_eq!(expected.len(), WRITERS * ROUNDS);
    assert!(expected.windows(2).all(|pair| pair[0].revision() < pair[1].revision()));
    for watch in watches {
        let events = watch.await.expect("a watcher panicked");
        assert_eq!(events.len(), expected.len());
        assert!(
            events.iter().zip(&expected).all(|(one, other)| Arc::ptr_eq(one, other)),
            "shared, in one order"
        );
    }
}

async fn write(store: Arc<dyn Store>, writer: usize, rounds: usize) {
    for round in 0..rounds {
        put(&*store, &format!("/r/core/pods/w{writer}/p"), &round.to_string()).await;
    }
}

/// A deletion shows the last value with the deletion's own revision, and the record before it.
pub async fn deletions_carry_their_revision(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let put_at = put(&*store, "/r/core/pods/a/x", "text").await;
    let mut watch = store.watch(below(PODS), put_at).expect("watch");
    let deleted_at = delete(&*store, "/r/core/pods/a/x").await;
    let event = collect(&mut watch, 1).await.remove(0);
    assert_eq!((event.kind(), event.revision()), (EventKind::Deleted, deleted_at));
    assert_eq!(event.record().bytes(), stored("text", deleted_at));
    assert_eq!(event.record().create_revision(), put_at);
    assert_eq!(event.previous().expect("the last record").bytes(), stored("text", put_at));
    let length: &usize = event.memo(|event| event.record().as_slice().len());
    assert_eq!(*length, stored("text", deleted_at).len());
}

/// However small the batches, the events of a transaction come together.
pub async fn transactions_are_not_split(factory: &Factory<'_>) {
    let watch = WatchLimits { batch_events: 2, ..WatchLimits::default() };
    let store = factory(Limits { watch, ..Limits::default() }).await;
    let start = store.current_revision();
    put(&*store, "/r/core/pods/a/single", "").await;
    let txn = (0..5)
        .fold(Txn::default(), |txn, number| txn.put(key(&format!("/r/core/pods/a/{number}")), value("")));
    let revision = commit(&*store, txn).await.revision;
    put(&*store, "/r/core/pods/a/single", "").await;
    let mut watch = store.watch(below(PODS), start).expect("the past is kept");
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 7 {
        let batch = next(&mut watch).await.expect("the watch is alive");
        let of_txn = batch.events.iter().filter(|event| event.revision() == revision).count();
        assert!(of_txn == 0 || of_txn == 5, "{of_txn} of 5 events");
        assert_eq!(batch.revision >= revision, batch.events.iter().any(|event| event.revision() >= revision));
        sizes.push(batch.events.len());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 7);
}

/// A watcher that lets its log overflow gets an error and can start anew from a list.
pub async fn a_slow_watcher_is_told(factory: &Factory<'_>) {
    let watch = WatchLimits { log_events: 8, ..WatchLimits::default() };
    let store = factory(Limits { watch, ..Limits::default() }).await;
    let start = store.current_revision();
    let mut slow = store.watch(below(PODS), start).expect("watch");
    for round in 0..20 {
        put(&*store, "/r/core/pods/a/x", &round.to_string()).await;
    }
    // What comes first may be delivered or not; the gap may not be hidden.
    let error = loop {
        match next(&mut slow).await {
            Ok(batch) => assert!(batch.events[0].revision().get() == start.get() + 1, "a gap"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WatchError::TooSlow { oldest, .. } if oldest > start), "{error}");
    assert_eq!(next(&mut slow).await.map(|_| ()), Err(error), "it stays failed");
    let error = store.watch(below(PODS), start).expect_err("compacted");
    assert!(
        matches!(error, StoreError::Compacted { requested, oldest } if requested == start && oldest > start)
    );

    let snapshot = store.snapshot();
    let mut anew = store.watch(below(PODS), snapshot.revision()).expect("from a list");
    let revision = put(&*store, "/r/core/pods/a/x", "new").await;
    assert_eq!(collect(&mut anew, 1).await[0].revision(), revision);
}

/// A watcher whose scope nobody touches may sleep as long as it likes.
pub async fn an_idle_watcher_is_not_slow(factory: &Factory<'_>) {
    let watch = WatchLimits { log_events: 4, ..WatchLimits::default() };
    let store = factory(Limits { watch, ..Limits::default() }).await;
    let start = store.current_revision();
    let mut idle: Vec<_> = [Scope::Key(key("/r/core/pods/b/x")), below("/r/core/pods/b/")]
        .map(|scope| store.watch(scope, start).expect("watch"))
        .into();
    for round in 0..3 {
        for _ in 0..10 {
            put(&*store, "/r/core/pods/a/x", "").await;
        }
        let revision = put(&*store, "/r/core/pods/b/x", &round.to_string()).await;
        for watch in &mut idle {
            let events = collect(watch, 1).await;
            assert_eq!(events.iter().map(|event| event.revision()).collect::<Vec<_>>(), [revision]);
        }
    }
}

/// Progress rises with commits outside the scope too, and never overtakes what is still to be delivered.
pub async fn progress_follows_the_store(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let start = store.current_revision();
    let mut watch = store.watch(below(PODS), start).expect("watch");
    assert_eq!(watch.progress(), start);
    let elsewhere = put(&*store, "/r/core/nodes/n", "").await;
    // The watchers hear of a commit shortly after its writer does.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while watch.progress() < elsewhere {
        assert!(tokio::time::Instant::now() < deadline, "progress should reach {elsewhere}");
        tokio::task::yield_now().await;
    }
    let inside = put(&*store, "/r/core/pods/a/x", "").await;
    assert!(watch.progress() < inside, "not delivered yet");
    let batch = next(&mut watch).await.expect("the watch is alive");
    assert!(batch.revision >= inside);
    assert!(watch.progress() >= inside);
}

/// Watches end with the store, after what was committed before.
pub async fn shutdown_ends_watches(factory: &Factory<'_>) {
    let store = factory(Limits::default()).await;
    let start = store.current_revision();
    let mut reader = store.watch(below(PODS), start).expect("watch");
    let mut waiting = store.watch(below("/r/core/nodes/"), start).expect("watch");
    let waiting = tokio::spawn(async move { next(&mut waiting).await.map(|_| ()) });
    let revision = put(&*store, "/r/core/pods/a/x", "").await;
    store.shutdown().await;
    assert_eq!(next(&mut reader).await.expect("committed before").events[0].revision(), revision);
    assert_eq!(next(&mut reader).await.map(|_| ()), Err(WatchError::Closed));
    assert_eq!(waiting.await.expect("the watcher panicked"), Err(WatchError::Closed));
}

/// The number of open watches is bounded; a closed one makes room.
pub async fn watches_are_bounded(factory: &Factory<'_>) {
    let watch = WatchLimits { watches: 2, ..WatchLimits::default() };
    let store = factory(Limits { watch, ..Limits::default() }).await;
    let now = store.current_revision();
    let first = store.watch(below(PODS), now).expect("the first");
    let _second = store.watch(below("/"), now).expect("the second");
    let error = store.watch(below(PODS), now).expect_err("one too many");
    assert_eq!(error, StoreError::TooManyWatches { limit: 2 });
    drop(first);
    store.watch(below(PODS), now).expect("room again");
}

//! etcd dies, is cut off, and forgets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use xebec_store::{
    CommitError, Etcd, EtcdOpenError, EtcdOptions, Health, Revision, StorageFault, Store, StoreError, Txn,
    Value, WatchError,
};

use super::proxy::Proxy;
use super::{EtcdProcess, below, events, key, open, options, put, until, within};

const ROUNDS: u64 = 6;
const WRITERS: u64 = 6;

/// What a writer was told of its newest write, and of one that may have happened after it.
#[derive(Clone, Copy, Default)]
struct Told {
    count: u64,
    revision: Revision,
    unknown: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_no_acknowledged_write() {
    let mut cluster = EtcdProcess::start();
    let store = open(&cluster.address()).await;
    let mut watch = store.watch(below("/"), store.current_revision()).expect("watch");
    let mut told: HashMap<u64, Told> = (0..WRITERS).map(|writer| (writer, Told::default())).collect();
    for round in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for (writer, before) in &told {
            writers.spawn(write(store.clone(), *writer, *before, stop.clone()));
        }
        let before = store.current_revision().get();
        until("writes", || store.current_revision().get() > before + 40 + round * 13).await;
        cluster.kill();
        stop.store(true, Ordering::Relaxed);
        told = within("the writers", writers.join_all()).await.into_iter().collect();
        until("the loss is noticed", || matches!(store.health(), Health::ReadOnly { .. })).await;
        cluster.restart();
        until("etcd is back", || store.health() == Health::Writable).await;
        let newest = within("the newest state", store.newest().get()).await.expect("etcd answers");
        let fresh = open(&cluster.address()).await;
        for (writer, told) in &mut told {
            let count = |store: &dyn Store| {
                let record = store.snapshot().get(&key(&format!("/crash/{writer}"))).cloned();
                let text = record.map_or("0".into(), |r| String::from_utf8_lossy(r.as_slice()).into_owned());
                text.parse::<u64>().expect("a number")
            };
            let (mirrored, found) = (count(&*store), count(&*fresh));
            assert_eq!(mirrored, found, "round {round}: the mirror is what etcd has");
            let may_be = told.count..=told.count + u64::from(told.unknown);
            assert!(may_be.contains(&found), "round {round}: told {} of {writer}, found {found}", told.count);
            assert!(newest.revision() >= told.revision);
            *told = Told { count: found, unknown: false, ..*told };
        }
    }
    let total: u64 = told.values().map(|told| told.count).sum();
    let mut seen = 0;
    while seen < total {
        let batch = within("an event", watch.next()).await.expect("the watch outlived every death");
        seen += batch.events.len() as u64;
    }
    assert_eq!(seen, total, "each change once");
    assert!(total > ROUNDS * 40, "too little was written to mean anything: {total}");
}

/// Counts up until told to stop, or until it is not told what came of it.
async fn write(store: Arc<dyn Store>, writer: u64, mut told: Told, stop: Arc<AtomicBool>) -> (u64, Told) {
    while !stop.load(Ordering::Relaxed) {
        let value = Value::opaque((told.count + 1).to_string());
        match store.commit(Txn::default().put(key(&format!("/crash/{writer}")), value)).await {
            Ok(done) => told = Told { count: told.count + 1, revision: done.revision, unknown: false },
            Err(CommitError::Unknown { .. }) => {
                told.unknown = true;
                break;
            }
            Err(CommitError::Storage { fault: StorageFault::Unreachable, .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    (writer, told)
}

#[tokio::test]
async fn a_cut_connection_is_resumed() {
    let cluster = EtcdProcess::start();
    let proxy = Proxy::start(cluster.port()).await;
    let (near, far) = (open(&cluster.address()).await, open(&proxy.address()).await);
    let mut watch = far.watch(below("/"), far.current_revision()).expect("watch");
    let mut expected = Vec::new();
    for round in 0..4 {
        for number in 0..5 {
            let path = format!("/r/core/pods/{round}/{number}");
            expected.push((put(&*near, &path, "").await.get(), path));
        }
        assert_eq!(events(&mut watch, 5).await, expected[expected.len() - 5..]);
        proxy.cut();
        until("the loss is noticed", || matches!(far.health(), Health::ReadOnly { .. })).await;
        let refused = far.commit(Txn::default().put(key("/refused"), Value::opaque(""))).await;
        let error = refused.expect_err("nobody is there");
        assert!(matches!(error, CommitError::Storage { fault: StorageFault::Unreachable, .. }), "{error}");
        let error = far.newest().get().await.map(|_| ()).expect_err("nobody knows");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        let path = format!("/r/core/pods/{round}/cut");
        expected.push((put(&*near, &path, "").await.get(), path));
        assert_eq!(far.snapshot().len() + 1, near.snapshot().len(), "what is known can be read");
        proxy.mend();
        assert_eq!(events(&mut watch, 1).await, expected[expected.len() - 1..]);
        until("etcd is back", || far.health() == Health::Writable).await;
    }
    let mut replay = near.watch(below("/"), Revision::new(expected[0].0 - 1)).expect("the past is kept");
    assert_eq!(events(&mut replay, expected.len()).await, expected);
}

#[tokio::test]
async fn who_missed_what_etcd_forgot_lists_again() {
    let cluster = EtcdProcess::start();
    let proxy = Proxy::start(cluster.port()).await;
    let (near, far) = (open(&cluster.address()).await, open(&proxy.address()).await);
    for name in ["kept", "changed", "removed"] {
        put(&*near, &format!("/r/core/pods/a/{name}"), "old").await;
    }
    far.newest().get().await.expect("etcd answers");
    let old = far.current_revision();
    let mut watches =
        ["/", "/r/core/pods/", "/r/core/nodes/"].map(|p| far.watch(below(p), old).expect("watch"));
    proxy.cut();
    until("the loss is noticed", || matches!(far.health(), Health::ReadOnly { .. })).await;
    put(&*near, "/r/core/pods/a/changed", "new").await;
    near.commit(Txn::default().delete(key("/r/core/pods/a/removed"))).await.expect("delete");
    let last = put(&*near, "/r/core/pods/a/added", "new").await;
    near.compact(last).await.expect("compact");
    proxy.mend();
    for watch in &mut watches {
        let error = within("the end", watch.next()).await.expect_err("a gap");
        assert!(matches!(error, WatchError::TooSlow { .. }), "{error}");
    }
    let snapshot = far.newest().get().await.expect("etcd answers");
    let read = |path: &str| snapshot.get(&key(path)).map(|record| record.bytes());
    assert_eq!(read("/r/core/pods/a/kept"), Some("old".into()));
    assert_eq!(read("/r/core/pods/a/changed"), Some("new".into()));
    assert_eq!(read("/r/core/pods/a/added"), Some("new".into()));
    assert_eq!(read("/r/core/pods/a/removed"), None);
    assert!(matches!(far.watch(below("/"), old), Err(StoreError::Compacted { .. })));
    let mut anew = far.watch(below("/"), snapshot.revision()).expect("from the new list");
    let revision = put(&*far, "/r/core/pods/a/x", "").await;
    assert_eq!(events(&mut anew, 1).await, [(revision.get(), "/r/core/pods/a/x".to_owned())]);
}

/// The answer to a commit is cut off: that it may have happened is said, and it is seen if it has.
#[tokio::test]
async fn an_unknown_outcome_is_called_so() {
    let cluster = EtcdProcess::start();
    let proxy = Proxy::start(cluster.port()).await;
    let far = open(&proxy.address()).await;
    let mut unknown = 0;
    for round in 0..200 {
        let path = format!("/r/core/pods/a/{round}");
        let commit = far.commit(Txn::create(key(&path), Value::opaque("")));
        let cut = async {
            tokio::time::sleep(Duration::from_micros(50 * (round % 40))).await;
            proxy.cut();
        };
        let (done, ()) = within("an answer", async { tokio::join!(commit, cut) }).await;
        proxy.mend();
        until("etcd is back", || far.health() == Health::Writable).await;
        let newest = within("the newest state", far.newest().get()).await.expect("etcd answers");
        let is_there = newest.get(&key(&path)).is_some();
        match done {
            Ok(_) => assert!(is_there, "round {round}: acknowledged and lost"),
            Err(CommitError::Storage { fault: StorageFault::Unreachable, .. }) => {
                assert!(!is_there, "round {round}: refused and done");
            }
            Err(CommitError::Unknown { .. }) => unknown += 1,
            Err(error) => panic!("{error}"),
        }
        if unknown > 3 {
            return;
        }
    }
    panic!("no answer was cut off");
}

#[tokio::test]
async fn nobody_there_is_told_when_opened() {
    let mut cluster = EtcdProcess::start();
    let address = cluster.address();
    cluster.kill();
    let patience = Duration::ZERO;
    let error = Etcd::open(EtcdOptions { patience, ..options(&address) }).await.err().expect("nobody");
    assert!(matches!(error, EtcdOpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
    let opening = tokio::spawn(async move { open(&address).await });
    cluster.restart();
    within("it comes", opening).await.expect("open");
}

/// An etcd that was restored from a backup does not have what is known here: the store ends instead of showing it.
#[tokio::test]
async fn an_etcd_that_has_gone_back_ends_the_store() {
    let (old, restored) = (EtcdProcess::start(), EtcdProcess::start());
    let proxy = Proxy::start(old.port()).await;
    let store = open(&proxy.address()).await;
    for round in 0..20 {
        put(&*store, "/a/b", &round.to_string()).await;
    }
    drop(open(&restored.address()).await);
    let mut watch = store.watch(below("/"), store.current_revision()).expect("watch");
    proxy.cut();
    until("the loss is noticed", || matches!(store.health(), Health::ReadOnly { .. })).await;
    proxy.turn(restored.port());
    assert_eq!(within("the end", watch.next()).await.map(|_| ()), Err(WatchError::Closed));
    assert_eq!(store.health(), Health::Closed);
    assert_eq!(store.newest().get().await.map(|_| ()), Err(StoreError::Closed));
    let anew = open(&proxy.address()).await;
    assert!(anew.snapshot().is_empty());
}

/// Of several members, one that is not there does not matter.
#[tokio::test]
async fn another_member_is_taken() {
    let cluster = EtcdProcess::start();
    let (dead, live) = (Proxy::start(1).await, Proxy::start(cluster.port()).await);
    dead.cut();
    let members = [&dead, &live].map(|proxy| proxy.address().replace("etcd://", ""));
    let store = open(&format!("etcd://{},{}", members[0], members[1])).await;
    put(&*store, "/a/b", "").await;
    live.cut();
    until("the loss is noticed", || matches!(store.health(), Health::ReadOnly { .. })).await;
    live.mend();
    until("etcd is back", || store.health() == Health::Writable).await;
    put(&*store, "/a/b", "").await;
}

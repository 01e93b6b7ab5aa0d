//! `kill -9` under write load: what was acknowledged is there, whole.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::task::JoinSet;
use xebec_store::{Embedded, Revision, Snapshot, Store, Txn, Value};

use super::{Random, busy_engine, child, child_directory, key, try_open};

const ROUNDS: u64 = 20;
const WRITERS: u64 = 6;
/// How many of its own older records a writer leaves.
const KEPT: u64 = 20;

/// The newest transaction that a writer was told of.
type Acknowledged = HashMap<u64, (u64, Revision)>;

#[test]
fn kill_9_loses_no_acknowledged_write() {
    let directory = tempfile::tempdir().expect("directory");
    let mut acknowledged = Acknowledged::new();
    let mut random = Random(0x5EED_0001);
    for round in 0..ROUNDS {
        let patience = random.below(700);
        let heard = run_and_kill(directory.path(), patience, &mut acknowledged);
        let store = try_open(directory.path(), busy_engine())
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        verify(&store.snapshot(), &acknowledged, round);
        assert!(heard >= patience, "round {round}: the child ended by itself");
    }
    let total: u64 = acknowledged.values().map(|(count, _)| count).sum();
    assert!(total > ROUNDS * 100, "too little was written to mean anything: {total}");
}

/// Lets writers work until `patience` acknowledgements were heard, then kills them. Returns how many there were.
fn run_and_kill(directory: &Path, patience: u64, acknowledged: &mut Acknowledged) -> u64 {
    let mut command = child(&[], "crash::child_writes_until_killed", directory);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("spawn");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut heard = 0;
    let mut killed = false;
    loop {
        if heard >= patience && !killed {
            child.kill().expect("kill");
            killed = true;
        }
        // After the kill: what is still in the pipe was acknowledged, too.
        let Some(line) = lines.next() else { break };
        let line = line.expect("read");
        if let Some(rest) = line.strip_prefix("ack ") {
            let mut numbers = rest.split(' ').map(|number| number.parse::<u64>().expect("a number"));
            let mut number = || numbers.next().expect("three numbers");
            let (writer, count, revision) = (number(), number(), Revision::new(number()));
            acknowledged.insert(writer, (count, revision));
            heard += 1;
        }
    }
    child.wait().expect("wait");
    heard
}

fn verify(snapshot: &Snapshot, acknowledged: &Acknowledged, round: u64) {
    for (writer, (count, revision)) in acknowledged {
        assert!(snapshot.revision() >= *revision, "round {round}: revision {revision} is gone");
        let found = progress(snapshot, *writer);
        assert!(
            (*count..=count + 1).contains(&found),
            "round {round}: writer {writer} was told of {count}, the store has {found}"
        );
        let pair =
            ["a", "b"].map(|name| snapshot.get(&key(&format!("/crash/{writer}/{name}"))).expect("the pair"));
        assert_eq!(pair[0].mod_revision(), pair[1].mod_revision(), "round {round}: a torn transaction");
        for record in pair {
            assert_eq!(record.bytes(), filled(found, record.mod_revision()), "round {round}: a torn value");
        }
        for number in found.saturating_sub(KEPT) + 1..=found {
            let record = snapshot.get(&key(&format!("/crash/{writer}/n{number}")));
            assert!(record.is_some(), "round {round}: record {number} of writer {writer} is gone");
        }
        let records = snapshot.count(&xebec_store::Prefix::new(format!("/crash/{writer}/")).expect("prefix"));
        assert_eq!(records as u64, 2 + found.min(KEPT), "round {round}: a deletion is undone");
    }
}

/// The number of the newest transaction of `writer`.
fn progress(snapshot: &Snapshot, writer: u64) -> u64 {
    snapshot.get(&key(&format!("/crash/{writer}/a"))).map_or(0, |record| {
        let text = std::str::from_utf8(record.as_slice()).expect("text");
        text.split(' ').next().expect("a word").parse().expect("a number")
    })
}

/// A value of several pages that shows its transaction and revision.
fn value(count: u64) -> Value {
    let head = format!("{count} ");
    let offset = head.len();
    Value::revised(head + &tail(count), offset)
}

fn filled(count: u64, revision: Revision) -> String {
    format!("{count} {revision}{}", tail(count))
}

fn tail(count: u64) -> String {
    format!(" {count:04}").repeat(100 + (count % 17) as usize * 100)
}

#[test]
#[ignore = "a child process of kill_9_loses_no_acknowledged_write"]
fn child_writes_until_killed() {
    let Some(directory) = child_directory() else { return };
    println!("start");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let store = Arc::new(try_open(&directory, busy_engine()).expect("open"));
        let mut writers: JoinSet<()> =
            (0..WRITERS).map(|writer| write_forever(store.clone(), writer)).collect();
        // None ends but by a panic, which must not go unnoticed while the others work on.
        writers.join_next().await.expect("writers").expect("a writer panicked");
    });
}

async fn write_forever(store: Arc<Embedded>, writer: u64) {
    let mut count = progress(&store.snapshot(), writer);
    loop {
        count += 1;
        let mut txn = Txn::default()
            .put(key(&format!("/crash/{writer}/a")), value(count))
            .put(key(&format!("/crash/{writer}/b")), value(count))
            .put(key(&format!("/crash/{writer}/n{count}")), Value::opaque("x"));
        if count > KEPT {
            txn = txn.delete(key(&format!("/crash/{writer}/n{}", count - KEPT)));
        }
        let revision = store.commit(txn).await.expect("commit").revision;
        println!("ack {writer} {count} {revision}");
    }
}

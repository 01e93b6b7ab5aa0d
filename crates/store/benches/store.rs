//! What a store costs, as a table: `cargo bench -p xebec-store`. The embedded one first; then one in an etcd on this machine,
//! where there is one (Debian's `etcd-server`).
//!
//! The figures depend on the disk; its own cost of one synced write comes first, to compare with. Each part that
//! measures memory or start-up runs in a process of its own.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use xebec_store::contract::EtcdProcess;
use xebec_store::limits::Limits;
use xebec_store::{Embedded, EmbeddedOptions, Etcd, EtcdOptions, Key, Prefix, Scope, Store, Txn, Value};

const VALUE_BYTES: usize = 1_024;
const RECORDS: usize = 10_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("open"), Some(directory)) => return open_once(Path::new(&directory)),
        (Some("fill"), Some(directory)) => return fill(Path::new(&directory)),
        _ => (),
    }
    // Beside the build, where the disk is a real one; a temporary directory may be memory.
    let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let directory = tempfile::tempdir_in(base).expect("directory");
    disk(&directory.path().join("raw"));
    start_up(&directory.path().join("start"));
    commit_table("embedded", |writers| embedded(&directory.path().join(format!("commits{writers}"))));
    fan_out_table("embedded", |watchers| embedded(&directory.path().join(format!("fan{watchers}"))));
    reads(&directory.path().join("start"));
    match Command::new("etcd").arg("--version").output() {
        Ok(_) => {
            let etcd = EtcdProcess::start();
            commit_table("etcd", |writers| in_etcd(&etcd, &format!("commits{writers}")));
            fan_out_table("etcd", |watchers| in_etcd(&etcd, &format!("fan{watchers}")));
        }
        Err(error) => println!("\nno etcd to measure: {error}"),
    }
}

fn embedded(directory: &Path) -> Arc<dyn Store> {
    Arc::new(Embedded::open(directory, EmbeddedOptions::default()).expect("open"))
}

/// A store under a prefix of its own. Runs on a runtime that lives as long as the process: it has the store's tasks.
fn in_etcd(etcd: &EtcdProcess, prefix: &str) -> Arc<dyn Store> {
    let options = EtcdOptions {
        address: format!("{}/{prefix}", etcd.address()).parse().expect("an address"),
        tls: None,
        limits: Limits::default(),
        encryption: None,
        identity: Vec::new(),
        patience: Duration::from_secs(30),
    };
    Arc::new(runtime().block_on(Etcd::open(options)).expect("open"))
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime"))
}

fn commit_table(backend: &str, open: impl Fn(usize) -> Arc<dyn Store>) {
    println!("\n{backend}: commits of one {VALUE_BYTES}-byte value, closed loop");
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>10} {:>14}",
        "writers", "ops", "ops/s", "p50 µs", "p99 µs", "CPU µs per op"
    );
    for (writers, total) in [(1, 3_000), (16, 30_000), (64, 60_000)] {
        commits(&open(writers), writers, total);
    }
}

fn fan_out_table(backend: &str, open: impl Fn(usize) -> Arc<dyn Store>) {
    println!("\n{backend}: one writer, every event to all watchers");
    println!(
        "{:>8} {:>10} {:>14} {:>16} {:>10} {:>10} {:>18}",
        "watchers", "events", "deliveries/s", "CPU µs per dlv.", "p50 µs", "p99 µs", "last: p50, p99 µs"
    );
    for (watchers, events) in [(1, 3_000), (100, 2_000), (1_000, 1_000)] {
        fan_out(&open(watchers), watchers, events);
    }
}

/// What one synced write of a value costs without any store.
fn disk(path: &Path) {
    let mut file = File::create(path).expect("file");
    file.write_all(&vec![0; 4 << 20]).expect("write");
    file.sync_all().expect("sync");
    for (name, start) in [("overwriting", 0), ("appending", 4 << 20)] {
        file.seek(SeekFrom::Start(start)).expect("seek");
        let mut times = Vec::new();
        for _ in 0..1_000 {
            let begin = Instant::now();
            file.write_all(&[7; VALUE_BYTES]).expect("write");
            file.sync_data().expect("sync");
            times.push(begin.elapsed());
        }
        println!("disk: {VALUE_BYTES} bytes and fdatasync, {name}: {}", percentiles(&mut times));
    }
}

fn start_up(directory: &Path) {
    println!();
    child("open", &directory.join("fresh"), "open, fresh directory");
    child("open", &directory.join("fresh"), "open, no record");
    child("fill", &directory.join("full"), "fill");
    child("open", &directory.join("full"), "open, 10,000 records");
}

fn child(part: &str, directory: &Path, name: &str) {
    let binary = std::env::current_exe().expect("the bench's own path");
    let output = Command::new(binary).arg(part).arg(directory).output().expect("run");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    println!("{name}: {}", String::from_utf8_lossy(&output.stdout).trim());
}

fn open_once(directory: &Path) {
    let (cpu, begin) = (cpu_time(), Instant::now());
    let store = Embedded::open(directory, EmbeddedOptions::default()).expect("open");
    let (wall, cpu) = (begin.elapsed(), cpu_time() - cpu);
    let records = store.snapshot().len();
    println!("{wall:.1?}, {cpu:.1?} of CPU, {records} records, {} KiB RSS", resident_kib());
}

fn fill(directory: &Path) {
    let store = Embedded::open(directory, EmbeddedOptions::default()).expect("open");
    let runtime = Builder::new_current_thread().build().expect("runtime");
    let begin = Instant::now();
    for chunk in (0..RECORDS).collect::<Vec<_>>().chunks(100) {
        let add = |txn: Txn, number: &usize| txn.put(key("configmaps", *number), value(*number));
        runtime.block_on(store.commit(chunk.iter().fold(Txn::default(), add))).expect("commit");
    }
    println!("{RECORDS} records in {:.1?}, {} KiB RSS", begin.elapsed(), resident_kib());
}

fn commits(store: &Arc<dyn Store>, writers: usize, total: usize) {
    let (cpu, begin) = (cpu_time(), Instant::now());
    let mut times = runtime().block_on(async {
        let run = |writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(total / writers);
                for round in 0..total / writers {
                    let begin = Instant::now();
                    let txn = Txn::create(key("configmaps", round * writers + writer), value(round));
                    store.commit(txn).await.expect("commit");
                    times.push(begin.elapsed());
                }
                times
            })
        };
        let tasks: Vec<_> = (0..writers).map(run).collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.expect("a writer panicked"));
        }
        times
    });
    let (wall, cpu) = (begin.elapsed(), cpu_time() - cpu);
    let ops = times.len();
    times.sort_unstable();
    println!(
        "{writers:>8} {ops:>10} {:>10.0} {:>10.0} {:>10.0} {:>14.1}",
        ops as f64 / wall.as_secs_f64(),
        micros(at(&times, 50)),
        micros(at(&times, 99)),
        micros(cpu) / ops as f64,
    );
}

/// From the moment that the writer has its answer to the moment that a watcher has the event; "last" is the last of
/// all watchers.
fn fan_out(store: &Arc<dyn Store>, watchers: usize, events: usize) {
    let start = Instant::now();
    let answered: Arc<Vec<AtomicU64>> = Arc::new((0..events).map(|_| AtomicU64::new(0)).collect());
    let (cpu, begin) = (cpu_time(), Instant::now());
    let delivered = runtime().block_on(async {
        let now = store.current_revision();
        let first = now.get() + 1;
        let watch = |_| {
            let scope = Scope::Prefix(Prefix::new("/registry/core/pods/").expect("prefix"));
            let mut watch = store.watch(scope, now).expect("watch");
            tokio::spawn(async move {
                let mut times = vec![Duration::ZERO; events];
                let mut seen = 0;
                while seen < events {
                    let batch = watch.next().await.expect("the watch is alive");
                    let at = start.elapsed();
                    for event in &batch.events {
                        times[usize::try_from(event.revision().get() - first).expect("small")] = at;
                    }
                    seen += batch.events.len();
                }
                times
            })
        };
        let tasks: Vec<_> = (0..watchers).map(watch).collect();
        for round in 0..events {
            store.commit(Txn::default().put(key("pods", round % 100), value(round))).await.expect("commit");
            let nanos = u64::try_from(start.elapsed().as_nanos()).expect("short");
            answered[round].store(nanos, Ordering::Relaxed);
        }
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.expect("a watcher panicked"));
        }
        all
    });
    let (wall, cpu) = (begin.elapsed(), cpu_time() - cpu);
    let answer = |round: usize| Duration::from_nanos(answered[round].load(Ordering::Relaxed));
    let late = |times: &Vec<Duration>, round: usize| times[round].saturating_sub(answer(round));
    let mut each: Vec<_> =
        delivered.iter().flat_map(|times| (0..events).map(|round| late(times, round))).collect();
    let last = |round: usize| delivered.iter().map(|times| late(times, round)).max().expect("a watcher");
    let mut lasts: Vec<_> = (0..events).map(last).collect();
    each.sort_unstable();
    lasts.sort_unstable();
    println!(
        "{watchers:>8} {events:>10} {:>14.0} {:>16.2} {:>10.0} {:>10.0} {:>9.0} {:>8.0}",
        each.len() as f64 / wall.as_secs_f64(),
        micros(cpu) / each.len() as f64,
        micros(at(&each, 50)),
        micros(at(&each, 99)),
        micros(at(&lasts, 50)),
        micros(at(&lasts, 99)),
    );
}

fn reads(directory: &Path) {
    let store = Embedded::open(&directory.join("full"), EmbeddedOptions::default()).expect("open");
    let prefix = Prefix::new("/registry/core/configmaps/").expect("prefix");
    println!("\nreads of {RECORDS} records");
    let snapshot = store.snapshot();
    time("snapshot", 1_000, || store.snapshot().len());
    time("get", 1_000, || {
        snapshot.get(&key("configmaps", 5_000)).map_or(0, |record| record.as_slice().len())
    });
    time("page of 500", 100, || {
        snapshot.range(&prefix, None).take(500).map(|record| record.as_slice().len()).sum()
    });
    time("count", 100, || snapshot.count(&prefix));
}

fn time(name: &str, rounds: u32, mut run: impl FnMut() -> usize) {
    let begin = Instant::now();
    let mut sum = 0;
    for _ in 0..rounds {
        sum += std::hint::black_box(run());
    }
    assert!(sum > 0);
    println!("{name:>12}: {:.3} µs", micros(begin.elapsed()) / f64::from(rounds));
}

fn key(resource: &str, number: usize) -> Key {
    Key::new(format!("/registry/core/{resource}/default/object-{number:06}")).expect("key")
}

fn value(number: usize) -> Value {
    let head = format!(r#"{{"metadata":{{"name":"object-{number}","resourceVersion":""#);
    let offset = head.len();
    let padding = "x".repeat(VALUE_BYTES - head.len());
    Value::revised(head + &padding, offset)
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    format!("p50 {:.0} µs, p99 {:.0} µs", micros(at(times, 50)), micros(at(times, 99)))
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().expect("positive"), time.tv_nsec.try_into().expect("below a second"))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

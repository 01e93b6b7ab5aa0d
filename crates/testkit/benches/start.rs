//! How long a cluster takes to start, what it costs, and what one takes in memory.
//!
//! `cargo bench -p xebec-testkit`

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use xebec_testkit::Cluster;

const ROUNDS: usize = 200;
const BESIDE: usize = 32;
const KEPT: usize = 50;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let first = Instant::now();
    let cluster = Cluster::start().await.expect("a cluster");
    println!("the first start in a process: {:.1} ms", milliseconds(first.elapsed()));
    cluster.stop().await.expect("no part was lost");

    let (mut starts, mut costs, mut useful) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begun, before) = (Instant::now(), cpu());
        let cluster = Cluster::start().await.expect("a cluster");
        starts.push(begun.elapsed());
        // All controllers have filled their caches, or the last of them could not have acted.
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "kube-system");
        let patience = Duration::from_secs(10);
        cluster.wait_for(&maps, "kube-root-ca.crt", exists, patience).await.expect("it comes");
        cluster.wait_for(&accounts, "default", exists, patience).await.expect("it comes");
        useful.push(begun.elapsed());
        cluster.stop().await.expect("no part was lost");
        costs.push(cpu().saturating_sub(before));
    }
    println!("start: median {:.1} ms, p99 {:.1} ms", median(&mut starts), at(&starts, 99));
    println!("start until controllers have acted: median {:.1} ms", median(&mut useful));
    println!("CPU of a start, that, and a stop: median {:.1} ms", median(&mut costs));

    let begun = Instant::now();
    let clusters =
        futures::future::try_join_all((0..BESIDE).map(|_| Cluster::start())).await.expect("clusters");
    println!("{BESIDE} at once: {:.1} ms", milliseconds(begun.elapsed()));
    stop(clusters).await;

    let before = resident();
    let mut clusters = Vec::new();
    for _ in 0..KEPT {
        clusters.push(Cluster::start().await.expect("a cluster"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = resident().saturating_sub(before) / KEPT;
    println!("resident memory of each of {KEPT}: {each} KiB");
    stop(clusters).await;
}

async fn stop(clusters: Vec<Cluster>) {
    for cluster in clusters {
        cluster.stop().await.expect("no part was lost");
    }
}

fn exists<K>(object: Option<&K>) -> bool {
    object.is_some()
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    at(times, 50)
}

fn at(sorted: &[Duration], percent: usize) -> f64 {
    milliseconds(sorted[(sorted.len() - 1) * percent / 100])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The CPU time of this process so far: what `/proc/self/schedstat` of each thread adds up to.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let of = |thread: std::io::Result<std::fs::DirEntry>| {
        let text =
            std::fs::read_to_string(thread.expect("a thread").path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(of).sum())
}

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("it has a size")
}

//! The promises with numbers: starting, an application's way to being ready, size, idling, and durable writes.
//!
//! `cargo xtask bench` runs it on the release build. Times are wall-clock medians; CPU is the server process's own, from
//! `/proc`. Nothing is asserted: the numbers go into SPECIFICATION.md.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xebec_e2e::{Cluster, load::Target};

/// How often what is quick is repeated; medians are told.
const ROUNDS: usize = 9;

/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(30);

/// How many objects are created at 64 connections, and at one.
const CREATES: [(usize, usize); 2] = [(64, 20_000), (1, 2_000)];

fn main() -> Result<()> {
    let size = fs::metadata(std::env::var("XEBEC_BIN").context("XEBEC_BIN: run cargo xtask bench")?)?.len();
    println!("program                                {:>9.1} MB", to_mega(size));
    start()?;
    let cluster = Cluster::up()?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=30s"])?;
    cluster.xebec(&["image", "import", &cluster.path("image.tar").display().to_string()])?;
    hello(&cluster)?;
    idle(&cluster)?;
    creates(&cluster)
}

/// A start on a fresh data directory, until the API answers ready.
fn start() -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let cluster = Cluster::up()?;
        times.push(begun.elapsed());
        drop(cluster);
    }
    println!("xebec up, fresh data directory         {:>9} ms", median(times).as_millis());
    Ok(())
}

/// From the start of `kubectl apply` until all three pods are ready; the image is there.
fn hello(cluster: &Cluster) -> Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello/hello.yaml");
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            cluster.kubectl(&["delete", "-f", manifest, "--cascade=foreground"])?;
            cluster.kubectl(&["wait", "--for=delete", "pods", "-l", "app=hello", "--timeout=30s"])?;
        }
        let begun = Instant::now();
        cluster.kubectl(&["apply", "-f", manifest])?;
        cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
        times.push(begun.elapsed());
    }
    println!("kubectl apply of hello until 3 ready   {:>9} ms", median(times).as_millis());
    Ok(())
}

fn idle(cluster: &Cluster) -> Result<()> {
    let server = Process::server(cluster)?;
    std::thread::sleep(Duration::from_secs(5));
    let before = server.cpu()?;
    std::thread::sleep(IDLE);
    let used = server.cpu()?.saturating_sub(before);
    println!("idle with hello, resident memory       {:>9.1} MB", to_mega(server.resident()?));
    println!(
        "idle with hello, CPU                   {:>9.2} %",
        used.as_secs_f64() / IDLE.as_secs_f64() * 100.0
    );
    Ok(())
}

fn creates(cluster: &Cluster) -> Result<()> {
    let server = Process::server(cluster)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = Target::of(cluster)?;
    for (connections, count) in CREATES {
        let namespace = format!("load-{connections}");
        cluster.kubectl(&["create", "namespace", &namespace])?;
        let before = server.cpu()?;
        let run = runtime.block_on(target.create(&namespace, connections, count))?;
        let used = server.cpu()?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 requests")]
        let count = run.count as f64;
        println!(
            "durable creates, {connections:>2} connections         {:>9.3} ms CPU each, {:.0}/s, p50 {:.1} ms, p99 {:.1} ms",
            used.as_secs_f64() * 1000.0 / count,
            count / run.took.as_secs_f64(),
            run.quantile(0.5).as_secs_f64() * 1000.0,
            run.quantile(0.99).as_secs_f64() * 1000.0,
        );
    }
    println!("resident memory after the creates      {:>9.1} MB", to_mega(server.resident()?));
    Ok(())
}

/// A process, as `/proc` tells of it.
struct Process(u64);

impl Process {
    fn server(cluster: &Cluster) -> Result<Self> {
        Ok(Self(cluster.status()?["pids"]["server"].as_u64().context("the server's process id")?))
    }

    /// User and system time so far, of all threads.
    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("a stat line")?.1.split_ascii_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // USER_HZ is 100 on every architecture that Linux has.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory in bytes.
    fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Bytes as megabytes (10^6).
fn to_mega(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes here are far below 2^52")]
    let bytes = bytes as f64;
    bytes / 1e6
}

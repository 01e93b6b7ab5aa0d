//! What importing and unpacking cost: `cargo bench -p xebec-image`, as root or as root of a user namespace
//! (`unshare --user --map-auto --map-root-user --mount cargo bench …`).
//!
//! For each image: megabytes (of archive, of uncompressed layer) per second of wall clock and per second of CPU, and
//! the peak of the process's resident memory so far. Archives are made by other processes and read from files.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xebec_image::archive::{Builder, Layer, LayerBuilder, Source};
use xebec_image::compress::Compression;
use xebec_image::progress::Silent;
use xebec_image::{ImageService, ServiceConfig};

const LARGE: usize = 100 << 20;
const MEGABYTE: f64 = 1_000_000.0;

const COMPRESSIONS: [(&str, Compression); 3] =
    [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("plain", Compression::None)];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, prepare, kind, compression, path] = arguments.as_slice()
        && prepare == "prepare"
    {
        return write_archive(kind, compression, Path::new(path));
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("unpacking sets owners: run this as root, or as root of a user namespace (see the source)");
        std::process::exit(1);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!("{:<28} {:>9} {:>9} {:>11} {:>9}", "", "MB", "MB/s", "MB/CPU-s", "peak MB");
    for (name, _) in COMPRESSIONS {
        for kind in ["busybox", "100 MB"] {
            runtime.block_on(measure(kind, name));
        }
    }
}

/// Writes the archive to measure with, in a process of its own.
fn write_archive(kind: &str, compression: &str, path: &Path) {
    let known = COMPRESSIONS.into_iter().find(|(name, _)| *name == compression);
    let (_, compression) = known.expect("a known compression");
    let layer = match kind {
        "busybox" => LayerBuilder::new().file("bin/busybox", 0o755, &busybox()).build(compression),
        _ => large(compression),
    };
    Builder::new().layer(layer).write(File::create(path).expect("created")).expect("written");
}

fn busybox() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("the package busybox-static is needed")
}

/// Files of 100 kB that compress to about a third, as programs do.
fn large(compression: Compression) -> Layer {
    let mut state = 7_u64;
    let mut layer = LayerBuilder::new();
    for index in 0..LARGE / 100_000 {
        let mut data = Vec::with_capacity(100_000);
        while data.len() < 100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            data.extend_from_slice(&state.to_be_bytes()[..4]);
            data.extend_from_slice(b"some text");
        }
        data.truncate(100_000);
        layer = layer.file(&format!("usr/lib/{:02}/{index}", index % 50), 0o644, &data);
    }
    layer.build(compression)
}

async fn measure(kind: &str, compression: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let service = ImageService::open(ServiceConfig::new(dir.path().join("images"))).await.expect("opens");
    let path = dir.path().join("image.tar");
    let exe = std::env::current_exe().expect("this program");
    let prepared = Command::new(exe).args(["prepare", kind, compression]).arg(&path).status();
    assert!(prepared.expect("starts").success());
    let archived = std::fs::metadata(&path).expect("there").len();
    let name = format!("{kind}, {compression}");

    let start = Usage::now();
    let record = service.import(Source::Path(path), None).await.expect("imported").remove(0);
    start.print(&format!("{name}: import"), archived);
    let bytes = if kind == "busybox" { busybox().len() } else { LARGE };
    let start = Usage::now();
    service.ensure_snapshot(&record, Arc::new(Silent)).await.expect("unpacked");
    start.print(&format!("{name}: unpack"), u64::try_from(bytes).expect("fits"));
}

struct Usage {
    wall: Instant,
    cpu: Duration,
}

impl Usage {
    fn now() -> Self {
        Self { wall: Instant::now(), cpu: cpu() }
    }

    fn print(&self, name: &str, bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
        let megabytes = bytes as f64 / MEGABYTE;
        let wall = self.wall.elapsed().as_secs_f64();
        let used = (cpu() - self.cpu).as_secs_f64().max(0.01);
        println!(
            "{name:<28} {megabytes:>9.1} {:>9.0} {:>11.0} {:>9}",
            megabytes / wall,
            megabytes / used,
            peak_megabytes()
        );
    }
}

/// User and system time of the process; the kernel counts in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("readable");
    let after_name = stat.rsplit(')').next().expect("a name in parentheses");
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number")
        / 1_000
}

//! What containers cost: start to exit of `true` in a pod that exists, beside
//! `crun run` of the same program in the same place; `exec`; a pod; the memory
//! of the process that holds it. `crun` is left out where it is not installed.
//!
//! Wall time is the median (and the minimum) of the runs; processor time is
//! the mean over them, of all processes that take part. `crun` runs without a
//! seccomp filter, an overlay and a nested user namespace; a container here has
//! all three.
//!
//! Run as root it becomes the user `xebec-test`, which must exist.
#![expect(clippy::unwrap_used, clippy::exit, reason = "a bench stops where it fails")]

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xebec_sandbox::bootstrap::{
    Identity, Keeper, KeeperConfig, KeeperInfo, Lifetime, ServerCommand, keeper_main, preflight,
};
use xebec_sandbox::config::{ContainerConfig, ContainerId, ExecConfig, PodSandboxConfig, Rootfs, host_id};
use xebec_sandbox::engines::{OciEngine, Runtime};
use xebec_sandbox::sandbox::{Engine, Sandbox};

const RUNS: usize = 100;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("keeper") => keeper_main(),
        Some("shim") => xebec_sandbox::shim::main(),
        Some("server") => serve(),
        _ => outside(),
    }
}

fn outside() -> ! {
    if rustix::process::geteuid().is_root() {
        Identity::lookup("xebec-test").unwrap().assume().unwrap();
    }
    let directory = std::env::temp_dir().join(format!("xebec-bench-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
    let config = KeeperConfig {
        run_dir: directory.join("run"),
        keeper_args: vec!["keeper".into()],
        server: ServerCommand { args: vec!["server".into(), directory.clone().into()], env: Vec::new() },
        lifetime: Lifetime::Foreground,
        stop_grace: Duration::from_secs(5),
    };
    let host = preflight().unwrap();
    let began = Instant::now();
    let keeper = Keeper::spawn(&host, &config).unwrap();
    println!("keeper, from nothing until its server was started: {:.1} ms", millis(began.elapsed()));
    let code = keeper.supervise().unwrap().code;
    fs::remove_dir_all(&directory).unwrap();
    std::process::exit(code)
}

fn serve() -> ! {
    let directory = PathBuf::from(std::env::args().nth(2).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&directory));
    for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
        if entry.file_name() != "run" {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    std::process::exit(0)
}

struct Bench {
    directory: PathBuf,
    layer: PathBuf,
    engine: OciEngine,
    count: u32,
}

async fn measure(directory: &Path) {
    let info = KeeperInfo::load(&directory.join("run")).unwrap();
    let layer = directory.join("layer");
    make_layer(&layer);
    let runtime = Runtime { run_dir: info.run_dir, shim_args: vec!["shim".into()], limits: info.limits };
    let mut bench =
        Bench { directory: directory.to_owned(), layer, engine: OciEngine::new(runtime), count: 0 };
    println!("keeper: {}", memory(1));
    bench.pods().await;
    let sandbox = bench.pod().await;
    bench.container(&*sandbox, &["true"]).await;
    let sleeper = bench.start(&*sandbox, &["sleep", "600"]).await;
    let shim = parent(sandbox.list().await.unwrap().iter().find(|c| c.id == sleeper).unwrap().pid.unwrap());
    println!("shim with one container: {}", memory(shim));
    bench.containers(&*sandbox, shim).await;
    bench.execs(&*sandbox, &sleeper, shim).await;
    sandbox.remove().await.unwrap();
    bench.crun();
}

impl Bench {
    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("x{}", self.count)
    }

    async fn pod(&mut self) -> Arc<dyn Sandbox> {
        let id = self.fresh().parse().unwrap();
        self.engine.create(PodSandboxConfig::new(id, "bench")).await.unwrap()
    }

    async fn start(&mut self, sandbox: &dyn Sandbox, args: &[&str]) -> ContainerId {
        let id: ContainerId = self.fresh().parse().unwrap();
        let writable = self.directory.join(id.as_str());
        fs::create_dir(&writable).unwrap();
        let rootfs = Rootfs { lower: vec![self.layer.clone()], writable };
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        sandbox.create_container(ContainerConfig::new(id.clone(), rootfs, args)).await.unwrap();
        sandbox.start(&id).await.unwrap();
        id
    }

    async fn container(&mut self, sandbox: &dyn Sandbox, args: &[&str]) {
        let id = self.start(sandbox, args).await;
        assert_eq!(sandbox.wait(&id).await.unwrap().code(), 0);
        sandbox.remove_container(&id).await.unwrap();
    }

    async fn pods(&mut self) {
        let mut created = Vec::new();
        let mut removed = Vec::new();
        for _ in 0..RUNS / 4 {
            let began = Instant::now();
            let sandbox = self.pod().await;
            created.push(began.elapsed());
            let began = Instant::now();
            sandbox.remove().await.unwrap();
            removed.push(began.elapsed());
        }
        println!("pod, created: {}", wall(created));
        println!("pod, removed: {}", wall(removed));
    }

    async fn containers(&mut self, sandbox: &dyn Sandbox, shim: u32) {
        let (before, mut times) = (cpu(shim), Vec::new());
        for _ in 0..RUNS {
            let began = Instant::now();
            self.container(sandbox, &["true"]).await;
            times.push(began.elapsed());
        }
        println!("container, created to removed: {}, {}", wall(times), mean(cpu(shim) - before));
    }

    async fn execs(&mut self, sandbox: &dyn Sandbox, container: &ContainerId, shim: u32) {
        let (before, mut times) = (cpu(shim), Vec::new());
        for _ in 0..RUNS {
            let began = Instant::now();
            let session = sandbox.exec(container, ExecConfig::new(vec!["true".into()])).await.unwrap();
            assert_eq!(session.collect(0).await.unwrap().exit.unwrap().code(), 0);
            times.push(began.elapsed());
        }
        println!("exec: {}, {}", wall(times), mean(cpu(shim) - before));
    }

    fn crun(&mut self) {
        let Some(crun) =
            ["/usr/bin/crun", "/usr/local/bin/crun"].into_iter().find(|path| Path::new(path).exists())
        else {
            return println!("crun: not installed");
        };
        let bundle = self.directory.join("bundle");
        fs::create_dir(&bundle).unwrap();
        symlink(&self.layer, bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), crun_spec(&self.layer)).unwrap();
        let state = self.directory.join("crun");
        fs::create_dir(&state).unwrap();
        let (before, mut times) = (children_cpu(), Vec::new());
        for _ in 0..RUNS {
            let id = self.fresh();
            let began = Instant::now();
            let status = Command::new(crun)
                .arg("--root")
                .arg(&state)
                .args(["--cgroup-manager=disabled", "run", "--bundle"])
                .arg(&bundle)
                .arg(id)
                .status()
                .unwrap();
            times.push(began.elapsed());
            assert!(status.success());
        }
        println!("crun run: {}, {}", wall(times), mean(children_cpu() - before));
    }
}

/// As near to what a container here gets as `crun` can be asked for in this place.
fn crun_spec(layer: &Path) -> String {
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup"].map(|kind| serde_json::json!({ "type": kind }));
    let mounts = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/shm", "tmpfs"),
    ];
    let mounts = mounts.map(
        |(destination, kind)| serde_json::json!({ "destination": destination, "type": kind, "source": kind }),
    );
    let in_proc = |names: &[&str]| names.iter().map(|name| format!("/proc/{name}")).collect::<Vec<_>>();
    let masked =
        in_proc(&["acpi", "asound", "interrupts", "kcore", "keys", "sched_debug", "scsi", "timer_list"]);
    let read_only = in_proc(&["bus", "fs", "irq", "sys", "sysrq-trigger"]);
    serde_json::json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": { "uid": 1, "gid": 1 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": layer, "readonly": true },
        "mounts": mounts,
        "linux": { "namespaces": namespaces, "maskedPaths": masked, "readonlyPaths": read_only },
    })
    .to_string()
}

fn make_layer(path: &Path) {
    for directory in ["", "bin", "etc", "proc", "dev"] {
        let directory = path.join(directory);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&directory, host_id(0), host_id(0)).unwrap();
    }
    fs::copy("/bin/busybox", path.join("bin/busybox")).unwrap();
    fs::set_permissions(path.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["true", "sleep"] {
        symlink("busybox", path.join("bin").join(name)).unwrap();
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn wall(mut times: Vec<Duration>) -> String {
    times.sort();
    format!("{:.1} ms wall ({:.1})", millis(times[times.len() / 2]), millis(times[0]))
}

fn mean(total: Duration) -> String {
    format!("{:.1} ms cpu", millis(total) / RUNS as f64)
}

fn stat(pid: u32) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit_once(") ").unwrap().1.split(' ');
    fields.map(|field| field.parse().unwrap_or_default()).collect()
}

fn parent(pid: u32) -> u32 {
    u32::try_from(stat(pid)[1]).unwrap()
}

/// Of the shim, its ended children, and this process.
fn cpu(shim: u32) -> Duration {
    let ticks: u64 =
        stat(shim)[11..15].iter().sum::<u64>() + stat(std::process::id())[11..13].iter().sum::<u64>();
    in_time(ticks)
}

fn children_cpu() -> Duration {
    in_time(stat(std::process::id())[11..15].iter().sum())
}

fn in_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

fn memory(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    format!(
        "{:.1} MB resident, {:.1} MB proportional, {:.1} MB of its own",
        field("Rss:"),
        field("Pss:"),
        field("Private_Dirty:")
    )
}

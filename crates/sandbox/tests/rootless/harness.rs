//! Starting the keeper, running cases inside it, and what cases are made of.

use std::collections::HashSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use xebec_sandbox::bootstrap::{EXIT_FATAL, KeeperInfo};
use xebec_sandbox::client::{Collected, Session};
use xebec_sandbox::config::{
    ContainerConfig, ContainerId, ExecConfig, LogConfig, PodSandboxConfig, Rootfs, host_id,
};
use xebec_sandbox::engines::{OciEngine, Runtime};
use xebec_sandbox::sandbox::{Engine, ExitStatus, Sandbox};

const BUSYBOX: &str = "/bin/busybox";

/// The longest that anything in a case may take before it counts as hung.
pub(crate) const HUNG: Duration = Duration::from_secs(60);

type Run = fn(Arc<Bench>) -> Pin<Box<dyn Future<Output = ()>>>;

/// One test case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// Adds cases: asynchronous functions of an `Arc<Bench>`, named by themselves.
macro_rules! cases {
    ($list:expr, $($name:ident),* $(,)?) => {
        $($list.push($crate::harness::Case {
            name: stringify!($name),
            run: |bench| Box::pin($name(bench)),
        });)*
    };
}
pub(crate) use cases;

/// The part that runs in the keeper's namespaces.
pub(crate) fn serve(cases: &[Case]) -> ! {
    let mut args = std::env::args().skip(2);
    let directory = PathBuf::from(args.next().expect("the test directory"));
    let filters: Vec<String> = args.collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let bench = Arc::new(Bench::new(directory));
    let wanted = |case: &&Case| filters.is_empty() || filters.iter().any(|f| case.name.contains(f.as_str()));
    let mut failed = Vec::new();
    let mut passed = 0;
    for case in cases.iter().filter(wanted) {
        let run = case.run;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async { tokio::time::timeout(HUNG, run(Arc::clone(&bench))).await })
        }));
        match result {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {} ... ok", case.name);
            }
            Ok(Err(_)) => {
                println!("test {} ... FAILED (hung)", case.name);
                failed.push(case.name);
            }
            Err(_) => {
                println!("test {} ... FAILED", case.name);
                failed.push(case.name);
            }
        }
    }
    bench.clean();
    println!("\ntest result: {passed} passed; {} failed {failed:?}", failed.len());
    std::process::exit(if failed.is_empty() { 0 } else { i32::from(EXIT_FATAL) })
}

/// What cases work with.
pub(crate) struct Bench {
    pub(crate) directory: PathBuf,
    pub(crate) info: KeeperInfo,
    pub(crate) engine: OciEngine,
    layer: PathBuf,
    next: AtomicU32,
}

impl Bench {
    pub(crate) fn new(directory: PathBuf) -> Self {
        let info = KeeperInfo::load(&directory.join("run")).expect("what the keeper recorded");
        let runtime =
            Runtime { run_dir: info.run_dir.clone(), shim_args: vec!["shim".into()], limits: info.limits };
        let layer = directory.join("layer");
        if !layer.exists() {
            make_layer(&layer);
        }
        Self { engine: OciEngine::new(runtime), info, layer, directory, next: AtomicU32::new(0) }
    }

    /// Removes what belongs to pods' users, which the host's user may not.
    pub(crate) fn clean(&self) {
        for entry in fs::read_dir(&self.directory).expect("read the test directory") {
            let entry = entry.expect("an entry");
            if entry.path() == self.info.run_dir {
                continue;
            }
            if entry.file_type().expect("a type").is_dir() {
                fs::remove_dir_all(entry.path()).expect("remove a directory");
            } else {
                fs::remove_file(entry.path()).expect("remove a file");
            }
        }
    }

    pub(crate) fn fresh(&self, prefix: &str) -> String {
        format!("{prefix}-{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn fresh_directory(&self, prefix: &str) -> PathBuf {
        let path = self.directory.join(self.fresh(prefix));
        fs::create_dir(&path).expect("make a directory");
        path
    }

    /// A file system of busybox, with a writable layer of its own.
    pub(crate) fn rootfs(&self) -> Rootfs {
        Rootfs { lower: vec![self.layer.clone()], writable: self.fresh_directory("writable") }
    }

    /// As `rootfs`, with a further layer on top.
    pub(crate) fn rootfs_with(&self, top: &Path) -> Rootfs {
        Rootfs { lower: vec![top.to_owned(), self.layer.clone()], writable: self.fresh_directory("writable") }
    }

    pub(crate) fn pod_config(&self) -> PodSandboxConfig {
        PodSandboxConfig::new(self.fresh("pod").parse().expect("a valid id"), "test-pod")
    }

    pub(crate) async fn pod(&self) -> Pod {
        self.pod_with(self.pod_config()).await
    }

    pub(crate) async fn pod_with(&self, config: PodSandboxConfig) -> Pod {
        Pod { sandbox: self.engine.create(config).await.expect("create a pod") }
    }

    /// A container that runs a shell script.
    pub(crate) fn script(&self, script: &str) -> ContainerConfig {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut config =
            ContainerConfig::new(self.fresh("c").parse().expect("a valid id"), self.rootfs(), args);
        let log = self.directory.join(format!("{}.log", config.id));
        config.log = Some(LogConfig::new(log));
        config
    }

    /// Runs a script in a pod of its own; gives its end and its output.
    pub(crate) async fn run(&self, script: &str) -> (ExitStatus, String) {
        self.run_config(self.script(script)).await
    }

    pub(crate) async fn run_config(&self, config: ContainerConfig) -> (ExitStatus, String) {
        let pod = self.pod().await;
        let result = pod.run(config).await;
        pod.sandbox.remove().await.expect("remove the pod");
        result
    }
}

/// A pod under test.
pub(crate) struct Pod {
    pub(crate) sandbox: Arc<dyn Sandbox>,
}

impl Pod {
    pub(crate) async fn start(&self, config: ContainerConfig) -> ContainerId {
        let id = config.id.clone();
        self.sandbox.create_container(config).await.expect("create the container");
        self.sandbox.start(&id).await.expect("start the container");
        id
    }

    /// Runs a container to its end; gives that and what it logged.
    pub(crate) async fn run(&self, config: ContainerConfig) -> (ExitStatus, String) {
        let log = config.log.clone().expect("a log").path;
        let id = self.start(config).await;
        let status = self.sandbox.wait(&id).await.expect("wait for the container");
        (status, logged(&log))
    }

    pub(crate) async fn exec(&self, id: &ContainerId, script: &str) -> (i32, String) {
        let collected =
            self.exec_config(id, ExecConfig::new(["sh", "-c", script].map(str::to_owned).to_vec())).await;
        let output = [collected.stdout, collected.stderr].concat();
        (collected.exit.expect("an exit status").code(), String::from_utf8(output).expect("text"))
    }

    pub(crate) async fn exec_config(&self, id: &ContainerId, config: ExecConfig) -> Collected {
        let session: Session = self.sandbox.exec(id, config).await.expect("exec");
        session.collect(1 << 20).await.expect("the session's output")
    }
}

/// The text of a log, without times and tags.
pub(crate) fn logged(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("read the log");
    text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
}

/// Gives everything below a path to root of pods.
pub(crate) fn give_to_pods(path: &Path) {
    let root = host_id(0);
    rustix::fs::chownat(
        rustix::fs::CWD,
        path,
        root.map(rustix::fs::Uid::from_raw),
        root.map(rustix::fs::Gid::from_raw),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .expect("change the owner");
    if fs::symlink_metadata(path).expect("metadata").is_dir() {
        for entry in fs::read_dir(path).expect("read a directory") {
            give_to_pods(&entry.expect("an entry").path());
        }
    }
}

fn make_layer(path: &Path) {
    for directory in ["", "bin", "etc", "tmp", "root", "home", "var"] {
        let directory = path.join(directory);
        fs::create_dir(&directory).expect("make a directory");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("set a mode");
    }
    let busybox = path.join("bin/busybox");
    fs::copy(BUSYBOX, &busybox).expect("copy busybox");
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).expect("set a mode");
    let listed = Command::new(BUSYBOX).arg("--list").output().expect("list busybox's commands");
    let names: HashSet<_> =
        String::from_utf8(listed.stdout).expect("text").lines().map(str::to_owned).collect();
    for name in names.iter().filter(|name| *name != "busybox") {
        symlink("busybox", path.join("bin").join(name)).expect("link a command");
    }
    fs::write(
        path.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:100:101::/home:/bin/sh\n\
         u1:x:1001:1::/:/bin/sh\nu2:x:1002:1::/:/bin/sh\nu3:x:1003:1::/:/bin/sh\n\
         u4:x:1004:1::/:/bin/sh\nu5:x:1005:1::/:/bin/sh\n",
    )
    .expect("write");
    fs::write(path.join("etc/group"), "root:x:0:\nweb:x:101:\nlogs:x:200:web\n").expect("write");
    for file in ["etc/passwd", "etc/group"] {
        fs::set_permissions(path.join(file), fs::Permissions::from_mode(0o644)).expect("set a mode");
    }
    fs::set_permissions(path.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("set a mode");
    give_to_pods(path);
}

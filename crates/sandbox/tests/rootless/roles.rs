//! Servers (and one caller) that behave in a particular way, for the cases on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal as SystemSignal;
use tokio::signal::unix::{SignalKind, signal};
use xebec_sandbox::bootstrap::{EXIT_FATAL, Keeper, Lifetime, preflight};
use xebec_sandbox::config::{ContainerId, Network, Signal};
use xebec_sandbox::sandbox::{ContainerState, Engine, Outcome, Recovered};

use crate::harness::{Bench, Pod};
use crate::host;

/// Plays the role that the arguments name, in the directory that they name.
pub(crate) fn play() -> ! {
    let args: Vec<String> = std::env::args().skip(2).collect();
    let directory = PathBuf::from(&args[0]);
    if args[1] == "call" {
        call(&directory, &args[2]);
    }
    fs::write(directory.join("runs"), fs::read_to_string(directory.join("runs")).unwrap_or_default() + "x")
        .expect("count the runs");
    let runs = fs::read_to_string(directory.join("runs")).expect("the count").len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let code = match args[1].as_str() {
        "crash-twice" if runs < 3 => 1,
        "crash-twice" => 0,
        "refuse" => i32::from(EXIT_FATAL),
        "wait" => runtime.block_on(wait(&directory)),
        "fill" => runtime.block_on(fill(&directory)),
        "clean" => {
            Bench::new(directory).clean();
            0
        }
        "die-and-recover" => runtime.block_on(die_and_recover(&directory, runs)),
        role => panic!("no such role: {role}"),
    };
    std::process::exit(code)
}

/// A caller that starts a keeper, writes down which, and then stays or leaves.
fn call(directory: &Path, lifetime: &str) -> ! {
    let host = preflight().expect("the host is fine");
    let mut config = host::config(directory, "role", &["wait".to_owned()]);
    if lifetime == "detached" {
        config.lifetime = Lifetime::Detached { log: directory.join("log") };
    }
    let keeper = Keeper::spawn(&host, &config).expect("start the keeper");
    fs::write(directory.join("pid"), keeper.info().host_pid.to_string()).expect("say so");
    if lifetime == "foreground" {
        keeper.supervise().expect("supervise the keeper");
    }
    std::process::exit(0)
}

async fn wait(directory: &Path) -> i32 {
    println!("the server says hello");
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    fs::write(directory.join("ready"), "").expect("say so");
    terminate.recv().await;
    fs::write(directory.join("stopped"), "").expect("say so");
    0
}

/// Pods of every sort, and then nothing more.
async fn fill(directory: &Path) -> i32 {
    let bench = Bench::new(directory.to_owned());
    let plain = bench.pod().await;
    let id = plain.start(bench.script("trap '' TERM; sleep 600 & sleep 600; true")).await;
    let mut shared = bench.pod_config();
    shared.share_process_namespace = true;
    let shared = bench.pod_with(shared).await;
    shared.start(bench.script("sleep 600; true")).await;
    let mut on_host = bench.pod_config();
    on_host.network = Network::Host;
    let on_host = bench.pod_with(on_host).await;
    on_host.start(bench.script("sleep 600; true")).await;
    let config = xebec_sandbox::config::ExecConfig::new(vec!["sleep".into(), "600".into()]);
    let _session = plain.sandbox.exec(&id, config).await.expect("exec");
    fs::write(directory.join("ready"), "").expect("say so");
    std::future::pending().await
}

const KEPT: &str = "kept";
const FINISHED: &str = "finished";
const ORPHANED: &str = "orphaned";

async fn die_and_recover(directory: &Path, runs: usize) -> i32 {
    let bench = Bench::new(directory.to_owned());
    if runs == 1 {
        prepare_and_die(&bench).await;
    }
    recover(&bench).await;
    bench.clean();
    0
}

fn id(name: &str) -> ContainerId {
    name.parse().expect("a valid id")
}

async fn prepare_and_die(bench: &Bench) -> ! {
    let mut config = bench.pod_config();
    config.labels = [("pod".to_owned(), "one".to_owned())].into();
    let pod = bench.pod_with(config).await;
    for (name, script) in [
        (KEPT, "echo before; while true; do usleep 50000; [ -f /go ] && exit 33; done"),
        (FINISHED, "exit 21"),
    ] {
        let mut config = bench.script(script);
        config.id = id(name);
        pod.start(config).await;
    }
    pod.sandbox.wait(&id(FINISHED)).await.expect("its end");
    let (dead, hung) = (sleeping(bench, "two").await, sleeping(bench, "three").await);
    let own = std::process::id().cast_signed();
    for (pid, signal) in [(dead, SystemSignal::KILL), (hung, SystemSignal::STOP), (own, SystemSignal::KILL)] {
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("a signal");
    }
    unreachable!("this process was killed");
}

/// A pod that only sleeps; the process id of its shim.
async fn sleeping(bench: &Bench, label: &str) -> i32 {
    let mut config = bench.pod_config();
    config.labels = [("pod".to_owned(), label.to_owned())].into();
    let pod = bench.pod_with(config).await;
    let mut config = bench.script("sleep 777; true");
    config.id = id(ORPHANED);
    pod.start(config).await;
    // A shim's process id is the parent of its container's.
    let pid = pod.sandbox.list().await.expect("a list")[0].pid.expect("it runs");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its parent");
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().expect("a number")
}

async fn recover(bench: &Bench) {
    let mut found = bench.engine.recover().await.expect("recover");
    found.sort_by_key(|recovered| match recovered {
        Recovered::Alive(_) => String::new(),
        Recovered::Dead { labels, .. } => labels["pod"].clone(),
    });
    let [Recovered::Alive(sandbox), hung, dead] = &found[..] else {
        panic!("{} pods were found", found.len());
    };
    for (label, dead) in [("three", hung), ("two", dead)] {
        let Recovered::Dead { id, labels, containers } = dead else { panic!("pod {label} lives") };
        assert_eq!((labels["pod"].as_str(), containers.len()), (label, 1));
        let ContainerState::Exited(status) = &containers[0].state else { panic!("{containers:?}") };
        assert_eq!((containers[0].id.as_str(), status.outcome), (ORPHANED, Outcome::Signaled(9)));
        assert!(!bench.info.run_dir.join("pods").join(id.as_str()).exists());
        let pins = fs::read_dir(bench.info.run_dir.join("netns")).expect("the pins");
        let pins = pins.map(|pin| pin.expect("a pin").file_name().to_string_lossy().into_owned());
        assert_eq!(pins.filter(|pin| pin.ends_with(id.as_str())).count(), 0);
    }
    let orphans = fs::read_dir("/proc").expect("read /proc").filter(|entry| {
        let command = entry.as_ref().unwrap().path().join("cmdline");
        fs::read(command).is_ok_and(|text| text.starts_with(b"sleep\x00777"))
    });
    assert_eq!(orphans.count(), 0, "a container outlived its shim");
    assert_eq!(sandbox.labels()["pod"], "one");
    let pod = Pod { sandbox: Arc::clone(sandbox) };
    let listed = sandbox.list().await.expect("a list");
    let state =
        |name: &str| listed.iter().find(|info| info.id.as_str() == name).expect("it is listed").state.clone();
    assert!(matches!(state(FINISHED), ContainerState::Exited(status) if status.code() == 21));
    assert!(matches!(state(KEPT), ContainerState::Running { .. }));
    assert_eq!(pod.exec(&id(KEPT), "touch /go; echo done").await.1, "done\n");
    assert_eq!(sandbox.wait(&id(KEPT)).await.expect("its end").code(), 33);
    // It is as good as a new one.
    let fresh = pod.start(bench.script("sleep 600; true")).await;
    sandbox.signal(&fresh, Signal::KILL).await.expect("kill");
    sandbox.wait(&fresh).await.expect("its end");
    sandbox.remove().await.expect("remove");
    assert!(bench.engine.recover().await.expect("recover").is_empty());
}

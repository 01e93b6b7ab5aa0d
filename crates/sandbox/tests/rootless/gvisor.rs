//! The same containers on gVisor, where `runsc` is installed.

use std::fs;
use std::sync::Arc;

use xebec_sandbox::client::Output;
use xebec_sandbox::config::{
    ContainerUser, EnvVar, ExecConfig, Mount, MountSource, Signal, Stdin, TerminalSize,
};
use xebec_sandbox::engines::{GvisorEngine, Runtime};
use xebec_sandbox::sandbox::{ContainerState, Engine, EngineKind, ErrorKind, Outcome};

use crate::harness::{Bench, Case, Pod, cases, give_to_pods};

pub(crate) fn cases(list: &mut Vec<Case>) {
    cases!(
        list,
        gvisor_runs_containers,
        gvisor_execs,
        gvisor_terminals,
        gvisor_signals_and_removal,
        gvisor_joins_the_pods_network,
    );
}

fn engine(bench: &Bench) -> Option<GvisorEngine> {
    let engine = GvisorEngine::new(Runtime {
        run_dir: bench.info.run_dir.clone(),
        shim_args: vec!["shim".into()],
        limits: bench.info.limits,
    });
    match engine.available() {
        Ok(()) => Some(engine),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

async fn pod(bench: &Bench) -> Option<Pod> {
    let sandbox = engine(bench)?.create(bench.pod_config()).await.expect("create a pod");
    assert_eq!(sandbox.engine(), EngineKind::Gvisor);
    Some(Pod { sandbox })
}

async fn gvisor_runs_containers(bench: Arc<Bench>) {
    let Some(pod) = pod(&bench).await else { return };
    let data = bench.fresh_directory("volume");
    give_to_pods(&data);
    let mut config = bench
        .script("dmesg | head -1; id; hostname; echo $A; pwd; echo to > /data/out; echo err >&2; exit 7");
    config.env = vec![EnvVar { name: "A".into(), value: "b".into() }];
    config.cwd = "/work".into();
    config.user = ContainerUser::ids(0, 0);
    config.mounts = vec![Mount {
        destination: "/data".into(),
        source: MountSource::Bind { path: data.clone(), sub_path: None },
        read_only: false,
    }];
    let (status, output) = pod.run(config).await;
    assert_eq!(status.code(), 7, "{output}");
    assert!(output.contains("Starting gVisor"), "{output}");
    assert!(output.contains("uid=0(root) gid=0(root)"), "{output}");
    assert!(output.contains("test-pod\nb\n/work\n") && output.contains("err\n"), "{output}");
    assert_eq!(fs::read_to_string(data.join("out")).unwrap(), "to\n");

    let mut config = bench.script("");
    config.args = vec!["no-such-program".into()];
    let error = pod.sandbox.create_container(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{error}");

    let mut config = bench.script("touch /x 2>&1; id -u");
    config.read_only_rootfs = true;
    config.user = ContainerUser::ids(100, 101);
    let (_, output) = pod.run(config).await;
    assert!(output.contains("Read-only") && output.ends_with("100\n"), "{output}");
    pod.sandbox.remove().await.unwrap();
}

async fn gvisor_execs(bench: Arc<Bench>) {
    let Some(pod) = pod(&bench).await else { return };
    let mut config = bench.script("cat > /got; sleep 600");
    config.stdin = Stdin::Once;
    config.env = vec![EnvVar { name: "A".into(), value: "1".into() }];
    let id = config.id.clone();
    pod.sandbox.create_container(config).await.unwrap();
    assert_eq!(pod.sandbox.list().await.unwrap()[0].state, ContainerState::Created);
    // Input given before the start waits for it.
    let mut session = pod.sandbox.attach(&id).await.unwrap();
    session.input.write(b"early\n").await.unwrap();
    session.input.close().await.unwrap();
    pod.sandbox.start(&id).await.unwrap();
    let (code, output) = pod
        .exec(&id, "while [ ! -s /got ]; do usleep 10000; done; cat /got; echo $A; echo err >&2; exit 9")
        .await;
    assert_eq!((code, output.as_str()), (9, "early\n1\nerr\n"));
    let mut config = ExecConfig::new(["sh", "-c", "id -u; pwd; cat"].map(str::to_owned).to_vec());
    config.user = Some(ContainerUser::ids(100, 101));
    config.cwd = Some("/tmp".into());
    config.stdin = true;
    let mut session = pod.sandbox.exec(&id, config).await.unwrap();
    session.input.write(b"in\n").await.unwrap();
    let collected = session.collect(1 << 16).await.unwrap();
    assert_eq!(String::from_utf8(collected.stdout).unwrap(), "100\n/tmp\nin\n");
    let stats = pod.sandbox.stats(&id).await.unwrap();
    assert!(stats.memory_bytes > 0 && stats.processes > 0, "{stats:?}");
    pod.sandbox.remove().await.unwrap();
}

async fn gvisor_terminals(bench: Arc<Bench>) {
    let Some(pod) = pod(&bench).await else { return };
    let mut config = bench.script("test -t 0 && echo a terminal; read x; echo got $x; exit 3");
    config.tty = true;
    config.stdin = Stdin::Open;
    let id = config.id.clone();
    pod.sandbox.create_container(config).await.unwrap();
    let mut session = pod.sandbox.attach(&id).await.unwrap();
    pod.sandbox.start(&id).await.unwrap();
    let mut config = ExecConfig::new(["sh", "-c", "test -t 1 && stty size"].map(str::to_owned).to_vec());
    config.tty = true;
    config.size = Some(TerminalSize { columns: 99, rows: 33 });
    let collected = pod.exec_config(&id, config).await;
    assert_eq!(String::from_utf8(collected.stdout).unwrap(), "33 99\r\n");
    session.input.write(b"this\n").await.unwrap();
    let mut seen = String::new();
    let status = loop {
        match session.output.next().await.unwrap() {
            Some(Output::Stdout(bytes)) => seen.push_str(&String::from_utf8(bytes).unwrap()),
            Some(Output::Exit(status)) => break status,
            other => panic!("{other:?} after {seen:?}"),
        }
    };
    assert!(seen.contains("a terminal\r\n") && seen.contains("got this\r\n"), "{seen:?}");
    assert_eq!(status.code(), 3);
    pod.sandbox.remove().await.unwrap();
}

async fn gvisor_signals_and_removal(bench: Arc<Bench>) {
    let Some(pod) = pod(&bench).await else { return };
    let id = pod
        .start(bench.script("trap 'exit 42' TERM; echo up > /up; while true; do usleep 20000; done"))
        .await;
    assert_eq!(pod.exec(&id, "while [ ! -s /up ]; do usleep 10000; done; echo ok").await.1, "ok\n");
    pod.sandbox.signal(&id, Signal::TERM).await.unwrap();
    assert_eq!(pod.sandbox.wait(&id).await.unwrap().outcome, Outcome::Exited(42));
    let id = pod.start(bench.script("sleep 600; true")).await;
    pod.sandbox.signal(&id, Signal::KILL).await.unwrap();
    assert_eq!(pod.sandbox.wait(&id).await.unwrap().code(), 137);
    // Neither one that was never started nor one that runs stays behind.
    let config = bench.script("true");
    let created = config.id.clone();
    pod.sandbox.create_container(config).await.unwrap();
    pod.start(bench.script("sleep 600; true")).await;
    pod.sandbox.signal(&created, Signal::KILL).await.unwrap();
    assert_eq!(pod.sandbox.wait(&created).await.unwrap().code(), 137);
    pod.sandbox.remove().await.unwrap();
    let left = fs::read_dir("/proc").unwrap().filter(|entry| {
        fs::read(entry.as_ref().unwrap().path().join("cmdline")).is_ok_and(|text| text.starts_with(b"runsc"))
    });
    assert_eq!(left.count(), 0);
}

async fn gvisor_joins_the_pods_network(bench: Arc<Bench>) {
    let Some(pod) = pod(&bench).await else { return };
    let server = pod.start(bench.script("while true; do echo hello | nc -l -p 8080; done")).await;
    let client = bench.script(
        "for i in $(seq 1 100); do nc 127.0.0.1 8080 | grep hello && break; usleep 50000; done; ip -o addr",
    );
    let (_, output) = pod.run(client).await;
    assert!(output.starts_with("hello\n"), "{output}");
    assert!(output.contains("127.0.0.1") && !output.contains("eth"), "{output}");
    pod.sandbox.remove_container(&server).await.unwrap();
    pod.sandbox.remove().await.unwrap();
}

//! Running containers: their ends, environment, users, output.

use std::fs;
use std::sync::Arc;

use xebec_sandbox::client::{Output, SessionOutput};
use xebec_sandbox::config::{
    ContainerUser, EnvVar, ExecConfig, LogConfig, Principal, Signal, Stdin, TerminalSize,
};
use xebec_sandbox::sandbox::{Change, ContainerState, ErrorKind, Outcome};

use crate::harness::{Bench, Case, cases, logged};

pub(crate) fn cases(list: &mut Vec<Case>) {
    cases!(
        list,
        runs_a_program,
        exit_codes,
        environment_and_directory,
        users,
        programs_that_cannot_run,
        logs_are_written,
        logs_rotate,
        full_disks_lose_output_and_nothing_else,
        standard_input,
        terminals,
        exec_runs_in_the_container,
        exec_with_input,
        exec_in_a_terminal,
        exec_that_cannot_run,
        abandoned_exec_is_killed,
        slow_exec_clients_stop_the_process,
        attach_sees_output,
        slow_attachers_are_cut_off,
        signals_reach_the_first_process,
        states_and_events,
        stats_are_counted,
        containers_are_removed,
    );
}

async fn runs_a_program(bench: Arc<Bench>) {
    let (status, output) = bench.run("echo hello").await;
    assert_eq!(status.code(), 0);
    assert_eq!(output, "hello\n");
    assert!(status.started_at <= status.finished_at);
}

async fn exit_codes(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    for (script, outcome) in [
        ("true", Outcome::Exited(0)),
        ("exit 7", Outcome::Exited(7)),
        ("exit 255", Outcome::Exited(255)),
        ("kill -9 $$; sleep 60", Outcome::Signaled(9)),
    ] {
        // The first process of a namespace cannot kill itself, so the last
        // script is run below a parent.
        let script = match outcome {
            Outcome::Exited(_) => script.to_owned(),
            Outcome::Signaled(_) => format!("sh -c '{script}'; exit $?"),
        };
        let (status, _) = pod.run(bench.script(&script)).await;
        let expected = match outcome {
            Outcome::Exited(code) => code,
            Outcome::Signaled(signal) => 128 + signal,
        };
        assert_eq!(status.code(), expected, "{script}");
    }
    pod.sandbox.remove().await.unwrap();
}

async fn environment_and_directory(bench: Arc<Bench>) {
    let mut config = bench.script("env | sort; pwd; hostname; umask; ls -ld /work/here");
    config.env = vec![EnvVar { name: "GREETING".into(), value: "hello world=1".into() }];
    config.cwd = "/work/here".into();
    let (status, output) = bench.run_config(config).await;
    assert_eq!(status.code(), 0, "{output}");
    let lines: Vec<_> = output.lines().collect();
    assert!(lines.contains(&"GREETING=hello world=1"), "{output}");
    assert!(lines.contains(&"HOME=/root"), "{output}");
    assert!(lines.contains(&"/work/here"), "{output}");
    assert!(lines.contains(&"test-pod"), "{output}");
    assert!(lines.contains(&"0022"), "{output}");
    assert!(lines.last().unwrap().contains("root"), "{output}");
    assert!(!output.contains("XEBEC"), "{output}");
    let variables = lines.iter().filter(|line| line.contains('=')).count();
    assert!(variables <= 6, "more than was asked for: {output}");
}

async fn users(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let name = |name: &str| Principal::Name(name.to_owned());
    for (user, expected) in [
        (ContainerUser::default(), "uid=0(root) gid=0(root) groups=0(root)"),
        (ContainerUser::ids(100, 101), "uid=100(web) gid=101(web) groups=101(web),200(logs)"),
        (
            ContainerUser { user: name("web"), group: None, supplementary_groups: vec![7] },
            "uid=100(web) gid=101(web) groups=7,101(web),200(logs)",
        ),
        (
            ContainerUser { user: Principal::Id(65_534), group: Some(name("logs")), ..Default::default() },
            "uid=65534 gid=200(logs) groups=200(logs)",
        ),
    ] {
        let mut config = bench.script("id; echo to-stdout > /dev/stdout");
        config.user = user.clone();
        let (status, output) = pod.run(config).await;
        assert_eq!(status.code(), 0, "{user:?}: {output}");
        assert_eq!(output, format!("{expected}\nto-stdout\n"), "{user:?}");
    }
    let mut config = bench.script("true");
    config.user = ContainerUser { user: name("nobody-here"), ..Default::default() };
    let error = pod.sandbox.create_container(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("nobody-here"), "{error}");
    pod.sandbox.remove().await.unwrap();
}

async fn programs_that_cannot_run(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    for (args, kind, part) in [
        (&["no-such-program"][..], ErrorKind::CommandNotFound, "no-such-program"),
        (&["/no/such/program"], ErrorKind::CommandNotFound, "/no/such/program"),
        (&["/etc/passwd"], ErrorKind::CommandNotRunnable, "/etc/passwd"),
        (&["/etc"], ErrorKind::CommandNotRunnable, "directory"),
        (&[], ErrorKind::InvalidConfig, "arguments"),
        (&[""], ErrorKind::InvalidConfig, "arguments"),
    ] {
        let mut config = bench.script("");
        config.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let id = config.id.clone();
        let error = pod.sandbox.create_container(config).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{args:?}: {error}");
        assert!(error.to_string().contains(part), "{args:?}: {error}");
        assert!(pod.sandbox.list().await.unwrap().is_empty(), "{id} was left");
    }
    // Only its start can tell that a file is no program.
    let top = bench.fresh_directory("top");
    fs::write(top.join("text"), "#!/no/interpreter\n").unwrap();
    fs::set_permissions(top.join("text"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    crate::harness::give_to_pods(&top);
    let mut config = bench.script("");
    config.rootfs = bench.rootfs_with(&top);
    config.args = vec!["/text".into()];
    let id = config.id.clone();
    pod.sandbox.create_container(config).await.unwrap();
    let error = pod.sandbox.start(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{error}");
    assert_ne!(pod.sandbox.wait(&id).await.unwrap().code(), 0);
    pod.sandbox.remove().await.unwrap();
}

async fn logs_are_written(bench: Arc<Bench>) {
    let mut config = bench.script("echo out; echo err >&2; printf unfinished");
    let path = bench.directory.join("format.log");
    config.log = Some(LogConfig::new(path.clone()));
    bench.run_config(config).await;
    let text = fs::read_to_string(&path).unwrap();
    let mut kinds: Vec<_> = text
        .lines()
        .map(|line| {
            let mut fields = line.splitn(4, ' ');
            let time = fields.next().unwrap();
            assert!(time.ends_with('Z') && time.len() == 30 && time.starts_with("20"), "{time}");
            fields.collect::<Vec<_>>().join(" ")
        })
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["stderr F err", "stdout F out", "stdout P unfinished"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

async fn logs_rotate(bench: Arc<Bench>) {
    let mut config = bench.script("for i in $(seq 1 400); do echo line $i; done");
    let path = bench.fresh_directory("rotating").join("0.log");
    config.log = Some(LogConfig { path: path.clone(), max_bytes: 4096, max_files: 3 });
    bench.run_config(config).await;
    assert!(logged(&path).ends_with("line 400\n"));
    let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        assert!(file.metadata().unwrap().len() <= 4096, "{file:?}");
    }
}

async fn full_disks_lose_output_and_nothing_else(bench: Arc<Bench>) {
    let disk = bench.fresh_directory("disk");
    rustix::mount::mount("tmpfs", &disk, "tmpfs", rustix::mount::MountFlags::empty(), Some(c"size=64k"))
        .unwrap();
    let pod = bench.pod().await;
    let mut config =
        bench.script("for i in $(seq 1 5000); do echo a line of some length, number $i; done; sleep 600");
    config.log = Some(LogConfig::new(disk.join("0.log")));
    let id = pod.start(config).await;
    let mut stats = pod.sandbox.stats(&id).await.unwrap();
    // Bounded by the case's own time limit.
    while stats.log_bytes_lost < 100_000 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        stats = pod.sandbox.stats(&id).await.unwrap();
    }
    assert_eq!(pod.exec(&id, "echo alive").await.1, "alive\n");
    let text = fs::read_to_string(disk.join("0.log")).unwrap();
    assert!(text.len() <= 64 << 10 && text.ends_with('\n'), "half a line was left");
    pod.sandbox.remove().await.unwrap();
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
}

async fn standard_input(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let (status, output) = pod.run(bench.script("wc -c")).await;
    assert_eq!((status.code(), output.trim()), (0, "0"));

    let mut config = bench.script("cat");
    config.stdin = Stdin::Once;
    let log = config.log.clone().unwrap().path;
    let id = pod.start(config).await;
    let mut session = pod.sandbox.attach(&id).await.unwrap();
    session.input.write(b"first\n").await.unwrap();
    session.input.close().await.unwrap();
    assert_eq!(pod.sandbox.wait(&id).await.unwrap().code(), 0);
    assert_eq!(logged(&log), "first\n");

    let mut config = bench.script("read a; read b; echo $a $b");
    config.stdin = Stdin::Open;
    let log = config.log.clone().unwrap().path;
    let id = pod.start(config).await;
    for line in ["one\n", "two\n"] {
        let mut session = pod.sandbox.attach(&id).await.unwrap();
        session.input.write(line.as_bytes()).await.unwrap();
        session.input.close().await.unwrap();
    }
    assert_eq!(pod.sandbox.wait(&id).await.unwrap().code(), 0);
    assert_eq!(logged(&log), "one two\n");
    pod.sandbox.remove().await.unwrap();
}

/// Reads output until it contains a text.
async fn read_until(output: &mut SessionOutput, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        match output.next().await.unwrap() {
            Some(Output::Stdout(bytes) | Output::Stderr(bytes)) => {
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
            other => panic!("{other:?} before {wanted:?}: {seen:?}"),
        }
    }
    seen
}

async fn terminals(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let mut config = bench.script(
        "read go; tty; stty size; id -u; echo $TERM; echo x > /dev/stdout; ls -l /dev/console; exit 3",
    );
    config.tty = true;
    config.stdin = Stdin::Open;
    config.user = ContainerUser::ids(100, 101);
    let id = pod.start(config).await;
    let mut session = pod.sandbox.attach(&id).await.unwrap();
    session.input.resize(TerminalSize { columns: 123, rows: 45 }).await.unwrap();
    session.input.write(b"go\n").await.unwrap();
    let seen = read_until(&mut session.output, "/dev/console").await;
    for part in ["/dev/pts/0", "45 123", "100\r\n", "xterm", "x\r\n"] {
        assert!(seen.contains(part), "{part} is not in {seen:?}");
    }
    let mut last = None;
    while let Some(output) = session.output.next().await.unwrap() {
        last = Some(output);
    }
    assert!(matches!(last, Some(Output::Exit(status)) if status.code() == 3));
    pod.sandbox.remove().await.unwrap();
}

async fn exec_runs_in_the_container(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let mut config = bench.script("sleep 600");
    config.user = ContainerUser::ids(100, 101);
    config.env = vec![EnvVar { name: "A".into(), value: "1".into() }];
    config.cwd = "/tmp".into();
    let id = pod.start(config).await;
    let (code, output) = pod.exec(&id, "id -u; pwd; echo $A; ps | grep -c '[s]leep 600'; exit 4").await;
    assert_eq!((code, output.as_str()), (4, "100\n/tmp\n1\n1\n"), "{output}");
    let mut config =
        ExecConfig::new(["sh", "-c", "id -u; pwd; echo $A; echo oops >&2"].map(str::to_owned).to_vec());
    config.user = Some(ContainerUser::ids(0, 0));
    config.cwd = Some("/etc".into());
    config.env = vec![EnvVar { name: "A".into(), value: "2".into() }];
    let collected = pod.exec_config(&id, config).await;
    assert_eq!(String::from_utf8(collected.stdout).unwrap(), "0\n/etc\n2\n");
    assert_eq!(collected.stderr, b"oops\n");
    assert_eq!(collected.exit.unwrap().code(), 0);
    pod.sandbox.remove().await.unwrap();
}

async fn exec_with_input(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600")).await;
    let mut config = ExecConfig::new(vec!["cat".into()]);
    config.stdin = true;
    let mut session = pod.sandbox.exec(&id, config).await.unwrap();
    let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let writer = async {
        session.input.write(&text).await.unwrap();
        session.input.close().await.unwrap();
    };
    let reader = async {
        let mut read = Vec::new();
        loop {
            match session.output.next().await.unwrap() {
                Some(Output::Stdout(bytes)) => read.extend(bytes),
                Some(Output::Exit(status)) => break (read, status),
                other => panic!("{other:?}"),
            }
        }
    };
    let ((), (read, status)) = tokio::join!(writer, reader);
    assert_eq!(status.code(), 0);
    assert!(read == text, "{} bytes instead of {}", read.len(), text.len());
    pod.sandbox.remove().await.unwrap();
}

async fn exec_in_a_terminal(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600")).await;
    let mut config = ExecConfig::new(vec!["sh".into()]);
    config.tty = true;
    config.stdin = true;
    config.size = Some(TerminalSize { columns: 100, rows: 30 });
    let mut session = pod.sandbox.exec(&id, config).await.unwrap();
    session.input.write(b"tty; stty size; echo $TERM\n").await.unwrap();
    let seen = read_until(&mut session.output, "xterm\r\n").await;
    assert!(seen.contains("/dev/pts/") && seen.contains("30 100"), "{seen:?}");
    session.input.resize(TerminalSize { columns: 90, rows: 20 }).await.unwrap();
    session.input.write(b"stty size\n").await.unwrap();
    read_until(&mut session.output, "20 90").await;
    // Ctrl-C interrupts what runs, not the shell.
    session.input.write(b"sh -c 'echo sle''eping; sleep 600'\n").await.unwrap();
    read_until(&mut session.output, "sleeping\r\n").await;
    session.input.write(b"\x03").await.unwrap();
    session.input.write(b"echo sti''ll here\n").await.unwrap();
    read_until(&mut session.output, "still here\r\n").await;
    session.input.write(b"exit 9\n").await.unwrap();
    loop {
        match session.output.next().await.unwrap() {
            Some(Output::Exit(status)) => break assert_eq!(status.code(), 9),
            Some(_) => {}
            None => panic!("no exit"),
        }
    }
    pod.sandbox.remove().await.unwrap();
}

async fn exec_that_cannot_run(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600")).await;
    for (args, kind) in [
        (&["no-such-program"][..], ErrorKind::CommandNotFound),
        (&["/etc/passwd"], ErrorKind::CommandNotRunnable),
        (&[], ErrorKind::InvalidConfig),
    ] {
        let config = ExecConfig::new(args.iter().map(|arg| (*arg).to_owned()).collect());
        let error = pod.sandbox.exec(&id, config).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{args:?}: {error}");
    }
    let error =
        pod.sandbox.exec(&"none".parse().unwrap(), ExecConfig::new(vec!["true".into()])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    pod.sandbox.signal(&id, Signal::KILL).await.unwrap();
    pod.sandbox.wait(&id).await.unwrap();
    let error = pod.sandbox.exec(&id, ExecConfig::new(vec!["true".into()])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    pod.sandbox.remove().await.unwrap();
}

async fn abandoned_exec_is_killed(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600")).await;
    let config = ExecConfig::new(["sh", "-c", "echo up; sleep 777"].map(str::to_owned).to_vec());
    let mut session = pod.sandbox.exec(&id, config).await.unwrap();
    read_until(&mut session.output, "up").await;
    drop(session);
    let (_, output) = pod.exec(&id, "for i in $(seq 1 200); do ps | grep -q 'sleep 77[7]' || break; usleep 50000; done; ps | grep -c 'sleep 77[7]'").await;
    assert_eq!(output, "0\n");
    pod.sandbox.remove().await.unwrap();
}

async fn slow_exec_clients_stop_the_process(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600")).await;
    let script =
        "i=0; while [ $i -lt 4096 ]; do echo $i > /tmp/progress; head -c 1024 /dev/zero; i=$((i+1)); done";
    let config = ExecConfig::new(["sh", "-c", script].map(str::to_owned).to_vec());
    let mut session = pod.sandbox.exec(&id, config).await.unwrap();
    // Unread, it comes to a halt long before its 4 MiB.
    let (_, halted) = pod
        .exec(&id, "a=x; b=y; while [ -z \"$a\" -o \"$a\" != \"$b\" ]; do a=$(cat /tmp/progress); usleep 300000; b=$(cat /tmp/progress); done; echo $a")
        .await;
    let halted: u32 = halted.trim().parse().unwrap();
    assert!(halted < 2048, "{halted} KiB were taken from a client that reads nothing");
    let mut bytes = 0;
    loop {
        match session.output.next().await.unwrap() {
            Some(Output::Stdout(chunk)) => bytes += chunk.len(),
            Some(Output::Exit(status)) => break assert_eq!(status.code(), 0),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bytes, 4096 * 1024);
    pod.sandbox.remove().await.unwrap();
}

async fn attach_sees_output(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let mut config = bench.script("read go; echo both; exit 5");
    config.stdin = Stdin::Open;
    let id = pod.start(config).await;
    let mut first = pod.sandbox.attach(&id).await.unwrap();
    let mut second = pod.sandbox.attach(&id).await.unwrap();
    first.input.write(b"go\n").await.unwrap();
    for session in [&mut first, &mut second] {
        read_until(&mut session.output, "both\n").await;
        let end = session.output.next().await.unwrap();
        assert!(matches!(&end, Some(Output::Exit(status)) if status.code() == 5), "{end:?}");
        assert_eq!(session.output.next().await.unwrap(), None);
    }
    let error = pod.sandbox.attach(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    pod.sandbox.remove().await.unwrap();
}

async fn slow_attachers_are_cut_off(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let mut config = bench.script("read go; head -c 8000000 /dev/zero; echo done > /tmp/done; sleep 600");
    config.stdin = Stdin::Open;
    config.log = None;
    let id = pod.start(config).await;
    let mut slow = pod.sandbox.attach(&id).await.unwrap();
    slow.input.write(b"go\n").await.unwrap();
    // The container gets on although nobody reads.
    let (_, done) = pod
        .exec(&id, "for i in $(seq 1 400); do [ -f /tmp/done ] && break; usleep 50000; done; cat /tmp/done")
        .await;
    assert_eq!(done, "done\n");
    let error = loop {
        match slow.output.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    pod.sandbox.remove().await.unwrap();
}

async fn signals_reach_the_first_process(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("trap 'exit 42' TERM; echo up; while true; do usleep 20000; done")).await;
    let (_, ready) = pod.exec(&id, "for i in $(seq 1 100); do grep -q '^SigCgt:.*4' /proc/1/status && break; usleep 20000; done; echo ok").await;
    assert_eq!(ready, "ok\n");
    pod.sandbox.signal(&id, Signal::TERM).await.unwrap();
    assert_eq!(pod.sandbox.wait(&id).await.unwrap().outcome, Outcome::Exited(42));
    pod.sandbox.signal(&id, Signal::TERM).await.unwrap();

    // A first process without a handler ignores the signal, as the kernel has it.
    let id = pod.start(bench.script("sleep 600; true")).await;
    pod.sandbox.signal(&id, Signal::TERM).await.unwrap();
    assert_eq!(pod.exec(&id, "echo alive").await.1, "alive\n");
    pod.sandbox.signal(&id, Signal::KILL).await.unwrap();
    assert_eq!(pod.sandbox.wait(&id).await.unwrap().outcome, Outcome::Signaled(9));
    pod.sandbox.remove().await.unwrap();
}

async fn states_and_events(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let mut events = pod.sandbox.events().await.unwrap();
    let mut config = bench.script("exit 1");
    config.labels = [("name".to_owned(), "app".to_owned())].into();
    config.stop_signal = Signal::INT;
    let id = config.id.clone();
    let again = config.clone();
    pod.sandbox.create_container(config).await.unwrap();
    let error = pod.sandbox.create_container(again).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let listed = pod.sandbox.list().await.unwrap();
    assert_eq!((listed.len(), &listed[0].state), (1, &ContainerState::Created));
    assert_eq!((listed[0].labels["name"].as_str(), listed[0].stop_signal), ("app", Signal::INT));
    assert!(listed[0].pid.is_some());
    pod.sandbox.start(&id).await.unwrap();
    let error = pod.sandbox.start(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    let status = pod.sandbox.wait(&id).await.unwrap();
    pod.sandbox.remove_container(&id).await.unwrap();
    for expected in [Change::Created, Change::Started, Change::Exited(status), Change::Removed] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.container.clone(), event.change), (id.clone(), expected));
    }
    let error = pod.sandbox.wait(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    pod.sandbox.remove().await.unwrap();
    assert_eq!(events.next().await.unwrap(), None);
}

async fn stats_are_counted(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("while true; do :; done & sleep 600; true")).await;
    let mut stats = pod.sandbox.stats(&id).await.unwrap();
    // Bounded by the case's own time limit.
    while stats.cpu.as_millis() < 50 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        stats = pod.sandbox.stats(&id).await.unwrap();
    }
    assert_eq!(stats.processes, 3);
    assert!((1 << 12..1 << 26).contains(&stats.memory_bytes), "{stats:?}");
    pod.sandbox.remove().await.unwrap();
}

async fn containers_are_removed(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600; true")).await;
    let other = pod.start(bench.script("sleep 600; true")).await;
    pod.sandbox.remove_container(&id).await.unwrap();
    pod.sandbox.remove_container(&id).await.unwrap();
    assert_eq!(pod.sandbox.list().await.unwrap().len(), 1);
    pod.sandbox.stop().await.unwrap();
    pod.sandbox.stop().await.unwrap();
    let listed = pod.sandbox.list().await.unwrap();
    assert!(
        matches!(&listed[0].state, ContainerState::Exited(status) if status.outcome == Outcome::Signaled(9))
    );
    assert_eq!(listed[0].id, other);
    pod.sandbox.remove().await.unwrap();
    pod.sandbox.remove().await.unwrap();
    let error = pod.sandbox.list().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
}

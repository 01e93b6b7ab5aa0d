//! Logs, commands in containers, and connections to pods.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::{IMAGE, code, container, create, field, phase, ready, run, shell, status};

pub(crate) const CASES: [Case; 9] = [
    ("logs of this run, of the last one, and parts of them", logs),
    ("followed logs end with the container", followed_logs),
    ("twenty short containers lose no line", short_containers),
    ("exec passes the exit code, input and a terminal", exec),
    ("a killed exec leaves no process", killed_exec),
    ("attach gives a container its input", attach),
    ("debug adds a container that sees another's processes", debug),
    ("cp copies to a pod and back", copy),
    ("port-forward carries bytes both ways", port_forward),
];

fn logs(cluster: &Cluster) -> Result<()> {
    let script = "if [ -e /v/f ]; then echo again; sleep 1000; fi; touch /v/f; \
                  for i in 1 2 3; do echo line $i; done; echo bad >&2; exit 3";
    let volume = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let other = container("other", "echo other; sleep 1000", json!({}));
    create(
        cluster,
        "logs",
        json!({
            "restartPolicy": "Always",
            "containers": [shell(script, volume), other],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }),
    )?;
    field(cluster, "logs", ".status.containerStatuses[0].restartCount", "1")?;
    ready(cluster, "logs")?;
    let check = |arguments: &[&str], want: &str| -> Result<()> {
        eventually(PATIENCE, || {
            let text = cluster.kubectl(&[&["logs", "logs"], arguments].concat())?;
            ensure!(text == want, "{arguments:?}: {text:?} is not {want:?}");
            Ok(())
        })
    };
    check(&["-c", "main"], "again\n")?;
    check(&["-c", "other"], "other\n")?;
    check(&["-c", "main", "--previous"], "line 1\nline 2\nline 3\nbad\n")?;
    check(&["-c", "main", "--previous", "--tail=2"], "line 3\nbad\n")?;
    let stamped = cluster.kubectl(&["logs", "logs", "-c", "main", "--timestamps"])?;
    let (time, text) = stamped.split_once(' ').context("no time")?;
    ensure!(text == "again\n" && time.starts_with("20") && time.ends_with('Z'), "{stamped}");
    let every = cluster.kubectl(&["logs", "logs", "--all-containers"])?;
    ensure!(every.contains("again") && every.contains("other"), "{every}");
    let absent = cluster.kubectl_fails(&["logs", "logs", "-c", "absent"])?;
    ensure!(absent.contains("absent"), "{absent}");
    Ok(())
}

fn followed_logs(cluster: &Cluster) -> Result<()> {
    run(cluster, "follow", shell("for i in 1 2 3 4; do echo $i; sleep 0.3; done; printf end", json!({})))?;
    field(cluster, "follow", ".status.phase", "Running")?;
    let text = cluster.kubectl(&["logs", "-f", "follow"])?;
    ensure!(text == "1\n2\n3\n4\nend", "{text:?}");
    Ok(())
}

fn short_containers(cluster: &Cluster) -> Result<()> {
    let names: Vec<String> = (0..20).map(|i| format!("c{i}")).collect();
    let containers: Vec<_> = names
        .iter()
        .map(|name| container(name, &format!("echo from {name}; echo last of {name} >&2"), json!({})))
        .collect();
    create(cluster, "short", json!({ "containers": containers }))?;
    let follow = |name: &String| -> Result<Child> {
        let mut command = cluster.kubectl_command(&["logs", "-f", "short", "-c", name]);
        Ok(command.stdout(Stdio::piped()).spawn()?)
    };
    for some in names.chunks(5) {
        // Whoever follows sees everything, whether the container runs or has ended.
        for name in some {
            eventually(PATIENCE, || {
                let output = follow(name)?.wait_with_output()?;
                ensure!(output.status.success(), "{name} has no log yet");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                ensure!(
                    text.contains(&format!("from {name}\n")) && text.contains(&format!("last of {name}\n")),
                    "the log of {name} is {text:?}"
                );
                Ok(())
            })?;
        }
    }
    phase(cluster, "short", "Succeeded")
}

fn exec(cluster: &Cluster) -> Result<()> {
    run(
        cluster,
        "exec",
        shell("sleep 1000", json!({"workingDir": "/tmp", "env": [{"name": "A", "value": "b"}]})),
    )?;
    ready(cluster, "exec")?;
    let said =
        code(&mut cluster.kubectl_command(&["exec", "exec", "--", "sh", "-c", "pwd; echo $A; exit 7"]), 7)?;
    ensure!(said == "/tmp\nb\n", "{said}");
    let missing = cluster.kubectl_fails(&["exec", "exec", "--", "/bin/absent"])?;
    ensure!(missing.contains("/bin/absent"), "{missing}");
    let sum = cluster
        .kubectl_with(&["exec", "-i", "exec", "--", "sh", "-c", "wc -c; echo done"], &"x".repeat(200_000))?;
    ensure!(sum == "200000\ndone\n", "{sum}");
    let kubectl = cluster.kubectl_command(&[]);
    let script = format!("{} exec -it exec -- sh -c 'tty; exit 5'", kubectl.get_program().display());
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &script, "/dev/null"]).stdin(Stdio::null());
    terminal.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = code(&mut terminal, 5)?;
    ensure!(said.contains("/dev/pts/0"), "{said}");
    Ok(())
}

fn killed_exec(cluster: &Cluster) -> Result<()> {
    run(cluster, "hanging", shell("sleep 1000", json!({})))?;
    ready(cluster, "hanging")?;
    let processes = || cluster.kubectl(&["exec", "hanging", "--", "ps", "-o", "args"]);
    let mut client = cluster.kubectl_command(&["exec", "hanging", "--", "sleep", "4321"]).spawn()?;
    eventually(PATIENCE, || {
        ensure!(processes()?.contains("sleep 4321"), "it does not run yet");
        Ok(())
    })?;
    client.kill()?;
    client.wait()?;
    eventually(PATIENCE, || {
        let left = processes()?;
        ensure!(!left.contains("sleep 4321"), "it still runs: {left}");
        Ok(())
    })
}

fn attach(cluster: &Cluster) -> Result<()> {
    let script = "while read line; do echo got $line; done; echo over";
    run(cluster, "attach", shell(script, json!({"stdin": true, "stdinOnce": true})))?;
    ready(cluster, "attach")?;
    let text = cluster.kubectl_with(&["attach", "-i", "attach"], "hello\nthere\n")?;
    ensure!(text.contains("got hello\ngot there\nover\n"), "{text:?}");
    phase(cluster, "attach", "Succeeded")
}

fn debug(cluster: &Cluster) -> Result<()> {
    run(cluster, "debugged", shell("exec sleep 7654", json!({})))?;
    ready(cluster, "debugged")?;
    let image = format!("--image={IMAGE}");
    let with = ["debug", "-i", "-q", "debugged", &image, "--target=main", "-c", "looker", "--"];
    let script = ["sh", "-c", "read line; echo $line; ps -o args; cat /proc/1/root/etc/hostname"];
    let text = cluster.kubectl_with(&[&with[..], &script[..]].concat(), "hello\n")?;
    ensure!(
        text.contains("hello\n") && text.contains("sleep 7654\n") && text.contains("debugged\n"),
        "{text:?}"
    );
    let looker = eventually(PATIENCE, || {
        let looker = status(cluster, "debugged", "looker")?;
        ensure!(looker["state"]["terminated"]["exitCode"] == 0, "{looker}");
        Ok(looker)
    })?;
    ensure!(looker["restartCount"] == 0, "{looker}");
    ensure!(cluster.kubectl(&["logs", "debugged", "-c", "looker"])?.contains("hello"), "no log");
    let main = status(cluster, "debugged", "main")?;
    ensure!(main["restartCount"] == 0 && main["ready"] == true, "{main}");
    Ok(())
}

fn copy(cluster: &Cluster) -> Result<()> {
    run(cluster, "copy", shell("sleep 1000", json!({})))?;
    ready(cluster, "copy")?;
    let (there, back) = (cluster.path("there"), cluster.path("back"));
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&there, &bytes)?;
    cluster.kubectl(&["cp", &there.display().to_string(), "copy:/tmp/file"])?;
    cluster.kubectl(&["cp", "copy:/tmp/file", &back.display().to_string()])?;
    ensure!(std::fs::read(&back)? == bytes, "the copy differs");
    Ok(())
}

fn port_forward(cluster: &Cluster) -> Result<()> {
    run(cluster, "forward", shell("exec nc -ll -p 8080 -e cat", json!({})))?;
    ready(cluster, "forward")?;
    let mut command = cluster.kubectl_command(&["port-forward", "pod/forward", ":8080"]);
    let mut client = command.stdout(Stdio::piped()).spawn()?;
    let result = echo(&mut client);
    client.kill()?;
    client.wait()?;
    result
}

/// Sends bytes by a forwarded port to something that sends them back.
fn echo(client: &mut Child) -> Result<()> {
    let mut line = String::new();
    // Kept open: kubectl says more, and ends when nobody listens.
    let mut said = BufReader::new(client.stdout.take().context("it has an output")?);
    said.read_line(&mut line)?;
    let port = line.split(" -> ").next().and_then(|l| l.rsplit(':').next()).context("it names a port")?;
    let port: u16 = port.parse().with_context(|| line.clone())?;
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    eventually(PATIENCE, || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut writer = stream.try_clone()?;
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).and_then(|()| writer.shutdown(Shutdown::Write))
        });
        let mut received = vec![0; bytes.len()];
        stream.read_exact(&mut received)?;
        writing.join().ok().context("the writer panicked")??;
        ensure!(received == bytes, "other bytes came back");
        Ok(())
    })
}

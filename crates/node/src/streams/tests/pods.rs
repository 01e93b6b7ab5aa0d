//! Pods made of this machine's own processes and sockets.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xebec_sandbox::client::Output;
use xebec_sandbox::config::{ExecConfig, TerminalSize};
use xebec_sandbox::sandbox::{BoxFuture, ErrorKind, ExitStatus, Outcome, SandboxError};

use crate::logs::LogSource;
use crate::streams::{ContainerRef, PodError, PodRef, Pods, Process, ProcessInput, ProcessOutput, Run};

/// The pod `default/web` with the containers `app`, which runs, and `waiting`, which does not.
pub(super) struct LocalPods {
    /// Where the log of `app` is, and when it ends.
    pub(super) log: LogSource,
    /// Processes that somebody is connected to.
    pub(super) connected: watch::Sender<usize>,
    /// The last size of a terminal.
    pub(super) size: Arc<Mutex<Option<TerminalSize>>>,
    /// What a client of `attach` talks to.
    pub(super) attached_command: Vec<String>,
    /// Ports of the pod, and where they are on this machine.
    pub(super) ports: HashMap<u16, u16>,
}

impl LocalPods {
    pub(super) fn new() -> Self {
        Self {
            log: LogSource { path: PathBuf::from("/nowhere/0.log"), ended: CancellationToken::new() },
            connected: watch::Sender::new(0),
            size: Arc::default(),
            attached_command: Vec::new(),
            ports: HashMap::new(),
        }
    }

    fn find(&self, container: &ContainerRef) -> Result<(), PodError> {
        self.check_pod(&container.pod)?;
        match container.container.as_str() {
            "app" => Ok(()),
            "waiting" => {
                let reason = "ContainerCreating".to_owned();
                Err(PodError::Waiting { container: container.clone(), reason })
            }
            _ => Err(PodError::ContainerNotFound(container.clone())),
        }
    }

    fn start(&self, args: &[String], stdin: bool) -> Result<Process, PodError> {
        let mut command = Command::new(&args[0]);
        command.args(&args[1..]).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.stdin(if stdin { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(|error| SandboxError::Refused {
            kind: ErrorKind::CommandNotFound,
            message: format!("cannot run `{}`: {error}", args[0]),
        })?;
        self.connected.send_modify(|count| *count += 1);
        let input = Input { stdin: child.stdin.take(), size: self.size.clone() };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let connected = self.connected.clone();
        Ok(Process {
            input: Box::new(input),
            output: Box::new(LocalOutput { child, stdout, stderr, connected, exited: false }),
        })
    }
}

impl Pods for LocalPods {
    fn check_container(&self, container: &ContainerRef) -> Result<(), PodError> {
        match self.find(container) {
            Err(PodError::Waiting { container, reason }) => {
                Err(PodError::NotRunning { container, state: reason })
            }
            other => other,
        }
    }

    fn check_pod(&self, pod: &PodRef) -> Result<(), PodError> {
        if pod.namespace == "default" && pod.name == "web" {
            Ok(())
        } else {
            Err(PodError::PodNotFound(pod.clone()))
        }
    }

    fn exec<'a>(
        &'a self,
        container: &'a ContainerRef,
        config: ExecConfig,
    ) -> BoxFuture<'a, Result<Process, PodError>> {
        Box::pin(async move {
            self.check_container(container)?;
            self.start(&config.args, config.stdin)
        })
    }

    fn attach<'a>(&'a self, container: &'a ContainerRef) -> BoxFuture<'a, Result<Process, PodError>> {
        Box::pin(async move {
            self.check_container(container)?;
            self.start(&self.attached_command, true)
        })
    }

    fn log(&self, container: &ContainerRef, run: Run) -> Result<LogSource, PodError> {
        self.find(container)?;
        match run {
            Run::Current => Ok(self.log.clone()),
            Run::Previous => Err(PodError::NoPrevious(container.clone())),
        }
    }

    fn list(&self) -> Vec<Arc<Pod>> {
        let metadata = ObjectMeta {
            namespace: Some("default".into()),
            name: Some("web".into()),
            ..ObjectMeta::default()
        };
        vec![Arc::new(Pod { metadata, ..Pod::default() })]
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({"maxPods": 3})
    }

    fn dial<'a>(&'a self, pod: &'a PodRef, port: u16) -> BoxFuture<'a, Result<TcpStream, PodError>> {
        Box::pin(async move {
            self.check_pod(pod)?;
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let local = self.ports.get(&port).ok_or_else(refused);
            let dialled = async { TcpStream::connect((Ipv4Addr::LOCALHOST, *local?)).await };
            dialled.await.map_err(|source| PodError::Dial { port, source })
        })
    }
}

struct Input {
    stdin: Option<ChildStdin>,
    size: Arc<Mutex<Option<TerminalSize>>>,
}

impl ProcessInput for Input {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move {
            if let Some(stdin) = &mut self.stdin
                && stdin.write_all(bytes).await.is_err()
            {
                self.stdin = None;
            }
            Ok(())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SandboxError>> {
        self.stdin = None;
        Box::pin(async { Ok(()) })
    }

    fn resize(&mut self, size: TerminalSize) -> BoxFuture<'_, Result<(), SandboxError>> {
        *self.size.lock().unwrap() = Some(size);
        Box::pin(async { Ok(()) })
    }
}

struct LocalOutput {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    connected: watch::Sender<usize>,
    exited: bool,
}

impl Drop for LocalOutput {
    fn drop(&mut self) {
        self.connected.send_modify(|count| *count -= 1);
    }
}

impl ProcessOutput for LocalOutput {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Output>, SandboxError>> {
        Box::pin(async move {
            let (mut out, mut err) = (vec![0; 16 << 10], vec![0; 16 << 10]);
            while self.stdout.is_some() || self.stderr.is_some() {
                tokio::select! {
                    count = read(&mut self.stdout, &mut out), if self.stdout.is_some() => match count {
                        0 => self.stdout = None,
                        count => return Ok(Some(Output::Stdout(out[..count].to_vec()))),
                    },
                    count = read(&mut self.stderr, &mut err), if self.stderr.is_some() => match count {
                        0 => self.stderr = None,
                        count => return Ok(Some(Output::Stderr(err[..count].to_vec()))),
                    },
                }
            }
            if self.exited {
                return Ok(None);
            }
            // Only then: a call that is dropped here must lose nothing.
            let code = self.child.wait().await.unwrap().code().unwrap_or(255);
            self.exited = true;
            let now = SystemTime::now();
            Ok(Some(Output::Exit(ExitStatus {
                outcome: Outcome::Exited(code),
                oom_killed: false,
                started_at: now,
                finished_at: now,
            })))
        })
    }
}

async fn read(from: &mut Option<impl tokio::io::AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match from {
        Some(from) => from.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

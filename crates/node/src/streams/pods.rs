//! What the streams need of the pods of this node, and how they name them.
//!
//! The pod manager implements [`Pods`]; the streams never see a sandbox, only the processes in it.

use std::io;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use xebec_sandbox::client::{Output, Session, SessionInput, SessionOutput};
use xebec_sandbox::config::{ExecConfig, TerminalSize};
use xebec_sandbox::sandbox::{BoxFuture, SandboxError};

use crate::logs::LogSource;

/// A pod, as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A container of a pod, as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerRef {
    /// The pod.
    pub pod: PodRef,
    /// The container's name in the pod's specification.
    pub container: String,
}

/// Which run of a container is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The one that runs, or the last one.
    Current,
    /// The one before it.
    Previous,
}

/// The pods of this node.
pub trait Pods: Send + Sync + 'static {
    /// Whether a container runs, so that `exec` and `attach` can be tried.
    ///
    /// Init and ephemeral containers count; `NotRunning` says what the container does instead.
    fn check_container(&self, container: &ContainerRef) -> Result<(), PodError>;

    /// Whether a pod is here and has a network, so that `dial` can be tried.
    fn check_pod(&self, pod: &PodRef) -> Result<(), PodError>;

    /// Starts a process in a running container. Dropping what is returned kills it.
    fn exec<'a>(
        &'a self,
        container: &'a ContainerRef,
        config: ExecConfig,
    ) -> BoxFuture<'a, Result<Process, PodError>>;

    /// Connects to the first process of a running container. Dropping what is returned only detaches.
    fn attach<'a>(&'a self, container: &'a ContainerRef) -> BoxFuture<'a, Result<Process, PodError>>;

    /// Where a container's output is.
    ///
    /// `Waiting` when it has not run yet, `NoPrevious` when it has not run before.
    fn log(&self, container: &ContainerRef, run: Run) -> Result<LogSource, PodError>;

    /// All pods of the node, in the order of their namespaces and names.
    fn list(&self) -> Vec<Arc<Pod>>;

    /// What the node goes by, in the words of kubelet.config.k8s.io/v1beta1.
    fn settings(&self) -> serde_json::Value;

    /// Connects to a port of a pod, on the pod's own loopback.
    fn dial<'a>(&'a self, pod: &'a PodRef, port: u16) -> BoxFuture<'a, Result<TcpStream, PodError>>;
}

/// Why something cannot be done with a pod; the texts are those that users of `kubectl` know.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The pod is not on this node.
    #[error("pods {:?} not found", .0.name)]
    PodNotFound(PodRef),
    /// The pod has no container of that name.
    #[error("container not found ({:?})", .0.container)]
    ContainerNotFound(ContainerRef),
    /// The container has never been started.
    #[error("container {:?} in pod {:?} is waiting to start: {reason}", .container.container, .container.pod.name)]
    Waiting {
        /// The container.
        container: ContainerRef,
        /// `ContainerCreating`, `image can't be pulled`, …
        reason: String,
    },
    /// There is no process to talk to.
    #[error("container {:?} in pod {:?} is not running: {state}", .container.container, .container.pod.name)]
    NotRunning {
        /// The container.
        container: ContainerRef,
        /// `CrashLoopBackOff`, `Completed`, …
        state: String,
    },
    /// The container has not run before.
    #[error("previous terminated container {:?} in pod {:?} not found", .0.container, .0.pod.name)]
    NoPrevious(ContainerRef),
    /// The pod has no network yet, or no more.
    #[error("pod {:?} is not running", .0.name)]
    PodNotRunning(PodRef),
    /// Nothing answered on a port of the pod.
    #[error("cannot connect to port {port} in the pod: {source}")]
    Dial {
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The sandbox refused.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// A process that a client talks to.
pub struct Process {
    /// Towards the process.
    pub input: Box<dyn ProcessInput>,
    /// From the process.
    pub output: Box<dyn ProcessOutput>,
}

/// The way towards a process; see [`SessionInput`], which is one.
pub trait ProcessInput: Send {
    /// Sends input. Waits while the process does not read.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), SandboxError>>;

    /// Says that no more input comes.
    fn close(&mut self) -> BoxFuture<'_, Result<(), SandboxError>>;

    /// Changes the size of the process's terminal, if it has one.
    fn resize(&mut self, size: TerminalSize) -> BoxFuture<'_, Result<(), SandboxError>>;
}

/// The way from a process; see [`SessionOutput`], which is one.
pub trait ProcessOutput: Send {
    /// The next piece, at most 64 KiB; `None` after `Exit`, or when the sandbox went away. A call that is dropped
    /// half-way loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Output>, SandboxError>>;
}

impl From<Session> for Process {
    fn from(session: Session) -> Self {
        Self { input: Box::new(session.input), output: Box::new(session.output) }
    }
}

impl ProcessInput for SessionInput {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(Self::write(self, bytes))
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(Self::close(self))
    }

    fn resize(&mut self, size: TerminalSize) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(Self::resize(self, size))
    }
}

impl ProcessOutput for SessionOutput {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Output>, SandboxError>> {
        Box::pin(Self::next(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_as_kubectl_users_expect() {
        let pod = PodRef { namespace: "default".into(), name: "web".into() };
        let container = ContainerRef { pod: pod.clone(), container: "app".into() };
        let check = |error: PodError, expected: &str| assert_eq!(error.to_string(), expected);
        check(PodError::PodNotFound(pod), r#"pods "web" not found"#);
        check(PodError::ContainerNotFound(container.clone()), r#"container not found ("app")"#);
        check(
            PodError::Waiting { container: container.clone(), reason: "ContainerCreating".into() },
            r#"container "app" in pod "web" is waiting to start: ContainerCreating"#,
        );
        check(
            PodError::NoPrevious(container),
            r#"previous terminated container "app" in pod "web" not found"#,
        );
    }
}

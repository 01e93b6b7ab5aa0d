//! A pod, as the server sees it: the other end of a shim's socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::shims::{KILLED, blocking, remove_remains};
use crate::client::{EventStream, Session, ShimClient};
use crate::config::{ContainerConfig, ContainerId, ExecConfig, SandboxId, Signal};
use crate::sandbox::{
    BoxFuture, ContainerInfo, EngineKind, ErrorKind, ExitStatus, Limits, Sandbox, SandboxError, Stats,
};
use crate::wire::{Request, Response, SandboxInfo};

/// How long a shim has to kill its containers and to end.
const REMOVAL: Duration = Duration::from_secs(60);

/// A pod behind a shim's socket.
pub(super) struct ShimSandbox {
    pub(super) client: ShimClient,
    pub(super) info: SandboxInfo,
    pub(super) netns: Option<PathBuf>,
    pub(super) run_dir: PathBuf,
}

impl Sandbox for ShimSandbox {
    fn id(&self) -> &SandboxId {
        &self.info.id
    }

    fn engine(&self) -> EngineKind {
        self.info.engine
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.info.labels
    }

    fn netns_path(&self) -> Option<&Path> {
        self.netns.as_deref()
    }

    fn limits(&self) -> Limits {
        self.info.limits
    }

    fn create_container(&self, config: ContainerConfig) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Create(Box::new(config))).await })
    }

    fn start<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Start(container.clone())).await })
    }

    fn signal<'a>(
        &'a self,
        container: &'a ContainerId,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Signal(container.clone(), signal)).await })
    }

    fn wait<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<ExitStatus, SandboxError>> {
        Box::pin(async move {
            match self.client.call_patiently(&Request::Wait(container.clone())).await? {
                Response::Exited(status) => Ok(status),
                other => Err(self.client.unexpected(&other)),
            }
        })
    }

    fn exec<'a>(
        &'a self,
        container: &'a ContainerId,
        config: ExecConfig,
    ) -> BoxFuture<'a, Result<Session, SandboxError>> {
        Box::pin(async move {
            let request = Request::Exec(container.clone(), Box::new(config));
            Ok(Session::new(self.client.stream(&request).await?))
        })
    }

    fn attach<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Session, SandboxError>> {
        Box::pin(
            async move { Ok(Session::new(self.client.stream(&Request::Attach(container.clone())).await?)) },
        )
    }

    fn stats<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Stats, SandboxError>> {
        Box::pin(async move {
            match self.client.call(&Request::Stats(container.clone())).await? {
                Response::Stats(stats) => Ok(stats),
                other => Err(self.client.unexpected(&other)),
            }
        })
    }

    fn remove_container<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::RemoveContainer(container.clone())).await })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ContainerInfo>, SandboxError>> {
        Box::pin(async move {
            match self.client.call(&Request::List).await? {
                Response::Containers(containers) => Ok(containers),
                other => Err(self.client.unexpected(&other)),
            }
        })
    }

    fn events(&self) -> BoxFuture<'_, Result<EventStream, SandboxError>> {
        Box::pin(async move { Ok(EventStream::new(self.client.stream(&Request::Events).await?)) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move { self.client.call_done(&Request::Stop).await })
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            match tokio::time::timeout(REMOVAL, self.client.call_until_end(&Request::Remove)).await {
                Ok(Ok(())) => {}
                // Gone already: only its remains are left to remove.
                Ok(Err(error)) if error.kind() == ErrorKind::Gone => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    tracing::warn!(id = %self.info.id, "a shim does not end its pod and is killed");
                    self.client.kill(KILLED).await?;
                }
            }
            let (run_dir, id) = (self.run_dir.clone(), self.info.id.clone());
            blocking(move || remove_remains(&run_dir, &id)).await
        })
    }
}

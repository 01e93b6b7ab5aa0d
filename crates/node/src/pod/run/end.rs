//! The end of containers, and of the pod.

use std::fs;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Api, DeleteParams, Preconditions};
use xebec_network::ipam::PodId;
use xebec_sandbox::config::{ContainerId, Signal};
use xebec_sandbox::sandbox::{ErrorKind, Sandbox, SandboxError};

use super::{chain, name, namespace, uid};
use crate::events::Kind;
use crate::host::Host;
use crate::pod::ask::Target;
use crate::pod::hook;

/// How long a container has at least between the end of its hook and its kill.
const AFTER_HOOK: Duration = Duration::from_secs(2);

/// Asks a container to end: its `preStop` hook, its stop signal, and when the time is over, the kill.
///
/// # Errors
/// What failed, in words; the container's end is reported by its sandbox.
pub async fn terminate(
    host: &Host,
    pod: &Pod,
    container: &Container,
    target: &Target,
    grace: Duration,
) -> Result<(), String> {
    let id: ContainerId = target.id.parse().map_err(|e: xebec_sandbox::config::InvalidId| e.to_string())?;
    let message = format!("Stopping container {}", container.name);
    host.events.pod(pod, Some(&container.name), Kind::Normal, "Killing", message);
    let left = run_pre_stop(host, pod, container, target, grace).await;
    let sandbox = &*target.sandbox;
    let ask = async {
        let known = sandbox.list().await?.into_iter().find(|c| c.id == id);
        sandbox.signal(&id, known.map_or(Signal::TERM, |c| c.stop_signal)).await?;
        sandbox.wait(&id).await
    };
    match tokio::time::timeout(left, ask).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) if is_gone(&error) => return Ok(()),
        Ok(Err(error)) => {
            tracing::warn!(pod = name(pod), container = container.name, %error, "a container is killed, it could not be asked");
        }
        Err(_) => {}
    }
    kill(sandbox, &target.id).await
}

/// Runs the hook before the stop; how long the container has afterwards.
async fn run_pre_stop(
    host: &Host,
    pod: &Pod,
    container: &Container,
    target: &Target,
    grace: Duration,
) -> Duration {
    let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    let Some(hook) = hook.filter(|_| !grace.is_zero()) else { return grace };
    let begun = Instant::now();
    let ran = tokio::time::timeout(grace, hook::run(hook, target)).await;
    if let Err(why) = ran.unwrap_or_else(|_| Err(format!("it took more than {} s", grace.as_secs()))) {
        let message = format!("PreStopHook failed: {why}");
        host.events.pod(pod, Some(&container.name), Kind::Warning, "FailedPreStopHook", message);
    }
    grace.saturating_sub(begun.elapsed()).max(AFTER_HOOK)
}

fn is_gone(error: &SandboxError) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Gone)
}

/// Kills a container.
///
/// # Errors
/// What failed, in words.
pub async fn kill(sandbox: &dyn Sandbox, id: &str) -> Result<(), String> {
    let id: ContainerId = id.parse().map_err(|e: xebec_sandbox::config::InvalidId| e.to_string())?;
    match sandbox.signal(&id, Signal::KILL).await {
        Err(error) if !is_gone(&error) => Err(chain(&error)),
        _ => Ok(()),
    }
}

/// Takes down the sandbox and its network.
///
/// # Errors
/// What failed, in words.
pub async fn remove_sandbox(host: &Host, pod: &Pod, sandbox: Option<&dyn Sandbox>) -> Result<(), String> {
    if let Some(sandbox) = sandbox {
        sandbox.remove().await.map_err(|e| format!("removing the sandbox: {}", chain(&e)))?;
    }
    let id = PodId::new(uid(pod)).map_err(|e| e.to_string())?;
    host.links.detach(&id).await.map_err(|e| format!("disconnecting the pod: {}", chain(&e)))
}

/// Removes the pod's files and tells the API that it is gone.
///
/// # Errors
/// What failed, in words.
pub async fn finish(host: &Host, pod: &Pod) -> Result<(), String> {
    let root = host.pod_dir(uid(pod)).root().to_owned();
    let removed = tokio::task::spawn_blocking(move || match fs::remove_dir_all(&root) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("removing {}: {e}", root.display()))
        }
        _ => Ok(()),
    });
    removed.await.map_err(|e| e.to_string())??;
    let api: Api<Pod> = Api::namespaced(host.client.clone(), namespace(pod));
    let options = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() }),
        ..DeleteParams::default()
    };
    match api.delete(name(pod), &options).await {
        Ok(_) => Ok(()),
        // Gone already, or another pod of that name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("telling the API that the pod is gone: {error}")),
    }
}

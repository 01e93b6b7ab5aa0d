//! Lifecycle hooks: what a pod wants done right after a container's start and before its end.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::ask::Target;

/// How long a hook after the start may take; the container counts as starting meanwhile.
const START_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Runs the hook after a container's start.
///
/// # Errors
/// Why it failed, in words.
pub(super) async fn after_start(handler: &LifecycleHandler, target: &Target) -> Result<(), String> {
    let ran = tokio::time::timeout(START_LIMIT, run(handler, target)).await;
    ran.unwrap_or_else(|_| Err(format!("it took more than {} s", START_LIMIT.as_secs())))
}

/// Runs a hook until it is over.
///
/// # Errors
/// Why it failed, in words.
pub(super) async fn run(handler: &LifecycleHandler, target: &Target) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        return target.run(exec.command.clone().unwrap_or_default()).await;
    }
    if let Some(http) = &handler.http_get {
        return target.get(http).await;
    }
    if let Some(tcp) = &handler.tcp_socket {
        return target.dial(&tcp.port, tcp.host.as_deref()).await.map(drop);
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}

//! The configurations of admission, webhooks and policies, are kept up with: those of this server's writers are in force with
//! their answers, those of other servers' soon after.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use xebec_store::{Prefix, Scope, StoreError, WatchError};

use crate::core::Core;

const ROOT: &str = "/registry/admissionregistration.k8s.io/";
/// How long it takes until a watch that failed begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Where the objects of a resource of the group stand; with an empty name, all.
pub(super) fn prefix(resource: &str) -> Prefix {
    let path = if resource.is_empty() { ROOT.to_owned() } else { format!("{ROOT}{resource}/") };
    Prefix::new(path).expect("a short path without odd characters is a prefix")
}

/// Takes all configurations that are stored.
pub(crate) fn refresh(core: &Core) {
    core.webhooks.refresh(core);
    core.policies.refresh(core);
}

/// Takes configurations that others write, until `shutdown`.
pub(crate) async fn follow(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = keep_up(&core) => match ended {
                // There is nothing to follow any more.
                Ok(()) => return shutdown.cancelled().await,
                Err(error) => {
                    tracing::warn!(%error, "admission's configurations cannot be followed: all are read anew");
                }
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn keep_up(core: &Core) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let since = core.store.snapshot().revision();
    let mut watch = match core.store.watch(Scope::Prefix(prefix("")), since) {
        Err(StoreError::Closed) => return Ok(()),
        opened => opened?,
    };
    refresh(core);
    loop {
        match watch.next().await {
            Ok(_) => refresh(core),
            Err(WatchError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

//! Events about pods (core/v1): best effort, never waited for. The same event again is counted ([`correlate`]).

mod correlate;

use std::time::Instant;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource as _};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use self::correlate::{Correlator, Write};

/// How many events wait to be written; more are dropped.
const QUEUE: usize = 256;

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Takes events.
#[derive(Clone, Debug)]
pub struct Recorder {
    node: String,
    queue: mpsc::Sender<Event>,
}

impl Recorder {
    /// A recorder, and the task that writes its events; at `shutdown` it writes those that wait, and ends.
    pub fn new(
        client: Client,
        node: String,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, events) = mpsc::channel(QUEUE);
        (Self { node, queue }, write(client, events, shutdown))
    }

    /// Says that something happened to a pod, or to one of its containers.
    pub fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: Kind,
        reason: &str,
        message: impl Into<String>,
    ) {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let now = Timestamp::now();
        let time = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                field_path: container.map(|c| format!("spec.containers{{{c}}}")),
                ..pod.object_ref(&())
            },
            type_: Some(if kind == Kind::Normal { "Normal" } else { "Warning" }.into()),
            reason: Some(reason.into()),
            message: Some(message.into()),
            source: Some(EventSource { component: Some("kubelet".into()), host: Some(self.node.clone()) }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.node.clone()),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time),
            count: Some(1),
            ..Event::default()
        };
        match self.queue.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(
                    pod = name,
                    reason,
                    limit = QUEUE,
                    "event dropped: too many wait to be written"
                );
            }
            Err(TrySendError::Closed(_)) => {
                tracing::debug!(pod = name, reason, "event dropped: the node is stopping");
            }
        }
    }
}

async fn write(client: Client, mut events: mpsc::Receiver<Event>, shutdown: CancellationToken) {
    let mut correlator = Correlator::default();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = shutdown.cancelled(), if !events.is_closed() => {
                events.close();
                continue;
            }
        };
        let Some(event) = event else { return };
        let reason = event.reason.clone();
        let written = match correlator.take(event, Instant::now()) {
            Write::Create(event) => create(&client, event).await,
            Write::Again(event) => count(&client, event).await,
            Write::Nothing => Ok(()),
        };
        if let Err(error) = written {
            tracing::debug!(%error, reason, "event not written");
        }
    }
}

fn api(client: &Client, event: &Event) -> Api<Event> {
    Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or_default())
}

async fn create(client: &Client, event: Event) -> Result<(), kube::Error> {
    api(client, &event).create(&PostParams::default(), &event).await.map(drop)
}

/// Counts an event that is there; one that has been forgotten meanwhile is made anew.
async fn count(client: &Client, event: Event) -> Result<(), kube::Error> {
    let patch = serde_json::json!({"count": event.count, "lastTimestamp": event.last_timestamp});
    let name = event.metadata.name.clone().unwrap_or_default();
    match api(client, &event).patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => create(client, event).await,
        result => result.map(drop),
    }
}

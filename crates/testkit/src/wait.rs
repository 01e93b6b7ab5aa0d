//! Waiting for an object, with a failure that shows what it was instead.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::Cluster;
use crate::error::WaitError;

/// How many events a failure shows.
const EVENTS: usize = 20;

impl Cluster {
    /// Waits until an object is as `condition` wants it (see `kube::runtime::wait::conditions`), and gives it; `None` if the
    /// condition holds for no object. `timeout` is by the machine's clock.
    ///
    /// # Errors
    /// It took too long; then the error shows the object and its events. Or the cluster has lost a part meanwhile.
    pub async fn wait_for<K>(
        &self,
        api: &Api<K>,
        name: &str,
        condition: impl Condition<K>,
        timeout: Duration,
    ) -> Result<Option<K>, WaitError>
    where
        K: Clone + Debug + Send + Serialize + DeserializeOwned + Resource + 'static,
    {
        let what = format!("{}/{name}", api.resource_url());
        let waiting = tokio::time::timeout(timeout, await_condition(api.clone(), name, condition));
        let outcome = tokio::select! {
            outcome = waiting => outcome,
            lost = self.lost() => return Err(lost.into()),
        };
        match outcome {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(source)) => Err(WaitError::Watch { what, source: Box::new(source) }),
            Err(_) => {
                let picture = self.picture(api, name).await;
                Err(WaitError::Timeout { what, seconds: timeout.as_secs_f64(), picture })
            }
        }
    }

    /// An object and its events, as far as they can be had.
    async fn picture<K>(&self, api: &Api<K>, name: &str) -> String
    where
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let mut object = match api.get_opt(name).await {
            Ok(Some(object)) => serde_json::to_value(object).unwrap_or_default(),
            Ok(None) => return "It does not exist.".to_owned(),
            Err(error) => return format!("It cannot be read: {error}"),
        };
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let yaml = serde_saphyr::to_string(&object).unwrap_or_else(|_| object.to_string());
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        format!("It is:\n{yaml}\n{}", self.events_of(uid).await)
    }

    async fn events_of(&self, uid: &str) -> String {
        let events: Api<Event> = Api::all(self.steady_client());
        let of = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let mut found = match events.list(&of).await {
            Ok(found) => found.items,
            Err(error) => return format!("Its events cannot be read: {error}"),
        };
        if found.is_empty() {
            return "It has no events.".to_owned();
        }
        found.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
        let first = found.len().saturating_sub(EVENTS);
        let lines = found[first..].iter().map(|event| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            format!("  {} {}: {}", text(&event.type_), text(&event.reason), text(&event.message))
        });
        format!("Its events:\n{}", lines.collect::<Vec<_>>().join("\n"))
    }
}

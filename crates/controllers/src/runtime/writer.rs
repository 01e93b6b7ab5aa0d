//! Typed requests with errors that name their object, and writes that leave a trace in [`super::pending`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures::future::join_all;
use kube::Client;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{Request, request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::informer::Informer;
use super::kind::{Kind, Watched};
use super::object::{ObjectKey, Revision, Uid, is_deleting};
use super::pending::PendingWrite;

/// Requests to the API in the name of one controller.
#[derive(Clone)]
pub struct Requests {
    client: Client,
    manager: &'static str,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("manager", &self.manager).finish_non_exhaustive()
    }
}

/// Which part of an object a patch goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object itself.
    Main,
    /// Its `status` subresource.
    Status,
}

/// What a write left behind: enough to recognise it in a cache.
#[derive(Debug, Clone, Deserialize)]
pub struct Written {
    /// The written object's metadata.
    pub metadata: WrittenMeta,
}

/// The identity and revision of a written object.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenMeta {
    /// Its name, generated or given.
    #[serde(default)]
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
    /// Its `resourceVersion`.
    #[serde(default)]
    pub resource_version: String,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Written {
    fn revision(&self) -> Revision {
        Revision(self.metadata.resource_version.parse().unwrap_or(0))
    }
}

/// How an object is deleted. The uid is always a precondition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deletion {
    /// Seconds of grace; the object's own default when absent.
    pub grace_period_seconds: Option<u32>,
    /// What happens to dependents; the resource's own default when absent.
    pub propagation: Option<Propagation>,
}

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay and lose the owner.
    Orphan,
}

impl Requests {
    /// Requests through `client`, with `manager` as field manager.
    pub fn new(client: Client, manager: &'static str) -> Self {
        Self { client, manager }
    }

    /// The client behind it, for requests that are none of these.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads an object straight from the server; `None` when there is none.
    pub async fn get<R: Watched>(&self, key: &ObjectKey) -> Result<Option<R>, ApiError> {
        let request = path::<R>(key.namespace()).get(&key.path_segment(), &GetParams::default());
        match self.send::<R>("get", resource::<R>(Part::Main), key, request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the incarnation `uid` is on the server and not being deleted: asked before an adoption, because a cache
    /// that lags must not make a dead owner adopt.
    pub async fn is_live<R: Watched>(&self, key: &ObjectKey, uid: &Uid) -> Result<bool, ApiError> {
        let live = self.get::<R>(key).await?;
        Ok(live.is_some_and(|live| Uid::of(live.meta()) == *uid && !is_deleting(live.meta())))
    }

    /// Creates `object` in its own namespace.
    pub async fn create<R: Watched>(&self, object: &R) -> Result<Written, ApiError> {
        let meta = object.meta();
        let name = meta.name.as_deref().or(meta.generate_name.as_deref()).unwrap_or("");
        let key = ObjectKey::new(meta.namespace.as_deref().unwrap_or(""), name);
        let request = serde_json::to_vec(object)
            .map_err(request::Error::SerializeBody)
            .and_then(|body| path::<R>(key.namespace()).create(&self.post(), body));
        self.send("create", resource::<R>(Part::Main), &key, request).await
    }

    /// Applies a JSON merge patch.
    pub async fn merge<R: Watched>(
        &self,
        key: &ObjectKey,
        part: Part,
        body: &Value,
    ) -> Result<Written, ApiError> {
        self.patch::<R>(key, part, &Patch::Merge(body)).await
    }

    /// Applies a strategic merge patch: for lists that several writers share.
    pub async fn strategic<R: Watched>(
        &self,
        key: &ObjectKey,
        part: Part,
        body: &Value,
    ) -> Result<Written, ApiError> {
        self.patch::<R>(key, part, &Patch::Strategic(body)).await
    }

    async fn patch<R: Watched>(
        &self,
        key: &ObjectKey,
        part: Part,
        patch: &Patch<&Value>,
    ) -> Result<Written, ApiError> {
        let params = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let (path, name) = (path::<R>(key.namespace()), key.path_segment());
        let request = match part {
            Part::Main => path.patch(&name, &params, patch),
            Part::Status => path.patch_subresource("status", &name, &params, patch),
        };
        self.send("patch", resource::<R>(part), key, request).await
    }

    /// Posts `body` to a subresource and ignores what comes back.
    pub async fn post_subresource<R: Watched>(
        &self,
        key: &ObjectKey,
        subresource: &'static str,
        body: &Value,
    ) -> Result<(), ApiError> {
        let request = serde_json::to_vec(body).map_err(request::Error::SerializeBody).and_then(|body| {
            path::<R>(key.namespace()).create_subresource(
                subresource,
                &key.path_segment(),
                &self.post(),
                body,
            )
        });
        let resource = format!("{}/{subresource}", R::plural(&())).into();
        self.send_text("create", resource, key, request).await.map(drop)
    }

    /// Replaces a subresource with `object`'s, under the condition of `object`'s revision.
    pub async fn replace_subresource<R: Watched>(
        &self,
        key: &ObjectKey,
        subresource: &'static str,
        object: &R,
    ) -> Result<(), ApiError> {
        let request = serde_json::to_vec(object).map_err(request::Error::SerializeBody).and_then(|body| {
            path::<R>(key.namespace()).replace_subresource(
                subresource,
                &key.path_segment(),
                &self.post(),
                body,
            )
        });
        let resource = format!("{}/{subresource}", R::plural(&())).into();
        self.send_text("update", resource, key, request).await.map(drop)
    }

    /// Deletes the incarnation `uid` of an object.
    pub async fn delete<R: Watched>(
        &self,
        key: &ObjectKey,
        uid: &Uid,
        how: Deletion,
    ) -> Result<(), ApiError> {
        let request = path::<R>(key.namespace()).delete(&key.path_segment(), &delete_params(uid, how));
        self.send_text("delete", resource::<R>(Part::Main), key, request).await.map(drop)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        resource: Cow<'static, str>,
        key: &ObjectKey,
        request: Built,
    ) -> Result<T, ApiError> {
        let text = self.send_text(verb, resource.clone(), key, request).await?;
        serde_json::from_str(&text)
            .map_err(|error| api_error(verb, resource, key, kube::Error::SerdeError(error)))
    }

    async fn send_text(
        &self,
        verb: &'static str,
        resource: Cow<'static, str>,
        key: &ObjectKey,
        request: Built,
    ) -> Result<String, ApiError> {
        let sent = match request {
            Ok(request) => self.client.request_text(request).await,
            Err(error) => Err(kube::Error::BuildRequest(error)),
        };
        sent.map_err(|source| api_error(verb, resource, key, source))
    }

    fn post(&self) -> PostParams {
        PostParams { field_manager: Some(self.manager.to_owned()), ..PostParams::default() }
    }
}

type Built = Result<http::Request<Vec<u8>>, request::Error>;

/// Names the request that failed.
pub fn api_error(
    verb: &'static str,
    resource: Cow<'static, str>,
    object: &impl fmt::Display,
    source: kube::Error,
) -> ApiError {
    ApiError { verb, resource, object: object.to_string(), source: Box::new(source) }
}

/// The request builder of resource `R`; an empty namespace means cluster scope.
fn path<R: Watched>(namespace: &str) -> Request {
    Request::new(R::url_path(&(), Some(namespace).filter(|namespace| !namespace.is_empty())))
}

fn resource<R: Watched>(part: Part) -> Cow<'static, str> {
    let plural = R::plural(&()).into_owned();
    match part {
        Part::Main => plural.into(),
        Part::Status => format!("{plural}/status").into(),
    }
}

/// The body of a delete request for one incarnation.
pub fn delete_params(uid: &Uid, how: Deletion) -> DeleteParams {
    DeleteParams {
        dry_run: false,
        grace_period_seconds: how.grace_period_seconds,
        propagation_policy: how.propagation.map(|propagation| match propagation {
            Propagation::Background => PropagationPolicy::Background,
            Propagation::Foreground => PropagationPolicy::Foreground,
            Propagation::Orphan => PropagationPolicy::Orphan,
        }),
        preconditions: Some(Preconditions { uid: Some(uid.to_string()), resource_version: None }),
    }
}

/// The writes of one reconcile. What goes through here is remembered until the caches show it.
#[derive(Debug)]
pub struct Writes {
    requests: Requests,
    pending: Mutex<Vec<PendingWrite>>,
}

impl Writes {
    /// Writes through `requests`.
    pub fn new(requests: Requests) -> Self {
        Self { requests, pending: Mutex::default() }
    }

    /// Requests that leave no trace: reads, and writes to what no cache holds.
    pub fn untracked(&self) -> &Requests {
        &self.requests
    }

    /// Creates `object`; its namespace is the object's own.
    pub async fn create<K: Kind>(
        &self,
        informer: &Informer<K>,
        object: &K::Raw,
    ) -> Result<Written, ApiError> {
        let begun = informer.progress().lists_begun;
        let written = self.requests.create(object).await?;
        self.track(PendingWrite::written(informer, written.revision(), begun));
        Ok(written)
    }

    /// Applies a JSON merge patch.
    pub async fn merge<K: Kind>(
        &self,
        informer: &Informer<K>,
        key: &ObjectKey,
        part: Part,
        body: &Value,
    ) -> Result<Written, ApiError> {
        let begun = informer.progress().lists_begun;
        let written = self.requests.merge::<K::Raw>(key, part, body).await?;
        self.track(PendingWrite::written(informer, written.revision(), begun));
        Ok(written)
    }

    /// Applies a strategic merge patch.
    pub async fn strategic<K: Kind>(
        &self,
        informer: &Informer<K>,
        key: &ObjectKey,
        part: Part,
        body: &Value,
    ) -> Result<Written, ApiError> {
        let begun = informer.progress().lists_begun;
        let written = self.requests.strategic::<K::Raw>(key, part, body).await?;
        self.track(PendingWrite::written(informer, written.revision(), begun));
        Ok(written)
    }

    /// Deletes the incarnation `uid`. One that is gone already, or replaced, counts as deleted.
    pub async fn delete<K: Kind>(
        &self,
        informer: &Informer<K>,
        key: &ObjectKey,
        uid: &Uid,
        how: Deletion,
    ) -> Result<(), ApiError> {
        let begun = informer.progress().lists_begun;
        match self.requests.delete::<K::Raw>(key, uid, how).await {
            Err(error) if !(error.is_not_found() || error.is_conflict()) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.track(PendingWrite::deleted(informer, key.clone(), uid.clone(), begun));
        Ok(())
    }

    /// Takes out what has been written so far.
    pub fn take_pending(&self) -> Vec<PendingWrite> {
        std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn track(&self, write: PendingWrite) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(write);
    }
}

/// Waits for all of `writes`, also when one fails: what was sent and is not waited for would leave no trace, and be done
/// again. Gives the first failure.
pub async fn all_of<E>(
    writes: impl IntoIterator<Item = impl Future<Output = Result<(), E>>>,
) -> Result<(), E> {
    join_all(writes).await.into_iter().collect()
}

/// A write to an object that has gone meanwhile needs no repeating.
pub fn gone_is_fine<T>(written: Result<T, ApiError>) -> Result<(), ApiError> {
    match written {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The JSON merge patch that turns `old` into `new`; `None` when nothing differs. Lists are replaced whole.
pub fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = new.iter().filter_map(|(key, new)| {
                let patch = merge_diff(old.get(key).unwrap_or(&Value::Null), new)?;
                Some((key.clone(), patch))
            });
            let patch: Map<String, Value> = gone.chain(changed).collect();
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new.clone()),
    }
}

/// The merge patch for a `status` that is wholly the controller's own: what differs between `old` and `new`, under
/// the condition that the object is still the incarnation and revision that the status was computed from.
pub fn status_patch<S: serde::Serialize>(old: &S, new: &S, uid: &str, revision: &str) -> Option<Value> {
    let (old, new) = (to_value(old), to_value(new));
    let status = merge_diff(&old, &new)?;
    Some(json!({ "metadata": { "uid": uid, "resourceVersion": revision }, "status": status }))
}

/// The JSON form of an API type.
pub fn to_value<T: serde::Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("API types have string keys only, so they serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_does_not_cut_off_the_other_writes() {
        let done = Mutex::new(Vec::new());
        let write = async |number: u64| {
            tokio::time::sleep(std::time::Duration::from_secs(number)).await;
            done.lock().unwrap().push(number);
            if number.is_multiple_of(2) { Err(number) } else { Ok(()) }
        };
        assert_eq!(all_of([3, 4, 1, 2].map(&write)).await, Err(4), "the first in order");
        assert_eq!(*done.lock().unwrap(), [1, 2, 3, 4]);
        assert_eq!(all_of([3, 1].map(&write)).await, Ok(()));
    }

    #[test]
    fn merge_diff_is_the_least_patch() {
        let check = |old: Value, new: Value, patch: Option<Value>| {
            assert_eq!(merge_diff(&old, &new), patch, "{old} to {new}");
        };
        check(json!({"a": 1}), json!({"a": 1}), None);
        check(json!({"a": 1, "b": 2}), json!({"a": 1, "b": 3}), Some(json!({"b": 3})));
        check(json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null})));
        check(json!({}), json!({"c": {"d": 1}}), Some(json!({"c": {"d": 1}})));
        check(json!({"l": [1, 2], "m": {"x": 1}}), json!({"l": [1], "m": {"x": 1}}), Some(json!({"l": [1]})));
        check(json!(null), json!({"a": 1}), Some(json!({"a": 1})));
    }

    #[test]
    fn deletes_name_the_incarnation() {
        let how = Deletion { grace_period_seconds: Some(0), propagation: Some(Propagation::Foreground) };
        let body = to_value(&delete_params(&Uid::new("u1"), how));
        assert_eq!(
            body,
            json!({"gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "preconditions": {"uid": "u1"}})
        );
    }
}

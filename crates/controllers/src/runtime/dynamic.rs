//! Requests about resources that are only known at run time, by metadata alone or with objects as text.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, GetParams, ListParams, Patch, PatchParams};
use kube::core::{ObjectList, PartialObjectMeta, Request, request};
use serde_json::Value;

use super::discovery::ApiKind;
use super::error::ApiError;
use super::object::ObjectKey;
use super::writer::api_error;

/// How many objects one page of a list has.
const PAGE: u32 = 500;

type Meta = PartialObjectMeta<DynamicObject>;
type Built = Result<http::Request<Vec<u8>>, request::Error>;

/// The metadata of every object of `kind` in `namespace`; with an empty one, in all namespaces or in none.
pub async fn list(client: &Client, kind: &ApiKind, namespace: &str) -> Result<Vec<ObjectMeta>, ApiError> {
    let failed = |source| api_error("list", kind.id.to_string().into(), &namespace, source);
    let path = collection(kind, namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let request =
            path.list_metadata(&params).map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let page: ObjectList<Meta> = client.request(request).await.map_err(failed)?;
        objects.extend(page.items.into_iter().map(|object| object.metadata));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(objects),
        }
    }
}

/// The objects of `kind` in `namespace`, whole, page by page as the server's JSON.
pub struct Pages<'a> {
    client: &'a Client,
    kind: &'a ApiKind,
    namespace: &'a str,
    params: ListParams,
    done: bool,
}

impl<'a> Pages<'a> {
    /// Before the first page.
    pub fn new(client: &'a Client, kind: &'a ApiKind, namespace: &'a str) -> Self {
        Self { client, kind, namespace, params: ListParams::default().limit(PAGE), done: false }
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<String>, ApiError> {
        if self.done {
            return Ok(None);
        }
        let request = collection(self.kind, self.namespace).list(&self.params);
        let page =
            send(self.client, "list", self.kind, &ObjectKey::new(self.namespace, "*"), request).await?;
        let head: Head = serde_json::from_str(&page).map_err(|error| self.unreadable(error))?;
        self.params.continue_token = head.metadata.continue_.filter(|token| !token.is_empty());
        self.done = self.params.continue_token.is_none();
        Ok(Some(page))
    }

    /// The error of a page that is no list.
    pub fn unreadable(&self, error: serde_json::Error) -> ApiError {
        api_error("list", self.kind.id.to_string().into(), &self.namespace, kube::Error::SerdeError(error))
    }
}

/// What of a list says whether there is more.
#[derive(serde::Deserialize)]
struct Head {
    metadata: ListMeta,
}

/// Deletes every object of `kind` in `namespace`, which is empty for cluster-scoped objects; dependents follow in the
/// background.
pub async fn delete_all(client: &Client, kind: &ApiKind, namespace: &str) -> Result<(), ApiError> {
    let path = collection(kind, namespace);
    let request = path.delete_collection(&DeleteParams::background(), &ListParams::default());
    send(client, "deletecollection", kind, &ObjectKey::new(namespace, "*"), request).await.map(drop)
}

/// The metadata of one object; `None` when there is none. That the server does not have the whole resource, or not in
/// this version, is an error: it says nothing about the object.
pub async fn get(client: &Client, kind: &ApiKind, key: &ObjectKey) -> Result<Option<ObjectMeta>, ApiError> {
    let request = path(kind, key).get_metadata(&key.path_segment(), &GetParams::default());
    match send(client, "get", kind, key, request).await {
        Ok(text) => {
            let object: Meta = serde_json::from_str(&text).map_err(|error| {
                api_error("get", kind.id.to_string().into(), key, kube::Error::SerdeError(error))
            })?;
            Ok(Some(object.metadata))
        }
        Err(error) if error.is_not_found_by_name(key.name()) => Ok(None),
        Err(error) if error.is_not_found() && is_served(client, kind, key).await => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the server lists the resource.
async fn is_served(client: &Client, kind: &ApiKind, key: &ObjectKey) -> bool {
    let request = path(kind, key).list_metadata(&ListParams::default().limit(1));
    send(client, "list", kind, key, request).await.is_ok()
}

/// Applies a JSON merge patch to one object.
pub async fn merge(client: &Client, kind: &ApiKind, key: &ObjectKey, patch: &Value) -> Result<(), ApiError> {
    let request = path(kind, key).patch(&key.path_segment(), &PatchParams::default(), &Patch::Merge(patch));
    send(client, "patch", kind, key, request).await.map(drop)
}

/// Deletes one object.
pub async fn delete(
    client: &Client,
    kind: &ApiKind,
    key: &ObjectKey,
    how: &DeleteParams,
) -> Result<(), ApiError> {
    let request = path(kind, key).delete(&key.path_segment(), how);
    send(client, "delete", kind, key, request).await.map(drop)
}

fn path(kind: &ApiKind, key: &ObjectKey) -> Request {
    collection(kind, key.namespace())
}

fn collection(kind: &ApiKind, namespace: &str) -> Request {
    Request::new(kind.path(Some(namespace).filter(|namespace| !namespace.is_empty())))
}

async fn send(
    client: &Client,
    verb: &'static str,
    kind: &ApiKind,
    key: &ObjectKey,
    request: Built,
) -> Result<String, ApiError> {
    let sent = match request {
        Ok(request) => client.request_text(request).await,
        Err(error) => Err(kube::Error::BuildRequest(error)),
    };
    sent.map_err(|source| api_error(verb, kind.id.to_string().into(), key, source))
}

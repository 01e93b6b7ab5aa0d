//! An operator: each `Database` gets a ConfigMap with its settings, which goes with it, and a place in a registry outside,
//! which its finalizer takes back.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::discovery::ApiResource;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Client, CustomResourceExt, Resource, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

const FINALIZER: &str = "example.com/registry";
const MANAGER: &str = "database-operator";

/// What `#[derive(CustomResource)]` of kube would make.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Database {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: DatabaseSpec,
    pub(crate) status: Option<DatabaseStatus>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct DatabaseSpec {
    pub(crate) size: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct DatabaseStatus {
    pub(crate) ready: bool,
}

impl Resource for Database {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Database".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "example.com".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "databases".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl CustomResourceExt for Database {
    fn crd() -> CustomResourceDefinition {
        let schema = json!({
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object", "required": ["size"],
                    "properties": {"size": {"type": "integer", "minimum": 1}}
                },
                "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}}
            }
        });
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": Self::crd_name()},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "databases", "singular": "database", "kind": "Database"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema}
                }]
            }
        });
        serde_json::from_value(definition).expect("it is a definition")
    }

    fn crd_name() -> &'static str {
        "databases.example.com"
    }

    fn api_resource() -> ApiResource {
        ApiResource::erase::<Self>(&())
    }

    fn shortnames() -> &'static [&'static str] {
        &[]
    }
}

/// What the operator has besides the cluster: names that are taken somewhere outside.
pub(crate) type Registry = Arc<Mutex<BTreeSet<String>>>;

pub(crate) struct Operator {
    pub(crate) client: Client,
    pub(crate) registry: Registry,
    /// Whom failures are told.
    pub(crate) failures: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Kube(#[from] Box<kube::Error>),
    #[error(transparent)]
    Finalizer(#[from] Box<finalizer::Error<Error>>),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(operator: Operator) {
    let databases: Api<Database> = Api::all(operator.client.clone());
    let settings: Api<ConfigMap> = Api::all(operator.client.clone());
    Controller::new(databases, watcher::Config::default())
        .owns(settings, watcher::Config::default())
        .run(reconcile, on_error, Arc::new(operator))
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(database: Arc<Database>, operator: Arc<Operator>) -> Result<Action, Error> {
    let namespace = database.namespace().unwrap_or_default();
    let databases: Api<Database> = Api::namespaced(operator.client.clone(), &namespace);
    let done = finalizer(&databases, FINALIZER, database, async |event| match event {
        Event::Apply(database) => operator.apply(&databases, &database).await,
        Event::Cleanup(database) => Ok(operator.clean_up(&database)),
    });
    done.await.map_err(|error| Error::Finalizer(Box::new(error)))
}

impl Operator {
    async fn apply(&self, databases: &Api<Database>, database: &Database) -> Result<Action, Error> {
        let (name, namespace) = (database.name_any(), database.namespace().unwrap_or_default());
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        let settings = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [database.controller_owner_ref(&())]},
            "data": {"size": database.spec.size.to_string()}
        });
        let params = PatchParams::apply(MANAGER).force();
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        api.patch(&name, &params, &Patch::Apply(settings)).await?;
        let status = json!({
            "apiVersion": "example.com/v1", "kind": "Database", "status": {"ready": true}
        });
        databases.patch_status(&name, &params, &Patch::Apply(status)).await?;
        Ok(Action::await_change())
    }

    fn clean_up(&self, database: &Database) -> Action {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).remove(&database.name_any());
        Action::await_change()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "kube calls it so")]
fn on_error(_: Arc<Database>, error: &Error, operator: Arc<Operator>) -> Action {
    operator.failures.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
    Action::requeue(Duration::from_millis(10))
}

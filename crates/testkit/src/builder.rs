//! What a cluster is to be like.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use xebec_controllers::{Chosen, ROLES};
use xebec_server::audit::Policy;

use crate::cluster::Cluster;
use crate::error::StartError;

/// Choices for a cluster, from [`Cluster::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing starts before `start`"]
pub struct Builder {
    plan: Plan,
}

/// What was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) controllers: Chosen,
    pub(crate) scheduler: bool,
    pub(crate) socket: Socket,
    pub(crate) audit: Option<Policy>,
    /// YAML that is applied at the start, in this order.
    pub(crate) manifests: Vec<String>,
}

/// Whether others than this process can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    None,
    Loopback,
}

impl Default for Builder {
    fn default() -> Self {
        let plan = Plan {
            controllers: Chosen::All,
            scheduler: true,
            socket: Socket::None,
            audit: None,
            manifests: Vec::new(),
        };
        Self { plan }
    }
}

impl Builder {
    /// Runs these controllers only, by the names that [`Builder::controller_names`] gives; none at all for an empty list. The
    /// server itself creates and deletes; what is done by a controller, such as the garbage collection of what an owner
    /// leaves, the end of a namespace, or a service account in each, is not done without it.
    pub fn controllers<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.plan.controllers = Chosen::Only(names.into_iter().map(Into::into).collect());
        self
    }

    /// The names of all controllers, those of Kubernetes' own.
    pub fn controller_names() -> impl Iterator<Item = &'static str> {
        ROLES.iter().map(|role| role.controller)
    }

    /// Runs no scheduler: pods stay pending unless the test binds them.
    pub fn without_scheduler(mut self) -> Self {
        self.plan.scheduler = false;
        self
    }

    /// Has a custom resource from the start.
    pub fn crd<K: CustomResourceExt>(self) -> Self {
        self.definition(&K::crd())
    }

    /// Has the custom resource of a definition from the start.
    ///
    /// # Panics
    /// The definition cannot be written as JSON, as with a schema that has infinite numbers.
    pub fn definition(self, definition: &CustomResourceDefinition) -> Self {
        self.manifests(serde_json::to_string(definition).expect("a definition is JSON"))
    }

    /// Applies manifests at the start, as [`Cluster::apply`] does: YAML or JSON, any number of documents, definitions before
    /// their instances.
    pub fn manifests(mut self, yaml: impl Into<String>) -> Self {
        self.plan.manifests.push(yaml.into());
        self
    }

    /// Listens on a free port of 127.0.0.1, by TLS with keys of its own; [`Cluster::kubeconfig`] is what kubectl and others
    /// need to come.
    pub fn serve_tls(mut self) -> Self {
        self.plan.socket = Socket::Loopback;
        self
    }

    /// Records who did what by the default policy, for [`Cluster::audit_events`]. It is kept in a temporary file.
    pub fn audit(self) -> Self {
        self.audit_by(Policy::default())
    }

    /// Records who did what by this policy (`audit.k8s.io/v1`), for [`Cluster::audit_events`].
    pub fn audit_by(mut self, policy: Policy) -> Self {
        self.plan.audit = Some(policy);
        self
    }

    /// Starts the cluster. Must run inside a tokio runtime with its timers on.
    ///
    /// # Errors
    /// A controller that there is not, a manifest that is refused, or something that the system does not give.
    pub async fn start(self) -> Result<Cluster, StartError> {
        if let Chosen::Only(names) = &self.plan.controllers {
            check_names(names)?;
        }
        Box::pin(Cluster::start_as(self.plan)).await
    }
}

fn check_names(names: &BTreeSet<String>) -> Result<(), StartError> {
    let known: BTreeSet<_> = Builder::controller_names().collect();
    match names.iter().find(|name| !known.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(StartError::NoSuchController {
            name: name.clone(),
            known: known.into_iter().collect::<Vec<_>>().join(", "),
        }),
    }
}

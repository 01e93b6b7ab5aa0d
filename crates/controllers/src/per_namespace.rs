//! Objects that every namespace has: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.
//!
//! Owns: these two objects, by name, in every namespace that is not being deleted.
//! Guarantees: they come with the namespace, come back when deleted, and the certificate is put right when changed.
//! Caveats: what else is in the ServiceAccount is its users' business.
//!
//! Behaviour follows Kubernetes 1.36.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::context::Context;
use crate::kinds::ROOT_CA_CONFIG_MAP;
use crate::permissions::{READ, Role, allow};
use crate::runtime::error::ReconcileError;
use crate::runtime::informer::Informer;
use crate::runtime::kind::{Kind, Watched};
use crate::runtime::object::{ObjectKey, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Part, Writes, gone_is_fine};

/// What the controller of default ServiceAccounts may do.
pub const SERVICE_ACCOUNT_ROLE: Role = Role {
    controller: "service-account-controller",
    permissions: &[
        allow("", &["namespaces"], READ),
        allow("", &["serviceaccounts"], &["get", "list", "watch", "create"]),
    ],
};

/// What the publisher of the cluster's CA certificate may do.
pub const ROOT_CA_ROLE: Role = Role {
    controller: "root-ca-certificate-publisher",
    permissions: &[
        allow("", &["namespaces"], READ),
        allow("", &["configmaps"], &["get", "list", "watch", "create", "patch", "update"]),
    ],
};

/// An object that every namespace has.
pub trait Standard: Send + Sync + 'static {
    /// Its kind.
    type Object: Kind<Raw = Self::Object> + Watched;
    /// What its controller may do.
    const ROLE: Role;
    /// Its name.
    const NAME: &'static str;

    /// As it is created, in `namespace`.
    fn desired(&self, namespace: &str) -> Self::Object;
    /// The merge patch that puts it right, when it is not.
    fn correction(&self, existing: &Self::Object) -> Option<Value>;
}

/// The ServiceAccount that pods get that name none.
#[derive(Debug)]
pub struct DefaultServiceAccount;

impl Standard for DefaultServiceAccount {
    type Object = ServiceAccount;
    const ROLE: Role = SERVICE_ACCOUNT_ROLE;
    const NAME: &'static str = "default";

    fn desired(&self, namespace: &str) -> ServiceAccount {
        ServiceAccount { metadata: named(namespace, Self::NAME), ..ServiceAccount::default() }
    }

    fn correction(&self, _: &ServiceAccount) -> Option<Value> {
        None
    }
}

/// The certificate by which pods know the API server.
#[derive(Debug)]
pub struct RootCa {
    /// PEM.
    pub certificate: String,
}

const CA_KEY: &str = "ca.crt";

impl Standard for RootCa {
    type Object = ConfigMap;
    const ROLE: Role = ROOT_CA_ROLE;
    const NAME: &'static str = ROOT_CA_CONFIG_MAP;

    fn desired(&self, namespace: &str) -> ConfigMap {
        let description =
            "The certificate authority of this cluster's API server, for clients in the cluster.";
        let mut metadata = named(namespace, Self::NAME);
        metadata.annotations =
            Some(BTreeMap::from([("kubernetes.io/description".to_owned(), description.to_owned())]));
        ConfigMap {
            metadata,
            data: Some(BTreeMap::from([(CA_KEY.to_owned(), self.certificate.clone())])),
            ..ConfigMap::default()
        }
    }

    fn correction(&self, existing: &ConfigMap) -> Option<Value> {
        let data = existing.data.as_ref();
        let is_right =
            data.is_some_and(|data| data.len() == 1 && data.get(CA_KEY) == Some(&self.certificate));
        if is_right {
            return None;
        }
        let mut wanted: BTreeMap<&str, Value> =
            data.into_iter().flatten().map(|(key, _)| (key.as_str(), Value::Null)).collect();
        wanted.insert(CA_KEY, json!(self.certificate));
        Some(json!({ "data": wanted }))
    }
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() }
}

/// Keeps one standard object in every namespace.
pub struct StandardController<S: Standard> {
    standard: S,
    namespaces: Informer<Namespace>,
    objects: Informer<S::Object>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl<S: Standard> StandardController<S> {
    /// Wires the watches to the queue.
    pub fn new(context: &Context, standard: S) -> Arc<Self> {
        let controller = Arc::new(Self {
            standard,
            namespaces: context.informers.get(),
            objects: context.informers.get(),
            queue: Arc::default(),
        });
        let queue = Arc::clone(&controller.queue);
        controller.namespaces.on_change(move |change| {
            if change.old.is_none() {
                queue.add(change.key.clone());
            }
        });
        let queue = Arc::clone(&controller.queue);
        controller.objects.on_change(move |change| {
            if change.key.name() == S::NAME {
                queue.add(ObjectKey::new("", change.key.namespace()));
            }
        });
        controller
    }
}

impl<S: Standard> Controller for StandardController<S> {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        S::ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
        self.objects.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let namespace = self.namespaces.get(key).filter(|namespace| !is_deleting(&namespace.metadata));
        if namespace.is_none() {
            return Ok(Next::Wake);
        }
        let object_key = ObjectKey::new(key.name(), S::NAME);
        match self.objects.get(&object_key) {
            None => match writes.create(&self.objects, &self.standard.desired(key.name())).await {
                Err(error) if error.is_namespace_terminating() || error.is_already_exists() => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            },
            Some(existing) => {
                if let Some(patch) = self.standard.correction(&existing) {
                    gone_is_fine(writes.merge(&self.objects, &object_key, Part::Main, &patch).await)?;
                }
            }
        }
        Ok(Next::Wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_certificate_is_put_right() {
        let ca = RootCa { certificate: "PEM".to_owned() };
        assert_eq!(ca.correction(&ca.desired("ns")), None);
        let check = |data: Value, expected: Value| {
            let existing: ConfigMap = serde_json::from_value(json!({"metadata": {}, "data": data})).unwrap();
            assert_eq!(ca.correction(&existing), Some(json!({ "data": expected })));
        };
        check(json!(null), json!({"ca.crt": "PEM"}));
        check(json!({"ca.crt": "old"}), json!({"ca.crt": "PEM"}));
        check(json!({"ca.crt": "PEM", "more": "x"}), json!({"ca.crt": "PEM", "more": null}));
    }
}

//! One API service, read once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_api::{Status, Value, meta};
use xebec_store::{Key, Record, Revision};

use super::priority::Priority;
use crate::auth::keys::Credential;
use crate::outbound::{Identity, ServiceRef, Trust};
use crate::registry::convert;

/// The label of those that this server made, and how it keeps them.
pub(super) const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// An `APIService`.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) key: Key,
    pub(super) revision: Revision,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) priority: Priority,
    /// The value of the label [`MANAGED`].
    pub(super) managed: String,
    pub(super) spec: Value,
    /// `None`: this server answers.
    pub(crate) remote: Option<Remote>,
}

/// How the server behind an API service is reached.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) service: ServiceRef,
    /// Whom to trust there, or why nobody can be.
    pub(crate) trust: Result<Trust, String>,
    /// Whether it was there when it was last asked.
    pub(crate) is_available: bool,
}

impl Service {
    /// Reads an API service; `former` is what it was before.
    pub(super) fn read(
        record: &Record,
        former: Option<&Self>,
        identity: &Credential,
    ) -> Result<Self, Status> {
        let object = convert::stored_object(record)?;
        let spec = object.get("spec").cloned().unwrap_or_default();
        let text = |field: &str| spec.str_at(&[field]).unwrap_or_default().to_owned();
        let managed = object.str_at(&["metadata", "labels", MANAGED]).unwrap_or_default().to_owned();
        // Making a trust takes long enough to be done only when something has changed.
        let known = former.filter(|former| former.spec == spec).and_then(|former| former.remote.clone());
        let remote = spec.get("service").filter(|service| service.as_object().is_some()).map(|service| {
            let trust = known.map_or_else(|| trust(&spec, identity), |known| known.trust);
            Remote { service: reference(service), trust, is_available: is_available(&object) }
        });
        Ok(Self {
            key: record.key().clone(),
            revision: record.mod_revision(),
            name: meta::name(&object).to_owned(),
            uid: meta::uid(&object).to_owned(),
            group: text("group"),
            version: text("version"),
            priority: Priority {
                group: spec.i64_at(&["groupPriorityMinimum"]).unwrap_or(0),
                version: spec.i64_at(&["versionPriority"]).unwrap_or(0),
            },
            managed,
            spec,
            remote,
        })
    }
}

impl Service {
    /// Whether the service that it leads to is in the namespace that a path `NAMESPACE/NAME` names.
    pub(super) fn is_in_namespace_of(&self, path: &str) -> bool {
        let namespace = path.split('/').next().unwrap_or_default();
        self.remote.as_ref().is_some_and(|remote| remote.service.namespace == namespace)
    }
}

fn reference(service: &Value) -> ServiceRef {
    let text = |field: &str| service.str_at(&[field]).unwrap_or_default().to_owned();
    let port = service.i64_at(&["port"]).and_then(|port| u16::try_from(port).ok());
    ServiceRef { namespace: text("namespace"), name: text("name"), port: port.unwrap_or(443) }
}

fn trust(spec: &Value, identity: &Credential) -> Result<Trust, String> {
    let identity =
        Identity { certificate: identity.certificate_pem.as_bytes(), key: identity.key_pem.as_bytes() };
    if spec.bool_at(&["insecureSkipTLSVerify"]) == Some(true) {
        return Trust::danger_anybody(Some(identity)).map_err(|error| error.to_string());
    }
    let bundle = spec.str_at(&["caBundle"]).unwrap_or_default();
    let bundle = STANDARD.decode(bundle).map_err(|error| format!("caBundle is no base64: {error}"))?;
    let bundle = (!bundle.is_empty()).then_some(bundle);
    Trust::new(bundle.as_deref(), Some(identity)).map_err(|error| error.to_string())
}

fn is_available(object: &Value) -> bool {
    let mut conditions = object.array_at(&["status", "conditions"]).iter();
    let available = conditions.find(|condition| condition.str_at(&["type"]) == Some("Available"));
    available.is_some_and(|condition| condition.str_at(&["status"]) == Some("True"))
}

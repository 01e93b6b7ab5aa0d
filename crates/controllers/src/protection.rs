//! Claims, volumes and classes of their attributes that are deleted while they are used: they go when nobody uses them any
//! more.
//!
//! Owns: the finalizers `kubernetes.io/pvc-protection`, `pv-protection` and `vac-protection`, which admission adds.
//! Guarantees: a claim stays while a pod that has been placed uses it, a volume while it is bound, a class while a claim or a
//! volume names it. Whether a claim is used is asked of the API, not of a cache that may be behind.
//! Caveats: objects that were made before admission added finalizers have none, and go at once.
//!
//! Behaviour follows Kubernetes 1.36.

use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::context::Context;
use crate::permissions::{READ, Role, allow};
use crate::pod::PodRecord;
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::informer::Informer;
use crate::runtime::kind::{Kind, Watched};
use crate::runtime::object::{ObjectKey, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Part, Requests, Writes, api_error, gone_is_fine};

/// How many pods one page of a list has.
const PAGE: u32 = 500;

/// What the controller of claims may do.
pub const CLAIM_ROLE: Role = Role {
    controller: "pvc-protection-controller",
    permissions: &[
        allow("", &["persistentvolumeclaims"], &["get", "list", "watch", "patch", "update"]),
        allow("", &["pods"], READ),
    ],
};

/// What the controller of volumes may do.
pub const VOLUME_ROLE: Role = Role {
    controller: "pv-protection-controller",
    permissions: &[allow("", &["persistentvolumes"], &["get", "list", "watch", "patch", "update"])],
};

/// What the controller of classes may do.
pub const CLASS_ROLE: Role = Role {
    controller: "volumeattributesclass-protection-controller",
    permissions: &[
        allow("", &["persistentvolumeclaims", "persistentvolumes"], READ),
        allow("storage.k8s.io", &["volumeattributesclasses"], &["get", "list", "watch", "patch", "update"]),
    ],
};

/// A kind of object that stays while it is used.
pub trait Protected: Send + Sync + 'static {
    /// The kind.
    type Object: Kind<Raw = Self::Object> + Watched;
    /// What its controller may do.
    const ROLE: Role;
    /// What holds it.
    const FINALIZER: &'static str;

    /// Its metadata.
    fn metadata(object: &Self::Object) -> &ObjectMeta;

    /// Whether somebody uses it.
    fn is_used(
        &self,
        object: &Self::Object,
        requests: &Requests,
    ) -> impl Future<Output = Result<bool, ApiError>> + Send;

    /// The caches whose changes may set objects free, and has to be waited for.
    fn synced(&self) -> impl Future<Output = ()> + Send;
}

/// Lets objects of a kind go.
pub struct ProtectionController<P: Protected> {
    kind: P,
    objects: Informer<P::Object>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

/// Whether an object waits for its protection to end.
fn is_waiting(meta: &ObjectMeta, finalizer: &str) -> bool {
    is_deleting(meta) && meta.finalizers.iter().flatten().any(|name| name == finalizer)
}

impl<P: Protected> ProtectionController<P> {
    fn new(context: &Context, kind: P) -> Arc<Self> {
        let controller = Arc::new(Self { kind, objects: context.informers.get(), queue: Arc::default() });
        let queue = Arc::clone(&controller.queue);
        controller.objects.on_change(move |change| {
            if change.new.as_ref().is_some_and(|object| is_waiting(P::metadata(object), P::FINALIZER)) {
                queue.add(change.key.clone());
            }
        });
        controller
    }

    /// Looks again at all that wait, in a namespace or, when that is empty, everywhere.
    fn wake(&self, namespace: &str) {
        let objects =
            if namespace.is_empty() { self.objects.list() } else { self.objects.in_namespace(namespace) };
        let waiting =
            objects.iter().map(|object| P::metadata(object)).filter(|m| is_waiting(m, P::FINALIZER));
        self.queue.extend(waiting.map(ObjectKey::of));
    }
}

impl<P: Protected> Controller for ProtectionController<P> {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        P::ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.objects.synced().await;
        self.kind.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(object) = self.objects.get(key) else { return Ok(Next::Wake) };
        let meta = P::metadata(&object);
        if !is_waiting(meta, P::FINALIZER) || self.kind.is_used(&object, writes.untracked()).await? {
            return Ok(Next::Wake);
        }
        let rest: Vec<&String> =
            meta.finalizers.iter().flatten().filter(|name| *name != P::FINALIZER).collect();
        let patch = json!({"metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": rest
        }});
        gone_is_fine(writes.merge(&self.objects, key, Part::Main, &patch).await)?;
        Ok(Next::Wake)
    }
}

/// Claims.
pub struct Claims {
    pods: Informer<PodRecord>,
}

impl Claims {
    /// Lets claims go that no pod uses.
    pub fn controller(context: &Context) -> Arc<ProtectionController<Self>> {
        let pods: Informer<PodRecord> = context.informers.get();
        let controller = ProtectionController::new(context, Self { pods: pods.clone() });
        let weak = Arc::downgrade(&controller);
        pods.on_change(move |change| {
            if let Some(controller) = weak.upgrade() {
                controller.wake(change.key.namespace());
            }
        });
        controller
    }
}

impl Protected for Claims {
    type Object = PersistentVolumeClaim;
    const ROLE: Role = CLAIM_ROLE;
    const FINALIZER: &'static str = "kubernetes.io/pvc-protection";

    fn metadata(claim: &PersistentVolumeClaim) -> &ObjectMeta {
        &claim.metadata
    }

    async fn is_used(&self, claim: &PersistentVolumeClaim, requests: &Requests) -> Result<bool, ApiError> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(requests.client().clone(), namespace);
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = pods.list(&params).await;
            let page = page.map_err(|source| api_error("list", "pods".into(), &namespace, source))?;
            if page.items.iter().any(|pod| uses(pod, claim)) {
                return Ok(true);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(false),
            }
        }
    }

    async fn synced(&self) {
        self.pods.synced().await;
    }
}

/// Whether a pod that has been placed uses a claim: no node starts a pod whose claim is being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) =
        pod.spec.as_ref().filter(|spec| spec.node_name.as_deref().is_some_and(|n| !n.is_empty()))
    else {
        return false;
    };
    let name = claim.metadata.name.as_deref();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let is_owner = || {
        let owners = claim.metadata.owner_references.iter().flatten();
        owners
            .into_iter()
            .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref())
    };
    let is_over = is_deleting(&pod.metadata) && pod.metadata.deletion_grace_period_seconds == Some(0);
    spec.volumes.iter().flatten().any(|volume| {
        let claimed = volume.persistent_volume_claim.as_ref();
        let made = || volume.ephemeral.is_some() && name == Some(&format!("{pod_name}-{}", volume.name));
        claimed.is_some_and(|claimed| Some(claimed.claim_name.as_str()) == name)
            || (!is_over && made() && is_owner())
    })
}

/// Volumes.
pub struct Volumes;

impl Volumes {
    /// Lets volumes go that are bound to no claim.
    pub fn controller(context: &Context) -> Arc<ProtectionController<Self>> {
        ProtectionController::new(context, Self)
    }
}

impl Protected for Volumes {
    type Object = PersistentVolume;
    const ROLE: Role = VOLUME_ROLE;
    const FINALIZER: &'static str = "kubernetes.io/pv-protection";

    fn metadata(volume: &PersistentVolume) -> &ObjectMeta {
        &volume.metadata
    }

    async fn is_used(&self, volume: &PersistentVolume, _: &Requests) -> Result<bool, ApiError> {
        Ok(volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound"))
    }

    async fn synced(&self) {}
}

/// Classes of volumes' attributes.
pub struct Classes {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
}

impl Classes {
    /// Lets classes go that no claim and no volume names.
    pub fn controller(context: &Context) -> Arc<ProtectionController<Self>> {
        let kind = Self { claims: context.informers.get(), volumes: context.informers.get() };
        let (claims, volumes) = (kind.claims.clone(), kind.volumes.clone());
        let controller = ProtectionController::new(context, kind);
        let weak = Arc::downgrade(&controller);
        claims.on_change(move |_| {
            if let Some(controller) = weak.upgrade() {
                controller.wake("");
            }
        });
        let weak = Arc::downgrade(&controller);
        volumes.on_change(move |_| {
            if let Some(controller) = weak.upgrade() {
                controller.wake("");
            }
        });
        controller
    }
}

impl Protected for Classes {
    type Object = VolumeAttributesClass;
    const ROLE: Role = CLASS_ROLE;
    const FINALIZER: &'static str = "kubernetes.io/vac-protection";

    fn metadata(class: &VolumeAttributesClass) -> &ObjectMeta {
        &class.metadata
    }

    async fn is_used(&self, class: &VolumeAttributesClass, _: &Requests) -> Result<bool, ApiError> {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        Ok(self.claims.list().iter().any(|claim| claim_names(claim, name))
            || self.volumes.list().iter().any(|volume| volume_names(volume, name)))
    }

    async fn synced(&self) {
        self.claims.synced().await;
        self.volumes.synced().await;
    }
}

fn claim_names(claim: &PersistentVolumeClaim, class: &str) -> bool {
    let spec = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let changing = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = changing.and_then(|changing| changing.target_volume_attributes_class_name.as_deref());
    [spec, current, target].contains(&Some(class))
}

fn volume_names(volume: &PersistentVolume, class: &str) -> bool {
    let named = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    named == Some(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_pods_use() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": {
            "name": "p-made", "namespace": "a", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}
            ]
        }}))
        .expect("a claim");
        let check = |pod: serde_json::Value, want: bool| {
            let read: Pod = serde_json::from_value(pod.clone()).expect("a pod");
            assert_eq!(uses(&read, &claim), want, "{pod}");
        };
        let pod = |node: &str, volume: serde_json::Value| json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": node, "containers": [], "volumes": [volume]}});
        let named = |name: &str| json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
        check(pod("n", named("p-made")), true);
        check(pod("", named("p-made")), false);
        check(pod("n", named("other")), false);
        let made = || json!({"name": "made", "ephemeral": {}});
        check(pod("n", made()), true);
        let mut other = pod("n", made());
        other["metadata"]["uid"] = json!("another");
        check(other, false);
        let mut over = pod("n", made());
        over["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        over["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        check(over, false);
    }

    #[test]
    fn classes_that_are_named() {
        let claim = |value: serde_json::Value| -> PersistentVolumeClaim {
            serde_json::from_value(value).expect("a claim")
        };
        assert!(claim_names(&claim(json!({"spec": {"volumeAttributesClassName": "c"}})), "c"));
        assert!(claim_names(&claim(json!({"status": {"currentVolumeAttributesClassName": "c"}})), "c"));
        let changing = json!({"status": {"modifyVolumeStatus": {"status": "x", "targetVolumeAttributesClassName": "c"}}});
        assert!(claim_names(&claim(changing), "c"));
        assert!(!claim_names(&claim(json!({"spec": {"volumeAttributesClassName": "d"}})), "c"));
    }
}

//! The resources that the controllers watch whole, and how they are indexed.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, ReplicationController,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::runtime::kind::{Index, Kind, Restriction, Watched};
use crate::runtime::object::{controller_of, is_deleting};

/// The label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The ConfigMap with the cluster's CA certificate, in every namespace.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
/// Where the nodes' leases are.
pub const NODE_LEASE_NAMESPACE: &str = "kube-node-lease";

macro_rules! kept_whole {
    ($($kind:ty: [$($index:ident),*],)*) => {$(
        impl Kind for $kind {
            type Raw = $kind;

            fn project(raw: &Arc<Self>) -> Arc<Self> {
                Arc::clone(raw)
            }

            fn is_deleting(&self) -> bool {
                is_deleting(&self.metadata)
            }

            fn indexes() -> &'static [Index] {
                &[$(Index::$index),*]
            }

            fn index_value(&self, index: Index) -> Option<Cow<'_, str>> {
                index_value(&self.metadata, index)
            }
        }
    )*};
}

kept_whole! {
    CertificateSigningRequest: [],
    ConfigMap: [],
    Deployment: [],
    Endpoints: [],
    EndpointSlice: [Service],
    Lease: [],
    Namespace: [],
    Node: [],
    PersistentVolume: [],
    PersistentVolumeClaim: [],
    ReplicaSet: [Controller, Orphan],
    ReplicationController: [],
    Service: [],
    ServiceAccount: [],
    VolumeAttributesClass: [],
}

impl Watched for CertificateSigningRequest {}
impl Watched for Deployment {}
impl Watched for Endpoints {}
impl Watched for EndpointSlice {}
impl Watched for Namespace {}
impl Watched for Node {}
impl Watched for PersistentVolume {}
impl Watched for PersistentVolumeClaim {}
impl Watched for ReplicaSet {}
impl Watched for ReplicationController {}
impl Watched for Service {}
impl Watched for ServiceAccount {}
impl Watched for VolumeAttributesClass {}
// Written, never cached.
impl Watched for Event {}

impl Watched for ConfigMap {
    fn restriction() -> Restriction {
        Restriction::Fields("metadata.name=kube-root-ca.crt")
    }
}

impl Watched for Lease {
    fn restriction() -> Restriction {
        Restriction::Fields("metadata.namespace=kube-node-lease")
    }
}

fn index_value(meta: &ObjectMeta, index: Index) -> Option<Cow<'_, str>> {
    match index {
        Index::Controller => Some(controller_of(meta)?.uid.as_str().into()),
        Index::Orphan if controller_of(meta).is_none() => meta.namespace.as_deref().map(Cow::Borrowed),
        Index::Service => {
            let service = meta.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
            Some(format!("{}/{service}", meta.namespace.as_deref()?).into())
        }
        Index::Orphan | Index::Node => None,
    }
}

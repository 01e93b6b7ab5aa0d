//! What a kind does differently from a custom resource, as pure functions over its tree.
//!
//! A [`Kind`] is a row of constants and functions; [`of`] finds it. A kind without a row behaves as a custom resource
//! does, and a row states only what differs from [`Kind::DEFAULT`]. What needs more than the object itself (addresses to
//! allocate, other objects to look up) is the server's business.
//!
//! Objects come here decoded ([`crate::structural::decode`]) in the version named by the caller; `validate` sees them with
//! defaults, in the storage version.

mod address;
mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod changes;
mod check;
mod claims;
mod cluster;
mod config;
mod coordination;
mod devices;
mod endpoints;
mod extension;
mod fill;
mod flowcontrol;
mod ingress;
mod limits;
mod networking;
mod pod;
mod policy;
mod rbac;
mod service;
mod storage;
mod syntax;
mod volumes;
mod warnings;
mod webhook;

pub(crate) use extension::schema_path;

#[cfg(test)]
mod tests;

pub use certificates::validate_approval;
pub use pod::validate_ephemeral_containers;
use std::fmt;

use crate::error::Cause;
use crate::meta::NameRule;
use crate::{Value, names};

/// What a kind does by itself on writes.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The plural name.
    pub resource: &'static str,
    /// The rule that names follow.
    pub name: NameRule,
    /// Whether `metadata.generation` counts changes of the specification. It is counted before `prepare_update`, which may
    /// find more to count. An absent field and a zero or empty one are the same.
    pub generation: bool,
    /// Whether an update may come without a resource version.
    pub unconditional_update: bool,
    /// Whether PUT makes an object that is not there.
    pub create_on_update: bool,
    /// Whether dependents of a deleted object are left alone unless the client says otherwise.
    pub orphan_by_default: bool,
    /// Whether a DELETE answers with the object that is gone, and not with a `Status`.
    pub returned_when_deleted: bool,
    /// Whether a new object keeps the status that the client sent.
    pub status_on_create: bool,
    /// Gives absent fields their defaults; the version of the object is the second argument.
    pub defaults: fn(&mut Value, &str),
    /// Sets what a new object starts with, and drops what clients may not set. Called after the server dropped the status.
    pub prepare_create: fn(&mut Value),
    /// Carries over from the old object (second) what an update may not touch. Called after the server put back the old
    /// status, and not for updates of the status alone.
    pub prepare_update: fn(&mut Value, &Value),
    /// What is wrong with a new object.
    pub validate: fn(&Value) -> Vec<Cause>,
    /// What is wrong with a changed object (first), given the old one (second); called instead of `validate`.
    pub validate_update: fn(&Value, &Value) -> Vec<Cause>,
    /// What is wrong with a changed status, given the old object (second).
    pub validate_status: fn(&Value, &Value) -> Vec<Cause>,
    /// What the client should be warned of: the object, and the old one on updates.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({}/{})", self.group, self.resource)
    }
}

impl Kind {
    /// What a custom resource does.
    pub const DEFAULT: Self = Self {
        group: "",
        resource: "",
        name: names::dns_subdomain,
        generation: true,
        unconditional_update: false,
        create_on_update: false,
        orphan_by_default: false,
        returned_when_deleted: false,
        status_on_create: false,
        defaults: |_, _| (),
        prepare_create: |_| (),
        prepare_update: |_, _| (),
        validate: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        warnings: |_, _| Vec::new(),
    };
}

/// All kinds that differ from custom resources, sorted by group and resource.
const KINDS: &[Kind] = &[
    bare("", "bindings"),
    bare("", "componentstatuses"),
    config::CONFIG_MAP,
    endpoints::ENDPOINTS,
    coordination::CORE_EVENT,
    limits::LIMIT_RANGE,
    cluster::NAMESPACE,
    cluster::NODE,
    claims::PERSISTENT_VOLUME_CLAIM,
    volumes::PERSISTENT_VOLUME,
    pod::POD,
    pod::POD_TEMPLATE,
    apps::REPLICATION_CONTROLLER,
    limits::RESOURCE_QUOTA,
    config::SECRET,
    config::SERVICE_ACCOUNT,
    service::SERVICE,
    admission::MUTATING_POLICY,
    admission::MUTATING_POLICY_BINDING,
    admission::MUTATING_WEBHOOKS,
    admission::VALIDATING_POLICY,
    admission::VALIDATING_POLICY_BINDING,
    admission::VALIDATING_WEBHOOKS,
    extension::CUSTOM_RESOURCE_DEFINITION,
    extension::API_SERVICE,
    apps::CONTROLLER_REVISION,
    apps::DAEMON_SET,
    apps::DEPLOYMENT,
    apps::REPLICA_SET,
    apps::STATEFUL_SET,
    bare("authentication.k8s.io", "selfsubjectreviews"),
    bare("authentication.k8s.io", "tokenreviews"),
    bare("authorization.k8s.io", "localsubjectaccessreviews"),
    bare("authorization.k8s.io", "selfsubjectaccessreviews"),
    bare("authorization.k8s.io", "selfsubjectrulesreviews"),
    bare("authorization.k8s.io", "subjectaccessreviews"),
    autoscaling::HORIZONTAL_POD_AUTOSCALER,
    batch::CRON_JOB,
    batch::JOB,
    certificates::SIGNING_REQUEST,
    coordination::LEASE,
    endpoints::ENDPOINT_SLICE,
    coordination::EVENT,
    flowcontrol::FLOW_SCHEMA,
    flowcontrol::PRIORITY_LEVEL,
    ingress::INGRESS_CLASS,
    ingress::INGRESS,
    networking::IP_ADDRESS,
    networking::NETWORK_POLICY,
    networking::SERVICE_CIDR,
    policy::RUNTIME_CLASS,
    policy::POD_DISRUPTION_BUDGET,
    rbac::CLUSTER_ROLE_BINDING,
    rbac::CLUSTER_ROLE,
    rbac::ROLE_BINDING,
    rbac::ROLE,
    devices::DEVICE_CLASS,
    devices::RESOURCE_CLAIM,
    devices::RESOURCE_CLAIM_TEMPLATE,
    devices::RESOURCE_SLICE,
    policy::PRIORITY_CLASS,
    storage::CSI_DRIVER,
    storage::CSI_NODE,
    storage::CSI_STORAGE_CAPACITY,
    storage::STORAGE_CLASS,
    storage::VOLUME_ATTACHMENT,
    storage::VOLUME_ATTRIBUTES_CLASS,
];

/// A kind that is answered and never stored.
const fn bare(group: &'static str, resource: &'static str) -> Kind {
    Kind { group, resource, generation: false, ..Kind::DEFAULT }
}

/// The behaviour of a resource.
#[must_use]
pub fn of(group: &str, resource: &str) -> &'static Kind {
    KINDS
        .binary_search_by(|k| (k.group, k.resource).cmp(&(group, resource)))
        .map_or(&Kind::DEFAULT, |at| &KINDS[at])
}

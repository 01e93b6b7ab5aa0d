//! EndpointSlices and Endpoints: which pods stand behind a Service.
//!
//! Owns: the EndpointSlices labelled as this controller's, those that mirror the Endpoints which users keep for Services
//! without a selector, and the Endpoints object of each Service with one.
//! Guarantees: an endpoint stands in one slice only; at most [`slices::CAPACITY`] endpoints in a slice; a change of
//! one pod changes one slice.
//! Caveats: no topology hints; Endpoints hold at most [`legacy::CAPACITY`] addresses of the Service's first address
//! family; of Endpoints that users keep at most [`mirroring::CAPACITY`] addresses with the same ports are mirrored.
//!
//! Behaviour follows Kubernetes 1.36, `discovery.k8s.io/v1`.

pub mod backends;
mod controller;
mod directory;
pub mod legacy;
pub mod mirroring;
pub mod slices;
#[cfg(test)]
mod tests;

pub use controller::{EndpointSliceController, EndpointsController, MirroringController};

use crate::permissions::{READ, Role, allow};

/// What the EndpointSlice controller may do.
pub const ENDPOINT_SLICE_ROLE: Role = Role {
    controller: "endpointslice-controller",
    permissions: &[
        allow("", &["services", "pods", "nodes"], READ),
        // Owner references with blockOwnerDeletion need this.
        allow("", &["services/finalizers"], &["update"]),
        allow(
            "discovery.k8s.io",
            &["endpointslices"],
            &["get", "list", "watch", "create", "patch", "update", "delete"],
        ),
    ],
};

/// What the Endpoints controller may do.
pub const ENDPOINTS_ROLE: Role = Role {
    controller: "endpoint-controller",
    permissions: &[
        allow("", &["services", "pods"], READ),
        allow("", &["endpoints"], &["get", "list", "watch", "create", "patch", "update", "delete"]),
        // Addresses may only be written by who may restrict them.
        allow("", &["endpoints/restricted"], &["create"]),
    ],
};

/// What the controller that mirrors Endpoints may do.
pub const MIRRORING_ROLE: Role = Role {
    controller: "endpointslicemirroring-controller",
    permissions: &[
        allow("", &["services", "endpoints"], READ),
        // Owner references with blockOwnerDeletion need these.
        allow("", &["services/finalizers", "endpoints/finalizers"], &["update"]),
        allow(
            "discovery.k8s.io",
            &["endpointslices"],
            &["get", "list", "watch", "create", "patch", "update", "delete"],
        ),
    ],
};

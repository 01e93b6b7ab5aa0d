//! Kubernetes' own controllers: pure plans, thin reconcilers.

pub mod context;
pub mod deployment;
pub mod endpoints;
pub mod gc;
pub mod kinds;
pub mod namespace;
pub mod ownership;
pub mod per_namespace;
pub mod permissions;
pub mod pod;
pub mod replicas;
pub mod runtime;

//! Kubernetes' own controllers: pure plans, thin reconcilers.

pub mod context;
pub mod deployment;
pub mod endpoints;
pub mod kinds;
pub mod ownership;
pub mod permissions;
pub mod pod;
pub mod replicas;
pub mod runtime;

//! Kubernetes' own controllers: pure plans, thin reconcilers.

pub mod kinds;
pub mod pod;
pub mod runtime;

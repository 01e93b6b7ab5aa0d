//! Kubernetes' own controllers: pure plans, thin reconcilers.

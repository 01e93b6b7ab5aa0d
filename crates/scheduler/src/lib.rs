//! The scheduler: a snapshot and a pod in, a decision and its reason out.
//!
//! Owns: the choice of a node for each pod that names this scheduler, the pod's binding, and its condition
//! `PodScheduled` while there is no node for it.
//! Never: does IO in a decision ([`schedule::schedule`] is a function of its arguments), or looks at a pod again that
//! nothing has happened for.
//!
//! ```text
//!  watch ─▶ snapshot, changed in place ─┐
//!    │                                  ├─▶ schedule (pure) ─▶ assume ─▶ bind ─▶ watch shows it
//!    └───▶ queue: active, backing off, ─┘        │
//!                 parked with the plugins ◀──────┘ no node: condition, event
//!                 whose mind must change
//! ```
//!
//! Guarantees: a pod is counted on its node from the decision on, so the next decision knows of it; a binding that
//! fails is taken back and tried again; what could help a waiting pod wakes it, nothing else does.
//! Caveats: no preemption yet, and of pods only resources, ports, selectors, affinity to nodes, taints and gates
//! count.
//!
//! Behaviour follows Kubernetes 1.36.

#![cfg_attr(test, allow(clippy::needless_pass_by_value, reason = "cases read better as literals"))]

mod affinity;
mod controller;
pub mod framework;
mod node;
pub mod plugins;
mod pod;
mod quantity;
pub mod queue;
mod resources;
pub mod schedule;
pub mod snapshot;
#[cfg(test)]
mod tests;

pub use affinity::{NodeAffinity, NodeSelector, Preference};
pub use controller::{Config, SCHEDULER_ROLE, run};
pub use node::NodeInfo;
pub use pod::{DEFAULT_SCHEDULER, HostPort, PodInfo};
pub use resources::{Amount, Requests, Resources, Weight};

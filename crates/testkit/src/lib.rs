#![doc = include_str!("../README.md")]
//!
//! # How it is made
//!
//! ```text
//!   operator under test ── kube::Client ── faults ──┐
//!   the test itself ────── kube::Client ── faults ──┤
//!   simulated nodes ────── kube::Client ────────────┼─▶ API server ─▶ store in memory
//!   controllers, scheduler ─ kube::Client ──────────┘        ▲
//!                  ▲                                         │
//!                  └──────────────── one clock ──────────────┘
//! ```
//!
//! Owns: a cluster for the time of a test, its clock, simulated nodes, and faults on the way of its clients.
//! Never: changes what the server or a controller does; it is the code of `xebec up`.

mod apply;
mod builder;
mod clock;
mod cluster;
mod error;
mod faults;
mod node;
mod pods;
mod wait;

pub use builder::Builder;
pub use clock::ClusterClock;
pub use cluster::Cluster;
pub use error::{ApplyError, NodeError, StartError, StopError, WaitError};
pub use faults::Faults;
pub use node::{NodeBuilder, SimulatedNode};
pub use pods::Script;
pub use xebec_server::audit::{Policy as AuditPolicy, PolicyError as AuditPolicyError};

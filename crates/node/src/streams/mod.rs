//! The node agent's HTTP service: logs, `exec`, `attach` and `port-forward`.
//!
//! The API server has authenticated and authorised a request before it passes it on, over a byte stream of its own:
//! in one process a pipe in memory. It passes upgraded connections through byte by byte, so the streaming protocols
//! end here:
//!
//! | request | WebSocket (RFC 6455) | SPDY/3.1 |
//! |---|---|---|
//! | `exec`, `attach` | `v5.channel.k8s.io`, `v4.channel.k8s.io` | `v4.channel.k8s.io` |
//! | `portForward` | `SPDY/3.1+portforward.k8s.io`, `v4.channel.k8s.io` | `portforward.k8s.io` |
//!
//! [`service`] maps requests to work, [`command`] and [`forward`] do it, [`websocket`] and [`spdy`] are the encodings
//! and perform no IO. The pods are reached through [`Pods`]; this module never sees a sandbox or a Kubernetes object.

mod command;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod link;
mod pods;
mod request;
mod service;
mod spdy;
mod status;
#[cfg(test)]
mod tests;
mod upgrade;
mod websocket;

pub use pods::{ContainerRef, PodError, PodRef, Pods, Process, ProcessInput, ProcessOutput, Run};
pub use service::{AgentBody, AgentService};

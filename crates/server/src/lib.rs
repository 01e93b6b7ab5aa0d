//! The API server.
//!
//! A request goes through one pipeline, whatever resource it is about:
//!
//! ```text
//! arrive → authenticate → sort → authorize → seat → route → decode → default → mutate → validate → commit → answer
//! arrival      auth        flow    authz    bounds  resources    registry    admission    registry   store    http
//! ```
//!
//! `serve` has the steps; `witness` sees all of them, for metrics, the audit log, traces and what is slow.
//!
//! Only this crate opens the store. It runs no controller: other components meet it as clients, in the same process
//! through [`server::LocalService`].

pub mod admission;
mod aggregation;
mod arrival;
pub mod audit;
pub mod auth;
pub mod authz;
mod bootstrap;
mod bounds;
pub mod config;
pub mod core;
pub mod discovery;
mod drain;
pub mod encryption;
mod flow;
pub mod health;
pub mod http;
pub mod metrics;
pub mod nodes;
pub mod openapi;
pub mod outbound;
mod proxy;
mod random;
pub mod registry;
mod resources;
pub mod serve;
pub mod server;
mod streams;
mod subresources;
pub mod trace;
mod witness;

#[cfg(fuzzing)]
pub use admission::webhook::fuzzing as webhook_answers;
#[cfg(fuzzing)]
pub use aggregation::fuzzing as api_servers;
pub use server::ApiServer;

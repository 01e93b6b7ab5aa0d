//! The API server.
//!
//! A request goes through one pipeline, whatever resource it is about:
//!
//! ```text
//! authenticate → authorize → bound → route → decode → default → mutate → validate → commit → answer
//!     auth         authz      serve   resources    registry    admission    registry   store    http
//! ```
//!
//! Only this crate opens the store. It runs no controller: other components meet it as clients, in the same process
//! through [`server::LocalService`].

pub mod admission;
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
pub mod registry;
mod resources;
pub mod serve;
pub mod server;
mod streams;
mod subresources;
pub mod trace;
mod witness;

pub use server::ApiServer;

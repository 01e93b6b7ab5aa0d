//! The API server.
//!
//! A request goes through one pipeline, whatever resource it is about:
//! authenticate → authorize → decode → default → mutate → validate → commit → answer.

pub mod auth;
pub mod http;

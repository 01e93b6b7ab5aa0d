//! Cluster DNS: names of services and pods, by the Kubernetes DNS specification 1.1.0; other names from the
//! host's resolvers.
//!
//! ```text
//!  ZoneSpec ──build──▶ Zone (immutable, swapped whole)
//!                        │
//!  query ──decode──▶ zone::answer ──▶ reply
//!                        └─ not ours, or an alias ──▶ cache ──▶ the host's resolvers, in the host's network
//! ```
//!
//! Answers of the zone are pure: a zone and a question in, records out. The codec is this crate's own, so
//! that letters keep the case they were asked in and that nothing is parsed which isn't needed.

pub mod cache;
pub mod message;
#[cfg(test)]
mod mutations;
pub mod name;
pub mod resolv;
mod reverse;
pub mod server;
mod shares;
pub mod upstream;
mod writer;
pub mod zone;

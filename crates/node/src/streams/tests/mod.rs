//! The service from request to process and socket, with clients of its own.

mod client;
mod commands;
mod forwarding;
mod logging;
mod pods;
pub(crate) mod random;

//! HTTP: listening, what a request asks for, reading bodies, writing answers.

pub mod accept;
pub mod body;
pub(crate) mod delivery;
pub(crate) mod document;
pub(crate) mod gzip;
mod list;
pub mod listen;
pub mod query;
pub mod render;
pub mod reply;
pub mod route;
mod yaml;

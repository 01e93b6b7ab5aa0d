//! Container images: digests, content store, registry client, snapshots.

pub mod config;
pub mod digest;
pub mod limits;
pub mod manifest;
pub mod media;
pub mod platform;
pub mod reference;
pub mod store;
#[cfg(test)]
mod testing;

pub use digest::Digest;
pub use reference::Reference;

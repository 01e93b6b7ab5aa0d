//! Container images: digests, content store, registry client, snapshots.

pub mod acquired;
pub mod archive;
pub mod compress;
pub mod config;
pub mod digest;
pub mod images;
pub mod limits;
pub mod manifest;
pub mod media;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod rootfs;
pub mod service;
pub mod snapshot;
pub mod store;
pub mod tarball;
#[cfg(test)]
mod testing;

pub use digest::Digest;
pub use reference::Reference;
pub use service::{ImageService, ServiceConfig};

//! Container images: everything between `nginx:1.27` and directories that an overlay mount can use.
//!
//! ```text
//! reference ── registry: pull, push ─┐                       ┌─ snapshot: layers unpacked by chain id
//!                                    ├─ store: blobs by digest ┤
//! archive: import, Builder ──────────┘        images: names  └─ rootfs: lower directories + defaults
//!                        service: all of it behind one object
//! ```
//!
//! Invariants: nothing enters the [`store`] unverified and nothing leaves it unverified; every cost has a bound in
//! [`limits`] and an error that names it; an operation that fails, or a process that is killed, leaves nothing that the
//! next start does not sweep. The crate never runs anything out of an image, mounts nothing where it could be seen, and
//! knows neither Kubernetes nor a runtime.
//!
//! Entry points for fuzzing, which take any bytes and must end without a panic: [`Reference::parse`],
//! [`manifest::Document::parse`], [`config::ImageConfig::parse`], [`registry::Keyring::parse`], [`tarball::Reader`],
//! [`compress::Decoder`], [`archive::import`] and, as root of a user namespace, [`snapshot::Snapshots::ensure`].

pub mod acquired;
pub mod archive;
mod blocking;
pub mod compress;
pub mod config;
pub mod digest;
pub mod images;
pub mod limits;
pub mod manifest;
pub mod media;
pub mod platform;
pub mod progress;
mod quote;
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

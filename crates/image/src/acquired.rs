//! An image that has just come in, from an archive or a registry.

use std::sync::Arc;

use crate::config::{ImageConfig, ImageId};
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::store::{Lease, Verified};

/// An image whose blobs are all in the store. They are protected from pruning until it is dropped, which should be
/// after the index of images refers to it.
#[derive(Debug, Clone)]
pub struct Acquired {
    /// Digest of the manifest, or of the multi-platform index that it was picked from.
    pub target: Digest,
    /// The manifest for this platform.
    pub manifest: Verified<Manifest>,
    /// The image's id.
    pub id: ImageId,
    /// Its configuration.
    pub config: ImageConfig,
    /// What protects the blobs.
    pub leases: Arc<Vec<Lease>>,
}

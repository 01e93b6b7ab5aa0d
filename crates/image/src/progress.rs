//! Telling whoever waits how far an image is.

use crate::digest::Digest;
use crate::reference::Reference;

/// One step of a pull, push, import or unpacking.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The image's manifest is known; `total` bytes in `layers` layers belong to it.
    Resolved {
        /// The name that was resolved.
        name: &'a Reference,
        /// Digest of the manifest for this platform.
        manifest: &'a Digest,
        /// How many layers.
        layers: usize,
        /// Bytes of all blobs.
        total: u64,
    },
    /// `done` of `total` bytes of a blob were transferred.
    Transferred {
        /// The blob.
        blob: &'a Digest,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A blob is complete.
    Complete {
        /// The blob.
        blob: &'a Digest,
        /// Whether it had been there before.
        reused: bool,
    },
    /// A transfer broke and will be tried again.
    Retrying {
        /// What for, such as the blob's digest.
        what: &'a str,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// Why.
        error: &'a str,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// The layer.
        layer: &'a Digest,
    },
}

/// Receives events. Called from many threads, also from inside asynchronous code: it must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn report(&self, event: Event<'_>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Event<'_>) {}
}

impl<F: Fn(Event<'_>) + Send + Sync> Progress for F {
    fn report(&self, event: Event<'_>) {
        self(event);
    }
}
